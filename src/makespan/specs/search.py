"""What the search room is asked and what it answers."""

from __future__ import annotations

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

    name : of the property ("HBM capacity").   change : in words ("+10 %").
    estimate : the best layout of the changed cluster.
    saved_fraction : of the step time; at least 0, since the old layout still runs.   same_layout : no other layout was needed.
    """

    name: str
    change: str
    estimate: StepEstimate
    saved_fraction: float
    same_layout: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """The best layout on one number of accelerators.

    estimate : None where nothing fits.   global_batch : sequences of a step.   tokens : to reach the same loss. [-]
    train_s : steps times step time. [s]   limit : what keeps twice the accelerators from being twice as fast.
    """

    num_accelerators: int
    global_batch: int
    estimate: StepEstimate | None
    tokens: float
    train_s: float
    limit: str
