"""Lab 5: train ResNet-18 on CIFAR-10, fine-tune it with fake quantization, export FP32 and Q/DQ (INT8) ONNX models."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import errno
import hashlib
import inspect
import io
import json
import math
import os
import pickle
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import artifact
import cifar10
import numpy as np
import torch
from fake_quant import ConvBN, ResNet18, fold, freeze_activations, freeze_weights, quantize
from numpy.typing import NDArray
from torch import Tensor, nn

WORK = ".lab5"  # checkpoints, beside the artifacts
STAGES = ("fp32", "qat", "qat_naive")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number that training depends on. Chosen for few epochs; see the comments where each is used."""

    batch: int = 500
    least_steps: int = 10  # in an epoch, so that a small data set is still seen in several batches
    qat_share: float = 0.1  # of the epochs, at least one
    filter_lr: float = 0.1
    filter_momentum: float = 0.6
    other_lr: float = 0.05
    other_momentum: float = 0.85
    weight_decay: float = 1e-3
    label_smoothing: float = 0.2
    shift: int = 2
    final_lr: float = 0.0
    calibration_batches: int = 8
    qat_lr: float = 1e-4


@dataclasses.dataclass
class Progress:
    """How far a stage has come: what a checkpoint holds beside the weights."""

    step: int = 0
    loss: float = 0.0  # sums over the epoch so far
    correct: float = 0.0
    images: int = 0
    seconds: float = 0.0
    epochs: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class OrthogonalMomentum(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, for the filters of a convolution (Muon: Jordan et al. 2024).

    A gradient is dominated by a few directions; giving all directions the same length uses the others too, which
    matters most when there are few steps. Each filter bank keeps a fixed norm (BatchNorm makes it free), so the
    learning rate is a relative change and needs no weight decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every filter bank that has a gradient."""
        for group in self.param_groups:
            for filters in group["params"]:
                state = self.state[filters]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(filters)
                state["momentum"].mul_(group["momentum"]).add_(filters.grad)
                ahead = filters.grad.add(state["momentum"], alpha=group["momentum"])  # Nesterov
                filters.mul_(math.sqrt(len(filters)) / filters.norm())
                filters.add_(orthogonalise(ahead.flatten(1)).view(filters.shape), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, rounds: int = 3) -> Tensor:
    """Nearly the matrix with all singular values 1: Newton–Schulz iteration, which needs only products."""
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x if wide else x.T).to(matrix.dtype)


class Trainer:
    """Trains one network in stages, each resumable; owns the images on the device and the curves."""

    def __init__(self, data: cifar10.Dataset, recipe: Recipe, options: argparse.Namespace) -> None:
        self.data, self.recipe, self.seed, self.work = data, recipe, options.seed, options.out / WORK
        self.device = torch.device(options.device)
        self.images = data.normalise(data.train.images).to(self.device)
        self.labels = torch.from_numpy(data.train.labels).to(self.device)
        self.test_images = data.normalise(data.test.images).to(self.device)
        self.test_labels = torch.from_numpy(data.test.labels).to(self.device)
        self.steps_per_epoch = max(recipe.least_steps, round(len(data.train) / recipe.batch))
        # bfloat16 keeps float32's range, so no loss scaling; processors and older GPUs stay in float32.
        self.mixed = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        identity = [dataclasses.asdict(recipe), data.digest(), options.seed, options.epochs]
        self.key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def autocast(self) -> torch.autocast:
        """Mixed precision, where the device has it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def train(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], stage: str, epochs: range, final_lr: float
    ) -> Progress:
        """Run or resume one stage; the learning rate falls linearly from the optimizers' own to `final_lr` of it."""
        steps, total = self.steps_per_epoch, self.steps_per_epoch * len(epochs)
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        progress = self.restore(model, optimizers, stage) or Progress()
        if progress.step:
            print(f"{stage}: resumed at step {progress.step} of {total}")
        saved = time.monotonic()
        sums = torch.tensor([progress.loss, progress.correct], device=self.device)
        while progress.step < total:
            epoch = epochs[progress.step // steps]
            model.train()
            started = time.perf_counter()
            batches = list(cifar10.epoch_batches(len(self.labels), steps, self.seed, epoch))
            first = progress.step % steps
            for numbers in artifact.progress(batches[first:], f"{stage}: epoch {epoch + 1}"):
                fraction = progress.step / total
                scale = 1 - (1 - final_lr) * fraction
                for optimizer, initial in zip(optimizers, rates, strict=True):
                    for group, rate in zip(optimizer.param_groups, initial, strict=True):
                        group["lr"] = rate * scale
                sums += self.learn(model, optimizers, numbers, epoch)
                progress.step += 1
                progress.images += len(numbers)
                if time.monotonic() - saved > 30:
                    progress.loss, progress.correct = sums.tolist()
                    now = time.perf_counter()
                    progress.seconds, started = progress.seconds + now - started, now
                    self.save(model, optimizers, stage, progress)
                    saved = time.monotonic()
            progress.loss, progress.correct = sums.tolist()  # waits for the device
            progress.seconds += time.perf_counter() - started
            predicted = self.predict(model)
            row = {
                "epoch": epoch + 1,
                "phase": stage,
                "learning_rate": optimizers[0].param_groups[0]["lr"],
                "loss": progress.loss / progress.images,
                "train_accuracy": progress.correct / progress.images,
                "test_accuracy": (predicted == self.data.test.labels).mean().item(),
                "images": progress.images,
                "seconds": round(progress.seconds, 3),
            }
            print(
                "{phase}: epoch {epoch}  loss {loss:.4f}  train {train_accuracy:.2%}  test {test_accuracy:.2%}  "
                "{seconds:.1f} s".format(**row)
            )
            progress.epochs.append(row)
            progress.loss = progress.correct = progress.seconds = 0.0
            progress.images = 0
            sums.zero_()
            if progress.step == total or time.monotonic() - saved > 10:
                self.save(model, optimizers, stage, progress)
                saved = time.monotonic()
        return progress

    def learn(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], numbers: Tensor, epoch: int
    ) -> Tensor:
        """One step on the images of these numbers; loss and correct answers, summed over them."""
        on_device = numbers.to(self.device)
        images, labels = self.images[on_device], self.labels[on_device]
        images = cifar10.shift(images, self.recipe.shift, cifar10.generator(self.seed, epoch, int(numbers[0])))
        if self.data.mirror:
            images = cifar10.mirror(images, numbers, self.seed, epoch, len(self.labels))
        with self.autocast():
            scores = model(images)
        smoothing = self.recipe.label_smoothing
        loss = nn.functional.cross_entropy(scores.float(), labels, label_smoothing=smoothing)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return torch.stack((loss.detach() * len(labels), (scores.argmax(1) == labels).sum()))

    @torch.no_grad()
    def predict(self, model: nn.Module) -> NDArray[np.int64]:
        """The class of every test image, in float32."""
        model.eval()
        answers = [model(batch).argmax(1) for batch in self.test_images.split(500)]
        found: NDArray[np.int64] = torch.cat(answers).cpu().numpy()
        return found

    @torch.no_grad()
    def watch(self, model: nn.Module) -> None:
        """Show the network some training images, unaltered: BatchNorm statistics or activation ranges follow."""
        numbers = next(cifar10.epoch_batches(len(self.labels), self.steps_per_epoch, self.seed, 0))
        count = min(len(self.labels), self.recipe.calibration_batches * len(numbers))
        for batch in self.images[:count].split(len(numbers)):
            model(batch)

    def save(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], stage: str, progress: Progress
    ) -> None:
        """Write the stage's checkpoint; the old one stays until the new one is whole."""
        buffer = io.BytesIO()
        content = {
            "key": self.key,
            "progress": dataclasses.asdict(progress),
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        torch.save(content, buffer)
        write_bytes(self.work / f"{stage}.pt", buffer.getvalue())

    def restore(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], stage: str) -> Progress | None:
        """Load the stage's checkpoint, if there is one of this very training."""
        path = self.work / f"{stage}.pt"
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            print(f"note: {path} is damaged; this stage starts anew")
            return None
        if content.get("key") != self.key:
            print(f"note: {path} is of another training (data, seed, epochs or recipe differ); this stage starts anew")
            return None
        model.load_state_dict(content["model"])
        for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return Progress(**content["progress"])


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a killed run or a full disk leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@torch.no_grad()
def whiten_stem(stem: ConvBN, images: Tensor) -> None:
    """Start the first convolution as a whitening of 3×3 patches: neighbouring pixels say nearly the same, and
    filters that take this apart need not be learned (Page 2018). Two of each, of opposite sign, because of ReLU."""
    assert isinstance(stem.conv, nn.Conv2d)
    patches = nn.functional.unfold(images, 3).transpose(1, 2).flatten(0, 1)  # M×27
    variance, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variance + 1e-2).sqrt()).T
    both = torch.cat((filters, -filters)).view(-1, 3, 3, 3)
    both = both[: len(stem.conv.weight)]
    both = both / both.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    stem.conv.weight[: len(both)].copy_(both)


def optimizers_for(model: ResNet18, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Filters of the convolutions take orthogonal steps; biases, scales and the last layer ordinary ones."""
    filters = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 4]
    sgd = torch.optim.SGD(
        others, recipe.other_lr, momentum=recipe.other_momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    return [OrthogonalMomentum(filters, recipe.filter_lr, recipe.filter_momentum), sgd]


def export(model: nn.Module, path: Path) -> None:
    """Write an ONNX model, opset 17, with any batch size; `input` N×3×32×32 to `output` N×10."""
    model = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, cifar10.SIZE, cifar10.SIZE),),
        buffer,
        opset_version=17,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        **options,
    )
    write_bytes(path, buffer.getvalue())


@torch.no_grad()
def write_reference(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write some inputs and the framework's own outputs, so that a machine without torch can check the export."""
    model, images = copy.deepcopy(model).cpu().float().eval(), images.cpu().float().contiguous()
    buffer = io.BytesIO()
    np.savez(buffer, input=images.numpy(), output=model(images).numpy())
    write_bytes(path, buffer.getvalue())


def predict_onnx(path: Path, images: Tensor) -> NDArray[np.int64] | None:
    """The class of every image according to the exported file in ONNX Runtime; None where that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batches = images.cpu().contiguous().numpy()
    chunks = [batches[i : i + 200] for i in range(0, len(batches), 200)]
    answers = [
        session.run(["output"], {"input": chunk})[0].argmax(1)
        for chunk in artifact.progress(chunks, f"check {path.name}")
    ]
    return np.concatenate(answers)


def deliver(
    trainer: Trainer,
    model: nn.Module,
    path: Path,
    options: argparse.Namespace,
    curves: list[dict[str, Any]],
    weights: str,
) -> dict[str, Any]:
    """Export a network, its reference outputs and its manifest; measure the exported file on the test images."""
    export(model, path)
    write_reference(model, trainer.test_images[:4], path.with_suffix(".reference.npz"))
    labels = trainer.data.test.labels
    in_torch = trainer.predict(model)
    in_onnx = predict_onnx(path, trainer.test_images)
    measured: dict[str, Any] = {"accuracy": None, "accuracy_in": None, "agreement_with_torch": None}
    if in_onnx is not None:
        measured["agreement_with_torch"] = (in_onnx == in_torch).mean().item()
    if weights == "trained":
        answers = in_torch if in_onnx is None else in_onnx
        measured["accuracy"] = (answers == labels).mean().item()
        measured["accuracy_in"] = "torch" if in_onnx is None else "onnxruntime"
        print(f"{path.name}: {measured['accuracy']:.2%} of {len(labels)} test images, in {measured['accuracy_in']}")
    data = trainer.data
    artifact.write_manifest(
        path,
        lab="lab5",
        model="resnet18",
        weights=weights,
        seed=options.seed,
        data={
            "source": data.source,
            "images": len(data.train),
            "test_images": len(data.test),
            "classes": list(data.classes),
            "sha256": data.digest(),
        },
        preprocessing=data.preprocessing.describe(),
        epochs=len(curves),
        training_seconds=round(sum(row["seconds"] for row in curves), 2),
        device=torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu",
        recipe=dataclasses.asdict(trainer.recipe),
        **measured,
    )
    return measured


def float_parent(trainer: Trainer, options: argparse.Namespace) -> tuple[ResNet18, list[dict[str, Any]]]:
    """The FP32 network, trained (or resumed, or already finished), BatchNorm folded; and its curves."""
    torch.manual_seed(options.seed)
    model = ResNet18(len(trainer.data.classes))
    if options.weights == "untrained":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # average over all batches: random weights need statistics of real images
        model.to(trainer.device).train()
        trainer.watch(model)
        return fold(model), []
    whiten_stem(model.stem, trainer.images[:2000].cpu().contiguous())
    model.to(trainer.device, memory_format=torch.channels_last)
    recipe = trainer.recipe
    epochs = range(options.epochs - qat_epochs(options.epochs, recipe))
    progress = trainer.train(model, optimizers_for(model, recipe), "fp32", epochs, recipe.final_lr)
    return fold(model), progress.epochs


def int8_child(
    trainer: Trainer, parent: ResNet18, options: argparse.Namespace
) -> tuple[ResNet18, list[dict[str, Any]], float | None]:
    """The parent with fake quantization, calibrated and fine-tuned; its curves; its accuracy before fine-tuning."""
    model = quantize(copy.deepcopy(parent), options.naive)
    model.to(trainer.device)
    trainer.watch(model)
    freeze_activations(model)
    if options.weights == "untrained":
        freeze_weights(model)
        return model, [], None
    calibrated = (trainer.predict(model) == trainer.data.test.labels).mean().item()
    print(f"calibrated, not yet fine-tuned: {calibrated:.2%}")
    # Adam: folding has left the filters with very different norms, and Adam's steps do not depend on them.
    optimizer = torch.optim.Adam(model.parameters(), trainer.recipe.qat_lr)
    tuned = qat_epochs(options.epochs, trainer.recipe)
    epochs = range(options.epochs - tuned, options.epochs)
    progress = trainer.train(model, [optimizer], "qat_naive" if options.naive else "qat", epochs, 0.0)
    freeze_weights(model)
    return model, progress.epochs, calibrated


def qat_epochs(epochs: int, recipe: Recipe) -> int:
    """How many of the epochs are fine-tuning."""
    return max(1, round(epochs * recipe.qat_share))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = artifact.parser(__doc__ or "")
    parser.add_argument(
        "--epochs", type=int, default=5, metavar="N", help="passes over the images in all, QAT included"
    )
    parser.add_argument("--subset", type=int, metavar="N", help="train on N images only, to bound the work on a CPU")
    parser.add_argument("--device", help="cuda, cpu; left out: the GPU where there is one")
    parser.add_argument(
        "--naive", action="store_true", help="leave residuals and the pool in float: how not to place Q/DQ, to compare"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        parser.error(f"--epochs {options.epochs}: at least 2, one in FP32 and one of fine-tuning")
    if options.subset is not None and options.subset < 50:
        parser.error(f"--subset {options.subset}: at least 50")
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return options


def run(options: argparse.Namespace) -> None:
    """Everything, from the images to the two exported models."""
    torch.backends.cudnn.benchmark = True
    recipe = Recipe()
    data = cifar10.load(options.data, options.out / WORK, options.subset)
    print(f"{data.source}: {len(data.train)} to train on, {len(data.test)} to test on; on {options.device}")
    trainer = Trainer(data, recipe, options)
    weights = "untrained" if options.weights == "untrained" else "trained"
    parent, curves = float_parent(trainer, options)
    fp32 = options.out / "resnet18_cifar10.onnx"
    fp32_measured = deliver(trainer, parent, fp32, options, curves, weights)
    child, more, calibrated = int8_child(trainer, parent, options)
    int8 = options.out / ("resnet18_qat_naive_cifar10.onnx" if options.naive else "resnet18_qat_cifar10.onnx")
    int8_measured = deliver(trainer, child, int8, options, curves + more, weights)
    report = {
        "schema": artifact.SCHEMA,
        "data": data.source,
        "epochs": curves + more,
        "accuracy": {"fp32": fp32_measured["accuracy"], "calibrated": calibrated, "qat": int8_measured["accuracy"]},
    }
    path = options.out / ("training_curves_naive.json" if options.naive else "training_curves.json")
    artifact.write_atomically(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    artifact.finish([fp32, int8, path], [f"trtexec --onnx={int8} --int8 --fp16 --shapes=input:1x3x32x32"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and end in one message for what can go wrong outside this program."""
    options = parse(arguments)
    try:
        run(options)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except torch.cuda.OutOfMemoryError as error:
        raise artifact.stop(
            f"the GPU has too little memory: {error}", "close other programs, or --device cpu"
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise artifact.stop("the disk is full", "free some space and run the same command: it resumes") from error


if __name__ == "__main__":
    main()
