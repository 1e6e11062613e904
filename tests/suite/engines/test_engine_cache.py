"""The engine cache: what is built once, what is a miss, and that nothing half-made is ever trusted."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.suite import tiny
from tests.suite.engines.counting import FP32, LAYER, Counting
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.engines import engine_cache
from trtverify.fixtures.engines.engine_cache import EngineCache, engine_key
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Layer, Precision


def entry(cache: EngineCache) -> Path:
    (found,) = (path for path in cache.root.iterdir() if path.is_dir())
    return found


def test_a_second_build_is_a_hit_and_the_same_engine(cache: EngineCache, model: Path) -> None:
    backend = Counting()
    first = cache.build(model, backend, FP32)
    second = EngineCache(cache.root).build(model, backend, FP32)
    assert backend.builds == 1
    assert second == first
    assert second.layers == (LAYER,)
    assert second.path.read_bytes() == b"a whole engine"
    assert second.size_bytes == len(b"a whole engine")
    assert second.path.is_relative_to(cache.root)
    assert (cache.statistics.hits, cache.statistics.misses) == (0, 1)
    assert cache.statistics.build_seconds == first.build_seconds >= 0


def calibrated(tmp_path: Path, digest: str) -> BuildOptions:
    return BuildOptions(Precision.INT8, calibration=CalibrationData("input", (tmp_path / "x.npy",), digest))


def test_everything_that_shapes_an_engine_is_in_its_key(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Counting()
    keys = {"base": engine_key(model, backend, FP32)}
    assert engine_key(model, Counting(), BuildOptions(Precision.FP32, shapes={})) == keys["base"]
    for field, value in {
        "precision": Precision.FP16,
        "shapes": {"input": (2, 3, 32, 32)},
        "workspace_bytes": 1 << 20,
        "optimization_level": 3,
        "tactic_sources": ("CUDNN",),
        "hardware_compatible": True,
        "dla_core": 0,
    }.items():
        keys[field] = engine_key(model, backend, dataclasses.replace(FP32, **{field: value}))  # type: ignore[arg-type]
    assert set(keys) - {"base"} == {f.name for f in dataclasses.fields(BuildOptions)} - {"calibration"}
    keys["calibration"] = engine_key(model, backend, calibrated(tmp_path, "a"))
    keys["other calibration"] = engine_key(model, backend, calibrated(tmp_path, "b"))
    backend.release = "2"
    keys["version"] = engine_key(model, backend, FP32)
    backend.release, backend.gpu = "1", "another GPU"
    keys["device"] = engine_key(model, backend, FP32)
    backend.gpu, backend.name = "this GPU", "other"
    keys["backend"] = engine_key(model, backend, FP32)
    backend.name = "counting"
    assert engine_key(model, backend, FP32) == keys["base"]
    with monkeypatch.context() as patch:
        patch.setattr(convert, "RECIPE", convert.RECIPE + 1)
        keys["recipe"] = engine_key(model, backend, FP32)
    with monkeypatch.context() as patch:
        patch.setattr(engine_cache.importlib.metadata, "version", lambda name: f"{name} 99")  # type: ignore[attr-defined]
        keys["packages"] = engine_key(model, backend, FP32)
    content = bytearray(model.read_bytes())
    content[-200] ^= 1
    model.write_bytes(content)
    keys["model"] = engine_key(model, backend, FP32)
    assert len(set(keys.values())) == len(keys), keys


def externalize(model: Path, location: str = "weights.bin") -> Path:
    loaded = onnx.load(str(model))
    onnx.save_model(loaded, str(model), save_as_external_data=True, location=location, size_threshold=0)
    return model.parent / location


def test_external_data_is_part_of_the_key(model: Path) -> None:
    weights = externalize(model)
    before = engine_key(model, Counting(), FP32)
    content = bytearray(weights.read_bytes())
    content[10] ^= 1
    weights.write_bytes(content)
    assert engine_key(model, Counting(), FP32) != before


def relocate(model: Path, location: str) -> None:
    loaded = onnx.load(str(model), load_external_data=False)
    for tensor in loaded.graph.initializer:
        for item in tensor.external_data:
            if item.key == "location":
                item.value = location
    model.write_bytes(loaded.SerializeToString())


def spoil_missing(model: Path) -> None:
    externalize(model).unlink()


def spoil_outside(model: Path) -> None:
    externalize(model)
    relocate(model, "../weights.bin")


def spoil_absolute(model: Path) -> None:
    externalize(model)
    relocate(model, "/etc/passwd")


def spoil_link(model: Path) -> None:
    weights = externalize(model)
    weights.rename(model.parent / "elsewhere.bin")
    weights.symlink_to(model.parent / "elsewhere.bin")


def spoil_truncated(model: Path) -> None:
    os.truncate(externalize(model), 100)


def spoil_huge(model: Path) -> None:
    os.truncate(model, 3 * 1024**3)  # sparse: takes no room


def spoil_empty(model: Path) -> None:
    os.truncate(model, 0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_missing, "is missing: 'weights.bin'"),
        (spoil_outside, "points outside the submission: '../weights.bin'"),
        (spoil_absolute, "points outside the submission: '/etc/passwd'"),
        (spoil_link, "is missing: 'weights.bin'"),
        (spoil_truncated, "is truncated: 'weights.bin'"),
        (spoil_huge, "is 3.0 GiB, over the 2 GiB"),
        (spoil_empty, "is empty"),
        (Path.unlink, "there is no model"),
    ],
)
def test_a_model_out_of_bounds_is_refused_before_it_is_built(
    cache: EngineCache, model: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(model)
    backend = Counting()
    with pytest.raises(ValueError, match=says):
        cache.build(model, backend, FP32)
    assert backend.builds == 0


def cut(folder: Path) -> None:
    os.truncate(folder / "engine", 5)


def flip(folder: Path) -> None:
    (folder / "engine").write_bytes(b"A whole engine")


def drop(folder: Path) -> None:
    (folder / "engine").unlink()


def drop_record(folder: Path) -> None:
    (folder / "engine.json").unlink()


def cut_record(folder: Path) -> None:
    os.truncate(folder / "engine.json", 40)


def empty_record(folder: Path) -> None:
    (folder / "engine.json").write_text("null")


def edit_record(folder: Path) -> None:
    path = folder / "engine.json"
    path.write_text(path.read_text().replace('"fp16"', '"int8"'))


def other_schema(folder: Path) -> None:
    path = folder / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


def no_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file where the entry was")


@pytest.mark.parametrize(
    "damage", [cut, flip, drop, drop_record, cut_record, empty_record, edit_record, other_schema, no_folder]
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(
    cache: EngineCache, model: Path, damage: Callable[[Path], None]
) -> None:
    backend = Counting()
    cache.build(model, backend, FP32)
    damage(entry(cache))
    again = cache.build(model, backend, FP32)
    assert backend.builds == 2
    assert again.path.read_bytes() == b"a whole engine"
    assert again.layers == (LAYER,)
    cache.build(model, backend, FP32)
    assert backend.builds == 2, "the repaired entry is a hit"


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), MemoryError("no"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(cache: EngineCache, model: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        cache.build(model, Counting(error), FP32)
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    backend = Counting()
    cache.build(model, backend, FP32)
    assert backend.builds == 1


def test_a_real_engine_comes_back_whole(cache: EngineCache, model: Path) -> None:
    backend = OnnxRuntimeBackend()
    built = cache.build(model, backend, FP32)
    found = cache.build(model, backend, FP32)
    assert cache.statistics.hits == 1
    assert found == built
    with backend.runner(found) as runner:
        assert runner.infer({"input": tiny.image()})["output"] == pytest.approx(tiny.run(model, tiny.image()), abs=1e-5)


def test_sweeping_a_cache_that_is_not_there_yet_is_nothing(cache: EngineCache) -> None:
    cache.sweep()
    assert not cache.root.exists()


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", "file"])
def test_a_cache_that_cannot_be_written_is_one_clear_error(model: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / place
    with pytest.raises(OSError, match=f"the engine cache {root} cannot be used: .*choose another directory"):
        EngineCache(root).build(model, Counting(), FP32)


class Full(Counting):
    """Meets a disk that takes no more, for real: /dev/full."""

    def build(self, onnx: Path, options: BuildOptions, out: Path) -> tuple[Layer, ...]:
        self.builds += 1
        Path("/dev/full").write_bytes(b"engine")
        return ()


def test_a_full_disk_is_one_clear_error_and_poisons_nothing(cache: EngineCache, model: Path) -> None:
    with pytest.raises(OSError, match="cannot be used: No space left on device; free space there") as error:
        cache.build(model, Full(), FP32)
    assert error.value.errno == errno.ENOSPC
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    assert cache.build(model, Counting(), FP32).path.read_bytes() == b"a whole engine"


def test_a_disk_that_fills_up_while_the_entry_is_written_poisons_nothing(
    cache: EngineCache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left on device; free space there"):
            cache.build(model, Counting(), FP32)
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    assert cache.build(model, Counting(), FP32).path.read_bytes() == b"a whole engine"


def test_a_backends_own_trouble_is_not_blamed_on_the_cache(cache: EngineCache, model: Path) -> None:
    with pytest.raises(OSError, match=r"^libcudart.so not found$"):
        cache.build(model, Counting(OSError("libcudart.so not found")), FP32)


def test_calibration_reaches_the_build(cache: EngineCache, model: Path, tmp_path: Path) -> None:
    options = BuildOptions(Precision.INT8, calibration=tiny.calibration(tmp_path / "calibration"))
    engine = cache.build(model, OnnxRuntimeBackend(), options)
    assert {layer.precision for layer in engine.layers if layer.kind == "convolution"} == {Precision.INT8}
    louder = tiny.calibration(tmp_path / "louder", np.full((1, 3, 32, 32), 50, np.float32))
    other = cache.build(model, OnnxRuntimeBackend(), dataclasses.replace(options, calibration=louder))
    assert other.sha256 != engine.sha256
