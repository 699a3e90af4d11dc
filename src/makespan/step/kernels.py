"""Times of single kernels from their shapes: rooflines with utilisations fitted to measured kernels.

Isolated kernels first (the accelerator's `KernelSpec`), then what training does to them (the `FrameworkProfile`).
"""

from __future__ import annotations

import numpy as np

from makespan.rows import FloatLike, minimum
from makespan.specs.hardware import AcceleratorSpec, AttentionEfficiency, FrameworkProfile
from makespan.workload import Gemm

ARITHMETIC = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4"}
"""Precision of a step -> arithmetic of its big products (keys of `KernelSpec.gemm` and `peak_flop_per_s`)."""

INPUT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}
"""Bytes of an element as the product reads it; four bits plus one 8-bit scale for 16 elements under NVFP4."""

CAST_PASSES = {"bf16": 0.0, "fp16": 0.0, "fp8": 1.0, "mxfp8": 2.0, "nvfp4": 1.6}
"""Casts in units of `CAST_BYTES`. MXFP8 scales blocks along rows and along columns, so the two copies are two casts from
16 bits, and the scales are re-ordered; NVFP4 transforms its inputs and keeps two levels of scales."""

CAST_BYTES = 4.0
"""To quantise an element: read 2 bytes, write 1 byte for the product and 1 for the transposed one of the backward."""

OUTPUT_BYTES = 2.0
"""Outputs and gradients of inputs are written in 16 bits."""

MAIN_GRADIENT_BYTES = 8.0
"""The weight-gradient product adds into a 4-byte accumulator: read and write."""

BACKWARD_BYTES_RATIO = 1.7
"""Traffic of elementwise kernels in the backward over the forward: gradients in and out, saved inputs read again."""


TILE_ROWS, TILE_COLUMNS = 128, 256
"""Tile of the output that one multiprocessor computes: the largest that its registers hold in 32-bit sums."""

LARGEST_WAVE_LOSS = 2.0
"""Whole waves cost at most this times the even share: below half a wave a library halves its tiles or cuts k."""

QUERY_BLOCK = 128
"""Queries, and keys, of one tile of flash attention."""


def _fourth_power_mean(compute_s: FloatLike, memory_s: FloatLike) -> FloatLike:
    compute, memory = compute_s * compute_s, memory_s * memory_s
    mean: FloatLike = np.sqrt(np.sqrt(compute * compute + memory * memory))
    return mean


def whole_waves(m: FloatLike, n: FloatLike, copies: FloatLike, multiprocessors: int) -> FloatLike:
    """Elements of the output if every wave of tiles were full, at most `LARGEST_WAVE_LOSS` times the real ones. [-]

    Never falls when m or n grows.

    Examples
    --------
    One tile more than fit at once on 132 multiprocessors takes two waves.

    >>> float(whole_waves(133 * 128.0, 256.0, 1.0, 132)) / (128 * 256)
    264.0
    >>> float(whole_waves(128.0, 256.0, 1.0, 132)) / (128 * 256)
    2.0
    """
    tiles = copies * np.ceil(m / TILE_ROWS) * np.ceil(n / TILE_COLUMNS)
    full = np.ceil(tiles / multiprocessors) * float(multiprocessors * TILE_ROWS * TILE_COLUMNS)
    return minimum(full, LARGEST_WAVE_LOSS * copies * m * n)


def isolated_gemm_s(
    m: FloatLike,
    n: FloatLike,
    k: FloatLike,
    *,
    accelerator: AcceleratorSpec,
    arithmetic: str,
    copies: FloatLike = 1.0,
    output_bytes: FloatLike = 2.0,
    grouped: bool = False,
    rows: FloatLike | None = None,
    uneven: bool = False,
) -> FloatLike:
    """Time of one (grouped) matrix product running alone. [s]

    Parameters
    ----------
    m, n, k : sizes; broadcast.   copies : equal products in one grouped kernel.
    arithmetic : key of `KernelSpec.gemm`.   output_bytes : traffic per element of the result.
    grouped : a kernel over experts; few rows of an expert cost (`half_m`).   rows : of one expert; None for m.
    uneven : experts get uneven shares of the tokens (`KernelSpec.uneven_experts`).

    Notes
    -----
    overhead + (compute^4 + memory^4)^(1/4); the fourth power blends the two roofs without a corner. The share
    `wave_weight` of the compute comes in whole waves of tiles; libraries hide the rest by split-k and many tile shapes.
    Left out: clocks that fall under long load, alignment of odd sizes, the data itself.
    """
    kernels = accelerator.kernels
    efficiency = kernels.gemm[arithmetic]
    peak = accelerator.peak_flop_per_s[arithmetic] * efficiency.flop_utilisation
    outputs = copies * m * n
    work = outputs
    if efficiency.wave_weight and kernels.multiprocessors:
        waves = whole_waves(m, n, copies, kernels.multiprocessors)
        work = outputs + efficiency.wave_weight * (waves - outputs)
    if grouped:
        # On the real outputs, not on whole waves: within a wave more rows of an expert must not make it faster.
        work = work + outputs * (efficiency.half_m / (m if rows is None else rows))
        if uneven:
            work = work * kernels.uneven_experts
    # 2mnk/peak * (1 + half_k/k), with fewer operations on arrays
    compute = work * ((2.0 / peak) * (k + efficiency.half_k))
    traffic = (copies * INPUT_BYTES[arithmetic]) * k * (m + n) + output_bytes * outputs
    memory = traffic / (accelerator.hbm_bytes_per_s * efficiency.hbm_utilisation)
    return efficiency.overhead_s + _fourth_power_mean(compute, memory)


def gemm_passes_s(
    gemm: Gemm, *, accelerator: AcceleratorSpec, arithmetic: str, uneven: bool = False
) -> tuple[FloatLike, FloatLike]:
    """Isolated forward, and backward (inputs and weights), of one operator. [s]

    uneven : experts get uneven shares of the tokens (`KernelSpec.uneven_experts`); the busiest rank's larger share of
        them is the caller's to put into `gemm.m`.
    """
    used = arithmetic if gemm.quantised else "bf16"

    def product_s(m: FloatLike, n: FloatLike, k: FloatLike, output_bytes: float) -> FloatLike:
        # The rows of one expert set the pace of the arithmetic in every pass, whichever role they play.
        return isolated_gemm_s(
            m,
            n,
            k,
            accelerator=accelerator,
            arithmetic=used,
            copies=gemm.copies,
            output_bytes=output_bytes,
            grouped=gemm.grouped,
            rows=gemm.m,
            uneven=uneven,
        )

    m, n, k = gemm.m, gemm.n, gemm.k
    forward = product_s(m, n, k, OUTPUT_BYTES)
    return forward, product_s(m, k, n, OUTPUT_BYTES) + product_s(n, k, m, MAIN_GRADIENT_BYTES)


def cast_passes_s(
    gemm: Gemm, *, accelerator: AcceleratorSpec, precision: str, profile: FrameworkProfile
) -> tuple[FloatLike, FloatLike]:
    """Quantising an operator's input (forward) and its output's gradient (backward). [s]

    Weights are quantised once a step and left out.
    """
    if not gemm.quantised or CAST_PASSES[precision] == 0.0:
        return 0.0, 0.0
    per_element = CAST_BYTES * CAST_PASSES[precision] * profile.cast_slowdown / stream_bytes_per_s(accelerator)
    rows = gemm.copies * gemm.m
    return per_element * rows * gemm.k, per_element * rows * gemm.n


def stream_bytes_per_s(accelerator: AcceleratorSpec) -> float:
    """Memory bandwidth that streaming kernels reach. [B/s]"""
    return accelerator.hbm_bytes_per_s * accelerator.kernels.elementwise_hbm_utilisation


WINDOW_KERNEL_RATIO = 1.5
"""FLOP of a windowed kernel over the band's, where the start of every query is not counted (no `queries`)."""


def windowed_pairs(seq_len: FloatLike, window: FloatLike) -> FloatLike:
    """Query-key pairs a kernel computes for one sequence and head under a causal window. [-]

    A block of 128 queries reads whole tiles of 128 keys along the band: one tile more than the window, and at most the
    causal triangle.

    Examples
    --------
    >>> float(windowed_pairs(8192.0, 128.0)) / (8192 * 128)
    1.96875
    """
    reach = minimum(window + QUERY_BLOCK, seq_len)
    return reach * seq_len - 0.5 * reach * reach


def attention_forward_s(
    flop: FloatLike,
    *,
    accelerator: AcceleratorSpec,
    seq_len: FloatLike,
    head_dim: float,
    queries: FloatLike | None = None,
    steps: FloatLike = 1.0,
) -> FloatLike:
    """Isolated forward flash attention from the FLOP of its query-key pairs. [s]

    Parameters
    ----------
    flop : 4 * head_dim * (pairs computed) of all heads on this rank: causal halves them, see `windowed_pairs`.
    seq_len : of the piece one kernel sees (after context parallelism). Used when `queries` is None.
    queries : query vectors over all heads and sequences of this rank. Then every query pays `half_seq` once a step,
        whatever its window, and few blocks pay for waves that are not full (`half_waves`).
    steps : kernels that run one after another over the same queries, as the ring of context parallelism does. [-]

    Notes
    -----
    Left out: the number of key heads (its effect in the measured kernels is the writing of a cache, which training does
    not do), and differences between libraries.
    """
    efficiency = accelerator.kernels.attention
    rate = accelerator.peak_flop_per_s["bf16"] * efficiency.flop_utilisation
    factor = head_factor(efficiency, head_dim) / rate
    if queries is None:
        return factor * flop * (1.0 + efficiency.half_seq / seq_len)
    starts = (2.0 * head_dim * efficiency.half_seq) * steps * queries
    fill = efficiency.half_waves * accelerator.kernels.multiprocessors * QUERY_BLOCK
    return factor * (flop + starts) * (1.0 + fill / queries)


def head_factor(efficiency: AttentionEfficiency, head_dim: float) -> float:
    """Time of a FLOP in heads of this size over heads of 128. [-]"""
    if efficiency.softmax_head_dim:
        squared = (efficiency.softmax_head_dim / head_dim) ** 2, (efficiency.softmax_head_dim / 128.0) ** 2
        return float(((1.0 + squared[0] ** 2) / (1.0 + squared[1] ** 2)) ** 0.25)
    return (1.0 + efficiency.half_head_dim / head_dim) / (1.0 + efficiency.half_head_dim / 128.0)
