"""What would help a given layout: every change of one dimension is evaluated, the best of each dimension is told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from makespan.search.space import divisors, powers_of_two
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import (
    ContextKind,
    CudaGraphs,
    Layout,
    LayoutStatus,
    RankOrder,
    Recompute,
    Schedule,
    Sharding,
)
from makespan.specs.model import ModelSpec
from makespan.specs.step import StepChange, StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate

LEAST_GAIN = 0.002
"""Changes that save less of the step than this are not worth telling. [-]"""

SEPARATELY = (
    Recompute.NONE,
    Recompute.NORM,
    Recompute.SELECTIVE,
    Recompute.CORE_ATTENTION,
    Recompute.SELECTIVE | Recompute.CORE_ATTENTION,
    Recompute.MLP,
    Recompute.EXPERTS,
    Recompute.FULL,
)
"""Recompute policies that are tried."""


def _resized(layout: Layout, num_accelerators: int, **sizes: Any) -> Layout | None:
    """The layout with other sizes; dp takes what they leave of the accelerators. None where nothing is left."""
    changed = dataclasses.replace(layout, **sizes)
    each = changed.tp * changed.pp * changed.cp
    return dataclasses.replace(changed, dp=num_accelerators // each) if each <= num_accelerators else None


def neighbours(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layout: Layout
) -> Iterator[tuple[str, Layout]]:
    """(dimension, layout) for every change of one dimension; dp follows where a change of sizes needs it."""
    most = layout.num_accelerators
    domain = min(cluster.accelerator.scale_up_domain_size, most)
    sizes = {
        "tp": [t for t in powers_of_two(domain) if model.num_heads % t == 0],
        "cp": list(powers_of_two(min(64, most))),
        "pp": [p for p in range(1, min(model.num_layers, most, 64) + 1) if most % p == 0],
    }
    for name, values in sizes.items():
        for value in values:
            one_stage: dict[str, Any] = {"vpp": 1} if name == "pp" and value == 1 else {}
            found = _resized(layout, most, **{name: value}, **one_stage)
            if found is not None:
                yield name, found
    for value in powers_of_two(min(32, config.global_batch)):
        yield "micro_batch", dataclasses.replace(layout, micro_batch=value)
    if layout.pp > 1:
        for value in divisors(-(-model.num_layers // layout.pp)):
            yield "vpp", dataclasses.replace(layout, vpp=value)
        for schedule in Schedule:
            one_chunk: dict[str, Any] = {"vpp": 1} if schedule else {}
            yield "schedule", dataclasses.replace(layout, schedule=schedule, **one_chunk)
    if model.moe is not None:
        for value in divisors(model.moe.num_experts):
            yield "ep", dataclasses.replace(layout, ep=value)
        for value in powers_of_two(layout.tp):
            yield "etp", dataclasses.replace(layout, etp=value)
        if layout.ep > 1:
            yield "ep_overlap", dataclasses.replace(layout, ep_overlap=True)
    for policy in SEPARATELY:
        yield "recompute", dataclasses.replace(layout, recompute=policy)
    for stage in Sharding:
        yield "sharding", dataclasses.replace(layout, sharding=stage)
    if layout.cp > 1:
        for kind in ContextKind:
            yield "cp_kind", dataclasses.replace(layout, cp_kind=kind)
    for order in RankOrder:
        if not order or order.matters(pp=layout.pp, cp=layout.cp, dp=layout.dp):
            yield "order", dataclasses.replace(layout, order=order)
    yield "cuda_graphs", dataclasses.replace(layout, cuda_graphs=CudaGraphs.FULL)


def _value(layout: Layout, dimension: str) -> str:
    value = getattr(layout, dimension)
    if isinstance(value, Recompute | RankOrder):
        return value.label
    if isinstance(value, bool):
        return "on" if value else "off"
    name = getattr(value, "name", None)
    return str(value) if name is None else {"ONE_F_ONE_B": "1f1b"}.get(name, name.lower().replace("_", "-"))


def helpful_changes(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
    *,
    most: int = 3,
    memory_headroom: float = 0.0,
) -> tuple[StepChange, ...]:
    """The changes of one dimension that shorten the step most; for a layout that lacks memory, those that make it fit.

    Parameters
    ----------
    estimate : the layout in question, runnable or short of memory only.
    most : changes to tell, at most one a dimension.

    Returns
    -------
    Fastest first. Empty where no change of one dimension helps; the search looks at all of them together.

    Notes
    -----
    Batch, model and accelerators stay as they are. A change that saves less than 0.2 % of the step is left out.
    """
    found = [pair for pair in neighbours(model, config, cluster, estimate.layout) if pair[1] != estimate.layout]
    if not found or math.isnan(estimate.time_s):
        return ()
    rows = LayoutArrays.of([layout for _, layout in found])
    answer = evaluate(model, config, cluster, profile, rows, memory_headroom=memory_headroom)
    fits = estimate.status is LayoutStatus.OK
    enough = estimate.time_s * (1.0 - LEAST_GAIN) if fits else math.inf
    useful = np.flatnonzero((answer.status == int(LayoutStatus.OK)) & (answer.time_s < enough))
    changes: dict[str, StepChange] = {}
    for place in useful[np.argsort(answer.time_s[useful], kind="stable")].tolist():
        dimension, layout = found[place]
        if dimension in changes or len(changes) == most:
            continue
        changes[dimension] = StepChange(
            dimension=dimension,
            before=_value(estimate.layout, dimension),
            after=_value(layout, dimension),
            layout=layout,
            time_s=float(answer.time_s[place]),
            memory_bytes=float(answer.memory_bytes[place]),
        )
    return tuple(changes.values())
