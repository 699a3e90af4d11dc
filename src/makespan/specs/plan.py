"""The answer of `study`: every option of a scenario on the same draws, with what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from makespan.provenance import Fact, Kind
from makespan.specs.campaign import CampaignResult
from makespan.specs.economics import CostResult
from makespan.specs.scenario import Scenario
from makespan.specs.search import SearchResult
from makespan.specs.step import StepChange
from makespan.specs.supply import OptionSpec, SupplyResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolResult:
    """One pool of an option: its capacity, and the layouts at each level of accelerators.

    levels : numbers of accelerators that were searched, ascending.   searches : the answer at each (central model).
    """

    supply: SupplyResult
    levels: tuple[int, ...]
    searches: tuple[SearchResult, ...]


PipelinePass = tuple[float, float, str, int, int]
"""Start, end [s], kind (F forward, B backward, I and W its gradients of inputs and weights apart), micro-batch, chunk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedPipeline:
    """One pipeline of a layout, its schedule played out over a batch short enough to draw.

    num_micro_batches, num_played : that go through a pipeline in a step, and those of them played here.
    span_s : from the first pass to the end of the last. [s]
    layers_per_stage, forward_s, input_grad_s, weight_grad_s : layers of each stage (pp * vpp of them) and seconds of one
        micro-batch through it; chunk c of rank r is stage c pp + r, under DualPipe r going down (0) and pp - 1 - r going up.
    ranks : those drawn, all where there are not too many.   idle_s, rows : of each of them, waiting and passes by start.
    """

    num_micro_batches: int
    num_played: int
    span_s: float
    layers_per_stage: tuple[int, ...]
    forward_s: tuple[float, ...]
    input_grad_s: tuple[float, ...]
    weight_grad_s: tuple[float, ...]
    ranks: tuple[int, ...]
    idle_s: tuple[float, ...]
    rows: tuple[tuple[PipelinePass, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownStep:
    """A closer look at the layout that an option is shown with.

    step_changes : single changes that would shorten the step most.   pipeline : None where it has one stage.
    """

    step_changes: tuple[StepChange, ...]
    pipeline: PlayedPipeline | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OptionResult:
    """One option, all replicates.

    feasible : False when no layout fits or no capacity ever comes; `reasons` says why and the arrays hold `inf`.
    limited_by : cause -> mean share of the wall time from `as_of` to the release; adds up to 1.
    best : search at the largest level that is used.   shown : its fastest layout looked at closely, None without one.
    """

    option: OptionSpec
    feasible: bool
    reasons: tuple[str, ...]
    pools: tuple[PoolResult, ...]
    campaign: CampaignResult
    costs: CostResult
    best: SearchResult | None
    shown: ShownStep | None
    limited_by: Mapping[str, float]

    def __repr__(self) -> str:
        return f"OptionResult({self.option.name!r}, {self.option.kind}, feasible={self.feasible})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """How much one uncertain input moves an option's release date.

    early_s, late_s : median release among the replicates with the lowest and the highest fifth of the input. [s]
    low, high : median of the input in those fifths, SI.
    """

    option: str
    name: str
    low: float
    high: float
    early_s: float
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change to an option, re-run on the same draws: what it does to the odds of the deadline, and what it costs."""

    option: str
    text: str
    probability: float
    gained_probability: float
    gained_s: float
    extra_cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Every option side by side. `draws` are the uncertain inputs by name, shape (replicates,) each."""

    scenario: Scenario
    options: tuple[OptionResult, ...]
    draws: Mapping[str, FloatArray]
    facts: tuple[Fact, ...]
    weakest: Kind
    levers: tuple[Lever, ...]
    changes: tuple[Change, ...]
    version: str
    timings_s: Mapping[str, float]

    def __repr__(self) -> str:
        names = ", ".join(repr(result.option.name) for result in self.options)
        return f"Plan({self.scenario.name!r}, {self.scenario.num_replicates:,} replicates, options: {names})"
