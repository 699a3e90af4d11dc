"""Model FLOP and operators."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.specs.model import ModelSpec, MoeSpec
from makespan.workload import (
    active_parameter_count,
    attention_flop,
    attention_gemms,
    dense_ffn_gemms,
    expert_gemms,
    head_gemm,
    model_flop_per_sequence,
    model_flop_per_token,
    mtp_flop_per_token,
    router_gemm,
)
from makespan.workload.operators import attended_pairs, full_layer_fraction

LLAMA_405B = ModelSpec(
    name="Llama 3.1 405B",
    num_layers=126,
    hidden=16384,
    num_heads=128,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=53248,
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


def test_llama3_405b_training_flop_of_a_token():
    """6 N without the embedding and norms, plus 6 s h L of causal attention: 2.52e12 at 8192 tokens."""
    norms, embedding = (2 * 126 + 1) * 16384, 128256 * 16384
    products = 6 * (405_853_388_800 - embedding - norms)
    attention = 3 * 2 * 8192 * 16384 * 126

    assert model_flop_per_token(LLAMA_405B, 8192) == products + attention


def test_the_llama3_budget_of_3_8e25_flop_is_the_model_flop_of_15_6T_tokens():
    """arXiv:2407.21783, section 3.2.1 prints 3.8 x 10^25 for 15.6T tokens (6ND, no attention)."""
    no_attention = model_flop_per_token(LLAMA_405B, 1)

    assert no_attention * 15.6e12 == pytest.approx(3.8e25, rel=0.01)


def test_causal_attention_is_half_of_full_attention():
    full = model_flop_per_token(LLAMA_405B, 8192, causal=False)
    causal = model_flop_per_token(LLAMA_405B, 8192, causal=True)
    none = 6 * (active_parameter_count(LLAMA_405B, embedding=False) - (2 * 126 + 1) * 16384)

    assert full - causal == pytest.approx(causal - none)


def test_forward_is_a_third_of_training():
    assert model_flop_per_sequence(MIXTRAL, 4096, training=False) * 3 == model_flop_per_sequence(MIXTRAL, 4096)


def test_mixture_token_visits_its_experts_and_the_router_only():
    """2 FLOP per parameter on the path; norms do no product."""
    norms = (2 * 32 + 1) * 4096
    path = active_parameter_count(MIXTRAL, embedding=False) - norms
    attention = 2 * 4096 * 32 * 128 * 32

    assert model_flop_per_token(MIXTRAL, 4096, training=False) == 2 * path + attention


def test_band_of_a_window_by_counting():
    """Pairs (i, j) with i - w < j <= i. The closed form counts areas: half a pair less for each row of the triangle."""
    seq_len, window = 40, 7
    band = sum(min(i + 1, window) for i in range(seq_len))
    triangle = sum(i + 1 for i in range(seq_len))

    assert band - attended_pairs(seq_len, window=window, causal=True) == window / 2
    assert triangle - attended_pairs(seq_len, window=99, causal=True) == seq_len / 2
    assert attended_pairs(seq_len, window=None, causal=False) == seq_len**2


def test_alternating_windows_average_over_the_layers():
    every_other = replace(LLAMA_405B, window=1024, global_every=2)
    flop = attention_flop(every_other, sequences=1.0, seq_len=8192)
    half = 0.5 * attention_flop(LLAMA_405B, sequences=1.0, seq_len=8192)
    band = 0.5 * attention_flop(replace(LLAMA_405B, window=1024), sequences=1.0, seq_len=8192)

    assert full_layer_fraction(every_other) == 0.5
    assert flop == pytest.approx(half + band)
    assert half < flop < 2 * half


@given(tp=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1, 1 << 16))
def test_tensor_parallel_ranks_share_the_products_exactly(tp, tokens):
    """FLOP of one rank times tp is the FLOP of the whole, for attention, feed-forward and head."""
    for gemms in (attention_gemms, dense_ffn_gemms):
        whole = sum(g.flop for g in gemms(LLAMA_405B, tokens=tokens, tp=1))
        rank = sum(g.flop for g in gemms(LLAMA_405B, tokens=tokens, tp=tp))
        assert rank * tp == pytest.approx(whole)
    assert head_gemm(LLAMA_405B, tokens=tokens, tp=tp).flop * tp == head_gemm(LLAMA_405B, tokens=tokens, tp=1).flop


@given(ep=st.sampled_from([1, 2, 4, 8]), etp=st.sampled_from([1, 2, 4]), tp=st.sampled_from([1, 2, 4]))
def test_expert_work_is_conserved(ep, etp, tp):
    """Ranks of one tensor-parallel group together do top_k experts' work for its tokens, however experts are spread."""
    tokens = 4096
    rank = sum(g.flop for g in expert_gemms(MIXTRAL, tokens=tokens, tp=tp, ep=ep, etp=etp))

    assert rank * tp == pytest.approx(2 * 3 * 4096 * 14336 * 2 * tokens)


def test_expert_rows_are_the_routed_tokens_of_the_whole_group():
    """8 ranks bring 4096 tokens each to 2 of 8 experts, one expert a rank: 8192 rows on each."""
    up, _ = expert_gemms(MIXTRAL, tokens=4096, tp=1, ep=8, etp=1)

    assert (up.m, up.n, up.k, up.copies) == (8192, 2 * 14336, 4096, 1)


def test_router_scores_every_expert():
    assert router_gemm(MIXTRAL, tokens=10).flop == 2 * 10 * 8 * 4096


def test_multi_token_prediction_costs_a_layer_a_projection_and_a_head():
    one = replace(LLAMA_405B, mtp_layers=1)
    layer = model_flop_per_token(replace(LLAMA_405B, num_layers=1), 4096)

    assert mtp_flop_per_token(LLAMA_405B, 4096) == 0
    assert mtp_flop_per_token(one, 4096) == pytest.approx(layer + 3 * 2 * 2 * 16384**2)
    assert model_flop_per_token(one, 4096) == model_flop_per_token(LLAMA_405B, 4096)
