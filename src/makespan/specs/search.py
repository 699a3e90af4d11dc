"""What the search room is asked and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.step import StepEstimate


class Objective(StrEnum):
    """What the best layout has least of, for one step. The tokens of a step are given, so the least for a step is the least
    for any budget of tokens or FLOP."""

    TIME = "time"
    """Step time. [s]"""
    COST = "cost"
    """Accelerator time: step time times accelerators used; at one price per accelerator-hour the cheapest. [s]"""
    ENERGY = "energy"
    """Energy of the accelerators used. [J]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConstraints:
    """What the search may not change; None leaves a dimension open.

    Texts are the words of `Layout`: `recompute="selective"`, `sharding="zero1"`, `schedule="1f1b"`, `order="tp-cp-dp-pp"`.

    thorough : the whole space; otherwise a thinner one, for planning, that rarely misses more than a per cent or two.
    min_used_fraction : layouts that leave more accelerators idle than this are not looked at. [-]
    memory_headroom : share of the memory that must stay free. [-]
    objective : what is to be least.
    """

    tp: int | None = None
    pp: int | None = None
    cp: int | None = None
    ep: int | None = None
    etp: int | None = None
    vpp: int | None = None
    dp: int | None = None
    micro_batch: int | None = None
    recompute: str | None = None
    sharding: str | None = None
    schedule: str | None = None
    cp_kind: str | None = None
    order: str | None = None
    shard_size: int | None = None
    offload: str | None = None
    cuda_graphs: str | None = None
    ep_overlap: bool | None = None
    thorough: bool = True
    min_used_fraction: float = 0.9
    memory_headroom: float = 0.05
    objective: Objective = Objective.TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The best layouts of a cluster, least objective first; why the others are out.

    best : None when nothing fits.   top : the first few, `best` first.
    pareto : not dominated in (time, memory, accelerators), of the layouts that were evaluated.
    num_layouts : distinct legal layouts that were each given a time, a memory and a status.
    num_feasible : of those, how many run and fit.
    num_excluded : further legal layouts, proved without being evaluated to be no better than the last of `top` or not to fit.
        0 for a thin search: not counted there.
    infeasible : combinations by the first rule they break, of those looked at one by one.
    num_ties : evaluated layouts within `tie_fraction` of the best: the model cannot tell them apart.
    nearest : for an infeasible answer, the layout that lacks least memory, with the bytes it lacks.
    columns : the best few thousand feasible layouts, best first: every field of `Layout` by name as integers, `time_s`,
        `memory_bytes`, `num_accelerators`, `objective`; arrays of one shape (layouts,).
    """

    best: StepEstimate | None
    top: tuple[StepEstimate, ...]
    pareto: tuple[StepEstimate, ...]
    num_layouts: int
    num_feasible: int
    num_excluded: int = 0
    infeasible: Mapping[LayoutStatus, int] = field(default_factory=dict)
    num_ties: int = 0
    tie_fraction: float = 0.0
    nearest: tuple[Layout, float] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)
    objective: Objective = Objective.TIME

    @property
    def num_legal(self) -> int:
        """Legal layouts of the space: evaluated, or excluded by proof."""
        return self.num_layouts + self.num_excluded


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareWorth:
    """The cluster with one property better, searched again.

    name : of the property ("HBM capacity").   change : in words ("+10 %"; "none: ..." where there is nothing to improve).
    estimate : the best layout of the changed cluster.
    saved_fraction : of the objective; at least 0, since the old layout still runs.   same_layout : no other layout was needed.
    kept_fraction : what the old layout alone would save of it. [-]
    accelerators_fraction : more accelerators that would save the same, as a share of the cluster's; `inf` where no number
        of them would, NaN where it was not worked out. [-]
    """

    name: str
    change: str
    estimate: StepEstimate
    saved_fraction: float
    same_layout: bool
    kept_fraction: float = 0.0
    accelerators_fraction: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class LossLaw:
    """Loss by size and data: ((parameters_scale / N)^(parameters_exponent / tokens_exponent) + tokens_scale / D)^tokens_exponent.

    N is parameters without embeddings, D tokens, the loss in nats a token.
    """

    parameters_scale: float
    parameters_exponent: float
    tokens_scale: float
    tokens_exponent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalBatchLaw:
    """How large a batch may get before it wastes tokens: B = coefficient * x^exponent tokens.

    x is the training tokens, or the loss that `loss` gives for size and tokens where it is set. An exponent of 0 is a
    constant.

    overhead_fraction : extra tokens, as a share of the fewest, at the batch the law names: 1 for the critical batch of
        McCandlish et al.; smaller where a paper defines its batch by a smaller loss of efficiency. [-]
    spread : P90 over P50 of the critical batch for runs like those behind the fit. [-]
    spread_per_decade : what a factor of ten in tokens beyond `fitted_tokens` adds to that, as a factor. [-]
    fitted_tokens : of the largest run behind the fit. [-]
    """

    name: str
    coefficient: float
    exponent: float
    overhead_fraction: float
    spread: float
    spread_per_decade: float
    fitted_tokens: float
    loss: LossLaw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStage:
    """A batch that holds from so many trained tokens on.

    from_tokens : tokens trained when it starts. [-]   global_batch : sequences of a step.
    """

    from_tokens: float
    global_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStage:
    """A part of the run at one batch.

    tokens : trained in it. [-]   num_steps : may be a broken number; the last step of a stage is not rounded up.
    estimate : the best layout at that batch; None where nothing fits.   train_s : steps times step time. [s]
    """

    from_tokens: float
    global_batch: int
    tokens: float
    num_steps: float
    estimate: StepEstimate | None
    train_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTime:
    """Time to a budget of tokens at the loss of the reference batch.

    stages : one a batch, in order; infinite times where nothing fits.
    reference_batch : sequences of the batch for which the budget was meant.
    tokens : the budget with what larger batches need on top; `tokens_p10`, `tokens_p90` by the spread of the law. [-]
    train_s : of all stages; `train_p10_s`, `train_p90_s` by the spreads of step time and law together. [s]
    """

    stages: tuple[TrainStage, ...]
    reference_batch: int
    tokens: float
    tokens_p10: float
    tokens_p90: float
    num_steps: float
    train_s: float
    train_p10_s: float
    train_p90_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """The best layout on one number of accelerators.

    estimate : None where nothing fits.   global_batch : sequences of a step; of the last stage of a ramp.
    tokens : to reach the same loss, with its P10 and P90; `budget_tokens` at the reference batch. [-]   train_s : steps times step time, with its P10 and P90. [s]
    limit : what costs most of the speed that so many accelerators would have at the best speed per accelerator of the
        curve: `batch`, `memory`, `network`, `stragglers`, `power`; `none` where less than a tenth is lost or no single
        cause gives a tenth; `constraints` where no layout is legal.
    gains : how many times faster the run would be without each of these; empty where less than a tenth is lost.
    """

    num_accelerators: int
    global_batch: int
    estimate: StepEstimate | None
    tokens: float
    train_s: float
    limit: str
    tokens_p10: float = 0.0
    tokens_p90: float = 0.0
    train_p10_s: float = 0.0
    train_p90_s: float = 0.0
    budget_tokens: float = 0.0
    gains: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Of the whole cluster; 0 where nothing fits."""
        return self.tokens / self.train_s if self.estimate is not None else 0.0

    @property
    def useful_tokens_per_s(self) -> float:
        """Tokens of the budget over the time: what a larger batch needs on top does not count; 0 where nothing fits."""
        return self.budget_tokens / self.train_s if self.estimate is not None else 0.0

    @property
    def mfu(self) -> float:
        """Model FLOP of the last stage's step over the dense bf16 peak of the whole cluster, idle accelerators included."""
        if self.estimate is None:
            return 0.0
        return self.estimate.mfu * self.estimate.num_accelerators / self.num_accelerators


@dataclass(frozen=True, slots=True, kw_only=True)
class HowFar:
    """The size from which on twice the accelerators give less than `least_gain` times the speed.

    num_accelerators : None where the curve does not fall below.   gain : of doubling there, or at `largest`. [-]
    limit : of the point at twice that size (`ScalingPoint.limit`).   largest : the largest size that could be doubled.
    """

    least_gain: float
    num_accelerators: int | None
    gain: float
    limit: str
    largest: int
