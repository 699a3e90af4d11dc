"""A played-out pipeline as compact JSON data, each once however many options share it; and the words beside its drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from makespan.report.bands import number
from makespan.report.formats import percent
from makespan.specs.plan import OptionResult, PlayedPipeline

FINE = 1e6
"""Ticks of a drawing from its first start to its last end, at most: starts of passes are whole ticks."""


def distinct(options: Sequence[OptionResult]) -> list[PlayedPipeline]:
    """The pipelines of the shown layouts, each once, in the order of the options."""
    found: list[PlayedPipeline] = []
    for option in options:
        pipeline = option.shown.pipeline if option.shown is not None else None
        if pipeline is not None and not any(pipeline is other for other in found):
            found.append(pipeline)
    return found


def place(option: OptionResult, pipelines: Sequence[PlayedPipeline]) -> int | None:
    """Where among them an option's own is; None without one."""
    own = option.shown.pipeline if option.shown is not None else None
    return next((index for index, other in enumerate(pipelines) if other is own), None)


def tick_s(span_s: float) -> float:
    """The power of ten in which starts are told: the finest that gives at most `FINE` ticks.

    Examples
    --------
    >>> tick_s(5.2), tick_s(0.0)
    (1e-05, 1.0)
    """
    return 1.0 if span_s <= 0.0 else 10.0 ** math.ceil(math.log10(span_s / FINE))


def pipeline_data(pipeline: PlayedPipeline) -> dict[str, Any]:
    """Stages with their seconds, and for each drawn rank the passes in columns. A pass lasts as its stage says."""
    tick = tick_s(pipeline.span_s)
    stages = zip(
        pipeline.layers_per_stage, pipeline.forward_s, pipeline.input_grad_s, pipeline.weight_grad_s, strict=True
    )
    return {
        "num_micro_batches": pipeline.num_micro_batches,
        "num_drawn": pipeline.num_played,
        "span_s": number(pipeline.span_s),
        "tick_s": tick,
        "stages": [
            {
                "num_layers": layers,
                "forward_s": number(forward),
                "input_grad_s": number(input_grad),
                "weight_grad_s": number(weight_grad),
            }
            for layers, forward, input_grad, weight_grad in stages
        ],
        "ranks": [
            {
                "rank": rank,
                "idle_s": number(idle),
                "passes": "".join(kind for _, _, kind, _, _ in row),
                "start": [round(start / tick) for start, *_ in row],
                "micro_batch": [micro_batch for _, _, _, micro_batch, _ in row],
                "chunk": [chunk for *_, chunk in row],
            }
            for rank, idle, row in zip(pipeline.ranks, pipeline.idle_s, pipeline.rows, strict=True)
        ],
    }


def caption(step: dict[str, Any], layout: dict[str, Any], pipeline: dict[str, Any]) -> str:
    """What a drawing shows and what it leaves out, in sentences. Arguments are parts of `result.json`."""
    drawn, of, ranks = pipeline["num_drawn"], pipeline["num_micro_batches"], pipeline["ranks"]
    every = len(ranks) == layout["pp"]
    rows = f"its {layout['pp']} ranks" if every else f"{len(ranks)} of its {layout['pp']} ranks"
    pipelines = layout["tp"] * layout["cp"] * layout["dp"]
    which = "The only pipeline" if pipelines == 1 else f"One of {pipelines:,} pipelines"
    idle = [rank["idle_s"] / pipeline["span_s"] for rank in ranks]
    waits = f"The busiest rank waits {percent(min(idle))} of this time, one on average {percent(sum(idle) / len(idle))}"
    if drawn < of:
        bubble = (step["breakdown_s"].get("bubble") or 0.0) / step["time_s"]
        batch = (
            f"Drawn is a batch of {drawn:,} micro-batches from its start to its end; a step has {of:,}, and its middle goes on "
            f"in the same way. {waits}; the bubble of the whole step is {percent(bubble)}."
        )
    else:
        batch = f"All {of:,} micro-batches of a step. {waits}." if of > 1 else f"A step is one micro-batch. {waits}."
    return (
        f"{which}: the rows are {rows}, time runs to the right, blank is waiting. {batch} "
        "Gradients are summed and weights updated afterwards."
    )


def legend(pipeline: dict[str, Any]) -> list[tuple[str, str]]:
    """Kinds of passes that a drawing has, and what they are called."""
    found = {kind for rank in pipeline["ranks"] for kind in rank["passes"]}
    return [(kind, name) for kind, name in PASSES.items() if kind in found]


PASSES = {
    "F": "forward",
    "B": "backward (gradients of inputs and weights)",
    "I": "backward: gradients of inputs",
    "W": "backward: gradients of weights",
}


def stage_rows(pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    """Neighbouring stages that are alike as one row: first and last stage, layers and seconds of each."""
    rows: list[dict[str, Any]] = []
    for index, stage in enumerate(pipeline["stages"]):
        if rows and all(rows[-1][key] == value for key, value in stage.items()):
            rows[-1]["last"] = index
        else:
            rows.append({"first": index, "last": index, **stage})
    return rows
