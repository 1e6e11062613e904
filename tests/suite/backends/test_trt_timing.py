"""TensorRT's timing cache on disk: shared, never half written, never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtverify.fixtures.backends.tensorrt import timing
from trtverify.fixtures.devices.disk import write_atomically


class Cache:
    """A timing cache that is a set of lines."""

    def __init__(self, content: bytes) -> None:
        self.lines = set(content.split())

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.lines |= other.lines
        return True

    def serialize(self) -> bytes:
        return b" ".join(sorted(self.lines))


class Config:
    """A builder configuration; `accepts` is what a device with other properties would not."""

    def __init__(self, accepts: bool = True) -> None:
        self.accepts = accepts
        self.cache = Cache(b"")

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.lines and not self.accepts:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        return self.cache


def test_what_one_build_timed_the_next_one_has(tmp_path: Path) -> None:
    path = timing.cache_path(tmp_path / "new", "TensorRT 10.3.0 (weakly typed)", "NVIDIA H200")
    assert path.name == "timing-nvidia-h200-tensorrt-10.3.0-weakly-typed.cache"
    first, second = Config(), Config()
    assert not timing.attach(first, path)
    first.cache.lines = {b"a", b"b"}
    timing.merge(first, path)
    assert timing.attach(second, path)
    assert second.cache.lines == {b"a", b"b"}


def test_builds_at_once_keep_each_others_timings(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    first, second = Config(), Config()
    timing.attach(first, path)
    timing.attach(second, path)
    first.cache.lines, second.cache.lines = {b"a"}, {b"b"}
    timing.merge(first, path)
    timing.merge(second, path)
    assert timing.read(path) == b"a b"


def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    config = Config()
    config.cache.lines = {b"a", b"b"}
    timing.merge(config, path)
    sound = path.read_bytes()
    for damaged in (sound[:-1], sound[:33], b"", sound[:-1] + b"c", b"x" + sound[1:]):
        path.write_bytes(damaged)
        assert timing.read(path) == b""
        assert not timing.attach(Config(), path)
    timing.merge(config, path)
    assert path.read_bytes() == sound


def test_timings_that_the_device_refuses_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    config = Config()
    config.cache.lines = {b"a"}
    timing.merge(config, path)
    other = Config(accepts=False)
    assert not timing.attach(other, path)
    assert other.cache.lines == set()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["timing.cache"]
