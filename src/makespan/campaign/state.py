"""Where every replicate stands, and the log of what it did when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.events import Rows, run_block, run_expected, trained_s

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from makespan.campaign.draws import EventDraws
    from makespan.campaign.levels import Levels

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


class Doing(IntEnum):
    """What an interval of the log was spent on."""

    WAIT_RECIPE = 0
    WAIT_CAPACITY = 1
    RECONFIGURATION = 2
    TRAINING = 3
    CALENDAR = 4


LINES = (
    "kept",
    "wait_recipe",
    "wait_capacity",
    "checkpoint",
    "detection",
    "restart",
    "lost_work",
    "repair_wait",
    "reconfiguration",
    "calendar_stage",
)
"""Lines booked during the simulation; `kept` is split into productive and restarted work at the end."""


@dataclass(slots=True, kw_only=True, eq=False)
class Log:
    """What each replicate did, in intervals: lists over intervals of arrays of shape (R,).

    Interval k ends at `end_s[k]` and starts where the one before ended; rows that had no part in it have length 0.
    kept_s, work : seconds of training, and share of the compute budget, done by its end: what counts for ever and what a
    planned stop would add. The second part may be lost again.
    """

    end_s: list[FloatArray] = field(default_factory=list)
    doing: list[int] = field(default_factory=list)
    pool: list[IntArray] = field(default_factory=list)
    level: list[IntArray] = field(default_factory=list)
    kept_s: list[FloatArray] = field(default_factory=list)
    work: list[FloatArray] = field(default_factory=list)
    share_used: list[float] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class State:
    """All replicates; arrays of shape (R,).

    level : -1 while it does not compute.   first_pool : on which it started.
    work_flop : kept in this stage; `open_flop`, `open_s` what a planned stop would add, and its training; `target_flop` the stage's budget, `later_flop`
    that of the compute stages after it, `before_flop` done in those before it, `total_flop` of all.
    up_s and pending_* as in `events.Rows`.   calendar_s : of calendar stages after the start.
    """

    time_s: FloatArray
    pool: IntArray
    level: IntArray
    started: BoolArray
    first_training_s: FloatArray
    first_pool: IntArray
    work_flop: FloatArray
    open_s: FloatArray
    open_flop: FloatArray
    target_flop: FloatArray
    before_flop: FloatArray
    later_flop: FloatArray
    total_flop: FloatArray
    up_s: FloatArray
    pending_detection_s: FloatArray
    pending_wait_s: FloatArray
    pending_restart_s: FloatArray
    faults: FloatArray
    calendar_s: FloatArray
    ledger: dict[str, FloatArray]
    log: Log

    @classmethod
    def fresh(cls, num_replicates: int) -> State:
        def zeros() -> FloatArray:
            return np.zeros(num_replicates)

        return cls(
            time_s=zeros(),
            pool=np.zeros(num_replicates, np.int64),
            level=np.full(num_replicates, -1, np.int64),
            started=np.zeros(num_replicates, bool),
            first_training_s=np.full(num_replicates, np.inf),
            first_pool=np.zeros(num_replicates, np.int64),
            work_flop=zeros(),
            open_s=zeros(),
            open_flop=zeros(),
            target_flop=zeros(),
            before_flop=zeros(),
            later_flop=zeros(),
            total_flop=zeros(),
            up_s=zeros(),
            pending_detection_s=zeros(),
            pending_wait_s=zeros(),
            pending_restart_s=zeros(),
            faults=zeros(),
            calendar_s=zeros(),
            ledger={line: zeros() for line in LINES},
            log=Log(),
        )

    def record(self, doing: Doing, *, share_used: float = 1.0) -> None:
        """Close an interval of the log at the present times."""
        total = np.maximum(self.total_flop, 1e-300)
        self.log.end_s.append(self.time_s.copy())
        self.log.doing.append(int(doing))
        self.log.pool.append(self.pool.copy())
        self.log.level.append(self.level.copy())
        self.log.kept_s.append(self.ledger["kept"] + self.open_s)
        self.log.work.append((self.before_flop + self.work_flop + self.open_flop) / total)
        self.log.share_used.append(share_used)

    def spend(self, rows: IntArray, line: str, until_s: FloatArray) -> None:
        """Let time pass to `until_s` and book it."""
        self.ledger[line][rows] += until_s - self.time_s[rows]
        self.time_s[rows] = until_s

    def settle(self, rows: IntArray) -> None:
        """A planned stop: the training since the last restart is kept, a recovery under way is dropped."""
        self.ledger["kept"][rows] += self.open_s[rows]
        self.ledger["checkpoint"][rows] += self.up_s[rows] - self.open_s[rows]
        self.work_flop[rows] += self.open_flop[rows]
        for name in ("open_s", "open_flop", "up_s", "pending_detection_s", "pending_wait_s", "pending_restart_s"):
            getattr(self, name)[rows] = 0.0

    def remaining_flop(self, rows: IntArray) -> FloatArray:
        """Work left in this and the later stages, if the run stopped as planned now. [FLOP]"""
        left = self.target_flop[rows] - self.work_flop[rows] - self.open_flop[rows]
        return np.maximum(left, 0.0) + self.later_flop[rows]

    def end_stage(self) -> None:
        """What was done in this stage, finished or not, goes to `before_flop`."""
        self.before_flop = self.before_flop + self.work_flop
        self.work_flop = np.zeros_like(self.work_flop)
        self.target_flop = np.zeros_like(self.work_flop)

    def event_rows(self, rows: IntArray, levels: Levels, room_s: FloatArray) -> Rows:
        """What `run_block` needs to know of these rows."""
        at = (rows, self.pool[rows], self.level[rows])
        return Rows(
            room_s=room_s,
            need_s=np.maximum(self.target_flop[rows] - self.work_flop[rows], 0.0) / levels.speed_flop_per_s[at],
            hazard_per_s=levels.hazard_per_s[at],
            interval_s=levels.interval_s[at],
            blocking_s=levels.blocking_s[rows],
            safe_s=levels.safe_s[rows],
            detection_s=levels.detection_s[rows],
            restart_s=levels.restart_s[at],
            wait_probability=levels.wait_probability[at],
            wait_s=levels.wait_s[at],
            pending_detection_s=self.pending_detection_s[rows],
            pending_wait_s=self.pending_wait_s[rows],
            pending_restart_s=self.pending_restart_s[rows],
            up_s=self.up_s[rows],
        )

    def train(
        self, rows: IntArray, levels: Levels, room_s: FloatArray, draws: EventDraws | None
    ) -> tuple[BoolArray, IntArray]:
        """Advance these rows (in expectation without draws): which finished the stage, and the columns read."""
        wanted = self.event_rows(rows, levels, room_s)
        at = (rows, self.pool[rows], self.level[rows])
        if draws is None:
            cycle = levels.cycle
            lines = (
                cycle.kept_s,
                cycle.lost_s,
                cycle.checkpoint_s,
                cycle.detection_s,
                cycle.repair_wait_s,
                cycle.restart_s,
            )
            length = cycle.cycle_s[at]
            booked = run_expected(wanted, np.stack([line[at] for line in lines]) / length, length)
        else:
            booked = run_block(wanted, draws)
        self.time_s[rows] += booked.elapsed_s
        self.work_flop[rows] += booked.kept_s * levels.speed_flop_per_s[at]
        self.faults[rows] += booked.faults
        for line, seconds in (
            ("kept", booked.kept_s),
            ("lost_work", booked.lost_s),
            ("checkpoint", booked.checkpoint_s),
            ("detection", booked.detection_s),
            ("repair_wait", booked.wait_s),
            ("restart", booked.restart_s),
        ):
            self.ledger[line][rows] += seconds
        self.up_s[rows] = booked.up_s
        trained = trained_s(booked.up_s, levels.interval_s[at], levels.blocking_s[rows])
        self.open_s[rows] = trained
        self.open_flop[rows] = trained * levels.speed_flop_per_s[at]
        self.pending_detection_s[rows] = booked.pending_detection_s
        self.pending_wait_s[rows] = booked.pending_wait_s
        self.pending_restart_s[rows] = booked.pending_restart_s
        return booked.finished, booked.columns
