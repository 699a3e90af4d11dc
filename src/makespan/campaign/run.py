"""The campaign: from the day of the plan through every stage to the release, for all replicates at once."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.attribution import account
from makespan.campaign.decisions import make_ready
from makespan.campaign.draws import BLOCK, EventBlock
from makespan.campaign.levels import Levels, build_levels
from makespan.campaign.state import Doing, State
from makespan.campaign.timeline import Windows, build_windows
from makespan.specs.campaign import LEDGER, CampaignResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from makespan.specs.campaign import CheckpointSpec, FailureSpec, RateTable, RecoverySpec
    from makespan.specs.supply import CapacityTimeline, MoveSpec
    from makespan.specs.training import StageSpec, TrainingSpec
    from makespan.uncertainty import Streams

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

MANY_FAULTS = 1_500.0
"""With more faults than this ahead in a stretch of constant capacity, its lines are booked at their expected rates; the
luck of so many is a few per cent of their effect, far less than the spread of the rates themselves (on the Memphis case the
percentiles of the release move by less than a day against 50,000)."""
HOPELESS_GOODPUT = 1e-3
"""Below this share of useful time a run is as good as stuck, and is booked in expectation after `HOPELESS_FAULTS`."""
HOPELESS_FAULTS = 2_000.0
MOST_BLOCKS = 4_000
"""Blocks of a stage that are drawn; after that a replicate goes on in expectation. Nothing loops for ever."""


def simulate(
    capacities: Sequence[CapacityTimeline],
    rates: Sequence[RateTable],
    move: MoveSpec | None,
    training: TrainingSpec,
    flop_per_token: FloatArray | float,
    failures: FailureSpec,
    recovery: RecoverySpec,
    checkpoints: CheckpointSpec,
    accelerators_per_node: Sequence[int],
    streams: Streams,
    *,
    horizon_s: float,
) -> CampaignResult:
    """Run the campaign in every replicate.

    Parameters
    ----------
    capacities, rates, accelerators_per_node : of each pool, in the order they are used.
    move : needed with more than one pool.
    flop_per_token : model FLOP of a token, for stages with a budget of tokens; a number or shape (R,). [FLOP]
    streams : its `num_replicates` is R; the arrays of `capacities` and two-dimensional `rates` have as many rows.
    horizon_s : what is not done by then is never done. [s]

    Returns
    -------
    CampaignResult, arrays of shape (R,). Except for `progress`, `used` and `progress_times_s` (whose grid covers
    95 % of the releases) a replicate does not depend on how many there are.

    Raises
    ------
    ValueError : shapes that do not fit, shares outside [0, 1], negative rates or times.

    Notes
    -----
    The model, its formulas and what it leaves out are in `docs/explain/campaign.md`.
    """
    _check(capacities, rates, move, recovery, checkpoints, accelerators_per_node, streams, horizon_s)
    num_replicates = streams.num_replicates
    execution = streams.draw(training.execution, "execution")
    restarted = streams.draw(training.restarted_work, "restarted_work")
    ready_s = streams.draw(training.ready_s, "ready")
    levels = build_levels(
        rates, execution, failures, recovery, checkpoints, accelerators_per_node, streams, float(horizon_s)
    )
    windows = build_windows(capacities, training.run_share, training.min_accelerators, levels, streams)
    gain = move.gain if move is not None else 1.0
    move_s = streams.draw(move.duration_s, "move.duration") if move is not None else np.zeros(num_replicates)

    state = State.fresh(num_replicates)
    everyone = np.arange(num_replicates)
    state.spend(everyone, "wait_recipe", np.clip(ready_s, 0.0, horizon_s))
    state.record(Doing.WAIT_RECIPE)
    alive = ready_s < horizon_s

    budgets = {stage.name: _budget(stage, flop_per_token, streams) for stage in training.stages if _computes(stage)}
    state.later_flop = (1.0 + restarted) * sum(budgets.values(), np.zeros(num_replicates))
    state.total_flop = state.later_flop.copy()
    stage_end_s: dict[str, FloatArray] = {}
    pretraining_s = np.full(num_replicates, np.inf if budgets else 0.0)
    calendar_s = np.zeros(num_replicates)
    for number, stage in enumerate(training.stages):
        if _computes(stage):
            state.target_flop = (1.0 + restarted) * budgets[stage.name]
            state.later_flop = np.maximum(state.later_flop - state.target_flop, 0.0)
            alive = _run_compute(number, state, alive, levels, windows, gain, move_s, streams, horizon_s)
            state.end_stage()
            pretraining_s = np.where(alive, state.time_s, np.inf)
            calendar_s = state.calendar_s.copy()
        else:
            alive = _run_calendar(stage, state, alive, streams, horizon_s)
        stage_end_s[stage.name] = np.where(alive, state.time_s, np.inf)
    ledger = _split(state.ledger, restarted)
    accounts = account(state, ledger, [timeline.pool for timeline in capacities], levels, windows, horizon_s, alive)
    trained_for = (
        np.where(np.isfinite(pretraining_s), pretraining_s, state.time_s) - state.first_training_s - calendar_s
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        goodput = np.where(trained_for > 0, ledger["productive"] / trained_for, 0.0)
    return CampaignResult(
        horizon_s=float(horizon_s),
        first_training_s=state.first_training_s,
        stage_end_s=stage_end_s,
        pretraining_s=pretraining_s,
        release_s=np.where(alive, state.time_s, np.inf),
        ledger=ledger,
        goodput=goodput,
        interruptions=state.faults,
        **{field.name: getattr(accounts, field.name) for field in fields(accounts)},
    )


def _run_compute(
    stage: int,
    state: State,
    alive: BoolArray,
    levels: Levels,
    windows: Windows,
    gain: float,
    move_s: FloatArray,
    streams: Streams,
    horizon_s: float,
) -> BoolArray:
    """Run a compute stage to its end or the horizon; returns which replicates finished it."""
    finished = alive & (state.target_flop <= 0)
    active = np.flatnonzero(alive & ~finished)
    number = 0
    while len(active):
        block = EventBlock.drawn(streams, stage, number, num_rows=int(active[-1]) + 1, spread=levels.spread)
        cursor = np.zeros(len(alive), np.int64)
        reading = active
        while len(reading):
            rows, until = make_ready(state, reading, levels, windows, gain, move_s, horizon_s)
            if not len(rows):
                break
            ends = _advance(state, rows, until, block, cursor, levels, expected=number >= MOST_BLOCKS)
            finished[rows[ends]] = True
            state.work_flop[rows[ends]] = state.target_flop[rows[ends]]
            state.settle(rows[state.time_s[rows] >= horizon_s])
            open_rows = rows[~ends]
            reading = open_rows[(cursor[open_rows] < BLOCK) & (state.time_s[open_rows] < horizon_s)]
        active = active[~finished[active] & (state.time_s[active] < horizon_s)]
        number += 1
    return finished


def _advance(
    state: State,
    rows: IntArray,
    until_s: FloatArray,
    block: EventBlock,
    cursor: IntArray,
    levels: Levels,
    *,
    expected: bool,
) -> BoolArray:
    """Train on to the end of the block, of the work or to `until_s`; moves the cursors; says which rows finished."""
    room = until_s - state.time_s[rows]
    smooth = _in_expectation(state, rows, levels, room) | expected
    ends = np.zeros(len(rows), bool)
    if np.any(smooth):
        ends[smooth], _ = state.train(rows[smooth], levels, room[smooth], None)
    exact = rows[~smooth]
    if len(exact):
        waits = bool(np.any(levels.wait_probability[exact, state.pool[exact], state.level[exact]] > 0))
        draws = block.take(exact, cursor[exact], waits=waits)
        ends[~smooth], columns = state.train(exact, levels, room[~smooth], draws)
        cursor[exact] += columns
    # The room was used up to the last digit: put the clock on the date itself, so that the new segment is found.
    close = np.abs(state.time_s[rows] - until_s) <= 4.0 * np.spacing(until_s)
    state.time_s[rows[close]] = until_s[close]
    state.record(Doing.TRAINING)
    return ends


def _in_expectation(state: State, rows: IntArray, levels: Levels, room_s: FloatArray) -> BoolArray:
    """Rows with too many faults ahead to draw them one by one, or with no hope that drawing them would serve."""
    at = (rows, state.pool[rows], state.level[rows])
    useful = levels.useful_flop_per_s[at]
    need = np.maximum(state.target_flop[rows] - state.work_flop[rows], 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        ahead = np.minimum(room_s, np.where(useful > 0, need / np.maximum(useful, 1e-300), np.inf))
    faults = ahead / levels.cycle.cycle_s[at]
    hopeless = (levels.cycle.goodput[at] < HOPELESS_GOODPUT) & (faults > HOPELESS_FAULTS)
    return (faults > MANY_FAULTS) | hopeless


def _run_calendar(
    stage: StageSpec,
    state: State,
    alive: BoolArray,
    streams: Streams,
    horizon_s: float,
) -> BoolArray:
    """A stage that takes a duration whatever the capacity; returns which replicates finished it by the horizon."""
    if stage.duration_s is None:
        raise ValueError(f"calendar stage '{stage.name}' needs a duration")
    duration = streams.draw(stage.duration_s, f"stage.{stage.name}.duration")
    rows = np.flatnonzero(alive)
    end = state.time_s[rows] + np.maximum(duration[rows], 0.0)
    began = state.time_s.copy()
    state.spend(rows, "calendar_stage", np.minimum(end, horizon_s))
    state.calendar_s += np.where(state.started, state.time_s - began, 0.0)
    state.record(Doing.CALENDAR, share_used=stage.share_used)
    result = alive.copy()
    result[rows] = end <= horizon_s
    return result


def _computes(stage: StageSpec) -> bool:
    if stage.kind not in ("compute", "calendar"):
        raise ValueError(f"stage '{stage.name}': kind is 'compute' or 'calendar', not '{stage.kind}'")
    return stage.kind == "compute"


def _budget(stage: StageSpec, flop_per_token: FloatArray | float, streams: Streams) -> FloatArray:
    """Model FLOP of a compute stage, shape (R,)."""
    if (stage.tokens is None) == (stage.flop is None):
        raise ValueError(f"compute stage '{stage.name}' needs tokens or flop, and not both")
    if stage.flop is not None:
        budget = streams.draw(stage.flop, f"stage.{stage.name}.flop")
    else:
        assert stage.tokens is not None
        budget = streams.draw(stage.tokens, f"stage.{stage.name}.tokens") * np.asarray(flop_per_token, np.float64)
    if not np.all(np.isfinite(budget) & (budget >= 0)):
        raise ValueError(f"compute stage '{stage.name}': the budget must be finite and not negative")
    return budget


def _split(booked: dict[str, FloatArray], restarted: FloatArray) -> dict[str, FloatArray]:
    """The ledger: kept training is productive but for the share spent on attempts that were thrown away."""
    lines = {line: booked[line] for line in LEDGER if line in booked}
    lines["productive"] = booked["kept"] / (1.0 + restarted)
    lines["restarted_work"] = booked["kept"] - lines["productive"]
    return {line: lines[line] for line in LEDGER}


def _check(
    capacities: Sequence[CapacityTimeline],
    rates: Sequence[RateTable],
    move: MoveSpec | None,
    recovery: RecoverySpec,
    checkpoints: CheckpointSpec,
    accelerators_per_node: Sequence[int],
    streams: Streams,
    horizon_s: float,
) -> None:
    if not capacities or not len(capacities) == len(rates) == len(accelerators_per_node):
        raise ValueError("capacities, rates and accelerators_per_node need one entry a pool")
    if len(capacities) > 1 and move is None:
        raise ValueError("more than one pool needs a MoveSpec")
    if not 0 < horizon_s < np.inf:
        raise ValueError("horizon_s must be positive and finite")
    if not 0 <= recovery.spare_fraction < 1:
        raise ValueError("spare_fraction must be in [0, 1)")
    if recovery.spread < 0 or recovery.restart_per_doubling_s < 0:
        raise ValueError("spread and restart_per_doubling_s must not be negative")
    if checkpoints.interval_s is not None and not checkpoints.interval_s > 0:
        raise ValueError("interval_s must be positive")
    for timeline, table, per_node in zip(capacities, rates, accelerators_per_node, strict=True):
        if timeline.start_s.shape[0] != streams.num_replicates or np.any(timeline.start_s[:, 0] > 0):
            raise ValueError(f"pool '{timeline.pool}': one row a replicate, and the first segment starts at 0")
        size = np.asarray(table.num_accelerators)
        if size.ndim != 1 or not len(size) or np.any(np.diff(size) <= 0) or size[0] <= 0 or per_node < 1:
            raise ValueError(f"pool '{timeline.pool}': levels must be positive and ascending")
        if table.flop_per_s.shape not in ((len(size),), (streams.num_replicates, len(size))):
            raise ValueError(f"pool '{timeline.pool}': flop_per_s must have one column a level")
