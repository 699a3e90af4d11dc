"""The Mamba-2 block: projections, and the kernels between them (convolution, chunked scan, gated norm).

The scan is computed in chunks of `CHUNK` tokens: products inside a chunk, a state handed from chunk to chunk. Its kernels
have narrow products and long vectors, so their time is mostly that of their bytes; both are counted.

References
----------
T. Dao, A. Gu, Transformers are SSMs, arXiv:2405.21060, section 6. Kernels counted: github.com/state-spaces/mamba,
mamba_ssm/ops/triton/ssd_combined.py (`MambaSplitConv1dScanCombinedFn`), as Megatron-LM calls it
(megatron/core/ssm/mamba_mixer.py, `_ssm_training`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from makespan.network import all_to_all_s
from makespan.rows import FloatLike, maximum, power, some, where
from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FrameworkProfile
from makespan.specs.layout import Recompute
from makespan.specs.model import MambaSpec, ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.step.attention import norm_work, spread, tensor_parallel_traffic
from makespan.step.blocks import ACTIVATION_BYTES, Block, Traffic, Work, products
from makespan.step.ranks import context_group
from makespan.workload import mamba_gemms, scan_flop
from makespan.workload.operators import IntLike
from makespan.workload.parameters import mamba_inner

CHUNK = 128
"""Tokens of a chunk: `chunk_size` of Megatron-LM's `MambaMixer` and of the published Nemotron configurations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBytes:
    """Bytes that a kernel reads and writes, per token, over the elements it works on. [B]

    channels : x, z, outputs and their gradients: heads times their width.
    states : one state a chunk: channels times state over `CHUNK`, for each token.
    maps : B, or C, or a gradient of one: groups times state.
    scores : products of B and C inside a chunk: groups times `CHUNK`.
    heads : step sizes and decays.
    """

    channels: float = 0.0
    states: float = 0.0
    maps: float = 0.0
    scores: float = 0.0
    heads: float = 0.0


FORWARD = {
    "convolution": KernelBytes(channels=4, maps=8),  # x, B, C: read, written
    "decays": KernelBytes(heads=10),  # step sizes in 16 bits; decays and steps out in 32
    "chunk states": KernelBytes(channels=2, maps=2, states=4, heads=8),  # x, B; states out in 32 bits
    "state passing": KernelBytes(states=6),  # in 32 bits, out in 16
    "scores": KernelBytes(maps=4, scores=4),  # B, C; scores out in 32 bits
    "chunk scan": KernelBytes(
        channels=8, states=2, maps=2, scores=4, heads=8
    ),  # x, z; outputs before and after the gate
    "norm": KernelBytes(channels=4),
}
"""Kernels of the forward pass and what each moves."""

BACKWARD = {
    "convolution again": KernelBytes(channels=4, maps=8),
    "decays again": KernelBytes(heads=10),
    "scores again": KernelBytes(maps=4, scores=4),
    "chunk states again": KernelBytes(channels=2, maps=2, states=4, heads=8),
    "state passing again": KernelBytes(states=8),  # in and out in 32 bits
    "norm": KernelBytes(channels=6),  # gradient, saved input; gradient out
    "gate": KernelBytes(channels=10),  # z, saved output, gradient; two gradients out
    "states": KernelBytes(channels=2, states=4, maps=2, heads=4),  # gradient, C; gradients of the states in 32 bits
    "state passing": KernelBytes(states=12),  # states and gradients in 32 bits; both out in 16
    "x": KernelBytes(channels=6, states=2, maps=2, scores=4, heads=12),
    "B": KernelBytes(channels=2, states=2, maps=6, heads=8),  # x, states, B; gradient out in 32 bits
    "C": KernelBytes(channels=2, states=2, maps=6, heads=8),
    "scores": KernelBytes(channels=4, scores=4, heads=8),
    "scores to B and C": KernelBytes(maps=16, scores=10),  # summed and rounded, then a product for each
    "decays": KernelBytes(channels=4, scores=4, heads=16),
    "convolution": KernelBytes(channels=6, maps=12),
}
"""Kernels of the backward pass. The forward's chunks are computed again: only the projection's output is saved."""

LAYOUT_BYTES = 4.0
"""Sequence-first to batch-first and back: every element read and written, where a micro-batch has several sequences."""


def _sizes(mamba: MambaSpec, tp: IntLike, cp: IntLike) -> tuple[FloatLike, FloatLike, FloatLike]:
    """Channels, groups and heads of a rank per token of its own part of the sequence.

    A context rank holds its share of the heads for all tokens; a group that is shared by several ranks is on each.
    """
    groups = maximum(mamba.groups / (tp * cp), 1.0) * cp
    return mamba_inner(mamba) / tp, groups, mamba.num_heads / tp


def _bytes_per_token(table: dict[str, KernelBytes], mamba: MambaSpec, tp: IntLike, cp: IntLike) -> FloatLike:
    channels, groups, heads = _sizes(mamba, tp, cp)
    total: FloatLike = 0.0
    for kernel in table.values():
        total = (
            total
            + kernel.channels * channels
            + kernel.states * channels * mamba.state / CHUNK
            + kernel.maps * groups * mamba.state
            + kernel.scores * groups * CHUNK
            + kernel.heads * heads
        )
    return total


def mamba_scan_bytes(
    model: ModelSpec, *, tokens: FloatLike, tp: IntLike, cp: IntLike = 1, micro_batch: IntLike = 1
) -> tuple[FloatLike, FloatLike]:
    """Bytes that the kernels between the two projections move, forward and backward, on one rank. [B]

    Parameters
    ----------
    tokens : of the rank's micro-batch after context parallelism.   micro_batch : sequences in it.

    Notes
    -----
    Every tensor is counted once for each kernel that reads or writes it. Left out: repeated reads of B and C by the
    heads of a group (the cache holds them), split sums, the reordering of tokens under context parallelism.
    """
    mamba = model.mamba
    assert mamba is not None
    channels, groups, heads = _sizes(mamba, tp, cp)
    projected = 2.0 * channels + 2.0 * groups * mamba.state + heads
    copies = where(micro_batch > 1, LAYOUT_BYTES * (projected + channels), 0.0)
    forward = tokens * (_bytes_per_token(FORWARD, mamba, tp, cp) + copies)
    backward = tokens * (_bytes_per_token(BACKWARD, mamba, tp, cp) + copies)
    return forward, backward


def mamba_chunk_flop(
    model: ModelSpec, *, tokens: FloatLike, tp: IntLike, cp: IntLike = 1
) -> tuple[FloatLike, FloatLike]:
    """FLOP of the chunked kernels, forward and backward, on one rank. [FLOP]

    Notes
    -----
    Forward: scores of a chunk (whole square), scores times x (half of it, causal), chunk states, states to outputs.
    Backward: the first and third again, the mirror images of all four (two products for each).
    """
    mamba = model.mamba
    assert mamba is not None
    channels, groups, _ = _sizes(mamba, tp, cp)
    scores = 2.0 * CHUNK * groups * mamba.state
    inside = CHUNK * channels
    states = 2.0 * channels * mamba.state
    forward = tokens * (scores + inside + 2.0 * states)
    backward = tokens * (3.0 * scores + 2.0 * inside + 5.0 * states)
    return forward, backward


def mamba_scan(
    model: ModelSpec,
    *,
    tokens: FloatLike,
    tp: IntLike,
    cp: IntLike = 1,
    micro_batch: IntLike = 1,
    accelerator: AcceleratorSpec,
    slowdown: float = 1.0,
) -> tuple[FloatLike, FloatLike]:
    """Time of convolution, chunked scan and gated norm of one layer on one rank, forward and backward. [s]

    Parameters
    ----------
    tokens : of the rank's micro-batch after context parallelism.   micro_batch : sequences in it.
    slowdown : time in training over this bound (`FrameworkProfile.scan_slowdown`). [-]

    Notes
    -----
    (memory^4 + compute^4)^(1/4), as for matrix products: bytes at the bandwidth of streaming kernels, FLOP at the
    utilisation of bf16 products. Launch gaps are the host floor's.
    """
    moved = mamba_scan_bytes(model, tokens=tokens, tp=tp, cp=cp, micro_batch=micro_batch)
    done = mamba_chunk_flop(model, tokens=tokens, tp=tp, cp=cp)
    rate = accelerator.peak_flop_per_s["bf16"] * accelerator.kernels.gemm["bf16"].flop_utilisation
    forward, backward = (
        slowdown
        * power(
            np.square(np.square(size / kernels.stream_bytes_per_s(accelerator))) + np.square(np.square(flop / rate)),
            0.25,
        )
        for size, flop in zip(moved, done, strict=True)
    )
    return forward, backward


def mamba_context_bytes(model: ModelSpec, *, tokens: FloatLike, tp: IntLike, cp: IntLike) -> FloatLike:
    """Bytes that one rank puts into the all-to-alls of a forward under context parallelism; as many in the backward. [B]

    Notes
    -----
    Before the convolution z, x, B, C and the step sizes change from a part of the tokens to a part of the heads, after
    the scan its output changes back. Groups fewer than ranks are repeated before they are sent. `tokens` are the rank's
    own. 0 where cp is 1.

    References
    ----------
    Megatron-LM, megatron/core/ssm/mamba_context_parallel.py.
    """
    mamba = model.mamba
    assert mamba is not None
    groups = maximum(mamba.groups / tp, cp)
    width = (3.0 * mamba_inner(mamba) + mamba.num_heads) / tp + 2.0 * groups * mamba.state
    return where(cp > 1, ACTIVATION_BYTES * tokens * width, 0.0)


def mamba_saved_elements(model: ModelSpec, tp: IntLike) -> FloatLike:
    """Elements that one layer keeps in 16 bits for its backward between the projections, per token of a rank. [-]

    The output of the first projection, the scan's output before the gate and after it (what the norm reads). The input
    of the first projection and of the second (`mamba_saved_operands`) are inputs of products.
    """
    mamba = model.mamba
    assert mamba is not None
    inner = mamba_inner(mamba)
    return (2.0 * inner + 2.0 * mamba.groups * mamba.state + mamba.num_heads + 2.0 * inner) / tp


def mamba_saved_operands(model: ModelSpec, tp: IntLike) -> FloatLike:
    """Elements of the second projection's input, per token of a rank; kept as the product reads them. [-]"""
    assert model.mamba is not None
    return mamba_inner(model.mamba) / tp


def mamba_block(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> Block:
    """Mamba-2 mixer of one layer for one micro-batch. Arrays of shape (keys,)."""
    accelerator = cluster.accelerator
    tokens: FloatArray = keys.micro_batch * (config.seq_len / keys.cp)
    gemms = mamba_gemms(model, tokens=tokens, tp=keys.tp)
    forward, backward = mamba_scan(
        model,
        tokens=tokens,
        tp=keys.tp,
        cp=keys.cp,
        micro_batch=keys.micro_batch,
        accelerator=accelerator,
        slowdown=profile.scan_slowdown,
    )
    flop = scan_flop(model, tokens=tokens, tp=keys.tp)
    scan = Work(
        name="scan",
        forward_s=forward,
        backward_s=backward,
        flop=flop,
        ideal_s=flop / accelerator.peak_flop_per_s["bf16"],
    )
    traffic = [tensor_parallel_traffic(model, cluster, profile, keys, tokens, precision=config.precision)]
    if some(keys.cp > 1):
        group = context_group(cluster.fabric, keys)
        sent = mamba_context_bytes(model, tokens=tokens, tp=keys.tp, cp=keys.cp)
        exchange = all_to_all_s(cluster.fabric, group, sent)
        traffic.append(Traffic(name="cp", forward_s=exchange, backward_s=exchange, exposed=1.0, module=Recompute.NONE))
    return Block(
        work=(
            *products(gemms, config, accelerator, profile, split=spread(keys)),
            norm_work(model, cluster, profile, keys, tokens),
            scan,
        ),
        traffic=tuple(traffic),
    )
