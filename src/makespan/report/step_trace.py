"""The step of a layout, played out and written as a trace."""

from __future__ import annotations

from pathlib import Path

from makespan.report.labels import STEP_PARTS
from makespan.report.trace import Segment, TraceParts, check_events, write_trace
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout
from makespan.specs.model import ModelSpec
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.orders import WorkKind
from makespan.step.stages import pipeline_timeline, stage_times

AFTERWARDS = ("dp", "fsdp", "optimizer", "jitter")
"""Parts of a step that follow the passes, or are drawn so: under ZeRO-3 gathering and reducing is spread over the step."""


def _fewest_events(layout: Layout, global_batch: int) -> int:
    """Passes of a step on one pipeline: three for every chunk and micro-batch. Known before anything is played out. [-]"""
    count = int(LayoutArrays.of([layout]).num_micro_batches(global_batch)[0])
    return 3 * layout.pp * layout.vpp * count


def step_trace(
    path: Path,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
) -> Path:
    """Write one pipeline of a runnable layout as a Chrome trace; the directory must exist.

    The schedule is played out event by event, so its length may differ a little from the estimate's closed form.

    Raises
    ------
    ScenarioError : too many events, or the file cannot be written (MS902).
    """
    check_events(_fewest_events(estimate.layout, config.global_batch))
    times = stage_times(model, config, cluster, profile, estimate.layout)
    timeline = pipeline_timeline(model, config, cluster, profile, estimate.layout)
    shares = {name: share for name, share in times.exposed_fraction.items() if share > 0.0}
    after = [
        Segment(name=STEP_PARTS[name].lower(), category=name, seconds=estimate.breakdown[name])
        for name in AFTERWARDS
        if estimate.breakdown.get(name, 0.0) > 0.0
    ]
    parts = TraceParts(exposed={WorkKind.FORWARD: shares, WorkKind.INPUT_GRAD: shares}, after=after)
    return write_trace(path, timeline, parts, title=f"{model.name}, {estimate.layout}")
