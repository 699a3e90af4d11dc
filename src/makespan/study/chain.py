"""Scenario -> Plan, the arrow line of the whole program:

    supply (accelerators by date) -> search (layouts, speed) -> campaign (weeks of steps) -> economics (money)

for every option, on the same random draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from makespan.campaign import simulate
from makespan.economics import cost_of
from makespan.provenance import weakest
from makespan.specs.campaign import RateTable
from makespan.specs.plan import Lever, OptionResult, Plan, PoolResult
from makespan.specs.scenario import Scenario
from makespan.specs.supply import OptionSpec
from makespan.study.levers import levers
from makespan.study.pools import STEP_TIME_FACTOR, Supplied, pool_results, supplied
from makespan.study.rates import LayoutBook, draw_models
from makespan.study.reasons import never_done, pools_without_layout
from makespan.study.shown import ShownBook
from makespan.study.stages import in_reference_steps, reference_step
from makespan.uncertainty import Streams
from makespan.version import __version__
from makespan.workload import model_flop_per_token

Progress = Callable[[str], None]


@dataclass(slots=True)
class _Clock:
    """Seconds spent in each room; goes to the manifest, never into a result."""

    spent_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def room(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent_s[name] = self.spent_s.get(name, 0.0) + time.perf_counter() - start


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
    close_ups = ShownBook(scenario)
    supplies: dict[str, Supplied] = {}
    results: list[OptionResult] = []
    found: tuple[Lever, ...] = ()
    for option in scenario.options:
        streams.asked.clear()
        progress(f"{option.name}: capacity by date")
        with clock.room("supply"):
            for pool in option.pools:
                if repr(pool) not in supplies:
                    supplies[repr(pool)] = supplied(scenario, pool, streams)
                streams.asked.update(supplies[repr(pool)].asked)
        progress(f"{option.name}: layouts")
        with clock.room("search"):
            pools, tables = pool_results(
                scenario, option, [supplies[repr(pool)] for pool in option.pools], book, chosen, streams
            )
        progress(f"{option.name}: campaign and cost")
        result, asked = _option_result(scenario, option, pools, tables, chosen, streams, book, close_ups, clock)
        results.append(result)
        names = asked | ({STEP_TIME_FACTOR, "model.candidates"} & streams.drawn.keys())
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


def _option_result(
    scenario: Scenario,
    option: OptionSpec,
    pools: Sequence[PoolResult],
    tables: Sequence[RateTable | None],
    chosen: NDArray[np.int64],
    streams: Streams,
    book: LayoutBook,
    close_ups: ShownBook,
    clock: _Clock,
) -> tuple[OptionResult, frozenset[str]]:
    """The option's answer, and the names of the draws that entered its dates (prices do not)."""
    usable = [(pool, spec, table) for pool, spec, table in zip(pools, option.pools, tables, strict=True) if table]
    reasons = pools_without_layout(option, pools, tables)
    if not usable:
        # Nothing can run: a table with one level nobody reaches keeps the chain whole, and every date is `inf`.
        blocked = RateTable(num_accelerators=np.array([np.inf]), flop_per_s=np.array([0.0]))
        usable = [(pool, spec, blocked) for pool, spec in zip(pools, option.pools, strict=True)]
    training, unfit = in_reference_steps(scenario, usable[-1][1], usable[-1][0], book)
    config = reference_step(scenario.training)
    flop_per_token = np.array([model_flop_per_token(choice.model, config.seq_len) for choice in scenario.models])
    with clock.room("campaign"):
        campaign = simulate(
            [pool.supply.timeline for pool, _, _ in usable],
            [table for _, _, table in usable],
            option.move if len(usable) > 1 else None,
            training,
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
    with clock.room("search"):
        searched = [(pool, spec) for pool, spec in zip(pools, option.pools, strict=True) if pool.searches]
        best = searched[-1][0].searches[-1] if searched else None
        shown = None if best is None else close_ups.of(searched[-1][1], best)
    reasons = reasons or unfit or never_done(campaign, scenario.training.ready_s, streams)
    wall = np.where(np.isfinite(campaign.release_s), campaign.release_s, scenario.horizon_s)
    limited_by = {cause: float(np.mean(delay / wall)) for cause, delay in campaign.delay_s.items()}
    result = OptionResult(
        option=option,
        feasible=any(table is not None for table in tables) and bool(np.isfinite(campaign.release_s).any()),
        reasons=reasons,
        pools=tuple(pools),
        campaign=campaign,
        costs=costs,
        best=best,
        shown=shown,
        limited_by=dict(sorted(limited_by.items(), key=lambda item: -item[1])),
    )
    return result, asked
