"""What a file computes beside its network: written otherwise it agrees, altered it does not, and is told by what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.suite.answers import right_networks, wrong_networks
from tests.suite.answers.right_networks import Rewritten
from tests.suite.answers.wrong_networks import Altered
from trtverify.fixtures.answers.fault import Fault, locate
from trtverify.fixtures.answers.function import Compared, candidates, compare, probes
from trtverify.fixtures.answers.training import LEAST_TRACE, as_drawn, trace
from trtverify.fixtures.computed.plain import plain
from trtverify.fixtures.networks import imagenet
from trtverify.fixtures.networks.datasets import find_photos
from trtverify.fixtures.networks.described import forms
from trtverify.fixtures.networks.drawing import plain_shape
from trtverify.fixtures.networks.models import BY_NAME, canonical

Judge = Callable[[str, Callable[[Any], None]], tuple[Compared, Callable[[], Fault]]]


@pytest.fixture
def judge(labs: Callable[[str], Path], tmp_path: Path) -> Judge:
    """`judge(model, cut)` makes a cut into the labs' own file and compares what it computes then."""

    def judged(name: str, cut: Callable[[Any], None]) -> tuple[Compared, Callable[[], Fault]]:
        model, path = BY_NAME[name], tmp_path / f"{name}.onnx"
        proto = onnx.load(str(labs(model.lab) / model.file))
        cut(proto)
        onnx.save(proto, str(path))
        graph, photos = plain(path, model.output[0]), find_photos(None)
        assert photos is not None
        compared = compare(graph, list(candidates(graph, forms(model))), model, probes(photos.batch(model, 2, 1), 1))
        return compared[0], lambda: locate(graph, compared)

    return judged


def cases(of: tuple[Any, ...]) -> list[Any]:
    """Parameters with names to read, the slow ones marked."""
    return [
        pytest.param(
            case,
            id=f"{case.model}-{case.name}".replace(" ", "-").replace("×", "x"),
            marks=[pytest.mark.slow] if case.slow else [],
        )
        for case in of
    ]


@pytest.mark.parametrize("written", cases(right_networks.EVERY))
def test_however_it_is_written_a_network_is_itself(judge: Judge, written: Rewritten) -> None:
    compared, _fault = judge(written.model, written.cut)
    assert compared.agrees, f"{compared.off:.3g} of {compared.limit:.3g}"


@pytest.mark.parametrize("altered", cases(wrong_networks.EVERY))
def test_what_was_altered_is_told(judge: Judge, altered: Altered) -> None:
    compared, fault = judge(altered.model, altered.cut)
    assert not compared.agrees
    told = fault()
    assert altered.says in f"{told.expected}\n{told.found}", told


def test_layers_are_told_apart_by_what_they_read_and_who_reads_them() -> None:
    """Else two layers of one shape could be taken for each other, and right work fail."""
    for model in BY_NAME.values():
        for form in forms(model):
            users: dict[str, Counter[Any]] = {name: Counter() for name in (*form.layers, "input")}
            for name, sources in form.sources.items():
                for source in sources:
                    users[source][plain_shape(form.layers[name].weight)] += 1
            keys = {
                (plain_shape(layer.weight), form.sources[name], tuple(sorted(users[name].items())))
                for name, layer in form.layers.items()
            }
            assert len(keys) == len(form.layers), form.name


def test_descriptions_have_the_weights_that_frameworks_have() -> None:
    for model in BY_NAME.values():
        described = Counter(canonical(layer.weight) for layer in forms(model)[0].layers.values())
        assert model.weight_shapes() - described <= Counter([(1, 16, 1, 1)]), model.name
        assert not described - model.weight_shapes(), model.name


def test_functions_that_mean_billions_of_nodes_are_refused(tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("f0", ["input"], ["output"], domain="own")],
            "bomb",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    opsets = list(model.opset_import)
    for level in range(40):
        inner = {"op_type": f"f{level + 1}", "domain": "own"} if level < 39 else {"op_type": "Relu"}
        body = [helper.make_node(inputs=[a], outputs=[b], **inner) for a, b in (("x", "y"), ("y", "z"))]
        model.functions.append(helper.make_function("own", f"f{level}", ["x"], ["z"], body, opsets))
    onnx.save(model, str(tmp_path / "bomb.onnx"))
    with pytest.raises(ValueError, match="written out, its functions are"):
        plain(tmp_path / "bomb.onnx", "output")
    model.functions[39].node[0].op_type, model.functions[39].node[0].domain = "f0", "own"
    onnx.save(model, str(tmp_path / "circle.onnx"))
    with pytest.raises(ValueError, match="calls itself"):
        plain(tmp_path / "circle.onnx", "output")


def test_a_trace_of_training_is_seen_and_none_is_invented(labs: Callable[[str], Path]) -> None:
    for lab, name in (("lab1", "resnet50"), ("lab2", "yolov8n"), ("lab3", "mobilenet_v2")):
        graph = plain(labs(lab) / f"{name}.onnx", "output")
        (form, *_others) = candidates(graph, forms(BY_NAME[name]))
        assert trace(layer.weight for layer in form.layers.values()) < LEAST_TRACE / 2, name
    rng = np.random.default_rng(0)
    drawn = [
        rng.uniform(-1, 1, (64, 32, 3, 3)).astype(np.float32) * rng.uniform(0.1, 9, (64, 1, 1, 1)) for _ in range(50)
    ]
    assert trace(drawn) < LEAST_TRACE / 2
    assert trace([drawn[0] + 0.2 * np.roll(drawn[0], 1, axis=-1)]) > LEAST_TRACE
    assert trace([drawn[0] * rng.uniform(0.8, 1.2, (1, 32, 1, 1))]) > LEAST_TRACE


def test_a_large_stage_as_it_was_drawn_among_trained_ones_is_named() -> None:
    rng = np.random.default_rng(0)

    def network(**trained: float) -> dict[str, np.ndarray[Any, Any]]:
        widths = {"layer1": 32, "layer2": 64, "layer3": 128, "layer4": 256}
        drawn = {name: rng.normal(size=(width, width, 3, 3)).astype(np.float32) for name, width in widths.items()}
        some = {f"{name}.0.conv1": w + trained[name] * np.roll(w, 1, axis=-1) for name, w in drawn.items()}
        return {**some, "fc": rng.normal(size=(10, 256)).astype(np.float32)}

    plainly = dict.fromkeys(("layer1", "layer2", "layer3", "layer4"), 1.0)
    assert as_drawn(network(**plainly)) == ()
    for fresh in (("layer4",), ("layer3",), ("layer3", "layer4")):
        assert as_drawn(network(**{**plainly, **dict.fromkeys(fresh, 0.0)})) == fresh
    assert as_drawn(network(**{**plainly, "layer1": 0.0})) == ()  # too small to tell by
    assert as_drawn(network(**dict.fromkeys(plainly, 0.02))) == ()  # a very short training
    assert as_drawn(network(**{**dict.fromkeys(plainly, 0.02), "layer4": 1.0})) == ()
    assert as_drawn(network(**dict.fromkeys(plainly, 0.0))) == ()


def test_photographs_carry_their_class_in_their_name_or_folder() -> None:
    assert len(imagenet.numbers()) == 1000
    assert list(imagenet.numbers()) == sorted(imagenet.numbers())
    assert imagenet.class_of(Path("n01440764_tench.JPEG")) == 0
    assert imagenet.class_of(Path("photos/n01443537/1.jpg")) == 1
    assert imagenet.class_of(Path("n15075141_toilet_tissue.jpg")) == 999
    for name in ("cat.jpg", "n0144076_short.jpg", "n014407640.jpg", "n00000000_no_class.jpg"):
        assert imagenet.class_of(Path(name)) is None
    files = [Path(f"n01440764_{i}.jpg") for i in range(90)] + [Path(f"n01443537_{i}.jpg") for i in range(5)]
    drawn = imagenet.drawn([*files, Path("cat.jpg")], 20, 0)
    assert Counter(number for _path, number in drawn) == {0: 15, 1: 5}
