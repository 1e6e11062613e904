"""Broken files, options, caches and runs: one clear message, a failing test, and the next run works."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
QUICK = "test_onnx_is_valid or test_interface or test_engine_builds"
MODEL = "mobilenet_v2.onnx"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def mislabel(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\x00" * 5000)


def inflate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(3 * 1024**3)  # sparse: no disk is used


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def other_shape(path: Path) -> None:
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 256
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def other_dtype(path: Path) -> None:
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, str(path))


def outside(path: Path, location: str) -> None:
    model = onnx.load(str(path))
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    external_data_helper.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    onnx.save(model, str(path))


def unknown_operator(path: Path) -> None:
    model = onnx.load(str(path))
    node = next(n for n in model.graph.node if n.op_type == "Add")
    node.op_type = "Frobnicate"
    onnx.save(model, str(path))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "no such file"),
    "empty": (empty, "an empty file"),
    "truncated": (truncate, "truncated"),
    "mislabelled": (mislabel, "no ONNX file"),
    "absurdly large": (inflate, "over the 2 GiB"),
    "link": (link, "a link or a special file"),
    "wrong shape": (other_shape, "input 1×3×256×224"),
    "wrong dtype": (other_dtype, "double"),
    "external data missing": (lambda path: outside(path, "weights.bin"), "missing: 'weights.bin'"),
    "external data outside": (lambda path: outside(path, "../../etc/passwd"), "outside the submission"),
    "unknown operator": (unknown_operator, "Frobnicate"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_model_fails_with_one_clear_message(
    fault: str, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of("lab3")
    spoil, says = BROKEN[fault]
    spoil(folder / MODEL)
    outcome = verify(folder, "lab3", "-k", QUICK)
    assert outcome.status == 1, outcome.output
    failed = outcome.with_verdict("failed")
    assert failed, outcome.output
    messages = [outcome.message(test) for test in failed]
    assert any(says in message for message in messages), messages
    assert all("Traceback" not in message and ".py:" not in message for message in messages), messages
    assert all(message.startswith("expected: ") for message in messages), messages  # not what was caught before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{not json", "to be JSON"),
        ('{"layers": [], "layers": []}', "a key twice"),
        ('{"crossings": NaN}', "NaN"),
        ("[" * 5000, "nested"),
        ('"text"', "a JSON dict"),
    ],
    ids=["no json", "twice", "nan", "deep", "no object"],
)
def test_a_layer_info_that_is_no_layer_info(
    text: str, says: str, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of("lab3")
    (folder / "layer_info.json").write_text(text, encoding="utf-8")
    outcome = verify(folder, "lab3", "-k", "test_layer_information_is_fp16")
    assert outcome.with_verdict("failed") == {"test_layer_information_is_fp16"}, outcome.output
    assert says in outcome.message("test_layer_information_is_fp16")


def test_calibration_batches_that_are_no_arrays(copy_of: Callable[..., Path], verify: Callable[..., Any]) -> None:
    folder = copy_of("lab4")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 3, 224, 224), }"
    (folder / "calibration_data" / "batch_000.npy").write_bytes(header.ljust(127) + b"\n")
    outcome = verify(folder, "lab4", "-k", "test_enough_images")
    assert outcome.with_verdict("failed") == {"test_enough_images"}, outcome.output
    np.save(folder / "calibration_data" / "batch_000.npy", np.array([object()]), allow_pickle=True)
    outcome = verify(folder, "lab4", "-k", "test_enough_images")
    assert outcome.with_verdict("failed") == {"test_enough_images"}, outcome.output


def test_an_unknown_option_and_a_missing_folder(verify: Callable[..., Any]) -> None:
    outcome = verify(None, "lab4", "--no-such-option")
    assert outcome.status == 4
    assert "unrecognized arguments: --no-such-option" in outcome.output
    outcome = verify(None, "lab4", "--submission=/nowhere/at/all")
    assert outcome.status == 4
    assert "/nowhere/at/all: no such directory" in outcome.output


def test_a_backend_asked_for_by_name_and_missing_is_an_error(verify: Callable[..., Any]) -> None:
    if any((Path(entry) / "tensorrt").is_dir() for entry in sys.path):
        pytest.skip("TensorRT is installed here")
    outcome = verify(None, "lab4", backend="tensorrt")
    assert outcome.status == 4
    assert "--backend tensorrt" in outcome.output
    assert "Traceback" not in outcome.output


def test_an_unwritable_cache_is_one_message(verify: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    outcome = verify(None, "lab4", f"--suite-cache={tmp_path / 'file' / 'cache'}", "-k", "test_enough_images")
    assert outcome.status != 0
    assert "cannot be written" in outcome.output
    assert "INTERNALERROR" not in outcome.output


def run_lab4(cache: Path, **options: Any) -> subprocess.Popen[str]:
    """The suite on lab 4's reference, with a cache of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "lab4", "-k", "test_enough_images", "--backend=onnxruntime"]
    return subprocess.Popen(
        [*command, f"--suite-cache={cache}", "--calibration-images=32"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_a_full_disk_fails_the_test_and_the_next_run_works(tmp_path: Path) -> None:
    def no_more_than_a_megabyte() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    full = run_lab4(tmp_path / "cache", preexec_fn=no_more_than_a_megabyte)
    output = full.communicate(timeout=300)[0]
    assert full.returncode == 1, output
    assert "Traceback" not in output
    again = run_lab4(tmp_path / "cache")
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output


def test_a_killed_run_poisons_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    killed = run_lab4(cache, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(cache.glob("reference/*.partial/*")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    assert not [path for path in cache.glob("reference/lab4-*") if path.is_dir() and path.suffix != ".partial"]
    again = run_lab4(cache)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output


def test_poisoned_weights_are_found_behind_a_valid_file(
    copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of("lab3")
    model = onnx.load(str(folder / MODEL))
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, str(folder / MODEL))
    outcome = verify(folder, "lab3", "-k", "test_weights_are_sound")
    assert outcome.with_verdict("failed") == {"test_weights_are_sound"}
    assert "infinity" in outcome.message("test_weights_are_sound")
