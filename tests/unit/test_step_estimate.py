"""One step, and many: identities, bounds and directions. The machine and the software here are invented round numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from makespan.specs.hardware import (
    AcceleratorSpec,
    AttentionEfficiency,
    ClusterSpec,
    FabricSpec,
    FabricTier,
    FrameworkProfile,
    GemmEfficiency,
    KernelSpec,
    NodeSpec,
)
from makespan.specs.layout import Layout, LayoutStatus, Recompute, Sharding
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, interval_sigma, step_estimate
from makespan.workload import model_flop_per_sequence

CHIP = AcceleratorSpec(
    name="chip",
    family="test",
    vendor="test",
    peak_flop_per_s={"bf16": 1e15, "fp8": 2e15},
    hbm_bytes=80e9,
    hbm_bytes_per_s=3e12,
    scale_up_domain_size=8,
    scale_up_bytes_per_s=450e9,
    scale_out_bytes_per_s=50e9,
    idle_w=70.0,
    tdp_w=700.0,
    kernels=KernelSpec(
        gemm={
            "bf16": GemmEfficiency(flop_utilisation=0.75, hbm_utilisation=0.7, overhead_s=3e-6, half_k=100.0),
            "fp8": GemmEfficiency(flop_utilisation=0.7, hbm_utilisation=0.6, overhead_s=3e-6, half_k=200.0, half_m=220),
        },
        attention=AttentionEfficiency(flop_utilisation=0.6, half_seq=900.0, half_head_dim=40.0),
        elementwise_hbm_utilisation=0.8,
    ),
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
FABRIC = FabricSpec(
    name="fabric",
    tiers=(
        FabricTier(name="nvlink", size=8, bytes_per_s=450e9, latency_s=2e-6, efficiency=0.75),
        FabricTier(name="ib", size=math.inf, bytes_per_s=50e9, latency_s=8e-6, efficiency=0.85),
    ),
)
CLUSTER = ClusterSpec(name="cluster", accelerator=CHIP, node=NODE, fabric=FABRIC, num_accelerators=4096)
PROFILE = FrameworkProfile(
    name="software",
    gemm_slowdown=1.2,
    attention_slowdown=1.25,
    attention_backward_ratio=3.1,
    elementwise_slowdown=1.5,
    cast_slowdown=1.0,
    moe_slowdown=1.3,
    host_overhead_s=1e-3,
    tp_exposed=0.5,
    cp_exposed=0.2,
    ep_exposed=0.85,
    pp_exposed=0.15,
    dp_exposed=0.25,
    fsdp_exposed=0.2,
    jitter_per_doubling=0.01,
    residual_sigma=0.08,
    host_overhead_per_expert_s=1e-4,
    chunk_overhead_s=2e-4,
    measured_on=("chip",),
    largest_measured=512,
)
DENSE = ModelSpec(
    name="dense",
    num_layers=30,
    hidden=8192,
    num_heads=64,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=28672,
    vocab=128256,
)
MIXED = ModelSpec(
    name="mixed",
    num_layers=16,
    hidden=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=14336,
    vocab=32000,
    moe=MoeSpec(num_experts=8, top_k=2, expert_ffn=14336, shared_ffn=4096, num_dense_first_layers=2),
)
CONFIG = StepConfig(global_batch=256, seq_len=4096, precision="bf16")

layouts = st.builds(
    Layout,
    tp=st.sampled_from([1, 2, 4, 8]),
    pp=st.sampled_from([1, 2, 3, 4, 8]),
    cp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 2, 3, 8, 32]),
    vpp=st.sampled_from([1, 1, 2]),
    micro_batch=st.sampled_from([1, 2, 4]),
    recompute=st.sampled_from([Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL]),
    sharding=st.sampled_from(list(Sharding)),
    sequence_parallel=st.booleans(),
)
models = st.sampled_from([DENSE, MIXED])
configs = st.sampled_from([CONFIG, replace(CONFIG, precision="fp8"), replace(CONFIG, seq_len=8192, global_batch=100)])


def runnable(model: ModelSpec, config: StepConfig, layout: Layout, **more):
    estimate = step_estimate(model, config, CLUSTER, PROFILE, layout, **more)
    assume(not math.isnan(estimate.time_s))
    return estimate


@settings(max_examples=60, deadline=None)
@given(model=models, config=configs, layout=layouts, ep=st.sampled_from([1, 2, 8]))
def test_breakdown_adds_up_and_bounds_hold(model, config, layout, ep):
    layout = replace(layout, ep=ep) if model.moe else layout
    estimate = runnable(model, config, layout)

    assert sum(estimate.breakdown.values()) == pytest.approx(estimate.time_s, rel=1e-9)
    assert estimate.lower_s <= estimate.time_s <= estimate.upper_s * (1 + 1e-12)
    assert estimate.p10_s < estimate.time_s < estimate.p90_s
    assert all(value >= 0 for value in estimate.breakdown.values())
    assert all(value >= 0 for value in estimate.hidden.values())


def faster(what: str, factor: float) -> ClusterSpec:
    if what == "flop":
        peaks = {name: value * factor for name, value in CHIP.peak_flop_per_s.items()}
        return replace(CLUSTER, accelerator=replace(CHIP, peak_flop_per_s=peaks))
    if what == "hbm":
        return replace(CLUSTER, accelerator=replace(CHIP, hbm_bytes_per_s=CHIP.hbm_bytes_per_s * factor))
    tiers = tuple(
        replace(tier, bytes_per_s=tier.bytes_per_s * factor) if tier.name == what else tier for tier in FABRIC.tiers
    )
    return replace(CLUSTER, fabric=replace(FABRIC, tiers=tiers))


@settings(max_examples=60, deadline=None)
@given(
    model=models,
    config=configs,
    layout=layouts,
    what=st.sampled_from(["flop", "hbm", "nvlink", "ib"]),
    factor=st.floats(1.0, 8.0),
)
def test_a_better_machine_never_slows_a_step(model, config, layout, what, factor):
    before = runnable(model, config, layout)
    after = step_estimate(model, config, faster(what, factor), PROFILE, layout)

    assert after.time_s <= before.time_s * (1 + 1e-9)
    assert after.upper_s <= before.upper_s * (1 + 1e-9)


def test_one_accelerator_communicates_nothing():
    small = replace(DENSE, num_layers=2, hidden=1024, ffn_hidden=4096)
    for sharding in Sharding:
        estimate = step_estimate(small, CONFIG, CLUSTER, PROFILE, Layout(sharding=sharding))
        assert set(estimate.breakdown) <= {"gemm", "attention", "elementwise", "host", "head", "optimizer"}
        assert estimate.hidden == {}
        assert estimate.num_idle == 4095


@settings(max_examples=40, deadline=None)
@given(model=models, layout=layouts)
def test_executed_flop_is_model_flop_plus_recompute_plus_flash_backward(model, layout):
    """Extras of a step without recompute: the scores that flash attention computes again (half of a forward)."""
    estimate = runnable(model, CONFIG, layout)
    forward = model_flop_per_sequence(model, 4096, training=False) * 256
    head = 2.0 * model.hidden * model.vocab * 4096 * 256
    products = model_flop_per_sequence(replace(model, num_heads=0, num_kv_heads=0), 4096, training=False) * 256
    attention = 2.0 * model.num_layers * model.num_heads * 128 * 4096**2 * 256
    assert products < forward
    recompute = {Recompute.NONE: 0.0, Recompute.SELECTIVE: 0.0, Recompute.FULL: forward - head}

    expected = estimate.model_flop + attention / 2 + recompute[layout.recompute]
    assert estimate.executed_flop == pytest.approx(expected, rel=1e-9)


def test_mfu_is_model_flop_over_peak_of_the_accelerators_used():
    estimate = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=5, dp=16))
    peak = 8 * 5 * 16 * 1e15

    assert estimate.num_accelerators == 640
    assert estimate.mfu == pytest.approx(model_flop_per_sequence(DENSE, 4096) * 256 / (estimate.time_s * peak))
    assert estimate.mfu < estimate.hfu < 1
    assert estimate.mfu < estimate.mfu_full_attention
    assert estimate.tokens_per_s == pytest.approx(256 * 4096 / estimate.time_s)


def test_the_slowest_replica_sets_the_pace():
    """100 sequences over 8 replicas: thirteen micro-batches, as for 104."""
    layout = Layout(tp=8, dp=8)
    uneven = step_estimate(DENSE, replace(CONFIG, global_batch=100), CLUSTER, PROFILE, layout)
    even = step_estimate(DENSE, replace(CONFIG, global_batch=104), CLUSTER, PROFILE, layout)

    assert uneven.time_s == even.time_s
    assert uneven.mfu == pytest.approx(even.mfu * 100 / 104)


def test_rows_of_a_batch_equal_scalar_estimates():
    """Twenty thousand rows, more than one chunk, legal and not: every sampled row is what it is alone."""
    rng = np.random.default_rng(7)
    count = 20_000
    rows = LayoutArrays.build(
        tp=rng.choice([1, 2, 4, 8], count),
        pp=rng.integers(1, 9, count),
        cp=rng.choice([1, 2, 4], count),
        dp=rng.integers(1, 65, count),
        ep=rng.choice([1, 2, 4], count),
        etp=rng.choice([1, 2], count),
        vpp=rng.choice([1, 2], count),
        micro_batch=rng.choice([1, 2, 4], count),
        recompute=rng.integers(0, 3, count),
        sharding=rng.integers(0, 4, count),
        sequence_parallel=rng.integers(0, 2, count),
    )
    together = evaluate(MIXED, CONFIG, CLUSTER, PROFILE, rows, memory_headroom=0.1)
    for index in range(0, count, 401):
        alone = step_estimate(MIXED, CONFIG, CLUSTER, PROFILE, rows.row(index), memory_headroom=0.1)
        assert together.status[index] == alone.status
        np.testing.assert_allclose(
            [together.time_s[index], together.lower_s[index], together.upper_s[index]],
            [alone.time_s, alone.lower_s, alone.upper_s],
            rtol=1e-12,
        )
        if not math.isnan(alone.time_s):
            assert together.memory_bytes[index] == pytest.approx(alone.memory.total_bytes)
    assert {LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY, LayoutStatus.EXPERTS_DO_NOT_DIVIDE} <= {
        LayoutStatus(int(code)) for code in together.status
    }


def test_layouts_survive_the_trip_through_columns():
    layout = Layout(
        tp=8, pp=4, cp=2, dp=3, vpp=2, micro_batch=2, recompute=Recompute.FULL, sharding=Sharding.ZERO2,
        sequence_parallel=False,
    )  # fmt: skip

    assert LayoutArrays.of([Layout(), layout]).row(1) == layout


@pytest.mark.parametrize(
    ("status", "layout", "model"),
    [
        (LayoutStatus.HEADS_DO_NOT_DIVIDE, Layout(tp=3), DENSE),
        (LayoutStatus.TP_LEAVES_DOMAIN, Layout(tp=16), DENSE),
        (LayoutStatus.EXPERTS_DO_NOT_DIVIDE, Layout(tp=8, dp=2, ep=2), DENSE),
        (LayoutStatus.EXPERTS_DO_NOT_DIVIDE, Layout(tp=1, dp=9, ep=3), MIXED),
        (LayoutStatus.EXPERTS_DO_NOT_DIVIDE, Layout(tp=1, dp=2, ep=4), MIXED),
        (LayoutStatus.TOO_MANY_STAGES, Layout(tp=8, pp=33), DENSE),
        (LayoutStatus.VPP_NEEDS_PIPELINE, Layout(tp=8, dp=8, vpp=2), DENSE),
        (LayoutStatus.VPP_NEEDS_PIPELINE, Layout(tp=8, pp=5, dp=64, vpp=2), DENSE),  # 4 micro-batches, 5 stages
        (LayoutStatus.TOO_MANY_ACCELERATORS, Layout(tp=8, pp=4, dp=129), DENSE),
        (LayoutStatus.BATCH_TOO_SMALL, Layout(tp=1, dp=200, micro_batch=2), DENSE),
        (LayoutStatus.SEQUENCE_DOES_NOT_DIVIDE, Layout(tp=8, cp=3, dp=8), DENSE),
        (LayoutStatus.OUT_OF_MEMORY, Layout(tp=1, dp=8), DENSE),
        (LayoutStatus.OK, Layout(tp=8, pp=8, dp=4, vpp=4), DENSE),
        (LayoutStatus.OK, Layout(tp=4, pp=2, dp=7), DENSE),
    ],
    ids=lambda value: str(value) if isinstance(value, Layout) else "",
)
def test_the_first_broken_rule_names_the_layout(status, layout, model):
    estimate = step_estimate(model, CONFIG, CLUSTER, PROFILE, layout)

    assert estimate.status is status
    assert math.isnan(estimate.time_s) == (status not in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY))


def test_tensor_parallelism_stays_in_the_scale_up_domain():
    wide = replace(DENSE, num_heads=64, num_kv_heads=64)

    assert step_estimate(wide, CONFIG, CLUSTER, PROFILE, Layout(tp=16, dp=2)).status is LayoutStatus.TP_LEAVES_DOMAIN


def test_what_hardware_or_software_lacks_is_not_supported():
    four_bit = replace(CONFIG, precision="nvfp4")
    no_interleaving = replace(PROFILE, supports={"interleaving": False})
    interleaved = Layout(tp=8, pp=4, dp=4, vpp=2)

    assert step_estimate(DENSE, four_bit, CLUSTER, PROFILE, interleaved).status is LayoutStatus.NOT_SUPPORTED
    assert step_estimate(DENSE, CONFIG, CLUSTER, no_interleaving, interleaved).status is LayoutStatus.NOT_SUPPORTED
    assert step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, interleaved).status is LayoutStatus.OK


def test_host_cannot_be_outrun():
    """Tiny layers take at least what the host needs to launch them."""
    tiny = replace(DENSE, num_layers=4, hidden=512, num_heads=8, ffn_hidden=1024, head_dim=64)
    slow_host = replace(PROFILE, host_overhead_s=0.02)
    estimate = step_estimate(tiny, replace(CONFIG, global_batch=8), CLUSTER, slow_host, Layout())

    assert estimate.time_s > 8 * 4 * 0.02
    assert estimate.breakdown["host"] == pytest.approx(8 * 4 * 0.02, rel=0.2)


def test_full_recompute_costs_a_forward_and_saves_memory():
    plain = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=8))
    again = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=8, recompute=Recompute.FULL))

    assert 1.15 < again.time_s / plain.time_s < 1.34
    assert again.memory.by_kind["activations"] < 0.3 * plain.memory.by_kind["activations"]


def test_lower_precision_is_faster_but_not_twice():
    fast = step_estimate(DENSE, replace(CONFIG, precision="fp8"), CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=8))
    plain = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=8))

    assert plain.time_s / 2 < fast.time_s < plain.time_s
    assert fast.breakdown["casts"] > 0


def test_multi_token_prediction_takes_longer():
    one = replace(MIXED, mtp_layers=1)
    layout = Layout(tp=2, dp=16, ep=8)
    plain, more = (step_estimate(model, CONFIG, CLUSTER, PROFILE, layout) for model in (MIXED, one))

    assert more.time_s > plain.time_s * 1.05
    assert more.model_flop == plain.model_flop
    assert more.executed_flop > plain.executed_flop


def test_interval_widens_away_from_the_evidence():
    elsewhere = replace(CLUSTER, accelerator=replace(CHIP, name="other"))

    assert interval_sigma(DENSE, CLUSTER, PROFILE, 512) == 0.08
    assert interval_sigma(DENSE, CLUSTER, PROFILE, 2048) == pytest.approx(0.08 + 2 * 0.01)
    assert interval_sigma(DENSE, elsewhere, PROFILE, 512) == pytest.approx(math.hypot(0.08, 0.08))
    assert interval_sigma(MIXED, CLUSTER, replace(PROFILE, residual_sigma_moe=0.2), 512) == 0.2


def test_interval_widens_in_a_precision_without_runs():
    known = replace(PROFILE, measured_precisions=("bf16", "fp8"))

    assert interval_sigma(DENSE, CLUSTER, PROFILE, 512, precision="nvfp4") == 0.08
    assert interval_sigma(DENSE, CLUSTER, known, 512, precision="fp16") == 0.08
    assert interval_sigma(DENSE, CLUSTER, known, 512, precision="nvfp4") == pytest.approx(math.hypot(0.08, 0.08))


def test_every_hand_over_of_a_chunk_costs():
    """64 micro-batches in two chunks a stage: 128 hand-overs; none without a pipeline."""
    slow = replace(PROFILE, chunk_overhead_s=1.2e-3)
    for layout, hand_overs in ((Layout(tp=8, pp=4, dp=4, vpp=2), 128), (Layout(tp=8, dp=4), 0)):
        before = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, layout)
        after = step_estimate(DENSE, CONFIG, CLUSTER, slow, layout)
        assert after.time_s - before.time_s == pytest.approx(hand_overs * 1e-3, abs=1e-9)


def test_large_runs_wait_for_stragglers():
    """0.01 per doubling above 1024 accelerators."""
    few = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=64))
    many = step_estimate(DENSE, CONFIG, CLUSTER, PROFILE, Layout(tp=8, pp=2, dp=256))

    assert "jitter" not in few.breakdown
    assert many.breakdown["jitter"] / (many.time_s - many.breakdown["jitter"]) == pytest.approx(0.02)


def test_delayed_scaling_waits_more():
    """0.02 added in fp8 for each of the two doublings above 1024 accelerators."""
    eager = replace(PROFILE, jitter_per_doubling_fp8=0.02)
    for precision, waiting in (("bf16", 0.02), ("fp8", 0.06)):
        config = replace(CONFIG, precision=precision)
        step = step_estimate(DENSE, config, CLUSTER, eager, Layout(tp=8, pp=2, dp=256))
        assert step.breakdown["jitter"] / (step.time_s - step.breakdown["jitter"]) == pytest.approx(waiting)
