"""What a framework profile may lack: `FrameworkProfile.supports` key by key, with the layouts that need each.

A profile of the catalog names every key here, true or false. A profile made otherwise may leave keys out: those count as
supported. docs/explain/catalog.md lists the keys with what the shipped profiles lack, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import ContextKind, CudaGraphs, Offload, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import BoolArray, LayoutArrays
from makespan.step.ranks import cp_outside_dp, pp_inside_dp, pp_inside_dp_regrouped

_ALL_TO_ALL, _DUALPIPE = int(ContextKind.ALL_TO_ALL), int(Schedule.DUALPIPE)
_ONE_F_ONE_B, _GPIPE, _ZERO_BUBBLE = int(Schedule.ONE_F_ONE_B), int(Schedule.GPIPE), int(Schedule.ZERO_BUBBLE)
_PARTIAL, _FULL_GRAPHS = int(CudaGraphs.PARTIAL), int(CudaGraphs.FULL)
_OPTIMIZER, _ACTIVATIONS = int(Offload.OPTIMIZER), int(Offload.ACTIVATIONS)
_SELECTIVE, _CORE_ATTENTION, _FULL = int(Recompute.SELECTIVE), int(Recompute.CORE_ATTENTION), int(Recompute.FULL)
_ZERO1, _ZERO2, _ZERO3 = int(Sharding.ZERO1), int(Sharding.ZERO2), int(Sharding.ZERO3)


def _saved_away(rows: LayoutArrays) -> BoolArray:
    away: BoolArray = (rows.offload & _ACTIVATIONS) > 0
    return away


def _by_module(rows: LayoutArrays) -> BoolArray:
    """Policies that name modules of a layer, beyond the two that have names of their own."""
    named = (rows.recompute == 0) | (rows.recompute == _SELECTIVE) | (rows.recompute == _CORE_ATTENTION)
    by_module: BoolArray = (rows.recompute < _FULL) & (named == 0)
    return by_module


def _one_chunk(rows: LayoutArrays) -> BoolArray:
    """Overlapped expert traffic in a pipeline with one chunk a stage and one direction."""
    one_chunk: BoolArray = (rows.ep_overlap > 0) & (rows.pp > 1) & (rows.vpp == 1) & (rows.schedule != _DUALPIPE)
    return one_chunk


FEATURES: dict[str, Callable[[LayoutArrays], BoolArray]] = {
    # Dimensions.
    "tensor_parallel": lambda rows: rows.tp > 1,
    "pipeline_parallel": lambda rows: rows.pp > 1,
    "interleaving": lambda rows: rows.vpp > 1,
    "context_parallel": lambda rows: rows.cp > 1,
    "cp_all_to_all": lambda rows: (rows.cp > 1) & (rows.cp_kind == _ALL_TO_ALL),
    "expert_parallel": lambda rows: rows.ep > 1,
    "expert_tensor_parallel": lambda rows: rows.etp > 1,
    "expert_with_tensor_parallel": lambda rows: (rows.ep > 1) & (rows.tp > 1),
    # What data-parallel ranks split.
    "zero1": lambda rows: rows.sharding == _ZERO1,
    "zero2": lambda rows: rows.sharding == _ZERO2,
    "zero3": lambda rows: rows.sharding == _ZERO3,
    "hsdp": lambda rows: rows.shard_size > 0,
    "zero2_pipeline": lambda rows: (rows.sharding == _ZERO2) & (rows.pp > 1),
    "zero3_pipeline": lambda rows: (rows.sharding == _ZERO3) & (rows.pp > 1),
    "zero3_expert": lambda rows: (rows.sharding == _ZERO3) & (rows.ep > 1),
    # Pipeline schedules.
    "one_f_one_b": lambda rows: (rows.pp > 1) & (rows.schedule == _ONE_F_ONE_B),
    "gpipe": lambda rows: rows.schedule == _GPIPE,
    "zero_bubble": lambda rows: rows.schedule == _ZERO_BUBBLE,
    "dualpipe": lambda rows: rows.schedule == _DUALPIPE,
    # Overlap and graphs.
    "ep_overlap": lambda rows: rows.ep_overlap > 0,
    "ep_overlap_one_chunk": _one_chunk,
    "ep_overlap_full_recompute": lambda rows: (rows.ep_overlap > 0) & (rows.recompute >= _FULL),
    "partial_graphs": lambda rows: rows.cuda_graphs == _PARTIAL,
    "full_graphs": lambda rows: rows.cuda_graphs == _FULL_GRAPHS,
    "zero3_graphs": lambda rows: (rows.cuda_graphs > 0) & (rows.sharding == _ZERO3),
    # Host memory and recomputation.
    "offload_optimizer": lambda rows: (rows.offload & _OPTIMIZER) > 0,
    "offload_activations": _saved_away,
    "offload_activations_pipeline": lambda rows: _saved_away(rows) & (rows.pp > 1),
    "offload_activations_recompute": lambda rows: _saved_away(rows) & (rows.recompute > 0),
    "offload_activations_graphs": lambda rows: _saved_away(rows) & (rows.cuda_graphs > 0),
    "selective_recompute": lambda rows: rows.recompute == _SELECTIVE,
    "core_attention_recompute": lambda rows: rows.recompute == _CORE_ATTENTION,
    "module_recompute": _by_module,
    # Order of ranks.
    "pp_inside_dp": pp_inside_dp,
    "pp_inside_dp_regrouped": pp_inside_dp_regrouped,
    "cp_outside_dp": cp_outside_dp,
}
"""Keys of `FrameworkProfile.supports` that a layout alone decides."""


def _split_differently(model: ModelSpec, _config: StepConfig, rows: LayoutArrays) -> BoolArray:
    apart: BoolArray = (rows.etp != rows.tp) & (model.moe is not None)
    return apart


def _full_graphs_moe(model: ModelSpec, _config: StepConfig, rows: LayoutArrays) -> BoolArray:
    whole: BoolArray = (rows.cuda_graphs == _FULL_GRAPHS) & (model.moe is not None)
    return whole


def _uneven_batch(_model: ModelSpec, config: StepConfig, rows: LayoutArrays) -> BoolArray:
    uneven: BoolArray = config.global_batch % (rows.dp * rows.micro_batch) != 0
    return uneven


def _uneven_stages(model: ModelSpec, _config: StepConfig, rows: LayoutArrays) -> BoolArray:
    uneven: BoolArray = (rows.vpp == 1) & (model.num_layers % rows.pp != 0)
    return uneven


def _uneven_chunks(model: ModelSpec, _config: StepConfig, rows: LayoutArrays) -> BoolArray:
    uneven: BoolArray = (rows.vpp > 1) & (model.num_layers % (rows.pp * rows.vpp) != 0)
    return uneven


def _uneven_interleaving(_model: ModelSpec, config: StepConfig, rows: LayoutArrays) -> BoolArray:
    uneven: BoolArray = (rows.vpp > 1) & (rows.num_micro_batches(config.global_batch) % rows.pp != 0)
    return uneven


JOB_FEATURES: dict[str, Callable[[ModelSpec, StepConfig, LayoutArrays], BoolArray]] = {
    "expert_tensor_apart": _split_differently,
    "full_graphs_moe": _full_graphs_moe,
    "uneven_batch": _uneven_batch,
    "uneven_stages": _uneven_stages,
    "uneven_chunks": _uneven_chunks,
    "uneven_interleaving": _uneven_interleaving,
}
"""Keys that also depend on the model or on what a step has to do."""

OF_SHARDING = (
    "zero1",
    "zero2",
    "zero3",
    "hsdp",
    "zero2_pipeline",
    "zero3_pipeline",
    "zero3_expert",
    "zero3_graphs",
    "offload_optimizer",
)
"""Keys that depend on how parameters and their state are split, or on where the optimizer's lives."""

OF_DP = ("uneven_batch", "uneven_interleaving")
"""Keys that depend on dp."""

KEYS = (*FEATURES, *JOB_FEATURES)
"""Every key of a layout. Besides them `supports` holds precisions and two traits of kernels (docs/explain/catalog.md)."""


def lacking(
    model: ModelSpec,
    config: StepConfig,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    *,
    keys: Collection[str] = KEYS,
) -> dict[str, BoolArray]:
    """Per key that the profile lacks, the layouts that would need it. Shapes broadcast to (layouts,).

    keys : those that are asked for.
    """
    missing = [key for key in KEYS if key in keys and not profile.supports.get(key, True)]
    masks = {key: FEATURES[key](layouts) for key in missing if key in FEATURES}
    return masks | {key: JOB_FEATURES[key](model, config, layouts) for key in missing if key in JOB_FEATURES}


def everything(profile: FrameworkProfile) -> dict[str, bool]:
    """`supports` of a profile with every layout allowed; precisions and traits of kernels stay."""
    return {**profile.supports, **dict.fromkeys(KEYS, True)}
