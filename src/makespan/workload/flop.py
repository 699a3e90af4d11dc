"""Model FLOP: what the mathematics of a step needs, whatever the kernels do.

A multiply-add counts as two. Training is three times the forward pass (the backward does each product twice).
Recomputation, the recomputed scores of flash attention and multi-token-prediction layers are not model FLOP.
"""

from __future__ import annotations

from functools import lru_cache

from makespan.specs.model import ModelSpec
from makespan.workload.layers import LayerKind, layer_kinds
from makespan.workload.operators import attention_flop, attention_layers, layer_gemms, scan_flop

TRAINING_OVER_FORWARD = 3
"""Forward once; backward with respect to inputs and to weights, each as many products as the forward."""


def layer_flop_per_token(model: ModelSpec, kind: LayerKind) -> float:
    """Forward FLOP of one layer of a kind: matrix products and the scan, attention scores left out. [FLOP]"""
    flop = sum(float(gemm.flop) for gemm in layer_gemms(model, kind, tokens=1.0, tp=1))
    if kind.mixer == "mamba":
        flop += float(scan_flop(model, tokens=1.0))
    return flop


def active_flop_per_token(model: ModelSpec) -> float:
    """Forward FLOP of what one token visits, head included, attention scores left out. [FLOP]

    Close to 2 x active parameters: biases, norms and the input embedding do no matrix product; scans do a little more.
    """
    body = sum(kind.count * layer_flop_per_token(model, kind) for kind in layer_kinds(model))
    return 2.0 * model.hidden * model.vocab + body


def attention_flop_per_token(model: ModelSpec, seq_len: int, *, causal: bool = True) -> float:
    """Forward FLOP of scores and weighted values, mean over the sequence, all layers. [FLOP]"""
    layer = float(attention_flop(model, sequences=1.0, seq_len=seq_len, causal=causal))
    return layer * attention_layers(model) / seq_len


@lru_cache(maxsize=256)
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
    """Training FLOP that multi-token-prediction layers add to a token: projection, their layers and the head each. [FLOP]

    References
    ----------
    DeepSeek-V3 technical report, arXiv:2412.19437, section 2.2.
    """
    if model.mtp_layers == 0:
        return 0.0
    scores = float(attention_flop(model, sequences=1.0, seq_len=seq_len, causal=True)) / seq_len
    layers = sum(
        kind.mtp * (layer_flop_per_token(model, kind) + (scores if kind.mixer == "attention" else 0.0))
        for kind in layer_kinds(model)
    )
    projection, head = 2.0 * 2 * model.hidden * model.hidden, 2.0 * model.hidden * model.vocab
    return TRAINING_OVER_FORWARD * (layers + model.mtp_layers * (projection + head))
