"""Groups on tiers against ranks written out one by one, for every order of ranks."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from makespan.network import members_per_tier
from makespan.network.placement import stage_ranks_held
from makespan.specs.hardware import FabricSpec, FabricTier
from makespan.specs.layout import Layout, RankOrder
from makespan.step import LayoutArrays
from makespan.step.ranks import context_group, group_of_stage, layer_keys, pipeline_distance

INNERMOST_FIRST = {
    RankOrder.TP_CP_DP_PP: ("tp", "cp", "dp", "pp"),
    RankOrder.TP_CP_PP_DP: ("tp", "cp", "pp", "dp"),
    RankOrder.TP_DP_CP_PP: ("tp", "dp", "cp", "pp"),
}
DOMAINS = (2, 3, 4, 6, 8, 9, 12, 16, 24)

Place = tuple[int, int, int, int]


def fabric(domain: int) -> FabricSpec:
    def tier(size: float) -> FabricTier:
        return FabricTier(name="tier", size=size, bytes_per_s=1e9, latency_s=0.0, efficiency=1.0)

    return FabricSpec(name="test", tiers=(tier(domain), tier(math.inf)))


def numbered(order: RankOrder, tp: int, cp: int, dp: int, pp: int) -> dict[Place, int]:
    """The number of every rank by its place (t, c, d, p): counting up, the innermost dimension runs fastest."""
    sizes = {"tp": tp, "cp": cp, "dp": dp, "pp": pp}
    outermost_first = INNERMOST_FIRST[order][::-1]
    ranks = {}
    for number, place in enumerate(itertools.product(*(range(sizes[name]) for name in outermost_first))):
        at = dict(zip(outermost_first, place, strict=True))
        ranks[at["tp"], at["cp"], at["dp"], at["pp"]] = number
    return ranks


def together(ranks: dict[Place, int], apart: Callable[[Place], object]) -> list[list[int]]:
    """Ranks whose places agree in what sets groups apart."""
    groups = defaultdict(list)
    for place, number in ranks.items():
        groups[apart(place)].append(number)
    return [sorted(group) for group in groups.values()]


def experts(ranks: dict[Place, int], ep: int, etp: int) -> Iterator[tuple[str, list[list[int]]]]:
    """The ranks of each stage, in the order of their numbers, cut anew: expert-tensor innermost, then expert."""
    stages = together(ranks, lambda place: place[3])
    cuts: dict[str, Callable[[int], object]] = {
        "expert tensor": lambda q: q // etp,
        "expert": lambda q: (q % etp, q // (etp * ep)),
        "expert data": lambda q: q % (etp * ep),
    }
    for name, cut in cuts.items():
        groups = defaultdict(list)
        for stage, members in enumerate(stages):
            for q, number in enumerate(members):
                groups[stage, cut(q)].append(number)
        yield name, list(groups.values())


def every_group(order: RankOrder, tp: int, cp: int, dp: int, pp: int, ep: int, etp: int) -> dict[str, list[list[int]]]:
    ranks = numbered(order, tp, cp, dp, pp)
    return {
        "tensor": together(ranks, lambda place: place[1:]),
        "context": together(ranks, lambda place: (place[0], *place[2:])),
        "data": together(ranks, lambda place: (place[0], place[3])),
        **dict(experts(ranks, ep, etp)),
    }


def placed(layouts: LayoutArrays, domain: int) -> dict[str, float]:
    """Members in one domain as the step counts them."""
    tiers, own = fabric(domain), layouts.ep * layouts.etp
    groups = {
        "tensor": members_per_tier(tiers, layouts.tp, 1),
        "context": context_group(tiers, layouts),
        "data": group_of_stage(tiers, layouts, layouts.cp * layouts.dp, layouts.tp),
        "expert tensor": group_of_stage(tiers, layouts, layouts.etp, 1),
        "expert": group_of_stage(tiers, layouts, layouts.ep, layouts.etp),
        "expert data": group_of_stage(tiers, layouts, layouts.tp * layouts.cp * layouts.dp // own, own),
    }
    return {name: float(np.squeeze(group.members[0])) for name, group in groups.items()}


@pytest.mark.parametrize("order", list(RankOrder))
def test_members_of_a_domain_are_those_of_ranks_written_out(order):
    """Exact where every group falls evenly into domains; else no less than the emptiest and no more than the fullest share."""
    exact = 0
    for tp, cp, dp, pp in itertools.product((1, 2, 4), (1, 2, 3), (1, 2, 4), (1, 2, 3, 4)):
        for ep, etp in ((1, 1), (2, 1), (2, 2), (8, 1)):
            if tp * cp * dp % (ep * etp):
                continue
            groups = every_group(order, tp, cp, dp, pp, ep, etp)
            layouts = LayoutArrays.build(tp=tp, cp=cp, dp=dp, pp=pp, ep=ep, etp=etp, order=int(order))
            for domain in DOMAINS:
                for name, found in placed(layouts, domain).items():
                    shares = {
                        sum(other // domain == rank // domain for other in group)
                        for group in groups[name]
                        for rank in group
                    }
                    assert min(shares) <= found <= max(shares), (tp, cp, dp, pp, ep, etp, domain, name)
                    exact += len(shares) == 1

    assert exact > 5000


@pytest.mark.parametrize("order", list(RankOrder))
def test_a_pipeline_message_takes_the_tier_of_its_slowest_hop(order):
    """Domains that pipelines fill without rest hold every hop; domains smaller than a pipeline next to each other do not."""
    seen = set()
    for tp, cp, dp, pp in itertools.product((1, 2), (1, 2), (2, 4), (2, 3, 4)):
        pipelines = together(numbered(order, tp, cp, dp, pp), lambda place: place[:3])
        layouts = LayoutArrays.build(tp=tp, cp=cp, dp=dp, pp=pp, order=int(order))
        span = tp * cp * pp if order is RankOrder.TP_CP_PP_DP else tp * cp * dp * pp
        for domain in DOMAINS:
            inside = all(len({rank // domain for rank in ranks}) == 1 for ranks in pipelines)
            if domain % span == 0 or (order is RankOrder.TP_CP_PP_DP and domain < span):
                assert bool(pipeline_distance(layouts)[0] < domain) == inside
                seen.add(inside)

    assert seen == ({True, False} if order is RankOrder.TP_CP_PP_DP else {True})


def test_strides_of_the_default_order_stay_as_they_were():
    layouts = LayoutArrays.build(tp=8, cp=2, dp=64, pp=16, ep=32)
    eight = fabric(8)

    assert pipeline_distance(layouts).tolist() == [1024]
    assert context_group(eight, layouts).members == members_per_tier(eight, layouts.cp, layouts.tp).members
    given, plain = group_of_stage(eight, layouts, layouts.ep, 1), members_per_tier(eight, layouts.ep, 1)
    assert given.members == plain.members


def test_blocks_of_a_stage_by_hand():
    """tp 4 x cp 2, nine stages: 72 accelerators hold one round of 72 ranks, so a block of 8 ranks of a stage; 576 hold 64.
    Four stages: two rounds of 32 in 72, 16 ranks; eight of them are not looked at."""
    assert stage_ranks_held(72, block=8, spacing=9) == 8
    assert stage_ranks_held(576, block=8, spacing=9) == 64
    assert stage_ranks_held(72, block=8, spacing=4) == 16
    assert stage_ranks_held(8, block=8, spacing=4) == stage_ranks_held(4, block=8, spacing=4) * 2 == 8
    assert stage_ranks_held(72, block=8, spacing=1) == 72


def test_orders_of_one_batch_keep_to_themselves():
    """Three layouts that differ in their order alone, tp 2, cp 2, dp 4, pp 2, in domains of 8: default, the eight data ranks
    two apart have 4 in a domain; stages between leave 2; data inside context: the context ranks are 8 apart."""
    layouts = LayoutArrays.build(tp=2, cp=2, dp=4, pp=2, order=[0, 1, 2])
    data = group_of_stage(fabric(8), layouts, layouts.cp * layouts.dp, layouts.tp)

    assert np.asarray(data.members[0]).tolist() == [4, 2, 4]
    assert np.asarray(context_group(fabric(8), layouts).members[0]).tolist() == [2, 2, 1]
    assert pipeline_distance(layouts).tolist() == [16, 7, 16]


def test_an_open_grid_gives_what_its_rows_give():
    """Columns with an axis of their own each, against the same layouts row by row."""
    axes = {"tp": [1, 2, 4], "cp": [1, 2], "pp": [1, 3], "dp": [1, 4], "ep": [1, 4], "order": [0, 1, 2]}
    rows = LayoutArrays.build(**dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True)))
    grid = replace(
        LayoutArrays.alone(Layout()),
        **dict(zip(axes, np.ix_(*axes.values()), strict=True)),
    )
    shape = tuple(len(values) for values in axes.values())

    def flat(values: object) -> list[float]:
        return np.broadcast_to(np.asarray(values), shape).ravel().tolist()

    for domain in DOMAINS:
        tiers = fabric(domain)
        for found, expected in (
            (context_group(tiers, grid), context_group(tiers, rows)),
            (
                group_of_stage(tiers, grid, grid.cp * grid.dp, grid.tp),
                group_of_stage(tiers, rows, rows.cp * rows.dp, rows.tp),
            ),
            (group_of_stage(tiers, grid, grid.ep, grid.etp), group_of_stage(tiers, rows, rows.ep, rows.etp)),
        ):
            assert flat(found.members[0]) == np.asarray(expected.members[0]).tolist()
    assert flat(pipeline_distance(grid)) == pipeline_distance(rows).tolist()
    assert [flat(column) for column in layer_keys(grid)] == [column.tolist() for column in layer_keys(rows)]
