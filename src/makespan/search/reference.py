"""The same search in plain loops, for reading and as the oracle of the fast one. Slow: for small spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import gcd

from makespan.search.space import candidates, pipelines
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus, Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import step_estimate


def layouts(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, constraints: SearchConstraints
) -> Iterator[Layout]:
    """Every layout of the space, one by one."""
    choice = candidates(model, config, cluster, constraints)
    for tp in choice.tp:
        for cp in choice.cp:
            for pp, vpp in pipelines(choice, model.num_layers, thorough=constraints.thorough):
                for ep in choice.ep:
                    for micro_batch in choice.micro_batch:
                        for dp in _dps(tp * cp * pp, cp, ep, micro_batch, config, cluster, constraints):
                            for recompute in choice.recompute:
                                for sharding in choice.sharding:
                                    yield Layout(
                                        tp=tp,
                                        cp=cp,
                                        pp=pp,
                                        vpp=vpp,
                                        ep=ep,
                                        dp=dp,
                                        micro_batch=micro_batch,
                                        recompute=Recompute(recompute),
                                        sharding=Sharding(sharding),
                                    )


def _dps(
    per_replica: int,
    cp: int,
    ep: int,
    micro_batch: int,
    config: StepConfig,
    cluster: ClusterSpec,
    constraints: SearchConstraints,
) -> Iterator[int]:
    """The widest dp, and the leanest that needs no more micro-batches."""
    if constraints.dp is not None:
        yield constraints.dp
        return
    unit = ep // gcd(ep, cp)
    batches = -(-config.global_batch // micro_batch)
    most = cluster.num_accelerators // per_replica
    work = max(batches // unit, 1) * unit
    widest = min(most, work) // unit * unit
    if widest < 1:
        return
    rounds = -(-batches // widest)
    leanest = min(dp for dp in range(unit, widest + 1, unit) if -(-batches // dp) <= rounds)
    for dp in sorted({widest, leanest}):
        idle_allowed = per_replica * dp >= constraints.min_used_fraction * cluster.num_accelerators
        if idle_allowed or dp * micro_batch >= config.global_batch:
            yield dp


def search(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
) -> tuple[StepEstimate | None, Counter[LayoutStatus], int]:
    """The fastest layout, the tally of statuses, and the number of layouts."""
    best: StepEstimate | None = None
    tally: Counter[LayoutStatus] = Counter()
    for layout in layouts(model, config, cluster, constraints):
        estimate = step_estimate(model, config, cluster, profile, layout, memory_headroom=constraints.memory_headroom)
        tally[estimate.status] += 1
        if estimate.status is LayoutStatus.OK and (best is None or estimate.time_s < best.time_s):
            best = estimate
    return best, tally, sum(tally.values())
