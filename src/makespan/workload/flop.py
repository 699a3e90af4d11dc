"""Model FLOP: what the mathematics of a step needs, whatever the kernels do.

A multiply-add counts as two. Training is three times the forward pass (the backward does each product twice).
Recomputation, the recomputed scores of flash attention and multi-token-prediction layers are not model FLOP.
"""

from __future__ import annotations

from makespan.specs.model import ModelSpec
from makespan.workload.operators import (
    attention_flop,
    attention_gemms,
    dense_ffn_gemms,
    router_gemm,
    side_ffn_gemms,
)
from makespan.workload.parameters import ffn_matrices, layer_counts

TRAINING_OVER_FORWARD = 3
"""Forward once; backward with respect to inputs and to weights, each as many products as the forward."""


def _layer_gemm_flop_per_token(model: ModelSpec, *, moe_layer: bool) -> float:
    gemms = list(attention_gemms(model, tokens=1.0, tp=1))
    flop = 0.0
    if moe_layer and model.moe is not None:
        gemms += [router_gemm(model, tokens=1.0), *side_ffn_gemms(model, tokens=1.0, tp=1)]
        flop += 2.0 * ffn_matrices(model) * model.hidden * model.moe.expert_ffn * model.moe.top_k
    else:
        gemms += dense_ffn_gemms(model, tokens=1.0, tp=1)
    return flop + sum(float(gemm.flop) for gemm in gemms)


def active_flop_per_token(model: ModelSpec) -> float:
    """Forward FLOP of the matrix products one token visits, head included, attention scores left out. [FLOP]

    Close to 2 x active parameters: biases, norms and the input embedding do no matrix product.
    """
    counts = layer_counts(model)
    flop = 2.0 * model.hidden * model.vocab
    if counts.dense:
        flop += counts.dense * _layer_gemm_flop_per_token(model, moe_layer=False)
    if counts.moe:
        flop += counts.moe * _layer_gemm_flop_per_token(model, moe_layer=True)
    return flop


def attention_flop_per_token(model: ModelSpec, seq_len: int, *, causal: bool = True) -> float:
    """Forward FLOP of scores and weighted values, mean over the sequence, all layers. [FLOP]"""
    return float(attention_flop(model, sequences=1.0, seq_len=seq_len, causal=causal)) * model.num_layers / seq_len


def model_flop_per_token(model: ModelSpec, seq_len: int, *, causal: bool = True, training: bool = True) -> float:
    """Model FLOP of one token. [FLOP]

    Parameters
    ----------
    seq_len : tokens in a sequence.
    causal : count the half of attention below the diagonal; otherwise the whole square, as many publications do.
    training : forward and backward (3 x forward); otherwise forward only.

    References
    ----------
    J. Kaplan et al., arXiv:2001.08361, section 2.1; A. Chowdhery et al. (PaLM), arXiv:2204.02311, appendix B.
    """
    forward = active_flop_per_token(model) + attention_flop_per_token(model, seq_len, causal=causal)
    return forward * (TRAINING_OVER_FORWARD if training else 1)


def model_flop_per_sequence(model: ModelSpec, seq_len: int, *, causal: bool = True, training: bool = True) -> float:
    """Model FLOP of one sequence. [FLOP]"""
    return model_flop_per_token(model, seq_len, causal=causal, training=training) * seq_len


def mtp_flop_per_token(model: ModelSpec, seq_len: int) -> float:
    """Training FLOP that multi-token-prediction layers add to a token: projection, one layer and the head each. [FLOP]

    References
    ----------
    DeepSeek-V3 technical report, arXiv:2412.19437, section 2.2.
    """
    if model.mtp_layers == 0:
        return 0.0
    layer = _layer_gemm_flop_per_token(model, moe_layer=model.moe is not None)
    layer += float(attention_flop(model, sequences=1.0, seq_len=seq_len, causal=True)) / seq_len
    projection, head = 2.0 * 2 * model.hidden * model.hidden, 2.0 * model.hidden * model.vocab
    return TRAINING_OVER_FORWARD * model.mtp_layers * (layer + projection + head)
