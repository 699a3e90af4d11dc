"""Which pool and which level: start, grow, shrink, move, wait. Decided when capacity changes and after every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.spares import ROUNDING
from makespan.campaign.state import Doing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from makespan.campaign.levels import Levels
    from makespan.campaign.state import State
    from makespan.campaign.timeline import Windows

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """Pool and level (-1 to wait) to go on with, and the time it takes to get there; shape (rows,)."""

    pool: IntArray
    level: IntArray
    cost_s: FloatArray


def choose(
    state: State, rows: IntArray, segment: IntArray, levels: Levels, windows: Windows, gain: float, move_s: FloatArray
) -> Choice:
    """Where the rows go on, by the expected time to the end of the work at today's speeds.

    * The level in use is kept while it fits. The largest that fits now replaces it when the work left takes less time
      there, restart included; when the level in use no longer fits, it must. Where only the spares differ between the
      two, the change costs nothing.
    * A later pool is taken when its useful speed is at least `gain` times that of the best offer so far and the work
      left takes less time there, the move included. An earlier pool is never gone back to.
    * Before the start nothing is paid, and a pool counts only where the run may start.
    """
    pool, level, started = state.pool[rows], state.level[rows], state.started[rows]
    remaining = state.remaining_flop(rows)
    fit = np.where(started[:, None] | windows.startable[rows, segment], windows.fit[rows, segment], -1)

    def offer(pools: IntArray, wanted: IntArray) -> tuple[FloatArray, FloatArray]:
        """Useful speed and time for the work left; speed 0 and `inf` where there is no level."""
        speed = np.where(wanted >= 0, levels.useful_flop_per_s[rows, pools, np.maximum(wanted, 0)], 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return speed, np.where(speed > 0, remaining / speed, np.inf)

    index = np.arange(len(rows))
    room = windows.room[rows, segment, pool] * (1.0 + ROUNDING)
    fits = (level >= 0) & (levels.size[pool, np.maximum(level, 0)] <= room)
    stay_speed, stay_s = offer(pool, np.where(fits, level, -1))
    here = fit[index, pool]
    here_speed, here_s = offer(pool, here)
    same = _same_computing(levels, rows, (pool, level), (pool, here))
    restart = np.where(started & ~same, levels.restart_s[rows, pool, np.maximum(here, 0)], 0.0)
    change = (here >= 0) & (here != level) & (~fits | (restart + here_s < stay_s))
    new_level = np.where(change, here, np.where(fits, level, -1))
    new_pool = pool.copy()
    cost = np.where(change, restart, 0.0)
    speed = np.where(change, here_speed, stay_speed)
    time = np.where(change, restart + here_s, stay_s)
    for other in range(1, fit.shape[1]):
        pools = np.full_like(pool, other)
        there = fit[:, other]
        there_speed, there_s = offer(pools, there)
        price = np.where(started, move_s[rows], 0.0)
        idle = new_level < 0
        pays = (there_speed >= gain * speed) & (price + there_s < time)
        go = (other > pool) & (there >= 0) & (idle | pays)
        new_pool, new_level = np.where(go, other, new_pool), np.where(go, there, new_level)
        cost, speed = np.where(go, price, cost), np.where(go, there_speed, speed)
        time = np.where(go, price + there_s, time)
    return Choice(pool=new_pool, level=new_level, cost_s=cost)


def _same_computing(
    levels: Levels, rows: IntArray, old: tuple[IntArray, IntArray], new: tuple[IntArray, IntArray]
) -> BoolArray:
    """Whether a change of (pool, level) leaves the run on the same accelerators: only its spares differ."""
    (old_pool, old_level), (new_pool, new_level) = old, new
    sizes = [
        levels.num_accelerators[rows, pool, np.maximum(level, 0)]
        for pool, level in ((old_pool, old_level), (new_pool, new_level))
    ]
    result: BoolArray = (old_pool == new_pool) & (old_level >= 0) & (new_level >= 0) & (sizes[0] == sizes[1])
    return result


def make_ready(
    state: State,
    active: IntArray,
    levels: Levels,
    windows: Windows,
    gain: float,
    move_s: FloatArray,
    horizon_s: float,
) -> tuple[IntArray, FloatArray]:
    """Decide, wait and reconfigure until every active row computes or is at the horizon.

    Returns the rows that compute, and the time of the next change of capacity for each (the horizon at most).
    """
    ready: list[IntArray] = []
    until: list[FloatArray] = []
    todo = active[state.time_s[active] < horizon_s]
    rounds = 0
    while len(todo):
        rounds += 1
        assert rounds <= 4 * windows.start_s.shape[1] + 16, "capacity decisions do not settle"
        segment = windows.segment(todo, state.time_s[todo])
        choice = choose(state, todo, segment, levels, windows, gain, move_s)
        next_s = np.minimum(windows.next_change_s[todo, segment], horizon_s)
        old, new = (state.pool[todo], state.level[todo]), (choice.pool, choice.level)
        changed = (old[0] != new[0]) | (old[1] != new[1])
        stopped = changed & ~_same_computing(levels, todo, old, new)
        state.settle(todo[stopped])
        state.pool[todo], state.level[todo] = new

        waits = choice.level < 0
        if np.any(waits):
            state.spend(todo[waits], "wait_capacity", next_s[waits])
            state.record(Doing.WAIT_CAPACITY)
        pays = changed & ~waits & (choice.cost_s > 0)
        if np.any(pays):
            end = np.minimum(state.time_s[todo[pays]] + choice.cost_s[pays], horizon_s)
            state.spend(todo[pays], "reconfiguration", end)
            state.record(Doing.RECONFIGURATION)
        starting = todo[~waits & ~state.started[todo]]
        state.started[starting] = True
        state.first_training_s[starting] = state.time_s[starting]
        state.first_pool[starting] = state.pool[starting]

        done = ~waits & ~pays
        ready.append(todo[done])
        until.append(next_s[done])
        todo = todo[~done]
        todo = todo[state.time_s[todo] < horizon_s]
    rows = np.concatenate(ready) if ready else np.empty(0, np.int64)
    order = np.argsort(rows)
    return rows[order], (np.concatenate(until) if until else np.empty(0))[order]
