"""Errors of many rows as few figures: each configuration once, groups, ratios between scales, spread of the measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from makespan.validation.result import COUNTED, OK, RowResult, ScalePoint, Spread, Summary
from makespan.validation.split import SPLITS

K = TypeVar("K", bound=str | int)

SMALLEST_GROUP = 30
"""Configurations from which a group is held to its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure has to reach and what it should: shares between 0 and 1, upper limits."""

    must: float
    aim: float

    def verdict(self, value: float | None) -> str:
        """`aim`, `must` or `missed`; empty without a value."""
        if value is None:
            return ""
        return "aim" if value <= self.aim else "must" if value <= self.must else "missed"


MEDIAN = Target(must=0.05, aim=0.03)
P90 = Target(must=0.15, aim=0.08)
GROUP_MEDIAN = Target(must=0.08, aim=0.05)
SCALING = Target(must=0.04, aim=0.02)
MEMORY = Target(must=0.05, aim=0.02)
INEXPRESSIBLE = Target(must=0.05, aim=0.0)
OFF_COVERAGE = Target(must=0.10, aim=0.02)
"""Distance of the coverage from 80 %."""


def quantile(values: Iterable[float], share: float) -> float | None:
    """Value at a share of the ordered values, between neighbours in proportion; None for no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Iterable[float]) -> float:
    """The middle value of at least one."""
    middle = quantile(values, 0.5)
    assert middle is not None
    return middle


def _by(rows: Iterable[RowResult], key: Callable[[RowResult], K]) -> dict[K, list[RowResult]]:
    groups: dict[K, list[RowResult]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def summarise(
    errors: Sequence[float],
    coverages: Iterable[float] = (),
    *,
    split: str = "all",
    group: str,
    name: str = "all",
    num_rows: int | None = None,
) -> Summary:
    """Statistics of the signed errors of configurations.

    Parameters
    ----------
    errors : predicted over published, less one; one a configuration.
    coverages : share of a configuration's published times inside their intervals.
    num_rows : rows behind them; as many as errors where it is not given.
    """
    absolute = [abs(error) for error in errors]
    inside = list(coverages)
    return Summary(
        split=split,
        group=group,
        name=name,
        num=len(errors) if num_rows is None else num_rows,
        num_configurations=len(errors),
        median_absolute=quantile(absolute, 0.5),
        p90_absolute=quantile(absolute, 0.9),
        median_signed=quantile(errors, 0.5),
        coverage=sum(inside) / len(inside) if inside else None,
    )


def of_configurations(rows: Iterable[RowResult], *, split: str, group: str, name: str) -> Summary:
    """Statistics of predicted rows, each configuration weighted once."""
    predicted = [row for row in rows if row.error is not None]
    errors, coverages = [], []
    for members in _by(predicted, lambda row: row.configuration).values():
        errors.append(median(row.error for row in members if row.error is not None))
        covered = [row.is_covered for row in members if row.is_covered is not None]
        if covered:
            coverages.append(sum(covered) / len(covered))
    return summarise(errors, coverages, split=split, group=group, name=name, num_rows=len(predicted))


def summaries_of(rows: Iterable[RowResult]) -> tuple[Summary, ...]:
    """For all rows that count and for each split: everything, then each group. Groups without predictions are left out."""
    counted = [row for row in rows if row.standing == COUNTED and row.error is not None]
    summaries = []
    for split in ("all", *SPLITS):
        members = [row for row in counted if split in ("all", row.split)]
        if not members:
            continue
        summaries.append(of_configurations(members, split=split, group="all", name="all"))
        kinds: tuple[tuple[str, Callable[[RowResult], Iterable[str]]], ...] = (
            ("profile", lambda row: [row.profile]),
            ("profile on", lambda row: [f"{row.profile} on {row.accelerator}"]),
            ("accelerator", lambda row: [row.accelerator]),
            *((kind, _names_of(kind)) for kind in ("generation", "precision", "architecture", "parallelism")),
        )
        for kind, names_of in kinds:
            for name in sorted({name for row in members for name in names_of(row)}):
                chosen = [row for row in members if name in names_of(row)]
                summaries.append(of_configurations(chosen, split=split, group=kind, name=name))
    return tuple(summaries)


def _names_of(kind: str) -> Callable[[RowResult], list[str]]:
    return lambda row: [name for of, name in row.groups if of == kind]


def expressible_share(rows: Iterable[RowResult]) -> float | None:
    """Share with a prediction of the rows that count; None without any."""
    counted = [row for row in rows if row.standing == COUNTED]
    return sum(row.status == OK for row in counted) / len(counted) if counted else None


def spread_of(rows: Iterable[RowResult]) -> Spread:
    """Largest over smallest published time, less 1, of every configuration that was measured more than once."""
    timed = [row for row in rows if row.standing == COUNTED and row.configuration and row.published_step_time_s]
    spreads = []
    for members in _by(timed, lambda row: row.configuration).values():
        times = [row.published_step_time_s or 0.0 for row in members]
        if len(times) > 1:
            spreads.append(max(times) / min(times) - 1.0)
    return Spread(num=len(spreads), median=quantile(spreads, 0.5), p90=quantile(spreads, 0.9))


def scaling_of(rows: Iterable[RowResult]) -> tuple[ScalePoint, ...]:
    """Every size of every series beyond its smallest: step times over the smallest size's, measured and predicted.

    Several measurements of one size are taken at their median.
    """
    chosen = [row for row in rows if row.standing == COUNTED and row.series and row.error is not None]
    points = []
    for series, members in sorted(_by(chosen, lambda row: row.series).items()):
        sizes = _by(members, lambda row: row.num_accelerators or 0)
        if len(sizes) < 2:
            continue
        times = {
            size: (
                median(row.published_step_time_s or math.nan for row in same),
                median(row.step_time_s or math.nan for row in same),
            )
            for size, same in sizes.items()
        }
        smallest = min(times)
        first = members[0]
        points += [
            ScalePoint(
                series=series,
                split=first.split,
                model=first.model,
                accelerator=first.accelerator,
                precision=dict(first.groups).get("precision", ""),
                smallest=smallest,
                num_accelerators=size,
                measured=times[size][0] / times[smallest][0],
                predicted=times[size][1] / times[smallest][1],
            )
            for size in sorted(times)
            if size != smallest
        ]
    return tuple(points)
