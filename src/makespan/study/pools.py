"""A pool made ready for the campaign: which sizes matter, the layouts at them, and the speed of every replicate."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.campaign import draw_shares
from makespan.specs.campaign import RateTable
from makespan.specs.plan import PoolResult
from makespan.specs.scenario import Scenario
from makespan.specs.search import SearchResult
from makespan.specs.supply import BuildSpec, OptionSpec, RentSpec, SupplyResult
from makespan.study.rates import LayoutBook, anchor_levels, rate_table
from makespan.study.stages import reference_step
from makespan.supply import supply
from makespan.uncertainty import Percentiles, Streams

Pool = RentSpec | BuildSpec

STEP_TIME_FACTOR = "step.time_factor"
"""Name of the draw of true over predicted step time."""

SIZING_REPLICATES = 300
"""Replicates whose capacity says which sizes are searched: always these, so that more replicates never change the earlier
ones, nor a what-if with fewer its sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Accelerators of a pool that a job may ever use, and of them the most it may compute on: its share, spares off."""

    largest: int
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied:
    """A pool's capacity, the names of the draws it asked for, and its sizes."""

    answer: SupplyResult
    asked: frozenset[str]
    sizes: Sizes


def supplied(scenario: Scenario, pool: Pool, streams: Streams) -> Supplied:
    """Capacity by date, with the names of the draws that entered it; `streams.asked` is left as it was."""
    before = set(streams.asked)
    streams.asked.clear()
    answer = supply(pool, streams, horizon_s=scenario.horizon_s)
    asked = frozenset(streams.asked)
    streams.asked.update(before)
    return Supplied(answer=answer, asked=asked, sizes=_sizes(scenario, pool, answer))


def _sizes(scenario: Scenario, pool: Pool, answer: SupplyResult) -> Sizes:
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
    return Sizes(largest=int(np.max(best)), most=most)


def pool_results(
    scenario: Scenario,
    option: OptionSpec,
    supplies: Sequence[Supplied],
    book: LayoutBook,
    chosen: NDArray[np.int64],
    streams: Streams,
) -> tuple[list[PoolResult], list[RateTable | None]]:
    """Each pool with its searched layouts, and its rate table; no table where no layout fits at any size."""
    config = reference_step(scenario.training)
    results: list[PoolResult] = []
    tables: list[RateTable | None] = []
    central = int(np.argmax([choice.weight for choice in scenario.models]))
    for pool, held in zip(option.pools, supplies, strict=True):
        largest, most = held.sizes.largest, held.sizes.most
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
        factor = _step_time_factor(shown[: ran_at + 1])
        slowdown = np.ones(streams.num_replicates) if factor is None else streams.draw(factor)
        tables.append(rate_table(searches, chosen, slowdown, most=most, whole=whole) if levels else None)
        results.append(PoolResult(supply=held.answer, levels=levels, searches=shown))
    return results, tables


def _step_time_factor(searches: Sequence[SearchResult]) -> Percentiles | None:
    """How far the true step time may lie from the predicted one: the 80 % interval at the largest of these sizes."""
    best = next((found.best for found in reversed(searches) if found.best is not None), None)
    if best is None:
        return None
    return Percentiles(name=STEP_TIME_FACTOR, p10=best.p10_s / best.time_s, p50=1.0, p90=best.p90_s / best.time_s)
