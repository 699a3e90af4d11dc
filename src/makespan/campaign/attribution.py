"""After the simulation: the wall time by what limits the run, accelerator time, and the curves over time.

`delay_s` answers "what would have to change for the run to end earlier": every second from `as_of` to the release (or
the horizon) goes to one cause.

* `recipe`: data and recipe not ready.
* Waiting for capacity: the binding cause of the pool (`CAUSES` of `specs.supply`) at that time; before the start that of
  the pool the run then starts on (the first pool if it never does). Where nothing binds, `run_share` if others hold a part
  of the pool, else `cluster_size`.
* A productive second at speed v in a pool whose whole target would give V and whose target times the run's share at that
  time gives W: v/V of it is `compute`; (V - W)/V is `run_share`; (W - v)/V is the binding cause. Where v exceeds W,
  `run_share` gives way. Where nothing binds, (W - v)/V is `compute` if the run uses all it can (a pool that never
  reaches its target has no faster state to wait for) and `reconfiguration` if it did not pay to grow.
* `failures`: checkpoint, detection, restart, lost work and repair wait.
* `reconfiguration`, `restarted_work`, `calendar_stage`: those lines of the ledger.

Productive time is spread evenly over the interval of the log it was made in (a block of faults, or less).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.state import Doing
from makespan.specs.supply import CAUSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from makespan.campaign.levels import Levels
    from makespan.campaign.state import State
    from makespan.campaign.timeline import Windows

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

OWN_CAUSES = ("compute", "run_share", "failures", "reconfiguration", "restarted_work", "calendar_stage", "recipe")
FAILURE_LINES = ("checkpoint", "detection", "restart", "lost_work", "repair_wait")
GRID_TIMES = 200
GRID_COVERS = 0.95
"""Share of the releases that the grid of times covers; a single late replicate would blur the rest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accounts:
    """As the fields of `CampaignResult`."""

    delay_s: Mapping[str, FloatArray]
    accelerator_s: FloatArray
    productive_accelerator_s: FloatArray
    pool_accelerator_s: Mapping[str, FloatArray]
    pool_until_s: Mapping[str, FloatArray]
    progress_times_s: FloatArray
    progress: FloatArray
    used: FloatArray
    checkpoint_interval_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pieces:
    """Log and capacity on common intervals; shape (R, K + S)."""

    length_s: FloatArray
    interval: IntArray
    segment: IntArray


def account(
    state: State,
    ledger: Mapping[str, FloatArray],
    pools: Sequence[str],
    levels: Levels,
    windows: Windows,
    horizon_s: float,
    alive: BoolArray,
) -> Accounts:
    """Everything that follows from the log and the capacity. Pools of the same name are added up."""
    log = state.log
    end = np.stack(log.end_s, axis=1)
    doing = np.array(log.doing)
    pool, level = np.stack(log.pool, axis=1), np.stack(log.level, axis=1)
    pieces = _pieces(end, windows.start_s)
    rows = np.arange(len(end))[:, None]
    doing_at = doing[pieces.interval]
    pool_at, level_at = pool[rows, pieces.interval], level[rows, pieces.interval]

    length = np.diff(end, axis=1, prepend=0.0)
    kept = np.diff(_never_lost(np.stack(log.kept_s, axis=1)), axis=1, prepend=0.0)
    density = np.divide(kept, length, out=np.zeros_like(kept), where=length > 0)
    productive = density[rows, pieces.interval] * pieces.length_s
    total = _sum(productive)
    scale = np.divide(ledger["productive"], total, out=np.zeros_like(total), where=total > 0)
    productive = productive * scale[:, None]

    size = np.where(level_at >= 0, levels.num_accelerators[rows, pool_at, np.maximum(level_at, 0)], 0.0)
    holds = (doing_at >= Doing.RECONFIGURATION) & state.started[:, None]
    used_share = np.array(log.share_used)[pieces.interval]
    held = np.where(holds, windows.held[rows, pieces.segment, pool_at] * used_share, 0.0) * pieces.length_s
    pool_accelerator_s = dict.fromkeys(pools, np.zeros(len(end)))
    for number, name in enumerate(pools):
        pool_accelerator_s[name] = pool_accelerator_s[name] + _sum(np.where(pool_at == number, held, 0.0))

    times = _grid(state.time_s, horizon_s, alive)
    progress, used = _curves(
        times, end, _never_lost(np.stack(log.work, axis=1)), _computing(log.doing, log.share_used, pool, level, levels)
    )
    return Accounts(
        delay_s=_delays(state, ledger, pieces, doing_at, pool_at, level_at, productive, levels, windows),
        accelerator_s=_sum(held),
        productive_accelerator_s=_sum(productive * size),
        pool_accelerator_s=pool_accelerator_s,
        pool_until_s=_pool_until(pools, end, length, pool, state.first_training_s),
        progress_times_s=times,
        progress=progress,
        used=used,
        checkpoint_interval_s=_interval_used(doing, pool, level, length, levels),
    )


def _sum(values: FloatArray) -> FloatArray:
    """Sum of each row from left to right, so that columns of zeros, which other replicates cause, change no digit."""
    total: FloatArray = np.cumsum(values, axis=1)[:, -1]
    return total


def _never_lost(done: FloatArray) -> FloatArray:
    """What was done by each date and not lost later; shape (R, K) in and out."""
    result: FloatArray = np.minimum.accumulate(done[:, ::-1], axis=1)[:, ::-1]
    return result


def _pool_until(
    pools: Sequence[str], end_s: FloatArray, length_s: FloatArray, pool: IntArray, first_training_s: FloatArray
) -> dict[str, FloatArray]:
    """When the run leaves each pool; 0 where it never was on it."""
    running = (length_s > 0) & (end_s > first_training_s[:, None])
    result: dict[str, FloatArray] = {}
    for number, name in enumerate(pools):
        last = np.max(np.where(running & (pool == number), end_s, 0.0), axis=1)
        result[name] = np.maximum(result.get(name, 0.0), last)
    return result


def _pieces(end_s: FloatArray, window_start_s: FloatArray) -> _Pieces:
    """Cut the log's intervals at the dates of the windows."""
    start = np.concatenate([np.zeros((len(end_s), 1)), end_s[:, :-1]], axis=1)
    last = end_s[:, -1:]
    cuts = np.concatenate([start, np.minimum(window_start_s, last)], axis=1)
    order = np.argsort(cuts, axis=1, kind="stable")
    cuts = np.take_along_axis(cuts, order, axis=1)
    from_log = order < start.shape[1]
    return _Pieces(
        length_s=np.diff(cuts, axis=1, append=last),
        interval=np.maximum(np.cumsum(from_log, axis=1) - 1, 0),
        segment=np.maximum(np.cumsum(~from_log, axis=1) - 1, 0),
    )


def _delays(
    state: State,
    ledger: Mapping[str, FloatArray],
    pieces: _Pieces,
    doing: IntArray,
    pool: IntArray,
    level: IntArray,
    productive: FloatArray,
    levels: Levels,
    windows: Windows,
) -> dict[str, FloatArray]:
    num_replicates = len(productive)
    names = (*CAUSES[1:], *OWN_CAUSES)
    code = {name: number for number, name in enumerate(names)}
    # `binding` counts from 1 in CAUSES where 0 is "none".
    delay = np.zeros((num_replicates, len(names)))
    rows = np.arange(num_replicates)[:, None]

    def add(cause: IntArray | int, seconds: FloatArray) -> None:
        flat = np.broadcast_to(rows * len(names) + cause, seconds.shape)
        delay.ravel()[:] += np.bincount(flat.ravel(), weights=seconds.ravel(), minlength=delay.size)

    waiting = doing == Doing.WAIT_CAPACITY
    wait_pool = np.where(_after_start(state, pieces), pool, state.first_pool[:, None])
    binding = windows.binding[rows, pieces.segment, wait_pool]
    usable = windows.usable[rows, pieces.segment, wait_pool]
    share = windows.share[rows, pieces.segment]
    unbound = np.where((share < 1.0) & (usable > 0), code["run_share"], code["cluster_size"])
    add(np.where(binding > 0, binding - 1, unbound), np.where(waiting, pieces.length_s, 0.0))

    speed = np.where(level >= 0, levels.speed_flop_per_s[rows, pool, np.maximum(level, 0)], 0.0)
    target = np.broadcast_to(windows.target[pool], pool.shape)
    keep = 1.0 - levels.spare_fraction
    full, shared = np.zeros_like(speed), np.zeros_like(speed)
    for number in range(windows.fit.shape[2]):
        here = pool == number
        for speeds, accelerators in ((full, target * keep), (shared, target * share * keep)):
            fit = levels.fitting(number, accelerators)
            value = np.where(fit >= 0, levels.speed_flop_per_s[rows, number, np.maximum(fit, 0)], 0.0)
            np.copyto(speeds, value, where=here)
    full = np.maximum(full, np.maximum(speed, 1e-300))
    computed = speed / full
    short = np.minimum(np.maximum(shared - speed, 0.0) / full, 1.0 - computed)
    binding = windows.binding[rows, pieces.segment, pool]
    at_best = level == windows.fit[rows, pieces.segment, pool]
    unbound = np.where(at_best, code["compute"], code["reconfiguration"])
    add(code["compute"], productive * computed)
    add(np.where(binding > 0, binding - 1, unbound), productive * short)
    add(code["run_share"], productive * (1.0 - computed - short))

    result = {name: delay[:, number].copy() for name, number in code.items()}
    result["failures"] += sum((ledger[line] for line in FAILURE_LINES), np.zeros(num_replicates))
    result["recipe"] += ledger["wait_recipe"]
    for line in ("reconfiguration", "restarted_work", "calendar_stage"):
        result[line] += ledger[line]
    return result


def _after_start(state: State, pieces: _Pieces) -> BoolArray:
    """Whether a piece lies after the first training; shape (R, K + S)."""
    piece_end = np.cumsum(pieces.length_s, axis=1)
    return piece_end > state.first_training_s[:, None] * (1.0 + 1e-12)


def _computing(
    doing: Sequence[int], share_used: Sequence[float], pool: IntArray, level: IntArray, levels: Levels
) -> FloatArray:
    """Accelerators the run works on in each interval of the log; shape (R, K)."""
    rows = np.arange(len(pool))[:, None]
    size = np.where(level >= 0, levels.num_accelerators[rows, pool, np.maximum(level, 0)], 0.0)
    active = np.array(doing) >= Doing.RECONFIGURATION
    return np.where(active[None, :], size * np.array(share_used)[None, :], 0.0)


def _grid(time_s: FloatArray, horizon_s: float, alive: BoolArray) -> FloatArray:
    """Even times from 0 to when most of the replicates are done."""
    released = np.sort(time_s[alive])
    last = released[int(np.ceil(GRID_COVERS * len(released))) - 1] if len(released) else horizon_s
    return np.linspace(0.0, max(float(last), 1.0), GRID_TIMES)


def _curves(
    times_s: FloatArray, end_s: FloatArray, work: FloatArray, computing: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Progress and accelerators in use at each time; shape (R, T). Between the log's dates progress is a straight line."""
    progress = np.empty((len(end_s), len(times_s)))
    used = np.empty_like(progress)
    knots = np.concatenate([np.zeros((len(end_s), 1)), end_s], axis=1)
    values = np.concatenate([np.zeros((len(end_s), 1)), work], axis=1)
    padded = np.concatenate([computing, np.zeros((len(end_s), 1))], axis=1)
    for row in range(len(end_s)):
        progress[row] = np.interp(times_s, knots[row], values[row])
        used[row] = padded[row, np.searchsorted(end_s[row], times_s, side="right")]
    return progress, used


def _interval_used(
    doing: IntArray, pool: IntArray, level: IntArray, length_s: FloatArray, levels: Levels
) -> FloatArray:
    """Checkpoint interval at the largest level that was trained on; 0 where none was."""
    trained = (doing[None, :] == Doing.TRAINING) & (length_s > 0) & (level >= 0)
    rows = np.arange(len(pool))
    size = np.where(trained, levels.num_accelerators[rows[:, None], pool, np.maximum(level, 0)], 0.0)
    largest = np.argmax(size, axis=1)
    interval = levels.interval_s[rows, pool[rows, largest], np.maximum(level[rows, largest], 0)]
    return np.where(size[rows, largest] > 0, interval, 0.0)
