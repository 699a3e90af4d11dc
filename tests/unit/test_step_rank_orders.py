"""The order of ranks in a step: where it pays, where it changes nothing, and how it is written."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from makespan import catalog
from makespan.report.step_text import layout_data
from makespan.search.changes import neighbours
from makespan.specs.hardware import ClusterSpec, FabricSpec, FabricTier
from makespan.specs.layout import Layout, LayoutStatus, RankOrder
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate
from makespan.step.evaluate import RESULTS
from makespan.step.ranks import cp_outside_dp, distinct_orders, layer_keys, pp_inside_dp, pp_inside_dp_regrouped

LLAMA = catalog.model("llama3.1-70b").spec
PROFILE = replace(catalog.framework("megatron-2025").spec, supports={})
BARE = replace(PROFILE, pp_exposed=1.0, dp_exposed=1.0, chunk_overhead_s=0.0, jitter_per_doubling=0.0)
"""Everything shows, nothing is added: pipeline and data parallelism can be followed by hand."""


def on(domain: int, inside: float, outside: float, num_accelerators: int = 4096) -> ClusterSpec:
    def tier(size: float, rate: float) -> FabricTier:
        return FabricTier(name="tier", size=size, bytes_per_s=rate, latency_s=0.0, efficiency=1.0)

    return ClusterSpec(
        name="test",
        accelerator=replace(catalog.accelerator("b200-sxm").spec, scale_up_domain_size=domain),
        node=catalog.node("hgx-h100").spec,
        fabric=FabricSpec(name="two tiers", tiers=(tier(domain, inside), tier(math.inf, outside))),
        num_accelerators=num_accelerators,
    )


def by_order(cluster: ClusterSpec, *, micro_batches: int, **sizes: int) -> dict[str, np.ndarray]:
    """Total time, pipeline and data-parallel seconds under the default order and with stages next to each other."""
    layouts = LayoutArrays.build(order=[0, 1], **sizes)
    config = StepConfig(global_batch=micro_batches * sizes["dp"], seq_len=8192, precision="bf16")
    found = evaluate(LLAMA, config, cluster, BARE, layouts, detail=True)
    return {"time": found.time_s, "pp": found.detail["time.pp"], "dp": found.detail["time.dp"]}


@pytest.mark.parametrize(("micro_batches", "pays"), [(64, False), (512, True)])
def test_a_pipeline_that_fills_a_server(micro_batches, pays):
    """tp 2 x 4 stages = 8 accelerators. A message is 8192 tokens x 8192 wide x 2 bytes / tp 2 = 67 MB: 1.342 ms over
    50 GB/s, an eighth of that over 400. It goes out and comes back in every micro-batch, and fills and drains 3 hops. Data
    ranks two apart have four ports out of a server; stages between leave them one. So it takes many micro-batches."""
    found = by_order(on(8, 400e9, 50e9), micro_batches=micro_batches, tp=2, pp=4, dp=16)
    hops = 2 * micro_batches + 2 * 3

    assert found["pp"] == pytest.approx([hops * 2**26 / 50e9, hops * 2**26 / 400e9])
    assert found["dp"][1] == pytest.approx(4.0 * found["dp"][0])
    assert found["time"][1] - found["time"][0] == pytest.approx(np.diff(found["pp"])[0] + np.diff(found["dp"])[0])
    assert (found["time"][1] < found["time"][0]) == pays


def test_a_pipeline_that_fills_a_rack_of_72():
    """tp 4 x cp 2 x 9 stages = 72. A message is 4096 x 8192 x 2 / 4 = 16.8 MB. Of the 32 data ranks four apart a rack has 18
    in the default order, whose own links (900 GB/s) are slower than 18 ports (1,800); with the other stages between it has
    the two of one block, so two ports: 200."""
    found = by_order(on(72, 900e9, 100e9), micro_batches=256, tp=4, cp=2, pp=9, dp=16)
    hops = 2 * 256 + 2 * 8

    assert found["pp"] == pytest.approx([hops * 2**24 / 100e9, hops * 2**24 / 900e9])
    assert found["dp"][1] == pytest.approx(4.5 * found["dp"][0])
    assert found["time"][1] < found["time"][0]


def test_data_parallelism_inside_context_parallelism_moves_keys_and_values_out():
    """cp 2 x dp 4 without tp in a server of 8: context ranks are neighbours, or four apart and still inside; at dp 8 they are
    in two servers. Gradients are summed over both in any case, so nothing else changes."""
    config = StepConfig(global_batch=64, seq_len=8192, precision="bf16")
    layouts = LayoutArrays.build(tp=1, cp=2, dp=[4, 4, 8, 8], order=[0, 2, 0, 2])
    found = evaluate(LLAMA, config, on(8, 400e9, 50e9), replace(BARE, cp_exposed=1.0), layouts, detail=True)
    context = found.detail["time.cp"]

    assert context[0] == context[1] > 0.0
    assert context[3] == pytest.approx(8.0 * context[2])
    assert found.time_s[3] - found.time_s[2] == pytest.approx(context[3] - context[2])


def random_layouts(seed: int, number: int, *, mixture: bool) -> LayoutArrays:
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> np.ndarray:
        return rng.choice(values, number)

    return LayoutArrays.build(
        tp=pick(1, 2, 4),
        pp=pick(1, 2, 4, 8),
        cp=pick(1, 1, 2, 4),
        dp=pick(1, 4, 8, 16, 12),
        ep=pick(1, 2, 8, 16) if mixture else 1,
        etp=pick(1, 1, 2) if mixture else 1,
        vpp=pick(1, 1, 2),
        sharding=pick(0, 1, 2, 3),
        shard_size=pick(0, 0, 8),
        cp_kind=pick(0, 1),
        schedule=pick(0, 0, 0, 3),
        order=pick(0, 1, 2),
    )


CASES = [
    ("llama3.1-70b", "nvlink8-b200-ib"),
    ("deepseek-v3", "nvlink72-ib-800g"),
    ("nemotron-3-super-120b-a12b", "nvlink8-b200-ib"),
]


def runnable(name: str, fabric: str, number: int):
    """A machine, and layouts of all orders that can run there."""
    model = catalog.model(name).spec
    cluster = replace(on(8, 1.0, 1.0), fabric=catalog.fabric(fabric).spec)
    machine = (model, StepConfig(global_batch=768, seq_len=8192, precision="bf16"), cluster, PROFILE)
    drawn = random_layouts(5, 6000, mixture=model.moe is not None)
    drawn = drawn.take(np.isin(evaluate(*machine, drawn).status, (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY)))
    return machine, drawn.take(slice(number))


@pytest.mark.parametrize(("name", "fabric"), CASES)
def test_a_layout_of_any_order_alone_gives_the_digits_it_gives_among_others(name, fabric):
    """Also the check that layer times are shared only by layouts that have the same."""
    machine, layouts = runnable(name, fabric, 120)
    together = evaluate(*machine, layouts, detail=True)

    assert len(layouts) == 120
    for row in range(len(layouts)):
        alone = evaluate(*machine, layouts.take(slice(row, row + 1)), detail=True)
        for column in RESULTS:
            np.testing.assert_array_equal(getattr(alone, column), getattr(together, column)[row : row + 1], column)
        for column, values in alone.detail.items():
            np.testing.assert_array_equal(values, together.detail[column][row : row + 1], column)


@pytest.mark.parametrize(("name", "fabric"), CASES)
def test_an_order_changes_times_only_where_it_is_distinct_and_never_memory(name, fabric):
    machine, layouts = runnable(name, fabric, 2000)
    found = evaluate(*machine, layouts)
    plain = replace(layouts, order=np.zeros_like(layouts.order))
    default = evaluate(*machine, plain)
    distinct = distinct_orders(layouts.order, pp=layouts.pp, cp=layouts.cp, dp=layouts.dp)

    assert distinct.sum() > 100
    np.testing.assert_array_equal(found.time_s[~distinct], default.time_s[~distinct])
    np.testing.assert_array_equal(found.memory_bytes, default.memory_bytes)
    np.testing.assert_array_equal(found.status, default.status)
    for order in (1, 2):
        assert (found.time_s != default.time_s)[distinct & (layouts.order == order)].mean() > 0.2


def test_layers_depend_on_stages_and_data_ranks_only_where_an_order_puts_them_between():
    """tp 2 x cp 2: an expert group of 4 lies in one block, one of 8 does not."""
    layouts = LayoutArrays.build(tp=2, cp=[2, 2, 2, 2, 1], pp=4, dp=8, ep=[4, 8, 8, 8, 1], order=[1, 1, 0, 2, 2])

    assert [column.tolist() for column in layer_keys(layouts)] == [[0, 4, 0, 0, 0], [0, 0, 0, 8, 0]]
    assert layer_keys(LayoutArrays.build(tp=2, pp=[1, 4], dp=8, ep=8)) == ()


def test_features_ask_only_for_orders_that_are_distinct():
    layouts = LayoutArrays.build(tp=2, cp=2, pp=[1, 4, 4, 4], dp=8, ep=[1, 1, 4, 8], order=1)

    assert pp_inside_dp(layouts).tolist() == [False, True, True, True]
    # ep 4 = tp * cp is what Megatron takes; a dense model with context parallelism it does not
    assert pp_inside_dp_regrouped(layouts).tolist() == [False, True, False, True]
    outside = LayoutArrays.build(cp=[1, 2, 2], dp=[8, 8, 1], order=2)
    assert cp_outside_dp(outside).tolist() == [False, True, False]


def test_an_order_that_the_framework_lacks_is_not_supported():
    config = StepConfig(global_batch=64, seq_len=8192, precision="bf16")
    lacking = replace(PROFILE, supports={"pp_inside_dp": False})
    layouts = LayoutArrays.build(tp=8, pp=[4, 4, 1], dp=[4, 4, 16], order=[0, 1, 1])
    found = evaluate(LLAMA, config, on(8, 400e9, 50e9), lacking, layouts)

    assert (found.status == int(LayoutStatus.NOT_SUPPORTED)).tolist() == [False, True, False]


def test_an_order_is_written_where_it_matters():
    layout = Layout(tp=8, pp=4, dp=2, order=RankOrder.TP_CP_PP_DP)

    assert "ranks tp-cp-pp-dp" in str(layout)
    assert "ranks" not in str(replace(layout, dp=1))
    assert "ranks" not in str(Layout(tp=8, pp=4, dp=2))
    assert "ranks" not in str(replace(layout, order=RankOrder.TP_DP_CP_PP))
    assert layout_data(layout)["order"] == "tp-cp-pp-dp"
    assert LayoutArrays.of([layout]).row(0) == layout


def test_matters_and_distinct_orders_agree():
    for order in RankOrder:
        for pp, cp, dp in ((1, 1, 1), (4, 1, 8), (1, 2, 8), (4, 2, 1), (4, 2, 8)):
            columns = LayoutArrays.build(pp=pp, cp=cp, dp=dp, order=int(order))
            found = distinct_orders(columns.order, pp=columns.pp, cp=columns.cp, dp=columns.dp)
            assert found.tolist() == [order.matters(pp=pp, cp=cp, dp=dp)]


def test_neighbours_try_the_orders_that_are_another_layout():
    config = StepConfig(global_batch=64, seq_len=8192, precision="bf16")
    cluster = on(8, 400e9, 50e9)

    def tried(layout: Layout) -> set[RankOrder]:
        return {other.order for name, other in neighbours(LLAMA, config, cluster, layout) if name == "order"}

    assert tried(Layout(tp=8, pp=4, dp=2)) == {RankOrder.TP_CP_DP_PP, RankOrder.TP_CP_PP_DP}
    assert tried(Layout(tp=8, cp=2, pp=4, dp=2)) == set(RankOrder)
    assert tried(Layout(tp=8, dp=8)) == {RankOrder.TP_CP_DP_PP}


def test_one_estimate_takes_the_order():
    config = StepConfig(global_batch=2048, seq_len=8192, precision="bf16")
    layout = Layout(tp=2, pp=4, dp=16)
    cluster = on(8, 400e9, 50e9)
    hop = [
        step_estimate(LLAMA, config, cluster, BARE, replace(layout, order=order)).breakdown["pp"]
        for order in (RankOrder.TP_CP_DP_PP, RankOrder.TP_CP_PP_DP)
    ]

    assert hop[0] == pytest.approx(8.0 * hop[1])
