"""What a better cluster would be worth: one property improved, the space searched again, the saving told.

The same set of layouts is compared on both clusters, so that what a search had missed is not credited to the hardware.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from makespan.rows import FloatArray
from makespan.search import scaled
from makespan.search.changes import neighbours
from makespan.search.engine import search
from makespan.search.objectives import estimate_value, objective_values, working_s
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.model import ModelSpec
from makespan.specs.search import HardwareWorth, Objective, SearchConstraints
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate

BETTER = 1.1
"""How much more of a property is asked about. [-]"""

WIDE_DOMAIN = 72
"""Accelerators of the widest NVLink domain on sale (NVIDIA GB200 and GB300 NVL72). [-]"""

MORE_ACCELERATORS = (1.05, 1.25)
"""Sizes at which the gain of more accelerators is measured, over the cluster's. Two, the second far off: the step time falls
in stairs, since replicas get whole micro-batches, and 5 % alone may stand before a stair or behind it."""

LEAST_EXPONENT = 0.02
"""Below this gain per log of accelerators more of them are said to save nothing. [-]"""

MOST_DPS = 64
"""Data-parallel sizes of the old layout that are tried where there are more accelerators."""

SWITCHES = ("cuda_graphs", "ep_overlap")
"""What stays as in the best layout: the search has it on wherever the software can."""

SAME = 1e-9
"""Relative difference below which two layouts are equally good: rounding. [-]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What stays while the cluster changes."""

    model: ModelSpec
    config: StepConfig
    profile: FrameworkProfile
    constraints: SearchConstraints
    best: StepEstimate

    def estimate(self, cluster: ClusterSpec, layout: Layout) -> StepEstimate:
        return step_estimate(
            self.model,
            self.config,
            cluster,
            self.profile,
            layout,
            memory_headroom=self.constraints.memory_headroom,
            provenance=self.best.provenance,
        )

    def value(self, cluster: ClusterSpec, estimate: StepEstimate) -> float:
        """The objective; `inf` where the layout does not run."""
        if estimate.status is not LayoutStatus.OK:
            return math.inf
        return estimate_value(self.constraints.objective, self.model, self.config, cluster, self.profile, estimate)

    def allows(self, cluster: ClusterSpec, layout: Layout) -> bool:
        """Whether the constraints do. `best` obeys them: a dimension that is fixed is as it is there."""
        for name in (field.name for field in dataclasses.fields(Layout)):
            held = getattr(self.constraints, name, None) is not None
            if held and getattr(layout, name) != getattr(self.best.layout, name):
                return False
        least = min(self.best.num_accelerators, self.constraints.min_used_fraction * cluster.num_accelerators)
        return layout.num_accelerators >= least

    def values(self, cluster: ClusterSpec, layouts: Sequence[Layout]) -> FloatArray:
        """The objective of many layouts; `inf` for those that do not run. Shape (layouts,)."""
        rows = LayoutArrays.of(layouts)
        objective, headroom = self.constraints.objective, self.constraints.memory_headroom
        by_energy = objective is Objective.ENERGY
        answer = evaluate(
            self.model,
            self.config,
            cluster,
            self.profile,
            rows,
            memory_headroom=headroom,
            detail=by_energy,
        )
        runs = np.flatnonzero(answer.status == int(LayoutStatus.OK))
        result = np.full(len(layouts), np.inf)
        if len(runs) == 0:
            return result
        few, working = rows.take(runs), None
        if by_energy:
            update = answer.detail["time.optimizer"][runs]
            working = working_s(self.model, self.config, cluster, self.profile, few, optimizer_s=update)
        used = few.num_accelerators
        result[runs] = objective_values(
            objective, cluster, time_s=answer.time_s[runs], num_accelerators=used, working_s=working
        )
        return result

    def better(self, cluster: ClusterSpec, layouts: Sequence[Layout], than: StepEstimate) -> StepEstimate:
        """The best of some layouts on a cluster, or `than`, worked out on that cluster, where none is better."""
        if not layouts:
            return than
        values = self.values(cluster, layouts)
        place, bound = int(np.argmin(values)), self.value(cluster, than)
        return self.estimate(cluster, layouts[place]) if values[place] < bound * (1.0 - SAME) else than

    def around(self, cluster: ClusterSpec, layout: Layout) -> list[Layout]:
        """Layouts that differ in one dimension and obey the constraints."""
        moves = neighbours(self.model, self.config, cluster, layout)
        near = dict.fromkeys(found for name, found in moves if name not in SWITCHES)
        return [found for found in near if found != layout and self.allows(cluster, found)]

    def searched(self, cluster: ClusterSpec) -> list[Layout]:
        """The best of the thin space, if it obeys the constraints."""
        thin = dataclasses.replace(self.constraints, thorough=False)
        found = search(self.model, self.config, cluster, self.profile, thin, top=1, front=False).best
        return [found.layout] if found is not None and self.allows(cluster, found.layout) else []


def _improvements(cluster: ClusterSpec) -> Iterator[tuple[str, str, ClusterSpec]]:
    """(property, change in words, the changed cluster); the cluster itself where there is nothing to improve."""
    more = f"+{BETTER - 1.0:.0%}".replace("%", " %")
    yield "HBM capacity", more, scaled.scaled_hbm_capacity(cluster, BETTER)
    yield "HBM bandwidth", more, scaled.scaled_hbm_bandwidth(cluster, BETTER)
    yield "FLOP/s", more, scaled.scaled_arithmetic(cluster, BETTER)
    yield "scale-up bandwidth", more, scaled.scaled_scale_up_bandwidth(cluster, BETTER)
    if len(cluster.fabric.tiers) > 1:
        yield "scale-out bandwidth", more, scaled.scaled_scale_out_bandwidth(cluster, BETTER)
    else:
        yield "scale-out bandwidth", "none: all accelerators are in one domain", cluster
    worst = scaled.most_oversubscribed(cluster)
    if worst is None:
        yield "oversubscription", "none: no tier is oversubscribed", cluster
    else:
        freed = scaled.scaled_oversubscription(cluster)
        yield "oversubscription", f"{worst.name} {worst.oversubscription:g} to 1", freed
    domain = scaled.scale_up_domain(cluster)
    if math.isinf(domain) or domain >= cluster.num_accelerators:
        yield "scale-up domain", "none: one domain holds the cluster", cluster
    else:
        sizes = {2 * int(domain), WIDE_DOMAIN if domain < WIDE_DOMAIN else 2 * int(domain)}
        for size in sorted(sizes):
            yield "scale-up domain", f"{domain:g} to {size}", scaled.scaled_domain(cluster, size)
    yield "network latency", "half", scaled.scaled_latency(cluster, 0.5)


def settled(case: _Case, cluster: ClusterSpec) -> StepEstimate:
    """`best`, or what a thin search and steps of one dimension from there find better on the cluster as it is."""
    base = case.better(cluster, case.searched(cluster), case.best)
    while True:  # every move is an improvement, so this ends
        moved = case.better(cluster, case.around(cluster, base.layout), base)
        if moved is base:
            return base
        base = moved


def _improved(
    case: _Case, changed: ClusterSpec, base: StepEstimate, found: list[Layout]
) -> tuple[StepEstimate, StepEstimate]:
    """The old layout and the best one on a changed cluster.   found : by a search of it."""
    kept = case.estimate(changed, base.layout)
    starts = dict.fromkeys([base.layout, *found])
    near = [layout for start in starts for layout in case.around(changed, start)]
    return kept, case.better(changed, [*found, *near], kept)


def _resized(case: _Case, cluster: ClusterSpec, old: Layout) -> list[Layout]:
    """The old layout with more replicas, as many as the cluster carries, thinned to `MOST_DPS`."""
    model_ranks = old.tp * old.cp
    each, experts = model_ranks * old.pp, old.ep * old.etp
    unit = experts // math.gcd(experts, model_ranks)
    most = min(cluster.num_accelerators // each, case.config.global_batch // old.micro_batch)
    sizes = np.arange(-(-old.dp // unit), most // unit + 1) * unit
    if len(sizes) > MOST_DPS:
        sizes = sizes[np.linspace(0, len(sizes) - 1, MOST_DPS).astype(np.int64)]
    found = [dataclasses.replace(old, dp=dp) for dp in sizes.tolist()]
    return [layout for layout in found if case.allows(cluster, layout)]


def scaling_exponent(case: _Case, cluster: ClusterSpec, base: StepEstimate) -> float:
    """How the least step time falls with accelerators: time ~ N^-exponent around N; nan where dp is fixed. [-]

    Notes
    -----
    Least squares of log(T(N) / T(N')) over log(N' / N) at `MORE_ACCELERATORS`, rounded up to whole nodes, through the
    origin. The global batch stays. The larger cluster is searched as the changed ones are, and the old layout is tried with
    more replicas.
    """
    if case.constraints.dp is not None:
        return math.nan
    whole = cluster.node.accelerators_per_node
    products = squares = 0.0
    for factor in MORE_ACCELERATORS:
        size = math.ceil(cluster.num_accelerators * factor / whole - SAME) * whole
        larger = dataclasses.replace(cluster, num_accelerators=size)
        _, found = _improved(case, larger, base, case.searched(larger))
        found = case.better(larger, _resized(case, larger, base.layout), found)
        step = math.log(size / cluster.num_accelerators)
        products += step * math.log(base.time_s / found.time_s)
        squares += step * step
    return products / squares if squares > 0.0 else math.nan


def accelerators_worth(saved_fraction: float, exponent: float) -> float:
    """More accelerators that would save the same share of the time, as a share; `inf` where none would. [-]

    Notes
    -----
    From (1 + x)^-exponent = 1 - saved.

    Examples
    --------
    Where twice the accelerators are twice as fast, 10 % less time takes 11 % more of them.

    >>> round(accelerators_worth(0.1, 1.0), 3), accelerators_worth(0.0, 1.0), accelerators_worth(0.1, 0.0)
    (0.111, 0.0, inf)
    """
    if math.isnan(exponent):
        return math.nan
    if saved_fraction <= 0.0:
        return 0.0
    if exponent < LEAST_EXPONENT or saved_fraction >= 1.0:
        return math.inf
    return float((1.0 - saved_fraction) ** (-1.0 / exponent) - 1.0)


def hardware_worth(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    best: StepEstimate,
) -> tuple[HardwareWorth, ...]:
    """What each improvement of the cluster would save of a step: the objective, with the layout that then is best.

    Parameters
    ----------
    constraints : of the search that found `best`, its objective included.
    best : the best layout of the cluster as it is. Empty answer where it does not run.

    Returns
    -------
    Largest saving first; those that save nothing are there too. `kept_fraction` is what the old layout alone would save.
    `accelerators_fraction` says how many more accelerators would save the same; only for the step time, and not where dp
    is fixed.

    Notes
    -----
    Improvements: 10 % more HBM capacity, HBM bandwidth, FLOP/s of every arithmetic, scale-up and scale-out bandwidth; the
    most oversubscribed tier made non-blocking; the scale-up domain twice as large, and 72 wide; half the network's
    latency. One at a time: savings of several do not add up, as a step waits for the slowest of what overlaps.

    Each changed cluster: the old layout again, the best of a thin search, and all neighbours of both in one dimension. What
    comes out is tried on the old cluster too, and takes the place of `best` there if it is better, so the difference is the
    hardware's. A layout that is two steps away and outside the thin space is missed: the saving is a lower bound.

    What the change would cost, in money, power or area, is not in it. The energy objective takes the same power of a node.
    """
    if best.status is not LayoutStatus.OK:
        return ()
    case = _Case(model=model, config=config, profile=profile, constraints=constraints, best=best)
    base = settled(case, cluster)
    changes = [
        (name, change, changed, [] if changed is cluster else case.searched(changed))
        for name, change, changed in _improvements(cluster)
    ]
    while True:  # every move is an improvement, so this ends
        tried = [
            (name, change, changed, *((base, base) if changed is cluster else _improved(case, changed, base, found)))
            for name, change, changed, found in changes
        ]
        moved = case.better(cluster, [after.layout for *_, after in tried], base)
        if moved is base:
            break
        base = moved
    before = case.value(cluster, base)
    by_time = constraints.objective is Objective.TIME
    exponent = scaling_exponent(case, cluster, base) if by_time else math.nan
    worths = []
    for name, change, changed, kept, after in tried:
        saved = max(1.0 - case.value(changed, after) / before, 0.0)
        worth = HardwareWorth(
            name=name,
            change=change,
            estimate=after,
            saved_fraction=saved,
            same_layout=after.layout == base.layout,
            kept_fraction=max(1.0 - case.value(changed, kept) / before, 0.0),
            accelerators_fraction=accelerators_worth(saved, exponent),
        )
        worths.append(worth)
    return tuple(sorted(worths, key=lambda worth: -worth.saved_fraction))


__all__ = ["accelerators_worth", "hardware_worth", "scaling_exponent", "settled"]
