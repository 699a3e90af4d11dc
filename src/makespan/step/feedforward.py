"""Feed-forward blocks: dense, and mixtures of experts with dispatch and combine."""

from __future__ import annotations

from dataclasses import replace

from makespan.network import GroupPlacement, all_gather_s, all_to_all_s
from makespan.rows import FloatLike, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Recompute, Schedule
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.step.attention import norm_work, spread, tensor_parallel_traffic
from makespan.step.blocks import (
    ACTIVATION_BYTES,
    Block,
    Traffic,
    Work,
    has_fused_experts,
    launch_share,
    products,
    streamed,
)
from makespan.step.ranks import group_of_stage
from makespan.workload import dense_ffn_gemms, expert_gemms, latent_gemms, router_gemm, side_ffn_gemms
from makespan.workload.parameters import routed_width

UNFUSED_PASSES = 20.0
"""Passes over the inner width, in 16 bits, when bias, clamp, sigmoid and products run as kernels of their own: 4 for adding
the bias to gate and up, about 16 for seven kernels that read one or two operands and write one. Counted; software that
runs the chain in 32 bits takes twice that (`FrameworkProfile.expert_bias_slowdown`)."""

PERMUTE_PASSES = 6.0
"""Passes over the vector of a routed copy: permuted before the dispatch, sorted by expert after it, and back: three times
read and written in the forward."""

PERMUTE_BACKWARD_RATIO = 2.2
"""Backward over forward traffic of permuting: gradients of tokens and of routing weights."""


def _activation(
    model: ModelSpec,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    keys: LayoutArrays,
    tokens: FloatArray,
    width: int,
) -> Work:
    """The activation function over `width`: read gate and up, write their product."""
    passes = (3.0 if model.gated else 2.0) * ACTIVATION_BYTES
    return streamed(
        "elementwise",
        tokens * passes * width / keys.tp,
        cluster.accelerator,
        slowdown=profile.elementwise_slowdown,
        backward_ratio=kernels.BACKWARD_BYTES_RATIO,
        module=Recompute.ACTIVATION | Recompute.MLP,
    )


def dense_block(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> Block:
    """Dense feed-forward of one layer for one micro-batch. Arrays of shape (keys,)."""
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    gemms = dense_ffn_gemms(model, tokens=tokens, tp=keys.tp)
    return Block(
        work=(
            *products(gemms, config, cluster.accelerator, profile, module=Recompute.MLP, split=spread(keys)),
            norm_work(model, cluster, profile, keys, tokens),
            _activation(model, cluster, profile, keys, tokens, model.ffn_hidden),
        ),
        traffic=(tensor_parallel_traffic(model, cluster, profile, keys, tokens, precision=config.precision),),
    )


def _expert_streams(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> tuple[Work, Work]:
    """Permute and unpermute; activation of the routed experts.

    Each routed copy of a token is read and written three times over its vector, and its activation is read (gate and up)
    and written. Experts with biases get no fused activation: see `UNFUSED_PASSES` (sinks mark the same family where a
    source leaves the biases out).
    """
    assert model.moe is not None
    routed = _routed_copies(model, config, keys) * ACTIVATION_BYTES
    passes = 3.0 if model.gated else 2.0
    biases = 0.0
    if has_fused_experts(profile, config.precision):
        passes = 0.0
    elif model.mlp_bias or model.attention_sinks:
        biases = profile.expert_bias_slowdown * (UNFUSED_PASSES * model.moe.expert_ffn + 2.0 * model.hidden)

    def stream(name: str, width: float, module: Recompute, slowdown: float) -> Work:
        return streamed(
            name,
            routed * width,
            cluster.accelerator,
            slowdown=profile.elementwise_slowdown * slowdown,
            backward_ratio=PERMUTE_BACKWARD_RATIO,
            module=module,
        )

    inner = passes * model.moe.expert_ffn + biases
    return (
        stream("permute", PERMUTE_PASSES * routed_width(model), Recompute.EXPERTS, profile.permute_slowdown),
        stream("expert_elementwise", inner, Recompute.ACTIVATION | Recompute.EXPERTS, 1.0),
    )


def _routing(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> tuple[Work, Work]:
    """What decides where tokens go, and what starting the products of each expert takes on the accelerator.

    The table of the expert group has a byte for each of its tokens and each expert; every rank gathers and counts it once,
    in the forward pass.
    """
    assert model.moe is not None
    experts = float(model.moe.num_experts)
    tokens = keys.micro_batch * (config.seq_len / keys.cp) / keys.tp
    table = tokens * keys.ep * experts
    counting = profile.routing_map_passes * table / kernels.stream_bytes_per_s(cluster.accelerator)
    sorting = 0.5 * profile.router_overhead_s
    launch = profile.expert_overhead_s * launch_share(profile, config.precision)
    starts = 0.0 if has_fused_experts(profile, config.precision) else launch * experts / keys.ep
    return (
        Work(name="router", forward_s=sorting + counting, backward_s=sorting, module=Recompute.EXPERTS),
        Work(name="experts", forward_s=starts / 3.0, backward_s=starts * 2.0 / 3.0, module=Recompute.EXPERTS),
    )


def _routed_copies(model: ModelSpec, config: StepConfig, keys: LayoutArrays) -> FloatArray:
    """Copies of tokens that the busiest rank sends to experts, and that its experts get, for one micro-batch. [-]"""
    assert model.moe is not None
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    return tokens / keys.tp * (model.moe.top_k * config.load_imbalance)


def _expert_traffic(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> tuple[Traffic, Traffic]:
    """Dispatch and combine inside the scale-up domain, with the expert-tensor gather of tokens; and beyond it.

    The backward is the mirror image. The busiest rank sets the pace.
    """
    assert model.moe is not None
    sent = _routed_copies(model, config, keys) * routed_width(model) * ACTIVATION_BYTES
    fabric = cluster.fabric
    group = group_of_stage(fabric, keys, keys.ep, keys.etp)
    copies = float(model.moe.top_k)
    everywhere = 2.0 * all_to_all_s(fabric, group, sent, copies_per_token=copies)
    domain = replace(fabric, tiers=fabric.tiers[:1])
    near = GroupPlacement(size=group.size, members=group.members[:1])
    inside = 2.0 * all_to_all_s(domain, near, sent, copies_per_token=copies)
    gather = 2.0 * all_gather_s(fabric, group_of_stage(fabric, keys, keys.etp, 1), sent * keys.etp)
    overlapped = (keys.ep_overlap > 0) | (keys.schedule == int(Schedule.DUALPIPE))
    shows = where(overlapped, profile.ep_exposed_overlapped, 1.0)

    def traffic(seconds: FloatLike, exposed: float) -> Traffic:
        return Traffic(
            name="ep", forward_s=seconds, backward_s=seconds, exposed=exposed * shows, module=Recompute.EXPERTS
        )

    return (
        traffic(inside + gather, profile.ep_exposed),
        traffic(everywhere - inside, profile.ep_exposed_scale_out),
    )


def moe_block(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> Block:
    """Router, experts and what every token visits beside them, for one micro-batch. Arrays of shape (keys,)."""
    assert model.moe is not None
    accelerator = cluster.accelerator
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    router = router_gemm(model, tokens=tokens / keys.tp)
    work = [
        *products((router,), config, accelerator, profile),
        *_routing(model, config, cluster, profile, keys),
        norm_work(model, cluster, profile, keys, tokens),
        *_expert_streams(model, config, cluster, profile, keys),
    ]
    experts = expert_gemms(model, tokens=tokens, tp=keys.tp, ep=keys.ep, etp=keys.etp)
    work += products(
        experts,
        config,
        accelerator,
        profile,
        name="experts",
        module=Recompute.EXPERTS,
        load_imbalance=config.load_imbalance,
    )
    if model.moe.latent:
        work += products(latent_gemms(model, tokens=tokens, tp=keys.tp), config, accelerator, profile)
    side = side_ffn_gemms(model, tokens=tokens, tp=keys.tp)
    traffic = list(_expert_traffic(model, config, cluster, profile, keys))
    if side:
        work += products(side, config, accelerator, profile, module=Recompute.MLP, split=spread(keys))
        width = model.moe.shared_ffn + model.moe.dense_residual_ffn
        work.append(_activation(model, cluster, profile, keys, tokens, width))
        traffic.append(tensor_parallel_traffic(model, cluster, profile, keys, tokens, precision=config.precision))
    return Block(work=tuple(work), traffic=tuple(traffic), num_experts=model.moe.num_experts / keys.ep)
