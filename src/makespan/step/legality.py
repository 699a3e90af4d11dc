"""Which layouts can run. Rules are tried in the order of `LayoutStatus`; the first that fails names the layout."""

from __future__ import annotations

import numpy as np

from makespan.rows import maximum, some, where
from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FrameworkProfile
from makespan.specs.layout import ContextKind, LayoutStatus, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import BoolArray, IntArray, LayoutArrays
from makespan.step.features import lacking
from makespan.step.kernels import ARITHMETIC
from makespan.step.schedules import schedule_allowed

END_SLOTS = 2
"""The embedding and the head may each take a layer's place, so that 126 layers fill 128 chunks."""


def _leaves_rest(number: int, column: IntArray) -> BoolArray:
    """Whether each entry fails to divide `number`. A table over the values that occur: integer division is slow."""
    if not isinstance(column, np.ndarray):
        alone: BoolArray = number % column != 0
        return alone
    table = np.ones(int(column.max(initial=1)) + 1, dtype=np.bool_)
    table[1:] = number % np.arange(1, len(table)) != 0
    return np.asarray(table[column])


def rules(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays
) -> list[tuple[LayoutStatus, BoolArray]]:
    """Each rule with a mask of the layouts that break it, in order. Shapes (layouts,).

    Stages may hold unequal numbers of layers, replicas may differ by a micro-batch, and accelerators may idle; none of
    that breaks a rule. Interleaving needs at least pp micro-batches, not a multiple of pp: since 2024 a chunk may take
    more than pp in a row (Llama 3, section 3.3.2; Megatron-Core's `microbatch_group_size_per_vp_stage`).
    """
    ranks = layouts.tp * layouts.cp * layouts.dp
    heads = _leaves_rest(model.num_heads, layouts.tp) | (
        # KV heads are cut, or copied where there are fewer than ranks.
        _leaves_rest(model.num_kv_heads, layouts.tp) & (layouts.tp % model.num_kv_heads != 0)
    )
    swapped = (layouts.cp > 1) & (layouts.cp_kind == int(ContextKind.ALL_TO_ALL))
    if some(swapped):
        heads = heads | (swapped & _leaves_rest(model.num_heads, layouts.tp * layouts.cp))
    if model.moe is None:
        experts = (layouts.ep > 1) | (layouts.etp > 1)
    else:
        experts = (
            _leaves_rest(model.moe.num_experts, layouts.ep)
            | _leaves_rest(model.moe.expert_ffn, layouts.etp)
            | (ranks % (layouts.ep * layouts.etp) != 0)
        )
    pieces = where(layouts.cp > 1, 2 * layouts.cp, 1)
    uneven = _leaves_rest(config.seq_len, pieces) | _leaves_rest(config.seq_len, layouts.cp * layouts.tp)
    micro_batches = layouts.num_micro_batches(config.global_batch)
    interleaved = layouts.vpp > 1
    bad_interleaving = interleaved & ((layouts.pp == 1) | (micro_batches < layouts.pp))
    bad_schedule = layouts.schedule < 0
    if some(layouts.schedule):
        bad_schedule = schedule_allowed(layouts.schedule, layouts.pp, layouts.vpp, micro_batches) == 0
    grouped = layouts.shard_size > 0
    data = layouts.cp * layouts.dp
    bad_shards = grouped & ((layouts.sharding != int(Sharding.ZERO3)) | (data % maximum(layouts.shard_size, 1) != 0))
    no_link = (layouts.offload > 0) & (cluster.accelerator.host_bytes_per_s <= 0.0)
    domain = min(cluster.accelerator.scale_up_domain_size, cluster.fabric.tiers[0].size)
    return [
        (LayoutStatus.HEADS_DO_NOT_DIVIDE, heads),
        (LayoutStatus.EXPERTS_DO_NOT_DIVIDE, experts),
        (LayoutStatus.TOO_MANY_STAGES, layouts.pp * layouts.vpp > model.num_layers + END_SLOTS),
        (LayoutStatus.VPP_NEEDS_PIPELINE, bad_interleaving),
        (LayoutStatus.TOO_MANY_ACCELERATORS, layouts.num_accelerators > cluster.num_accelerators),
        (LayoutStatus.BATCH_TOO_SMALL, layouts.dp * layouts.micro_batch > config.global_batch),
        (LayoutStatus.SEQUENCE_DOES_NOT_DIVIDE, uneven),
        (LayoutStatus.TP_LEAVES_DOMAIN, layouts.tp > domain),
        (LayoutStatus.SCHEDULE_DOES_NOT_FIT, bad_schedule),
        (LayoutStatus.SHARDS_DO_NOT_DIVIDE, bad_shards),
        (LayoutStatus.NO_HOST_LINK, no_link),
    ]


def structural_status(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays) -> IntArray:
    """Codes of `LayoutStatus` before memory and framework are looked at. Shape (layouts,)."""
    status = 0 * layouts.tp
    for code, broken in reversed(rules(model, config, cluster, layouts)):
        status = where(broken, int(code), status)
    return status


def has_precision(accelerator: AcceleratorSpec, precision: str) -> bool:
    """Whether a chip multiplies in a precision. Block-scaled 8 bits (MXFP8) came with the chips that multiply 4 bits."""
    arithmetic = ARITHMETIC.get(precision)
    has = arithmetic in accelerator.kernels.gemm and arithmetic in accelerator.peak_flop_per_s
    return has and (precision != "mxfp8" or "fp4" in accelerator.peak_flop_per_s)


def unsupported(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layouts: LayoutArrays
) -> BoolArray:
    """Layouts that the framework profile, or the accelerator's arithmetic, cannot run. Shape (layouts,)."""
    known = has_precision(cluster.accelerator, config.precision) and profile.supports.get(config.precision, True)
    broken = (layouts.tp > 0) & (not known)
    for mask in lacking(model, config, profile, layouts).values():
        broken = broken | mask
    return broken
