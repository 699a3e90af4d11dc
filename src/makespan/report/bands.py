"""Replicates to three percentiles: of dates, of numbers and of curves. Rounded, so that a file stays small and stable."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from makespan.uncertainty import percentiles
from makespan.units import DAY_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

PROBABILITIES = (0.1, 0.5, 0.9)
KEYS = ("p10", "p50", "p90")
DIGITS = 9
CURVE_DIGITS = 5


def number(value: float, digits: int = DIGITS) -> float | int | None:
    """A finite number with `digits` significant digits; None for `nan` and `inf`. Whole numbers lose their point.

    >>> number(1 / 3), number(24000.0), number(float("inf"))
    (0.333333333, 24000, None)
    """
    value = float(value)
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits - 1}e}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def iso_date(as_of: dt.date, seconds: float) -> str | None:
    """The day, UTC, that lies so many seconds after 00:00 of `as_of`; None for never.

    >>> iso_date(dt.date(2024, 7, 10), 86399.0), iso_date(dt.date(2024, 7, 10), float("inf"))
    ('2024-07-10', None)
    """
    if not math.isfinite(seconds):
        return None
    try:
        return (as_of + dt.timedelta(days=math.floor(seconds / DAY_S))).isoformat()
    except OverflowError:
        return None


def band(values: FloatArray) -> dict[str, Any]:
    """P10, P50 and P90 of shape (replicates,); `inf` sorts last and becomes None."""
    if np.isnan(values).any():
        values = np.where(np.isnan(values), np.inf, values)
    return dict(zip(KEYS, map(number, percentiles(values, PROBABILITIES)), strict=True))


def date_band(as_of: dt.date, seconds: FloatArray) -> dict[str, Any]:
    """The same as ISO dates, with the share of replicates that get there at all."""
    result: dict[str, Any] = {
        key: iso_date(as_of, value) for key, value in zip(KEYS, percentiles(seconds, PROBABILITIES), strict=True)
    }
    result["probability_complete"] = number(float(np.mean(np.isfinite(seconds))))
    return result


def curve_band(values: FloatArray) -> dict[str, list[float | int | None]]:
    """P10, P50, P90 at every time of an array of shape (replicates, T)."""
    replicates = values.shape[0]
    ranks = [min(max(math.ceil(p * replicates) - 1, 0), replicates - 1) for p in PROBABILITIES]
    ordered = np.partition(np.where(np.isnan(values), np.inf, values), sorted(set(ranks)), axis=0)
    return {key: curve(ordered[rank]) for key, rank in zip(KEYS, ranks, strict=True)}


def curve(values: FloatArray) -> list[float | int | None]:
    """A curve of shape (T,) with the digits that a picture needs."""
    return [number(value, CURVE_DIGITS) for value in values]


def step_sampler(start_s: FloatArray, times_s: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Reads piecewise constant samples, shape (replicates, segments), at times of shape (T,): (replicates, T).

    The same as `CapacityTimeline.at`, with the search for segments done once for all arrays and in less memory.
    """
    index = np.empty((start_s.shape[0], len(times_s)), dtype=np.intp)
    for row, starts in enumerate(start_s):
        index[row] = np.searchsorted(starts, times_s, side="right") - 1
    np.maximum(index, 0, out=index)

    def sample(values: FloatArray) -> FloatArray:
        return np.take_along_axis(values, index, axis=1)

    return sample


def time_grid(end_s: float, points: int = 160) -> FloatArray:
    """Whole days from 0 to `end_s`, denser at the start where most of a plan happens. [s]"""
    end_day = max(math.ceil(end_s / DAY_S), 2)
    steps = np.linspace(0.0, 1.0, min(points, end_day + 1))
    days = np.unique(np.round(end_day * steps**1.4))
    return np.asarray(days * DAY_S, dtype=np.float64)
