"""Lab 5's recipe: every number that training depends on, and the optimizer that suits few steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number that training depends on: few epochs leave few steps, and each must count.

    Attributes:
        batch: images in a step; small enough that five epochs still hold 1000 steps.
        views: how often each image is shown in its step, moved and mirrored differently each time (batch
            augmentation; Hoffer et al. 2020). An epoch still takes every image once, but costs so much more.
        least_steps: in an epoch, so that a small data set is not used up in one or two.
        filter_lr, filter_momentum: of convolutions, see `OrthogonalMomentum`; a step turns filters by that share.
        other_lr, other_momentum, weight_decay: of biases, BatchNorm scales and the last layer (SGD, Nesterov).
        label_smoothing: share of the target that is spread over all classes: it keeps the network from being sure.
        shift: pixels by which images are moved at most, each way.
        cut: pixels that are greyed out around a random point, each way.
        qat_share: share of all steps, the last, that fine-tunes with fake quantization.
        qat_lr: of fine-tuning (Adam); a small fraction of a weight, which is what rounding errors are.
        watched: images that BatchNorm statistics or activation ranges are taken from.
    """

    batch: int = 250
    views: int = 3
    least_steps: int = 25
    filter_lr: float = 0.1
    filter_momentum: float = 0.6
    other_lr: float = 0.05
    other_momentum: float = 0.85
    weight_decay: float = 1e-3
    label_smoothing: float = 0.2
    shift: int = 2
    cut: int = 4
    qat_share: float = 0.1
    qat_lr: float = 3e-5
    watched: int = 2000

    def phases(self, steps: int) -> tuple[range, range]:
        """Of all steps, those in FP32 and those that fine-tune."""
        first = steps - max(1, round(steps * self.qat_share))
        return range(first), range(first, steps)


STAND_IN = Recipe(views=1, cut=0, filter_lr=0.2, other_lr=0.01)
"""For scikit-learn's digits, which are few and small: each seen once in an epoch, whole, in larger steps."""


class OrthogonalMomentum(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose step is made orthogonal, for the filters of convolutions (Muon; Jordan et al. 2024).

    A gradient is dominated by a few directions. Giving every direction the same length uses the others too, which
    matters most when there are few steps. The filters' norm is held fixed, which BatchNorm makes free: so the
    learning rate is a relative change, and there is nothing for weight decay to do.
    """

    def __init__(self, filters: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(list(filters), {"lr": lr, "momentum": momentum})

    def step(self, closure: None = None) -> None:
        """Change every bank of filters, C'×C×H×W each, by its gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                for filters in group["params"]:
                    self._turn(filters, group["lr"], group["momentum"])

    def _turn(self, filters: Tensor, lr: float, momentum: float) -> None:
        memory = self.state[filters].setdefault("momentum", torch.zeros_like(filters))
        memory.mul_(momentum).add_(filters.grad)
        ahead = filters.grad.add(memory, alpha=momentum)  # Nesterov
        filters.mul_(math.sqrt(len(filters)) / filters.norm())
        filters.add_(orthogonalise(ahead.flatten(1)).view(filters.shape), alpha=-lr)


def orthogonalise(matrix: Tensor, rounds: int = 3) -> Tensor:
    """Nearly the matrix with all its singular values made 1, M×N with M ≤ N or so.

    Newton–Schulz iteration: the polynomial, applied over and over to the singular values, lifts all of them towards
    1. It is evaluated on the small Gram matrix, M×M, which costs half of applying it to the matrix itself.
    """
    start = matrix / (matrix.norm() + 1e-7)
    gram, product = start @ start.T, torch.eye(len(start), device=start.device)
    for _ in range(rounds):
        polynomial = 3.4445 * torch.eye(len(gram), device=gram.device) - 4.7750 * gram + 2.0315 * gram @ gram
        gram, product = polynomial @ gram @ polynomial, polynomial @ product
    return product @ start
