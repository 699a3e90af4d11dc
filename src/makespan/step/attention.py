"""The attention block: projections, scores, norms; tensor- and context-parallel traffic."""

from __future__ import annotations

from makespan.network import all_gather_s, all_to_all_s, members_per_tier
from makespan.rows import some, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import ContextKind, Recompute
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.step.blocks import ACTIVATION_BYTES, GATHERED_BYTES, Block, Traffic, Work, products, streamed
from makespan.step.ranks import context_group
from makespan.workload import attention_flop, attention_gemms
from makespan.workload.operators import attended_pairs, full_layer_fraction, kv_heads_held, score_dims

NORM_RESIDUAL_BYTES = 5 * ACTIVATION_BYTES
"""A block passes five times over a hidden vector: residual in and out, norm in and out, bias-dropout-add."""

CAUSAL_KERNEL_BACKWARD = 2.5
"""Products in the backward of flash attention over the forward: five against two, the scores being computed again."""

UP_PROJECTIONS = ("kv_up", "q_up")
"""Products of latent attention that `Recompute.UP_PROJECTION` repeats."""


def spread(keys: LayoutArrays) -> FloatArray:
    """Ranks that share the norms and residuals of a token: tp under sequence parallelism, else 1."""
    return where(keys.sequence_parallel > 0, keys.tp, 1)


def norm_work(
    model: ModelSpec, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays, tokens: FloatArray
) -> Work:
    """Norm and residual of one block."""
    return streamed(
        "elementwise",
        tokens * NORM_RESIDUAL_BYTES * model.hidden / spread(keys),
        cluster.accelerator,
        slowdown=profile.elementwise_slowdown,
        backward_ratio=kernels.BACKWARD_BYTES_RATIO,
        module=Recompute.NORM,
    )


def tensor_parallel_traffic(
    model: ModelSpec,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    keys: LayoutArrays,
    tokens: FloatArray,
    *,
    precision: str,
) -> Traffic:
    """Gathers and reductions around one block.

    Forward: the input is gathered, the output reduced. Backward: the gradient of the output is gathered, the input once
    more for the gradient of the weights, and the gradient of the input reduced. Under sequence parallelism operands are
    gathered as the products read them (8 or 4 bits); sums always travel in 16. Without it there are two all-reduces,
    counted as a gather and a reduction in 16 bits.
    """
    group = members_per_tier(cluster.fabric, keys.tp, 1)
    elements = tokens * model.hidden
    once = all_gather_s(cluster.fabric, group, elements * ACTIVATION_BYTES)
    gather = once
    if GATHERED_BYTES[precision] != ACTIVATION_BYTES:
        quantised = all_gather_s(cluster.fabric, group, elements * GATHERED_BYTES[precision])
        gather = where(keys.sequence_parallel > 0, quantised, once)
    again = where(keys.sequence_parallel > 0, gather, 0.0)
    return Traffic(name="tp", forward_s=gather + once, backward_s=gather + again + once, exposed=profile.tp_exposed)


def _scores(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> Work:
    """The attention kernel: mean over windowed and full layers.

    In a ring of context-parallel ranks every rank runs a kernel for each piece of keys that passes, over all its queries.
    """
    share = keys.micro_batch / (keys.tp * keys.cp)
    flop = attention_flop(model, sequences=1.0, seq_len=config.seq_len, causal=True) * share
    full = full_layer_fraction(model)
    kernel_flop = flop
    if full < 1.0 and model.window is not None and model.window < config.seq_len:
        band = attended_pairs(config.seq_len, window=model.window, causal=True)
        extra = float(kernels.windowed_pairs(float(config.seq_len), float(model.window))) - band
        kernel_flop = flop + 2.0 * (1.0 - full) * extra * model.num_heads * score_dims(model) * share
    pieces = where(keys.cp_kind == int(ContextKind.ALL_TO_ALL), 1, keys.cp)
    lag = profile.attention_lag.get(cluster.accelerator.family, 1.0)
    forward = (profile.attention_slowdown * lag) * kernels.attention_forward_s(
        kernel_flop,
        accelerator=cluster.accelerator,
        seq_len=config.seq_len / pieces,
        head_dim=score_dims(model) / 2.0,
        queries=share * config.seq_len * model.num_heads,
        steps=pieces,
    )
    return Work(
        name="attention",
        forward_s=forward,
        backward_s=profile.attention_backward_ratio * forward,
        module=Recompute.CORE_ATTENTION,
        flop=flop,
        backward_flop=CAUSAL_KERNEL_BACKWARD,
        ideal_s=flop / cluster.accelerator.peak_flop_per_s["bf16"],
    )


def _context_traffic(
    model: ModelSpec, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays, tokens: FloatArray
) -> Traffic:
    """Keys and values of the other context ranks reach this one; or queries, keys, values and outputs change places.

    Ring: the backward moves keys and values again and their gradients back. All-to-all: four exchanges either way.
    """
    group = context_group(cluster.fabric, keys)
    kept = kv_heads_held(model, keys.tp)
    width = 2.0 * kept * model.head_dim
    heads = (2.0 * model.num_heads + 2.0 * kept) * model.head_dim
    if model.mla is not None:
        width = float(model.num_heads * score_dims(model))
        heads = model.num_heads * (2.0 * score_dims(model))
    ring = all_gather_s(cluster.fabric, group, tokens * keys.cp * width / keys.tp * ACTIVATION_BYTES)
    exchange = all_to_all_s(cluster.fabric, group, tokens * heads / keys.tp * ACTIVATION_BYTES)
    swapped = keys.cp_kind == int(ContextKind.ALL_TO_ALL)
    return Traffic(
        name="cp",
        forward_s=where(swapped, exchange, ring),
        backward_s=where(swapped, exchange, 2.0 * ring),
        exposed=where(swapped, 1.0, profile.cp_exposed),
        module=Recompute.CORE_ATTENTION,
    )


def attention_block(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> Block:
    """Attention of one layer for one micro-batch. Arrays of shape (keys,)."""
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    gemms = attention_gemms(model, tokens=tokens, tp=keys.tp)
    plain = tuple(gemm for gemm in gemms if gemm.name not in UP_PROJECTIONS)
    work = list(products(plain, config, cluster.accelerator, profile, split=spread(keys)))
    if model.mla is not None:
        ups = tuple(gemm for gemm in gemms if gemm.name in UP_PROJECTIONS)
        work += products(ups, config, cluster.accelerator, profile, module=Recompute.UP_PROJECTION, split=spread(keys))
    heads = (model.num_heads + 2 * kv_heads_held(model, keys.tp)) * model.head_dim
    if model.mla is not None:
        # Keys are put together from both parts; of queries only the rotary part is touched.
        heads = model.num_heads * (model.mla.qk_nope_head_dim + 2 * model.mla.qk_rope_head_dim)
    rotary = streamed(
        "elementwise",
        tokens * 2 * ACTIVATION_BYTES * heads / keys.tp,
        cluster.accelerator,
        slowdown=profile.elementwise_slowdown,
        backward_ratio=kernels.BACKWARD_BYTES_RATIO,
        module=Recompute.NORM,
    )
    work += [rotary, norm_work(model, cluster, profile, keys, tokens), _scores(model, config, cluster, profile, keys)]
    traffic: list[Traffic] = [
        tensor_parallel_traffic(model, cluster, profile, keys, tokens, precision=config.precision)
    ]
    if some(keys.cp > 1):
        traffic.append(_context_traffic(model, cluster, profile, keys, tokens))
    return Block(work=tuple(work), traffic=tuple(traffic))
