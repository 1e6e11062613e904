"""A class that never was, of any size: for the tests, the pictures and the benchmark of its report."""

from __future__ import annotations

import random
from decimal import Decimal

from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.verdict import Cause, Finding
from trtverify.grading.grade import Grade, GradedRow
from trtverify.grading.sandbox.untrusted_text import escaped

_ZERO = Decimal("0.00")
_TESTS = {
    "lab1": ("ResNet50", "resnet50", ("fp32",)),
    "lab2": ("YoloV8n", "yolov8n", ("fp32", "fp16")),
    "lab3": ("MobileNetV2", "mobilenet_v2", ("fp32", "fp16")),
    "lab4": ("ResNet50Int8", "resnet50", ("fp16", "int8")),
    "lab5": ("Qat", "resnet18_qat_cifar10", ("int8",)),
}
_EVERY = ("onnx_is_valid", "interface", "architecture", "weights_are_sound", "manifest_is_true")
# How much likelier than others a check fails.
_DIFFICULTY = {
    **dict.fromkeys(_EVERY, 0.4),
    "manifest_is_true": 1.2,
    "engine_builds": 0.3,
    "precision_is_proven": 2.0,
    "outputs_match": 1.1,
    "latency": 0.1,
}
_ENGINE = ("engine_builds", "precision_is_proven", "outputs_match", "latency")
_NAMES = ("林怡君", "陳志豪", "Ana", "張雅婷", "Bo", "黃俊傑", "Chloé", "李佳穎", "Dmitri", "王冠宇", "Emeka", "吳淑芬")


def tests() -> list[tuple[str, str]]:
    """(node id, lab) of every check but the hidden ones."""
    found = []
    for lab, (name, model, precisions) in _TESTS.items():
        place = f"tests/test_{lab}_{model}.py::Test{name}::test_"
        found += [(f"{place}{check}", lab) for check in _EVERY]
        for check in _ENGINE:
            for backend in ("onnxruntime", "tensorrt", "tensorrt_rtx"):
                found += [(f"{place}{check}[{model}-{backend}-{precision}]", lab) for precision in precisions]
    return found


def sample_class(count: int, mark: str = "", seed: int = 0) -> list[Grade]:
    """Grades of `count` students; `mark` stands in every string that a student could have written."""
    rng = random.Random(seed)
    name = escaped(mark.replace("/", ""))  # as grading takes a folder's or archive's
    return [_grade(rng, f"{name}{_NAMES[n % len(_NAMES)]}-{n:03}", mark) for n in range(count)]


def _grade(rng: random.Random, student: str, mark: str) -> Grade:
    skill = min(max(rng.gauss(0.9, 0.08), 0.3), 1.0)
    absent = rng.choice([*_TESTS, *[None] * 40])
    rows = [_row(rng, test, lab, skill, lab == absent, mark) for test, lab in tests()]
    hidden = Finding(_("weights that differ"), f"{mark}SECRET", _("run lab 1 again"))
    for number in (1, 2):
        failed = rng.random() > skill
        rows.append(
            GradedRow(
                name=_("hidden check {number}").format(number=number),
                test=f"hidden/test_teacher.py::test_SECRET_{number}",
                lab="",
                verdict="failed" if failed else "passed",
                earned=_ZERO if failed else Decimal("2.00"),
                possible=Decimal("2.00"),
                visibility="hidden",
                message=_("a check that is not shown failed; go through the lab's requirements once more")
                if failed
                else "",
                detail=str(hidden) if failed else "",
                seconds=0.4,
            )
        )
    late = {"lab5": Decimal("0.50")} if rng.random() < 0.1 else {}
    notes = (_("left out: {note}").format(note=f"{mark}model.pt: {_('a link')}"),) if rng.random() < 0.3 else ()
    complete = all(row.verdict != "pending" for row in rows)
    return Grade(student, tuple(rows), late, notes, complete)


def _row(rng: random.Random, test: str, lab: str, skill: float, absent: bool, mark: str) -> GradedRow:
    draw, check = rng.random(), test.rpartition("::test_")[2].partition("[")[0]
    model = _TESTS[lab][1]
    precision = test.rpartition("-")[2].rstrip("]").upper()
    message = ""
    if "-tensorrt-" in test:
        verdict, message = "not gradable", f"not gradable: {Cause.BACKEND_MISSING}: tensorrt: {mark}"
    elif absent:
        missing = Finding(
            _("{name} in the submission").format(name=f"{model}.onnx"), _("no such file"), f"labs/{lab}_*.py"
        )
        verdict, message = "failed", str(missing)
    elif draw < 1 - (1 - skill) * _DIFFICULTY[check]:
        verdict = "passed"
    elif draw > 0.9985:
        verdict, message = "crash", _("the check exceeded the limit on {what}").format(what=_("memory"))
    else:
        verdict, message = "failed", str(_findings(rng, model, precision, mark)[check])
    return GradedRow(
        name=test.rpartition("/")[2].replace(".py::", ": ").replace("::", ": "),
        test=test,
        lab=lab,
        verdict=verdict,
        earned=Decimal("1.00") if verdict == "passed" else _ZERO,
        possible=_ZERO if verdict == "not gradable" else Decimal("1.00"),
        visibility="visible",
        message=_("the check crashed twice on this submission: {message}").format(message=message)
        if verdict == "crash"
        else message,
        detail=message,
        seconds=round(rng.uniform(0.01, 0.3) * (40 if "builds" in test else 4 if "latency" in test else 1), 3),
    )


def _findings(rng: random.Random, model: str, precision: str, mark: str) -> dict[str, Finding]:
    """What each check says where it fails, in the words of the tests."""
    layer = f"/layer{rng.randint(1, 4)}/conv{rng.randint(1, 2)}{mark}"
    file = f"{model}.onnx"
    return {
        "onnx_is_valid": Finding(
            _("{file} to run in ONNX Runtime").format(file=file), layer, f"polygraphy run {file} --onnxrt"
        ),
        "interface": Finding(
            _("opset {least} or later").format(least=13),
            f"{rng.randint(9, 12)}{mark}",
            _("pass opset_version=17 to torch.onnx.export"),
        ),
        "architecture": Finding(
            _("{count} weights of {model}").format(count=54, model=model), f"{rng.randint(30, 53)}{mark}", file
        ),
        "weights_are_sound": Finding(
            _("finite weights"),
            _("NaN or infinity in {names}").format(names=layer),
            _("did training diverge? Look at the loss, and lower the learning rate"),
        ),
        "manifest_is_true": Finding(
            _("the manifest's sha256 to be {digest}…").format(digest=f"{rng.getrandbits(48):012x}"),
            f"{rng.getrandbits(80):020x}{mark}",
            _("write manifests with labs/artifact.py"),
        ),
        "engine_builds": Finding(
            _("an engine of at least {least:.1f} MB, the weights alone").format(least=13.9),
            f"{rng.uniform(6, 9):.1f} MB{mark}",
            _("weights are missing: is anything between a weight's QuantizeLinear and DequantizeLinear?"),
        ),
        "precision_is_proven": Finding(
            _("every convolution in {precision}").format(precision=precision),
            f"TF32: {layer}",
            _("an engine called {precision} that computes in another precision earns no speedup").format(
                precision=precision
            ),
        ),
        "outputs_match": Finding(
            _("{precision} outputs at least {least:g} dB above their noise").format(precision=precision, least=40),
            f"{rng.uniform(4, 18):.1f} dB{mark}",
            _("compare layer by layer: polygraphy run {file} --onnxrt --trt --mark all").format(file=file),
        ),
        "latency": Finding(
            _("finite outputs"),
            _("NaN or infinity"),
            _("run the FP32 model on a photograph and look for the first layer that overflows"),
        ),
    }
