"""Why a layout cannot run, with its own numbers, and what to change."""

from __future__ import annotations

from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.features import lacking
from makespan.step.kernels import ARITHMETIC
from makespan.step.legality import END_SLOTS


def why_not(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layout: Layout,
    status: LayoutStatus,
) -> str:
    """One sentence: what is wrong, and the remedy. Empty where the layout runs, or only lacks memory."""
    tp, pp, cp, dp, vpp = layout.tp, layout.pp, layout.cp, layout.dp, layout.vpp
    count = int(LayoutArrays.of([layout]).num_micro_batches(config.global_batch)[0])
    domain = int(min(cluster.accelerator.scale_up_domain_size, cluster.fabric.tiers[0].size))
    sentences = {
        LayoutStatus.HEADS_DO_NOT_DIVIDE: _heads(model, layout),
        LayoutStatus.EXPERTS_DO_NOT_DIVIDE: _experts(model, layout),
        LayoutStatus.TOO_MANY_STAGES: f"pp {pp} * vpp {vpp} exceeds the {model.num_layers} layers plus {END_SLOTS} "
        "(embedding and head may take a place each); lower pp or vpp",
        LayoutStatus.VPP_NEEDS_PIPELINE: f"interleaving (vpp {vpp}) needs a pipeline; leave vpp out or raise pp"
        if pp == 1
        else f"interleaving needs at least pp {pp} micro-batches, and there are {count}; lower dp or micro_batch, or leave vpp out",
        LayoutStatus.TOO_MANY_ACCELERATORS: f"tp * pp * cp * dp = {layout.num_accelerators:,} of "
        f"{cluster.num_accelerators:,} accelerators; lower one of the sizes",
        LayoutStatus.BATCH_TOO_SMALL: f"dp {dp:,} * micro_batch {layout.micro_batch} exceeds the batch of "
        f"{config.global_batch:,} sequences; lower dp or micro_batch, or raise the batch",
        LayoutStatus.SEQUENCE_DOES_NOT_DIVIDE: f"{config.seq_len:,} tokens are not cut evenly by "
        + (f"tp * cp = {tp * cp}" if cp == 1 else f"2 * cp = {2 * cp} and tp * cp = {tp * cp}")
        + "; choose sizes that divide the sequence",
        LayoutStatus.TP_LEAVES_DOMAIN: f"tp {tp} is wider than the scale-up domain of {domain}; lower tp",
        LayoutStatus.SCHEDULE_DOES_NOT_FIT: _schedule(layout, count),
        LayoutStatus.SHARDS_DO_NOT_DIVIDE: f"shard_size {layout.shard_size} does not divide the cp * dp = {cp * dp} data-parallel "
        "ranks; choose one that does"
        if layout.sharding is Sharding.ZERO3
        else f"shard_size {layout.shard_size} needs sharding=zero3; add it, or leave shard_size out",
        LayoutStatus.NO_HOST_LINK: f"the rate of {cluster.accelerator.name}'s link to host memory is not known; leave offload out",
        LayoutStatus.NOT_SUPPORTED: _unsupported(model, config, cluster, profile, layout),
    }
    return sentences.get(status, "")


def _heads(model: ModelSpec, layout: Layout) -> str:
    tp, cp = layout.tp, layout.cp
    if model.num_heads % tp:
        return f"tp {tp} does not divide the {model.num_heads} query heads; choose a tp that does"
    if model.num_kv_heads % tp and tp % model.num_kv_heads:
        return (
            f"tp {tp} neither divides the {model.num_kv_heads} KV heads nor is a multiple of them; choose a tp that is"
        )
    return (
        f"tp {tp} * cp {cp} does not divide the {model.num_heads} query heads, as all-to-all context parallelism needs; "
        "lower tp or cp, or take cp_kind=ring"
    )


def _experts(model: ModelSpec, layout: Layout) -> str:
    ep, etp = layout.ep, layout.etp
    if model.moe is None:
        return f"{model.name} has no experts; leave ep and etp out"
    if model.moe.num_experts % ep:
        return f"ep {ep} does not divide the {model.moe.num_experts} experts; choose an ep that does"
    if model.moe.expert_ffn % etp:
        return f"etp {etp} does not divide the experts' width of {model.moe.expert_ffn}; choose an etp that does"
    ranks = layout.tp * layout.cp * layout.dp
    return f"ep * etp = {ep * etp} does not divide the tp * cp * dp = {ranks:,} ranks of a stage; change ep, etp or dp"


def _schedule(layout: Layout, count: int) -> str:
    name = layout.schedule.name.lower().replace("_", " ")
    if layout.vpp > 1:
        return f"{name} takes one chunk a stage, not vpp {layout.vpp}; leave vpp out"
    if layout.schedule is Schedule.DUALPIPE:
        return (
            f"dualpipe needs an even pp (there are {layout.pp}), an even number of micro-batches of at least 2 * pp (there are "
            f"{count}); change pp, dp or micro_batch"
        )
    return (
        f"{name} cannot run with pp {layout.pp} and {count} micro-batches; change pp, dp or micro_batch, or take 1f1b"
    )


def _unsupported(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layout: Layout
) -> str:
    arithmetic = ARITHMETIC.get(config.precision, config.precision)
    accelerator = cluster.accelerator
    if arithmetic not in accelerator.kernels.gemm or arithmetic not in accelerator.peak_flop_per_s:
        return f"no {arithmetic} products of {accelerator.name} are known; choose another --precision"
    row = LayoutArrays.of([layout])
    names = [] if profile.supports.get(config.precision, True) else [config.precision]
    names += [name for name, mask in lacking(model, config, profile, row).items() if mask[0]]
    missing = ", ".join(name.replace("_", " ") for name in names)
    return f"{profile.name} is not known to do: {missing}; change the layout, or choose another --framework"
