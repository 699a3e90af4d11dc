"""What a run does at each number of accelerators it may use: speed, hazard, interval, restart, spares. Drawn once a replicate."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.closed_form import NO_HAZARD_S, CycleMeans, daly_interval_s, expected_cycle
from makespan.campaign.spares import ROUNDING, stand_by

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """Everything that depends on (replicate, pool, level); arrays of shape (R, P, L) unless said otherwise.

    A level stands for what the run holds, spares taken off. What it computes on is that or, where spares would run out
    or failures are too many, less (`spares.stand_by`); all figures are those of what it computes on. Pools with fewer
    levels are filled up with levels of infinite size, which never fit.

    size : of the level, ascending; shape (P, L).   num_accelerators : computing.
    speed_flop_per_s : productive, `execution` included; 0 where no layout is known.
    hazard_per_s : of the whole job.   interval_s : training between saves.
    blocking_s, safe_s, detection_s : shape (R,).   restart_s : mean.
    wait_probability, wait_s : odds that a fault finds no spare node, and the mean wait then.
    cycle : expected seconds from fault to fault.   useful_flop_per_s : speed times expected goodput.
    """

    size: FloatArray
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

    def fitting(self, pool: int, num_accelerators: FloatArray) -> IntArray:
        """Level of so many accelerators, spares taken off, shape (R, S) in and out; -1 where none can be used."""
        largest = np.searchsorted(self.size[pool], num_accelerators * (1.0 + ROUNDING), side="right") - 1
        speed = np.take_along_axis(self.speed_flop_per_s[:, pool, :], np.maximum(largest, 0), axis=1)
        return np.where((largest < 0) | (speed <= 0), -1, largest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """The uncertain inputs, one value a replicate; shape (R,)."""

    per_accelerator: FloatArray
    per_job: FloatArray
    detection_s: FloatArray
    restart_s: FloatArray
    repair_s: FloatArray
    blocking_s: FloatArray
    save_s: FloatArray


def _draw(failures: FailureSpec, recovery: RecoverySpec, checkpoints: CheckpointSpec, streams: Streams) -> _Drawn:
    drawn = _Drawn(
        per_accelerator=streams.draw(failures.per_accelerator_s, "failures.per_accelerator"),
        per_job=streams.draw(failures.per_job_s, "failures.per_job"),
        detection_s=streams.draw(recovery.detection_s, "recovery.detection"),
        restart_s=streams.draw(recovery.restart_s, "recovery.restart"),
        repair_s=streams.draw(recovery.repair_s, "recovery.repair"),
        blocking_s=streams.draw(checkpoints.blocking_s, "checkpoint.blocking"),
        save_s=streams.draw(checkpoints.save_s, "checkpoint.save"),
    )
    for field in fields(drawn):
        if not np.all(getattr(drawn, field.name) >= 0):
            raise ValueError(f"failures and recovery: {field.name} must be zero or more in every replicate")
    return drawn


def _stacked(rates: Sequence[RateTable], execution: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sizes, shape (pools, levels), `inf` where a pool has fewer; and speeds, shape (R, pools, levels). [-], [FLOP/s]"""
    num_levels = max(len(table.num_accelerators) for table in rates)
    size = np.full((len(rates), num_levels), np.inf)
    speed = np.zeros((len(execution), len(rates), num_levels))
    for pool, table in enumerate(rates):
        count = len(table.num_accelerators)
        size[pool, :count] = table.num_accelerators
        speed[:, pool, :count] = np.nan_to_num(table.flop_per_s, nan=0.0, neginf=0.0) * execution[:, None]
    return size, speed


def _interval_s(
    checkpoints: CheckpointSpec, blocking_s: FloatArray, safe_s: FloatArray, hazard: FloatArray, horizon_s: float
) -> FloatArray:
    """Between saves at each level, shape of `hazard` (R, pools, levels); see `build_levels`. [s]"""
    if checkpoints.interval_s is not None:
        return np.minimum(np.full_like(hazard, checkpoints.interval_s), horizon_s)
    optimum = daly_interval_s(blocking_s[:, None, None], 1.0 / hazard)
    return np.minimum(np.maximum(optimum, np.maximum(safe_s, SHORTEST_INTERVAL_S)[:, None, None]), horizon_s)


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
    * Spares: see `spares.stand_by`. The wait is drawn for each fault on its own, exponential: waits that come in
      bunches are left out, and so are accelerators that idle because they do not make up a level.
    """
    size, speed = _stacked(rates, execution)
    finite = np.where(np.isfinite(size), size, 1.0)

    drawn = _draw(failures, recovery, checkpoints, streams)
    safe = np.maximum(drawn.save_s, drawn.blocking_s)
    hardware = finite * drawn.per_accelerator[:, None, None]
    hazard = np.maximum(hardware + drawn.per_job[:, None, None], NO_HAZARD_S)
    restart_s = drawn.restart_s[:, None, None] + recovery.restart_per_doubling_s * np.log2(
        np.maximum(finite / RESTART_REFERENCE, 1.0)
    )
    interval = _interval_s(checkpoints, drawn.blocking_s, safe, hazard, horizon_s)

    def cycle_at(
        hazard: FloatArray, interval: FloatArray, restart_s: FloatArray, wait: FloatArray | float
    ) -> CycleMeans:
        return expected_cycle(
            hazard,
            interval,
            blocking_s=drawn.blocking_s[:, None, None],
            save_s=safe[:, None, None],
            detection_s=drawn.detection_s[:, None, None],
            restart_s=restart_s,
            repair_wait_s=wait,
            spread=recovery.spread,
        )

    bare = cycle_at(hazard, interval, restart_s, 0.0)
    chosen = [
        stand_by(
            size[pool],
            float(accelerators_per_node[pool]),
            recovery.spare_fraction,
            speed_flop_per_s=speed[:, pool],
            hardware_per_s=hardware[:, pool],
            hazard_per_s=hazard[:, pool],
            kept_s=bare.kept_s[:, pool],
            cycle_s=bare.cycle_s[:, pool],
            # A repair that never ends is held at a thousand horizons: as good as never, and sums stay finite.
            repair_s=np.minimum(drawn.repair_s, 1e3 * horizon_s),
        )
        for pool in range(len(rates))
    ]
    level = np.stack([one.level for one in chosen], axis=1)
    wait_probability = np.stack([one.wait_probability for one in chosen], axis=1)
    wait_s = np.stack([one.wait_s for one in chosen], axis=1)

    def computing(values: FloatArray) -> FloatArray:
        return np.take_along_axis(np.broadcast_to(values, level.shape), np.maximum(level, 0), axis=2)

    hazard, interval, restart_s = computing(hazard), computing(interval), computing(restart_s)
    speed = np.where(level >= 0, computing(speed), 0.0)
    cycle = cycle_at(hazard, interval, restart_s, wait_probability * wait_s)
    return Levels(
        size=size,
        num_accelerators=computing(finite),
        spare_fraction=recovery.spare_fraction,
        spread=recovery.spread,
        speed_flop_per_s=speed,
        hazard_per_s=hazard,
        interval_s=interval,
        blocking_s=drawn.blocking_s,
        safe_s=safe,
        detection_s=drawn.detection_s,
        restart_s=restart_s,
        wait_probability=wait_probability,
        wait_s=wait_s,
        cycle=cycle,
        useful_flop_per_s=speed * cycle.goodput,
    )
