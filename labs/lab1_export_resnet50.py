"""Lab 1: export torchvision's ResNet-50 to ONNX, ready for an FP32 engine."""

from __future__ import annotations

import artifact
import images
import network

STEM = "resnet50"
REFERENCE = 4  # photographs whose outputs are kept, so that a machine without torch can check the file
ESTIMATION = 32  # photographs that BatchNorm statistics are estimated on, when no trained weights are at hand
BATCH = 8


def main() -> None:
    """Weights, export, check, reference outputs, manifest."""
    parser = artifact.parser(__doc__ or "")
    artifact.add_batch(parser)
    options = parser.parse_args()
    artifact.claim(options.out)
    artifact.need("numpy", "PIL", "tqdm", "torch", "torchvision", "onnx")
    import torch
    import torchvision

    photos = images.choose(images.find_photos(options.data), REFERENCE + ESTIMATION, options.seed, at_least=BATCH)
    inputs = images.stack(photos[:REFERENCE], images.IMAGENET)

    torch.manual_seed(options.seed)
    model = torchvision.models.resnet50(weights=None)
    # V1: the weights that the course's resnet50(pretrained=True) names; resize 256, crop 224.
    pretrained = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    weights = network.load_torchvision(model, pretrained, options.weights)
    if weights == "untrained":
        ends = [block.bn3 for block in model.modules() if hasattr(block, "bn3")]
        network.initialise_classifier(model, model.fc, ends, images.batches(photos[REFERENCE:], images.IMAGENET, BATCH))
    with torch.no_grad():
        outputs = model(torch.from_numpy(inputs)).numpy()

    onnx = options.out / f"{STEM}.onnx"
    network.export(model, onnx, shape=inputs.shape[1:], batch=options.batch, names=("input", "output"))
    difference = network.difference_from_onnxruntime(onnx, inputs, outputs)
    reference = network.write_reference(onnx, inputs, outputs)
    manifest = artifact.write_manifest(
        onnx,
        lab="lab1",
        model=STEM,
        weights=weights,
        seed=options.seed,
        data=images.provenance(options.data, photos),
        preprocessing=images.IMAGENET.describe(),
        pretrained=str(pretrained) if weights == "pretrained" else None,
        batch=options.batch,
        opset=network.OPSET,
        reference={"file": reference.name, "sha256": artifact.sha256(reference), "images": len(inputs)},
        separation=network.separation(outputs),
        onnxruntime_difference=difference,
    )
    shapes = artifact.shapes_option("input", inputs.shape[1:], options.batch)
    artifact.finish(
        "lab1",
        [onnx, reference, manifest],
        [
            f"trtexec --onnx={onnx}{shapes} --saveEngine={STEM}_fp32.engine --noTF32 --profilingVerbosity=detailed "
            "--dumpLayerInfo --dumpProfile --separateProfileRun --useCudaGraph --iterations=100",
        ],
        ['without --noTF32, trtexec computes "FP32" in TF32: on an H200 three times as fast, and no FP32'],
    )


if __name__ == "__main__":
    artifact.run(main)
