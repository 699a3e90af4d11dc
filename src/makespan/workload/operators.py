"""The matrix products and attention of one layer, after sharding. All sizes broadcast over arrays of layouts.

A product is `(m, n, k)`: an m x k input times a k x n weight. `tokens` are those of one rank's micro-batch after
context parallelism; tensor parallelism cuts `n` (column) or `k` (row).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.rows import maximum
from makespan.specs.model import ModelSpec
from makespan.workload.layers import LayerKind, body_names
from makespan.workload.parameters import mamba_inner, routed_width

FloatArray = NDArray[np.floating[Any]]
FloatLike = float | FloatArray
IntLike = int | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """A forward matrix product of one rank, or `copies` equal ones (experts run as one grouped kernel).

    m : rows (tokens).   n : outputs.   k : summed over.
    quantised : runs in the step's low precision where there is one; routers and heads stay in bf16.
    grouped : a grouped kernel over `copies` experts.
    """

    name: str
    m: FloatLike
    n: FloatLike
    k: FloatLike
    copies: FloatLike = 1.0
    quantised: bool = True
    grouped: bool = False

    @property
    def flop(self) -> FloatLike:
        """Forward FLOP of all copies. [FLOP]"""
        return 2.0 * self.copies * self.m * self.n * self.k


def kv_heads_held(model: ModelSpec, tp: IntLike) -> FloatLike:
    """KV heads of a tensor-parallel group, copies counted: a rank holds one at least. [-]"""
    return maximum(model.num_kv_heads, tp)


def attention_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    """Projections of one attention block on one tensor-parallel rank.

    The low-rank down projections of latent attention are not cut by heads: each rank does its tokens' share.
    """
    h, heads = model.hidden, model.num_heads
    mla = model.mla
    if mla is None:
        query, kv = heads * model.head_dim, 2 * kv_heads_held(model, tp) * model.head_dim
        return (
            Gemm(name="qkv", m=tokens, n=(query + kv) / tp, k=float(h)),
            Gemm(name="attention_out", m=tokens, n=float(h), k=query / tp),
        )
    query_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    own = tokens / tp
    gemms = [
        Gemm(name="kv_down", m=own, n=float(mla.kv_lora_rank + mla.qk_rope_head_dim), k=float(h)),
        Gemm(name="kv_up", m=tokens, n=heads * (mla.qk_nope_head_dim + mla.v_head_dim) / tp, k=float(mla.kv_lora_rank)),
        Gemm(name="attention_out", m=tokens, n=float(h), k=heads * mla.v_head_dim / tp),
    ]
    if mla.q_lora_rank:
        gemms.append(Gemm(name="q_down", m=own, n=float(mla.q_lora_rank), k=float(h)))
        gemms.append(Gemm(name="q_up", m=tokens, n=heads * query_dim / tp, k=float(mla.q_lora_rank)))
    else:
        gemms.append(Gemm(name="q", m=tokens, n=heads * query_dim / tp, k=float(h)))
    return tuple(gemms)


def mamba_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    """Projections of one Mamba-2 mixer: in to gate, x, B, C and step sizes; out to `hidden`. Cut by heads and groups."""
    mamba = model.mamba
    assert mamba is not None
    inner = mamba_inner(mamba)
    outputs = 2 * inner + 2 * mamba.groups * mamba.state + mamba.num_heads
    return (
        Gemm(name="mamba_in", m=tokens, n=outputs / tp, k=float(model.hidden)),
        Gemm(name="mamba_out", m=tokens, n=float(model.hidden), k=inner / tp),
    )


SCAN_FLOP = 7.0
"""FLOP of the scan for a token, channel and number of state, forward, in the recurrent form: two products for the input,
one for the decay and one addition, a product and an addition for the output, one for the skip. The convention of
Megatron-LM (`mamba_layer_flops` in megatron/training/training.py), so that reported FLOP/s compare; the chunked kernels
do another number, see `step.mamba`."""


def scan_flop(model: ModelSpec, *, tokens: FloatLike, tp: IntLike = 1) -> FloatLike:
    """Forward model FLOP of the scan of one Mamba-2 layer on one tensor-parallel rank. [FLOP]

    The convolution and the norms are left out, as norms are everywhere.
    """
    assert model.mamba is not None
    return SCAN_FLOP * tokens * mamba_inner(model.mamba) * model.mamba.state / tp


def _ffn_gemms(model: ModelSpec, name: str, width: int, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    inputs = 2 if model.gated else 1
    return (
        Gemm(name=f"{name}_up", m=tokens, n=inputs * width / tp, k=float(model.hidden)),
        Gemm(name=f"{name}_down", m=tokens, n=float(model.hidden), k=width / tp),
    )


def dense_ffn_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    """Feed-forward of a dense layer; gate and up run as one product."""
    return _ffn_gemms(model, "ffn", model.ffn_hidden, tokens=tokens, tp=tp)


def side_ffn_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    """What every token of a mixture layer visits beside its experts: shared experts, dense residual."""
    if model.moe is None:
        return ()
    gemms: tuple[Gemm, ...] = ()
    if model.moe.shared_ffn:
        gemms += _ffn_gemms(model, "shared", model.moe.shared_ffn, tokens=tokens, tp=tp)
    if model.moe.dense_residual_ffn:
        gemms += _ffn_gemms(model, "residual", model.moe.dense_residual_ffn, tokens=tokens, tp=tp)
    return gemms


def router_gemm(model: ModelSpec, *, tokens: FloatLike) -> Gemm:
    """Scores of every expert. Not quantised."""
    assert model.moe is not None
    return Gemm(name="router", m=tokens, n=float(model.moe.num_experts), k=float(model.hidden), quantised=False)


def latent_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> tuple[Gemm, ...]:
    """Projections to the latent before the dispatch and back after the combine; empty where experts see `hidden`.

    Not cut: every tensor-parallel rank holds both and projects its own share of the tokens.
    """
    if model.moe is None or not model.moe.latent:
        return ()
    own, latent, h = tokens / tp, float(model.moe.latent), float(model.hidden)
    return (
        Gemm(name="latent_down", m=own, n=latent, k=h),
        Gemm(name="latent_up", m=own, n=h, k=latent),
    )


def routed_tokens_per_rank(model: ModelSpec, *, tokens: FloatLike, tp: IntLike, etp: IntLike) -> FloatLike:
    """Token copies that one rank's experts process, routing balanced. [-]

    Each rank of a tensor-parallel group brings tokens/tp tokens, each goes to top_k experts; expert-tensor-parallel
    ranks process the same tokens together.
    """
    assert model.moe is not None
    return tokens / tp * model.moe.top_k * etp


def expert_gemms(model: ModelSpec, *, tokens: FloatLike, tp: IntLike, ep: IntLike, etp: IntLike) -> tuple[Gemm, ...]:
    """The routed experts that live on one rank, as grouped products with balanced routing, on `routed_width` inputs."""
    assert model.moe is not None
    local = model.moe.num_experts / ep
    rows = routed_tokens_per_rank(model, tokens=tokens, tp=tp, etp=etp) / local
    inputs = 2 if model.gated else 1
    width = model.moe.expert_ffn / etp
    h = float(routed_width(model))
    return (
        Gemm(name="expert_up", m=rows, n=inputs * width, k=h, copies=local, grouped=True),
        Gemm(name="expert_down", m=rows, n=h, k=width, copies=local, grouped=True),
    )


def layer_gemms(
    model: ModelSpec, kind: LayerKind, *, tokens: FloatLike, tp: IntLike, ep: IntLike = 1, etp: IntLike = 1
) -> tuple[Gemm, ...]:
    """Every matrix product of one layer of a kind on one rank, experts included."""
    gemms: tuple[Gemm, ...] = ()
    if kind.mixer == "attention":
        gemms += attention_gemms(model, tokens=tokens, tp=tp)
    elif kind.mixer == "mamba":
        gemms += mamba_gemms(model, tokens=tokens, tp=tp)
    if kind.ffn == "dense":
        gemms += dense_ffn_gemms(model, tokens=tokens, tp=tp)
    elif kind.ffn == "moe":
        gemms += (router_gemm(model, tokens=tokens / tp),)
        gemms += latent_gemms(model, tokens=tokens, tp=tp)
        gemms += side_ffn_gemms(model, tokens=tokens, tp=tp)
        gemms += expert_gemms(model, tokens=tokens, tp=tp, ep=ep, etp=etp)
    return gemms


def head_gemm(model: ModelSpec, *, tokens: FloatLike, tp: IntLike) -> Gemm:
    """Logits, the vocabulary cut by tensor parallelism. Not quantised."""
    return Gemm(name="head", m=tokens, n=model.vocab / tp, k=float(model.hidden), quantised=False)


def score_dims(model: ModelSpec) -> int:
    """Width of a head in the scores plus its width in the values. [-]"""
    if model.mla is not None:
        return model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim + model.mla.v_head_dim
    return 2 * model.head_dim


@lru_cache(maxsize=256)
def attention_layers(model: ModelSpec) -> int:
    """Layers of the body that hold attention. [-]"""
    return sum(name in ("dense", "moe", "attention") for name in body_names(model))


def full_layer_fraction(model: ModelSpec) -> float:
    """Share of the attention layers that are not windowed. [-]"""
    if model.window is None:
        return 1.0
    layers = attention_layers(model)
    return (layers // model.global_every) / layers if model.global_every > 1 and layers else 0.0


def attended_pairs(seq_len: int, *, window: int | None, causal: bool) -> float:
    """Query-key pairs of one sequence and head: half the square (causal), a band (window), or the square. [-]"""
    if not causal:
        return float(seq_len) * (seq_len if window is None else min(seq_len, window))
    if window is None or window >= seq_len:
        return 0.5 * seq_len * seq_len
    return window * seq_len - 0.5 * window * window


def attention_flop(model: ModelSpec, *, sequences: FloatLike, seq_len: int, causal: bool = True) -> FloatLike:
    """Forward FLOP of scores and weighted values of one attention layer (mean over windowed and full ones), all heads. [FLOP]

    Examples
    --------
    Causal attention of one 8192-token sequence, 32 heads of 128: 2 s^2 h d.

    >>> llama = ModelSpec(name="Llama 3.1 8B", num_layers=32, hidden=4096, num_heads=32, num_kv_heads=8,
    ...                   head_dim=128, ffn_hidden=14336, vocab=128256)
    >>> attention_flop(llama, sequences=1.0, seq_len=8192) == 2 * 8192**2 * 32 * 128
    True
    """
    full = full_layer_fraction(model)
    pairs = full * attended_pairs(seq_len, window=None, causal=causal)
    pairs += (1 - full) * attended_pairs(seq_len, window=model.window, causal=causal)
    return 2.0 * sequences * pairs * model.num_heads * score_dims(model)
