"""Closed forms of a run with exponential failures and regular saves.

One *cycle* runs from one fault to the next. It holds the downtime (detection and the wait for a node, in which nothing
can fail), a restart that a further fault can cut short, and the time up: saves every `interval_s`, each stopping the
run for `blocking_s` and becoming safe `save_s` after it began. Everything here follows from the gap between faults
being exponential, so the part of a gap that outlives the restart is exponential again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

NO_HAZARD_S = 1e-15
"""Hazard used in place of none: one fault in 30 million years. [1/s]"""


def young_interval_s(blocking_s: ArrayLike, mtbf_s: ArrayLike) -> FloatArray:
    """Time between saves that wastes least, to first order. [s]

    Parameters
    ----------
    blocking_s : training stops for this long at each save. [s]
    mtbf_s : mean time between failures of the job. [s]

    References
    ----------
    J. W. Young, Communications of the ACM 17(9), 530-531, 1974.

    Examples
    --------
    >>> float(young_interval_s(50.0, 10_000.0))
    1000.0
    """
    return np.sqrt(2.0 * np.asarray(blocking_s, dtype=np.float64) * np.asarray(mtbf_s, dtype=np.float64))


def daly_interval_s(blocking_s: ArrayLike, mtbf_s: ArrayLike) -> FloatArray:
    """Time between saves that wastes least, to higher order; the MTBF itself where a save takes over twice that. [s]

    The arguments are those of `young_interval_s`.

    References
    ----------
    J. T. Daly, Future Generation Computer Systems 22(3), 303-312, 2006, equation 37.

    Examples
    --------
    >>> round(float(daly_interval_s(50.0, 10_000.0)), 1)
    966.9
    """
    blocking = np.asarray(blocking_s, dtype=np.float64)
    mtbf = np.asarray(mtbf_s, dtype=np.float64)
    ratio = blocking / (2.0 * mtbf)
    optimum = np.sqrt(2.0 * blocking * mtbf) * (1.0 + np.sqrt(ratio) / 3.0 + ratio / 9.0) - blocking
    return np.where(blocking < 2.0 * mtbf, optimum, mtbf)


def erlang_b(num_servers: ArrayLike, offered: ArrayLike) -> FloatArray:
    """Share of arrivals that find every server busy (Erlang's loss formula). [-]

    Here the servers are spare nodes and an arrival is a broken node: `offered` is the mean number of nodes that would be
    in repair. The loss formula holds whatever the distribution of the service time.

    Parameters
    ----------
    num_servers : whole numbers, at least 0.
    offered : mean arrivals in one service time, at least 0; `inf` gives 1. [-]

    References
    ----------
    R. B. Cooper, Introduction to Queueing Theory, 2nd ed., 1981, section 3.3 (formula and recursion).

    Examples
    --------
    >>> round(float(erlang_b(2, 1.0)), 3)
    0.2
    """
    servers, load = np.broadcast_arrays(np.asarray(num_servers, np.float64), np.asarray(offered, np.float64))
    servers, load = np.floor(servers).ravel(), load.ravel()
    # Seven standard deviations above the mean the probability is below 1e-10: it is called 0 and the recursion spared.
    ample = servers > load + 7.0 * np.sqrt(load) + 10.0
    blocked = np.where(ample, 0.0, 1.0)
    todo = np.flatnonzero(~ample & np.isfinite(load))
    todo = todo[np.argsort(servers[todo], kind="stable")]
    limit, rate, value = servers[todo], load[todo], np.ones(len(todo))
    first = np.searchsorted(limit, np.arange(1, int(limit.max(initial=0.0)) + 1))
    for number, start in enumerate(first, start=1):
        part = value[start:]
        part *= rate[start:]
        part /= number + part
    blocked[todo] = value
    return blocked.reshape(np.broadcast_shapes(np.shape(num_servers), np.shape(offered)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CycleMeans:
    """Expected seconds of one cycle from fault to fault, by what they are spent on. They add up to `cycle_s`. [s]"""

    cycle_s: FloatArray
    detection_s: FloatArray
    repair_wait_s: FloatArray
    restart_s: FloatArray
    kept_s: FloatArray
    lost_s: FloatArray
    checkpoint_s: FloatArray

    @property
    def goodput(self) -> FloatArray:
        """Seconds of training that are kept over all seconds. [-]"""
        return self.kept_s / self.cycle_s


def expected_cycle(
    hazard_per_s: ArrayLike,
    interval_s: ArrayLike,
    *,
    blocking_s: ArrayLike,
    save_s: ArrayLike,
    detection_s: ArrayLike,
    restart_s: ArrayLike,
    repair_wait_s: ArrayLike = 0.0,
    spread: float = 0.0,
) -> CycleMeans:
    """Expected make-up of a cycle.  Arguments broadcast.

    With h the hazard, R the restart (gamma distributed, coefficient of variation `spread`), b the blocking time,
    P = interval + b the period and c = max(save, b) the time until a save is safe:

    * a restart succeeds with probability  phi = E[exp(-h R)] = (1 + h R spread^2)^(-1/spread^2), or exp(-h R);
    * it takes (1 - phi)/h on average, cut short or not;
    * the number of safe saves in the time up has the mean  phi exp(-h (c - b)) / (exp(h P) - 1);
    * training in the time up takes  phi (1 - exp(-h interval)) / (h (1 - exp(-h P))).

    For a fixed restart and c = b, `cycle_s / kept_s` is the expected time per useful second of Daly (2006) and of
    Bougeret et al. (2011): (1/h + D) exp(h R) (exp(h P) - 1) / interval.

    References
    ----------
    M. Bougeret, H. Casanova, M. Rabie, Y. Robert, F. Vivien, "Checkpointing strategies for parallel jobs", SC 2011.
    """
    hazard = np.maximum(np.asarray(hazard_per_s, np.float64), NO_HAZARD_S)
    interval, blocking = np.asarray(interval_s, np.float64), np.asarray(blocking_s, np.float64)
    restart, detection = np.asarray(restart_s, np.float64), np.asarray(detection_s, np.float64)
    wait = np.asarray(repair_wait_s, np.float64)
    period = interval + blocking
    with np.errstate(over="ignore", under="ignore"):
        phi = (1.0 + hazard * restart * spread**2) ** (-1.0 / spread**2) if spread > 0 else np.exp(-hazard * restart)
        late = np.maximum(np.asarray(save_s, np.float64) - blocking, 0.0)
        kept = phi * interval * np.exp(-hazard * late) / np.expm1(hazard * period)
        trained = phi * np.expm1(-hazard * interval) / (hazard * np.expm1(-hazard * period))
    up = phi / hazard
    shape = np.broadcast_shapes(*(x.shape for x in (hazard, interval, blocking, restart, detection, wait, late)))

    def full(values: FloatArray) -> FloatArray:
        return np.broadcast_to(values, shape)

    return CycleMeans(
        cycle_s=full(1.0 / hazard + detection + wait),
        detection_s=full(detection),
        repair_wait_s=full(wait),
        restart_s=full((1.0 - phi) / hazard),
        kept_s=full(kept),
        lost_s=full(np.maximum(trained - kept, 0.0)),
        checkpoint_s=full(up - trained),
    )


def expected_goodput(
    hazard_per_s: ArrayLike,
    interval_s: ArrayLike,
    *,
    blocking_s: ArrayLike,
    save_s: ArrayLike,
    detection_s: ArrayLike,
    restart_s: ArrayLike,
    repair_wait_s: ArrayLike = 0.0,
    spread: float = 0.0,
) -> FloatArray:
    """Long-run share of wall time that is training and is kept; see `expected_cycle`. [-]

    Examples
    --------
    A fault every 2,000 s, saves every 500 s that stop the run for 5 s, 120 s to notice and 300 s to restart:

    >>> round(float(expected_goodput(1 / 2000, 500.0, blocking_s=5.0, save_s=5.0, detection_s=120.0, restart_s=300.0)), 4)
    0.7067
    """
    return expected_cycle(
        hazard_per_s,
        interval_s,
        blocking_s=blocking_s,
        save_s=save_s,
        detection_s=detection_s,
        restart_s=restart_s,
        repair_wait_s=repair_wait_s,
        spread=spread,
    ).goodput
