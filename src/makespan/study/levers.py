"""Which uncertain input moves the date: read off the replicates that were run anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from makespan.specs.plan import Lever, OptionResult
from makespan.uncertainty import percentiles

FloatArray = NDArray[np.float64]

GROUP_SHARE = 0.2
"""The lowest and the highest fifth of an input are compared."""

SIGNIFICANT = 4.0
"""A lever is reported when its rank correlation with the date exceeds so many standard errors, 1/sqrt(replicates - 1)."""


def levers(
    results: Sequence[OptionResult],
    relevant: Sequence[frozenset[str]],
    draws: Mapping[str, FloatArray],
    *,
    most: int = 10,
) -> tuple[Lever, ...]:
    """For every option, the inputs that its release date follows, strongest first.

    relevant : for each option, names of the draws that entered it.
    draws : name -> values, shape (replicates,).

    Notes
    -----
    An input's effect is the difference between the median release among replicates in its highest and its lowest
    fifth, all other inputs drawn as they come: a main effect, interactions averaged over. "Never" counts as the horizon
    would: later than every date; an option without a median is left out.
    """
    found: list[Lever] = []
    for result, names in zip(results, relevant, strict=True):
        release = result.campaign.release_s
        if len(release) < 20 or not np.isfinite(percentiles(release)[1]):
            continue
        capped = np.minimum(release, result.campaign.horizon_s)
        ranks = _ranks(capped)
        bound = SIGNIFICANT / np.sqrt(len(release) - 1)
        rows = []
        for name in sorted(names & draws.keys()):
            values = draws[name]
            if np.all(values == values[0]):
                continue
            correlation = _correlation(_ranks(values), ranks)
            if abs(correlation) < bound:
                continue
            rows.append(_lever(result.option.name, name, values, capped))
        rows.sort(key=lambda lever: -abs(lever.late_s - lever.early_s))
        found += rows[:most]
    return tuple(found)


def _lever(option: str, name: str, values: FloatArray, release: FloatArray) -> Lever:
    order = np.argsort(values, kind="stable")
    size = max(int(len(order) * GROUP_SHARE), 1)
    low, high = order[:size], order[-size:]
    return Lever(
        option=option,
        name=name,
        low=float(np.median(values[low])),
        high=float(np.median(values[high])),
        early_s=float(np.median(release[low])),
        late_s=float(np.median(release[high])),
    )


def _ranks(values: FloatArray) -> FloatArray:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values))
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, weights=ranks)
    return np.asarray((sums / counts)[inverse])


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
