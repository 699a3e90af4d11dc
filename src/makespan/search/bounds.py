"""What no layout of a family can beat: lower bounds that let the search leave most of the space out, with proof.

A family fixes everything but dp and how parameters are sharded. Let T be the seconds that all stages together work on one
micro-batch of b sequences. The slowest of pp stages works at least T / pp on it, and a step of 1F1B with n micro-batches takes
at least n t + (T - t) / vpp for a slowest stage of t: never less than T ((n - 1/vpp) / pp + 1/vpp). With n = ceil(B / (b dp))
for the largest dp that N accelerators allow, the factor of T depends on tp cp, the unit of dp, b and the pipeline alone. The
bounds, each dearer and sharper than the one before:

1. Sizes (mesh, experts, micro-batch), every recompute policy at once: T without recomputation times the least factor of all
   pipelines. Recomputation only adds kernels, and a kernel hides at most as much traffic as it lasts.
2. The same with the recompute policy and offloading known.
3. T times the factor of one pipeline, and what data parallelism shows at least (`floors.floors`).
4. Slots and bubble of the family's own slowest stage, and the same.

`blocks.refined` adds the last: transfers, data parallelism under each sharding, the optimizer, and memory; and it cuts families
into pieces of their range of dp. Jitter counts for the fewest accelerators. What a bound leaves out is never negative. Zero-bubble and DualPipe count without their bubble. Where another order of ranks or DualPipe changes the traffic inside layers,
only their compute counts (`_steady`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.rows import some
from makespan.search.objectives import objective_floor, objective_values
from makespan.search.problem import (
    OF_FAMILY,
    POLICY,
    Families,
    Problem,
    Sizes,
    axis,
    blocked,
    family_columns,
    grid_columns,
    place_columns,
    size_columns,
)
from makespan.search.space import dp_range, dp_unit
from makespan.specs.layout import RankOrder, Schedule
from makespan.specs.search import Objective
from makespan.step import LayoutArrays, legality
from makespan.step.evaluate import LayerTable, all_layers, flat_table, jitter_factor, layer_table, slots_of
from makespan.step.features import OF_SHARDING
from makespan.step.memory import least_saved_bytes
from makespan.step.pipeline import bubble_s, plan_stages

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ROUNDING = 1.0 - 1e-9
"""Bounds are taken this much lower: the same sums in another order differ in the last digits."""

CELLS_AT_A_TIME = 1 << 17
"""Sizes with a pipeline whose bounds are worked out together."""


def _everything(problem: Problem, table: LayerTable, pick: str) -> FloatArray:
    """Seconds of every layer and head for one micro-batch, summed over the stages."""
    layers = tuple(getattr(times, pick) for times in table.kinds)
    return all_layers(problem.model, layers, getattr(table.head, pick))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """What T is multiplied by at least; `values` of shape (combinations, pipes), infinite where there is no layout.

    at : combination of each mesh, expert pair and micro-batch. Shape (meshes, experts, micro-batches).
    held : share of a whole model's activations that the first stage holds at least, of the shape of `values`. [-]
    """

    at: IntArray
    values: FloatArray
    held: FloatArray

    @property
    def least(self) -> FloatArray:
        """Of all pipelines. Shape (combinations,)."""
        found: FloatArray = self.values.min(axis=1)
        return found


def factors(problem: Problem) -> Factors:
    """The least objective of a step for one second of T, by tp * cp, unit of dp, micro-batch and pipeline."""
    space, batch = problem.space, problem.config.global_batch
    tp, cp = (axis(getattr(mesh, name) for mesh in space.meshes)[:, None, None] for name in ("tp", "cp"))
    ep, etp = (axis(pair[k] for pair in space.experts)[None, :, None] for k in (0, 1))
    sizes = axis(space.micro_batches)
    unit = dp_unit(tp, cp, ep, etp)
    ranks, units = tp * cp + 0 * unit, unit + 0 * (tp * cp)
    code = (ranks * (int(units.max()) + 1) + units) * len(sizes) + np.arange(len(sizes))
    _, first, at = np.unique(code.ravel(), return_index=True, return_inverse=True)
    place = np.unravel_index(first, code.shape)
    shape = (*code.shape[:2], 1)
    ranks, unit = (np.broadcast_to(v, shape)[place[0], place[1], 0][:, None] for v in (ranks, units))
    micro_batch = sizes[place[2]][:, None]
    pp, vpp, schedule = (axis(getattr(pipe, name) for pipe in space.pipes) for name in ("pp", "vpp", "schedule"))
    # Pipelines with the same stages, interleaved or not, have the same range of dp.
    kinds, of_pipe = np.unique(2 * pp + (vpp > 1), return_inverse=True)
    stages, turns = kinds // 2, np.where(kinds % 2 > 0, kinds // 2, 1)
    least, most = dp_range(space, ranks * stages, micro_batch, unit, turns, global_batch=batch, size=problem.size)
    possible = least <= most
    least, most = np.maximum(least, 1) * unit, np.maximum(most, 1) * unit
    jitter = jitter_factor(problem.profile, ranks * stages * least, precision=problem.config.precision)
    rounds = np.ceil(batch / (micro_batch * most))
    if problem.objective is Objective.TIME:
        slots, passages = rounds, np.ones_like(rounds)
    else:
        slots = ranks * stages * np.maximum(np.ceil(batch / micro_batch), least * rounds)
        passages = 1.0 * ranks * stages * least
    share = np.where(schedule == int(Schedule.ONE_F_ONE_B), 1.0 / vpp, 0.0)
    slots, passages, jitter = slots[:, of_pipe], passages[:, of_pipe] * share, jitter[:, of_pipe]
    values = ((slots - passages) / pp + passages) * jitter
    return Factors(
        at=at.reshape(code.shape),
        values=np.where(possible[:, of_pipe], values, np.inf),
        held=np.minimum(rounds / stages, 1.0)[:, of_pipe],
    )


def budgets(problem: Problem, columns: LayoutArrays, table: LayerTable, threshold: float) -> FloatArray:
    """What T times its factor may be for the threshold to be met, whatever the pipeline."""
    if problem.objective is not Objective.ENERGY or not math.isfinite(threshold):
        return np.asarray(threshold / ROUNDING)
    # The part of the energy that work takes does not depend on the pipeline; the rest is idle power for what is spent.
    fixed = _with_work(problem, columns, table, 0.0)
    return np.asarray((threshold / ROUNDING - fixed) / max(problem.cluster.node.idle_per_accelerator_w, 1e-9))


def _with_work(problem: Problem, columns: LayoutArrays, table: LayerTable, spent: FloatArray | float) -> FloatArray:
    """Energy of accelerator time spent and of the kernels of all ranks, which no pipeline changes. [J]"""
    micro_batches = problem.config.global_batch / columns.micro_batch
    working = _everything(problem, table, "kernels_s") * (micro_batches * (columns.tp * columns.cp))
    energy = objective_values(problem.objective, problem.cluster, time_s=spent, num_accelerators=1.0, working_s=working)
    return np.asarray(energy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bare:
    """Families by mesh, experts and micro-batch alone: their places in the space, and bound 1. Flat, best first."""

    mesh: IntArray
    expert: IntArray
    place: IntArray
    floor: FloatArray

    def __len__(self) -> int:
        return len(self.mesh)

    def take(self, index: Any) -> Bare:
        """Some of them."""
        return Bare(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def _steady(problem: Problem, columns: LayoutArrays, table: LayerTable) -> Any:
    """The share of a layer's time that stays at least in every order of ranks and schedule. Broadcasts. [-]

    Layer times here are those of the default order and of 1F1B. An order that spreads the groups of a layer over more tiers
    makes their rings shorter in hops, and can save a little latency; DualPipe hides expert traffic. What stays whatever
    happens to the traffic is the compute. Only expert groups wider than tp * cp move with the stages inside, and only
    context-parallel ones with data parallelism inside.
    """
    space = problem.space
    own = columns.ep * columns.etp
    changes: Any = False
    if RankOrder.TP_CP_PP_DP in space.orders and problem.profile.supports.get("pp_inside_dp_regrouped", True):
        changes = changes | (own > columns.tp * columns.cp)
    if RankOrder.TP_DP_CP_PP in space.orders:
        changes = changes | (columns.cp > 1)
    if any(pipe.schedule is Schedule.DUALPIPE for pipe in space.pipes):
        changes = changes | ((own > 1) & (columns.ep_overlap == 0))
    if not some(changes):
        return 1.0
    parts = (*table.kinds, table.head)
    return np.where(changes, reduce(np.minimum, [part.compute_s / part.busy_s for part in parts]), 1.0)


def bare_sizes(problem: Problem, known: Factors) -> tuple[Bare, dict[int, int]]:
    """Families by sizes that break no rule, by bound 1; and how many break which rule, by code."""
    space = problem.space
    shape = (len(space.meshes), len(space.experts), len(space.micro_batches))
    tp, cp, kind = (axis(getattr(mesh, n) for mesh in space.meshes)[:, None, None] for n in ("tp", "cp", "cp_kind"))
    ep, etp = (axis(pair[k] for pair in space.experts)[None, :, None] for k in (0, 1))
    batch = axis(space.micro_batches)[None, None, :]
    unit = dp_unit(tp, cp, ep, etp)
    columns = grid_columns(
        tp=tp,
        cp=cp,
        cp_kind=kind,
        ep=ep,
        etp=etp,
        micro_batch=batch,
        dp=unit if space.dp is None else space.dp,
        ep_overlap=int(space.ep_overlap),
        cuda_graphs=int(space.cuda_graphs),
    )
    status = np.broadcast_to(legality.structural_status(*problem.specs[:3], columns), shape)
    codes, counts = np.unique(status[status > 0], return_counts=True)
    off: Any = 0
    bare = replace(columns, ep_overlap=off, cuda_graphs=off, sharding=off)
    least = known.least[known.at]
    good = (status == 0) & np.isfinite(least) & (blocked(problem, bare) == 0)
    with np.errstate(all="ignore"):  # combinations that break a rule have no meaning
        table = layer_table(*problem.specs, columns)
        steady = _steady(problem, columns, table)
        floor = np.broadcast_to(_everything(problem, table, "busy_s") * (steady * least), shape)
        if problem.objective is Objective.ENERGY:
            floor = _with_work(problem, columns, table, floor)
    mesh, expert, place = np.nonzero(good)
    found = Bare(mesh=mesh, expert=expert, place=place, floor=floor[good] * ROUNDING)
    order = np.argsort(found.floor, kind="stable")
    return found.take(order), dict(zip(codes.tolist(), counts.tolist(), strict=True))


def with_policies(problem: Problem, known: Factors, bare: Bare, threshold: float) -> Sizes:
    """Bound 2 on an open grid of sizes and policies: those that are not above the threshold."""
    space = problem.space
    policies = {name: axis(getattr(policy, name) for policy in space.policies) for name in POLICY}
    micro_batch = axis(space.micro_batches)[bare.place]
    at = place_columns(space, mesh=bare.mesh, expert=bare.expert, micro_batch=micro_batch)
    sizes = {name: column[:, None] for name, column in at.items()}
    columns = grid_columns(**sizes, **{name: column[None, :] for name, column in policies.items()})
    shape = (len(bare), len(space.policies))
    table = layer_table(*problem.specs, columns)
    steady = np.broadcast_to(_steady(problem, columns, table), shape)
    busy = np.broadcast_to(_everything(problem, table, "busy_s") * steady, shape)
    budget = np.broadcast_to(budgets(problem, columns, table, threshold), shape)
    floor = busy * known.least[known.at[bare.mesh, bare.expert, bare.place]][:, None]
    # Without experts over ranks there is nothing to overlap: one of the two switches is enough.
    twice = (columns.ep == 1) & (columns.ep_overlap > 0) & (len({p.ep_overlap for p in space.policies}) > 1)
    row, policy = np.nonzero((floor <= budget) & np.logical_not(twice))

    def picked(values: FloatArray) -> FloatArray:
        return np.broadcast_to(values, shape)[row, policy]

    return Sizes(
        mesh=bare.mesh[row],
        expert=bare.expert[row],
        place=bare.place[row],
        policy=policy,
        micro_batch=micro_batch[row],
        **{name: column[policy] for name, column in policies.items()},
        table=flat_table(table, shape, (row, policy)),
        busy_s=picked(busy),
        budget=picked(budget),
        saved_bytes=picked(least_saved_bytes(problem.model, problem.config, problem.profile, columns)),
        steady=picked(steady),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Floors:
    """What every family has at least, by mesh and expert pair and by pipeline (`makespan.search.floors`); shapes (pairs, pipes).

    exposed : data-parallel traffic that shows, in units of `Factors`.   state_bytes : parameters and their state. [B]
    room_bytes : for all tensors of an accelerator. [B]
    """

    exposed: FloatArray
    state_bytes: FloatArray
    room_bytes: float


def families(problem: Problem, known: Factors, least: Floors, sizes: Sizes, threshold: float) -> Families:
    """Families with a pipeline whose bounds 3 and 4 are not above the threshold, best first."""
    if not len(sizes):
        return _joined([])
    place = sizes.mesh * len(problem.space.experts) + sizes.expert
    row, pipe = _pairs(known, sizes, place, least)
    starts = range(0, len(row), CELLS_AT_A_TIME)
    parts = [slots(problem, sizes, row[s : s + CELLS_AT_A_TIME], pipe[s : s + CELLS_AT_A_TIME]) for s in starts]
    found = []
    for part in parts:
        bare = _floors(problem, sizes, part)
        floor = (bare + _in_objective(problem, least.exposed[place[part.size], part.pipe])) * ROUNDING
        low = np.flatnonzero(floor * sizes.steady[part.size] <= threshold)
        good = _with_orders(problem, sizes, replace(part, bare=bare, floor=floor).take(low))
        found.append(supported(problem, sizes, good.take(np.flatnonzero(good.floor <= threshold))))
    whole = _joined(found)
    return whole.take(np.argsort(whole.floor, kind="stable"))


def _in_objective(problem: Problem, spent: FloatArray) -> FloatArray:
    """Time, or accelerator time where the objective counts it, in the units of the objective; nothing works in it."""
    if problem.objective is Objective.ENERGY:
        return spent * problem.cluster.node.idle_per_accelerator_w
    return spent


def supported(problem: Problem, sizes: Sizes, pieces: Families) -> Families:
    """Families that the software can run with some dp, as far as sharding does not matter.

    A single data-parallel rank sits in every order where it sits in the default one: the others start at two.
    """
    if len(problem.space.orders) > 1:
        alone = (pieces.order > 0) & (pieces.least * pieces.unit == 1)
        pieces = replace(pieces, least=pieces.least + alone)
    keys = [key for key in OF_FAMILY if key not in OF_SHARDING]
    fewest = replace(family_columns(problem, sizes, pieces), dp=pieces.least * pieces.unit)
    lacks = blocked(problem, fewest, keys=keys)
    return pieces.take(np.flatnonzero(np.broadcast_to(lacks, pieces.size.shape) == 0))


def _pairs(known: Factors, sizes: Sizes, place: IntArray, least: Floors) -> tuple[IntArray, IntArray]:
    """Bound 3: sizes and pipelines whose T times the factor, and what shows, is within the budget, and that may fit. Flat."""
    code = known.at[sizes.mesh, sizes.expert, sizes.place]
    limit = sizes.budget / (sizes.busy_s * ROUNDING)
    near = np.flatnonzero((known.values[np.unique(code)] <= limit.max(initial=0.0)).any(axis=0))
    values, held, exposed = known.values[:, near], known.held[:, near], least.exposed[:, near]
    state_bytes = least.state_bytes[:, near]
    at_a_time = max(4 * CELLS_AT_A_TIME // max(len(near), 1), 1)
    rows, pipes = [], []
    for start in range(0, len(sizes), at_a_time):
        part = slice(start, start + at_a_time)
        floor = values[code[part]] * sizes.busy_s[part, None] + exposed[place[part]]
        row, pipe = np.nonzero((floor * ROUNDING <= sizes.budget[part, None]) & np.isfinite(floor))
        row = row + start
        needs = state_bytes[place[row], pipe] + held[code[row], pipe] * sizes.saved_bytes[row]
        fits = np.flatnonzero(needs * ROUNDING <= least.room_bytes)
        rows.append(row[fits])
        pipes.append(near[pipe[fits]])
    return np.concatenate(rows), np.concatenate(pipes)


def _joined(pieces: list[Families]) -> Families:
    names = Families.__dataclass_fields__
    if not pieces:
        floats = ("slot_s", "bubble_s", "bare", "floor")
        empty: dict[str, Any] = {name: np.zeros(0, dtype=np.float64 if name in floats else np.int64) for name in names}
        return Families(**empty)
    return Families(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})


def slots(problem: Problem, sizes: Sizes, row: IntArray, pipe: IntArray) -> Families:
    """Some sizes with a pipeline each: slowest stage, bubble and range of dp. Flat."""
    space, config, model = problem.space, problem.config, problem.model
    columns = size_columns(space, sizes.take(row))
    pp, vpp, schedule = (axis(getattr(p, name) for p in space.pipes)[pipe] for name in ("pp", "vpp", "schedule"))
    wide = grid_columns(**columns | {"pp": pp, "vpp": vpp})
    table = sizes.table.take(row)
    busy = table.of_kinds(lambda times: times.busy_s)
    plan = plan_stages(model, wide, busy_s=busy)
    each = slots_of(model, plan, busy, table.rows(table.head.busy_s), pp > 1)
    plain = schedule == int(Schedule.ONE_F_ONE_B)
    unit = dp_unit(wide.tp, wide.cp, wide.ep, wide.etp)
    per_replica, turns, batch = wide.tp * wide.cp * pp, np.where(vpp > 1, pp, 1), config.global_batch
    least, most = dp_range(space, per_replica, wide.micro_batch, unit, turns, global_batch=batch, size=problem.size)
    return Families(
        size=row,
        pipe=pipe,
        order=np.zeros(len(row), dtype=np.int64),
        unit=unit,
        least=least,
        most=most,
        slot_s=np.where(schedule == int(Schedule.DUALPIPE), each.everything / pp * sizes.steady[row], each.slot),
        bubble_s=np.where(plain, bubble_s(each.slot, each.everything, vpp=vpp), 0.0),
        bare=np.zeros(len(row)),
        floor=np.zeros(len(row)),
    )


def _with_orders(problem: Problem, sizes: Sizes, first: Families) -> Families:
    """The same families under every order of ranks that puts some rank elsewhere (`step.ranks.distinct_orders`)."""
    orders = problem.space.orders

    def under(order: int, some: Families) -> Families:
        stays = sizes.steady[some.size] if order else 1.0
        times = {name: getattr(some, name) * stays for name in ("slot_s", "bubble_s", "bare", "floor")}
        return replace(some, order=np.full(len(some), order), **times)

    if len(orders) == 1:
        return under(int(orders[0]), first)
    pp = axis(pipe.pp for pipe in problem.space.pipes)[first.pipe]
    moved = first.take(np.flatnonzero((pp > 1) & (first.most * first.unit > 1)))
    return _joined([first, *(under(int(order), moved) for order in orders if order)])


def cut(problem: Problem, sizes: Sizes, whole: Families, dp_at_a_time: int) -> tuple[Families, IntArray]:
    """Families cut into pieces of at most so many values of dp, with the bare bound of each piece; and which family it is of."""
    num = -(-(whole.most - whole.least + 1) // dp_at_a_time)
    rows = np.repeat(np.arange(len(whole)), num)
    which = np.arange(len(rows)) - np.repeat(np.cumsum(num) - num, num)
    pieces = whole.take(rows)
    least = pieces.least + which * dp_at_a_time
    pieces = replace(pieces, least=least, most=np.minimum(least + dp_at_a_time - 1, pieces.most))
    return replace(pieces, bare=_floors(problem, sizes, pieces)), rows


def _floors(problem: Problem, sizes: Sizes, pieces: Families) -> FloatArray:
    """Bound 3 of flat families, in the units of the objective."""
    space, config = problem.space, problem.config
    columns = size_columns(space, sizes.take(pieces.size))
    pp = axis(pipe.pp for pipe in space.pipes)[pieces.pipe]
    per_replica = columns["tp"] * columns["cp"] * pp
    least, most = pieces.least * pieces.unit, pieces.most * pieces.unit
    factor = jitter_factor(problem.profile, per_replica * least, precision=config.precision)
    computing: FloatArray | float = 0.0
    if problem.objective is Objective.ENERGY:
        table = sizes.table.take(pieces.size)
        layers = table.of_kinds(lambda times: times.kernels_s)
        computing = all_layers(problem.model, layers, table.rows(table.head.kernels_s))
    floor: FloatArray = objective_floor(
        problem.objective,
        problem.cluster,
        global_batch=config.global_batch,
        micro_batch=columns["micro_batch"],
        per_replica=per_replica,
        slot_s=pieces.slot_s * factor,
        bubble_s=pieces.bubble_s * factor,
        dp_min=least,
        dp_max=most,
        compute_s=computing,
        pp=pp,
    )
    return floor * ROUNDING
