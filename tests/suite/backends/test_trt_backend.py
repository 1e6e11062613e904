"""The `tensorrt` backend beside its builds: which regime, whether it is there, which plans it takes, what it logs."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.backends.tensorrt import backend as trt
from trtverify.fixtures.backends.tensorrt import network, strong, weak
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.words.terms import BuildOptions, Engine, Precision


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ((8, 6, 0), None, weak),
        ((10, 3, 0), None, weak),
        ((10, 3, 0), True, strong),
        ((11, 0, 0), None, strong),
        ((11, 0, 0), False, "no weakly typed networks"),
        ((8, 6, 0), True, "no strongly typed networks"),
    ],
)
def test_the_regime_follows_the_version(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], wanted: bool | None, expected: Any
) -> None:
    found = types.SimpleNamespace(__version__=".".join(map(str, version)))
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    backend = TensorRTBackend(strongly_typed=wanted)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            backend.version()
    else:
        assert backend.version() == f"TensorRT {found.__version__} ({expected.NAME})"


@pytest.fixture
def ask_anew() -> Any:
    trt._problem.cache_clear()
    yield
    trt._problem.cache_clear()


@pytest.mark.usefixtures("ask_anew")
def test_without_tensorrt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorrt" else object())
    monkeypatch.setattr(trt, "gpu_name", lambda: "NVIDIA H100")
    assert TensorRTBackend().availability() == "tensorrt is not installed: pip install -r requirements-tensorrt.txt"


@pytest.mark.usefixtures("ask_anew")
def test_without_a_gpu_it_does_not_only_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorrt" else object())
    monkeypatch.setattr(trt, "gpu_name", lambda: None)
    assert "of no use without an NVIDIA GPU" in str(TensorRTBackend().availability())


@pytest.mark.usefixtures("ask_anew")
def test_without_a_gpu_tensorrt_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(trt, "device_problem", lambda: "no driver")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert TensorRTBackend().availability() == "no driver"
    assert TensorRTBackend().runnable() == "no driver"


@pytest.mark.usefixtures("ask_anew")
@pytest.mark.parametrize(("version", "words"), [("8.5.3", "too old: 8.6 at least"), (None, "cannot be imported")])
def test_a_tensorrt_that_will_not_do(monkeypatch: pytest.MonkeyPatch, version: str | None, words: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(trt, "device_problem", lambda: None)
    found = None if version is None else types.SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    assert words in (TensorRTBackend().availability() or "")


def test_a_changed_engine_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.engine"
    content = bytes(range(256)) * 64
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    engine = Engine("tensorrt", path, BuildOptions(Precision.FP32), len(content), digest, 1.0, ())
    assert network.sound_bytes(engine) == content

    def forbidden(*_arguments: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(trt, "deserialize", forbidden)
    flipped = bytearray(content)
    flipped[5000] ^= 0x40
    for damaged in (content[:-1], bytes(flipped), b""):
        path.write_bytes(damaged)
        for use in (TensorRTBackend().runner, TensorRTBackend().layer_information):
            with pytest.raises(ValueError, match="is not the file that was built"):  # noqa: PT012
                if (opened := use(engine)) is not None:
                    opened.__enter__()  # type: ignore[union-attr]


class Runtime:
    """A runtime that refuses every plan with the words it is given."""

    words = ""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, _plan: bytes) -> None:
        self._logger.log(1, self.words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Version tag does not match. Current Version: 232, Serialized Engine Version: 239", "another version"),
        ("The engine plan file is not compatible with this version of TensorRT", "another version of TensorRT than"),
        ("The engine plan file is generated on an incompatible device, expecting compute 9.0", "built for another GPU"),
        # As 10.16 says it of a plan of 8.6, and 11.4 of one of 10.
        ("Error Code 1: Serialization (incompatible serialization version)", "another version of TensorRT than"),
        ("plan major version does not match the runtime", "another version of TensorRT than"),
        ("Platform specific tag mismatch detected", "on another kind of machine"),
        ("Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match", "truncated or damaged"),
        ("Requested amount of GPU memory could not be allocated: out of memory", "no GPU memory for engine x.engine"),
    ],
)
def test_why_a_plan_is_refused(monkeypatch: pytest.MonkeyPatch, words: str, expected: str) -> None:
    class Logger:
        WARNING = 2

        def __init__(self) -> None:
            pass

    stand_in = types.SimpleNamespace(__version__="8.6.0", ILogger=Logger, Runtime=Runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr(Runtime, "words", words)
    network.logger.cache_clear()
    try:
        kind = MemoryError if "memory" in expected else RuntimeError
        with pytest.raises(kind, match=expected) as caught:
            network.deserialize(b"plan", "x.engine")
    finally:
        network.logger.cache_clear()
    assert "x.engine" in str(caught.value)
    assert words in str(caught.value)


def test_the_log_keeps_what_was_said_within_a_block_apart() -> None:
    with network.last_words() as outer:
        network._collectors[-1].append("one")
        with network.last_words() as inner:
            for collected in network._collectors:
                collected.append("two")
    assert (outer, inner) == (["one", "two"], ["two"])
    assert network._collectors == []
    assert network.tail(["a", "b", "a", "c"], 2) == "b; c"


def test_caches_outlive_the_folder_an_engine_is_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trt.CACHE_VARIABLE, raising=False)
    assert trt.cache_folder(tmp_path / "0123.part" / "engine") == tmp_path / "tensorrt"
    assert trt.cache_folder(tmp_path / "model.engine") == tmp_path / "tensorrt"
    monkeypatch.setenv(trt.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert trt.cache_folder(tmp_path / "model.engine") == tmp_path / "elsewhere"
