"""Mixtures of experts in a step: terms by hand, what balances and what does not, where the exchange runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan import catalog
from makespan.network import all_to_all_s, members_per_tier
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import CudaGraphs, Layout, Recompute
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, kernels
from makespan.step.blocks import Block, launch_share
from makespan.step.feedforward import PERMUTE_PASSES, UNFUSED_PASSES, moe_block
from makespan.step.layer import host_floor_s

MODEL = catalog.model("qwen3-30b-a3b").spec
BASE = catalog.framework("megatron-2025").spec
CONFIG = StepConfig(global_batch=512, seq_len=4096, precision="bf16")


def cluster(num: int = 64, *, accelerator: str = "h100-sxm", fabric: str = "nvlink8-ib-rail") -> ClusterSpec:
    return ClusterSpec(
        name="test",
        accelerator=catalog.accelerator(accelerator).spec,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric(fabric).spec,
        num_accelerators=num,
    )


def block(
    layout: Layout, profile: FrameworkProfile = BASE, config: StepConfig = CONFIG, *, model=MODEL, on=None
) -> Block:
    return moe_block(model, config, on or cluster(), profile, LayoutArrays.of([layout]))


def seconds(block: Block, name: str, part: str = "forward_s") -> float:
    return float(np.sum([np.sum(getattr(work, part)) for work in block.work if work.name == name]))


def step_s(layout: Layout, profile: FrameworkProfile = BASE, config: StepConfig = CONFIG, on=None) -> float:
    return float(evaluate(MODEL, config, on or cluster(), profile, LayoutArrays.of([layout])).time_s[0])


def test_permutation_moves_every_copy_of_a_token_six_times():
    found = block(Layout(dp=8, ep=8))

    moved = 4096 * MODEL.moe.top_k * MODEL.hidden * 2 * PERMUTE_PASSES
    rate = kernels.stream_bytes_per_s(cluster().accelerator)
    slow = BASE.elementwise_slowdown * BASE.permute_slowdown
    assert seconds(found, "permute") == pytest.approx(moved * slow / rate, rel=1e-12)
    assert seconds(found, "permute", "backward_s") == pytest.approx(2.2 * moved * slow / rate, rel=1e-12)


def test_experts_with_biases_pay_their_counted_passes_and_nothing_where_software_fuses_them():
    biased = replace(MODEL, mlp_bias=True)
    layout = Layout(dp=8, ep=8)
    slow, fused = (block(layout, replace(BASE, expert_bias_slowdown=x), model=biased) for x in (2.0, 0.0))

    copies = 4096 * MODEL.moe.top_k * 2
    extra = 2.0 * copies * (UNFUSED_PASSES * MODEL.moe.expert_ffn + 2 * MODEL.hidden)
    expected = extra * BASE.elementwise_slowdown / kernels.stream_bytes_per_s(cluster().accelerator)
    difference = seconds(slow, "expert_elementwise") - seconds(fused, "expert_elementwise")
    assert difference == pytest.approx(expected, rel=1e-9)
    assert seconds(fused, "expert_elementwise") == seconds(block(layout), "expert_elementwise")


def test_the_table_of_the_expert_group_grows_with_its_ranks():
    counted = replace(BASE, routing_map_passes=10.0, router_overhead_s=0.0)
    narrow, wide = (seconds(block(Layout(dp=64, ep=ep), counted), "router") for ep in (8, 64))

    table = 4096 * 8 * MODEL.moe.num_experts
    assert narrow == pytest.approx(10.0 * table / kernels.stream_bytes_per_s(cluster().accelerator), rel=1e-12)
    assert wide == pytest.approx(8 * narrow, rel=1e-12)


def test_experts_start_one_by_one_and_cheaper_in_16_bits():
    plain = replace(BASE, expert_overhead_s=0.0)
    for precision in ("bf16", "fp8"):
        config = replace(CONFIG, precision=precision)
        layout = Layout(dp=8, ep=8)
        with_start, without = block(layout, BASE, config), block(layout, plain, config)
        added = sum(
            seconds(with_start, "experts", p) - seconds(without, "experts", p) for p in ("forward_s", "backward_s")
        )
        local = MODEL.moe.num_experts / 8
        assert added == pytest.approx(BASE.expert_overhead_s * local * launch_share(BASE, precision), rel=1e-9)
    assert launch_share(BASE, "bf16") == BASE.host_share_unquantised < launch_share(BASE, "nvfp4") == 1.0


def test_fused_experts_have_no_casts_no_activation_and_a_factor_of_their_own():
    config = replace(CONFIG, precision="mxfp8")
    on = cluster(accelerator="b200-sxm", fabric="nvlink8-b200-ib")
    fused_profile = replace(
        BASE, supports={**BASE.supports, "fused_experts_mxfp8": True}, moe_slowdown_fused=1.0, expert_overhead_s=0.0
    )
    apart = replace(BASE, moe_slowdown=2.0, expert_overhead_s=0.0)
    layout = Layout(dp=8, ep=8)
    fused, separate = block(layout, fused_profile, config, on=on), block(layout, apart, config, on=on)

    assert seconds(fused, "expert_elementwise") == 0.0 < seconds(separate, "expert_elementwise")
    assert seconds(fused, "casts") == 0.0 < seconds(separate, "casts")
    assert seconds(separate, "experts") == pytest.approx(2.0 * seconds(fused, "experts"), rel=1e-12)
    in_16_bits = block(layout, fused_profile, CONFIG, on=on)
    assert seconds(in_16_bits, "expert_elementwise") > 0.0


def test_exchange_is_split_where_it_leaves_the_domain():
    """Both parts together are the whole all-to-all; inside a node nothing crosses."""
    wide = block(Layout(dp=64, ep=32))
    near, far = wide.traffic[:2]
    sent = 4096 * MODEL.moe.top_k * MODEL.hidden * 2.0
    fabric = cluster().fabric
    group = members_per_tier(fabric, np.array([32]), np.array([1]))
    whole = 2.0 * float(all_to_all_s(fabric, group, np.array([sent]), copies_per_token=float(MODEL.moe.top_k))[0])

    assert float(near.forward_s[0] + far.forward_s[0]) == pytest.approx(whole, rel=1e-12)
    assert float(far.forward_s[0]) > 0.0
    assert float(far.exposed[0]) == BASE.ep_exposed_scale_out
    assert float(near.exposed[0]) == BASE.ep_exposed
    assert float(block(Layout(dp=64, ep=8)).traffic[1].forward_s[0]) == 0.0
    hidden = block(Layout(dp=64, ep=32, ep_overlap=True))
    assert float(hidden.traffic[1].exposed[0]) == pytest.approx(
        BASE.ep_exposed_scale_out * BASE.ep_exposed_overlapped, rel=1e-12
    )


def test_host_launches_by_precision_graphs_and_local_experts():
    keys = LayoutArrays.of([Layout(cuda_graphs=kind) for kind in CudaGraphs])
    profile = replace(
        BASE,
        host_overhead_s=4e-3,
        host_overhead_moe_s=1e-3,
        host_overhead_per_expert_s=1e-4,
        host_share_unquantised=0.5,
        host_share_partial_graphs=0.25,
    )

    floor = {p: host_floor_s(profile, keys, num_blocks=2, num_experts=16.0, precision=p) for p in ("fp8", "bf16")}
    assert floor["fp8"].tolist() == pytest.approx([4e-3 + 2.6e-3, 1e-3 + 2.6e-3, 0.0])
    assert floor["bf16"].tolist() == pytest.approx([3.3e-3, 1.8e-3, 0.0])


def test_imbalance_slows_experts_dispatch_and_memory_and_leaves_the_flop():
    layout = Layout(dp=64, ep=32)
    even, uneven = (block(layout, config=replace(CONFIG, load_imbalance=x)) for x in (1.0, 1.5))

    flop = [sum(float(np.sum(work.flop)) for work in found.work) for found in (even, uneven)]
    assert flop[0] == flop[1]
    assert seconds(uneven, "permute") == pytest.approx(1.5 * seconds(even, "permute"), rel=1e-12)
    assert float(uneven.traffic[1].forward_s[0]) > 1.2 * float(even.traffic[1].forward_s[0])
    assert seconds(uneven, "experts") > seconds(even, "experts")
    dense = ("gemm", "elementwise")
    assert [seconds(uneven, name) for name in dense] == [seconds(even, name) for name in dense]
    arrays = [
        evaluate(MODEL, replace(CONFIG, load_imbalance=x), cluster(), BASE, LayoutArrays.of([layout]))
        for x in (1.0, 1.5)
    ]
    assert arrays[1].memory_bytes[0] > arrays[0].memory_bytes[0]


@settings(max_examples=25, deadline=None)
@given(
    ep=st.sampled_from([1, 2, 8, 16, 64]),
    micro_batch=st.sampled_from([1, 2, 4]),
    precision=st.sampled_from(["bf16", "fp8"]),
    imbalance=st.floats(1.0, 3.0),
    recompute=st.sampled_from([Recompute.NONE, Recompute.EXPERTS, Recompute.FULL]),
    field=st.sampled_from(
        [
            *("moe_slowdown", "permute_slowdown", "router_overhead_s", "expert_overhead_s", "routing_map_passes"),
            *("host_overhead_per_expert_s", "ep_exposed", "ep_exposed_scale_out"),
        ]
    ),
)
def test_nothing_that_costs_ever_speeds_a_step_up(ep, micro_batch, precision, imbalance, recompute, field):
    layout = Layout(dp=64, ep=ep, micro_batch=micro_batch, recompute=recompute)
    config = replace(CONFIG, precision=precision)
    profile = replace(BASE, moe_slowdown_unquantised=0.0, ep_exposed_scale_out=0.9)
    base = step_s(layout, profile, config)

    assert step_s(layout, profile, replace(config, load_imbalance=imbalance)) >= base * (1 - 1e-9)
    dearer = replace(profile, **{field: getattr(profile, field) * 1.1})
    assert step_s(layout, dearer, config) >= base * (1 - 1e-9)
