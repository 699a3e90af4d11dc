"""The same search in plain loops, for reading and as the oracle of the fast one. Slow: for small spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

from makespan.search.objectives import estimate_value
from makespan.search.problem import Problem
from makespan.search.space import Mesh, Pipe, Policy, space_of
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import CudaGraphs, Layout, LayoutStatus, Offload, RankOrder
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, step_estimate
from makespan.step.arrays import COLUMNS
from makespan.step.legality import unsupported
from makespan.step.memory import with_optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the loops found.

    ranked : objective and layout of all that run and fit, best first; equals by accelerators, memory, and dimensions.
    tally : statuses of all layouts.
    """

    ranked: tuple[tuple[float, Layout], ...]
    tally: Counter[LayoutStatus]

    @property
    def num_feasible(self) -> int:
        """Layouts that run and fit."""
        return self.tally[LayoutStatus.OK]

    @property
    def num_legal(self) -> int:
        """Layouts that break no rule and that the software can run, whether they fit or not."""
        return self.tally[LayoutStatus.OK] + self.tally[LayoutStatus.OUT_OF_MEMORY]


def problem_of(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
) -> Problem:
    """What `engine.search` searches."""
    return Problem(
        model=model,
        config=with_optimizer(config, profile),
        cluster=cluster,
        profile=profile,
        space=space_of(model, config, cluster, profile, constraints),
        objective=constraints.objective,
    )


def layouts(problem: Problem) -> Iterator[Layout]:
    """Every layout of the space, one by one, and none under two names."""
    space = problem.space
    for mesh in space.meshes:
        for ep, etp in space.experts:
            for pipe in space.pipes:
                for micro_batch in space.micro_batches:
                    for dp in replicas(problem, mesh=mesh, ep=ep, etp=etp, pipe=pipe, micro_batch=micro_batch):
                        for policy in _policies(problem, ep):
                            for order in _orders(problem, pp=pipe.pp, cp=mesh.cp, dp=dp):
                                base = _layout(mesh, pipe, policy)
                                base = replace(base, ep=ep, etp=etp, dp=dp, micro_batch=micro_batch, order=order)
                                yield from _sharded(problem, base)


def _layout(mesh: Mesh, pipe: Pipe, policy: Policy) -> Layout:
    return Layout(
        tp=mesh.tp,
        cp=mesh.cp,
        cp_kind=mesh.cp_kind,
        pp=pipe.pp,
        vpp=pipe.vpp,
        schedule=pipe.schedule,
        recompute=policy.recompute,
        offload=policy.offload,
        ep_overlap=policy.ep_overlap,
        cuda_graphs=policy.cuda_graphs,
    )


def _policies(problem: Problem, ep: int) -> Iterator[Policy]:
    """Without experts over ranks there is nothing to overlap: the switch is one choice, not two."""
    switch = {policy.ep_overlap for policy in problem.space.policies}
    for policy in problem.space.policies:
        if ep > 1 or not policy.ep_overlap or switch == {True}:
            yield policy


def _orders(problem: Problem, *, pp: int, cp: int, dp: int) -> Iterator[RankOrder]:
    """The first order, and others where they put some rank elsewhere."""
    first, *others = problem.space.orders
    yield first
    for order in others:
        if order.matters(pp=pp, cp=cp, dp=dp):
            yield order


def _sharded(problem: Problem, base: Layout) -> Iterator[Layout]:
    for choice in problem.space.choices:
        offload = base.offload | Offload.OPTIMIZER if choice.offload_optimizer else base.offload
        yield replace(base, sharding=choice.sharding, shard_size=choice.shard_size, offload=offload)


def replicas(problem: Problem, *, mesh: Mesh, ep: int, etp: int, pipe: Pipe, micro_batch: int) -> list[int]:
    """The values of dp, ascending.

    ep * etp divides tp * cp * dp. The replicas fit on the accelerators; every one has a micro-batch, and as many as there
    are stages where chunks are interleaved. At most a share idles: of the accelerators, or where the batch cannot feed
    them all, of the replicas that it can feed. A thin space has the widest dp, and the leanest that needs no more
    micro-batches than the widest.
    """
    space, size, batch = problem.space, problem.size, problem.config.global_batch
    per_replica = mesh.tp * mesh.cp * pipe.pp
    unit = ep * etp // gcd(ep * etp, mesh.tp * mesh.cp)
    turns = pipe.pp if pipe.vpp > 1 else 1
    share = Fraction(str(space.min_used_fraction))

    def rounds(dp: int) -> int:
        return -(-batch // (micro_batch * dp))

    def is_possible(dp: int) -> bool:
        fits = per_replica * dp <= size and micro_batch * dp <= batch
        return dp % unit == 0 and fits and rounds(dp) >= turns

    if space.dp is not None:
        return [space.dp] if is_possible(space.dp) else []
    busy = [
        dp
        for dp in range(unit, size // per_replica + 1, unit)
        if is_possible(dp) and (per_replica * dp >= share * size or micro_batch * dp >= share * batch)
    ]
    if not space.thin or not busy:
        return busy
    return sorted({busy[-1], next(dp for dp in busy if rounds(dp) == rounds(busy[-1]))})


def leaves_switch_off(problem: Problem, layout: Layout) -> bool:
    """Whether the software could run the same layout with overlap of expert traffic, or recorded graphs, that it does without.

    Neither costs anything in this model, so the fast search does not look at such layouts.
    """

    def can_run(changed: Layout) -> bool:
        rows = LayoutArrays.alone(changed)
        return not unsupported(problem.model, problem.config, problem.cluster, problem.profile, rows)

    overlap = any(policy.ep_overlap for policy in problem.space.policies)
    graphs = max((policy.cuda_graphs for policy in problem.space.policies), default=CudaGraphs.NONE)
    if overlap and not layout.ep_overlap and layout.ep > 1 and can_run(replace(layout, ep_overlap=True)):
        return True
    return layout.cuda_graphs < graphs and can_run(replace(layout, cuda_graphs=graphs))


def search(problem: Problem, *, memory_headroom: float, candidates: Iterable[Layout] | None = None) -> Ranking:
    """Every layout worked out by `step_estimate`, and those that run and fit in the order of the objective.

    candidates : the layouts, where they are not to be all of the space.
    """
    model, config, cluster, profile = problem.specs
    tally: Counter[LayoutStatus] = Counter()
    found = []
    for layout in layouts(problem) if candidates is None else candidates:
        estimate = step_estimate(model, config, cluster, profile, layout, memory_headroom=memory_headroom)
        tally[estimate.status] += 1
        if estimate.status is LayoutStatus.OK:
            value = estimate_value(problem.objective, model, config, cluster, profile, estimate)
            dimensions = tuple(int(getattr(layout, name)) for name in COLUMNS)
            found.append((value, layout.num_accelerators, estimate.memory.total_bytes, dimensions, layout))
    found.sort(key=lambda entry: entry[:4])
    return Ranking(ranked=tuple((value, layout) for value, *_, layout in found), tally=tally)
