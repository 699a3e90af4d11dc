"""Which layouts there are: the values of every dimension, and which of them go together.

`reference.py` walks the same space in plain loops and is the oracle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import ContextKind, CudaGraphs, Layout, Offload, RankOrder, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays
from makespan.step.features import FEATURES
from makespan.step.grid import StateChoice
from makespan.step.legality import END_SLOTS
from makespan.workload import layer_kinds

IntArray = NDArray[np.int64]

MICRO_BATCHES = (*range(1, 9), 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64)
"""Sequences in a micro-batch that are looked at; a batch need not be a multiple."""

THIN_MICRO_BATCHES = (1, 2, 4)
MOST_THIN_CHUNKS = 3
MOST_THIN_ETP = 8
LARGEST_ETP = 64
"""Ranks that share an expert; beyond it an expert's products are slivers on every accelerator there is."""

SHORTEST_THIN_SEQUENCE = 1024
"""Tokens of a context-parallel rank below which a thin search does not go: rings are bound by latency there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Sizes that a layer's own collectives depend on."""

    tp: int
    cp: int
    cp_kind: ContextKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """Stages, chunks a stage, schedule."""

    pp: int
    vpp: int
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is recomputed or sent away, and the switches of the software that change a layer's time."""

    recompute: Recompute
    offload: Offload
    ep_overlap: bool
    cuda_graphs: CudaGraphs


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The values of every dimension. What is left of a layout, dp, follows from the others: see `dp_range`.

    experts : (ep, etp).   policies : offloading is that of activations.
    choices : sharding, its group, the optimizer on the host.
    ep_overlap, cuda_graphs : the best the software can do. They cost nothing in this model: where a layout may have them, the
        same layout without them is never better and is left out.
    thin : dp takes its widest and its leanest value only.
    """

    meshes: tuple[Mesh, ...]
    experts: tuple[tuple[int, int], ...]
    pipes: tuple[Pipe, ...]
    micro_batches: tuple[int, ...]
    policies: tuple[Policy, ...]
    orders: tuple[RankOrder, ...]
    choices: tuple[StateChoice, ...]
    ep_overlap: bool
    cuda_graphs: CudaGraphs
    dp: int | None
    thin: bool
    min_used_fraction: float

    @property
    def is_empty(self) -> bool:
        """Whether a dimension has no value left."""
        axes = (self.meshes, self.experts, self.pipes, self.micro_batches, self.policies, self.orders, self.choices)
        return not all(axes)


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending.

    Examples
    --------
    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def powers_of_two(largest: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to `largest`."""
    return tuple(1 << k for k in range(max(largest, 1).bit_length()))


def fewest_parts(whole: int, most: int) -> tuple[int, ...]:
    """The smallest number of parts for each size of the largest part, up to `most` parts.

    Splitting 10 layers over 6, 7, 8 or 9 stages leaves 2 on the longest, as 5 stages do: only 5 is kept by a thin search.

    Examples
    --------
    >>> fewest_parts(10, 10)
    (1, 2, 3, 4, 5, 10)
    """
    kept, last = [], math.inf
    for parts in range(1, min(whole, most) + 1):
        largest = -(-whole // parts)
        if largest < last:
            kept.append(parts)
            last = largest
    return tuple(kept)


_T = TypeVar("_T")


def _fixed(value: _T | None, otherwise: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(otherwise) if value is None else (value,)


def _meshes(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, fixed: SearchConstraints
) -> tuple[Mesh, ...]:
    """tp: powers of two and divisors of the heads, in the scale-up domain. cp: halves of a sequence's piece are whole."""
    size = cluster.num_accelerators
    domain = min(cluster.accelerator.scale_up_domain_size, size)
    tps = {t for t in (*powers_of_two(domain), *divisors(model.num_heads)) if t <= domain}
    cps = {c for c in divisors(config.seq_len) if c <= size and (c == 1 or config.seq_len % (2 * c) == 0)}
    if not fixed.thorough:
        tps &= set(powers_of_two(domain))
        cps = {c for c in cps & set(powers_of_two(size)) if c == 1 or config.seq_len // c >= SHORTEST_THIN_SEQUENCE}
    if not _can(profile, "tensor_parallel"):
        tps = {1}
    if not _can(profile, "context_parallel"):
        cps = {1}
    kinds = [ContextKind.RING, *([ContextKind.ALL_TO_ALL] if _can(profile, "cp_all_to_all") else [])]
    wanted = None if fixed.cp_kind is None else ContextKind[fixed.cp_kind.upper()]
    return tuple(
        Mesh(tp=tp, cp=cp, cp_kind=kind)
        for tp in _fixed(fixed.tp, sorted(tps))
        for cp in _fixed(fixed.cp, sorted(cps))
        for kind in (_fixed(wanted, kinds) if cp > 1 else (ContextKind.RING,))
        if tp * cp <= size
    )


def _experts(model: ModelSpec, profile: FrameworkProfile, fixed: SearchConstraints) -> tuple[tuple[int, int], ...]:
    """(ep, etp): divisors of the experts; powers of two that divide an expert's width."""
    eps: tuple[int, ...] = (1,)
    etps: tuple[int, ...] = (1,)
    if model.moe is not None:
        if _can(profile, "expert_parallel"):
            eps = divisors(model.moe.num_experts)
        if _can(profile, "expert_tensor_parallel"):
            etps = tuple(
                t for t in powers_of_two(model.moe.expert_ffn) if model.moe.expert_ffn % t == 0 and t <= LARGEST_ETP
            )
    if not fixed.thorough:
        etps = tuple(t for t in etps if t <= MOST_THIN_ETP)
    return tuple((ep, etp) for ep in _fixed(fixed.ep, eps) for etp in _fixed(fixed.etp, etps))


def _pipes(
    model: ModelSpec, cluster: ClusterSpec, profile: FrameworkProfile, fixed: SearchConstraints
) -> tuple[Pipe, ...]:
    """Every number of stages and chunks that layers, embedding and head can fill; schedules with one chunk a stage."""
    slots = model.num_layers + END_SLOTS
    most = min(slots, cluster.num_accelerators) if _can(profile, "pipeline_parallel") else 1
    pps = range(1, most + 1) if fixed.thorough else fewest_parts(model.num_layers, most)
    wanted = None if fixed.schedule is None else parse_schedule(fixed.schedule)
    others = [Schedule.ZERO_BUBBLE, Schedule.DUALPIPE] if fixed.thorough else []
    if not _can(profile, "one_f_one_b"):
        others.append(Schedule.GPIPE)  # elsewhere 1F1B is as fast and holds less
    schedules = [Schedule.ONE_F_ONE_B, *(s for s in others if _can(profile, s.name.lower()))]
    pipes = []
    for pp in _fixed(fixed.pp, pps):
        for schedule in _fixed(wanted, schedules):
            if schedule is not Schedule.ONE_F_ONE_B:
                even = schedule is not Schedule.DUALPIPE or pp % 2 == 0
                pipes += [Pipe(pp=pp, vpp=vpp, schedule=schedule) for vpp in _fixed(fixed.vpp, (1,)) if pp > 1 and even]
                continue
            chunks: Sequence[int] = range(1, slots // pp + 1)
            if pp == 1 or not _can(profile, "interleaving"):
                chunks = (1,)
            elif not fixed.thorough:
                chunks = _thin_chunks(model.num_layers, pp)
            pipes += [Pipe(pp=pp, vpp=vpp, schedule=schedule) for vpp in _fixed(fixed.vpp, chunks)]
    return tuple(pipes)


def _thin_chunks(num_layers: int, pp: int) -> tuple[int, ...]:
    """No interleaving, the finest, and one between: the step time moves smoothly with vpp."""
    per_stage = -(-num_layers // pp)
    chunks = tuple(v for v in fewest_parts(per_stage, per_stage) if v == 1 or pp * v <= num_layers + END_SLOTS)
    return (chunks[0], chunks[len(chunks) // 2], chunks[-1]) if len(chunks) > MOST_THIN_CHUNKS else chunks


def recompute_policies(model: ModelSpec, *, modules: bool = True) -> tuple[Recompute, ...]:
    """Recompute policies that differ for a model: every set of the modules it has, and whole layers.

    modules : False for none, selective and full alone.

    Examples
    --------
    >>> from makespan import catalog
    >>> many = recompute_policies
    >>> len(many(catalog.model("llama3.1-405b").spec)), len(many(catalog.model("deepseek-v3").spec))
    (17, 65)
    """
    if not modules:
        return (Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL)
    kinds = layer_kinds(model)
    flags = [Recompute.NORM, Recompute.ACTIVATION]
    if any(kind.mixer == "attention" for kind in kinds):
        flags.append(Recompute.CORE_ATTENTION)
        flags += [Recompute.UP_PROJECTION] if model.mla is not None else []
    moe = model.moe
    if any(kind.ffn == "dense" for kind in kinds) or (moe is not None and moe.shared_ffn + moe.dense_residual_ffn > 0):
        flags.append(Recompute.MLP)
    flags += [Recompute.EXPERTS] if moe is not None else []
    sets = [sum(chosen, Recompute.NONE) for size in range(len(flags) + 1) for chosen in combinations(flags, size)]
    return (*sorted(Recompute(s) for s in sets), Recompute.FULL)


def _choices(
    cluster: ClusterSpec, profile: FrameworkProfile, fixed: SearchConstraints, offload: Offload | None
) -> tuple[StateChoice, ...]:
    """ZeRO stages; for ZeRO-3 also groups of one, eight and sixty-four scale-up domains; the optimizer here or on the host."""
    stages = [s for s in Sharding if s is Sharding.NONE or _can(profile, s.name.lower())]
    if not fixed.thorough:
        stages = [s for s in stages if s in (Sharding.ZERO1, Sharding.ZERO3)] or stages
    wanted = None if fixed.sharding is None else Sharding[fixed.sharding.upper()]
    groups: tuple[int, ...] = ()
    if fixed.thorough and _can(profile, "hsdp"):
        domain = cluster.accelerator.scale_up_domain_size
        groups = tuple(g for g in (domain, 8 * domain, 64 * domain) if 1 < g < cluster.num_accelerators)
    on_host: tuple[bool, ...] = (False,)
    if fixed.thorough and cluster.accelerator.host_bytes_per_s > 0.0 and _can(profile, "offload_optimizer"):
        on_host = (False, True)
    if offload is not None:
        on_host = (bool(offload & Offload.OPTIMIZER),)
    return tuple(
        StateChoice(sharding=stage, shard_size=size, offload_optimizer=away)
        for stage in _fixed(wanted, stages)
        for size in _fixed(fixed.shard_size, (0, *(groups if stage is Sharding.ZERO3 else ())))
        for away in on_host
    )


def _can(profile: FrameworkProfile, feature: str) -> bool:
    return bool(profile.supports.get(feature, True))


def parse_schedule(word: str) -> Schedule:
    """The schedule of a word such as "1f1b" or "zero_bubble"."""
    return Schedule.ONE_F_ONE_B if word == "1f1b" else Schedule[word.upper().replace("-", "_")]


def _policies(
    model: ModelSpec, cluster: ClusterSpec, profile: FrameworkProfile, fixed: SearchConstraints, offload: Offload | None
) -> tuple[Policy, ...]:
    recomputes = recompute_policies(model, modules=fixed.thorough)
    recomputes = tuple(r for r in recomputes if not lacks_recompute(profile, r))
    away: tuple[Offload, ...] = (Offload.NONE,)
    if fixed.thorough and cluster.accelerator.host_bytes_per_s > 0.0 and _can(profile, "offload_activations"):
        away = (Offload.NONE, Offload.ACTIVATIONS)
    overlaps = (True, False) if model.moe is not None and _can(profile, "ep_overlap") else (False,)
    graphs = [CudaGraphs.NONE]
    if _can(profile, "full_graphs") and (model.moe is None or _can(profile, "full_graphs_moe")):
        graphs.insert(0, CudaGraphs.FULL)
    elif _can(profile, "partial_graphs"):
        graphs.insert(0, CudaGraphs.PARTIAL)
    wanted_graphs = None if fixed.cuda_graphs is None else CudaGraphs[fixed.cuda_graphs.upper()]
    return tuple(
        Policy(recompute=recompute, offload=host, ep_overlap=overlap, cuda_graphs=graph)
        for recompute in _fixed(None if fixed.recompute is None else Recompute.parse(fixed.recompute), recomputes)
        for host in _fixed(None if offload is None else offload & Offload.ACTIVATIONS, away)
        for overlap in _fixed(fixed.ep_overlap, overlaps)
        for graph in _fixed(wanted_graphs, graphs)
    )


def lacks_recompute(profile: FrameworkProfile, recompute: Recompute) -> bool:
    """Whether the software cannot recompute just these modules."""
    rows = LayoutArrays.alone(Layout(recompute=recompute))
    keys = ("module_recompute", "selective_recompute", "core_attention_recompute")
    return any(bool(FEATURES[key](rows)) and not _can(profile, key) for key in keys)


def space_of(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, fixed: SearchConstraints
) -> Space:
    """The values of every dimension under the constraints; a fixed dimension has one."""
    offload = None
    if fixed.offload is not None:
        offload = Offload(sum({int(Offload[part.upper()]) for part in fixed.offload.split("+")}))
    orders = [RankOrder.TP_CP_DP_PP]
    if fixed.thorough and _can(profile, "pp_inside_dp"):
        orders.append(RankOrder.TP_CP_PP_DP)
    wanted_order = None if fixed.order is None else RankOrder[fixed.order.upper().replace("-", "_")]
    sizes = MICRO_BATCHES if fixed.thorough else THIN_MICRO_BATCHES
    policies = _policies(model, cluster, profile, fixed, offload)
    return Space(
        meshes=_meshes(model, config, cluster, profile, fixed),
        experts=_experts(model, profile, fixed),
        pipes=_pipes(model, cluster, profile, fixed),
        micro_batches=_fixed(fixed.micro_batch, (b for b in sizes if b <= config.global_batch)),
        policies=policies,
        orders=_fixed(wanted_order, orders),
        choices=_choices(cluster, profile, fixed, offload),
        ep_overlap=max((policy.ep_overlap for policy in policies), default=False),
        cuda_graphs=max((policy.cuda_graphs for policy in policies), default=CudaGraphs.NONE),
        dp=fixed.dp,
        thin=not fixed.thorough,
        min_used_fraction=fixed.min_used_fraction,
    )


def leanest_space(space: Space) -> Space:
    """The layouts of a space that need the least memory: if none of them fits, none of the space does.

    Every micro-batch: a larger one leaves fewer replicas, and with them other numbers that divide. Whole layers recomputed, or
    all modules that the space knows: what is not kept is needed while one layer works, and a stage keeps at least one layer
    of one micro-batch. Or nothing recomputed, for software that sends activations away only then. Orders of ranks need the
    same.
    """
    wanted = {min(p.recompute for p in space.policies), max(p.recompute for p in space.policies)}
    modules = [p.recompute for p in space.policies if not p.recompute & Recompute.FULL]
    wanted |= {max(modules, key=lambda recompute: int(recompute).bit_count())} if modules else set()
    policies = tuple(p for p in space.policies if p.recompute in wanted)
    return replace(space, policies=policies, orders=space.orders[:1])


def dp_unit(tp: IntArray, cp: IntArray, ep: IntArray, etp: IntArray) -> IntArray:
    """dp has to be a multiple of this, so that ep * etp divides tp * cp * dp. [-]"""
    own = ep * etp
    return np.asarray(own // np.gcd(own, tp * cp))


def dp_range(
    space: Space,
    per_replica: IntArray,
    micro_batch: IntArray,
    unit: IntArray,
    turns: IntArray,
    *,
    global_batch: int,
    size: int,
) -> tuple[IntArray, IntArray]:
    """Least and largest dp, in units; the range is empty where the first exceeds the second. Arrays broadcast.

    turns : micro-batches that a replica needs at least: pp under interleaving, else 1.

    A replica beyond the batch would have nothing to do. At most the share 1 - `min_used_fraction` idles: of the
    accelerators, or where the batch cannot feed them all, of the replicas that it can feed.
    """
    if space.dp is not None:
        shape = np.broadcast_shapes(per_replica.shape, micro_batch.shape, unit.shape, turns.shape)
        divides = (space.dp % unit == 0) & (per_replica * space.dp <= size) & (micro_batch * space.dp <= global_batch)
        divides = divides & (-(-global_batch // (micro_batch * space.dp)) >= turns)
        at = space.dp // unit
        return np.broadcast_to(at, shape), np.broadcast_to(np.where(divides, at, at - 1), shape)
    fed = global_batch // micro_batch
    widest = np.minimum(size // per_replica, fed)
    # Whole numbers on both sides of the rounding: 0.9 * 100 / 10 is 9 and not a little more.
    enough = np.minimum(size / per_replica, global_batch / micro_batch) * space.min_used_fraction
    least = np.maximum(np.ceil(enough * (1.0 - 1e-12)).astype(np.int64), 1)
    # ceil(B / (b dp)) is at least so many as long as dp is below B / (b (turns - 1)).
    widest = np.where(
        turns > 1, np.minimum(widest, (global_batch - 1) // (micro_batch * np.maximum(turns - 1, 1))), widest
    )
    return -(-least // unit), widest // unit
