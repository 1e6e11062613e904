"""A network on its way into a file: weights, BatchNorm statistics, export, reference outputs."""

from __future__ import annotations

import http.client
import inspect
import io
import re
import socket
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact import DYNAMIC, progress, sha256, stop, write_atomically

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

OPSET = 17
NETWORK_TIMEOUT = 10.0  # seconds without a byte, after which this machine counts as offline


def fetch(url: str, cached: Path) -> str | None:
    """Make sure that `cached` is the file behind `url`; None, or why it cannot be had.

    A name such as `resnet50-0676ba61.pth` carries the start of the file's SHA-256, which is checked.
    """
    import torch

    expected = re.search(r"-([0-9a-f]{8,})\.", cached.name)
    if not cached.exists():
        waited = socket.getdefaulttimeout()
        socket.setdefaulttimeout(NETWORK_TIMEOUT)
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), expected and expected[1], progress=sys.stderr.isatty())
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: the hash is wrong
            return f"not cached as {cached}, and the download failed: {error}"
        finally:
            socket.setdefaulttimeout(waited)
    if expected and not sha256(cached).startswith(expected[1]):
        raise stop(f"the cached weights {cached} are corrupt: their SHA-256 is not {expected[1]}…", f"rm {cached}")
    return None


def load_torchvision(model: Any, weights: Any, wanted: str) -> str:
    """Load a torchvision weights enum's state into a model, as `--weights` wants it.

    Returns:
        "pretrained", or "untrained" where nothing was loaded and the caller is to initialise the model.
    """
    import torch

    if wanted == "untrained":
        return without_weights("as asked", wanted)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    missing = fetch(weights.url, cached)
    if missing is None:
        model.load_state_dict(torch.load(cached, map_location="cpu", weights_only=True))
        model.eval()
        return "pretrained"
    return without_weights(missing, wanted)


def without_weights(missing: str, wanted: str) -> str:
    """ "untrained" with a warning on the screen, or the end where `--weights pretrained` was asked for."""
    if wanted == "pretrained":
        raise stop(f"no pretrained weights: {missing}", "connect to the network once, or give --weights untrained")
    print(f"weights: untrained ({missing})\n  outputs mean nothing to a person; no accuracy may be claimed")
    return "untrained"


def reestimate_batchnorm(model: Any, batches: Sequence[npt.NDArray[np.float32]]) -> None:
    """Replace every BatchNorm's running statistics by the average over `batches`, N×C×H×W each.

    Seeded weights keep mean 0 and variance 1 from construction, which no activation has: layer by layer the
    signal vanishes or grows, and every comparison of outputs compares nothing.
    """
    import torch

    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average: every batch weighs the same
    model.eval()
    for norm in norms:
        norm.train()  # the norms alone: dropout stays off
    with torch.no_grad():
        for batch in progress(batches, "BatchNorm statistics"):
            model(torch.from_numpy(batch))
    model.eval()


def initialise_classifier(
    model: Any, head: Any, branch_ends: Iterable[Any], batches: Sequence[npt.NDArray[np.float32]]
) -> None:
    """Make an untrained classifier whose outputs tell images apart.

    Left at torchvision's defaults, a seeded ResNet-50 gives every image nearly one output: a quarter of the
    logits' spread is a constant per class, and the rest lies along one direction. Three choices mend that.
    The norm that ends a residual branch starts at 0.2, so depth does not wash images together; every norm's
    bias starts at 0.5, so ReLU drops a third of the values, not half; and the head is shifted and scaled so
    that over `batches` each class has mean 0 and all logits together have standard deviation 1.

    Args:
        head: the last linear layer.
        branch_ends: the BatchNorm layers whose outputs are added to a shortcut.
        batches: real images, float32 N×C×H×W each.
    """
    import torch

    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(layer.bias, 0.5)
    for norm in branch_ends:
        torch.nn.init.constant_(norm.weight, 0.2)
    reestimate_batchnorm(model, batches)
    with torch.no_grad():
        torch.nn.init.zeros_(head.bias)
        logits = torch.cat([model(torch.from_numpy(batch)) for batch in batches])
        centre = logits.mean(dim=0)
        spread = (logits - centre).std()
        head.weight /= spread
        head.bias.copy_(-centre / spread)


def separation(outputs: npt.NDArray[np.float32]) -> float:
    """How much of the outputs' spread lies between images, 0 (all images alike) to 1; `outputs` is N×anything."""
    return float((outputs - outputs.mean(axis=0)).std() / outputs.std())


def export(model: Any, path: Path, *, shape: Sequence[int], batch: int | str, names: tuple[str, str]) -> None:
    """Export to ONNX, check it, and put it in place.

    Args:
        shape: C, H, W of the input.
        batch: a number, or "dynamic" for a free first dimension.
        names: the input's and the output's tensor name.
    """
    import onnx
    import torch

    example = torch.zeros(1 if batch == DYNAMIC else int(batch), *shape)
    axes = {name: {0: "batch"} for name in names} if batch == DYNAMIC else None
    # torch 2.3 has no `dynamo` here; later the default changed to an exporter that renames layers.
    choice = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    graph = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on deprecation, and on shapes that tracing makes constant: meant
            torch.onnx.export(
                model,
                (example,),
                graph,
                opset_version=OPSET,
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_axes=axes,
                **choice,
            )
        onnx.checker.check_model(onnx.load_from_string(graph.getvalue()), full_check=True)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        first = str(error).strip().splitlines()[0]
        raise stop(f"the export of {path.name} failed: {first}", "pip install --upgrade torch onnx") from error
    write_atomically(path, graph.getvalue())


def write_reference(onnx: Path, inputs: npt.NDArray[np.float32], outputs: npt.NDArray[np.float32]) -> Path:
    """Write `<stem>.reference.npz`: inputs K×C×H×W and the framework's own outputs for them."""
    import numpy as np

    archive = io.BytesIO()
    np.savez(archive, input=inputs, output=outputs)
    path = onnx.with_suffix(".reference.npz")
    write_atomically(path, archive.getvalue())
    return path


def difference_from_onnxruntime(
    onnx: Path, inputs: npt.NDArray[np.float32], outputs: npt.NDArray[np.float32]
) -> float | None:
    """Largest absolute difference between `outputs` and ONNX Runtime's; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        print("check: ONNX Runtime is not installed, so the exported graph was not run")
        return None
    import numpy as np

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    size = tensor.shape[0] if isinstance(tensor.shape[0], int) else len(inputs)
    found = []
    for start in range(0, len(inputs), size):
        part = inputs[start : start + size]
        padded = np.resize(part, (size, *part.shape[1:]))  # a fixed batch is filled up with repeats
        found.append(session.run(None, {tensor.name: padded})[0][: len(part)])
    largest = float(np.abs(np.concatenate(found) - outputs).max())
    print(f"check: largest difference between torch and ONNX Runtime over {len(inputs)} images: {largest:.2e}")
    return largest
