"""What the order of ranks on the fabric (`RankOrder`) changes: where the groups of a layout sit.

The default order costs nothing: as long as no layout asks for another, every function gives the plain numbers of the table
in `makespan.network.placement`.
"""

from __future__ import annotations

from makespan.network import GroupPlacement, members_per_tier
from makespan.network.placement import IntLike
from makespan.rows import some, where
from makespan.specs.hardware import FabricSpec
from makespan.specs.layout import RankOrder
from makespan.step.arrays import BoolArray, IntArray, LayoutArrays

_PP_INSIDE, _CP_OUTSIDE = int(RankOrder.TP_CP_PP_DP), int(RankOrder.TP_DP_CP_PP)


def distinct_orders(order: IntArray, *, pp: IntArray, cp: IntArray, dp: IntArray) -> BoolArray:
    """Whether an order puts ranks elsewhere than the default does. Arguments broadcast.

    Stages next to each other: only where there are stages and data-parallel ranks. Data inside context parallelism: only
    where both exist. Otherwise the layout is the one of the default order, under a second name.

    Examples
    --------
    >>> layouts = LayoutArrays.build(pp=[1, 4, 4], cp=2, dp=[8, 8, 1], order=1)
    >>> distinct_orders(layouts.order, pp=layouts.pp, cp=layouts.cp, dp=layouts.dp).tolist()
    [False, True, False]
    """
    moved: BoolArray = ((order == _PP_INSIDE) & (pp > 1)) | ((order == _CP_OUTSIDE) & (cp > 1))
    return moved & (dp > 1)


def pp_inside_dp(layouts: LayoutArrays) -> BoolArray:
    """Layouts whose pipeline stages are neighbours, with data-parallel ranks further out."""
    inside: BoolArray = (layouts.order == _PP_INSIDE) & (layouts.pp > 1) & (layouts.dp > 1)
    return inside


def cp_outside_dp(layouts: LayoutArrays) -> BoolArray:
    """Layouts whose data-parallel ranks are nearer to each other than context-parallel ones."""
    outside: BoolArray = (layouts.order == _CP_OUTSIDE) & (layouts.cp > 1) & (layouts.dp > 1)
    return outside


def pp_inside_dp_regrouped(layouts: LayoutArrays) -> BoolArray:
    """Of `pp_inside_dp`, the layouts whose experts are not cut over just the tp * cp neighbours of a stage.

    Megatron numbers the ranks of experts by themselves and refuses where that gives other pipelines: unless the pipeline is
    outermost, experts need as many data-parallel ranks as the rest, so ep * etp = tp * cp. A dense model counts as experts
    cut over tp, which leaves cp = 1 (Megatron-LM, megatron/core/parallel_state.py, `initialize_model_parallel`: "When not
    using pp-last rank ordering, the data parallel size of the attention and moe layers must be the same"). So does a
    mixture whose experts are whole on one rank; there Megatron is stricter.
    """
    experts = layouts.ep * layouts.etp
    other: BoolArray = where(experts > 1, experts, layouts.tp) != layouts.tp * layouts.cp
    return pp_inside_dp(layouts) & other


def group_of_stage(fabric: FabricSpec, layouts: LayoutArrays, size: IntLike, stride: IntLike) -> GroupPlacement:
    """A group of ranks of one pipeline stage, `stride` of them apart, wherever the other stages sit.

    Tensor- and context-parallel groups need not ask: they lie inside a block of tp * cp neighbours in every order that
    moves the stages.
    """
    if not some(layouts.order):
        return members_per_tier(fabric, size, stride)
    # Without data parallelism a group lies in one block: nothing to ask of dp, and one axis less in an open grid.
    inside = layouts.order == _PP_INSIDE
    return members_per_tier(fabric, size, stride, block=layouts.tp * layouts.cp, spacing=where(inside, layouts.pp, 1))


def context_group(fabric: FabricSpec, layouts: LayoutArrays) -> GroupPlacement:
    """The context-parallel ranks: tp apart, or tp * dp where data parallelism lies inside."""
    if not some(layouts.order):
        return members_per_tier(fabric, layouts.cp, layouts.tp)
    outside = layouts.order == _CP_OUTSIDE
    return members_per_tier(fabric, layouts.cp, where(outside, layouts.tp * layouts.dp, layouts.tp))


def pipeline_distance(layouts: LayoutArrays) -> IntArray:
    """How far apart in rank order the two ends of a pipeline message are: what tier it takes. [-]

    With stages outermost, the distance of two neighbouring stages. With stages next to each other, that of the first and
    the last one: the pipeline runs at the pace of its slowest hop, so a tier serves it where it holds all of its stages.
    """
    outermost = layouts.tp * layouts.cp * layouts.dp
    if not some(layouts.order):
        return outermost
    return where(pp_inside_dp(layouts), layouts.tp * layouts.cp * layouts.pp - 1, outermost)


def layer_keys(layouts: LayoutArrays) -> tuple[IntArray, ...]:
    """What the times of a layer depend on beyond its own sizes, because of the order; 0 where nothing, no columns at all
    where every layout has the default order.

    The stages between the blocks of an expert group that is wider than tp * cp; the data-parallel ranks between
    context-parallel ones. Both are 0 in the default order, so its layouts share their layer times whatever pp and dp are.
    """
    if not some(layouts.order):
        return ()
    wide = pp_inside_dp(layouts) & (layouts.ep * layouts.etp > layouts.tp * layouts.cp)
    return where(wide, layouts.pp, 0), where(cp_outside_dp(layouts), layouts.dp, 0)
