"""Bytes on an accelerator: sharding by hand, and directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan.specs.layout import Recompute, Sharding
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.memory import Memory, memory_bytes, saved_bytes_per_token, stage_state
from makespan.step.pipeline import micro_batches_in_flight, plan_stages
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


class Overhead:
    memory_overhead_bytes = 5e9


def busy(model: ModelSpec, num_layouts: int) -> np.ndarray:
    """Later kinds are slower: mixtures after dense layers."""
    return np.arange(1.0, len(layer_kinds(model)) + 1.0)[:, None] * np.ones(num_layouts)


def memory(model: ModelSpec, **layout) -> Memory:
    rows = LayoutArrays.build(**layout)
    plan = plan_stages(model, rows, busy_s=busy(model, len(rows)))
    return memory_bytes(model, CONFIG, Overhead(), rows, plan, stage_state(model, rows, plan))


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
    """Else every micro-batch would gather them anew: as ZeRO-1."""
    third, first = (memory(LLAMA_8B, pp=4, dp=8, sharding=stage).by_kind for stage in (3, 1))

    for kind in ("weights", "gradients", "optimizer"):
        assert third[kind][0] == first[kind][0]


def test_experts_are_sharded_over_the_expert_data_group():
    """64 ranks, 8 expert-parallel: an expert has 8 replicas to share its optimizer state, all else 64."""
    kinds = memory(MIXTRAL, dp=64, ep=8, sharding=int(Sharding.ZERO1)).by_kind
    experts = 32 * 8 * 3 * 4096 * 14336 / 8
    rest = parameter_count(MIXTRAL) - experts * 8

    assert float(kinds["optimizer"][0]) == pytest.approx(12 * (experts / 8 + rest / 64), rel=1e-4)
    assert float(kinds["weights"][0]) == pytest.approx(2 * (experts + rest), rel=1e-4)


def test_saved_activations_of_a_llama_layer():
    """Per token: 4 h for norms and inputs, 2 (32 + 8) heads of 128, 3 x 14336; two bytes each."""
    expected = 2 * (4 * 4096 + 2 * 40 * 128 + 3 * 14336)

    assert saved_bytes_per_token(LLAMA_8B, LayoutArrays.build(), kind=layer_kinds(LLAMA_8B)[0])[0] == expected
    assert saved_bytes_per_token(LLAMA_8B, LayoutArrays.build(tp=4), kind=layer_kinds(LLAMA_8B)[0])[0] == expected / 4
    unsharded = saved_bytes_per_token(
        LLAMA_8B, LayoutArrays.build(tp=4, sequence_parallel=0), kind=layer_kinds(LLAMA_8B)[0]
    )
    assert unsharded[0] == expected / 4 + 0.75 * 2 * 4 * 4096


def test_low_precision_and_selective_recompute_save_the_operands():
    """Operands of a layer: two norm outputs of h and the activation's output of 14336, of 2, 1 and 0 bytes."""
    operands = 2 * 4096 + 14336
    plain, selective = LayoutArrays.build(), LayoutArrays.build(recompute=int(Recompute.SELECTIVE))
    bf16, fp8, dropped = (
        float(saved_bytes_per_token(LLAMA_8B, rows, kind=layer_kinds(LLAMA_8B)[0], precision=precision)[0])
        for rows, precision in ((plain, "bf16"), (plain, "fp8"), (selective, "bf16"))
    )

    assert bf16 - fp8 == operands
    assert bf16 - dropped == 2 * operands


def test_full_recompute_keeps_the_input_of_each_layer():
    rows = LayoutArrays.build(recompute=int(Recompute.FULL))

    assert saved_bytes_per_token(LLAMA_8B, rows, kind=layer_kinds(LLAMA_8B)[0])[0] == 2 * 4096


def test_micro_batches_in_flight():
    """1F1B holds pp, interleaving (pp vpp + pp - 1) / vpp, deeper groups up to 2 pp - 1; never more than there are."""
    rows = LayoutArrays.build(pp=[1, 8, 8, 8, 8], vpp=[1, 1, 4, 1, 4])
    flight = micro_batches_in_flight(rows, np.array([96, 96, 96, 3, 100]))

    np.testing.assert_allclose(flight, [1, 8, (32 + 7) / 4, 3, (15 * 4 + 7) / 4])


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


@settings(max_examples=60, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 4, 16]),
    stage=st.integers(0, 3),
    vpp=st.sampled_from([1, 2]),
    model=st.sampled_from([LLAMA_8B, MIXTRAL]),
)
def test_memory_grows_with_the_micro_batch_and_falls_with_sharding(tp, pp, dp, stage, vpp, model):
    def total(**changes: int) -> float:
        layout = {"tp": tp, "pp": pp, "dp": dp, "sharding": stage, "vpp": vpp if pp > 1 else 1} | changes
        return float(memory(model, **layout).total_bytes[0])

    assert total(micro_batch=2) > total(micro_batch=1)
    assert total(tp=tp * 2) < total()
    if stage < (3 if pp == 1 else 2):
        slack = 2 * 2 * 2 * parameter_count(model) / model.num_layers if stage == 2 else 0
        assert total(sharding=stage + 1) <= total() + slack
    assert total(recompute=int(Recompute.FULL)) < total()
