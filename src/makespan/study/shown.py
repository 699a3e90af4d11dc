"""The layout each option is shown with, looked at closely: its pipeline to draw, and what would shorten its step."""

from __future__ import annotations

from dataclasses import dataclass, field

from makespan.search import helpful_changes
from makespan.specs.hardware import ClusterSpec
from makespan.specs.plan import ShownStep
from makespan.specs.scenario import Scenario
from makespan.specs.search import SearchResult
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.step.drawing import played_pipeline
from makespan.study.stages import reference_step


@dataclass(slots=True)
class ShownBook:
    """Close looks already made: options that share a search share them. Each search is kept, so that its id stays its own."""

    scenario: Scenario
    known: dict[int, tuple[SearchResult, ShownStep | None]] = field(default_factory=dict)

    def of(self, pool: RentSpec | BuildSpec, search: SearchResult) -> ShownStep | None:
        """A close look at the fastest layout that a search on this pool found for the central model; None without one."""
        if id(search) not in self.known:
            self.known[id(search)] = (search, self._look(pool, search))
        return self.known[id(search)][1]

    def _look(self, pool: RentSpec | BuildSpec, search: SearchResult) -> ShownStep | None:
        if search.best is None:
            return None
        scenario = self.scenario
        model = max(scenario.models, key=lambda choice: choice.weight).model
        config, profile = reference_step(scenario.training), scenario.framework
        cluster = ClusterSpec(
            name=pool.place,
            accelerator=pool.accelerator,
            node=pool.node,
            fabric=pool.fabric,
            num_accelerators=search.best.num_accelerators,
        )
        headroom = scenario.constraints.memory_headroom
        return ShownStep(
            step_changes=helpful_changes(model, config, cluster, profile, search.best, memory_headroom=headroom),
            pipeline=played_pipeline(model, config, cluster, profile, search.best.layout),
        )
