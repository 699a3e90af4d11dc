"""Scenario -> Plan, the arrow line of the whole program:

    supply (accelerators by date) -> search (layouts, speed) -> campaign (weeks of steps) -> economics (money)

for every option, on the same random draws.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from makespan.campaign import draw_shares, simulate
from makespan.economics import cost_of
from makespan.provenance import weakest
from makespan.search import search
from makespan.specs.campaign import RateTable
from makespan.specs.plan import Lever, OptionResult, Plan, PoolResult
from makespan.specs.scenario import Scenario
from makespan.specs.step import SearchResult
from makespan.specs.supply import BuildSpec, OptionSpec, RentSpec, SupplyResult
from makespan.specs.training import StageSpec, StepConfig, TrainingSpec
from makespan.study.levers import levers
from makespan.study.rates import LayoutBook, anchor_levels, draw_models, rate_table
from makespan.supply import supply
from makespan.uncertainty import Percentiles, Streams, scaled
from makespan.version import __version__
from makespan.workload import model_flop_per_token

FloatArray = NDArray[np.float64]
Pool = RentSpec | BuildSpec
Progress = Callable[[str], None]

SIZING_REPLICATES = 300
"""Replicates whose capacity says which sizes are searched: always these, so that more replicates never change the earlier
ones, nor a what-if with fewer its sizes."""


@dataclass(slots=True)
class _Clock:
    """Seconds spent in each room; goes to the manifest, never into a result."""

    spent_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def room(self, name: str):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        yield
        self.spent_s[name] = self.spent_s.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Accelerators of a pool that a job may ever use, and of them the most it may compute on: its share, spares off."""

    largest: int
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Supplied:
    """A pool's capacity, the names of the draws it asked for, and its sizes."""

    answer: SupplyResult
    asked: frozenset[str]
    sizes: _Sizes


def plan(
    scenario: Scenario,
    *,
    num_replicates: int | None = None,
    seed: int | None = None,
    progress: Progress = lambda _: None,
) -> Plan:
    """Dates, costs and odds of every option of a scenario.

    Parameters
    ----------
    scenario : resolved scenario.
    num_replicates, seed : in place of the scenario's own.
    progress : called with a short text as the work goes on.

    Notes
    -----
    Options share every draw: an input named in two options has the same value in both, replicate by replicate. An
    option for which nothing fits is an answer, not an exception; its arrays hold `inf` and `reasons` says why.
    """
    scenario = replace(
        scenario,
        num_replicates=scenario.num_replicates if num_replicates is None else num_replicates,
        seed=scenario.seed if seed is None else seed,
    )
    streams = Streams(scenario.seed, scenario.num_replicates)
    clock = _Clock()
    chosen = draw_models(scenario.models, streams.uniforms("model.candidates")[:, 0])
    if len(scenario.models) > 1:
        streams.drawn["model.candidates"] = chosen.astype(np.float64)
    book = LayoutBook(profile=scenario.framework, constraints=scenario.constraints)
    supplies: dict[str, _Supplied] = {}
    results: list[OptionResult] = []
    found: tuple[Lever, ...] = ()
    for option in scenario.options:
        streams.asked.clear()
        progress(f"{option.name}: capacity by date")
        with clock.room("supply"):
            for pool in option.pools:
                key = repr(pool)
                if key not in supplies:
                    before = set(streams.asked)
                    streams.asked.clear()
                    answer = supply(pool, streams, horizon_s=scenario.horizon_s)
                    asked = frozenset(streams.asked)
                    supplies[key] = _Supplied(answer=answer, asked=asked, sizes=_sizes(scenario, pool, answer))
                    streams.asked.update(before)
                streams.asked.update(supplies[key].asked)
        progress(f"{option.name}: layouts")
        with clock.room("search"):
            pools, tables, slowdown_name = _pool_results(
                scenario, option, [supplies[repr(pool)] for pool in option.pools], book, chosen, streams
            )
        progress(f"{option.name}: campaign and cost")
        result, asked = _option_result(scenario, option, pools, tables, chosen, streams, book, clock)
        results.append(result)
        names = asked | {slowdown_name}
        names |= {"model.candidates"} & streams.drawn.keys()
        with clock.room("levers"):
            # Now, while `drawn` holds this option's values: two options may draw different distributions of one name.
            found += levers([result], [frozenset(names)], streams.drawn)
    return Plan(
        scenario=scenario,
        options=tuple(results),
        draws=dict(streams.drawn),
        facts=scenario.facts,
        weakest=weakest(scenario.facts),
        levers=found,
        changes=(),
        version=__version__,
        timings_s=dict(clock.spent_s),
    )


def reference_step(training: TrainingSpec) -> StepConfig:
    """The step of the first compute stage: layouts are chosen for it."""
    for stage in training.stages:
        if stage.step is not None:
            return stage.step
    raise ValueError("the run has no compute stage")


def _sizes(scenario: Scenario, pool: Pool, answer: SupplyResult) -> _Sizes:
    """Largest sizes among the first `SIZING_REPLICATES`, whatever the number of replicates."""
    usable = answer.timeline.usable
    reference = Streams(scenario.seed, SIZING_REPLICATES)
    shares = np.max(draw_shares(scenario.training.run_share, reference), axis=1)
    if len(usable) < SIZING_REPLICATES:
        usable = supply(pool, reference, horizon_s=scenario.horizon_s).timeline.usable
    best = np.max(usable[:SIZING_REPLICATES], axis=1)
    if not np.any(best >= 1):
        # None of these has any; let one of the later ones speak.
        best = np.full_like(best, np.max(answer.timeline.usable))
    most = float(np.max(best * shares)) * (1.0 - scenario.recovery.spare_fraction)
    return _Sizes(largest=int(np.max(best)), most=most)


def _pool_results(
    scenario: Scenario,
    option: OptionSpec,
    supplies: Sequence[_Supplied],
    book: LayoutBook,
    chosen: NDArray[np.int64],
    streams: Streams,
) -> tuple[list[PoolResult], list[RateTable | None], str]:
    config = reference_step(scenario.training)
    results: list[PoolResult] = []
    tables: list[RateTable | None] = []
    central = int(np.argmax([choice.weight for choice in scenario.models]))
    name = "step.time_factor"
    for pool, supplied in zip(option.pools, supplies, strict=True):
        largest, most = supplied.sizes.largest, supplied.sizes.most
        whole = largest * (1.0 - scenario.recovery.spare_fraction)
        per_node = pool.node.accelerators_per_node
        if largest < 1:
            levels: tuple[int, ...] = ()
        else:
            smallest = min(max(scenario.training.min_accelerators, 1), largest)
            levels = anchor_levels(largest, smallest, accelerators_per_node=per_node, most=most)
        searches = [
            {
                # The layout that is shown comes from the whole space. MFU falls smoothly with size, so the candidates
                # beside the central one are searched at every other size.
                level: book.best(pool, choice.model, config, level, thorough=index == central and level == levels[-1])
                for level in (levels if index == central else {*levels[:1], *levels[::-2]})
            }
            for index, choice in enumerate(scenario.models)
        ]
        shown = tuple(searches[central][level] for level in levels)
        ran_at = bisect_left(levels, most)
        factor = _step_time_factor(shown[: ran_at + 1], name)
        slowdown = np.ones(streams.num_replicates) if factor is None else streams.draw(factor)
        tables.append(rate_table(searches, chosen, slowdown, most=most, whole=whole) if levels else None)
        results.append(PoolResult(supply=supplied.answer, levels=levels, searches=shown))
    return results, tables, name


def _step_time_factor(searches: Sequence[SearchResult], name: str) -> Percentiles | None:
    """How far the true step time may lie from the predicted one: the 80 % interval at the largest of these sizes."""
    best = next((found.best for found in reversed(searches) if found.best is not None), None)
    if best is None:
        return None
    return Percentiles(name=name, p10=best.p10_s / best.time_s, p50=1.0, p90=best.p90_s / best.time_s)


def _option_result(
    scenario: Scenario,
    option: OptionSpec,
    pools: Sequence[PoolResult],
    tables: Sequence[RateTable | None],
    chosen: NDArray[np.int64],
    streams: Streams,
    book: LayoutBook,
    clock: _Clock,
) -> tuple[OptionResult, frozenset[str]]:
    """The option's answer, and the names of the draws that entered its dates (prices do not)."""
    usable = [(pool, spec, table) for pool, spec, table in zip(pools, option.pools, tables, strict=True) if table]
    reasons = _reasons(option, pools, tables)
    if not usable:
        # Nothing can run: a table with one level nobody reaches keeps the chain whole, and every date is `inf`.
        blocked = RateTable(num_accelerators=np.array([np.inf]), flop_per_s=np.array([0.0]))
        usable = [(pool, spec, blocked) for pool, spec in zip(pools, option.pools, strict=True)]
    config = reference_step(scenario.training)
    flop_per_token = np.array([model_flop_per_token(choice.model, config.seq_len) for choice in scenario.models])
    with clock.room("campaign"):
        campaign = simulate(
            [pool.supply.timeline for pool, _, _ in usable],
            [table for _, _, table in usable],
            option.move if len(usable) > 1 else None,
            _in_reference_steps(scenario, usable[-1][1], usable[-1][0], book),
            flop_per_token[chosen],
            scenario.failures,
            scenario.recovery,
            scenario.checkpoints,
            [spec.node.accelerators_per_node for _, spec, _ in usable],
            streams,
            horizon_s=scenario.horizon_s,
        )
    asked = frozenset(streams.asked)
    with clock.room("economics"):
        # Every pool is paid for, those without a layout too.
        costs = cost_of(
            option,
            [pool.supply for pool in pools],
            campaign,
            streams,
            horizon_s=scenario.horizon_s,
        )
    if not reasons and not np.isfinite(campaign.release_s).any():
        began = int(np.isfinite(campaign.first_training_s).sum())
        ready_s = streams.draw(scenario.training.ready_s)
        reasons = (
            "data and recipe are ready only after the horizon"
            if np.min(ready_s) >= scenario.horizon_s
            else "the run never gets accelerators enough for a layout that fits"
            if began == 0
            else f"the run is done before the horizon in no replicate (it begins in {began:,} of {len(campaign.release_s):,})",
        )
    wall = np.where(np.isfinite(campaign.release_s), campaign.release_s, scenario.horizon_s)
    limited_by = {cause: float(np.mean(delay / wall)) for cause, delay in campaign.delay_s.items()}
    result = OptionResult(
        option=option,
        feasible=any(table is not None for table in tables) and bool(np.isfinite(campaign.release_s).any()),
        reasons=reasons,
        pools=tuple(pools),
        campaign=campaign,
        costs=costs,
        best=next((pool.searches[-1] for pool in reversed(pools) if pool.searches), None),
        limited_by=dict(sorted(limited_by.items(), key=lambda item: -item[1])),
    )
    return result, asked


def _reasons(option: OptionSpec, pools: Sequence[PoolResult], tables: Sequence[RateTable | None]) -> tuple[str, ...]:
    reasons: list[str] = []
    for spec, pool, table in zip(option.pools, pools, tables, strict=True):
        if table is not None:
            continue
        if not pool.levels:
            reasons.append(f"{spec.place}: no accelerator is ever usable before the horizon")
            continue
        found = pool.searches[-1]
        if found.num_layouts == 0:
            reasons.append(
                f"{spec.place}: no layout of the sizes that are fixed goes on {pool.levels[-1]:,} accelerators"
            )
            continue
        tally = ", ".join(f"{count:,} {status.name.lower()}" for status, count in found.infeasible.items() if count)
        reasons.append(f"{spec.place}: none of {found.num_layouts:,} layouts fits ({tally})")
        if found.nearest is not None:
            layout, missing_bytes = found.nearest
            reasons.append(f"{spec.place}: the nearest, {layout}, lacks {missing_bytes / 2**30:.1f} GiB an accelerator")
    return tuple(reasons)


def _in_reference_steps(scenario: Scenario, spec: Pool, pool: PoolResult, book: LayoutBook) -> TrainingSpec:
    """Compute stages with another step (a longer sequence, say) as the budget of reference steps that takes as long.

    The campaign has one rate table, that of the first compute stage. Another stage does FLOP at another speed; its
    budget is scaled by (its seconds per FLOP) / (the reference's seconds per FLOP) at the largest searched size.
    """
    config = reference_step(scenario.training)
    model = max(scenario.models, key=lambda choice: choice.weight).model
    reference = next((found.best for found in reversed(pool.searches) if found.best is not None), None)
    stages: list[StageSpec] = []
    for stage in scenario.training.stages:
        if stage.step is None or stage.step == config or reference is None:
            stages.append(stage)
            continue
        best = book.best(spec, model, stage.step, pool.levels[-1]).best
        if best is None:
            stages.append(replace(stage, tokens=None, flop=None, kind="calendar", duration_s=_never(stage)))
            continue
        slower = (best.time_s / best.model_flop) / (reference.time_s / reference.model_flop)
        per_token = model_flop_per_token(model, stage.step.seq_len) / model_flop_per_token(model, config.seq_len)
        stages.append(
            replace(
                stage,
                flop=None if stage.flop is None else scaled(stage.flop, slower),
                tokens=None if stage.tokens is None else scaled(stage.tokens, slower * per_token),
            )
        )
    return replace(scenario.training, stages=tuple(stages))


def _never(stage: StageSpec):  # type: ignore[no-untyped-def]
    from makespan.uncertainty import Fixed

    return Fixed(name=stage.name, value=math.inf)


__all__ = ["plan", "reference_step", "search"]
