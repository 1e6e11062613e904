"""The same networks by other exporters: PyTorch's two with their options, ultralytics' own, and what slims later."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from benchmarks.mutants import files
from benchmarks.mutants.case import Case
from benchmarks.mutants.right.rewrites import derive

OPSETS = {"older": (13, 14, 15, 16, 17, 18), "newer": (18, 19, 20, 21, 22, 23)}


def cases(base: str, file: str) -> Iterator[Case]:
    """Every export of a network with the weights that the base has."""
    ways = ultralytics_ways() if file == "yolov8n.onnx" else torch_ways(base)
    for what, make in (*ways, *slimmers()):
        why = "the framework's own export of the same network with the same weights"
        name = f"{file.removesuffix('.onnx')} {what}"
        yield Case(base, "exporters", name, exported(file, make), None, why, file, same=True)


def exported(file: str, make: Callable[[Path, str], None]) -> Callable[[Path], None]:
    """That export in the file's place, with what is derived from it."""

    def made(folder: Path) -> None:
        make(folder, file)
        files.sign(folder / file)
        derive(folder, file)

    return made


def torch_ways(base: str) -> Iterator[tuple[str, Callable[[Path, str], None]]]:
    """PyTorch's exporters and their options."""
    for opset in OPSETS["older"]:
        yield f"by the older exporter, opset {opset}", by_torch(dynamo=False, opset_version=opset)
    yield "by the older exporter, nothing folded", by_torch(dynamo=False, opset_version=17, do_constant_folding=False)
    yield (
        "by the older exporter, initializers as inputs",
        by_torch(dynamo=False, opset_version=17, keep_initializers_as_inputs=True),
    )
    if not base.startswith("lab3"):
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        yield "by the older exporter, dynamic batch", by_torch(dynamo=False, opset_version=17, dynamic_axes=axes)
        yield "by the newer exporter, dynamic batch", by_torch(dynamo=True, opset_version=18, dynamic_axes=axes)
    for opset in OPSETS["newer"]:
        yield f"by the newer exporter, opset {opset}", by_torch(dynamo=True, opset_version=opset)
    yield "by the newer exporter, not optimised", by_torch(dynamo=True, opset_version=18, optimize=False)
    yield "by the newer exporter, weights beside it", by_torch(dynamo=True, opset_version=18, external_data=True)


def by_torch(**options: Any) -> Callable[[Path, str], None]:
    """`torch.onnx.export` with those options."""

    def make(folder: Path, file: str) -> None:
        import torch

        model = rebuilt(folder, file)
        size = 32 if "cifar10" in file else 224
        names = {"input_names": ["input"], "output_names": ["output"]}
        more = {"external_data": False, **options} if options["dynamo"] else options
        with tempfile.TemporaryDirectory(dir=folder.parent) as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(place) / file
            torch.onnx.export(model, (torch.zeros(1, 3, size, size),), str(path), **names, **more)
            for made in sorted(Path(place).iterdir()):
                files.write(folder / made.name, made.read_bytes())

    return make


def rebuilt(folder: Path, file: str) -> Any:
    """The framework's network with the weights of the graph that lies there, its BatchNorm folded into them."""
    import torch
    import torchvision

    models = torchvision.models
    if "cifar10" in file:
        model = models.resnet18(weights=None, num_classes=10)
        model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    else:
        model = {"resnet50.onnx": models.resnet50, "mobilenet_v2.onnx": models.mobilenet_v2}[file](weights=None)
    put_weights(model, onnx.load_model(str(folder / file)))
    return model.eval()


def put_weights(model: Any, graph: Any) -> None:
    """A graph's weights into a network: both have their layers in the order in which they compute."""
    import torch

    known = files.constants(graph)
    nodes = [n for n in graph.graph.node if n.op_type in ("Conv", "Gemm")]
    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for node, layer in zip(nodes, layers, strict=True):
            layer.weight.copy_(torch.from_numpy(numpy_helper.to_array(known[node.input[1]]).copy()))
            bias = torch.from_numpy(numpy_helper.to_array(known[node.input[2]]).copy())
            if isinstance(layer, torch.nn.Linear):
                layer.bias.copy_(bias)
                continue
            norm = norms.pop(0)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(bias)


def ultralytics_ways() -> Iterator[tuple[str, Callable[[Path, str], None]]]:
    """ultralytics' `export` and its options."""
    for opset in (13, 15, 17, 19, 20):
        yield f"by ultralytics, opset {opset}", by_ultralytics(opset=opset, simplify=False)
    yield "by ultralytics as it comes", by_ultralytics()
    yield "by ultralytics, simplified", by_ultralytics(simplify=True, opset=17)
    yield "by ultralytics, dynamic", by_ultralytics(dynamic=True, simplify=False, opset=17)
    yield "by ultralytics, dynamic and simplified", by_ultralytics(dynamic=True, simplify=True, opset=17)
    yield "by ultralytics, batch of one named", by_ultralytics(batch=1, simplify=False, opset=16)


def by_ultralytics(**options: Any) -> Callable[[Path, str], None]:
    """`YOLO(…).export(format="onnx")` with those options."""

    def make(folder: Path, file: str) -> None:
        os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
        os.environ.setdefault("YOLO_CONFIG_DIR", str(folder.parent / "ultralytics"))
        if options.get("simplify", True) and importlib.util.find_spec("onnxslim") is None:
            raise NotImplementedError("onnxslim is not installed")
        from ultralytics import YOLO

        yolo = YOLO("yolov8n.yaml", verbose=False)
        network = yolo.model.fuse(verbose=False).eval()
        put_named(network, onnx.load_model(str(folder / file)))
        here = Path.cwd()
        with tempfile.TemporaryDirectory(dir=folder.parent) as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(place)
            try:
                made = yolo.export(format="onnx", imgsz=640, verbose=False, **options)
                content = Path(made).read_bytes()
            finally:
                os.chdir(here)
        files.write(folder / file, content)

    return make


def put_named(network: Any, graph: Any) -> None:
    """A graph's weights into a network, by the names that PyTorch's exporter keeps."""
    import torch

    state = network.state_dict()
    found = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.graph.initializer
        if tensor.name in state
    }
    missing = [name for name in state if name.endswith((".weight", ".bias")) and name not in found]
    if missing:
        raise NotImplementedError(f"the graph does not name {missing[0]}")
    network.load_state_dict(found, strict=False)


def slimmers() -> Iterator[tuple[str, Callable[[Path, str], None]]]:
    """What slims a graph after its export, where it is installed."""

    def slim(folder: Path, file: str) -> None:
        if importlib.util.find_spec("onnxslim") is None:
            raise NotImplementedError("onnxslim is not installed")
        onnxslim = importlib.import_module("onnxslim")
        files.save_model(onnxslim.slim(onnx.load_model(str(folder / file))), folder / file)

    def simplify(folder: Path, file: str) -> None:
        if importlib.util.find_spec("onnxsim") is None:
            raise NotImplementedError("onnxsim is not installed")
        onnxsim = importlib.import_module("onnxsim")
        simplified, sound = onnxsim.simplify(onnx.load_model(str(folder / file)))
        if not sound:
            raise NotImplementedError("onnxsim says that its result is not sound")
        files.save_model(simplified, folder / file)

    def prepared(folder: Path, file: str) -> None:
        from onnxruntime.quantization.shape_inference import quant_pre_process

        path = folder / f"{file}.prepared"
        quant_pre_process(str(folder / file), str(path), skip_symbolic_shape=True)
        files.save_model(onnx.load_model(str(path)), folder / file)
        path.unlink()

    yield "slimmed by onnxslim", slim
    yield "simplified by onnxsim", simplify
    yield "prepared by ONNX Runtime's quant_pre_process", prepared


def fp16(base: str) -> Iterator[Case]:
    """Lab 2's FP16 graph by the tools that students use."""
    from onnxconverter_common import float16

    def converted(**options: Any) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            model = onnx.load_model(str(folder / "yolov8n.onnx"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                half = float16.convert_float_to_float16(model, **options)
            files.save_model(half, folder / "yolov8n_fp16.onnx")

        return make

    def by_onnxruntime(folder: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = onnx.load_model(str(folder / "yolov8n.onnx"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            files.save_model(convert_float_to_float16(model, keep_io_types=True), folder / "yolov8n_fp16.onnx")

    def half(folder: Path) -> None:
        kept = (folder / "yolov8n.onnx").read_bytes()
        by_ultralytics(half=True, simplify=False, opset=17)(folder, "yolov8n.onnx")
        made = (folder / "yolov8n.onnx").read_bytes()
        files.write(folder / "yolov8n.onnx", kept)
        files.write(folder / "yolov8n_fp16.onnx", made)

    ways = {
        "onnxconverter-common, FP32 ports": converted(keep_io_types=True),
        "onnxconverter-common, FP16 ports": converted(),
        "onnxconverter-common, shapes not inferred": converted(keep_io_types=True, disable_shape_infer=True),
        "onnxconverter-common, Resize kept": converted(keep_io_types=True, op_block_list=["Resize"]),
        "ONNX Runtime's converter": by_onnxruntime,
        "ultralytics, half": half,
    }
    for what, make in ways.items():
        why = "every convolution's weights are FP16, and it computes in FP16"
        yield Case(base, "FP16 graphs", what, make, None, why)
