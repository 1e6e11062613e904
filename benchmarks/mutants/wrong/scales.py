"""Every scale, zero point and type of a graph's Q/DQ spoilt, one by one and all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.mutants import bases, expected, files, ranges, surgery
from benchmarks.mutants.case import Case

FACTORS = (2.0, 4.0, 50.0, 0.5, 0.1)
Change = Callable[[Any], None]


def cases(base: str, folder: Path, file: str) -> Iterator[Case]:
    """Every change of every quantizer, and of all together."""
    model, stem = bases.graph(folder / file), file.removesuffix(".onnx")
    for tensor, scale in bases.scales_by_tensor(model).items():
        for factor in FACTORS:
            name = f"{stem} scale of {tensor} × {factor:g}"
            yield Case(
                base,
                "one activation scale",
                name,
                edited(file, scaled(tensor, factor)),
                expected.SCALES,
                "no calibration of these images gives this scale",
                rule=ruled(file, tensor, scale * factor),
            )
    weighted = [n.name or n.output[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    for label in weighted:
        for what, change in of_weight():
            why = "no weight of this layer needs these scales"
            name = f"{stem} weight scales of {label} {what}"
            yield Case(base, "one layer's weight scales", name, edited(file, at(label, change)), expected.SCALES, why)
        for what, change in of_pair():
            why = "TensorRT does not take it, or computes in FP32 or with half the range there"
            yield Case(base, "Q/DQ", f"{stem} {label} {what}", edited(file, at(label, change)), expected.QUANTIZED, why)
    for what, all_at_once in of_all():
        why = "the scales are no calibration's"
        yield Case(base, "all scales", f"{stem} {what}", edited(file, all_at_once), expected.SCALES, why)
    for what, all_at_once in of_types():
        why = "TensorRT takes symmetric INT8 only, or computes otherwise than ONNX says"
        yield Case(base, "types and zero points", f"{stem} {what}", edited(file, all_at_once), expected.QUANTIZED, why)


def edited(file: str, change: Change) -> Callable[[Path], None]:
    """That change of a file."""
    return lambda folder: files.edit_model(folder / file, change)


def ruled(file: str, tensor: str, scale: float) -> Callable[[Path, Path], tuple[str, str]]:
    """Judged by what values the tensor takes."""
    return lambda base, _folder: ranges.judge(base / file, tensor, scale)


def at(label: str, change: surgery.Change) -> Change:
    """That change at the node of this name."""

    def changed(model: Any) -> None:
        change(model, next(n for n in model.graph.node if (n.name or n.output[0]) == label))

    return changed


def activations(model: Any) -> list[Any]:
    """The constants that scale activations, each once, in the order of the graph."""
    known = files.constants(model)
    names = [n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in known]
    return [known[name] for name in dict.fromkeys(names) if name in known]


def scaled(tensor: str, factor: float) -> Change:
    """One activation's scale times a factor."""

    def change(model: Any) -> None:
        known = files.constants(model)
        node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor)
        files.set_constant(known[node.input[1]], numpy_helper.to_array(known[node.input[1]]) * factor)

    return change


def on_weight(change: Callable[[files.Array], files.Array]) -> surgery.Change:
    """A change of one layer's weight scales."""

    def changed(model: Any, node: Any) -> None:
        tensor = ranges.weight_scale(model, node)
        if tensor is None:
            raise NotImplementedError("this layer's weight is not quantized")
        files.set_constant(tensor, change(numpy_helper.to_array(tensor)))

    return changed


def of_weight() -> Iterator[tuple[str, surgery.Change]]:
    """Changes of one layer's weight scales."""
    for factor in FACTORS:
        yield f"× {factor:g}", on_weight(lambda s, f=factor: s * f)  # type: ignore[misc]
    yield "permuted", on_weight(lambda s: s[np.random.default_rng(2).permutation(len(s))] if s.ndim else s * 3)
    yield "turned round", on_weight(lambda s: s[::-1] if s.ndim else s * 3)
    yield "sorted", on_weight(lambda s: np.sort(s) if s.ndim else s * 3)
    yield "all the smallest", on_weight(lambda s: np.full_like(s, s.min() / 2))
    yield "one of them × 100", on_weight(lambda s: np.where(np.arange(s.size) == 1, s * 100, s).reshape(s.shape))


def of_pair() -> Iterator[tuple[str, surgery.Change]]:
    """Changes of the Q/DQ of one layer's input or weight."""
    yield "without Q/DQ on its input", lambda m, n: _bare(m, n, 0)
    yield "without Q/DQ on its weight", lambda m, n: _bare(m, n, 1)
    yield "Q and DQ of its input with scales of their own", lambda m, n: _apart(m, n, 0)
    yield "Q and DQ of its weight with scales of their own", lambda m, n: _apart(m, n, 1)
    yield "with a Clip between Q and DQ of its weight", _clipped
    yield "with a zero point of 5 on its input", lambda m, n: _zero_point(m, n, 0, np.int8(5))
    yield "with a zero point of -7 on its weight", lambda m, n: _zero_point(m, n, 1, np.int8(-7))
    yield "unsigned on its input", lambda m, n: _zero_point(m, n, 0, np.uint8(0))
    yield "unsigned about 128 on its input", lambda m, n: _zero_point(m, n, 0, np.uint8(128))
    yield "without a zero point on its input", lambda m, n: _no_zero_point(m, n)


def pair(model: Any, node: Any, place: int) -> tuple[Any, Any]:
    """DQ and Q before an input; Q is None for a weight that is stored as integers."""
    writers = {name: other for other in model.graph.node for name in other.output}
    other = writers.get(node.input[place])
    while other is not None and other.op_type != "DequantizeLinear":
        if other.op_type not in ("Transpose", "Identity", "Cast", "Flatten", "Reshape"):
            raise NotImplementedError("there is no Q/DQ to change")
        other = writers.get(other.input[0])
    if other is None:
        raise NotImplementedError("there is no Q/DQ to change")
    before = writers.get(other.input[0])
    return other, before if before is not None and before.op_type == "QuantizeLinear" else None


def _bare(model: Any, node: Any, place: int) -> None:
    other, before = pair(model, node, place)
    if before is None:
        raise NotImplementedError("its weight is stored as integers")
    writers = {name: writer for writer in model.graph.node for name in writer.output}
    reader = node  # itself, or the Flatten or Transpose between
    while other.output[0] not in reader.input:
        reader = writers[reader.input[place if reader is node else 0]]
    for index, name in enumerate(reader.input):
        if name == other.output[0]:
            reader.input[index] = before.input[0]


def _apart(model: Any, node: Any, place: int) -> None:
    _other, before = pair(model, node, place)
    if before is None:
        raise NotImplementedError("its weight is stored as integers")
    scale = numpy_helper.to_array(files.constants(model)[before.input[1]])
    before.input[1] = surgery.constant(model, f"{node.output[0]}_own_scale_{place}", (scale * 1.5).astype(scale.dtype))


def _clipped(model: Any, node: Any) -> None:
    _other, before = pair(model, node, 1)
    if before is None:
        raise NotImplementedError("its weight is stored as integers")
    low = surgery.constant(model, f"{node.output[0]}_low", np.int8(-127))
    high = surgery.constant(model, f"{node.output[0]}_high", np.int8(127))
    surgery.insert(model, before, ("Clip", [low, high], {}))


def _zero_point(model: Any, node: Any, place: int, value: Any) -> None:
    other, before = pair(model, node, place)
    if before is None:
        raise NotImplementedError("its weight is stored as integers")
    scale = numpy_helper.to_array(files.constants(model)[other.input[1]])
    name = surgery.constant(model, f"{node.output[0]}_zero_{place}", np.full(scale.shape, value))
    readers = [n for n, i in files.readers(model, before.output[0]) if i == 0]
    for one in (before, *readers):
        if one.op_type in ("QuantizeLinear", "DequantizeLinear"):
            one.input[:] = [*one.input[:2], name]


def _no_zero_point(model: Any, node: Any) -> None:
    _other, before = pair(model, node, 0)
    readers = [n for n, i in files.readers(model, before.output[0]) if i == 0]
    for one in (before, *readers):
        if one.op_type in ("QuantizeLinear", "DequantizeLinear"):
            one.input[:] = one.input[:2]


def of_all() -> Iterator[tuple[str, Change]]:
    """Changes of all scales together."""

    def each(change: Callable[[int, float], float]) -> Change:
        def changed(model: Any) -> None:
            for index, tensor in enumerate(activations(model)):
                array = numpy_helper.to_array(tensor)
                files.set_constant(tensor, np.full_like(array, change(index, float(array.reshape(-1)[0]))))

        return changed

    def order(change: Callable[[list[float]], list[float]]) -> Change:
        def changed(model: Any) -> None:
            found = activations(model)
            values = change([float(numpy_helper.to_array(t).reshape(-1)[0]) for t in found])
            for tensor, value in zip(found, values, strict=True):
                files.set_constant(tensor, np.full_like(numpy_helper.to_array(tensor), value))

        return changed

    def of_weights(change: Callable[[files.Array], files.Array]) -> Change:
        def changed(model: Any) -> None:
            for node in model.graph.node:
                if node.op_type in ("Conv", "Gemm", "MatMul"):
                    on_weight(change)(model, node)

        return changed

    for factor in (2.0, 4.0, 50.0, 0.25, 0.1):
        yield f"activation scales × {factor:g}", each(lambda _i, s, f=factor: s * f)  # type: ignore[misc]
    for every in (2, 3, 5, 10):
        for factor in (4.0, 50.0, 0.1):
            name = f"every {every}th activation scale × {factor:g}"
            yield name, each(lambda i, s, e=every, f=factor: s * f if i % e == 1 else s)  # type: ignore[misc]
    yield "activation scales rotated by one", order(lambda s: [*s[1:], s[0]])
    yield "activation scales rotated by five", order(lambda s: [*s[5:], *s[:5]])
    yield "activation scales turned round", order(lambda s: s[::-1])
    yield "activation scales permuted", order(lambda s: [s[i] for i in np.random.default_rng(4).permutation(len(s))])
    yield "the middle activation scale for all", order(lambda s: [float(np.median(s))] * len(s))
    yield "the largest activation scale for all", order(lambda s: [max(s)] * len(s))
    yield "1/127 for all activations", order(lambda s: [1 / 127] * len(s))
    yield "1 for all activations", order(lambda s: [1.0] * len(s))
    yield "an infinite activation scale", each(lambda i, s: np.inf if i == 3 else s)
    yield "an activation scale of 0", each(lambda i, s: 0.0 if i == 3 else s)
    yield "a negative activation scale", each(lambda i, s: -s if i == 3 else s)
    yield "an activation scale that is no number", each(lambda i, s: np.nan if i == 3 else s)
    for factor in (2.0, 8.0, 0.5):
        yield f"weight scales × {factor:g}", of_weights(lambda s, f=factor: s * f)  # type: ignore[misc]
    yield (
        "weight scales permuted within each layer",
        of_weights(lambda s: s[np.random.default_rng(6).permutation(len(s))] if s.ndim else s),
    )
    yield "weight scales rotated within each layer", of_weights(lambda s: np.roll(s, 1))


def of_types() -> Iterator[tuple[str, Change]]:
    """Types and zero points of all quantizers together."""

    def each(places: tuple[int, ...], change: Callable[[Any, Any, int], None]) -> Change:
        def changed(model: Any) -> None:
            for node in list(model.graph.node):
                if node.op_type in ("Conv", "Gemm", "MatMul"):
                    for place in places:
                        change(model, node, place)

        return changed

    yield "all activations unsigned", each((0,), lambda m, n, p: _zero_point(m, n, p, np.uint8(0)))
    yield "all activations unsigned about 128", each((0,), lambda m, n, p: _zero_point(m, n, p, np.uint8(128)))
    yield "all activations with a zero point of 3", each((0,), lambda m, n, p: _zero_point(m, n, p, np.int8(3)))
    yield "all weights with a zero point of 1", each((1,), lambda m, n, p: _zero_point(m, n, p, np.int8(1)))
    yield "no zero points on activations", each((0,), lambda m, n, p: _no_zero_point(m, n))
    yield "all weights without Q/DQ", each((1,), _bare)
    yield "all inputs without Q/DQ", each((0,), _bare)
    yield "a Clip between Q and DQ of every weight", each((1,), lambda m, n, p: _clipped(m, n))
    yield "Q and DQ of every input apart", each((0,), _apart)

    def outputs_only(model: Any) -> None:
        """Quantized what convolutions write in the place of what they read."""
        for node in list(model.graph.node):
            if node.op_type == "Conv":
                _bare(model, node, 0)
                other = surgery.constant(model, f"{node.output[0]}_after", np.float32(0.05))
                zero = surgery.constant(model, f"{node.output[0]}_none", np.int8(0))
                surgery.insert(
                    model, node, ("QuantizeLinear", [other, zero], {}), ("DequantizeLinear", [other, zero], {})
                )

    def plain(model: Any) -> None:
        """All Q/DQ left out."""
        for node in list(model.graph.node):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                files.skip(model, node, node.input[0])

    def eighth(model: Any) -> None:
        """FP8 in the place of INT8."""
        for tensor in (
            *model.graph.initializer,
            *(n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"),
        ):
            if tensor.data_type == onnx.TensorProto.INT8 and not np.any(numpy_helper.to_array(tensor)):
                name, dims = tensor.name, list(tensor.dims)
                count = int(np.prod(dims)) if dims else 1
                kind = onnx.TensorProto.FLOAT8E4M3FN
                tensor.CopyFrom(helper.make_tensor(name, kind, dims, [0.0] * count))
        model.opset_import[0].version = max(19, model.opset_import[0].version)

    yield "outputs for inputs quantized", outputs_only
    yield "all Q/DQ left out", plain
    yield "FP8 for INT8", eighth
