"""Lab 3: export MobileNetV2, and see which layers a DLA takes and which fall back to the GPU."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import artifact
import images
import network
import placement

STEM = "mobilenet_v2"
REFERENCE = 4
ESTIMATION = 32
BATCH = 8
TRTEXEC = "--fp16 --profilingVerbosity=detailed"


def main() -> None:
    """Export, placement by table or by TensorRT's builder, layer information."""
    parser = artifact.parser(__doc__ or "")
    artifact.add_batch(parser)
    options = parser.parse_args()
    artifact.claim(options.out)
    artifact.need("numpy", "PIL", "tqdm", "torch", "torchvision", "onnx")
    table = placement.read_table()
    onnx, files = export(options)

    tensorrt = TensorRT.open(onnx)
    placed = placement.place(placement.Graph(onnx), table, tensorrt.on_dla() if tensorrt else None)
    report = describe(onnx, placed, table, tensorrt.dla_cores if tensorrt else None)
    place = options.out / "dla_placement.json"
    artifact.write_atomically(place, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    files.append(place)
    tell(placed, report)

    info = options.out / "layer_info.json"
    if tensorrt:
        artifact.write_atomically(info, tensorrt.layer_information())
        files.append(info)
    shapes = artifact.shapes_option("input", (3, 224, 224), options.batch)
    command = f"trtexec --onnx={onnx}{shapes} {TRTEXEC}"
    artifact.finish(
        "lab3",
        files,
        [
            f"{command} --saveEngine={STEM}_fp16.engine --dumpLayerInfo --exportLayerInfo={info} --useCudaGraph",
            f"{command} --saveEngine={STEM}_dla.engine --useDLACore=0 --allowGPUFallback"
            "    # only where there is a DLA: Orin NX, AGX Orin",
        ],
        ["Jetson Orin Nano has no DLA: there --useDLACore=0 fails, and the placement above is what a larger Orin does"],
    )


def export(options: Any) -> tuple[Path, list[Path]]:
    """Write the ONNX file, its reference outputs and its manifest; the file, and all three."""
    import torch
    import torchvision

    photos = images.choose(images.find_photos(options.data), REFERENCE + ESTIMATION, options.seed, at_least=BATCH)
    inputs = images.stack(photos[:REFERENCE], images.IMAGENET)
    torch.manual_seed(options.seed)
    model = torchvision.models.mobilenet_v2(weights=None)
    pretrained = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
    weights = network.load_torchvision(model, pretrained, options.weights)
    if weights == "untrained":
        ends = [block.conv[-1] for block in model.modules() if getattr(block, "use_res_connect", False)]
        estimation = images.batches(photos[REFERENCE:], images.IMAGENET, BATCH)
        network.initialise_classifier(model, model.classifier[-1], ends, estimation)
    with torch.no_grad():
        outputs = model(torch.from_numpy(inputs)).numpy()

    onnx = options.out / f"{STEM}.onnx"
    network.export(model, onnx, shape=inputs.shape[1:], batch=options.batch, names=("input", "output"))
    difference = network.difference_from_onnxruntime(onnx, inputs, outputs)
    reference = network.write_reference(onnx, inputs, outputs)
    manifest = artifact.write_manifest(
        onnx,
        lab="lab3",
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
    return onnx, [onnx, reference, manifest]


def describe(
    onnx: Path, placed: list[placement.Placed], table: dict[str, Any], dla_cores: int | None
) -> dict[str, Any]:
    """What dla_placement.json holds; `dla_cores` is None where TensorRT could not be asked."""
    crossing, loadables = placement.crossings(placed), placement.loadables(placed)
    return {
        "schema": artifact.SCHEMA,
        "model": onnx.name,
        "sha256": artifact.sha256(onnx),
        "method": "builder" if any(node.rule == "builder" for node in placed) else "table",
        "dla_cores": dla_cores,
        "table": {
            "file": placement.TABLE.name,
            "sha256": artifact.sha256(placement.TABLE),
            "device": table["device"],
            "tensorrt": table["tensorrt"],
            "sources": [source["url"] for source in table["source"]],
            "definitions": table["definitions"],
        },
        "layers": [node.describe() for node in placed],
        "devices": dict(Counter(node.device for node in placed)),
        "crossings": len(crossing),
        "crossing_tensors": crossing,
        "loadables": len(loadables),
        "loadable_limit": table["limits"]["loadables_per_core"],
        "loadable_layers": loadables,
    }


def tell(placed: list[placement.Placed], report: dict[str, Any]) -> None:
    """Print what falls back, why, and what that costs."""
    print(f"placement: {report['devices'].get('DLA', 0)} of {len(placed)} nodes on the DLA, by {report['method']}")
    for node in placed:
        if node.device == placement.GPU:
            print(f"  GPU: {node.name} ({node.operator}): {node.reason}")
    print(
        f"  crossings between the devices: {report['crossings']}; DLA "
        f"loadables: {report['loadables']} (at most {report['loadable_limit']} on a core)"
    )


class TensorRT:
    """A parsed network in TensorRT 8.6 to 10.x, to ask what a DLA takes and what an FP16 engine consists of."""

    @classmethod
    def open(cls, onnx: Path) -> TensorRT | None:
        """The network, or None where there is no TensorRT or no GPU for it."""
        try:
            import tensorrt
        except ImportError:
            return None
        if int(tensorrt.__version__.split(".")[0]) > 10:
            print(f"TensorRT {tensorrt.__version__} has neither DLA nor the FP16 flag that this lab uses: not asked")
            return None
        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        try:
            builder = tensorrt.Builder(logger)
        except (RuntimeError, TypeError) as error:  # what its bindings raise where CUDA cannot start
            print(f"TensorRT {tensorrt.__version__} finds no GPU here: not asked ({error})")
            return None
        return cls(tensorrt, logger, builder, onnx)

    def __init__(self, tensorrt: Any, logger: Any, builder: Any, onnx: Path) -> None:
        self._tensorrt, self._logger, self._builder = tensorrt, logger, builder
        self._network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        self._parser = tensorrt.OnnxParser(self._network, logger)
        if not self._parser.parse(onnx.read_bytes()):
            first = self._parser.get_error(0).desc()
            raise artifact.stop(f"TensorRT cannot parse {onnx}: {first}", f"polygraphy inspect model {onnx}")
        self.dla_cores = int(builder.num_DLA_cores)

    def _configuration(self) -> Any:
        configuration = self._builder.create_builder_config()
        configuration.set_flag(self._tensorrt.BuilderFlag.FP16)
        configuration.profiling_verbosity = self._tensorrt.ProfilingVerbosity.DETAILED
        tensor = self._network.get_input(0)
        if -1 in tuple(tensor.shape):
            profile = self._builder.create_optimization_profile()
            one = (1, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, one, one, one)
            configuration.add_optimization_profile(profile)
        return configuration

    def on_dla(self) -> dict[str, bool] | None:
        """By layer name, whether the builder would run it on a DLA; None on a device without one."""
        if not self.dla_cores:
            return None
        configuration = self._configuration()
        configuration.default_device_type = self._tensorrt.DeviceType.DLA
        configuration.DLA_core = 0
        layers = [self._network.get_layer(index) for index in range(self._network.num_layers)]
        return {layer.name: bool(configuration.can_run_on_DLA(layer)) for layer in layers}

    def layer_information(self) -> str:
        """The inspector's JSON of an FP16 engine for the GPU."""
        print("building the FP16 engine: minutes on a Jetson")
        plan = self._builder.build_serialized_network(self._network, self._configuration())
        if plan is None:
            raise artifact.stop("TensorRT could not build the FP16 engine", "see its messages above; is memory free?")
        engine = self._tensorrt.Runtime(self._tensorrt.Logger(self._tensorrt.Logger.ERROR)).deserialize_cuda_engine(
            plan
        )
        text = str(engine.create_engine_inspector().get_engine_information(self._tensorrt.LayerInformationFormat.JSON))
        # TensorRT leaves control characters in strings, which JSON forbids: read leniently, write properly.
        return json.dumps(json.loads(text, strict=False), indent=2) + "\n"


if __name__ == "__main__":
    artifact.run(main)
