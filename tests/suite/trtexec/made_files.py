"""What trtexec exports beside its log, of the same runs that never were."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tests.suite.trtexec.made import Made, draw, g, profile_rows


def times_json(made: Made, *, warm_ups: bool = False) -> str:
    """`--exportTimes`; 8.2 and older export the warm-up too."""
    q = draw(made)
    entries = []
    for i in range(0 if warm_ups else q.warm, len(q.start)):
        fields = {
            "startEnqMs": q.enq_start[i], "endEnqMs": q.enq_end[i], "startH2dMs": q.up_start[i],
            "endH2dMs": q.up_start[i] + q.up[i], "startComputeMs": q.start[i], "endComputeMs": q.end[i],
            "startD2hMs": q.down_end[i] - q.down[i], "endD2hMs": q.down_end[i], "h2dMs": q.up[i],
            "computeMs": q.compute[i], "d2hMs": q.down[i], "latencyMs": q.latency[i],
        }  # fmt: skip
        entries.append("{ " + ", ".join(f'"{name}" : {g(value)}' for name, value in fields.items()) + " }")
    return "[\n  " + "\n, ".join(entries) + "\n]\n"


def profile_json(made: Made) -> str:
    """`--exportProfile`."""
    count, rows = profile_rows(made, draw(made))
    whole = sum(row[1] for row in rows)
    lines = [f'  {{ "count" : {count} }}']
    for name, total, average, median in rows:
        lines.append(
            f', {{ "name" : "{name}", "timeMs" : {g(total)}, "averageMs" : {g(average)}, "medianMs" : {g(median)}'
            f', "percentage" : {g(total / whole * 100)} }}'
        )
    return "[\n" + "\n".join(lines) + "\n]\n"


def layers_json(names: Iterable[str], tactic: str, *, detailed: bool = True) -> str:
    """`--exportLayerInfo`, every layer a convolution by one kernel."""
    if not detailed:
        return json.dumps({"Layers": list(names), "Bindings": ["input", "output"]})
    layers = [
        {
            "Name": name,
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
            "TacticName": tactic,
        }
        for name in names
    ]
    return json.dumps({"Layers": layers, "Bindings": ["input", "output"]})
