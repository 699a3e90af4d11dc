"""Data-parallel traffic: by hand on a fabric of one tier, against two queues of events, and its directions.

Machine and model are invented round numbers. Without latency a ring over n ranks passes (n-1)/n of a message at the rate.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.specs.hardware import (
    AcceleratorSpec,
    AttentionEfficiency,
    ClusterSpec,
    FabricSpec,
    FabricTier,
    FrameworkProfile,
    KernelSpec,
    NodeSpec,
)
from makespan.specs.layout import Offload, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.data_parallel import DataParallelTimes, data_parallel_times, shard_groups
from makespan.step.memory import StageState

RATE = 100e9
CHIP = AcceleratorSpec(
    name="chip",
    family="test",
    vendor="test",
    peak_flop_per_s={"bf16": 1e15},
    hbm_bytes=80e9,
    hbm_bytes_per_s=3e12,
    scale_up_domain_size=8,
    scale_up_bytes_per_s=RATE,
    scale_out_bytes_per_s=RATE,
    idle_w=70.0,
    tdp_w=700.0,
    kernels=KernelSpec(gemm={}, attention=AttentionEfficiency(flop_utilisation=0.6), elementwise_hbm_utilisation=1.0),
    host_bytes_per_s=50e9,
)
NODE = NodeSpec(
    name="node",
    accelerator="chip",
    accelerators_per_node=8,
    nameplate_w=1.0,
    provisioned_peak_w=1.0,
    mean_training_w=1.0,
    idle_w=1.0,
    network_storage_w=0.0,
)


def cluster(rate: float = RATE, latency_s: float = 0.0) -> ClusterSpec:
    tier = FabricTier(name="flat", size=math.inf, bytes_per_s=rate, latency_s=latency_s, efficiency=1.0)
    fabric = FabricSpec(name="flat", tiers=(tier,))
    return ClusterSpec(name="cluster", accelerator=CHIP, node=NODE, fabric=fabric, num_accelerators=4096)


PROFILE = FrameworkProfile(
    name="software",
    gemm_slowdown=1.0,
    attention_slowdown=1.0,
    attention_backward_ratio=3.0,
    elementwise_slowdown=1.0,
    cast_slowdown=1.0,
    moe_slowdown=1.0,
    host_overhead_s=0.0,
    tp_exposed=0.0,
    cp_exposed=0.0,
    ep_exposed=0.0,
    pp_exposed=0.0,
    dp_exposed=0.1,
    fsdp_exposed=0.0,
    jitter_per_doubling=0.0,
    residual_sigma=0.1,
)
MODEL = ModelSpec(
    name="model", num_layers=10, hidden=1000, num_heads=8, num_kv_heads=8, head_dim=125, ffn_hidden=4000, vocab=50000
)
OUTSIDE = 2 * 50000 * 1000.0
"""Embedding and head of `MODEL`."""
LAYER = 2e8
"""Parameters of a layer, invented: the formulas take them from `StageState`."""
CONFIG = StepConfig(global_batch=1, seq_len=1024, precision="bf16")


def one_stage(shared: float, experts: float = 0.0) -> StageState:
    """A stage with everything; without a pipeline all stages are the same."""
    values = {f.name: np.array([experts if f.name.endswith("experts") else shared]) for f in fields(StageState)}
    return StageState(**values)


def times(
    *,
    forward: float,
    backward: float,
    micro_batches: int = 1,
    on: ClusterSpec | None = None,
    profile: FrameworkProfile = PROFILE,
    experts: float = 0.0,
    **layout: int,
) -> DataParallelTimes:
    """One layout with ten layers of `LAYER` parameters and `OUTSIDE` beside them."""
    return data_parallel_times(
        MODEL,
        CONFIG,
        on or cluster(),
        profile,
        LayoutArrays.build(**layout),
        one_stage(10 * LAYER + OUTSIDE, experts),
        num_layers=np.array([10.0]),
        num_micro_batches=np.array([micro_batches]),
        forward_s=np.array([forward]),
        backward_s=np.array([backward]),
    )


def passed(parameters: float, size: float, ranks: int) -> float:
    """Seconds of a gather or a reduction of parameters of this size over a ring."""
    return parameters * size * (ranks - 1) / ranks / RATE


@pytest.mark.parametrize("sharding", list(Sharding))
def test_one_accelerator_talks_to_nobody(sharding):
    found = times(forward=1.0, backward=2.0, dp=1, sharding=int(sharding), on=cluster(latency_s=1e-3))

    assert found.traffic_s[0] == 0.0
    assert found.exposed_s[0] == 0.0


def test_fsdp_gathers_twice_and_reduces_once_every_micro_batch():
    found = times(forward=1.0, backward=2.0, dp=8, sharding=3, micro_batches=3)

    total = 10 * LAYER + OUTSIDE
    assert found.traffic_s[0] == pytest.approx(3 * (2 * passed(total, 2, 8) + passed(total, 4, 8)))


def test_where_compute_is_long_only_the_first_gather_and_the_last_reduction_show():
    found = times(forward=10.0, backward=20.0, dp=8, sharding=3, micro_batches=3)

    first = LAYER + OUTSIDE
    assert found.exposed_s[0] == pytest.approx(3 * (passed(first, 2, 8) + passed(first, 4, 8)))


def test_where_there_is_no_compute_all_of_it_shows():
    found = times(forward=0.0, backward=0.0, dp=8, sharding=3, micro_batches=3)

    assert found.exposed_s[0] == pytest.approx(found.traffic_s[0])


def test_contention_costs_a_share_of_what_runs_beside_compute():
    quiet = times(forward=10.0, backward=20.0, dp=8, sharding=3)
    shared = times(forward=10.0, backward=20.0, dp=8, sharding=3, profile=replace(PROFILE, fsdp_exposed=0.2))

    beside = quiet.traffic_s[0] - quiet.exposed_s[0]
    assert shared.exposed_s[0] - quiet.exposed_s[0] == pytest.approx(0.2 * beside)


def test_zero2_keeps_the_weights_from_forward_to_backward():
    found = times(forward=1.0, backward=2.0, dp=8, sharding=2, micro_batches=3)

    total = 10 * LAYER + OUTSIDE
    assert found.traffic_s[0] == pytest.approx(3 * (passed(total, 2, 8) + passed(total, 4, 8)))


def test_under_a_pipeline_zero3_gathers_and_reduces_once():
    few, many = (times(forward=1.0, backward=2.0, pp=2, dp=8, sharding=3, micro_batches=n) for n in (4, 16))

    assert few.traffic_s[0] == many.traffic_s[0]


def test_zero1_hides_behind_the_last_backward_and_the_first_forward():
    """Gradients 4 bytes behind 2 s, weights 2 bytes behind 1 s, whatever the number of micro-batches."""
    total = 10 * LAYER + OUTSIDE
    rate = total * 4 * 7 / 8 / 3.0  # a reduction takes 3 s, a gather 1.5 s
    for micro_batches in (1, 20):
        found = times(forward=1.0, backward=2.0, dp=8, sharding=1, micro_batches=micro_batches, on=cluster(rate))
        assert found.exposed_s[0] == pytest.approx((3.0 - 2.0) + (1.5 - 1.0))


def test_interleaving_opens_the_window_to_a_group_of_micro_batches():
    total = 10 * LAYER + OUTSIDE
    slow = cluster(total * 4 * 7 / 8 / 30.0)
    plain, interleaved = (
        times(forward=1.0, backward=2.0, pp=4, vpp=v, dp=8, sharding=1, micro_batches=8, on=slow) for v in (1, 2)
    )
    assert plain.exposed_s[0] - interleaved.exposed_s[0] == pytest.approx((4 - 1) * (2.0 + 1.0))


def test_plain_data_parallelism_all_reduces_once_behind_the_backward():
    total = 10 * LAYER + OUTSIDE
    found = times(forward=5.0, backward=0.1, dp=8, sharding=0, micro_batches=4)

    assert found.traffic_s[0] == pytest.approx(2 * passed(total, 4, 8))
    assert found.exposed_s[0] == pytest.approx(found.traffic_s[0] - 0.1)


def test_hsdp_gathers_in_its_group_and_sums_its_shards_over_the_replicas_once():
    found = times(forward=10.0, backward=20.0, dp=64, sharding=3, shard_size=8, micro_batches=3)

    total = 10 * LAYER + OUTSIDE
    inside = 3 * (2 * passed(total, 2, 8) + passed(total, 4, 8))
    assert found.traffic_s[0] == pytest.approx(inside + 2 * passed(total / 8, 4, 8))


def test_hsdp_of_a_node_keeps_the_gathers_off_the_slow_tier():
    tiers = (
        FabricTier(name="inner", size=8, bytes_per_s=400e9, latency_s=0.0, efficiency=1.0),
        FabricTier(name="outer", size=math.inf, bytes_per_s=10e9, latency_s=0.0, efficiency=1.0),
    )
    two = replace(cluster(), fabric=FabricSpec(name="two", tiers=tiers))
    whole, grouped = (
        times(forward=0.1, backward=0.2, dp=64, sharding=3, shard_size=s, micro_batches=4, on=two) for s in (0, 8)
    )
    assert grouped.exposed_s[0] < whole.exposed_s[0] / 3


def test_experts_are_sharded_over_what_expert_parallelism_leaves():
    _, experts = shard_groups(LayoutArrays.build(tp=2, dp=64, ep=8, sharding=3, shard_size=[0, 16]))

    assert experts.shards.tolist() == [16, 4]
    assert experts.replicas.tolist() == [1, 4]
    assert experts.stride.tolist() == [8, 8]


def test_the_update_reads_and_writes_what_a_rank_owns():
    total = 10 * LAYER + OUTSIDE
    owned = {0: total, 1: total / 64, 3: total / 64}
    for sharding, parameters in owned.items():
        found = times(forward=1.0, backward=2.0, dp=64, sharding=sharding)
        assert found.optimizer_s[0] == pytest.approx(parameters * (4 + 2 * 12 + 2) / 3e12)
    grouped = times(forward=1.0, backward=2.0, dp=64, sharding=3, shard_size=8)
    assert grouped.optimizer_s[0] == pytest.approx(total / 8 * 30 / 3e12)


def test_an_optimizer_on_the_host_streams_its_state_over_the_host_link():
    found = times(forward=1.0, backward=2.0, dp=64, sharding=1, offload=int(Offload.OPTIMIZER))

    assert found.optimizer_s[0] == pytest.approx((10 * LAYER + OUTSIDE) / 64 * 12 / 50e9)


def two_queues(gather_s: list[float], reduce_s: list[float], forward_s: float, backward_s: float) -> float:
    """FSDP by events: one queue of kernels, one of collectives; a layer waits for its weights. Root first. [s]

    The next gather is issued at once (prefetch); in the backward, gathers go ahead of reductions.
    """
    link = kernels = 0.0
    for gather in gather_s:  # the root holds the embedding and takes no time to compute
        link += gather
        kernels = max(kernels, link)
        kernels += forward_s if gather is not gather_s[0] else 0.0
    layers = len(gather_s) - 1
    ready: list[tuple[float, float]] = []
    link = max(link, kernels)
    for place in range(layers, 0, -1):
        link += gather_s[place]
        kernels = max(kernels, link) + backward_s
        ready.append((kernels, reduce_s[place]))
        # reductions that became ready before this layer's kernels began use the idle link
        while ready and ready[0][0] <= kernels - backward_s:
            link = max(link, ready[0][0]) + ready.pop(0)[1]
    for when, length in [*ready, (kernels, reduce_s[0])]:
        link = max(link, when) + length
    return max(kernels, link)


@settings(max_examples=80, deadline=None)
@given(
    forward=st.floats(0.005, 0.2),
    gather=st.floats(0.001, 0.1),
    outside=st.floats(0.0, 3.0),
)
def test_fsdp_agrees_with_two_queues_of_events_to_a_few_layers(forward, gather, outside):
    """Ten layers. The queues know what the formula leaves out: how a pass starts and ends, a layer at a time."""
    ranks, backward = 8, 2 * forward
    layer = gather * RATE * ranks / (ranks - 1) / 2
    beside = outside * layer
    model = replace(MODEL, vocab=max(1, round(beside / 2 / MODEL.hidden)))
    beside = 2.0 * model.vocab * model.hidden
    found = data_parallel_times(
        model,
        CONFIG,
        cluster(),
        PROFILE,
        LayoutArrays.build(dp=ranks, sharding=3),
        one_stage(10 * layer + beside),
        num_layers=np.array([10.0]),
        num_micro_batches=np.array([1]),
        forward_s=np.array([10 * forward]),
        backward_s=np.array([10 * backward]),
    )
    root = passed(beside, 2, ranks)
    events = two_queues([root] + [gather] * 10, [2 * root] + [2 * gather] * 10, forward, backward)
    formula = 10 * (forward + backward) + found.exposed_s[0]

    assert abs(formula - events) <= 2 * (forward + backward) + 3 * gather + root + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    sharding=st.sampled_from([0, 1, 2, 3]),
    dp=st.sampled_from([1, 2, 8, 64]),
    pp=st.sampled_from([1, 4]),
    shard_size=st.sampled_from([0, 2, 8]),
    forward=st.floats(1e-3, 3.0),
    micro_batches=st.integers(4, 40),
)
def test_more_bandwidth_never_costs_and_nothing_shows_twice(sharding, dp, pp, shard_size, forward, micro_batches):
    profile = replace(PROFILE, fsdp_exposed=0.3)
    size = shard_size if sharding == 3 and dp % max(shard_size, 1) == 0 else 0
    layout = {"dp": dp, "pp": pp, "sharding": sharding, "shard_size": size}
    slow, fast = (
        times(
            forward=forward,
            backward=2 * forward,
            micro_batches=micro_batches,
            profile=profile,
            on=cluster(rate, latency_s=1e-5),
            **layout,
        )
        for rate in (RATE, 2 * RATE)
    )
    assert fast.exposed_s[0] <= slow.exposed_s[0] + 1e-12
    assert 0.0 <= slow.exposed_s[0] <= slow.traffic_s[0] + 1e-12
