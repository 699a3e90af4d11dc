"""A scaling curve as data and as a terminal table; the drawing is in `scaling_plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from makespan.report import formats as f
from makespan.report.bands import number
from makespan.report.step_text import layout_data
from makespan.specs.search import HowFar, ScalingPoint, TrainTime
from makespan.units import DAY_S

if TYPE_CHECKING:
    from rich.console import Group

    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.training import StepConfig

LIMITS = {
    "none": "",
    "batch": "batch",
    "memory": "memory",
    "network": "network",
    "stragglers": "waiting for the slowest",
    "power": "power",
    "constraints": "constraints: no layout",
}
"""What `ScalingPoint.limit` is called."""

MEANING = {
    "batch": "the batch: ten times as many sequences for the same tokens would help most",
    "memory": "memory: accelerators that hold ten times as much would help most",
    "network": "the network: ten times the bandwidth and a tenth of the latency would help most",
    "stragglers": "waiting for the slowest accelerator",
    "power": "power: no more accelerators can be fed",
    "constraints": "the constraints: no layout they allow is legal there",
    "none": "no single cause",
}


def point_data(point: ScalingPoint) -> dict[str, Any]:
    """One size as plain JSON data, SI units; null where nothing fits."""
    estimate = point.estimate
    fits = estimate is not None
    return {
        "num_accelerators": point.num_accelerators,
        "global_batch": point.global_batch,
        "layout": None if estimate is None else layout_data(estimate.layout),
        "num_idle": None if estimate is None else estimate.num_idle,
        "step_s": None if estimate is None else number(estimate.time_s),
        "memory_bytes": None if estimate is None else number(estimate.memory.total_bytes),
        "tokens_per_s": number(point.tokens_per_s) if fits else None,
        "mfu": number(point.mfu) if fits else None,
        "useful_tokens_per_s": number(point.useful_tokens_per_s) if fits else None,
        "tokens": {
            "p10": number(point.tokens_p10),
            "p50": number(point.tokens),
            "p90": number(point.tokens_p90),
        },
        "train_s": {
            "p10": number(point.train_p10_s),
            "p50": number(point.train_s),
            "p90": number(point.train_p90_s),
        },
        "limit": point.limit,
        "gains": {name: number(gain) for name, gain in point.gains.items()},
    }


def scaling_data(points: Sequence[ScalingPoint], far: HowFar | None = None) -> dict[str, Any]:
    """A curve as plain JSON data: `points` in ascending order of size, and how far it scales.

    A gain of null is infinite: nothing fits otherwise.
    """
    return {
        "points": [point_data(point) for point in points],
        "how_far": None
        if far is None
        else {
            "least_gain": far.least_gain,
            "num_accelerators": far.num_accelerators,
            "gain": number(far.gain),
            "limit": far.limit,
            "largest": far.largest,
        },
    }


def train_time_data(time: TrainTime) -> dict[str, Any]:
    """Time to a budget as plain JSON data, SI units."""
    return {
        "reference_batch": time.reference_batch,
        "tokens": {"p10": number(time.tokens_p10), "p50": number(time.tokens), "p90": number(time.tokens_p90)},
        "train_s": {"p10": number(time.train_p10_s), "p50": number(time.train_s), "p90": number(time.train_p90_s)},
        "num_steps": number(time.num_steps),
        "stages": [
            {
                "from_tokens": number(stage.from_tokens),
                "global_batch": stage.global_batch,
                "tokens": number(stage.tokens),
                "num_steps": number(stage.num_steps),
                "step_s": None if stage.estimate is None else number(stage.estimate.time_s),
                "layout": None if stage.estimate is None else layout_data(stage.estimate.layout),
                "train_s": number(stage.train_s),
            }
            for stage in time.stages
        ],
    }


def how_far_text(far: HowFar) -> str:
    """How far a run scales, in a sentence.

    Examples
    --------
    >>> how_far_text(HowFar(least_gain=1.5, num_accelerators=4096, gain=1.42, limit="batch", largest=8192))
    'From 4,096 accelerators on, twice as many are less than 1.5 times as fast (1.42 times there). What stops it is the batch: ten times as many sequences for the same tokens would help most.'
    """
    least = f"{far.least_gain:g} times as fast"
    if far.largest == 0:
        return "No size of the curve on which the model fits could be doubled: how far it scales cannot be said."
    if far.num_accelerators is None:
        return (
            f"Up to {far.largest:,} accelerators, the largest size that the curve holds twice, doubling gives at least "
            f"{least} ({far.gain:.2f} times there)."
        )
    return (
        f"From {far.num_accelerators:,} accelerators on, twice as many are less than {least} ({far.gain:.2f} times there). "
        f"What stops it is {MEANING[far.limit]}."
    )


def limit_text(point: ScalingPoint) -> str:
    """The limit of a point with what its absence would gain: "batch 1.4x"."""
    gain = point.gains.get(point.limit, math.nan)
    return LIMITS[point.limit] + (f" {gain:.1f}x" if math.isfinite(gain) and gain > 1.0 else "")


def _days(seconds: float) -> str:
    return f.DASH if not math.isfinite(seconds) else f.significant(seconds / DAY_S)


def _rate(tokens_per_s: float) -> str:
    """Tokens a second in three digits.

    >>> _rate(1234567.0), _rate(28_700.0), _rate(4.2e9)
    ('1.23M', '28.7k', '4.20G')
    """
    scale, unit = next(((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if tokens_per_s >= s), (1.0, ""))
    return f"{f.significant(tokens_per_s / scale)}{unit}"


def _trillions(tokens: float) -> str:
    return f"{f.significant(tokens / 1e12)}T"


def scaling_table(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    points: Sequence[ScalingPoint],
    far: HowFar | None = None,
    *,
    rules: Sequence[str] = (),
) -> Group:
    """A size a line, within 80 columns; below, the layout of each size, how far the run scales, and the rules that filled what was not given.

    Parameters
    ----------
    config : its `global_batch` is the reference of the budget.   rules : sentences to print as they are.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = (
        f"{model.name} on up to {points[-1].num_accelerators:,} {cluster.accelerator.name}, {config.seq_len:,} tokens a "
        f"sequence, {config.precision}, {profile.name}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("accel.", "batch", "tokens/s", "MFU", "tokens", "days", "P10-P90"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("limit", min_width=12)
    layouts = Table.grid(padding=(0, 2, 0, 0))
    layouts.add_column(justify="right", no_wrap=True)
    layouts.add_column(overflow="fold")
    for point in points:
        estimate = point.estimate
        size, batch = f"{point.num_accelerators:,}", f"{point.global_batch:,}"
        if estimate is None:
            table.add_row(size, batch, f.DASH, f.DASH, f.DASH, f.DASH, "", limit_text(point))
            layouts.add_row(size, "nothing fits")
            continue
        table.add_row(
            size,
            batch,
            _rate(point.tokens_per_s),
            f"{point.mfu:.1%}",
            _trillions(point.tokens),
            _days(point.train_s),
            f"{_days(point.train_p10_s)}-{_days(point.train_p90_s)}",
            limit_text(point),
        )
        idle = f" ({estimate.num_idle:,} idle)" if estimate.num_idle else ""
        layouts.add_row(size, f"{estimate.layout}{idle}")
    parts: list[Any] = [Text(head, style="bold"), table, Text("layouts", style="bold"), layouts, Text("")]
    if far is not None:
        parts.append(Text(how_far_text(far)))
    parts.append(Text(NOTE, style="dim"))
    parts += [Text(f"rule: {rule}", style="dim") for rule in rules]
    return Group(*parts)


NOTE = (
    "Batch in sequences. MFU of the whole cluster, idle accelerators included. Days of training alone: failures, checkpoints "
    "and evaluation come on top. Limit: the cause without which the run would be fastest, with how many times; blank where "
    "less than a tenth of the curve's best speed per accelerator is lost, or no cause explains a tenth."
)


def train_time_table(time: TrainTime) -> Group:
    """The stages of a ramp and their sum."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("from", "batch", "tokens", "steps", "step s", "days"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("layout", overflow="fold")
    for stage in time.stages:
        table.add_row(
            _trillions(stage.from_tokens),
            f"{stage.global_batch:,}",
            _trillions(stage.tokens),
            f"{stage.num_steps:,.0f}",
            f.DASH if stage.estimate is None else f"{stage.estimate.time_s:.3f}",
            _days(stage.train_s),
            "nothing fits" if stage.estimate is None else str(stage.estimate.layout),
        )
    answer = (
        f"{_trillions(time.tokens)} tokens in {_days(time.train_s)} days of training, eight chances in ten "
        f"{_days(time.train_p10_s)} to {_days(time.train_p90_s)}."
        if math.isfinite(time.train_s)
        else "Nothing fits at a batch of this ramp: the run never ends."
    )
    return Group(table, Text(answer))
