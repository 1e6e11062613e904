"""What the readers are fed: sound files, files that mean harm, and what a fuzzer makes of both."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.suite.fuzz import models
from tests.suite.fuzz.mutations import Bytes, as_json, changed, changed_json, rewritten, spoilt
from tests.suite.sample_evidence import fitted, pack, sound
from tests.suite.sample_run import sample
from tests.suite.trtexec.forms import FORMS
from tests.suite.trtexec.made import Made, write
from tests.suite.trtexec.made_files import profile_json, times_json

MANIFEST_OF = b"any model"
CACHE = b"TRT-100300-EntropyCalibration2\ninput: 3c010a14\n"


def archives() -> Bytes:
    members = {"resnet50.onnx": bytes(3000), "calibration_data/batch_000.npy": b"\x93NUMPY", "a/b/c.json": b"{}"}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        found.append(stream.getvalue())
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=mode, format=form) as tar:
                for name, content in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            found.append(stream.getvalue())
    return spoilt(*found) | _tars()


@st.composite
def _tars(draw: st.DrawFn) -> bytes:
    """Sound tars of members that mean harm."""
    stream = io.BytesIO()
    names = st.sampled_from(["a", "../out", "/out", "a/../../out", "a/b", "a", "\u202e", "x" * 300, ".", ""])
    with tarfile.open(fileobj=stream, mode="w", format=draw(st.sampled_from([0, 1, 2]))) as tar:
        for _member in range(draw(st.integers(0, 6))):
            member = tarfile.TarInfo(draw(names))
            member.type = draw(st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"S", b"K", b"x"]))
            member.linkname = draw(names)[:99]
            content = draw(st.binary(max_size=40))
            member.size = len(content) if draw(st.booleans()) else draw(st.sampled_from([0, 1, 600, 1 << 33]))
            with contextlib.suppress(ValueError, OSError):  # a name that no tar can hold, less content than is said
                tar.addfile(member, io.BytesIO(content.ljust(min(member.size, 1024), b"\0")))
    return stream.getvalue()


def npz_seeds() -> tuple[bytes, ...]:
    images, outputs = np.zeros((2, 3, 8, 8), np.float32), np.ones((2, 2), np.float32)
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, input=images, output=outputs)
    np.savez_compressed(packed, input=images, output=outputs)
    return plain.getvalue(), packed.getvalue()


_HEADERS = st.sampled_from(
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 1048576), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 8, 8), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8), }",
        "{'descr': [('a', '<f4', (9999999999,))], 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<V0', 'fortran_order': False, 'shape': (99999999999,), }",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2" + ", 1" * 40 + "), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2.5), }",
        "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (4,), }",
        "[" * 200,
        "9" * 9000,
    ]
)


def arrays() -> Bytes:
    """Arrays with headers that promise anything, and broken ones."""
    sound = io.BytesIO()
    np.save(sound, np.linspace(0, 1, 2 * 3 * 64, dtype=np.float32).reshape(2, 3, 8, 8))
    made = st.builds(
        lambda header, version, body: (
            b"\x93NUMPY"
            + bytes([version, 0])
            + struct.pack("<H" if version == 1 else "<I", len(header))
            + header
            + body
        ),
        _HEADERS.map(str.encode) | st.binary(max_size=30),
        st.sampled_from([1, 2, 3, 4]),
        st.binary(max_size=64),
    )
    return spoilt(sound.getvalue()) | made


@st.composite
def npz(draw: st.DrawFn) -> bytes:
    """Sound archives of arrays that are none."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in draw(st.lists(st.sampled_from(["input.npy", "output.npy", "input", "x"]), unique=True)):
            archive.writestr(name, draw(arrays()))
    return stream.getvalue()


_DOCUMENTS: tuple[Any, ...] = ({"a": [1, 2.5, None, True, {"b": "c"}]}, [[[[]]]], "text", 7)
_MANIFEST = {
    "schema": 1,
    "lab": "lab1",
    "model": "tiny",
    "artifact": "tiny.onnx",
    "sha256": "",
    "weights": "untrained",
    "preprocessing": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "data": {"source": "scikit-learn digits"},
}


def manifests() -> Bytes:
    return changed_json({**_MANIFEST, "sha256": hashlib.sha256(MANIFEST_OF).hexdigest()})


def layer_info() -> Bytes:
    tensor = {"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP16 format"}
    layer = {
        "Name": "Conv_0",
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Groups": 1,
        "Inputs": [tensor],
        "Outputs": [tensor],
        "Kernel": [3, 3],
        "Weights": {"Type": "Half", "Count": 9},
        "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x64",
        "Metadata": "[ONNX Layer: /a][ONNX Layer: /b]",
    }
    other = {"Name": "p", "LayerType": "Reformat", "Origin": "QDQ"}
    return changed_json({"Layers": [layer, other], "Bindings": ["x"]}, {"Layers": ["a"], "I/O Tensors": [tensor]})


def curves() -> Bytes:
    epoch = {"epoch": 1, "phase": "qat", "loss": 0.5, "train_accuracy": 0.7, "test_accuracy": 0.6}
    return changed_json({"schema": 1, "epochs": [epoch, {**epoch, "epoch": 2}]})


def placement() -> Bytes:
    layers = [{"name": "/a/Conv", "device": "DLA"}, {"name": "/b/Conv", "device": "GPU", "reason": "x"}]
    plain: dict[str, object] = {"schema": 1, "method": "table", "layers": layers, "crossings": 2}
    said = {"sha256": "0" * 64, "model": {"file": "a.onnx"}, "dla_cores": 2, "loadables": 1, "loadable_limit": 16}
    table = {"sha256": "0" * 64, "device": "Orin", "definitions": {"loadables": "x"}}
    lists = {"loadable_layers": [["/a/Conv"]], "crossing_tensors": ["t"]}
    return changed_json(plain, {**plain, **said, **lists, "table": table})


def evidence(folder: Path) -> Bytes:
    """Evidence of the plain model whose hashes are true and whose contents are not, or whose bytes are spoilt."""
    model = folder / "model.onnx"
    model.write_bytes(models.plain())
    members = fitted(sound(layers=3), model)
    taken = pack(members, folder / "made.zip").read_bytes()
    return changed(members).map(lambda made: _packed(made, folder / "made.zip")) | spoilt(taken)


def _packed(members: Any, path: Path) -> bytes:
    try:
        return pack(members, path).read_bytes()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # no longer members by name
        return as_json(members)


def cache() -> Bytes:
    lines = [b"TRT-100300-EntropyCalibration2", b"input: 3c010a14", b"conv: 3d8b4396", b"(Unnamed Layer* 3): 0"]
    return spoilt(b"\n".join(lines) + b"\n")


def sidecars() -> Bytes:
    """What is said of `CACHE`, which is one of the plain model's, from no images."""
    record = {
        "schema": 1,
        "model_sha256": hashlib.sha256(models.plain()).hexdigest(),
        "data_digest": "1" * 64,
        "preprocessing": None,
        "algorithm": "EntropyCalibration2",
        "tensorrt": "10.3.0",
        "images": 0,
        "cache_sha256": hashlib.sha256(CACHE).hexdigest(),
    }
    return changed_json(record)


def onnx() -> Bytes:
    """Models with fields rewritten, and with bytes spoilt."""
    return rewritten(models.parsed, *models.seeds()) | spoilt(*models.seeds())


_ECHOES = (
    b"[I] GPU Compute Time: min = 1e-45 ms, max = 9e38 ms, mean = 0 ms, median = 1 ms, percentile(99%) = 1e999 ms\n",
    b"[I] Timing trace has 99999999999999999999 queries over 0 s\n",
    b"[I] Throughput: 0 qps\n[I] Total Host Walltime: 0 s\n[I] Total GPU Compute Time: 1e300 s\n",
    b"[I] === Profile (0 iterations ) ===\n[I]  0.00  0.0000  0.0000  0.0  a\n[I]  0.00  0.0  0.0  100.0  Total\n",
    b"[99/99/9999-99:99:99] [I] Starting inference\n",
    b"&&&& RUNNING TensorRT.trtexec [TensorRT v0000] # '\n",
    b"&&&& PASSED TensorRT.trtexec [TensorRT v999999] # trtexec --duration=nan --avgRuns=1e999 --infStreams=-1\n",
    b"[I] Created input binding for x with dimensions xx99999999999999999999x\n",
    b"[I] SMs: 8\n[I] Device Global Memory: 1e9 MiB\n[I] Selected Device: Orin\n",
)


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """Logs of trtexec as terminals leave them, with lines doubled, moved, left out, or put in that mean harm."""
    text = draw(st.sampled_from(_logs()))
    rows = text.splitlines(keepends=True)
    for _time in range(draw(st.integers(0, 6))):
        at, kind = draw(st.integers(0, len(rows))), draw(st.integers(0, 3))
        if kind == 0:
            del rows[at : at + draw(st.sampled_from([1, 1, 5, 60]))]
        elif kind == 1:
            rows[at:at] = rows[at : at + 3]
        elif kind == 2:
            rows.insert(at, draw(st.sampled_from(_ECHOES)).decode())
        elif rows:
            row = rows[at % len(rows)]
            digit = draw(st.sampled_from(["9", "-", "e", ".", "nan", "", "x"]))
            rows[at % len(rows)] = row.replace(draw(st.sampled_from(list("0123456789="))), digit, 2)
    return FORMS[draw(st.sampled_from(sorted(FORMS)))]("".join(rows))


@functools.lru_cache(maxsize=1)
def _logs() -> tuple[str, ...]:
    command = "trtexec --onnx=resnet50.onnx --fp16 --dumpProfile --separateProfileRun --avgRuns=50"
    made = [write(Made(command, version, ms=9.0)) for version in ("8.2.1", "8.5.3", "10.3.0", "11.1.0")]
    return (*made, made[0] + made[2], write(Made(command, "11.1.0", errors=("Unknown option: --fp16 ",))))


def trtexec_logs() -> Bytes:
    """Logs, spoilt logs, and what is none."""
    return logs() | spoilt(*(text.encode() for text in _logs())) | st.binary(max_size=400)


def trtexec_log() -> str:
    """A sound one."""
    return _logs()[2]


def trtexec_exports() -> Bytes:
    """Times of queries, which profiles and layers are like."""
    made = Made("trtexec --onnx=resnet50.onnx --duration=0 --iterations=3", ms=9.0)
    return changed_json(json.loads(times_json(made)), json.loads(profile_json(made)))


def documents() -> Bytes:
    """Any JSON, and what is none."""
    return changed_json(*_DOCUMENTS)


def runs() -> Bytes:
    """Saved runs."""
    return changed_json(sample(samples=12))
