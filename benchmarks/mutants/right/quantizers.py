"""Right INT8 graphs, caches and images: by other tools, recipes and ways of writing Q/DQ."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.mutants import bases, files, ranges, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.wrong import scales

Edit = Callable[[Any], Any]


def graphs(base: str, file: str) -> Iterator[Case]:
    """A quantized graph written otherwise, or with scales that other calibrations give."""
    stem = file.removesuffix(".onnx")
    for what, change in forms():
        why = "the same scales, written otherwise"
        yield Case(base, "Q/DQ written otherwise", f"{stem} {what}", edited(file, change), None, why, file, same=True)
    for what, change in recipes():
        why = "scales as another calibration chooses them, of the same weights"
        yield Case(base, "other scales", f"{stem} {what}", edited(file, change), None, why)


def edited(file: str, change: Edit) -> Callable[[Path], None]:
    """That change of a file; what a student records, he records of it."""

    def make(folder: Path) -> None:
        files.edit_model(folder / file, change)
        if file in bases.GRAPHS["lab5"]:
            bases.record(folder, bases.model_of(file))

    return make


def constants_as(write: Callable[[Any, str, Any], None]) -> Edit:
    """Every scale written in another form."""

    def change(model: Any) -> None:
        known = files.constants(model)
        names = dict.fromkeys(
            n.input[1] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")
        )
        for name in names:
            write(model, name, numpy_helper.to_array(known[name]))

    return change


def remove(model: Any, name: str) -> None:
    """Take out a constant, wherever it stands."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            model.graph.initializer.remove(tensor)
            return
    node = next(n for n in model.graph.node if n.output[0] == name)
    model.graph.node.remove(node)


def as_value_float(model: Any, name: str, value: Any) -> None:
    """`Constant(value_float | value_floats)`, as onnxscript writes it."""
    remove(model, name)
    if value.ndim == 0:
        made = helper.make_node("Constant", [], [name], f"{name}_node", value_float=float(value))
    else:
        floats = [float(v) for v in value.reshape(-1)]
        made = helper.make_node("Constant", [], [name], f"{name}_node", value_floats=floats)
    model.graph.node.insert(0, made)


def behind(operator: str, **attributes: Any) -> Callable[[Any, str, Any], None]:
    """The scale behind an operator that leaves it as it is."""

    def write(model: Any, name: str, value: Any) -> None:
        remove(model, name)
        source = surgery.constant(model, f"{name}_stored", value)
        model.graph.node.insert(0, helper.make_node(operator, [source], [name], f"{name}_{operator}", **attributes))

    return write


def as_double(model: Any, name: str, value: Any) -> None:
    """Stored in double precision, and cast."""
    remove(model, name)
    source = surgery.constant(model, f"{name}_stored", value.astype(np.float64))
    cast = helper.make_node("Cast", [source], [name], f"{name}_Cast", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)


def stored_int8(model: Any) -> None:
    """Weights stored as INT8 behind a DequantizeLinear alone."""
    known = files.constants(model)
    for node in list(model.graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in known:
            continue
        weight, scale = (numpy_helper.to_array(known[name]) for name in node.input[:2])
        by_channel = scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale
        stored = np.clip(np.rint(weight / by_channel), -128, 127).astype(np.int8)
        source, name = node.input[0], node.output[0]
        model.graph.node.remove(node)
        if not files.readers(model, source):
            remove(model, source)
        model.graph.initializer.append(numpy_helper.from_array(stored, name))


def no_zero_points(model: Any) -> None:
    """Opset 21: `output_dtype` says INT8, and no zero points are written."""
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            del node.input[2:]
        if node.op_type == "QuantizeLinear":
            surgery.assign(node, output_dtype=onnx.TensorProto.INT8)


def one_zero_point(model: Any) -> None:
    """All per-tensor quantizers share one zero point."""
    known = files.constants(model)
    name = surgery.constant(model, "the_zero_point", np.int8(0))
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            scale = known.get(node.input[1])
            if scale is not None and not scale.dims:
                node.input[2] = name


def own_pairs(model: Any) -> None:
    """Each reader of a DequantizeLinear has one of its own."""
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear"]:
        readers = files.readers(model, node.output[0])
        for number, (reader, index) in enumerate(readers[1:]):
            output = f"{node.output[0]}_{number}"
            made = helper.make_node("DequantizeLinear", list(node.input), [output], f"{node.name}_{number}")
            made.attribute.extend(node.attribute)
            reader.input[index] = output
            model.graph.node.insert(list(model.graph.node).index(node), made)


def named_zero_points(model: Any) -> None:
    """Zero points behind Identity."""
    known = files.constants(model)
    names = {n.input[2] for n in model.graph.node if n.op_type.endswith("quantizeLinear") and len(n.input) > 2}
    for name in sorted(names & set(known)):
        behind("Identity")(model, name, numpy_helper.to_array(known[name]))


def forms() -> Iterator[tuple[str, Edit]]:
    """The same quantization in other words."""
    floats, identities = constants_as(as_value_float), constants_as(behind("Identity"))
    yield "scales as value_float and value_floats", floats
    yield "scales behind Cast", constants_as(behind("Cast", to=onnx.TensorProto.FLOAT))
    yield "scales behind Identity", identities
    yield "scales in double precision, cast", constants_as(as_double)
    yield "zero points behind Identity", named_zero_points
    yield "weights stored as INT8", stored_int8
    yield "weights stored as INT8, scales as value_float", surgery.in_turn(stored_int8, floats)
    yield "no zero points, output_dtype of opset 21", in_opset_21(no_zero_points)
    both = surgery.in_turn(no_zero_points, identities)
    yield "no zero points, output_dtype, scales behind Identity", in_opset_21(both)
    yield "one zero point for all", one_zero_point
    yield "a DequantizeLinear for each reader", own_pairs
    yield "each reader its own, one zero point for all", surgery.in_turn(one_zero_point, own_pairs)


def in_opset_21(change: Edit) -> Edit:
    """That change after moving to opset 21."""

    def changed(model: Any) -> Any:
        moved = onnx.version_converter.convert_version(model, 21)
        change(moved)
        return moved

    return changed


def times(factor: float, spread: float = 0.0) -> Edit:
    """Activation scales times a factor, each a little different."""

    def change(model: Any) -> None:
        rng = np.random.default_rng(int(factor * 100))
        for tensor in scales.activations(model):
            array = numpy_helper.to_array(tensor)
            files.set_constant(tensor, array * factor * np.exp(rng.normal(0, spread)))

    return change


def power_of_two(model: Any) -> None:
    """Every activation scale a power of two, at least as wide."""
    for tensor in scales.activations(model):
        array = numpy_helper.to_array(tensor)
        files.set_constant(tensor, 2.0 ** np.ceil(np.log2(array)))


def per_tensor(model: Any) -> None:
    """One scale for all channels of a weight: the largest, as per-tensor quantization chooses it."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            tensor = ranges.weight_scale(model, node)
            if tensor is not None and surgery.weight_of(model, node).data_type == onnx.TensorProto.FLOAT:
                array = numpy_helper.to_array(tensor)
                files.set_constant(tensor, np.full_like(array, array.max()))


def tighter_weights(model: Any) -> None:
    """Weight scales that cut a tenth, as those of least squared error do."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            tensor = ranges.weight_scale(model, node)
            if tensor is not None and surgery.weight_of(model, node).data_type == onnx.TensorProto.FLOAT:
                files.set_constant(tensor, numpy_helper.to_array(tensor) * 0.9)


def recipes() -> Iterator[tuple[str, Edit]]:
    """Scales that other good calibrations give."""
    for factor in (0.8, 0.9, 1.1, 1.2):
        yield f"activation scales × {factor:g}", times(factor)
    yield "activation scales 0.9, each a little different", times(0.9, 0.05)
    yield "activation scales a little different", times(1.0, 0.08)
    yield "activation scales powers of two", power_of_two
    yield "weights per tensor", per_tensor
    yield "weight scales cut by a tenth", tighter_weights
    yield "activations divided by 128 in the place of 127", times(127 / 128)


def tools(base: str) -> Iterator[Case]:
    """Lab 4's INT8 graph by ONNX Runtime's quantizer in its ways, each from the images handed in."""
    from onnxruntime.quantization import CalibrationMethod

    ways: dict[str, dict[str, Any]] = {
        "MinMax": {"calibrate_method": CalibrationMethod.MinMax},
        "Entropy": {"calibrate_method": CalibrationMethod.Entropy},
        "Percentile": {"calibrate_method": CalibrationMethod.Percentile},
        "per tensor": {"per_channel": False},
        "moving average": {"extra_options": {"CalibMovingAverage": True}},
        "residual sums too": {"op_types_to_quantize": ["Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool"]},
        "weights without Q": {"extra_options": {"AddQDQPairToWeight": False}},
        "shared pairs": {"extra_options": {"DedicatedQDQPair": False}},
        "convolutions only": {"op_types_to_quantize": ["Conv"]},
    }
    for name, options in ways.items():
        for count in (8, 16, 32):
            why = "symmetric INT8 from real photographs, as the course's command asks"

            def make(folder: Path, count: int = count, options: dict[str, Any] = options) -> None:
                pictures = bases.images(folder)[:count]
                bases.quantize(folder / "resnet50.onnx", pictures, folder / "resnet50_int8.onnx", **dict(options))

            yield Case(base, "by ONNX Runtime's quantizer", f"{name}, {count} images", make, None, why)


HEADERS = (
    "TRT-100300-EntropyCalibration2",
    "TRT-8600-EntropyCalibration2",
    "TRT-8503-EntropyCalibration2",
    "TRT-101602-EntropyCalibration2",
    "TRT-100300-MinMaxCalibration",
    "TRT-8600-MinMaxCalibration",
    "TRT-100300-EntropyCalibration",
    "TRT-8XXX-EntropyCalibration2",
)


def caches(base: str) -> Iterator[Case]:
    """Caches as other versions and calibrators write them, sealed."""
    for header in HEADERS:
        for factor, spread in ((1.0, 0.0), (0.7, 0.1), (0.5, 0.2)):
            if "MinMax" in header and factor < 1:
                continue
            what = f"{header}, scales × {factor:g}" + (f" ± {spread:.0%}" if spread else "")
            why = "a calibration of this model from these images, by another version or calibrator"
            yield Case(base, "caches", what, cache(header, factor, spread), None, why, engines=False)
    yield Case(base, "caches", "with tensors that TensorRT adds", cache(HEADERS[0], 0.9, 0.0, added=True), None,
               "TensorRT names layers of its own")  # fmt: skip


def cache(header: str, factor: float, spread: float, added: bool = False) -> Callable[[Path], None]:
    """The cache that lies there with that header, and its scales times a factor."""

    def make(folder: Path) -> None:
        path = folder / "resnet50_int8.cache"
        rng = np.random.default_rng(5)
        lines = [header]
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            name, _colon, bits = line.rpartition(": ")
            (scale,) = struct.unpack(">f", bytes.fromhex(bits))
            lines.append(f"{name}: {struct.pack('>f', scale * factor * np.exp(rng.normal(0, spread))).hex()}")
        if added:
            lines += ["(Unnamed Layer* 7) [ElementWise]_output: 3c8f1a00", "(Unnamed Layer* 9) [Constant]_output: 0"]
        files.write(path, "\n".join([*lines, ""]))
        bases.seal(folder)
        version, algorithm = header.split("-")[1:]
        files.edit_json(folder / "resnet50_int8.cache.json", lambda d: d.update(tensorrt=version, algorithm=algorithm))

    return make
