"""What a block of a layer is made of: kernels and communication, each with its forward, its backward and what repeats it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from makespan.rows import FloatLike, where
from makespan.specs.hardware import AcceleratorSpec, FrameworkProfile
from makespan.specs.layout import Recompute
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.arrays import FloatArray
from makespan.workload import Gemm

ACTIVATION_BYTES = 2.0
"""Activations travel and rest in 16 bits."""

WEIGHT_SHARE = 0.5
"""Of the backward of a matrix product: the gradient of the weights. The two products have the same FLOP."""

PRODUCT_BACKWARD_FLOP = 2.0
"""Backward over forward FLOP of a matrix product: gradients of the input and of the weights."""

GATHERED_INPUT = ("qkv", "q", "q_up", "kv_up", "ffn_up", "shared_up", "residual_up", "mamba_in")
"""Products whose columns are split by tensor parallelism: their input is gathered in the forward pass."""

GATHERED_GRADIENT = ("attention_out", "ffn_down", "shared_down", "residual_down", "mamba_out")
"""Products whose rows are split: the gradient of their output is gathered in the backward."""

GATHERED_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp8": 1.0 + 1.0 / 32.0, "nvfp4": 0.5625}
"""Bytes of an element as it is gathered: cast beforehand where the product reads it cast, block scales included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Kernels of one kind in a block, for one micro-batch on one rank. Arrays of shape (keys,).

    name : key of the breakdown.   module : the recompute flag that repeats its forward; NONE: only `FULL` does.
    forward_s, backward_s : in training.   weight_s : the part of `backward_s` that makes gradients of weights only. [s]
    flop : forward model FLOP.   backward_flop : what the backward kernels do, over `flop`. [FLOP], [-]
    ideal_s : forward FLOP at the peak of their arithmetic. [s]
    """

    name: str
    forward_s: FloatLike
    backward_s: FloatLike
    weight_s: FloatLike = 0.0
    module: Recompute = Recompute.NONE
    flop: FloatLike = 0.0
    backward_flop: float = PRODUCT_BACKWARD_FLOP
    ideal_s: FloatLike = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Communication of one kind in a block.

    exposed : share that always shows; the rest hides behind the layer's kernels as far as they last. [-]
    """

    name: str
    forward_s: FloatLike
    backward_s: FloatLike
    exposed: FloatLike
    module: Recompute = Recompute.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a layer: attention, scan, feed-forward, experts.   num_experts : routed experts on the rank. [-]"""

    work: tuple[Work, ...]
    traffic: tuple[Traffic, ...] = ()
    num_experts: FloatLike = 0.0


def products(
    gemms: Iterable[Gemm],
    config: StepConfig,
    accelerator: AcceleratorSpec,
    profile: FrameworkProfile,
    *,
    name: str = "gemm",
    module: Recompute = Recompute.NONE,
    cast_module: Recompute = Recompute.NORM,
    load_imbalance: float = 1.0,
    split: FloatLike = 1.0,
) -> tuple[Work, ...]:
    """Matrix products, and the casts of their inputs where the step's precision has any. Seconds in training.

    load_imbalance : rows of the busiest rank over those in `gemms`; its time counts, the FLOP stay those of the mean.
    split : ranks among which sequence parallelism splits the tokens: an input (or gradient) that they gather is cast
        before it is gathered, by each rank its part. [-]
    """
    arithmetic = kernels.ARITHMETIC[config.precision]
    forward_s: FloatLike = 0.0
    backward_s: FloatLike = 0.0
    cast_forward_s: FloatLike = 0.0
    cast_backward_s: FloatLike = 0.0
    flop: FloatLike = 0.0
    ideal: FloatLike = 0.0
    for mean in gemms:
        gemm = mean if load_imbalance == 1.0 else replace(mean, m=mean.m * load_imbalance)
        forward, backward = kernels.gemm_passes_s(
            gemm, accelerator=accelerator, arithmetic=arithmetic, uneven=load_imbalance > 1.0
        )
        fused = gemm.grouped and has_fused_experts(profile, config.precision)
        slow = profile.gemm_slowdown * (expert_slowdown(profile, config.precision) if gemm.grouped else 1.0)
        if gemm.quantised and not gemm.grouped:
            slow = slow * accelerator.kernels.training_slowdown.get(config.precision, 1.0)
        cast_forward, cast_backward = kernels.cast_passes_s(
            gemm, accelerator=accelerator, precision=config.precision, profile=profile
        )
        if gemm.name in GATHERED_INPUT:
            cast_forward = cast_forward / split
        if gemm.name in GATHERED_GRADIENT:
            cast_backward = cast_backward / split
        if fused:
            cast_forward, cast_backward = 0.0, 0.0
        forward_s, backward_s = forward_s + slow * forward, backward_s + slow * backward
        cast_forward_s, cast_backward_s = cast_forward_s + cast_forward, cast_backward_s + cast_backward
        flop = flop + mean.flop
        ideal = ideal + mean.flop / accelerator.peak_flop_per_s[arithmetic if gemm.quantised else "bf16"]
    work = Work(
        name=name,
        forward_s=forward_s,
        backward_s=backward_s,
        weight_s=WEIGHT_SHARE * backward_s,
        module=module,
        flop=flop,
        ideal_s=ideal,
    )
    if kernels.CAST_PASSES[config.precision] == 0.0:
        return (work,)
    casts = Work(name="casts", forward_s=cast_forward_s, backward_s=cast_backward_s, module=module | cast_module)
    return (work, casts)


def has_fused_experts(profile: FrameworkProfile, precision: str) -> bool:
    """Whether one kernel does an expert's products together with the activation and the casts between them."""
    return bool(profile.supports.get(f"fused_experts_{precision}", False))


def launch_share(profile: FrameworkProfile, precision: str) -> float:
    """Launches of a step in this precision over those in 8 bits. [-]"""
    return 1.0 if kernels.CAST_PASSES[precision] > 0.0 else profile.host_share_unquantised


def expert_slowdown(profile: FrameworkProfile, precision: str) -> float:
    """Time of an expert's products over that of dense ones, as this software runs them in a precision. [-]"""
    if has_fused_experts(profile, precision):
        return profile.moe_slowdown_fused
    if kernels.CAST_PASSES[precision] == 0.0 and profile.moe_slowdown_unquantised:
        return profile.moe_slowdown_unquantised
    return profile.moe_slowdown


def streamed(
    name: str,
    forward_bytes: FloatLike,
    accelerator: AcceleratorSpec,
    *,
    slowdown: float,
    backward_ratio: float,
    module: Recompute,
) -> Work:
    """Kernels bound by memory bandwidth, from the bytes of their forward."""
    forward = forward_bytes * slowdown / kernels.stream_bytes_per_s(accelerator)
    return Work(name=name, forward_s=forward, backward_s=backward_ratio * forward, module=module)


def is_repeated(recompute: NDArray[np.int64], module: Recompute) -> FloatArray:
    """1 where the policy computes the module again in the backward, else 0. Shape (keys,)."""
    return where(recompute & (int(module) | int(Recompute.FULL)), 1.0, 0.0)
