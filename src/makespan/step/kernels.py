"""Times of single kernels from their FLOP and bytes: rooflines with stated utilisations.

Isolated kernels first (the accelerator's `KernelSpec`), then what training does to them (the `FrameworkProfile`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import AcceleratorSpec, FrameworkProfile
from makespan.workload import Gemm

FloatArray = NDArray[np.floating[Any]]
FloatLike = float | FloatArray

ARITHMETIC = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4"}
"""Precision of a step -> arithmetic of its big products (keys of `KernelSpec.gemm` and `peak_flop_per_s`)."""

INPUT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}
"""Bytes of an element as the product reads it; four bits plus one 8-bit scale for 16 elements under NVFP4."""

CAST_PASSES = {"bf16": 0.0, "fp16": 0.0, "fp8": 1.0, "mxfp8": 2.0, "nvfp4": 1.6}
"""Casts in units of `CAST_BYTES`. MXFP8 scales blocks along rows and along columns, so the two copies are two casts from
16 bits, and the scales are re-ordered; NVFP4 transforms its inputs and keeps two levels of scales."""

CAST_BYTES = 4.0
"""To quantise an element: read 2 bytes, write 1 byte for the product and 1 for the transposed one of the backward."""

MAIN_GRADIENT_BYTES = 8.0
"""The weight-gradient product adds into a 4-byte accumulator: read and write."""

BACKWARD_BYTES_RATIO = 1.7
"""Traffic of elementwise kernels in the backward over the forward: gradients in and out, saved inputs read again."""


def _fourth_power_mean(compute_s: FloatLike, memory_s: FloatLike) -> FloatLike:
    squared = compute_s * compute_s, memory_s * memory_s
    return np.asarray(np.sqrt(np.sqrt(squared[0] * squared[0] + squared[1] * squared[1])))


def isolated_gemm_s(
    m: FloatLike,
    n: FloatLike,
    k: FloatLike,
    *,
    accelerator: AcceleratorSpec,
    arithmetic: str,
    copies: FloatLike = 1.0,
    output_bytes: float = 2.0,
    grouped: bool = False,
) -> FloatLike:
    """Time of one (grouped) matrix product running alone. [s]

    Parameters
    ----------
    m, n, k : sizes; broadcast.   copies : equal products in one grouped kernel.
    arithmetic : key of `KernelSpec.gemm`.   output_bytes : traffic per element of the result.

    Notes
    -----
    overhead + (compute^4 + memory^4)^(1/4); the fourth power blends the two roofs without a corner. Wave and tile
    quantisation are left out: libraries hide them by split-k and many tile shapes.
    """
    efficiency = accelerator.kernels.gemm[arithmetic]
    peak = accelerator.peak_flop_per_s[arithmetic] * efficiency.flop_utilisation
    compute = 2.0 * copies * m * n * k / peak * (1.0 + efficiency.half_k / k)
    if grouped:
        compute = compute * (1.0 + efficiency.half_m / m)
    traffic = copies * (INPUT_BYTES[arithmetic] * k * (m + n) + output_bytes * m * n)
    memory = traffic / (accelerator.hbm_bytes_per_s * efficiency.hbm_utilisation)
    return efficiency.overhead_s + _fourth_power_mean(compute, memory)


def gemm_passes_s(gemm: Gemm, *, accelerator: AcceleratorSpec, arithmetic: str) -> tuple[FloatLike, FloatLike]:
    """Isolated forward, and backward (inputs and weights), of one operator. [s]"""
    used = arithmetic if gemm.quantised else "bf16"

    def one(m: FloatLike, n: FloatLike, k: FloatLike, output_bytes: float = 2.0) -> FloatLike:
        # Under grouped products the rows of one expert set the pace in every pass, whichever role they play.
        time = isolated_gemm_s(
            m, n, k, accelerator=accelerator, arithmetic=used, copies=gemm.copies, output_bytes=output_bytes
        )
        if gemm.grouped:
            time = time * (1.0 + accelerator.kernels.gemm[used].half_m / gemm.m)
        return time

    forward = one(gemm.m, gemm.n, gemm.k)
    backward = one(gemm.m, gemm.k, gemm.n) + one(gemm.n, gemm.k, gemm.m, MAIN_GRADIENT_BYTES)
    return forward, backward


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
"""A windowed kernel computes whole tiles along the band: measured at about 1.5 times the band's FLOP."""


def attention_forward_s(
    flop: FloatLike, *, accelerator: AcceleratorSpec, seq_len: FloatLike, head_dim: float
) -> FloatLike:
    """Isolated forward flash attention from its causal FLOP. [s]

    seq_len : of the piece one kernel sees (after context parallelism).
    """
    efficiency = accelerator.kernels.attention
    rate = accelerator.peak_flop_per_s["bf16"] * efficiency.flop_utilisation
    narrow = (1.0 + efficiency.half_head_dim / head_dim) / (1.0 + efficiency.half_head_dim / 128.0)
    return flop / rate * (1.0 + efficiency.half_seq / seq_len) * narrow
