"""How well layouts are told apart: measured against predicted ratios of pairs that one release ran on one model.

A search compares layouts of one model under one software on one machine. What all of them share (clocks, kernels, the
day's release) cancels in a ratio, so the error of a comparison is another figure than the error of one step time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

from makespan.validation.result import COUNTED, Comparison, ComparisonSpread, RowResult
from makespan.validation.split import SPLITS

MEDIAN_OF_NORMAL = 0.6744897501960817
"""Median of the absolute value of a standard normal: what turns a median of |error| into a standard deviation."""


def comparisons_of(rows: Iterable[RowResult]) -> tuple[Comparison, ...]:
    """Every pair of counted rows with the same `rivals` and different `choices`.

    Notes
    -----
    Sizes and batches may differ, since few tables run two layouts on the same machine. Each time is predicted with its own
    size and batch, so different work cancels between the measured and the predicted ratio; what scale costs stays in.
    """
    groups: dict[str, list[RowResult]] = {}
    for row in rows:
        if row.standing == COUNTED and row.rivals and row.error is not None:
            groups.setdefault(row.rivals, []).append(row)
    return tuple(
        comparison
        for _, members in sorted(groups.items())
        for first, second in combinations(members, 2)
        if (comparison := _compared(first, second)) is not None
    )


def _compared(first: RowResult, second: RowResult) -> Comparison | None:
    differing = [name for (name, a), (_, b) in zip(first.choices, second.choices, strict=True) if a != b]
    if not differing:
        return None
    predicted = (first.step_time_s or math.nan) / (second.step_time_s or math.nan)
    measured = (first.published_step_time_s or math.nan) / (second.published_step_time_s or math.nan)
    return Comparison(
        split=first.split,
        rivals=first.rivals,
        model=first.model,
        accelerator=first.accelerator,
        first=first.id,
        second=second.id,
        dimensions=tuple(differing),
        measured=measured,
        predicted=predicted,
        same_size=first.num_accelerators == second.num_accelerators,
    )


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value at which half of the weight lies on either side, between neighbours in proportion.

    Examples
    --------
    >>> weighted_median([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), weighted_median([1.0, 3.0], [3.0, 1.0])
    (2.0, 1.5)
    """
    ordered = sorted(zip(values, weights, strict=True))
    total, below = sum(weights), 0.0
    places = []
    for value, weight in ordered:
        places.append(((below + weight / 2.0) / total, value))
        below += weight
    for (left, low), (right, high) in pairwise(places):
        if left <= 0.5 <= right:
            return low + (high - low) * (0.5 - left) / (right - left)
    return places[0][1] if places[0][0] > 0.5 else places[-1][1]


def spread_of_comparisons(comparisons: Sequence[Comparison], *, split: str, name: str) -> ComparisonSpread | None:
    """The robust spread of comparisons, each group of rivals weighted once; None without any.

    Notes
    -----
    Taken about zero: which of two layouts comes first is chance, so there is no bias to take off.
    """
    pairs = [c for c in comparisons if c.split == split]
    if not pairs:
        return None
    members: dict[str, int] = {}
    for pair in pairs:
        members[pair.rivals] = members.get(pair.rivals, 0) + 1
    weights = [1.0 / members[pair.rivals] for pair in pairs]
    middle = weighted_median([abs(pair.error) for pair in pairs], weights)
    return ComparisonSpread(
        split=split, name=name, num=len(pairs), num_groups=len(members), sigma=middle / MEDIAN_OF_NORMAL
    )


def spreads_of(comparisons: Sequence[Comparison]) -> tuple[ComparisonSpread, ...]:
    """For each split: all pairs, pairs on as many accelerators, and pairs that differ in a dimension."""
    dimensions = sorted({name for pair in comparisons for name in pair.dimensions})
    chosen = {"all": list(comparisons), "same size": [pair for pair in comparisons if pair.same_size]}
    chosen |= {name: [pair for pair in comparisons if name in pair.dimensions] for name in dimensions}
    found = [spread_of_comparisons(pairs, split=split, name=name) for split in SPLITS for name, pairs in chosen.items()]
    return tuple(spread for spread in found if spread is not None)
