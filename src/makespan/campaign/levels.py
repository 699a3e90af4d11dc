"""What a run does at each number of accelerators it may use: speed, hazard, interval, restart, spares. Drawn once a replicate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.closed_form import NO_HAZARD_S, CycleMeans, daly_interval_s, erlang_b, expected_cycle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from makespan.specs.campaign import CheckpointSpec, FailureSpec, RateTable, RecoverySpec
    from makespan.uncertainty import Streams

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

SHORTEST_INTERVAL_S = 1.0
"""No optimum is set below this, so that saves that cost nothing stay countable. [s]"""
RESTART_REFERENCE = 1024.0
"""`RecoverySpec.restart_s` holds up to this many accelerators; every doubling beyond adds to it. [-]"""
ROUNDING = 1e-9
"""A level fits when it exceeds the accelerators by no more than this part (98 % of 100,000 holds 98,000). [-]"""

NO_WAIT = 1e-9
"""Odds of a wait below this are called none. [-]"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """Everything that depends on (replicate, pool, level); arrays of shape (R, P, L) unless said otherwise.

    Pools with fewer levels are filled up with levels of infinite size, which never fit.

    num_accelerators : computing; shape (P, L).   num_nodes_spare : shape (P, L).
    speed_flop_per_s : productive, `execution` included.   hazard_per_s : of the whole job.
    interval_s : training between saves.   blocking_s, safe_s, detection_s : shape (R,).
    restart_s : mean.   wait_probability, wait_s : odds that a fault finds no spare node, and the mean wait then.
    cycle : expected seconds from fault to fault.   useful_flop_per_s : speed times expected goodput.
    best : shape (R, P, L); the level to use when levels up to this one fit; -1 for none.
    """

    num_accelerators: FloatArray
    spare_fraction: float
    spread: float
    speed_flop_per_s: FloatArray
    hazard_per_s: FloatArray
    interval_s: FloatArray
    blocking_s: FloatArray
    safe_s: FloatArray
    detection_s: FloatArray
    restart_s: FloatArray
    wait_probability: FloatArray
    wait_s: FloatArray
    cycle: CycleMeans
    useful_flop_per_s: FloatArray
    best: IntArray

    def fitting(self, pool: int, num_accelerators: FloatArray) -> IntArray:
        """Level used with so many accelerators to compute on, shape (R, S) in and out; -1 where none fits."""
        largest = np.searchsorted(self.num_accelerators[pool], num_accelerators * (1.0 + ROUNDING), side="right") - 1
        return np.where(largest < 0, -1, np.take_along_axis(self.best[:, pool, :], np.maximum(largest, 0), axis=1))


def build_levels(
    rates: Sequence[RateTable],
    execution: FloatArray,
    failures: FailureSpec,
    recovery: RecoverySpec,
    checkpoints: CheckpointSpec,
    accelerators_per_node: Sequence[int],
    streams: Streams,
    horizon_s: float,
) -> Levels:
    """Draw the uncertain inputs and tabulate.

    Notes
    -----
    * Hazard: accelerators * per_accelerator + per_job. Only computing accelerators can stop the run.
    * Restart: restart_s + restart_per_doubling_s * log2(n / 1024), the second term from 1,024 accelerators on.
    * Interval: as given, or Daly's optimum for the level's MTBF, no shorter than a save takes to be safe (one save at a
      time) and no longer than the horizon.
    * Spares: floor(n f / (1 - f) / accelerators per node) nodes. A hardware fault sends one node to repair. While the
      run is up, the number in repair is that of a loss system with as many places as there are spares, so a fault finds
      none left with Erlang's probability B(spares, faults in one repair time); it then waits for the first of
      spares + 1 nodes to come back, repair_s / (spares + 1) on average, exponential. Each fault is drawn on its own:
      bunching of waits is left out, and so are accelerators that idle because they do not make up a level.
    """
    num_replicates = streams.num_replicates
    num_levels = max(len(table.num_accelerators) for table in rates)
    size = np.full((len(rates), num_levels), np.inf)
    speed = np.zeros((num_replicates, len(rates), num_levels))
    for pool, table in enumerate(rates):
        count = len(table.num_accelerators)
        size[pool, :count] = table.num_accelerators
        speed[:, pool, :count] = np.nan_to_num(table.flop_per_s, nan=0.0, neginf=0.0) * execution[:, None]
    finite = np.where(np.isfinite(size), size, 1.0)

    per_accelerator = streams.draw(failures.per_accelerator_s, "failures.per_accelerator")[:, None, None]
    per_job = streams.draw(failures.per_job_s, "failures.per_job")[:, None, None]
    detection = streams.draw(recovery.detection_s, "recovery.detection")
    restart = streams.draw(recovery.restart_s, "recovery.restart")
    repair = streams.draw(recovery.repair_s, "recovery.repair")
    blocking = streams.draw(checkpoints.blocking_s, "checkpoint.blocking")
    safe = np.maximum(streams.draw(checkpoints.save_s, "checkpoint.save"), blocking)
    for name, values in (
        ("failures", per_accelerator),
        ("failures", per_job),
        ("detection_s", detection),
        ("restart_s", restart),
        ("repair_s", repair),
        ("blocking_s", blocking),
        ("save_s", safe),
    ):
        if not np.all(values >= 0):
            raise ValueError(f"{name} must be zero or more in every replicate")

    hardware = finite * per_accelerator
    hazard = np.maximum(hardware + per_job, NO_HAZARD_S)
    restart_s = restart[:, None, None] + recovery.restart_per_doubling_s * np.log2(
        np.maximum(finite / RESTART_REFERENCE, 1.0)
    )
    if checkpoints.interval_s is None:
        optimum = daly_interval_s(blocking[:, None, None], 1.0 / hazard)
        interval = np.maximum(optimum, np.maximum(safe, SHORTEST_INTERVAL_S)[:, None, None])
    else:
        interval = np.full_like(hazard, checkpoints.interval_s)
    interval = np.minimum(interval, horizon_s)

    fraction = recovery.spare_fraction
    per_node = np.asarray(accelerators_per_node, np.float64)[:, None]
    spares = np.floor(finite * fraction / (1.0 - fraction) / per_node * (1.0 + ROUNDING))
    # A repair that never ends is held at a thousand horizons, which is as good as never and keeps the sums finite.
    repair_s = np.minimum(repair, 1e3 * horizon_s)[:, None, None]
    wait_probability = hardware / hazard * erlang_b(spares, hardware * repair_s)
    wait_probability = np.where(wait_probability < NO_WAIT, 0.0, wait_probability)
    wait_s = repair_s / (spares + 1.0)
    cycle = expected_cycle(
        hazard,
        interval,
        blocking_s=blocking[:, None, None],
        save_s=safe[:, None, None],
        detection_s=detection[:, None, None],
        restart_s=restart_s,
        repair_wait_s=wait_probability * wait_s,
        spread=recovery.spread,
    )
    useful = speed * cycle.goodput
    return Levels(
        num_accelerators=size,
        spare_fraction=fraction,
        spread=recovery.spread,
        speed_flop_per_s=speed,
        hazard_per_s=hazard,
        interval_s=interval,
        blocking_s=blocking,
        safe_s=safe,
        detection_s=detection,
        restart_s=restart_s,
        wait_probability=wait_probability,
        wait_s=np.broadcast_to(wait_s, hazard.shape),
        cycle=cycle,
        useful_flop_per_s=useful,
        best=_best_up_to(useful, speed),
    )


def _best_up_to(useful: FloatArray, speed: FloatArray) -> IntArray:
    """Fastest level among those up to each; the larger one where two are as fast; -1 where no speed is known."""
    value = np.where(speed > 0, useful, -1.0)
    running = np.maximum.accumulate(value, axis=2)
    index = np.broadcast_to(np.arange(value.shape[2]), value.shape)
    best = np.maximum.accumulate(np.where(value >= running, index, -1), axis=2)
    return np.where(running < 0, -1, best)
