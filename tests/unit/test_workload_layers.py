"""Kinds of layers, and the parameters and FLOP of hybrids, latent experts and multi-token prediction, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec
from makespan.workload import (
    active_flop_per_token,
    active_parameter_count,
    attention_layers,
    body_names,
    expert_gemms,
    latent_gemms,
    layer_gemms,
    layer_kinds,
    layer_parameters,
    mamba_gemms,
    model_flop_per_token,
    mtp_flop_per_token,
    mtp_parameters,
    parameter_count,
    routed_width,
    scan_flop,
)

NANO = ModelSpec(
    name="Nemotron 3 Nano 30B-A3B",
    num_layers=52,
    hidden=2688,
    num_heads=32,
    num_kv_heads=2,
    head_dim=128,
    ffn_hidden=0,
    vocab=131072,
    gated=False,
    router_bias=True,
    pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    mamba=MambaSpec(num_heads=64, head_dim=64, state=128, groups=8),
    moe=MoeSpec(num_experts=128, top_k=6, expert_ffn=1856, shared_ffn=3712),
)
SUPER = ModelSpec(
    name="Nemotron 3 Super 120B-A12B",
    num_layers=88,
    hidden=4096,
    num_heads=32,
    num_kv_heads=2,
    head_dim=128,
    ffn_hidden=0,
    vocab=131072,
    gated=False,
    router_bias=True,
    pattern="MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
    mtp_layers=2,
    mtp_pattern="*E",
    mtp_shared=True,
    mamba=MambaSpec(num_heads=128, head_dim=64, state=128, groups=8),
    moe=MoeSpec(num_experts=512, top_k=22, expert_ffn=2688, shared_ffn=5376, latent=1024),
)
H_56B = ModelSpec(
    name="Nemotron-H 56B",
    num_layers=118,
    hidden=8192,
    num_heads=64,
    num_kv_heads=8,
    head_dim=128,
    ffn_hidden=32768,
    vocab=131072,
    gated=False,
    pattern="M-M-M-M*-" + "M-M-M-M-M*-" * 9 + "M-M-M-M-M-",
    mamba=MambaSpec(num_heads=256, head_dim=64, state=256, groups=8),
)
DEEPSEEK = ModelSpec(
    name="DeepSeek-V3",
    num_layers=61,
    hidden=7168,
    num_heads=128,
    num_kv_heads=128,
    head_dim=192,
    ffn_hidden=18432,
    vocab=129280,
    router_bias=True,
    mtp_layers=1,
    mla=MlaSpec(kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
    moe=MoeSpec(num_experts=256, top_k=8, expert_ffn=2048, shared_ffn=2048, num_dense_first_layers=3),
)


def kinds(model: ModelSpec) -> list[tuple[str, int, int]]:
    return [(kind.name, kind.count, kind.mtp) for kind in layer_kinds(model)]


def test_kinds_of_an_ordinary_mixture_are_dense_then_moe():
    assert kinds(DEEPSEEK) == [("dense", 3, 0), ("moe", 58, 1)]
    assert kinds(replace(DEEPSEEK, moe=None)) == [("dense", 61, 1)]


def test_kinds_of_a_hybrid_come_in_order_of_first_appearance():
    assert kinds(NANO) == [("mamba", 23, 0), ("experts", 23, 0), ("attention", 6, 0)]
    assert kinds(SUPER) == [("mamba", 40, 0), ("experts", 40, 2), ("attention", 8, 2)]
    assert kinds(H_56B) == [("mamba", 54, 0), ("ffn", 54, 0), ("attention", 10, 0)]
    assert attention_layers(SUPER) == 8


def test_a_prediction_layer_may_be_of_a_kind_the_body_has_not():
    tail = replace(H_56B, mtp_layers=3, mtp_pattern="")

    assert kinds(tail)[-1] == ("dense", 0, 3)


def test_every_second_layer_is_a_mixture():
    model = replace(DEEPSEEK, num_layers=6, mtp_layers=0, moe=replace(DEEPSEEK.moe, num_dense_first_layers=0, every=2))
    late = replace(model, moe=replace(model.moe, num_dense_first_layers=2))

    assert body_names(model) == ("dense", "moe", "dense", "moe", "dense", "moe")
    assert body_names(late) == ("dense", "dense", "dense", "moe", "dense", "moe")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pattern": "ME*"}, "3 letters for 52 layers"),
        ({"pattern": "ME*G" * 13}, "unknown letters G"),
        ({"mamba": None}, "Mamba-2"),
        ({"moe": None}, "mixture"),
    ],
)
def test_patterns_that_make_no_model(change, words):
    with pytest.raises(ValueError, match=words):
        layer_kinds(replace(NANO, **change))


def test_a_mamba_layer_by_hand():
    """Nemotron 3 Nano: 4096 channels, 8 groups of B and C of 128 each, 64 heads."""
    projections = 2688 * (4096 + 4096 + 2 * 8 * 128 + 64) + 4096 * 2688
    convolution = (4096 + 2 * 8 * 128) * (4 + 1)
    mixer = projections + convolution + 3 * 64 + 4096
    layer = layer_parameters(NANO, layer_kinds(NANO)[0])

    assert (layer.mamba, layer.norms, layer.total) == (mixer, 2688, mixer + 2688)


@pytest.mark.parametrize(
    ("model", "total", "active", "rel"),
    [
        # Nemotron 3 Nano report: 31.6B total, 3.6B active with the embedding, 3.2B without.
        (NANO, 31.6e9, (3.6e9, 3.2e9), 0.009),
        # Nemotron 3 Super report: 120.6B total, 12.7B active.
        (SUPER, 120.6e9, (12.7e9, None), 0.006),
        # Nemotron-H report, arXiv:2504.03624: 56B.
        (H_56B, 56e9, (56e9, None), 0.006),
    ],
    ids=["nano", "super", "h-56b"],
)
def test_published_totals_of_hybrids(model, total, active, rel):
    with_embedding, without = active

    assert parameter_count(model) == pytest.approx(total, rel=rel)
    assert active_parameter_count(model) == pytest.approx(with_embedding, rel=rel)
    if without is not None:
        assert active_parameter_count(model, embedding=False) == pytest.approx(without, rel=rel)


def test_flop_of_hybrids_against_the_framework_that_ran_them():
    """Megatron-Bridge printed 795 TFLOP/s at 9344 tokens/s (Super, two prediction layers): 85.1 GFLOP a token."""
    ours = model_flop_per_token(SUPER, 8192) + mtp_flop_per_token(SUPER, 8192)

    assert ours == pytest.approx(795e12 / 9344, rel=0.01)


def test_scan_flop_of_a_token():
    assert scan_flop(NANO, tokens=1.0) == 7 * 4096 * 128
    assert scan_flop(NANO, tokens=10.0, tp=4) == 10 * 7 * 4096 * 128 / 4


def test_hybrid_token_costs_two_flop_a_weight_and_the_scans():
    norms = (52 + 1) * 2688
    vectors = 23 * ((4096 + 2 * 8 * 128) * 5 + 3 * 64 + 4096) + 23 * 128
    weights = active_parameter_count(NANO, embedding=False) - norms - vectors

    assert active_flop_per_token(NANO) == 2 * weights + 23 * 7 * 4096 * 128


def test_latent_experts_act_on_the_latent():
    """512 experts of 1024 x 2688 and back; down and up projections once a layer; shared expert on the full width."""
    layer = layer_parameters(SUPER, layer_kinds(SUPER)[1])

    assert routed_width(SUPER) == 1024
    assert layer.experts == 512 * 2 * 1024 * 2688
    assert layer.latent == 2 * 4096 * 1024
    assert layer.side_ffn == 2 * 4096 * 5376
    assert layer.router == 4096 * 512 + 512
    up, down = expert_gemms(SUPER, tokens=4096, tp=1, ep=64, etp=1)
    assert (up.m, up.n, up.k, up.copies) == (4096 * 22 / 8, 2688, 1024, 8)
    assert (down.n, down.k) == (1024, 2688)
    to_latent, back = latent_gemms(SUPER, tokens=4096, tp=2)
    assert (to_latent.m, to_latent.n, to_latent.k) == (2048, 1024, 4096)
    assert (back.m, back.n, back.k) == (2048, 4096, 1024)
    assert latent_gemms(NANO, tokens=4096, tp=1) == ()


@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    ep=st.sampled_from([1, 2, 8]),
    model=st.sampled_from([NANO, SUPER, H_56B, DEEPSEEK]),
)
def test_ranks_share_every_kind_of_layer_exactly(tp, ep, model):
    """What tp ranks do together is what one rank would do, for any kind of layer, and the copies of KV heads where there are
    fewer of them than ranks."""
    for kind in layer_kinds(model):
        whole = sum(g.flop for g in layer_gemms(model, kind, tokens=1024.0, tp=1))
        rank = sum(g.flop for g in layer_gemms(model, kind, tokens=1024.0, tp=tp, ep=ep))
        copies = max(tp - model.num_kv_heads, 0) if kind.mixer == "attention" and model.mla is None else 0
        copied = 2 * 1024.0 * model.hidden * 2 * copies * model.head_dim
        # Low-rank down projections of latent attention are spread over tokens, so they are shared too.
        assert rank * tp == pytest.approx(whole + copied)


def test_gemms_broadcast_over_layouts():
    tp = np.array([1, 2, 4, 8])
    fan_in, fan_out = mamba_gemms(H_56B, tokens=np.full(4, 8192.0), tp=tp)

    assert list(fan_in.n) == list((2 * 16384 + 2 * 8 * 256 + 256) / tp)
    assert list(fan_out.k) == list(16384 / tp)


def test_prediction_layers_of_deepseek():
    """Projection 2h to h, three norms, one mixture layer: 11.6B; the report's 14B has copies of embedding and head."""
    extra = mtp_parameters(DEEPSEEK)
    layer = layer_parameters(DEEPSEEK, layer_kinds(DEEPSEEK)[1]).total

    assert extra.total == 2 * 7168 * 7168 + 3 * 7168 + layer
    assert extra.total + 2 * 129280 * 7168 == pytest.approx(14e9, rel=0.05)


def test_shared_prediction_layers_are_stored_once_and_run_twice():
    """Nemotron 3 Super runs "*E" twice with one set of weights."""
    once, apart = mtp_parameters(SUPER), mtp_parameters(replace(SUPER, mtp_shared=False))

    assert [(kind.name, stored) for kind, stored, _ in once.layers] == [("experts", 1), ("attention", 1)]
    assert apart.total == 2 * once.total
    assert mtp_parameters(replace(SUPER, mtp_layers=0)).total == 0
    assert mtp_flop_per_token(SUPER, 8192) == mtp_flop_per_token(replace(SUPER, mtp_shared=False), 8192)


def test_prediction_flop_of_a_hybrid():
    """Two times: projection, one attention layer with its scores, one mixture, the head; times 3 for training."""
    one = sum(
        float(g.flop) for kind in layer_kinds(SUPER) if kind.mtp for g in layer_gemms(SUPER, kind, tokens=1.0, tp=1)
    )
    scores = 2 * 8192 * 32 * 128
    by_hand = 3 * 2 * (one + scores + 2 * 2 * 4096**2 + 2 * 4096 * 131072)

    assert mtp_flop_per_token(SUPER, 8192) == by_hand


@pytest.mark.parametrize(
    ("name", "total", "active", "embedding"),
    [
        ("nemotron-3-nano-30b-a3b", 31.6, 3.6, True),
        ("nemotron-3-super-120b-a12b", 120.6, 12.7, True),
        ("nemotron-h-56b", 56, None, True),
        ("gpt-oss-20b", 20.91, 3.61, False),
        ("qwen3-30b-a3b", 30.5, 3.3, True),
        ("kimi-k2", 1026, 32.6, True),
        ("glm-4.5", 355, 32, False),
        ("llama-4-maverick", 400, 17, True),
    ],
)
def test_catalog_models_have_their_printed_number_of_parameters(name, total, active, embedding):
    model = catalog.model(name).spec

    assert parameter_count(model) / 1e9 == pytest.approx(total, rel=0.0075)
    if active is not None:
        assert active_parameter_count(model, embedding=embedding) / 1e9 == pytest.approx(active, rel=0.03)
    assert sum(kind.count for kind in layer_kinds(model)) == model.num_layers
