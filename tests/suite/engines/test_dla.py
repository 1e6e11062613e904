"""Lab 3's placement and layer information, in every spelling that builders and students use; and false ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from trtverify.fixtures.backends.tensorrt.inspector import parse as read_layers
from trtverify.fixtures.engines import dla, stated
from trtverify.fixtures.engines.layer_information import names_only, tell
from trtverify.fixtures.words.terms import Precision

CONVS = ["/a/Conv", "/b/Conv", "/c/Conv"]
EVERY = ["/a/Conv", "/a/Relu", "/b/Conv", "/c/Conv", "/Flatten"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three convolutions, one with a Relu, and a Flatten, which no DLA takes."""
    weight = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t0"], "/a/Conv"),
        helper.make_node("Relu", ["t0"], ["t1"], "/a/Relu"),
        helper.make_node("Conv", ["t1", "w"], ["t2"], "/b/Conv"),
        helper.make_node("Conv", ["t2", "w"], ["t3"], "/c/Conv"),
        helper.make_node("Flatten", ["t3"], ["y"], "/Flatten"),
    ]
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 4, 8, 8]), ("y", [1, 256]))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def document(**changes: Any) -> dict[str, Any]:
    layers = [{"name": name, "device": "GPU" if name == "/Flatten" else "DLA"} for name in EVERY]
    return {"layers": layers, "crossings": 1, **changes}


def problems(model: Path, given: dict[str, Any]) -> str:
    placement = dla.parse(given)
    return "; ".join(dla.contradictions(placement, dla.over(model, placement)))


def layers_of(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "device": device} for name, device in pairs]


RIGHT = {
    "as the lab": document(),
    "another order": document(layers=document()["layers"][::-1]),
    "other spellings": document(layers=layers_of(*((n, " gpu" if n == "/Flatten" else "DLA_core_0") for n in EVERY))),
    "by output": document(layers=layers_of(("t0", "DLA"), ("t1", "DLA"), ("t2", "DLA"), ("t3", "DLA"), ("y", "GPU"))),
    "fused": document(
        layers=layers_of(("/a/Conv + /a/Relu", "dla"), ("/b/Conv || /c/Conv", "dla"), ("/Flatten", "gpu"))
    ),
    "a builder's": document(
        method="trtexec log",
        layers=layers_of(
            ("{ForeignNode[/a/Conv.../c/Conv]}", "DLA"), ("Reformatting CopyNode", "GPU"), ("/Flatten", "GPU")
        ),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_placement_in_any_spelling(name: str, model: Path) -> None:
    assert problems(model, RIGHT[name]) == ""
    placement = dla.parse(RIGHT[name])
    laid = dla.over(model, placement)
    assert laid.devices == {node: "GPU" if node == "/Flatten" else "DLA" for node in EVERY}
    assert placement.crossings in dla.crossings(model, laid.devices)
    assert dla.forbidden(laid, dla.analyse(model)) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (document(layers=[*document()["layers"], *layers_of(("/d/Conv", "DLA"))]), "does not have: /d/Conv"),
        (document(layers=[*document()["layers"], *layers_of(("/a/Conv + /a/Relu", "GPU"))]), "on both devices"),
        (document(layers=[{"name": "/a/Conv", "device": "DLA", "operator": "Gemm"}]), "another operator"),
        (document(devices={"DLA": 5}), "devices:"),
        (document(crossing_tensors=["t3", "t1"]), "crossing_tensors names 2"),
        (document(method="builder", layers=layers_of(("/d/Conv + /a/Conv", "DLA"))), "does not have"),
    ],
    ids=["unknown", "torn", "operator", "devices", "tensors", "fused with an unknown"],
)
def test_a_false_placement_is_told(given: dict[str, Any], says: str, model: Path) -> None:
    assert says in problems(model, given)


def test_what_the_hardware_cannot_do_no_builder_did(model: Path) -> None:
    given = document(method="builder", layers=layers_of(*((name, "DLA") for name in EVERY)))
    placement = dla.parse(given)
    assert placement.built
    assert dla.forbidden(dla.over(model, placement), dla.analyse(model)) == ["/Flatten"]
    assert not dla.parse({**given, "method": "by hand"}).built
    assert not dla.parse({**given, "dla_cores": 0}).built


TABLE = stated.TABLE.read_bytes().replace(b"\r\n", b"\n")
DEFINED = {"definitions": {"loadables": stated.known_table()["definitions"]["loadables"]}}
GROUP = ["/a/Conv", "/a/Relu", "/b/Conv", "/c/Conv"]


def all_stated(model: Path, given: dict[str, Any]) -> str:
    placement = dla.parse(given)
    laid = dla.over(model, placement)
    told = [*stated.of_model(placement, model), *stated.of_table(placement), *stated.of_method(placement)]
    return "; ".join([*told, *stated.of_crossings(placement, model, laid)])


def by_rule(rule: str, **changes: Any) -> dict[str, Any]:
    return document(layers=[{**layer, "rule": rule} for layer in document()["layers"]], **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sha256": None, "model": None, "table": None, "loadables": None, "loadable_limit": None, "dla_cores": None},
        {"sha256": "", "table": "dla_support.toml", "loadable_layers": None, "crossing_tensors": ["t3"]},
        {"model": "My MobileNetV2 (final).onnx"},
        {"model": r"C:\work\mobilenet_v2.onnx"},
        {"table": {"sha256": hashlib.sha256(TABLE).hexdigest().upper(), "device": "DLA of Jetson Orin, FP16"}},
        {
            "table": {
                "sha256": hashlib.sha256(TABLE.replace(b"\n", b"\r\n")).hexdigest(),
                "device": "Jetson AGX Orin 64GB",
            }
        },
        {"loadable_limit": 16, "loadables": 1, "loadable_layers": [GROUP[::-1]]},
        {"loadable_limit": "16", "loadables": "1", "loadable_layers": ["/a/Conv + /a/Relu + /b/Conv || /c/Conv"]},
        {"loadable_limit": 32, "dla_cores": 2, "loadables": [GROUP]},
        {"method": "trtexec log", "loadables": 3, "loadable_layers": [["a"], ["b"], ["c"]], "crossing_tensors": ["u"]},
        {"method": "builder", "dla_cores": 2},
    ],
    ids=range(12),
)
def test_what_is_true_or_not_stated_contradicts_nothing(changes: dict[str, Any], model: Path) -> None:
    assert all_stated(model, document(**changes)) == ""


def test_the_models_own_hash_is_true(model: Path) -> None:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for said in (digest, digest.upper(), f"sha256:{digest}", digest[:12]):
        assert all_stated(model, document(sha256=said)) == ""
    assert all_stated(model, document(model={"file": "mobilenet_v2.onnx", "sha256": digest})) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sha256": "0" * 64}, "sha256: 000000000000…, where model.onnx has"),
        ({"model_sha256": "f" * 64}, "where model.onnx has"),
        ({"model": {"file": "a.onnx", "sha256": "f" * 64}}, "where model.onnx has"),
        ({"sha256": 7}, "sha256: 7"),
        ({"model": "labs/resnet50.onnx"}, "model: labs/resnet50.onnx"),
        ({"model": "ResNet-50"}, "model: ResNet-50"),
        ({"table": {"sha256": "0" * 64}}, "table: sha256 000000000000…"),
        ({"table": {"device": "DLA of Jetson Nano"}}, "table: for DLA of Jetson Nano"),
        ({"table": {"device": "DLA of Jetson Orin, INT8"}}, "table: for"),
        ({"loadable_limit": 999}, "loadable_limit: 999"),
        ({"loadable_limit": 32}, "loadable_limit: 32"),
        ({"loadable_limit": True}, "loadable_limit: True"),
        ({"loadables": 5}, "loadables: 5, where the placement gives 1"),
        ({"loadables": 0}, "loadables: 0"),
        ({"loadables": True}, "loadables: True"),
        ({"loadables": "many"}, "loadables: 'many'"),
        ({"loadables": 1, "loadable_layers": [["/a/Conv"]]}, "loadable_layers: 1"),
        ({"loadable_layers": [GROUP, ["/Flatten"]]}, "loadable_layers: 2"),
        ({"crossing_tensors": ["t1"]}, "crossing_tensors: t1"),
        ({"method": "builder", "loadables": 5}, "loadables: 5, of 4 layers"),
        ({"method": "builder", "loadables": 0}, "loadables: 0, of 4 layers"),
        ({"method": "builder", "loadables": 2, "loadable_layers": [GROUP]}, "where loadable_layers lists 1"),
        ({"method": "builder", "loadables": 2, "table": DEFINED}, "where the placement gives 1"),
    ],
    ids=range(23),
)
def test_what_is_stated_falsely_is_told(changes: dict[str, Any], says: str, model: Path) -> None:
    assert says in all_stated(model, document(**changes))


def test_who_placed_the_layers_is_told_by_their_rules(model: Path) -> None:
    assert "method: builder" in all_stated(model, by_rule("convolution", method="builder", dla_cores=2))
    assert "5 layers have the rule builder" in all_stated(model, by_rule("builder"))
    assert all_stated(model, by_rule("builder", method="builder", dla_cores=2)) == ""
    assert all_stated(model, by_rule("none of your business", method="builder")) == ""
    assert all_stated(model, by_rule("convolution", method="builder", dla_cores=0)) == ""
    mixed = by_rule("convolution", method="builder")
    mixed["layers"][1]["rule"] = "builder"
    assert all_stated(model, mixed) == "", "the lab asks the table where the builder knows no such layer"


def test_loadables_end_where_execution_leaves_the_dla(tmp_path: Path) -> None:
    """A DLA node that waits for the GPU is in another loadable than one that it also reads, which ran before."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        helper.make_node("Relu", ["a"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["y"], "c"),
        helper.make_node("Relu", ["x"], ["z"], "d"),
    ]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xyz"]
    path = tmp_path / "model.onnx"
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))

    def groups(gpu: str) -> list[list[str]]:
        (found,) = set(stated.loadables(path, {name: "GPU" if name in gpu else "DLA" for name in "abcd"}))
        return sorted(map(sorted, found))

    assert groups("b") == [["a"], ["c"], ["d"]]
    assert groups("a") == [["b", "c"], ["d"]]
    assert groups("") == [["a", "b", "c"], ["d"]]
    assert groups("abcd") == []


@pytest.mark.parametrize("device", ["NPU", "DLAGPU", "", None, 1])
def test_another_device_is_none(device: Any) -> None:
    with pytest.raises(ValueError, match="a device, DLA or GPU"):
        dla.parse(document(layers=[{"name": "/a/Conv", "device": device}]))


KERNEL = "sm80_xmma_fprop_implicit_gemm_{}_nhwckrsc_nhwc_tilesize128x64x64_tensor16x8x16"
HALF, SINGLE = KERNEL.format("f16f16_f16f16_f16"), KERNEL.format("f32f32_f32f32_f32")


def entry(name: str, kernel: str = HALF, **changes: Any) -> dict[str, Any]:
    tensor = {"Name": "t", "Dimensions": [1, 4, 8, 8], "Format/Datatype": "Channel major FP16 format"}
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [tensor],
        "Outputs": [tensor],
        "TacticName": kernel,
        **changes,
    }


def told(*entries: Any) -> Any:
    return tell(read_layers(json.dumps({"Layers": list(entries), "Bindings": []})).layers, CONVS, EVERY)


def test_kernels_prove_and_formats_do_not() -> None:
    whole = told(entry("/a/Conv + /a/Relu"), entry("/b/Conv || /c/Conv"))
    assert (whole.missing, whole.by_kernel, whole.dense, whole.share(Precision.FP16)) == ((), 3, 3, 1.0)
    by_format = told(*(entry(name, kernel="") for name in CONVS))
    assert (by_format.by_kernel, by_format.dense) == (0, 3)
    assert told(*(entry(name, SINGLE) for name in CONVS)).share(Precision.FP16) == 0


def test_an_entry_again_counts_once() -> None:
    again = told(*(entry("/a/Conv") for _time in range(50)), entry("/b/Conv", SINGLE), entry("/c/Conv", SINGLE))
    assert again.share(Precision.FP16) == pytest.approx(1 / 3)
    both = told(*(entry(name, kernel) for name in CONVS for kernel in (HALF, SINGLE)))
    assert both.precisions == {}


def test_layers_listed_again_are_told() -> None:
    once = [entry("/a/Conv"), entry("/b/Conv || /c/Conv"), entry("/a/Conv [profile 1]")]
    moves = [
        entry("Reformatting CopyNode for Input Tensor 0 to /a/Conv", "", LayerType="Reformat", ParameterType="")
    ] * 2
    assert told(*once, *moves).repeated == ()
    assert told(*once, entry("/a/Conv")).repeated == ("/a/Conv",)
    assert told("/a/Conv", "/b/Conv", "/a/Conv", "Reformatting to /b/Conv", "Reformatting to /b/Conv").repeated == (
        "/a/Conv",
    )


def test_kernels_that_their_operands_belie() -> None:
    single = {"Name": "t", "Dimensions": [1, 4, 8, 8], "Format/Datatype": "Row major linear FP32"}
    wide: dict[str, Any] = {"Inputs": [single], "Weights": {"Type": "Float", "Count": 16}}
    found = told(entry("/a/Conv", **wide), *(entry(name) for name in CONVS[1:]))
    assert (found.belied, found.share(Precision.FP16)) == (("/a/Conv",), pytest.approx(2 / 3))
    assert told(*(entry(name, SINGLE, **wide) for name in CONVS)).belied == ()


def test_convolutions_left_out_are_missed() -> None:
    assert told(entry("/a/Conv"), entry("/b/Conv")).missing == ("/c/Conv",)
    assert told(*(entry(f"/another{name}") for name in CONVS)).missing == tuple(CONVS)


def test_dynamic_shapes_and_compiled_regions_are_read() -> None:
    nothing = {"Name": "t", "Dimensions": "N/A due to dynamic shapes", "Format/Datatype": "N/A due to dynamic shapes"}
    dynamic = told(*(entry(name, Inputs=[nothing], Outputs=[nothing]) for name in CONVS))
    assert (dynamic.missing, dynamic.share(Precision.FP16)) == ((), 1.0)
    region = entry("{ForeignNode[/a/Conv.../c/Conv]}", "", LayerType="Myelin", ParameterType="")
    assert told(region).missing == ()
    metadata = "\x1e".join(f"[ONNX Layer: {name}]" for name in CONVS)
    assert told(entry("__myl_Conv_myl0_3", LayerType="kgen", ParameterType="", Metadata=metadata)).missing == ()
    named = [entry(f"__myl_{index}", Metadata=f"[ONNX Layer: {name}]") for index, name in enumerate(CONVS)]
    assert told(*named).share(Precision.FP16) == 1.0


def test_names_alone_are_known_as_such() -> None:
    layers = read_layers(json.dumps({"Layers": CONVS, "Bindings": ["x", "y"]})).layers
    assert names_only(layers)
    assert tell(layers, CONVS, EVERY).missing == ()
    assert not names_only(read_layers(json.dumps({"Layers": [entry("/a/Conv")]})).layers)
