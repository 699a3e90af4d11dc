"""One layer of each kind, and the head, for one micro-batch on one rank: kernels and the communication inside the layer.

Everything here depends on (tp, cp, ep, etp, micro-batch, recompute, sequence parallelism) only, so `evaluate` computes it
once for each distinct combination and looks it up for every layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.network import all_gather_s, all_to_all_s, members_per_tier
from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FrameworkProfile
from makespan.specs.layout import Recompute
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.workload import (
    Gemm,
    attention_flop,
    attention_gemms,
    dense_ffn_gemms,
    expert_gemms,
    head_gemm,
    router_gemm,
    side_ffn_gemms,
)
from makespan.workload.operators import attended_pairs, full_layer_fraction, score_dims

FloatLike = float | NDArray[np.floating[Any]]

ACTIVATION_BYTES = 2.0
"""Activations travel and rest in 16 bits."""

NORM_RESIDUAL_BYTES = 2 * 5 * 2.0
"""Two blocks a layer, each five passes over a hidden vector (residual in and out, norm in and out, bias-dropout-add)."""

LOGIT_BYTES = 18.0
"""Softmax, loss and gradient over one logit: 16-bit in, 32-bit exponentials written and read twice, 16-bit out."""

TP_PASSES_BACKWARD = 1.5
"""Backward tensor-parallel traffic over forward: the mirror image, and the gathered input once more for the weights."""

HOST_NORM = 5.0
"""Power of the blend between the accelerator's time and the host's launch time of a layer."""

CAUSAL_KERNEL_BACKWARD = 2.5
"""Products in the backward of flash attention over the forward: five against two, the scores being computed again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTimes:
    """Seconds of one layer (or the head) for one micro-batch, forward and backward; arrays of shape (keys,).

    compute : by operator, host floor included; adds up to `compute_s`.
    exposed, hidden : communication by kind, split by overlap.
    ideal_s : FLOP of the layer at peak rate.   executed_flop : of one rank, recompute and flash backward included. [FLOP]
    """

    compute: dict[str, FloatArray]
    exposed: dict[str, FloatArray]
    hidden: dict[str, FloatArray]
    compute_s: FloatArray
    exposed_s: FloatArray
    hidden_s: FloatArray
    ideal_s: FloatArray
    executed_flop: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Forward and backward seconds."""

    forward: FloatLike
    backward: FloatLike


def _gemms(
    gemms: tuple[Gemm, ...],
    config: StepConfig,
    accelerator: AcceleratorSpec,
    profile: FrameworkProfile,
) -> tuple[Pass, Pass, FloatLike, FloatLike]:
    """Products and their casts; forward FLOP; forward FLOP over their own peaks. Seconds in training."""
    arithmetic = kernels.ARITHMETIC[config.precision]
    forward: FloatLike = 0.0
    backward: FloatLike = 0.0
    cast_forward: FloatLike = 0.0
    cast_backward: FloatLike = 0.0
    flop: FloatLike = 0.0
    ideal: FloatLike = 0.0
    for gemm in gemms:
        one, two = kernels.gemm_passes_s(gemm, accelerator=accelerator, arithmetic=arithmetic)
        slow = profile.gemm_slowdown * (profile.moe_slowdown if gemm.grouped else 1.0)
        forward, backward = forward + slow * one, backward + slow * two
        cast_one, cast_two = kernels.cast_passes_s(
            gemm, accelerator=accelerator, precision=config.precision, profile=profile
        )
        cast_forward, cast_backward = cast_forward + cast_one, cast_backward + cast_two
        flop = flop + gemm.flop
        ideal = ideal + gemm.flop / accelerator.peak_flop_per_s[arithmetic if gemm.quantised else "bf16"]
    return (
        Pass(forward=forward, backward=backward),
        Pass(forward=cast_forward, backward=cast_backward),
        flop,
        ideal,
    )


def _attention(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> tuple[Pass, FloatLike]:
    """Attention core of a layer, mean over windowed and full layers; and its causal forward FLOP."""
    share = keys.micro_batch / (keys.tp * keys.cp)
    flop = attention_flop(model, sequences=1.0, seq_len=config.seq_len, causal=True) * share
    full = full_layer_fraction(model)
    kernel_flop = flop
    if full < 1.0 and model.window is not None and model.window < config.seq_len:
        band = attended_pairs(config.seq_len, window=model.window, causal=True)
        extra = min(kernels.WINDOW_KERNEL_RATIO * band, attended_pairs(config.seq_len, window=None, causal=True)) - band
        kernel_flop = flop + 2.0 * (1.0 - full) * extra * model.num_heads * score_dims(model) * share
    forward = profile.attention_slowdown * kernels.attention_forward_s(
        kernel_flop,
        accelerator=cluster.accelerator,
        seq_len=config.seq_len / keys.cp,
        head_dim=score_dims(model) / 2.0,
    )
    return Pass(forward=forward, backward=profile.attention_backward_ratio * forward), flop


def _elementwise_bytes(model: ModelSpec, keys: LayoutArrays, tokens: FloatArray, *, moe_layer: bool) -> FloatArray:
    """Forward traffic of norms, residuals, rotary embeddings and activations of a layer. [B]"""
    spread = np.where(keys.sequence_parallel > 0, keys.tp, 1)
    qkv = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    if model.mla is not None:
        # Keys are put together from both parts; of queries only the rotary part is touched.
        qkv = model.num_heads * (model.mla.qk_nope_head_dim + 2 * model.mla.qk_rope_head_dim)
    passes = (3.0 if model.gated else 2.0) * ACTIVATION_BYTES
    per_token = NORM_RESIDUAL_BYTES * model.hidden / spread + 2 * ACTIVATION_BYTES * qkv / keys.tp
    if not moe_layer:
        per_token = per_token + passes * model.ffn_hidden / keys.tp
    elif model.moe is not None:
        per_token = per_token + passes * (model.moe.shared_ffn + model.moe.dense_residual_ffn) / keys.tp
    return np.asarray(tokens * per_token)


UNFUSED_PASSES = 20.0
"""Passes over the inner width when bias, clamp, sigmoid and products run as kernels of their own: 4 for adding the bias to
gate and up, about 16 for seven kernels that read one or two operands and write one. Counted, not measured."""


def _permute_bytes(model: ModelSpec, keys: LayoutArrays, tokens: FloatArray) -> FloatArray:
    """Forward traffic of permute, unpermute and expert activations of a layer. [B]

    Each routed copy of a token is read and written three times over its hidden vector, and its activation is read
    (gate and up) and written. Experts with biases get no fused activation: see `UNFUSED_PASSES`
    (sinks mark the same family where a source leaves the biases out).
    """
    assert model.moe is not None
    routed = tokens / keys.tp * model.moe.top_k
    passes = 3.0 if model.gated else 2.0
    biases = 0.0
    if model.mlp_bias or model.attention_sinks:
        biases = UNFUSED_PASSES * model.moe.expert_ffn + 2.0 * model.hidden
    return np.asarray(routed * ACTIVATION_BYTES * (6.0 * model.hidden + passes * model.moe.expert_ffn + biases))


PERMUTE_BACKWARD_RATIO = 2.2
"""Backward over forward traffic of permuting: gradients of tokens and of routing weights."""


def _tensor_parallel_s(
    model: ModelSpec, cluster: ClusterSpec, keys: LayoutArrays, tokens: FloatArray, blocks: FloatLike
) -> FloatArray:
    """Forward all-gathers and reduce-scatters (or all-reduces: the same traffic) of `blocks` blocks. [s]"""
    group = members_per_tier(cluster.fabric, keys.tp, 1)
    once = all_gather_s(cluster.fabric, group, tokens * model.hidden * ACTIVATION_BYTES)
    return np.asarray(blocks * 2.0 * once)


def _context_parallel_s(model: ModelSpec, cluster: ClusterSpec, keys: LayoutArrays, tokens: FloatArray) -> FloatArray:
    """Forward: keys and values of the other context ranks reach this one. [s]"""
    group = members_per_tier(cluster.fabric, keys.cp, keys.tp)
    width = 2.0 * model.num_kv_heads * model.head_dim
    if model.mla is not None:
        width = float(model.num_heads * score_dims(model))
    gathered = tokens * keys.cp * width / keys.tp * ACTIVATION_BYTES
    return np.asarray(all_gather_s(cluster.fabric, group, gathered))


def _expert_parallel_s(model: ModelSpec, cluster: ClusterSpec, keys: LayoutArrays, tokens: FloatArray) -> FloatArray:
    """Forward dispatch and combine, and the expert-tensor gather of tokens. [s]"""
    assert model.moe is not None
    sent = tokens / keys.tp * model.moe.top_k * model.hidden * ACTIVATION_BYTES
    group = members_per_tier(cluster.fabric, keys.ep, keys.etp)
    exchange = 2.0 * all_to_all_s(cluster.fabric, group, sent, copies_per_token=float(model.moe.top_k))
    inner = members_per_tier(cluster.fabric, keys.etp, 1)
    gather = 2.0 * all_gather_s(cluster.fabric, inner, sent * keys.etp)
    return np.asarray(exchange + gather)


def _assemble(
    compute: dict[str, FloatLike],
    comm: dict[str, FloatLike],
    shares: dict[str, float],
    *,
    host_s: FloatLike,
    ideal_s: FloatLike,
    executed_flop: FloatLike,
    shape: tuple[int, ...],
) -> LayerTimes:
    """Split communication into exposed and hidden, add the host floor.

    Of each kind a share is always exposed; the rest hides behind the layer's kernels as far as they last.
    """
    wide = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), shape) for name, value in compute.items()}
    kernels_s = np.asarray(sum(wide.values()))
    traffic = {name: np.broadcast_to(np.asarray(v, dtype=np.float64), shape) for name, v in comm.items()}
    hideable = {name: (1.0 - shares[name]) * value for name, value in traffic.items()}
    wanted = np.asarray(sum(hideable.values(), start=np.zeros(shape)))
    reach = np.minimum(1.0, kernels_s / np.maximum(wanted, 1e-30))
    hidden = {name: value * reach for name, value in hideable.items()}
    exposed = {name: traffic[name] - hidden[name] for name in traffic}
    exposed_s = np.asarray(sum(exposed.values(), start=np.zeros(shape)))
    busy = kernels_s + exposed_s
    floor = np.broadcast_to(np.asarray(host_s, dtype=np.float64), shape)
    peak = np.maximum(busy, floor)
    blended = peak * ((busy / peak) ** HOST_NORM + (floor / peak) ** HOST_NORM) ** (1.0 / HOST_NORM)
    wide["host"] = blended - busy
    return LayerTimes(
        compute=wide,
        exposed=exposed,
        hidden=hidden,
        compute_s=kernels_s + wide["host"],
        exposed_s=exposed_s,
        hidden_s=np.asarray(sum(hidden.values(), start=np.zeros(shape))),
        ideal_s=np.broadcast_to(np.asarray(ideal_s, dtype=np.float64), shape),
        executed_flop=np.broadcast_to(np.asarray(executed_flop, dtype=np.float64), shape),
    )


def layer_times(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    keys: LayoutArrays,
    *,
    moe_layer: bool,
) -> LayerTimes:
    """One transformer layer, dense or mixture. Arrays of shape (keys,)."""
    accelerator = cluster.accelerator
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    stream = kernels.stream_bytes_per_s(accelerator)

    gemms = attention_gemms(model, tokens=tokens, tp=keys.tp)
    experts: tuple[Gemm, ...] = ()
    if moe_layer:
        gemms += (router_gemm(model, tokens=tokens / keys.tp), *side_ffn_gemms(model, tokens=tokens, tp=keys.tp))
        experts = expert_gemms(model, tokens=tokens, tp=keys.tp, ep=keys.ep, etp=keys.etp)
    else:
        gemms += dense_ffn_gemms(model, tokens=tokens, tp=keys.tp)

    products, casts, flop, ideal = _gemms(gemms, config, accelerator, profile)
    grouped, expert_casts, expert_flop, expert_ideal = _gemms(experts, config, accelerator, profile)
    attention, score_flop = _attention(model, config, cluster, profile, keys)
    streamed = _elementwise_bytes(model, keys, tokens, moe_layer=moe_layer) * profile.elementwise_slowdown / stream
    moved: FloatLike = 0.0
    if moe_layer:
        moved = _permute_bytes(model, keys, tokens) * profile.elementwise_slowdown / stream

    side = model.moe is not None and (model.moe.shared_ffn + model.moe.dense_residual_ffn) > 0
    blocks = 2.0 if not moe_layer or side else 1.0
    tp_s = _tensor_parallel_s(model, cluster, keys, tokens, blocks)
    cp_s = _context_parallel_s(model, cluster, keys, tokens)
    ep_s: FloatLike = _expert_parallel_s(model, cluster, keys, tokens) if moe_layer else 0.0

    full = keys.recompute >= int(Recompute.FULL)
    selective = keys.recompute == int(Recompute.SELECTIVE)
    forward_s = products.forward + casts.forward + grouped.forward + expert_casts.forward + streamed + moved
    again = full * (forward_s + attention.forward) + selective * (streamed + casts.forward + expert_casts.forward)
    again_flop = full * (flop + expert_flop + score_flop)

    peak = accelerator.peak_flop_per_s["bf16"]
    experts_local = model.moe.num_experts / keys.ep if moe_layer and model.moe is not None else 0.0
    return _assemble(
        {
            "gemm": products.forward + products.backward,
            "attention": attention.forward + attention.backward,
            "elementwise": streamed * (1.0 + kernels.BACKWARD_BYTES_RATIO),
            "casts": casts.forward + casts.backward + expert_casts.forward + expert_casts.backward,
            "experts": grouped.forward + grouped.backward,
            "permute": moved * (1.0 + PERMUTE_BACKWARD_RATIO),
            "recompute": again,
        },
        {
            "tp": tp_s * (1.0 + TP_PASSES_BACKWARD + full),
            "cp": cp_s * (3.0 + full),
            "ep": ep_s * (2.0 + full),
        },
        {"tp": profile.tp_exposed, "cp": profile.cp_exposed, "ep": profile.ep_exposed},
        host_s=profile.host_overhead_s + profile.host_overhead_per_expert_s * experts_local,
        ideal_s=(3.0 + full) * (ideal + expert_ideal) + (3.0 + full) * score_flop / peak,
        executed_flop=3.0 * (flop + expert_flop) + (1.0 + CAUSAL_KERNEL_BACKWARD) * score_flop + again_flop,
        shape=tokens.shape,
    )


def head_times(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> LayerTimes:
    """Logits, loss and their backward for one micro-batch, on the last stage. Arrays of shape (keys,)."""
    accelerator = cluster.accelerator
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    head = head_gemm(model, tokens=tokens, tp=keys.tp)
    products, _, flop, ideal = _gemms((head,), config, accelerator, profile)
    loss = LOGIT_BYTES * tokens * model.vocab / keys.tp / kernels.stream_bytes_per_s(accelerator)
    gather = _tensor_parallel_s(model, cluster, keys, tokens, 0.5) * 2.0
    return _assemble(
        {"head": products.forward + products.backward + loss},
        {"tp": gather},
        {"tp": profile.tp_exposed},
        host_s=1e-30,
        ideal_s=3.0 * ideal,
        executed_flop=3.0 * flop,
        shape=tokens.shape,
    )
