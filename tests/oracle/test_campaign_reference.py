"""The vectorised campaign against a readable one that handles one event at a time, on the same draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from makespan.campaign import erlang_b, expected_goodput, simulate
from makespan.campaign.draws import BLOCK, EventBlock
from makespan.specs.campaign import CampaignResult, CheckpointSpec, FailureSpec, RateTable, RecoverySpec
from makespan.specs.supply import CapacityTimeline
from makespan.specs.training import StageSpec, TrainingSpec
from makespan.uncertainty import Fixed, Streams, Uniform
from makespan.units import DAY_S, HOUR_S

REPLICATES = 12
SEED = 7


@dataclass(kw_only=True)
class Case:
    """A run on one pool whose capacity grows and shrinks; every level is (accelerators, FLOP/s)."""

    capacity: tuple[tuple[float, float], ...]
    levels: tuple[tuple[float, float], ...]
    work_flop: float
    per_accelerator_s: float
    per_job_s: float = 0.0
    detection_s: float = 120.0
    restart_s: float = 300.0
    per_doubling_s: float = 30.0
    spread: float = 0.5
    spare_fraction: float = 0.0
    repair_s: float = 0.0
    interval_s: float = 900.0
    blocking_s: float = 6.0
    save_s: float = 45.0
    horizon_s: float = 400 * DAY_S
    per_node: int = 8


def vectorised(case: Case) -> CampaignResult:
    starts = np.array([[start for start, _ in case.capacity]] * REPLICATES, float)
    usable = np.array([[count for _, count in case.capacity]] * REPLICATES, float)
    timeline = CapacityTimeline(
        pool="site",
        target=int(usable.max()),
        start_s=starts,
        installed=usable,
        powered=usable,
        usable=usable,
        power_limit_w=np.full_like(usable, np.inf),
        binding=np.zeros(usable.shape, np.int64),
    )
    return simulate(
        [timeline],
        [
            RateTable(
                num_accelerators=np.array([n for n, _ in case.levels]), flop_per_s=np.array([v for _, v in case.levels])
            )
        ],
        None,
        TrainingSpec(
            stages=(StageSpec(name="pretraining", kind="compute", flop=Fixed(value=case.work_flop)),),
            ready_s=Fixed(value=0.0),
            run_share=(),
            restarted_work=Fixed(value=0.0),
            execution=Uniform(name="execution", low=0.9, high=1.0),
        ),
        1.0,
        FailureSpec(
            per_accelerator_s=Uniform(
                name="hazard", low=0.5 * case.per_accelerator_s, high=1.5 * case.per_accelerator_s
            ),
            per_job_s=Fixed(value=case.per_job_s),
        ),
        RecoverySpec(
            detection_s=Fixed(value=case.detection_s),
            restart_s=Fixed(value=case.restart_s),
            restart_per_doubling_s=case.per_doubling_s,
            spread=case.spread,
            spare_fraction=case.spare_fraction,
            repair_s=Fixed(value=case.repair_s),
        ),
        CheckpointSpec(
            interval_s=case.interval_s, blocking_s=Fixed(value=case.blocking_s), save_s=Fixed(value=case.save_s)
        ),
        [case.per_node],
        Streams(seed=SEED, num_replicates=REPLICATES),
        horizon_s=case.horizon_s,
    )


class Reference:
    """One replicate, one event after the other. Time up is walked from save to save; nothing is done by formula."""

    def __init__(self, case: Case, replicate: int) -> None:
        streams = Streams(seed=SEED, num_replicates=REPLICATES)
        self.case, self.replicate = case, replicate
        self.execution = Uniform(name="execution", low=0.9, high=1.0).quantile(streams.uniforms("execution")[:, 0])[
            replicate
        ]
        hazard = streams.uniforms("hazard")[replicate, 0]
        self.per_accelerator_s = case.per_accelerator_s * (0.5 + hazard)
        self.draws = self._draws(streams)
        self.time = 0.0
        self.work = 0.0
        self.level = -1
        self.faults = 0
        self.pending: dict[str, float] = {}
        self.known: dict[int, int] = {}
        self.up = 0.0
        self.ledger = dict.fromkeys(
            (
                "productive",
                "wait_capacity",
                "checkpoint",
                "detection",
                "restart",
                "lost_work",
                "repair_wait",
                "reconfiguration",
            ),
            0.0,
        )

    def _draws(self, streams: Streams) -> Iterator[tuple[float, float, float]]:
        everyone = np.arange(REPLICATES)
        for number in range(10_000):
            block = EventBlock.drawn(streams, 0, number, num_rows=REPLICATES, spread=self.case.spread)
            draws = block.take(everyone, np.zeros(REPLICATES, np.int64), waits=True)
            for column in range(BLOCK):
                r = self.replicate
                yield draws.gap[r, column], draws.recovery[r, column], draws.luck[r, column]

    # What holds at a level: the run holds it and computes on it, or on a smaller one with the rest as spares.

    def computing(self, level: int) -> int:
        """The level of greatest useful speed, by trying each."""
        if level not in self.known:
            self.known[level] = max(range(level + 1), key=lambda low: (self.useful_on(low, level), low))
        return self.known[level]

    def size(self, level: int) -> float:
        return self.case.levels[self.computing(level)][0]

    def speed(self, level: int) -> float:
        return self.speed_on(self.computing(level))

    def hazard(self, level: int) -> float:
        return self.hazard_on(self.computing(level))

    def restart_s(self, level: int) -> float:
        return self.restart_on(self.computing(level))

    def useful(self, level: int) -> float:
        return self.useful_on(self.computing(level), level)

    def wait(self, level: int) -> tuple[float, float]:
        return self.wait_on(self.computing(level), level)

    def speed_on(self, low: int) -> float:
        return self.case.levels[low][1] * self.execution

    def hazard_on(self, low: int) -> float:
        return self.case.levels[low][0] * self.per_accelerator_s + self.case.per_job_s

    def restart_on(self, low: int) -> float:
        doublings = max(math.log2(self.case.levels[low][0] / 1024), 0.0)
        return self.case.restart_s + self.case.per_doubling_s * doublings

    def wait_on(self, low: int, level: int) -> tuple[float, float]:
        """Odds that a fault waits for a node, and the mean wait: Erlang's formula written out as its sum."""
        size, held = self.case.levels[low][0], self.case.levels[level][0] / (1 - self.case.spare_fraction)
        spares = math.floor((held - size) / self.case.per_node + 1e-9)
        load = size * self.per_accelerator_s * self.case.repair_s
        terms = [math.exp(k * math.log(load) - math.lgamma(k + 1)) if load else 0.0**k for k in range(spares + 1)]
        return size * self.per_accelerator_s / self.hazard_on(low) * terms[-1] / sum(terms), self.case.repair_s / (
            spares + 1
        )

    def useful_on(self, low: int, level: int) -> float:
        odds, mean = self.wait_on(low, level)
        return self.speed_on(low) * float(
            expected_goodput(
                self.hazard_on(low),
                self.case.interval_s,
                blocking_s=self.case.blocking_s,
                save_s=self.case.save_s,
                detection_s=self.case.detection_s,
                restart_s=self.restart_on(low),
                repair_wait_s=odds * mean,
                spread=self.case.spread,
            )
        )

    # What happens.

    def run(self) -> float:
        """The time of the release, `inf` for never."""
        while self.time < self.case.horizon_s:
            until = min([start for start, _ in self.case.capacity if start > self.time] + [self.case.horizon_s])
            room = [count for start, count in self.case.capacity if start <= self.time][-1] * (
                1 - self.case.spare_fraction
            )
            if not self.ready(room):
                self.book("wait_capacity", until - self.time)
                continue
            fits = [level for level in range(len(self.case.levels)) if self.case.levels[level][0] <= room * (1 + 1e-9)]
            if self.decide(fits):
                continue
            # Only a change of what fits ends a stretch; other dates pass unnoticed.
            for start, count in self.case.capacity:
                if start > self.time:
                    room_then = count * (1 - self.case.spare_fraction)
                    if self.best(
                        [x for x in range(len(self.case.levels)) if self.case.levels[x][0] <= room_then * (1 + 1e-9)]
                    ) != self.best(fits):
                        until = min(start, self.case.horizon_s)
                        break
            else:
                until = self.case.horizon_s
            if self.train(until):
                return self.time
        self.stop()
        return math.inf

    def ready(self, room: float) -> bool:
        if room * (1 + 1e-9) >= self.case.levels[0][0]:
            return True
        self.stop()
        self.level = -1
        return False

    def best(self, fits: list[int]) -> int:
        return max(fits, default=-1)

    def decide(self, fits: list[int]) -> bool:
        """Change the level if it pays or must be; says whether time passed."""
        best = self.best(fits)
        if best == self.level:
            return False
        if self.level >= 0 and self.computing(best) == self.computing(self.level):
            self.level = best
            return False
        first = self.level < 0 and self.time_trained == 0
        if self.level in fits:
            remaining = self.case.work_flop - self.work - self.trained_in(self.up) * self.speed(self.level)
            if self.restart_s(best) + remaining / self.useful(best) >= remaining / self.useful(self.level):
                return False
        self.stop()
        self.level = best
        if first:
            return False
        self.book("reconfiguration", min(self.restart_s(best), self.case.horizon_s - self.time))
        return True

    @property
    def time_trained(self) -> float:
        return self.time - self.ledger["wait_capacity"]

    def book(self, line: str, seconds: float) -> None:
        self.ledger[line] += seconds
        self.time += seconds

    def trained_in(self, up: float) -> float:
        """Training in a time up, by walking through it."""
        trained, at = 0.0, 0.0
        while at < up:
            step = min(self.case.interval_s, up - at)
            trained += step
            at += step + self.case.blocking_s
        return trained

    def safe_in(self, up: float) -> float:
        """Training that a fault after a time up leaves: that of the last save that was safe by then."""
        safe, trained, at = 0.0, 0.0, 0.0
        while True:
            at += self.case.interval_s
            trained += self.case.interval_s
            if at + max(self.case.save_s, self.case.blocking_s) > up:
                return safe
            safe = trained
            at += self.case.blocking_s

    def stop(self) -> None:
        """A planned stop keeps what was trained."""
        if self.level >= 0:
            trained = self.trained_in(self.up)
            self.ledger["productive"] += trained
            self.ledger["checkpoint"] += self.up - trained
            self.work += trained * self.speed(self.level)
        self.up, self.pending = 0.0, {}

    def train(self, until: float) -> bool:
        """Faults, one after the other, until the work is done (True) or the time is up (False)."""
        while True:
            gap_draw, recovery_draw, luck = next(self.draws)
            gap = gap_draw / self.hazard(self.level)
            for line in ("detection", "repair_wait"):
                spent = min(self.pending.get(line, 0.0), until - self.time)
                self.book(line, spent)
                self.pending[line] = self.pending.get(line, 0.0) - spent
                if self.pending[line] > 0:
                    return False
            fault = self.time + gap
            restart = self.pending.get("restart", 0.0)
            spent = min(restart, fault - self.time, until - self.time)
            self.book("restart", spent)
            self.pending["restart"] = restart - spent
            if self.time >= until:
                return False
            if self.time < fault:
                need = (self.case.work_flop - self.work) / self.speed(self.level)
                end = self.finishing(need) - self.up + self.time
                if end <= min(fault, until):
                    up = end - self.time + self.up
                    self.ledger["productive"] += need
                    self.ledger["checkpoint"] += up - need
                    self.time = end
                    return True
                passed = min(fault, until) - self.time
                self.up += passed
                self.time += passed
                if until < fault:
                    return False
            self.fault(recovery_draw, luck)

    def finishing(self, need: float) -> float:
        """Time up until `need` seconds are trained; no save is made at the very end."""
        at = 0.0
        while need > self.case.interval_s:
            at += self.case.interval_s + self.case.blocking_s
            need -= self.case.interval_s
        return at + need

    def fault(self, recovery: float, luck: float) -> None:
        trained, kept = self.trained_in(self.up), self.safe_in(self.up)
        self.ledger["productive"] += kept
        self.ledger["lost_work"] += trained - kept
        self.ledger["checkpoint"] += self.up - trained
        self.work += kept * self.speed(self.level)
        self.up = 0.0
        self.faults += 1
        odds, mean = self.wait(self.level)
        self.pending = {
            "detection": recovery * self.case.detection_s,
            "repair_wait": -math.log(luck / odds) * mean if luck < odds else 0.0,
            "restart": recovery * self.restart_s(self.level),
        }


PER_DAY = 1 / DAY_S
CASES = {
    "steady": Case(
        capacity=((0.0, 4096),), levels=((4096, 4.0),), work_flop=4.0 * 20 * DAY_S, per_accelerator_s=8 * PER_DAY / 4096
    ),
    "grows, shrinks and stands still": Case(
        capacity=(
            (0.0, 100),
            (2 * DAY_S, 1024),
            (5 * DAY_S, 2048),
            (5.5 * DAY_S, 3000),
            (9 * DAY_S, 900),
            (11 * DAY_S, 512),
            (14 * DAY_S, 4096),
        ),
        levels=((1024, 1.0), (2048, 1.9), (4096, 3.6)),
        work_flop=50 * DAY_S,
        per_accelerator_s=6 * PER_DAY / 2048,
        per_job_s=0.5 * PER_DAY,
    ),
    "growth near the end does not pay": Case(
        capacity=((0.0, 1024), (3 * DAY_S, 2048), (3 * DAY_S + 600, 2100)),
        levels=((1024, 1.0), (2048, 1.3)),
        work_flop=2.75 * DAY_S,
        per_accelerator_s=2 * PER_DAY / 1024,
    ),
    "spares run out": Case(
        capacity=((0.0, 2048),),
        levels=((2016, 1.0),),
        work_flop=10 * DAY_S,
        per_accelerator_s=10 * PER_DAY / 2048,
        spare_fraction=1 / 64,
        repair_s=6 * HOUR_S,
    ),
    "slow repairs, so that part of the room stands by": Case(
        capacity=((0.0, 1024), (2 * DAY_S, 1100), (4 * DAY_S, 1030), (6 * DAY_S, 2100), (9 * DAY_S, 1700)),
        levels=tuple((float(n), n / 1024) for n in range(512, 2112, 32)),
        work_flop=12 * DAY_S,
        per_accelerator_s=12 * PER_DAY / 1024,
        per_job_s=PER_DAY,
        spare_fraction=0.01,
        repair_s=18 * HOUR_S,
    ),
    "failures come faster than restarts": Case(
        capacity=((0.0, 8192), (4 * DAY_S, 9000)),
        levels=((8192, 1.0),),
        work_flop=2 * DAY_S,
        per_accelerator_s=150 * PER_DAY / 8192,
        interval_s=200.0,
        spread=1.0,
    ),
    "never": Case(
        capacity=((0.0, 512), (DAY_S, 1024), (3 * DAY_S, 0.0)),
        levels=((1024, 1.0),),
        work_flop=50 * DAY_S,
        per_accelerator_s=20 * PER_DAY / 1024,
        horizon_s=10 * DAY_S,
    ),
    "equal recoveries, save as long as it blocks": Case(
        capacity=((0.0, 1024),),
        levels=((1024, 1.0),),
        work_flop=9.37 * DAY_S,
        per_accelerator_s=30 * PER_DAY / 1024,
        spread=0.0,
        save_s=6.0,
        interval_s=300.0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_replicate_equals_the_readable_one(name):
    case = CASES[name]
    result = vectorised(case)
    for replicate in range(REPLICATES):
        reference = Reference(case, replicate)
        release = reference.run()

        assert result.interruptions[replicate] == reference.faults
        assert result.release_s[replicate] == pytest.approx(release, abs=1e-3)
        for line, seconds in reference.ledger.items():
            assert result.ledger[line][replicate] == pytest.approx(seconds, abs=1e-3), line


def test_the_cases_reach_every_kind_of_event():
    names = ("grows, shrinks and stands still", "spares run out", "failures come faster than restarts", "never")
    grows, spares, fast, never = (vectorised(CASES[name]) for name in names)
    assert np.all(grows.ledger["reconfiguration"] > 0)
    assert np.all(grows.ledger["wait_capacity"] > 2 * DAY_S)
    assert spares.ledger["repair_wait"].mean() > HOUR_S
    assert np.all(fast.interruptions > 2 * BLOCK)
    assert np.all(np.isinf(never.release_s))
    slow = vectorised(CASES["slow repairs, so that part of the room stands by"])
    assert np.all(slow.used.max(axis=1) < 2100 * 0.99 - 64)
    assert np.all(slow.ledger["repair_wait"] > 0)
    assert np.all(slow.ledger["repair_wait"] < 0.05 * slow.release_s)
    late = vectorised(CASES["growth near the end does not pay"])
    assert 0 < np.count_nonzero(late.ledger["reconfiguration"]) < REPLICATES


@pytest.mark.parametrize(("spares", "load"), [(0, 0.7), (1, 0.7), (3, 2.0), (8, 5.0)])
def test_a_spare_pool_event_by_event_gives_the_odds_and_the_wait(spares, load):
    """Nodes break one at a time while the job runs, each is repaired in an exponential time of mean 1, and the job stands
    still while more are broken than there are spares. 200,000 faults: the odds agree to 4 standard errors, 1 % here."""
    rng = np.random.default_rng(3)
    faults = 200_000
    gaps, repairs = rng.exponential(1 / load, faults), rng.exponential(1.0, faults)
    broken, waited, total = 0, 0, 0.0
    for fault in range(faults):
        left = gaps[fault]
        while broken:
            back = rng.exponential(1 / broken)
            if back > left:
                break
            left -= back
            broken -= 1
        broken += 1
        if broken > spares:
            wait = repairs[fault] / broken
            waited, total, broken = waited + 1, total + wait, broken - 1
    odds = float(erlang_b(spares, load))
    assert waited / faults == pytest.approx(odds, abs=max(4 * math.sqrt(odds / faults), 0.01 * odds))
    assert total / max(waited, 1) == pytest.approx(1 / (spares + 1), rel=0.03)
