"""Integrals of piecewise constant capacity: accelerator-seconds between two dates, replicate by replicate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepFunction:
    """A count that holds from each start to the next one's, the last for ever; times from 0 on.

    start_s, values : shape (replicates, segments); unused segments start at `inf`.
    cumulative : integral from 0 to each start, shape (replicates, segments). [count s]
    """

    start_s: FloatArray
    values: FloatArray
    cumulative: FloatArray

    @classmethod
    def of(cls, start_s: FloatArray, values: FloatArray) -> StepFunction:
        """From a `CapacityTimeline`'s arrays.

        Examples
        --------
        >>> ramp = StepFunction.of(np.array([[0.0, 10.0, np.inf]]), np.array([[0.0, 5.0, 5.0]]))
        >>> ramp.integral(np.array([12.0]))
        array([10.])
        """
        finite = np.where(np.isfinite(start_s), start_s, 0.0)
        lengths = np.where(np.isfinite(start_s[:, 1:]), finite[:, 1:] - finite[:, :-1], 0.0)
        cumulative = np.zeros_like(finite)
        np.cumsum(values[:, :-1] * lengths, axis=1, out=cumulative[:, 1:])
        return cls(start_s=start_s, values=values, cumulative=cumulative)

    def _index(self, until_s: FloatArray) -> NDArray[np.intp]:
        index: NDArray[np.intp] = np.maximum(np.sum(self.start_s <= until_s[:, None], axis=1) - 1, 0)
        return index

    def at(self, time_s: FloatArray) -> FloatArray:
        """Value at finite times of shape (replicates,)."""
        return np.take_along_axis(self.values, self._index(time_s)[:, None], axis=1)[:, 0]

    def integral(self, until_s: FloatArray) -> FloatArray:
        """From 0 to finite times of shape (replicates,). [count s]"""
        index = self._index(until_s)[:, None]
        before = np.take_along_axis(self.cumulative, index, axis=1)[:, 0]
        value = np.take_along_axis(self.values, index, axis=1)[:, 0]
        start = np.take_along_axis(self.start_s, index, axis=1)[:, 0]
        passed: FloatArray = np.maximum(until_s - start, 0.0)
        return before + value * passed

    def between(self, from_s: FloatArray, until_s: FloatArray) -> FloatArray:
        """From one time to a later one (0 where it is not later); `inf` starts give 0. [count s]"""
        start = np.where(np.isfinite(from_s), np.maximum(from_s, 0.0), np.inf)
        begin = np.minimum(start, until_s)
        return np.maximum(self.integral(until_s) - self.integral(begin), 0.0)

    def first_positive_s(self) -> FloatArray:
        """When the value is first above 0; `inf` for never. Shape (replicates,)."""
        first: FloatArray = np.min(np.where(self.values > 0, self.start_s, np.inf), axis=1)
        return first

    def largest_until(self, until_s: FloatArray) -> FloatArray:
        """Largest value that starts before a time of shape (replicates,); 0 for none."""
        largest: FloatArray = np.max(np.where(self.start_s < until_s[:, None], self.values, 0.0), axis=1)
        return largest

    def additions(self) -> FloatArray:
        """What is new at each start, shape (replicates, segments); reductions count as nothing new."""
        running = np.maximum.accumulate(self.values, axis=1)
        added = np.diff(running, axis=1, prepend=0.0)
        return np.where(np.isfinite(self.start_s), added, 0.0)
