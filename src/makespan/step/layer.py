"""One layer of each kind, and the head, for one micro-batch on one rank: kernels and the communication inside the layer.

Everything here depends on few of a layout's sizes (`evaluate._KEY_FIELDS`), so `evaluate` computes it once for each
distinct combination and looks it up for every layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from makespan.rows import FloatArray, FloatLike, filled, maximum, minimum, power, some, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import CudaGraphs, Offload, Recompute
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import kernels
from makespan.step.activations import saved_bytes_per_token
from makespan.step.arrays import IntArray, LayoutArrays
from makespan.step.attention import attention_block, tensor_parallel_traffic
from makespan.step.blocks import (
    PRODUCT_BACKWARD_FLOP,
    Block,
    Traffic,
    Work,
    is_repeated,
    launch_share,
    products,
)
from makespan.step.feedforward import dense_block, moe_block
from makespan.step.mamba import mamba_block
from makespan.workload import LayerKind, head_gemm, layer_kinds

LOGIT_BYTES = 18.0
"""Softmax, loss and gradient over one logit: 16-bit in, 32-bit exponentials written and read twice, 16-bit out."""

HOST_NORM = 5.0
"""Power of the blend between the accelerator's time and the host's launch time of a layer."""

PRODUCTS = ("gemm", "experts")
"""Names of matrix products among the kernels of a layer."""

BLOCKS_OF_A_FULL_LAYER = 2.0
"""Host figures are stated for a layer of two blocks; a layer of one block (hybrids) launches half."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTimes:
    """Seconds of one layer (or the head) for one micro-batch, forward and backward; arrays of shape (keys,).

    compute : by operator, host floor included; adds up to `compute_s`.   kernels_s : without the host floor.
    exposed, hidden : communication by kind, split by overlap.
    forward_s, weight_s : parts of busy time (`compute_s + exposed_s`): the forward pass; gradients of weights only.
    ideal_s : FLOP of the layer at peak rate.   executed_flop : of one rank, recompute and flash backward included. [FLOP]
    """

    compute: dict[str, FloatArray]
    exposed: dict[str, FloatArray]
    hidden: dict[str, FloatArray]
    compute_s: FloatArray
    kernels_s: FloatArray
    exposed_s: FloatArray
    hidden_s: FloatArray
    forward_s: FloatArray
    weight_s: FloatArray
    ideal_s: FloatArray
    executed_flop: FloatArray

    @property
    def busy_s(self) -> FloatArray:
        """What the layer takes of its rank. [s]"""
        return self.compute_s + self.exposed_s


def _wide(values: dict[str, FloatLike], shape: tuple[int, ...]) -> dict[str, FloatArray]:
    """Values of every key: what does not depend on it is a number so far."""
    nothing = filled(shape, 0.0)
    return {name: nothing + value for name, value in values.items()}


def _sum(values: Iterable[FloatArray], nothing: FloatArray) -> FloatArray:
    return sum(values, start=nothing)


def assemble(
    blocks: tuple[Block, ...],
    recompute: IntArray,
    shape: tuple[int, ...],
    *,
    host_s: FloatLike,
    products_again: FloatLike = 0.0,
) -> LayerTimes:
    """Add up blocks: repeat what is recomputed, split communication into exposed and hidden, add the host floor.

    products_again : share of the products' forward that is computed again, whatever module they are in. [-]

    Of each kind of communication a share is always exposed; the rest hides behind the layer's kernels as far as they last.
    """
    nothing = filled(shape, 0.0)
    compute: dict[str, FloatLike] = {}
    again = forward = weight = ideal = flop = nothing
    for block in blocks:
        for part in block.work:
            repeated = is_repeated(recompute, part.module)
            if part.name in PRODUCTS:
                repeated = maximum(repeated, products_again)
            compute[part.name] = compute.get(part.name, 0.0) + (part.forward_s + part.backward_s)
            again = again + repeated * part.forward_s
            forward = forward + part.forward_s
            weight = weight + part.weight_s
            ideal = ideal + (1.0 + PRODUCT_BACKWARD_FLOP + repeated) * part.ideal_s
            flop = flop + (1.0 + part.backward_flop + repeated) * part.flop
    compute["recompute"] = again
    wide = _wide(compute, shape)
    kernels_s = _sum(wide.values(), nothing)
    traffic: dict[str, FloatLike] = {}
    hideable: dict[str, FloatLike] = {}
    sent_forward = nothing
    for block in blocks:
        for kind in block.traffic:
            total = kind.forward_s + kind.backward_s + is_repeated(recompute, kind.module) * kind.forward_s
            traffic[kind.name] = traffic.get(kind.name, 0.0) + total
            hideable[kind.name] = hideable.get(kind.name, 0.0) + (1.0 - kind.exposed) * total
            sent_forward = sent_forward + kind.forward_s
    sent, could_hide = _wide(traffic, shape), _wide(hideable, shape)
    reach = minimum(1.0, kernels_s / maximum(_sum(could_hide.values(), nothing), 1e-30))
    hidden = {name: value * reach for name, value in could_hide.items()}
    exposed = {name: sent[name] - hidden[name] for name in sent}
    exposed_s = _sum(exposed.values(), nothing)
    busy = kernels_s + exposed_s
    floor = maximum(nothing + host_s, 1e-30)
    peak = maximum(busy, floor)
    blended = peak * power(power(busy / peak, HOST_NORM) + power(floor / peak, HOST_NORM), 1.0 / HOST_NORM)
    wide["host"] = blended - busy
    share = sent_forward / maximum(_sum(sent.values(), nothing), 1e-30)
    stretch = blended / maximum(busy, 1e-30)
    return LayerTimes(
        compute=wide,
        exposed=exposed,
        hidden=hidden,
        compute_s=kernels_s + wide["host"],
        kernels_s=kernels_s,
        exposed_s=exposed_s,
        hidden_s=_sum(hidden.values(), nothing),
        forward_s=(forward + share * exposed_s) * stretch,
        weight_s=weight * stretch,
        ideal_s=ideal,
        executed_flop=flop,
    )


def host_floor_s(
    profile: FrameworkProfile, keys: LayoutArrays, *, num_blocks: int, num_experts: FloatLike, precision: str = "fp8"
) -> FloatArray:
    """Launch time of a layer on the host, forward and backward: nothing under a graph of the whole iteration. [s]

    precision : of the products; in 8 or 4 bits casts and scales are launched too.
    """
    launches = profile.host_overhead_s * num_blocks / BLOCKS_OF_A_FULL_LAYER
    partial = where(keys.cuda_graphs == int(CudaGraphs.PARTIAL), profile.host_share_partial_graphs, 1.0)
    experts = profile.host_overhead_per_expert_s * num_experts + profile.host_overhead_moe_s * (num_experts > 0)
    full = launches * partial + experts
    full = full * launch_share(profile, precision)
    return where(keys.cuda_graphs == int(CudaGraphs.FULL), 0.0, full)


def _offload_traffic(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, keys: LayoutArrays, kind: LayerKind
) -> Traffic:
    """Saved activations over the host link, out and back; all of it hides while the kernels last."""
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    saved = tokens * saved_bytes_per_token(model, keys, kind=kind, precision=config.precision)
    moves = (keys.offload & int(Offload.ACTIVATIONS)) > 0
    once = where(moves, saved / max(cluster.accelerator.host_bytes_per_s, 1e-30), 0.0)
    return Traffic(name="offload", forward_s=once, backward_s=once, exposed=0.0, module=Recompute.NONE)


MAKERS = {"attention": attention_block, "mamba": mamba_block, "dense": dense_block, "moe": moe_block}
"""Mixers and feed-forwards by name (`LayerKind.mixer`, `LayerKind.ffn`)."""


def blocks_of(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> dict[str, Block]:
    """Every mixer and feed-forward that some layer of the model holds, by name. Arrays of shape (keys,)."""
    names = dict.fromkeys(name for kind in layer_kinds(model) for name in (kind.mixer, kind.ffn) if name)
    return {name: MAKERS[name](model, config, cluster, profile, keys) for name in names}


def layer_times(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    keys: LayoutArrays,
    *,
    kind: LayerKind,
    known: Mapping[str, Block],
) -> LayerTimes:
    """One layer of a kind: mixer, then feed-forward, out of `known` blocks (`blocks_of`). Arrays of shape (keys,)."""
    blocks = tuple(known[name] for name in (kind.mixer, kind.ffn) if name)
    floor = host_floor_s(
        profile,
        keys,
        num_blocks=len(blocks),
        num_experts=sum((block.num_experts for block in blocks), start=0.0),
        precision=config.precision,
    )
    if some(keys.offload & int(Offload.ACTIVATIONS)):
        blocks += (Block(work=(), traffic=(_offload_traffic(model, config, cluster, keys, kind),)),)
    selective = (keys.recompute & int(Recompute.SELECTIVE)) == int(Recompute.SELECTIVE)
    again = where(selective, 1.0 - profile.selective_pair_fraction, 0.0)
    return assemble(blocks, keys.recompute, keys.shape, host_s=floor, products_again=again)


def head_times(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, keys: LayoutArrays
) -> LayerTimes:
    """Logits, loss and their backward for one micro-batch, on the last stage. Arrays of shape (keys,)."""
    accelerator = cluster.accelerator
    tokens = keys.micro_batch * (config.seq_len / keys.cp)
    head, *_ = products((head_gemm(model, tokens=tokens, tp=keys.tp),), config, accelerator, profile, name="head")
    stream = LOGIT_BYTES * tokens * model.vocab / keys.tp / kernels.stream_bytes_per_s(accelerator)
    # The loss: a third of its traffic in the forward pass.
    loss = Work(name="head", forward_s=stream / 3.0, backward_s=stream * 2.0 / 3.0)
    gather = tensor_parallel_traffic(model, cluster, profile, keys, tokens, precision="bf16")
    once = Traffic(
        name="tp", forward_s=0.5 * gather.forward_s, backward_s=0.5 * gather.forward_s, exposed=profile.tp_exposed
    )
    return assemble((Block(work=(head, loss), traffic=(once,)),), 0 * keys.recompute, keys.shape, host_s=0.0)
