"""Accelerators, nodes, fabrics, clusters: what a formula needs to know of the machine. SI units, no names looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmEfficiency:
    """How near a matrix product comes to its bound, for one accelerator and precision.

    time = overhead + (compute^4 + memory^4)^(1/4), compute = 2mnk / (peak * flop_utilisation) * (1 + half_k / k),
    memory = bytes / (bandwidth * hbm_utilisation). Of the compute, the share `wave_weight` comes in whole waves of tiles
    over the multiprocessors (`KernelSpec.multiprocessors`), the rest in proportion. Grouped (expert) products: compute
    also times (1 + half_m / m), m the rows of one expert.
    """

    flop_utilisation: float
    hbm_utilisation: float
    overhead_s: float
    half_k: float = 0.0
    half_m: float = 0.0
    wave_weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEfficiency:
    """Forward attention: time = (flop + 2 d queries half_seq) / (peak * flop_utilisation) * head * fill.

    `half_seq` is what a query costs whatever it looks at, in keys times two: with causal attention over s tokens the
    bracket is flop (1 + half_seq / s). The utilisation is that of heads of 128. For heads of d, either
    head = (1 + half_head_dim / d) over the same at 128, or, where `softmax_head_dim` is set,
    (1 + (softmax_head_dim / d)^4)^(1/4) over the same at 128: the exponential of a score takes as long as the products
    of a head of that size, and both run at once. fill = 1 + half_waves / waves, waves = blocks of 128 queries over the
    multiprocessors.
    """

    flop_utilisation: float
    half_seq: float = 0.0
    half_head_dim: float = 0.0
    softmax_head_dim: float = 0.0
    half_waves: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSpec:
    """Utilisations of isolated kernels on one accelerator. Keys of `gemm` are precisions (`bf16`, `fp8`, `fp4`).

    multiprocessors : blocks of a kernel that run at once; 0 where it is not stated: then no waves are counted. [-]
    uneven_experts : time of a grouped product whose experts got uneven shares of the same tokens, over even shares. [-]
    training_slowdown : by the step's precision (`bf16`, `fp8`, `mxfp8`, `nvfp4`), how much more its products slow down in
        training than those of an H100 do, whose slowdown is the profile's `gemm_slowdown`; 1 where it is not stated.
        Grouped products of experts are left to the profile. [-]
    """

    gemm: Mapping[str, GemmEfficiency]
    attention: AttentionEfficiency
    elementwise_hbm_utilisation: float
    multiprocessors: int = 0
    uneven_experts: float = 1.0
    training_slowdown: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorSpec:
    """One accelerator (a chip as the software counts it).

    peak_flop_per_s : dense peak by arithmetic type: `bf16`, `fp16`, `tf32`, `fp32`, `fp8`, `fp4`. [FLOP/s]
    hbm_bytes, hbm_bytes_per_s : memory and its bandwidth. [B], [B/s]
    scale_up_domain_size : accelerators that share one NVLink/ICI-class domain. [-]
    scale_up_bytes_per_s : into that domain, per accelerator, one direction. [B/s]
    scale_out_bytes_per_s : NIC share of one accelerator, one direction. [B/s]
    host_bytes_per_s : link to the host's memory, one accelerator, one direction; 0 where it is not known. [B/s]
    idle_w, tdp_w : chip power, idle and rated. [W]
    """

    name: str
    family: str
    vendor: str
    peak_flop_per_s: Mapping[str, float]
    hbm_bytes: float
    hbm_bytes_per_s: float
    scale_up_domain_size: int
    scale_up_bytes_per_s: float
    scale_out_bytes_per_s: float
    idle_w: float
    tdp_w: float
    kernels: KernelSpec
    host_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One server with its share of network and storage. Power at the wall of the node, before cooling. [W]

    nameplate_w : sum of the power supplies' useful rating; what a careless plan would reserve.
    provisioned_peak_w : what has to be reserved for a node under the worst sustained load: capacity is limited by this.
    mean_training_w : mean while training: energy is charged by this.
    idle_w : node on, accelerators idle.
    network_storage_w : share of switches, optics and storage, added to each of the above but not part of them.
    """

    name: str
    accelerator: str
    accelerators_per_node: int
    nameplate_w: float
    provisioned_peak_w: float
    mean_training_w: float
    idle_w: float
    network_storage_w: float
    cooling: str = "air"

    @property
    def provisioned_peak_per_accelerator_w(self) -> float:
        """IT power reserved per accelerator, network and storage included. [W]"""
        return (self.provisioned_peak_w + self.network_storage_w) / self.accelerators_per_node

    @property
    def mean_training_per_accelerator_w(self) -> float:
        """Mean IT power per accelerator while training, network and storage included. [W]"""
        return (self.mean_training_w + self.network_storage_w) / self.accelerators_per_node

    @property
    def idle_per_accelerator_w(self) -> float:
        """IT power per accelerator of a node that is on and waiting, network and storage included. [W]"""
        return (self.idle_w + self.network_storage_w) / self.accelerators_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveEfficiency:
    """Collectives of a library over one tier, as measured: time = launch + hop * hops + ramp + bytes / bandwidth.

    launch_s, hop_s : once a collective; every further step of the ring. [s]
    ramp_s, ramp_exponent : the slow rise to full rate of middle-sized messages, ramp_s * (bytes / 1 MB)^ramp_exponent.
        [s], [-]
    efficiency : by collective (`all_gather`, `reduce_scatter`, `all_reduce`, `all_to_all`), share of the tier's bandwidth
        that large messages of a wide group reach. [-]
    own_part_saved : by collective, what is saved because a rank need not send its own part: of the message 1 - this / n
        counts. 1 in theory; less where the own part is copied as slowly as others travel. [-]
    """

    launch_s: float
    hop_s: float
    ramp_s: float
    ramp_exponent: float
    efficiency: Mapping[str, float]
    own_part_saved: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricTier:
    """One tier of the network, seen from an accelerator.

    size : accelerators reachable through this tier and the ones inside it; the last tier may be unbounded (`inf`). [-]
    bytes_per_s : per accelerator, one direction, before oversubscription. [B/s]
    oversubscription : 1 means none. [-]
    latency_s : one hop of a collective, software included. [s]
    efficiency : share of the bandwidth that large transfers reach. [-]
    collectives : measured times of collectives on this tier; None takes `latency_s` and `efficiency` for all of them.
    """

    name: str
    size: float
    bytes_per_s: float
    latency_s: float
    efficiency: float
    oversubscription: float = 1.0
    in_network_reduction: bool = False
    collectives: CollectiveEfficiency | None = None

    @property
    def effective_bytes_per_s(self) -> float:
        """What large transfers see. [B/s]"""
        return self.bytes_per_s * self.efficiency / self.oversubscription


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricSpec:
    """Tiers from the inside out; the first is the scale-up domain."""

    name: str
    tiers: tuple[FabricTier, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Accelerators of one kind on one fabric. `num_accelerators` is what one job may use."""

    name: str
    accelerator: AcceleratorSpec
    node: NodeSpec
    fabric: FabricSpec
    num_accelerators: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkProfile:
    """What a generation of training software adds to isolated kernels. Each factor is physical and shared by all runs.

    gemm_slowdown : sustained clocks, shared SMs: training time over isolated time. [-]
    attention_slowdown : the same for forward attention. [-]
    attention_lag : by family of accelerator, a further factor on attention where the software's kernel was written for an
        older family than the one whose kernels were measured; 1 for families that are not named. [-]
    attention_backward_ratio : backward over forward time of attention. [-]
    elementwise_slowdown : unfused norms, activations, residuals. [-]
    cast_slowdown : quantise and transpose traffic of low precisions. [-]
    moe_slowdown : grouped products of experts over the dense ones, in 8 and 4 bits; in 16 bits `moe_slowdown_unquantised`
        (0: the same). [-]
    moe_slowdown_fused : the same where one kernel does an expert's products with activation and casts; in the precisions
        for which `supports` has `fused_experts_<precision>`. [-]
    permute_slowdown : permuting tokens to experts and back, over other elementwise kernels. [-]
    expert_bias_slowdown : kernels between the products of experts with biases, which no fused activation covers, over
        their counted bytes; 0 where the software fuses them. [-]
    expert_overhead_s : per routed expert on the rank, layer and micro-batch, forward and backward, on the accelerator:
        products and casts start one by one. In 16 bits times `host_share_unquantised`; none where experts are fused. [s]
    routing_map_passes : passes over the table of who goes where, a byte for each expert and each token of the whole expert
        group, which every rank gathers and counts. [-]
    router_overhead_s : per mixture layer and micro-batch, forward and backward: the chain of small kernels that scores,
        sorts and counts tokens, and waits for the counts. [s]
    host_overhead_s : launch floor per layer and micro-batch, forward and backward. [s]
    host_overhead_moe_s : added to it in a layer with experts: router, permutation, dispatch and combine. [s]
    host_overhead_per_expert_s : added to it for every routed expert on the rank. [s]
    host_share_unquantised : of both, what is left in 16 bits: no casts and scales to launch. [-]
    host_share_partial_graphs : of `host_overhead_s`, what is left where some modules run as recorded graphs. [-]
    scan_slowdown : Mamba-2 scan and convolution in training over their bytes at streaming speed. [-]
    ep_exposed_scale_out : as `ep_exposed`, for the part of the all-to-all that leaves the scale-up domain. [-]
    ep_exposed_overlapped : of both, the share that still shows where the all-to-all is interleaved with another
        micro-batch's compute. [-]
    chunk_overhead_s : per pipeline chunk and micro-batch, forward and backward: waiting for the neighbour, small kernels. [s]
    tp_exposed, cp_exposed, ep_exposed, pp_exposed, dp_exposed, fsdp_exposed :
        share of that communication that is not hidden behind compute. [-]
    jitter_per_doubling : step slowdown per doubling of accelerators above `jitter_from` (waiting for the slowest). [-]
    jitter_per_doubling_fp8 : added to it in `fp8`: with delayed scaling all ranks agree on scales in every micro-batch, so
        they wait for each other more often. [-]
    jitter_from : accelerators up to which nobody waits. [-]
    residual_sigma : spread of log(measured / predicted) over the measured runs of this software, dense models. [-]
    residual_sigma_moe : the same for mixtures of experts; 0 where none was measured: then a wide spread is taken. [-]
    comparison_sigma : spread of log(measured / predicted) of the ratio of two layouts of one model, for what tells layouts
        apart; 0 where it is not known: then as if their errors were independent. [-]
    memory_overhead_bytes : on every accelerator, outside the software's allocator: context, communicators, graphs. [B]
    fragmentation_fraction : what the allocator holds without using it, of what tensors take at the peak. [-]
    gradient_bytes, master_bytes : per parameter, where a step does not say (`OptimizerSpec.name` "profile"): gradients as
        they are summed over micro-batches; the optimizer's copy of 16-bit weights (2 where it keeps only the bits they
        lack). [B]
    fsdp_weight_bytes : per parameter under full sharding, weights kept beside the master copy; 0 where the master copy
        itself is gathered. [B]
    logit_bytes : of one logit with its copies and gradients, at the peak of the loss. [B]
    split_logit_bytes : the same where tensor parallelism splits the vocabulary; 0 where it makes no difference. [B]
    selective_pair_fraction : of two products that read the same tensor (keys and values; gate and up projection), the
        share of outputs that `selective` recomputation keeps: 1, or 0.5 where every second product is done again. [-]
    gain_per_year : share of the time of kernels that newer releases of the same software save in a year. [-]
    released : dates of the first and the last release that was measured (ISO); the factors hold for the middle of them.
    measured_on : names of the accelerators the residuals cover; elsewhere the interval is wider.
    measured_precisions : precisions of their steps; in others the interval is wider. Empty where it is not stated.
    largest_measured : accelerators of the largest of those runs; beyond it the interval widens. [-]
    """

    name: str
    gemm_slowdown: float
    attention_slowdown: float
    attention_backward_ratio: float
    elementwise_slowdown: float
    cast_slowdown: float
    moe_slowdown: float
    host_overhead_s: float
    tp_exposed: float
    cp_exposed: float
    ep_exposed: float
    pp_exposed: float
    dp_exposed: float
    fsdp_exposed: float
    jitter_per_doubling: float
    residual_sigma: float
    supports: Mapping[str, bool] = field(default_factory=dict)
    host_overhead_moe_s: float = 0.0
    host_overhead_per_expert_s: float = 0.0
    host_share_unquantised: float = 1.0
    host_share_partial_graphs: float = 1.0
    scan_slowdown: float = 1.0
    attention_lag: Mapping[str, float] = field(default_factory=dict)
    jitter_per_doubling_fp8: float = 0.0
    jitter_from: float = 1024.0
    moe_slowdown_fused: float = 1.0
    moe_slowdown_unquantised: float = 0.0
    permute_slowdown: float = 1.0
    expert_bias_slowdown: float = 1.0
    expert_overhead_s: float = 0.0
    routing_map_passes: float = 0.0
    router_overhead_s: float = 0.0
    ep_exposed_scale_out: float = 0.9
    ep_exposed_overlapped: float = 0.15
    chunk_overhead_s: float = 0.0
    residual_sigma_moe: float = 0.0
    comparison_sigma: float = 0.0
    memory_overhead_bytes: float = 3e9
    fragmentation_fraction: float = 0.06
    gradient_bytes: float = 4.0
    master_bytes: float = 4.0
    fsdp_weight_bytes: float = 2.0
    logit_bytes: float = 10.0
    split_logit_bytes: float = 0.0
    selective_pair_fraction: float = 1.0
    gain_per_year: float = 0.0
    released: tuple[str, ...] = ()
    measured_on: tuple[str, ...] = ()
    measured_precisions: tuple[str, ...] = ()
    largest_measured: int = 1024
