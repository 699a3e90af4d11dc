"""How many layouts a space has: counted exactly, without listing them.

The rules that a layout has to keep (`step.legality`, `step.features`) look at few of its dimensions at a time, so the count is
a sum of products. A layout is sizes (mesh and experts), a pipeline, a policy, a choice of sharding, an order of ranks, a
micro-batch and dp.

* Rules of sizes, of pipelines, and of choices and policies are looked at apart (`OF_SIZES`, `OF_PIPES`, `OF_CHOICES`).
* dp: a range that depends on tp * cp, the micro-batch, the stages and whether they are interleaved. Of it count the multiples
  of what experts and groups of ZeRO-3 ask for. Rules that ask more of dp cut the range into runs, or leave single values.
* What the software lacks depends on sizes and pipelines by classes, such as "tp above 1": one member of a class stands for
  all of it (`_size_class`, `_pipe_class`, `_policy_class`), and dp = 2 for every dp above 1.

Products of whole numbers stay exact: arrays of 64 bits hold at most dp * micro-batches * sizes, and the last sum is done in
Python's integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.search.blocks import leanest
from makespan.search.problem import OF_FAMILY, POLICY, Problem, blocked, grid_columns
from makespan.search.space import divisors, dp_range, dp_unit
from makespan.specs.layout import LayoutStatus, Offload, Recompute, Schedule
from makespan.step import LayoutArrays
from makespan.step.features import OF_DP
from makespan.step.legality import has_precision, rules
from makespan.step.ranks import distinct_orders
from makespan.step.schedules import schedule_allowed

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

OF_SIZES = (
    LayoutStatus.HEADS_DO_NOT_DIVIDE,
    LayoutStatus.EXPERTS_DO_NOT_DIVIDE,
    LayoutStatus.SEQUENCE_DOES_NOT_DIVIDE,
    LayoutStatus.TP_LEAVES_DOMAIN,
)
"""Rules of mesh and experts, once dp is a multiple of its unit."""

OF_PIPES = (LayoutStatus.TOO_MANY_STAGES, LayoutStatus.VPP_NEEDS_PIPELINE, LayoutStatus.SCHEDULE_DOES_NOT_FIT)
"""Rules of the pipeline, once there are micro-batches enough and as many as the schedule asks for."""

OF_CHOICES = (LayoutStatus.SHARDS_DO_NOT_DIVIDE, LayoutStatus.NO_HOST_LINK)
"""Rules of sharding and offloading, once the groups of ZeRO-3 divide the data-parallel ranks."""

OF_RANGE = (LayoutStatus.TOO_MANY_ACCELERATORS, LayoutStatus.BATCH_TOO_SMALL)
"""Rules that the range of dp keeps (`space.dp_range`)."""


def count_legal(problem: Problem) -> int:
    """Distinct layouts of a space that break no rule and that the software can run, whether they fit or not. [-]

    Two names of one layout count once: an order of ranks that moves none, overlap of expert traffic that there is not. A free
    switch that is left off counts (`problem.is_dominated`). A thin space has two values of dp: the widest and the leanest.
    """
    space, precision = problem.space, problem.config.precision
    known = has_precision(problem.cluster.accelerator, precision) and problem.profile.supports.get(precision, True)
    if space.is_empty or not known:
        return 0
    sizes, pipes = _legal_sizes(problem), _legal_pipes(problem)
    if not len(sizes) or not len(pipes):
        return 0
    size_first, of_size, _ = _grouped(_size_class(sizes))
    pipe_first, of_pipe, _ = _grouped(_pipe_class(problem, pipes))
    ways = _ways(problem, sizes.take(size_first), pipes.take(pipe_first))
    groups, of_choice = np.unique([choice.shard_size for choice in space.choices], return_inverse=True)
    ways = ways @ (of_choice[:, None] == np.arange(len(groups))).astype(np.int64)

    kind_first, of_kind, _ = _grouped(_code(pipes.pp, pipes.vpp > 1, pipes.schedule))
    chunks = np.zeros((len(kind_first), len(pipe_first)), dtype=np.int64)
    np.add.at(chunks, (of_kind, of_pipe), 1)
    per_dp = np.einsum("kq,cqdg->cgkd", chunks, ways)

    # Sizes with the same range of dp, of which the same multiples count.
    ranks, unit = sizes.tp * sizes.cp, dp_unit(sizes.tp, sizes.cp, sizes.ep, sizes.etp)
    group = np.maximum(groups, 1)[None, :]
    step = np.lcm(unit[:, None], group // np.gcd(group, sizes.cp[:, None]))
    span_first, of_span, _ = _grouped(_code(ranks, unit * int(space.thin)))
    pair_first, of_pair, _ = _grouped(_code(of_span[:, None] + 0 * step, step).ravel())
    spans = _Spans(
        ranks=ranks[span_first],
        unit=unit[span_first] if space.thin else np.ones(len(span_first), dtype=np.int64),
        of_pair=np.broadcast_to(of_span[:, None], step.shape).ravel()[pair_first],
        step=step.ravel()[pair_first],
    )
    num_dp = _dp_counts(problem, spans, pipes.take(kind_first))

    # Sizes of one class, under one size of group, are added up before they meet what the class can do.
    cell = (of_size[:, None] * len(groups) + np.arange(len(groups))).ravel()
    first, _, times = _grouped(_code(cell, of_pair))
    cells, starts = np.unique(cell[first], return_index=True)
    dps = np.add.reduceat(times[:, None, None] * num_dp[of_pair[first]], starts, axis=0)
    each = per_dp.reshape(-1, *per_dp.shape[2:])[cells]
    return int((dps.astype(object) * each.astype(object)).sum())


def _code(*columns: Any) -> IntArray:
    """One whole number for each row of some columns of numbers from 0 up; rows that agree have the same."""
    code: IntArray = np.zeros(1, dtype=np.int64)
    for column in columns:
        values = np.asarray(column).astype(np.int64)
        code = code * (int(values.max(initial=0)) + 1) + values
    return code


def _grouped(code: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Of each different code the first place, the group of each place, and how often each occurs."""
    _, first, group, times = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    return first, group.reshape(code.shape), times


def _breaks(problem: Problem, layouts: LayoutArrays, looked_at: tuple[LayoutStatus, ...]) -> Any:
    """Whether some of the rules are broken. Broadcasts."""
    broken: Any = False
    for status, mask in rules(problem.model, problem.config, problem.cluster, layouts):
        if status in looked_at:
            broken = broken | mask
    return broken


def _legal_sizes(problem: Problem) -> LayoutArrays:
    """Mesh and experts that go together, one row each; dp is the smallest that experts allow."""
    space = problem.space
    mesh, expert = (grid.ravel() for grid in np.indices((len(space.meshes), len(space.experts))))
    tp, cp, kind = (_picked(space.meshes, name)[mesh] for name in ("tp", "cp", "cp_kind"))
    ep, etp = (np.array([pair[k] for pair in space.experts], dtype=np.int64)[expert] for k in (0, 1))
    unit = dp_unit(tp, cp, ep, etp)
    rows = LayoutArrays.build(tp=tp, cp=cp, cp_kind=kind, ep=ep, etp=etp, dp=unit)
    broken = _breaks(problem, rows, OF_SIZES) | (tp * cp * unit > problem.size)
    return rows.take(np.flatnonzero(np.broadcast_to(broken, tp.shape) == 0))


def _legal_pipes(problem: Problem) -> LayoutArrays:
    """Pipelines that the model can fill, one row each."""
    pp, vpp, schedule = (_picked(problem.space.pipes, name) for name in ("pp", "vpp", "schedule"))
    rows = LayoutArrays.build(pp=pp, vpp=vpp, schedule=schedule)
    # An even number of micro-batches, twice the stages: enough for every schedule.
    filled = replace(problem, config=replace(problem.config, global_batch=2 * int(pp.max())))
    return rows.take(np.flatnonzero(np.broadcast_to(_breaks(filled, rows, OF_PIPES), pp.shape) == 0))


def _picked(entries: Any, name: str) -> IntArray:
    return np.array([int(getattr(entry, name)) for entry in entries], dtype=np.int64)


def _size_class(sizes: LayoutArrays) -> IntArray:
    """All that `features` asks of mesh and experts."""
    experts = sizes.ep * sizes.etp
    inside = np.where(experts > 1, experts, sizes.tp) == sizes.tp * sizes.cp
    own = (sizes.tp > 1, sizes.cp > 1, sizes.cp_kind)
    return _code(*own, sizes.ep > 1, sizes.etp > 1, sizes.etp == sizes.tp, inside)


def _pipe_class(problem: Problem, pipes: LayoutArrays) -> IntArray:
    """All that `features` asks of a pipeline, apart from micro-batches."""
    uneven = problem.model.num_layers % (pipes.pp * pipes.vpp) != 0
    return _code(pipes.pp > 1, pipes.vpp > 1, pipes.schedule, uneven)


def _policy_class(policies: LayoutArrays) -> IntArray:
    """All that `features` asks of a policy."""
    named = [policies.recompute == int(name) for name in (0, Recompute.SELECTIVE, Recompute.CORE_ATTENTION)]
    full = policies.recompute >= int(Recompute.FULL)
    return _code(*named, full, policies.offload, policies.ep_overlap, policies.cuda_graphs)


def _ways(problem: Problem, sizes: LayoutArrays, pipes: LayoutArrays) -> IntArray:
    """Orders and policies that the software can run, by class of sizes, class of pipeline, dp of 1 or more, and choice."""
    space = problem.space
    policies = LayoutArrays.build(**{name: _picked(space.policies, name) for name in POLICY})
    first, _, times = _grouped(_policy_class(policies))
    policies = policies.take(first)
    columns = {name: _axis(getattr(sizes, name), 0) for name in ("tp", "cp", "cp_kind", "ep", "etp")}
    columns |= {name: _axis(getattr(pipes, name), 1) for name in ("pp", "vpp", "schedule")}
    columns |= {"order": _axis(np.array(space.orders, dtype=np.int64), 2), "dp": _axis(np.array([1, 2]), 3)}
    choice = {name: _axis(_picked(space.choices, name), 4) for name in ("sharding", "shard_size")}
    policy = {name: _axis(getattr(policies, name), 5) for name in POLICY}
    on_host = _axis(_picked(space.choices, "offload_optimizer"), 4) * int(Offload.OPTIMIZER)
    policy["offload"] = policy["offload"] | on_host
    layouts = grid_columns(**columns, **choice, **policy)
    good = blocked(problem, layouts, keys=OF_FAMILY) == 0
    grouped = grid_columns(**choice, **policy, dp=np.maximum(choice["shard_size"], 1))
    good = good & (_breaks(problem, grouped, OF_CHOICES) == 0)
    if len(space.orders) > 1:
        moves = distinct_orders(layouts.order, pp=layouts.pp, cp=layouts.cp, dp=layouts.dp)
        good = good & ((layouts.order == 0) | moves)
    if len({each.ep_overlap for each in space.policies}) > 1:
        good = good & ((layouts.ep > 1) | (layouts.ep_overlap == 0))
    shape = (len(sizes), len(pipes), len(space.orders), 2, len(space.choices), len(policies))
    ways: IntArray = (np.broadcast_to(good, shape) @ times).sum(axis=2)
    return ways


def _axis(values: IntArray, place: int) -> IntArray:
    """Along one of the six axes of `_ways`."""
    return values.reshape(tuple(-1 if axis == place else 1 for axis in range(6)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Spans:
    """Ranges of dp, and the multiples in them that are asked for.

    ranks : tp * cp.   unit : dp is looked at in multiples of it; shape (spans,).
    of_pair : span of each pair.   step : dp has to be a multiple of it; shape (pairs,).
    """

    ranks: IntArray
    unit: IntArray
    of_pair: IntArray
    step: IntArray


def _dp_counts(problem: Problem, spans: _Spans, kinds: LayoutArrays) -> IntArray:
    """Values of dp, summed over micro-batches: those of 1, and those above. Shape (pairs, kinds of pipeline, 2)."""
    counts = np.zeros((len(spans.step), len(kinds), 2), dtype=np.int64)
    counted = _asks_count(problem, kinds)
    for chosen in (np.flatnonzero(counted == 0), np.flatnonzero(counted)):
        if not len(chosen):
            continue
        for first, last in _runs(problem, spans, kinds.take(chosen), by_count=bool(counted[chosen[0]])):
            below = np.minimum(first - 1, last)  # an empty run has no multiples
            ones = ((below == 0) & (last > 0)).sum(axis=1)
            for step in np.unique(spans.step).tolist():
                pairs = np.flatnonzero(spans.step == step)
                which = spans.of_pair[pairs]
                alone = ones[which] if step == 1 else 0 * ones[which]
                number = (last // step - below // step).sum(axis=1)[which]
                counts[pairs[:, None], chosen, 0] += alone
                counts[pairs[:, None], chosen, 1] += number - alone
    return counts


def _asks_count(problem: Problem, kinds: LayoutArrays) -> BoolArray:
    """Pipelines for which not every number of micro-batches from the least on will do."""
    groups = not problem.profile.supports.get("uneven_interleaving", True)
    asks: BoolArray = (kinds.schedule == int(Schedule.DUALPIPE)) | ((kinds.vpp > 1) & groups)
    return asks


def _runs(
    problem: Problem, spans: _Spans, kinds: LayoutArrays, *, by_count: bool
) -> Iterator[tuple[IntArray, IntArray]]:
    """Runs of allowed dp, from the first to the last, none where the first is larger. Shape (spans, micro-batches, kinds).

    by_count : whether a rule asks for certain numbers of micro-batches.
    """
    space, batch = problem.space, problem.config.global_batch
    ranks, unit = spans.ranks[:, None, None], spans.unit[:, None, None]
    micro_batch = np.array(space.micro_batches, dtype=np.int64)[None, :, None]
    turns = np.where(kinds.vpp > 1, kinds.pp, 1)
    least, most = dp_range(space, ranks * kinds.pp, micro_batch, unit, turns, global_batch=batch, size=problem.size)

    def allowed(dp: Any) -> Any:
        rows = grid_columns(pp=kinds.pp, vpp=kinds.vpp, schedule=kinds.schedule, micro_batch=micro_batch, dp=dp)
        count = -(-batch // (micro_batch * dp))
        fits = schedule_allowed(kinds.schedule, kinds.pp, kinds.vpp, count)
        return fits & (blocked(problem, rows, keys=OF_DP) == 0)

    if space.thin:
        lean = leanest(problem, least, most, unit, micro_batch)
        for number, there in ((most, least <= most), (lean, (least <= most) & (lean < most))):
            dp = np.maximum(number, 1) * unit
            yield np.where(there & allowed(dp), dp, dp + 1), dp
        return
    least, most = least * unit, most * unit
    if not problem.profile.supports.get("uneven_batch", True):
        for divisor in divisors(batch):
            there = (least <= divisor) & (divisor <= most)
            if there.any():
                dp = np.full(there.shape, divisor)
                yield np.where(there & allowed(divisor), dp, dp + 1), dp
        return
    if not by_count:
        yield least, most
        return
    while (least <= most).any():
        # All dp up to (B - 1) / (b (n - 1)) need n micro-batches or more: those that need n, as `least` does.
        count = -(-batch // (micro_batch * least))
        last = np.where(count > 1, (batch - 1) // (micro_batch * np.maximum(count - 1, 1)), most)
        last = np.minimum(np.maximum(last, least), most)
        yield np.where(allowed(least), least, last + 1), last
        least = np.maximum(last + 1, least)
