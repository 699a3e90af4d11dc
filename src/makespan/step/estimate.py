"""One layout's step, packaged for people: breakdown, memory by kind, bounds, interval, MFU."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from makespan.provenance import Kind
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.model import ModelSpec
from makespan.specs.step import MemoryEstimate, StepEstimate
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.evaluate import RESULTS, evaluate, evaluate_alone
from makespan.step.memory import GROUPS, KINDS
from makespan.workload import model_flop_per_sequence

Z_90 = 1.2815515655446004
"""Standard normal quantile of 90 %: the interval P10 to P90 spans this many sigma either way."""

SIGMA_OTHER_ACCELERATOR = 0.08
"""Added in quadrature where no row of the profile ran on the accelerator. Products of one profile slow down 0 to 7 % more
on one accelerator than on another (`KernelSpec.training_slowdown` and residuals by accelerator), attention and fabric add
their own spread."""

SIGMA_OTHER_PRECISION = 0.08
"""Added in quadrature where no row of the profile ran in the precision. The products of a precision, predicted from those of
another with isolated kernels between them, come out 3 to 28 % off (NVFP4 the worst)."""

SIGMA_UNMEASURED_MIXTURE = 0.17
"""Least spread for a mixture of experts where no mixture of the profile was measured: that of mixtures on the youngest
software that was (AutoModel)."""

SIGMA_PER_DOUBLING = 0.01
"""Added linearly per doubling of size beyond the largest run of the profile: the growth that profiles show per doubling."""

ALIKE = {"fp16": "bf16"}
"""Precisions whose kernels take the same time."""


def is_measured_precision(profile: FrameworkProfile, precision: str) -> bool:
    """Whether runs of the profile were measured in the precision; true where the profile does not say."""
    known = {ALIKE.get(name, name) for name in profile.measured_precisions}
    return not known or ALIKE.get(precision, precision) in known


def interval_sigma(
    model: ModelSpec, cluster: ClusterSpec, profile: FrameworkProfile, num_accelerators: int, *, precision: str = "bf16"
) -> float:
    """Spread of log(true / predicted) for this kind of model, accelerator, software, precision and size. [-]"""
    sigma = profile.residual_sigma
    if model.moe is not None:
        sigma = max(sigma, profile.residual_sigma_moe or SIGMA_UNMEASURED_MIXTURE)
    if cluster.accelerator.name not in profile.measured_on:
        sigma = math.hypot(sigma, SIGMA_OTHER_ACCELERATOR)
    if not is_measured_precision(profile, precision):
        sigma = math.hypot(sigma, SIGMA_OTHER_PRECISION)
    beyond = math.log2(max(num_accelerators / max(profile.largest_measured, 1), 1.0))
    return sigma + SIGMA_PER_DOUBLING * beyond


def _notes(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layout: Layout
) -> tuple[str, ...]:
    notes = []
    if cluster.accelerator.name not in profile.measured_on:
        notes.append(f"no measured run of {profile.name} on {cluster.accelerator.name}: the interval is wider")
    if not is_measured_precision(profile, config.precision):
        notes.append(f"no measured run of {profile.name} in {config.precision}: the interval is wider")
    if layout.num_accelerators > profile.largest_measured:
        notes.append(f"beyond the largest measured run of {profile.name} ({profile.largest_measured} accelerators)")
    if model.moe is not None and layout.ep > 1:
        notes.append("expert routing taken as balanced")
    if layout.offload:
        notes.append(
            "host memory taken as large enough, its traffic as hidden while kernels last: no measured run uses it"
        )
    return tuple(notes)


def _by_stage(detail: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Memory by group of stages and kind, of the groups that the layout has."""
    groups = {}
    for group in GROUPS:
        columns = {kind: f"memory of {group}.{kind}" for kind in KINDS}
        sizes = {kind: detail[column] for kind, column in columns.items() if column in detail}
        if sizes and not any(math.isnan(size) for size in sizes.values()):
            groups[group] = sizes
    return groups


def _package(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layout: Layout,
    status: int,
    numbers: Mapping[str, float],
    *,
    memory_headroom: float,
    provenance: Kind,
) -> StepEstimate:
    """numbers : the columns of `StepArrays`, its detail included, of the one row."""
    time_s = numbers["time_s"]
    used = layout.num_accelerators

    def group(prefix: str) -> dict[str, float]:
        return {
            name.removeprefix(prefix): value
            for name, value in numbers.items()
            if value > 0.0 and name.startswith(prefix)
        }

    sigma = interval_sigma(model, cluster, profile, used, precision=config.precision)
    causal = model_flop_per_sequence(model, config.seq_len) * config.global_batch
    square = model_flop_per_sequence(model, config.seq_len, causal=False) * config.global_batch
    executed = numbers.get("executed_flop", math.nan)
    available = used * cluster.accelerator.peak_flop_per_s["bf16"] * time_s
    kinds = {kind: numbers[f"memory.{kind}"] for kind in KINDS if f"memory.{kind}" in numbers}
    stage = numbers.get("memory.stage", 0.0)
    return StepEstimate(
        layout=layout,
        status=LayoutStatus(status),
        time_s=time_s,
        lower_s=numbers["lower_s"],
        upper_s=numbers["upper_s"],
        p10_s=time_s * math.exp(-Z_90 * sigma),
        p90_s=time_s * math.exp(Z_90 * sigma),
        breakdown=group("time."),
        hidden=group("hidden."),
        memory=MemoryEstimate(
            by_kind=kinds,
            limit_bytes=cluster.accelerator.hbm_bytes * (1.0 - memory_headroom),
            stage=0 if math.isnan(stage) else int(stage),
            by_stage=_by_stage(numbers),
        ),
        model_flop=causal,
        model_flop_full_attention=square,
        executed_flop=executed,
        mfu=causal / available,
        mfu_full_attention=square / available,
        hfu=executed / available,
        tokens_per_step=float(config.tokens_per_step),
        tokens_per_s=config.tokens_per_step / time_s,
        num_accelerators=used,
        num_idle=cluster.num_accelerators - used,
        provenance=provenance,
        notes=_notes(model, config, cluster, profile, layout),
    )


def step_estimates(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    *,
    memory_headroom: float = 0.0,
    provenance: Kind = Kind.DERIVED,
) -> tuple[StepEstimate, ...]:
    """A few layouts with everything about them. Meant for tens of rows; use `evaluate` for many."""
    arrays = evaluate(model, config, cluster, profile, layouts, memory_headroom=memory_headroom, detail=True)
    columns = {name: getattr(arrays, name) for name in RESULTS} | dict(arrays.detail)
    return tuple(
        _package(
            model,
            config,
            cluster,
            profile,
            layouts.row(row),
            int(arrays.status[row]),
            {name: float(values[row]) for name, values in columns.items()},
            memory_headroom=memory_headroom,
            provenance=provenance,
        )
        for row in np.arange(len(layouts)).tolist()
    )


def step_estimate(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layout: Layout,
    *,
    memory_headroom: float = 0.0,
    provenance: Kind = Kind.DERIVED,
) -> StepEstimate:
    """One optimizer step of one layout.

    Parameters
    ----------
    memory_headroom : share of the accelerator's memory that must stay free. [-]
    provenance : weakest kind of fact behind the specs, as the caller knows it; passed through.

    Returns
    -------
    StepEstimate : `status` other than OK says why the layout cannot run; its times are then NaN, unless it only lacks
        memory.
    """
    row = LayoutArrays.alone(layout)
    status, numbers = evaluate_alone(model, config, cluster, profile, row, memory_headroom=memory_headroom, detail=True)
    return _package(
        model,
        config,
        cluster,
        profile,
        layout,
        status,
        numbers,
        memory_headroom=memory_headroom,
        provenance=provenance,
    )
