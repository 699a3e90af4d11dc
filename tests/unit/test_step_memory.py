"""Bytes on an accelerator: sharding by hand, and directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan import catalog
from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Offload, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.training import OptimizerSpec, StepConfig
from makespan.step.activations import layer_activations, saved_bytes_per_token
from makespan.step.arrays import LayoutArrays
from makespan.step.data_parallel import shard_groups
from makespan.step.memory import (
    GROUPS,
    KINDS,
    UNALLOCATED,
    Memory,
    data_shards,
    memory_bytes,
    micro_batches_held,
    stage_loads,
    stage_state,
    with_optimizer,
)
from makespan.step.pipeline import plan_stages
from makespan.step.schedules import in_flight, micro_batch_group
from makespan.workload import layer_kinds, parameter_count

LLAMA_8B = ModelSpec(
    name="Llama 3.1 8B",
    num_layers=32,
    hidden=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=14336,
    vocab=128256,
)
MIXTRAL = ModelSpec(
    name="Mixtral 8x7B",
    num_layers=32,
    hidden=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=0,
    vocab=32000,
    moe=MoeSpec(num_experts=8, top_k=2, expert_ffn=14336),
)
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")


PROFILE = replace(
    catalog.framework("nemo-2025").spec,
    memory_overhead_bytes=5e9,
    fragmentation_fraction=0.1,
    gradient_bytes=4.0,
    master_bytes=4.0,
    fsdp_weight_bytes=2.0,
    logit_bytes=10.0,
    split_logit_bytes=0.0,
    selective_pair_fraction=1.0,
)


def busy(model: ModelSpec, num_layouts: int) -> np.ndarray:
    """Later kinds are slower: mixtures after dense layers."""
    return np.arange(1.0, len(layer_kinds(model)) + 1.0)[:, None] * np.ones(num_layouts)


def memory(model: ModelSpec, config: StepConfig = CONFIG, profile: FrameworkProfile = PROFILE, **layout) -> Memory:
    rows = LayoutArrays.build(**layout)
    plan = plan_stages(model, rows, busy_s=busy(model, len(rows)))
    state = stage_state(model, rows, plan)
    config = with_optimizer(config, profile)
    count = rows.num_micro_batches(config.global_batch)
    few, every = (stage_loads(model, config, profile, rows, plan, count, every=every) for every in (False, True))
    plain = memory_bytes(model, config, profile, rows, state, few)
    detailed = memory_bytes(model, config, profile, rows, state, every, detail=True)
    np.testing.assert_array_equal(plain.total_bytes, detailed.total_bytes)
    return detailed


def test_state_of_an_unsharded_model_is_18_bytes_a_parameter():
    """2 weights, 4 gradients, 4 master copy, 8 Adam moments."""
    kinds = memory(LLAMA_8B, sharding=int(Sharding.NONE)).by_kind
    state = sum(float(kinds[name][0]) for name in ("weights", "gradients", "optimizer"))

    assert state == pytest.approx(18 * parameter_count(LLAMA_8B), rel=1e-4)


@pytest.mark.parametrize(
    ("stage", "bytes_per_parameter"),
    [(Sharding.ZERO1, 6 + 12 / 64), (Sharding.ZERO2, 2 + 16 / 64), (Sharding.ZERO3, 18 / 64)],
)
def test_sharding_stages_cut_one_kind_after_the_other(stage, bytes_per_parameter):
    """S. Rajbhandari et al., arXiv:1910.02054, figure 1, with 4-byte gradients."""
    kinds = memory(LLAMA_8B, dp=64, sharding=int(stage)).by_kind
    state = sum(float(kinds[name][0]) for name in ("weights", "gradients", "optimizer"))

    assert state == pytest.approx(bytes_per_parameter * parameter_count(LLAMA_8B), rel=1e-4)


def test_a_pipeline_keeps_weights_and_gradients_whole_under_zero3():
    """Else every micro-batch would gather them anew: as ZeRO-1, beside the shards of both (2 and 4 bytes over 8)."""
    third, first = (memory(LLAMA_8B, pp=4, dp=8, sharding=stage).by_kind for stage in (3, 1))

    assert third["weights"][0] == pytest.approx(first["weights"][0] * (1 + 1 / 8))
    assert third["gradients"][0] == pytest.approx(first["gradients"][0] * (1 + 1 / 8))
    assert third["optimizer"][0] == first["optimizer"][0]


def test_hybrid_sharding_shards_inside_its_groups():
    """64 ranks in groups of 8: an eighth of the state on each."""
    kinds = memory(LLAMA_8B, dp=64, sharding=3, shard_size=8).by_kind
    state = sum(float(kinds[name][0]) for name in ("weights", "gradients", "optimizer"))

    assert state == pytest.approx(18 / 8 * parameter_count(LLAMA_8B), rel=1e-4)


def test_shards_are_those_that_the_traffic_uses():
    rows = LayoutArrays.build(
        tp=[1, 2, 2], dp=[64, 32, 16], cp=[1, 2, 1], ep=[8, 4, 1], sharding=3, shard_size=[0, 16, 8]
    )
    shared, experts = shard_groups(rows)

    np.testing.assert_array_equal(data_shards(rows)[0], shared.shards)
    np.testing.assert_array_equal(data_shards(rows)[1], experts.shards)


def test_fully_sharded_pytorch_keeps_one_master_copy_only():
    """32-bit parameters, gradients and two moments: 16 bytes a parameter."""
    kinds = memory(LLAMA_8B, profile=replace(PROFILE, fsdp_weight_bytes=0.0), dp=64, sharding=3).by_kind
    state = sum(float(kinds[name][0]) for name in ("weights", "gradients", "optimizer"))

    assert state == pytest.approx(16 / 64 * parameter_count(LLAMA_8B), rel=1e-4)


@pytest.mark.parametrize(
    ("precision", "optimizer", "per_parameter"),
    [
        ("bf16", OptimizerSpec(name="profile"), 2 + 2 + 2 + 8),
        ("bf16", OptimizerSpec(name="profile", moment_bytes=4.0), 2 + 2 + 2 + 4),
        ("fp8", OptimizerSpec(name="profile"), 2 + 2 + 4 + 8),
        ("bf16", OptimizerSpec(), 18),
        ("bf16", OptimizerSpec(name="adam", weight_bytes=1.0), 17),
    ],
)
def test_bytes_of_gradients_and_master_copy_come_from_the_profile_unless_stated(precision, optimizer, per_parameter):
    profile = replace(PROFILE, gradient_bytes=2.0, master_bytes=2.0)
    config = replace(CONFIG, precision=precision, optimizer=optimizer)
    kinds = memory(LLAMA_8B, config=config, profile=profile, sharding=0).by_kind
    state = sum(float(kinds[name][0]) for name in ("weights", "gradients", "optimizer"))

    assert state == pytest.approx(per_parameter * parameter_count(LLAMA_8B), rel=1e-4)


def test_an_optimizer_in_host_memory_takes_none_on_the_card():
    assert memory(LLAMA_8B, dp=8, offload=int(Offload.OPTIMIZER)).by_kind["optimizer"][0] == 0.0


def test_experts_are_sharded_over_the_expert_data_group():
    """64 ranks, 8 expert-parallel: an expert has 8 replicas to share its optimizer state, all else 64."""
    kinds = memory(MIXTRAL, dp=64, ep=8, sharding=int(Sharding.ZERO1)).by_kind
    experts = 32 * 8 * 3 * 4096 * 14336 / 8
    rest = parameter_count(MIXTRAL) - experts * 8

    assert float(kinds["optimizer"][0]) == pytest.approx(12 * (experts / 8 + rest / 64), rel=1e-4)
    assert float(kinds["weights"][0]) == pytest.approx(2 * (experts + rest), rel=1e-4)


def test_saved_activations_of_a_llama_layer():
    """Per token: 4 h for norms and inputs, 2 (32 + 8) heads of 128, 3 x 14336, two bytes each; 4 bytes for each of 32 heads."""
    expected = 2 * (4 * 4096 + 2 * 40 * 128 + 3 * 14336) + 4 * 32

    assert saved_bytes_per_token(LLAMA_8B, LayoutArrays.build(), kind=layer_kinds(LLAMA_8B)[0])[0] == expected
    assert saved_bytes_per_token(LLAMA_8B, LayoutArrays.build(tp=4), kind=layer_kinds(LLAMA_8B)[0])[0] == expected / 4
    unsharded = saved_bytes_per_token(
        LLAMA_8B, LayoutArrays.build(tp=4, sequence_parallel=0), kind=layer_kinds(LLAMA_8B)[0]
    )
    assert unsharded[0] == expected / 4 + 0.75 * 2 * 4 * 4096


def test_saved_activations_of_a_mixture_layer():
    """Beside attention and residuals: two experts of 14336 (gate, up, their product), their inputs, scores of 8 experts."""
    kind = layer_kinds(MIXTRAL)[0]
    attention = 2 * (4 * 4096 + 2 * 40 * 128) + 4 * 32
    experts = 2 * 2 * (3 * 14336 + 4096)

    assert layer_activations(MIXTRAL, LayoutArrays.build(), kind=kind).kept[0] == attention + experts + 9 * 8
    uneven = layer_activations(MIXTRAL, LayoutArrays.build(), kind=kind, load_imbalance=1.5)
    assert uneven.kept[0] == attention + 1.5 * experts + 9 * 8


def test_korthikanti_count_of_a_gpt_layer():
    """arXiv:2205.05198, section 4.1, for width h and a feed-forward of 4 h, without the scores that flash attention never
    stores (5 a s / h): inputs of the norms 4, of the four products 2 + 2 + 2 + 8, queries and keys 4, values 2, of the
    activation 8, and two masks of dropout, 2, which models of today do not have: 34 - 2. Flash attention adds 4 bytes a head.
    """
    hidden = 1024
    gpt = replace(
        LLAMA_8B, hidden=hidden, num_heads=8, num_kv_heads=8, head_dim=128, ffn_hidden=4 * hidden, gated=False
    )
    counted = float(saved_bytes_per_token(gpt, LayoutArrays.build(), kind=layer_kinds(gpt)[0])[0])

    assert counted == (34 - 2) * hidden + 4 * 8
    split = float(saved_bytes_per_token(gpt, LayoutArrays.build(tp=8), kind=layer_kinds(gpt)[0])[0])
    assert split == counted / 8


def test_a_policy_by_operator_keeps_one_product_of_a_pair():
    """Llama: queries 4096, one of keys and values 1024, attention output 4096, one of gate and up 14336, two streams."""
    rows = LayoutArrays.build(recompute=int(Recompute.SELECTIVE))
    layer = layer_activations(LLAMA_8B, rows, kind=layer_kinds(LLAMA_8B)[0], pair_fraction=0.5)

    assert layer.kept[0] == 2 * (2 * 4096 + 4096 + 1024 + 4096 + 14336) + 4 * 32


def test_multi_head_latent_attention_recomputes_its_up_projections():
    """DeepSeek-V3: 128 heads, queries and keys of 192, values of 128."""
    model = catalog.model("deepseek-v3").spec
    rows = LayoutArrays.build(tp=8, recompute=[0, int(Recompute.UP_PROJECTION)])
    kept = layer_activations(model, rows, kind=layer_kinds(model)[0]).kept

    assert kept[0] - kept[1] == pytest.approx(2 * 128 * (2 * 192 + 128) / 8)


def test_low_precision_and_selective_recompute_save_the_operands():
    """Operands of a layer: two norm outputs of h and the activation's output of 14336, of 2, 1 and 0 bytes.

    The attention's output is kept in 16 bits for its own backward, and quantised once more as the next product's input.
    """
    operands = 2 * 4096 + 14336
    plain, selective = LayoutArrays.build(), LayoutArrays.build(recompute=int(Recompute.SELECTIVE))
    bf16, fp8, dropped = (
        float(saved_bytes_per_token(LLAMA_8B, rows, kind=layer_kinds(LLAMA_8B)[0], precision=precision)[0])
        for rows, precision in ((plain, "bf16"), (plain, "fp8"), (selective, "bf16"))
    )

    assert bf16 - fp8 == operands - 4096
    assert bf16 - dropped == 2 * operands


def test_full_recompute_keeps_the_input_of_each_layer():
    rows = LayoutArrays.build(recompute=int(Recompute.FULL))

    assert saved_bytes_per_token(LLAMA_8B, rows, kind=layer_kinds(LLAMA_8B)[0])[0] == 2 * 4096


def test_micro_batches_held_fall_along_the_pipeline():
    """1F1B: pp, pp - 1, ..., 1. Interleaved: two chunks fewer for each stage. ZB-H1 and GPipe: the same on all."""
    rows = LayoutArrays.build(pp=4, vpp=[1, 2, 1, 1], schedule=[0, 0, int(Schedule.ZERO_BUBBLE), int(Schedule.GPIPE)])
    count = np.array([32, 32, 32, 32])
    group = micro_batch_group(rows.pp, rows.vpp, count)
    held = [micro_batches_held(rows, count, np.full(4, stage), group).tolist() for stage in range(4)]

    assert held == [[4, 5.5, 4, 32], [3, 4.5, 4, 32], [2, 3.5, 4, 32], [1, 2.5, 4, 32]]


def test_the_first_stage_holds_what_the_schedules_say():
    schedule = np.repeat(np.arange(4), 4)
    rows = LayoutArrays.build(pp=8, vpp=np.where(schedule == 0, np.tile([1, 2, 1, 4], 4), 1), schedule=schedule)
    count = np.tile([96, 100, 3, 41], 4)
    held = micro_batches_held(rows, count, np.zeros(16, dtype=int), micro_batch_group(rows.pp, rows.vpp, count))

    np.testing.assert_array_equal(held, in_flight(rows.schedule, rows.pp, rows.vpp, count))


def test_a_dualpipe_rank_holds_two_stages_and_shares_their_optimizer_state():
    one, two = (memory(LLAMA_8B, pp=8, dp=8, schedule=int(s)) for s in (Schedule.ONE_F_ONE_B, Schedule.DUALPIPE))
    first, last = (one.by_group[group] for group in ("first", "last"))

    for kind in ("weights", "gradients"):
        assert two.by_group["first"][kind][0] == pytest.approx(first[kind][0] + last[kind][0])
    mean = (first["optimizer"][0] + last["optimizer"][0]) / 2
    assert two.by_group["first"]["optimizer"][0] == pytest.approx(mean)


def test_kinds_of_the_peak_stage_add_up_and_groups_are_told_apart():
    """Totals: tensors, a tenth of them for fragmentation, 5 GB outside; the fullest group is the peak."""
    found = memory(LLAMA_8B, pp=8, dp=8)
    tensors = sum(float(found.by_kind[kind][0]) for kind in KINDS if kind not in UNALLOCATED)
    totals = {group: sum(float(size[0]) for size in found.by_group[group].values()) for group in GROUPS}

    assert found.allocated_bytes[0] == pytest.approx(tensors)
    assert found.total_bytes[0] == pytest.approx(1.1 * tensors + 5e9)
    assert max(totals.values()) == pytest.approx(found.total_bytes[0])
    assert totals["first"] > totals["middle"] > totals["before last"]


def test_a_stage_in_the_middle_can_be_the_fullest():
    """Leading dense layers are lighter than mixtures: the second stage, all mixtures, counts."""
    moe = replace(MIXTRAL.moe, num_dense_first_layers=4)
    mixed = replace(MIXTRAL, num_layers=64, ffn_hidden=1024, vocab=1000, moe=moe)
    found = memory(mixed, pp=16, dp=1)

    assert found.stage[0] == 1
    assert found.total_bytes[0] == pytest.approx(sum(float(size[0]) for size in found.by_group["middle"].values()))


def test_small_gpt_by_hand():
    """Two layers of width 512, 4 heads of 128, ungated 2048, tied words; one sequence of 1024 tokens on one card.

    A layer keeps streams and norm outputs (4 x 512), queries to output (4 x 512), feed-forward (2 x 2048) in 16 bits and
    4 statistics. With 1,000 words the loss (10 bytes each) needs less than a layer's backward, with 2,000 more.
    """
    gpt = ModelSpec(
        name="small",
        num_layers=2,
        hidden=512,
        num_heads=4,
        num_kv_heads=4,
        head_dim=128,
        ffn_hidden=2048,
        vocab=1000,
        gated=False,
        tied_embeddings=True,
    )
    config = StepConfig(global_batch=1, seq_len=1024, precision="bf16")
    layer = 2 * (4 * 512 + 4 * 512 + 2 * 2048) + 4 * 4
    backward = 2 * (2 * 512 + 2 * 2048)
    few, many = (memory(replace(gpt, vocab=words), config=config, sharding=0).by_kind for words in (1000, 2000))

    parameters = 2 * (4 * 512 * 512 + 2 * 512 * 2048 + 2 * 512) + 1000 * 512
    assert few["weights"][0] == 2 * parameters
    assert few["gradients"][0] == 4 * parameters
    assert few["optimizer"][0] == 12 * parameters
    assert few["activations"][0] == 1024 * (2 * layer + backward)
    assert few["logits"][0] == 0
    assert many["activations"][0] == 1024 * 2 * layer
    assert many["logits"][0] == 1024 * 2000 * 10


def test_full_recompute_needs_one_layer_again():
    """32 inputs of 2 x 4096 bytes a token, and for one layer what it had thrown away and its gradients."""
    words = replace(LLAMA_8B, vocab=1000)
    kinds = memory(words, recompute=int(Recompute.FULL)).by_kind
    layer = layer_activations(words, LayoutArrays.build(), kind=layer_kinds(words)[0])

    expected = 8192 * (32 * 2 * 4096 + layer.whole[0] - 2 * 4096 + layer.gradients[0])
    assert kinds["activations"][0] == pytest.approx(expected)


def test_the_fullest_stage_counts():
    """The first stage keeps eight micro-batches; with full recompute and a large vocabulary the last one is fuller."""
    first = memory(LLAMA_8B, tp=1, pp=8, dp=1)
    big_head = replace(LLAMA_8B, vocab=1_000_000)
    last = memory(big_head, tp=1, pp=8, dp=1, recompute=int(Recompute.FULL))

    assert first.stage[0] == 0
    assert last.stage[0] == 7
    assert last.by_kind["logits"][0] > 0


def test_stages_take_the_layers_that_fit():
    """30 layers on 8 chunks: four each, and the head's stage gives up two."""
    model = replace(LLAMA_8B, num_layers=30)
    plan = plan_stages(model, LayoutArrays.build(pp=8), busy_s=busy(model, 1))

    assert (int(plan.body[0][0]), int(plan.last[0][0])) == (4, 2)


def test_405b_with_128_slots_trades_a_layer_for_the_head():
    model = replace(LLAMA_8B, num_layers=126)
    plan = plan_stages(model, LayoutArrays.build(pp=16, vpp=[1, 8]), busy_s=busy(model, 2))

    assert plan.body[0].tolist() == [8, 8]
    assert plan.last[0].tolist() == [6, 7]


POLICIES = [Recompute.NONE, Recompute.NORM, Recompute.SELECTIVE, Recompute.MLP, Recompute.EXPERTS, Recompute.FULL]


@settings(max_examples=60, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 4, 16]),
    stage=st.integers(0, 3),
    vpp=st.sampled_from([1, 2]),
    model=st.sampled_from([LLAMA_8B, MIXTRAL]),
    policy=st.sampled_from(POLICIES),
    schedule=st.sampled_from(list(Schedule)),
)
def test_memory_grows_with_the_micro_batch_and_falls_with_sharding(tp, pp, dp, stage, vpp, model, policy, schedule):
    plain = pp == 1 or schedule != Schedule.ONE_F_ONE_B

    def total(**changes: int) -> float:
        layout = {"tp": tp, "pp": pp, "dp": dp, "sharding": stage, "vpp": 1 if plain else vpp, "recompute": int(policy)}
        layout |= {"schedule": int(schedule if pp > 1 else Schedule.ONE_F_ONE_B)}
        return float(memory(model, **(layout | changes)).total_bytes[0])

    assert total(micro_batch=2) > total(micro_batch=1)
    assert total(tp=tp * 2) < total()
    assert total(dp=dp * 2) <= total()
    if stage < (3 if pp == 1 else 2):
        # ZeRO-3 gathers two layers, embedding and head, and has a layer's gradients before they are scattered.
        gathered = 8 * parameter_count(model) / model.num_layers + 4 * model.vocab * model.hidden
        assert total(sharding=stage + 1) <= total() + (1.1 * gathered if stage == 2 else 0)
    assert total() <= total(recompute=0)
    assert total(offload=int(Offload.OPTIMIZER)) <= total()
    assert total(recompute=int(Recompute.FULL)) <= total()
