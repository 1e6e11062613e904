"""Logs of trtexec that were handed in: what they report is consistent, with itself and with the files beside it.

Nobody here measured these figures. Who invents a whole log consistently is believed, which is why it is worth less than
evidence, and evidence less than what the suite measures itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trtverify.fixtures.claims.case import read_graph
from trtverify.fixtures.engines.layer_information import tell
from trtverify.fixtures.evidence import challenge
from trtverify.fixtures.graphs.contents import Graph, Port
from trtverify.fixtures.submitted.near import near
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.trtexec import compared, judged
from trtverify.fixtures.trtexec.handed_in import NAMES, HandedIn, baselines, everything, handed_in
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import Layer, Precision
from trtverify.fixtures.words.verdict import Cause, Finding, FindingError, Verdict, fail, inconclusive, not_gradable

LABS = [pytest.param(lab, marks=getattr(pytest.mark, lab)) for lab in ("lab1", "lab2", "lab3", "lab4", "lab5")]
LEAST_LAYERS = 5
"""Layers of a profile from which it must name one of the network's; fewer may be one region that names none."""


def given(submission: Submission, lab: str) -> tuple[HandedIn, ...]:
    """A lab's logs; ends the test ungraded where there are none."""
    found, names = handed_in(submission, lab), [named.file for named in NAMES if named.lab == lab]
    root = submission.root
    if not found:
        why = _("{name} is optional and was not handed in").format(name=", ".join(names))
        places = [] if root is None else [root, root / lab]
        for name in names:
            if (other := near(places, name)) is not None:
                why += "; " + _("is {other} meant? Call it {name}").format(other=other, name=name)
        not_gradable(Cause.NOT_SUBMITTED, why)
    code = None if root is None else challenge.given(root)
    own = found if code is None else tuple(one for one in found if judged.carries(one.reading, code))
    if not own:
        why = _("{name} carries not your code: name the engine after it, as in --saveEngine=engine_{code}.engine")
        not_gradable(Cause.NOT_SUBMITTED, why.format(name=found[0].named.file, code=code))
    return own


def whole(submission: Submission, lab: str) -> tuple[HandedIn, ...]:
    """A lab's logs that hold a whole run; ends the test ungraded where there are none."""
    found = given(submission, lab)
    kept = tuple(one for one in found if judged.unfinished(one.reading) is None)
    if not kept:
        not_gradable(Cause.EARLIER_FAILURE, judged.unfinished(found[0].reading) or "")
    return kept


@pytest.mark.points(0.5)
@pytest.mark.parametrize("lab", LABS)
def test_reported_run_ended_well(lab: str, submission: Submission) -> None:
    """trtexec says PASSED, and printed all of its summary."""
    cut_off = []
    for one in given(submission, lab):
        why = judged.unfinished(one.reading)
        if why is None:
            continue
        if one.reading.run.status != "FAILED":
            cut_off.append(f"{one.named.file}: {why}")
            continue
        remedies = [str(remark) for remark in judged.said_of(one.reading) if remark.fatal]
        fail(
            expected=_("{name} to end with “&&&& PASSED”").format(name=one.named.file),
            found=why,
            look="; ".join(remedies[:2]) or _("the first line with [E] says what went wrong; run it again"),
        )
    if cut_off:
        not_gradable(Cause.NOT_SUBMITTED, "; ".join(cut_off))


@pytest.mark.points(0.5)
@pytest.mark.parametrize("lab", LABS)
def test_reported_run_is_of_this_work(lab: str, submission: Submission) -> None:
    """The network, its tensors and its layers are those handed in, and a lab's logs are of one device and version."""
    for one in whole(submission, lab):
        wrong = next(iter(of_another_network(one, graphs(submission, one))), None)
        if wrong is not None:
            fail(
                expected=_("{name} of {model}, as it was handed in").format(
                    name=one.named.file, model=one.named.model.name
                ),
                found=wrong,
                look=_("run trtexec on the model that you hand in, and save that log"),
            )
    readings = [one.reading for one in whole(submission, lab)]
    apart = next(compared.differing(readings), None)
    if apart is not None:
        fail(
            expected=_("logs of one device, with one TensorRT"),
            found=apart,
            look=_("run all of a lab's on your own device; two devices cannot be compared"),
        )
    homes = compared.homes(readings)
    if len(homes) > 1:
        inconclusive(
            _("these logs are of the folders of {names}: whose are they?").format(names=", ".join(sorted(homes)))
        )


@pytest.mark.points(0.5)
@pytest.mark.parametrize("lab", LABS)
def test_reported_figures_agree(lab: str, submission: Submission) -> None:
    """Throughput, latency, percentiles, sums and exported files are of one run, and no faster than the device."""
    found = whole(submission, lab)
    problems = [f"{one.named.file}: {what}" for one in found for what in judged.contradictions(one.reading)]
    mine = [one.reading for one in found]
    others = list(everything(submission))
    problems += [
        _("{first} and {second} hold the same figures: one run, twice").format(first=first.name, second=second.name)
        for first, second in compared.alike(others)
        if {first.name, second.name} & {reading.name for reading in mine}
    ]
    if problems:
        fail(
            expected=_("figures that one run of trtexec can print"),
            found="\n  ".join(problems[:5]),
            look=_("hand in the log as trtexec printed it, and the files that the same run exported"),
        )


@pytest.mark.points(0.5)
@pytest.mark.parametrize("lab", LABS)
def test_reported_precision(lab: str, submission: Submission) -> None:
    """What is called FP32, FP16 or INT8 was built so, by its command, its size and its layers."""
    untold = []
    for one in whole(submission, lab):
        found = judged.sold(one.reading, one.named.precision)
        if found is None and one.named.precision in (Precision.FP16, Precision.INT8):
            larger = (compared.as_large(one.reading, base.reading) for base in baselines(submission, lab))
            found = next((finding for finding in larger if finding is not None), None)
        if isinstance(found, Finding):
            fail(expected=found.expected, found=found.found, look=found.look)
        if found is not None:
            untold.append(
                _(
                    "{name}: {why}; hand in {stem}_build.log, or {stem}_layers.json by "
                    "--profilingVerbosity=detailed --exportLayerInfo"
                ).format(name=one.named.file, why=found, stem=one.named.stem)
            )
    if untold:
        not_gradable(Cause.NOT_SUBMITTED, "; ".join(untold))


@pytest.mark.points(0.5)
@pytest.mark.parametrize("lab", LABS)
def test_reported_speedup(lab: str, submission: Submission) -> None:
    """The course's table: FP16 and INT8 against FP32, as logged, within what this device is known to reach."""
    fast = [one for one in whole(submission, lab) if one.named.precision not in (Precision.FP32, Precision.TF32)]
    slow = [one for one in baselines(submission, lab) if judged.unfinished(one.reading) is None]
    if not fast or not slow:
        not_gradable(Cause.NOT_SUBMITTED, _("no two logs to compare: one in FP32 or TF32 and another one"))
    told, edge, unknown = [], [], []
    for one in fast:
        base = compared_with(one, slow)
        pair = {"fast": one.named.file, "slow": base.named.file}
        if any(next(judged.contradictions(log.reading), None) for log in (base, one)):
            not_gradable(Cause.EARLIER_FAILURE, _("{fast} or {slow} contradicts itself").format(**pair))
        if (why := compared.incomparable(base.reading, one.reading)) is not None:
            unknown.append(_("{fast} and {slow} are not compared: {why}").format(**pair, why=why))
            continue
        ratio, band, verdict = compared.speedup(base.reading, one.reading)
        measured = _("{fast} is {ratio} as fast as {slow}").format(**pair, ratio=ratio)
        if band is None:
            unknown.append(measured)
        elif verdict is Verdict.FAILED:
            bound = [log.named.file for log in (base, one) if "enqueue bound" in kinds(log)]
            if bound:
                why = _("{measured}, but {names} timed the CPU's launches: run it with --useCudaGraph")
                not_gradable(Cause.UNSTABLE, why.format(measured=measured, names=", ".join(bound)))
            fail(
                expected=_("{precision} {band} as fast as {over} ({source})").format(
                    precision=one.reading.label, band=band, over=base.reading.label, source=band.source
                ),
                found=measured,
                look=_(
                    "was the engine built in {precision}? Which layers fell back, and how were the clocks set?"
                ).format(precision=one.named.precision.value.upper()),
            )
        elif verdict is Verdict.INCONCLUSIVE:
            edge.append(_("{measured}, against {band}").format(measured=measured, band=band))
        else:
            told.append(measured)
    if edge:
        inconclusive("; ".join(edge))
    if not told:
        not_gradable(Cause.NO_BAND, "; ".join(unknown))


def compared_with(one: HandedIn, slow: Sequence[HandedIn]) -> HandedIn:
    """Of what a log may be compared with, the first for which a range is known, else the first."""
    for base in slow:
        if compared.incomparable(base.reading, one.reading) is None and compared.speedup(base.reading, one.reading)[1]:
            return base
    return slow[0]


def kinds(one: HandedIn) -> set[str]:
    """What is remarked of a log."""
    return {remark.kind for remark in judged.said_of(one.reading)}


def graphs(submission: Submission, one: HandedIn) -> list[Graph]:
    """The networks handed in that a log may be of: its lab's, and one of its own precision."""
    model, names = one.named.model, []
    for name in (model.file, f"{model.name}_{one.named.precision.value}.onnx"):
        names += [(lab, name) for lab in (model.lab, one.named.lab) if submission.find(lab, name) is not None][:1]
    found = []
    for lab, name in names:
        try:
            found.append(read_graph(submission, lab, name))
        except (FindingError, pytest.skip.Exception):  # the lab's own tests say what is wrong with it
            continue
    return found


def of_another_network(one: HandedIn, known: Sequence[Graph]) -> list[str]:
    """Why a log is not of the network that it should be of."""
    reading, model = one.reading, one.named.model
    if reading.model is not None and reading.model.architecture != model.architecture:
        return [_("it is of {model}, by the names of its files").format(model=reading.model.name)]
    if not reading.run.inputs:
        return []
    if not known:
        shapes = [shape[1:] for shape in reading.run.inputs.values()]
        if model.input[1][1:] not in shapes:
            return [_("inputs of {found}").format(found=shown(reading.run.inputs))]
        return []
    if not any(fits(reading.run.inputs, graph.inputs) for graph in known):
        return [
            _("inputs {found}, where the model has {wanted}").format(
                found=shown(reading.run.inputs), wanted=", ".join(map(str, known[0].inputs))
            )
        ]
    if reading.run.outputs and not any(fits(reading.run.outputs, graph.outputs) for graph in known):
        return [
            _("outputs {found}, where the model has {wanted}").format(
                found=shown(reading.run.outputs), wanted=", ".join(map(str, known[0].outputs))
            )
        ]
    names = [row.name for row in reading.run.profile]
    if reading.exported.layers is not None:
        names += [layer.name for layer in reading.exported.layers.layers]
    if len(names) < LEAST_LAYERS:
        return []
    layers = [Layer(name, "convolution", None) for name in names]
    for graph in known:
        nodes = [name for name, _shape in graph.weights if name]
        if not nodes or len(tell(layers, nodes, nodes).missing) < len(nodes):
            return []
    return [_("none of its layers is named after a layer of the model: {names}").format(names=", ".join(names[:3]))]


def fits(bound: dict[str, tuple[int, ...]], ports: Sequence[Port]) -> bool:
    """Whether tensors that trtexec bound are a graph's, but for dimensions that it leaves free."""
    shapes = {port.name: port.shape for port in ports}
    return all(
        name in shapes
        and len(shape) == len(shapes[name])
        and all(
            not isinstance(wanted, int) or wanted == found for found, wanted in zip(shape, shapes[name], strict=True)
        )
        for name, shape in bound.items()
    )


def shown(bound: dict[str, tuple[int, ...]]) -> str:
    """Tensors as trtexec writes them."""
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in list(bound.items())[:4])
