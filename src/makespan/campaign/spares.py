"""How many of the accelerators a run holds should compute, and how many should stand by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

NO_WAIT = 1e-9
"""Odds of a wait below this are called none. [-]"""
ROUNDING = 1e-9
"""Part of a count by which it may fall short by rounding. [-]"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standby:
    """For each size the run may hold (k) the level it computes on; shape (R, L).

    level : that level, at most k; -1 where none has a speed.
    wait_probability, wait_s : odds that a fault finds no spare node, and the mean wait for one then.
    """

    level: IntArray
    wait_probability: FloatArray
    wait_s: FloatArray


def stand_by(
    size: FloatArray,
    accelerators_per_node: float,
    spare_fraction: float,
    *,
    speed_flop_per_s: FloatArray,
    hardware_per_s: FloatArray,
    hazard_per_s: FloatArray,
    kept_s: FloatArray,
    cycle_s: FloatArray,
    repair_s: FloatArray,
) -> Standby:
    """Choose the computing level of greatest useful speed for each size held.

    With level k the run holds at least size[k] / (1 - spare_fraction). When it computes on level l <= k, the rest, in
    whole nodes, is its spares S. A hardware fault sends a node to repair for `repair_s`; it finds no spare with Erlang's
    probability B(S, hardware * repair_s) and then waits for the first of S + 1 nodes, repair_s / (S + 1). The useful
    speed is  speed kept / (cycle + wait).  So a run whose nodes are slow to come back computes on fewer, rather than
    stand still after every fault.

    Parameters
    ----------
    size : ascending, `inf` where unused, shape (L,).
    speed_flop_per_s, hardware_per_s, hazard_per_s, kept_s, cycle_s : at each level; the last two without waits; (R, L).
    repair_s : shape (R,).
    """
    num_replicates, num_levels = speed_flop_per_s.shape
    best = np.full((num_levels, num_replicates), -1.0)
    level = np.full((num_levels, num_replicates), -1, np.int64)
    probability, wait = np.zeros_like(best), np.zeros_like(best)
    held = size / (1.0 - spare_fraction)
    for low in np.flatnonzero(np.isfinite(size)):
        above = np.arange(low, num_levels)[np.isfinite(size[low:])]
        spares = np.floor((held[above] - size[low]) / accelerators_per_node * (1.0 + ROUNDING)).astype(np.int64)
        blocked = _blocked(spares, hardware_per_s[:, low] * repair_s)
        odds = blocked * (hardware_per_s[:, low] / hazard_per_s[:, low])
        odds[odds < NO_WAIT] = 0.0
        mean = repair_s / (spares[:, None] + 1.0)
        useful = speed_flop_per_s[:, low] * kept_s[:, low] / (cycle_s[:, low] + odds * mean)
        better = (useful >= best[above]) & (speed_flop_per_s[:, low] > 0)
        for table, values in ((best, useful), (level, low), (probability, odds), (wait, mean)):
            table[above] = np.where(better, values, table[above])
    return Standby(level=level.T, wait_probability=probability.T, wait_s=wait.T)


def _blocked(spares: IntArray, offered: FloatArray) -> FloatArray:
    """Erlang's B for every number of spares and every load; shape (spares, loads). As `closed_form.erlang_b`.

    Beyond seven standard deviations above the load B is called 0 (it is below `NO_WAIT`); where a load is over twice the
    spares it is 1 - S/a, to which B tends from above. Neither depends on the other loads.
    """
    most = int(spares.max())
    flooded = offered > 2.0 * most + 100.0
    blocked = np.maximum(1.0 - spares[:, None] / np.maximum(offered, 1e-300)[None, :], 0.0)
    if np.all(flooded):
        return np.asarray(blocked)
    places = np.flatnonzero(~flooded)
    places = places[np.argsort(-offered[places], kind="stable")]
    load = offered[places]
    last = np.ceil(load + 7.0 * np.sqrt(load) + 10.0)
    # From one number of spares to the next, greatest loads first: those that the number is far beyond drop out.
    asked, back = np.unique(spares, return_inverse=True)
    kept = np.zeros((len(asked), len(load)))
    row, below = np.ones(len(load)), np.empty(len(load))
    done = 0
    for own, spare in zip(kept, asked.tolist(), strict=True):
        left = np.count_nonzero(last >= spare)
        load, row, below = load[:left], row[:left], below[:left]
        for number in range(done + 1, spare + 1 if left else 0):
            np.multiply(load, row, out=row)
            np.divide(row, np.add(row, float(number), out=below), out=row)
        own[:left], done = row, spare
    blocked[:, places] = kept[back]
    return np.asarray(blocked)
