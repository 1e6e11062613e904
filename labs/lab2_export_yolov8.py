"""Lab 2: export ultralytics' YOLOv8n to ONNX, ready for an FP32 and an FP16 engine. (ultralytics is AGPL-3.0.)"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import artifact
import images
import network

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STEM = "yolov8n"
URL = "https://github.com/ultralytics/assets/releases/download/v8.3.0/yolov8n.pt"
REFERENCE = 2
ESTIMATION = 16
BATCH = 4
CONFIDENCE = 0.25  # ultralytics' own threshold for a detection
FOUND = 0.01  # of the 8400 candidates, how many an untrained head lets over it


def main() -> None:
    """Weights, export, check, reference outputs, manifest."""
    parser = artifact.parser(__doc__ or "")
    artifact.add_batch(parser)
    options = parser.parse_args()
    artifact.claim(options.out)
    places = places_of_weights()
    with tempfile.TemporaryDirectory() as settings:
        # Read at import: nothing is to be installed, fetched or reported, and no settings left behind.
        os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false", YOLO_CONFIG_DIR=settings)
        artifact.need("numpy", "PIL", "tqdm", "torch", "onnx", "ultralytics")
        make(options, places)


def make(options: Any, places: Sequence[Path]) -> None:
    """The lab, once ultralytics may be imported."""
    import torch

    photos = images.choose(images.find_photos(options.data), REFERENCE + ESTIMATION, options.seed, at_least=BATCH)
    inputs = images.stack(photos[:REFERENCE], images.YOLO)
    model, weights, pretrained = load(options, places)
    if weights == "untrained":
        initialise(model, images.batches(photos[REFERENCE:], images.YOLO, BATCH))
    model.fuse(verbose=False)
    head = model.model[-1]
    head.export, head.format = True, "onnx"  # decoded boxes and scores, 1×84×8400, and nothing else
    with torch.no_grad():
        outputs = model(torch.from_numpy(inputs)).numpy()
        model(torch.zeros(1 if options.batch == artifact.DYNAMIC else options.batch, *inputs.shape[1:]))

    onnx = options.out / f"{STEM}.onnx"
    network.export(model, onnx, shape=inputs.shape[1:], batch=options.batch, names=("images", "output0"))
    difference = network.difference_from_onnxruntime(onnx, inputs, outputs)
    reference = network.write_reference(onnx, inputs, outputs)
    scores = outputs[:, 4:].max(axis=1)
    candidates = [int(count) for count in (scores > CONFIDENCE).sum(axis=1)]
    print(f"check: candidates with a score over {CONFIDENCE}, before suppression: {candidates}")
    manifest = artifact.write_manifest(
        onnx,
        lab="lab2",
        model=STEM,
        weights=weights,
        seed=options.seed,
        data=images.provenance(options.data, photos),
        preprocessing=images.YOLO.describe(),
        pretrained=pretrained,
        batch=options.batch,
        opset=network.OPSET,
        reference={"file": reference.name, "sha256": artifact.sha256(reference), "images": len(inputs)},
        separation=network.separation(outputs[:, 4:]),
        candidates=candidates,
        onnxruntime_difference=difference,
    )
    shapes = artifact.shapes_option("images", inputs.shape[1:], options.batch)
    timing = "--useCudaGraph --noDataTransfers --iterations=100"
    artifact.finish(
        "lab2",
        [onnx, reference, manifest],
        [
            f"trtexec --onnx={onnx}{shapes} --saveEngine={STEM}_fp32.engine --noTF32 {timing}",
            f"trtexec --onnx={onnx}{shapes} --saveEngine={STEM}_tf32.engine {timing}",
            f"trtexec --onnx={onnx}{shapes} --saveEngine={STEM}_fp16.engine --fp16 {timing}",
        ],
        ["the course's \"FP16 is about twice as fast\" is against the second, trtexec's default, which is TF32"],
    )


def places_of_weights() -> list[Path]:
    """Where ultralytics keeps yolov8n.pt: the working directory, and the folder that its settings name."""
    places = [Path(f"{STEM}.pt")]
    home = Path(os.environ.get("YOLO_CONFIG_DIR") or Path.home() / ".config" / "Ultralytics")
    try:
        settings = json.loads((home / "settings.json").read_text(encoding="utf-8"))
        places.append(Path(settings["weights_dir"]) / f"{STEM}.pt")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no settings, or none of this kind: one place less to look
    return places


def load(options: Any, places: Sequence[Path]) -> tuple[Any, str, str | None]:
    """The model in evaluation mode, "pretrained" or "untrained", and which file the trained weights came from."""
    import torch
    import ultralytics
    from ultralytics.nn.tasks import DetectionModel

    if options.weights == "untrained":
        weights = network.without_weights("as asked", options.weights)
    else:
        downloaded = Path(torch.hub.get_dir()) / "checkpoints" / f"{STEM}.pt"
        cached = next((place for place in places if place.is_file()), downloaded)
        missing = network.fetch(URL, cached)
        if missing is None:
            try:
                model = ultralytics.YOLO(str(cached)).model.float().eval()
                return model, "pretrained", f"{cached.name} sha256:{artifact.sha256(cached)}"
            except (
                RuntimeError,
                EOFError,
                TypeError,
                AttributeError,
                KeyError,
                ImportError,
                pickle.PickleError,
            ) as error:
                first = str(error).strip().splitlines()[0]
                raise artifact.stop(f"the weights {cached} cannot be read: {first}", f"rm {cached}") from error
        weights = network.without_weights(missing, options.weights)
    torch.manual_seed(options.seed)
    return DetectionModel(f"{STEM}.yaml", ch=3, nc=80, verbose=False).eval(), weights, None


def initialise(model: Any, batches: Sequence[npt.NDArray[np.float32]]) -> None:
    """Give an untrained model boxes to compare.

    After construction every class scores about 1e-5, every box has one size, and what little varies does so along
    a few directions that grow without bound on other images. So every norm's bias starts at 1, where SiLU is nearly
    a straight line. Then the last convolutions are shifted and scaled by what they put out on real images: box
    distributions and class scores (before the sigmoid) get mean 0 and standard deviation 1, and the classes a
    common bias under which one candidate in a hundred passes ultralytics' threshold.
    """
    import torch

    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(layer.bias, 1.0)
    network.reestimate_batchnorm(model, batches)
    head = model.model[-1]
    lasts = [branch[-1] for branch in (*head.cv2, *head.cv3)]
    observed = observe(model, lasts, batches)
    best = []
    with torch.no_grad():
        for last, outputs in zip(lasts, observed, strict=True):
            centre = outputs.mean(dim=(0, 2), keepdim=True)
            spread = (outputs - centre).std()
            last.weight /= spread
            last.bias.copy_((last.bias - centre.flatten()) / spread)
            best.append(((outputs - centre) / spread).amax(dim=1).flatten())
        passing = torch.cat(best[len(head.cv2) :]).quantile(1 - FOUND)
        for branch in head.cv3:
            branch[-1].bias += torch.logit(torch.tensor(CONFIDENCE)) - passing


def observe(model: Any, layers: Sequence[Any], batches: Sequence[npt.NDArray[np.float32]]) -> list[Any]:
    """What each layer puts out over all batches: N×C×positions."""
    import torch

    seen: dict[Any, list[Any]] = {layer: [] for layer in layers}
    handles = [
        layer.register_forward_hook(lambda module, inputs, output: seen[module].append(output.flatten(2)))
        for layer in layers
    ]
    with torch.no_grad():
        for batch in artifact.progress(batches, "scores and boxes"):
            model(torch.from_numpy(batch))
    for handle in handles:
        handle.remove()
    return [torch.cat(seen[layer]) for layer in layers]


if __name__ == "__main__":
    artifact.run(main)
