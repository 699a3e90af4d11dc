"""Bytes on the fullest accelerator, by kind. Arrays of shape (layouts,)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Offload, Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import FloatArray, IntArray, LayoutArrays
from makespan.step.blocks import is_repeated
from makespan.step.mamba import mamba_saved_elements
from makespan.step.pipeline import StagePlan, micro_batches_in_flight
from makespan.workload import LayerKind, layer_kinds, layer_parameters
from makespan.workload.parameters import mtp_parameters, parameters_by_part, routed_width

FloatLike = float | NDArray[np.floating[Any]]

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "overhead")

SAVED_BYTES = 2.0
"""Activations are saved in 16 bits, except the inputs of low-precision products (`OPERAND_BYTES`)."""

OPERAND_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5625}
"""An input of a matrix product is saved as the product read it: quantised, one copy."""

LOGIT_BYTES = 10.0
"""One logit: 16-bit logits, 32-bit copy, 32-bit gradient of the loss, one of them reused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerState:
    """Parameters of one layer that live on one rank, before any sharding over data. Shapes (layouts,).

    shared : summed over cp * dp.   experts : summed over the expert-data group.
    """

    shared: FloatArray
    experts: FloatArray


def layer_state(model: ModelSpec, layouts: LayoutArrays, *, kind: LayerKind) -> LayerState:
    """Parameters of a layer on one rank. Norms, routers and latent projections are replicated over tp; all else is cut."""
    part = layer_parameters(model, kind)
    cut = part.attention + part.mamba + part.dense_ffn + part.side_ffn
    whole = part.norms + part.router + part.latent
    experts = part.experts / (layouts.ep * layouts.etp) if part.experts else np.zeros(len(layouts))
    return LayerState(shared=cut / layouts.tp + whole, experts=np.asarray(experts, dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageState:
    """Parameters that one rank of the first and of the last stage holds, before sharding over data."""

    first_shared: FloatArray
    first_experts: FloatArray
    last_shared: FloatArray
    last_experts: FloatArray


def stage_state(model: ModelSpec, layouts: LayoutArrays, plan: StagePlan) -> StageState:
    """Parameters by stage: the first holds the embedding, the last the head (a copy of the embedding where tied)."""
    parts = parameters_by_part(model)
    states = [layer_state(model, layouts, kind=kind) for kind in layer_kinds(model)]
    shared = np.stack([state.shared for state in states])
    experts = np.stack([state.experts for state in states])
    first, last = (plan.first * shared).sum(axis=0), (plan.last * shared).sum(axis=0)
    first_experts, last_experts = (plan.first * experts).sum(axis=0), (plan.last * experts).sum(axis=0)
    if model.mtp_layers:
        last = last + mtp_parameters(model).projection / layouts.tp * (1.0 - plan.mtp_apart)
    embedding = parts.embedding / layouts.tp
    head = (model.vocab * model.hidden) / layouts.tp
    alone = layouts.pp == 1
    total = last + embedding + (0.0 if model.tied_embeddings else head)
    return StageState(
        first_shared=np.where(alone, total, first + embedding),
        first_experts=np.where(alone, last_experts, first_experts),
        last_shared=np.where(alone, total, last + head),
        last_experts=last_experts,
    )


def saved_bytes_per_token(
    model: ModelSpec, layouts: LayoutArrays, *, kind: LayerKind, precision: str = "bf16"
) -> FloatArray:
    """Activations that one layer keeps for its backward, per token of a rank's micro-batch. [B]

    Notes
    -----
    Counted by operator under flash attention. Outputs (16 bits): the residual streams that the norms read (sharded
    under sequence parallelism), queries, keys, values and the attention output (sharded by heads), and what the
    activation reads. Operands (in the precision of the products): what the norms and the activation write. Recomputing
    norms and activations drops the operands, full recomputation all but the layer's input. Routing weights are applied
    at the activation, so the experts' outputs need not be kept.
    """
    spread = np.where(layouts.sequence_parallel > 0, layouts.tp, 1)

    def kept(module: Recompute) -> FloatArray:
        return 1.0 - is_repeated(layouts.recompute, module)

    operand = OPERAND_BYTES[precision]
    inputs = 2.0 if model.gated else 1.0
    norm_out = operand * model.hidden / spread * kept(Recompute.NORM)
    total: FloatLike = np.zeros(len(layouts))
    if kind.mixer:
        total = total + SAVED_BYTES * model.hidden / spread + norm_out
    if kind.mixer == "attention":
        total = total + _attention_saved_bytes(model, layouts, kept)
    if kind.mixer == "mamba":
        total = total + SAVED_BYTES * mamba_saved_elements(model, layouts.tp)
    if kind.ffn:
        total = total + SAVED_BYTES * model.hidden / spread + norm_out
    if kind.ffn == "dense":
        width = model.ffn_hidden / layouts.tp
        total = total + (SAVED_BYTES * inputs + operand * kept(Recompute.ACTIVATION)) * width * kept(Recompute.MLP)
    if kind.ffn == "moe":
        assert model.moe is not None
        moe = model.moe
        side = (moe.shared_ffn + moe.dense_residual_ffn) / layouts.tp
        total = total + (SAVED_BYTES * inputs + operand * kept(Recompute.ACTIVATION)) * side * kept(Recompute.MLP)
        routed = moe.top_k / layouts.tp
        inner = (SAVED_BYTES * inputs + operand * kept(Recompute.ACTIVATION)) * moe.expert_ffn
        arrived = operand * routed_width(model)
        total = total + routed * (inner + arrived) * kept(Recompute.EXPERTS)
    only_input = SAVED_BYTES * model.hidden / spread
    return np.asarray(np.where(layouts.recompute >= int(Recompute.FULL), only_input, total))


def _attention_saved_bytes(
    model: ModelSpec, layouts: LayoutArrays, kept: Callable[[Recompute], FloatArray]
) -> FloatLike:
    """Queries, keys, values and the output of an attention block; latents of multi-head latent attention."""
    if model.mla is None:
        out = model.num_heads * model.head_dim / layouts.tp
        read = (model.num_heads + 2.0 * model.num_kv_heads) * model.head_dim / layouts.tp
        return SAVED_BYTES * (read + out)
    mla = model.mla
    spread = np.where(layouts.sequence_parallel > 0, layouts.tp, 1)
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    read = model.num_heads * (2.0 * qk + mla.v_head_dim) / layouts.tp * kept(Recompute.UP_PROJECTION)
    out = model.num_heads * mla.v_head_dim / layouts.tp
    latents = (mla.q_lora_rank + mla.kv_lora_rank + mla.qk_rope_head_dim) / spread
    return SAVED_BYTES * (read + out + latents)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """Peak bytes on the fullest accelerator, and the stage it is on (0 first, pp - 1 last)."""

    total_bytes: FloatArray
    stage: IntArray
    by_kind: dict[str, FloatArray]


def _state_bytes(
    shared: FloatArray, experts: FloatArray, layouts: LayoutArrays, config: StepConfig
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights, gradients and optimizer state of one rank after sharding over data. [B]"""
    optimizer = config.optimizer
    data = layouts.cp * layouts.dp
    expert_data = layouts.tp * data / (layouts.ep * layouts.etp)

    def kept(stage: Sharding) -> FloatArray:
        # Under a pipeline ZeRO-3 keeps weights and gradients whole from the first micro-batch to the last.
        cut = (layouts.sharding >= int(stage)) & (
            (stage == Sharding.ZERO1) | (layouts.pp == 1) | (layouts.sharding < 3)
        )
        return np.asarray(shared / np.where(cut, data, 1) + experts / np.where(cut, expert_data, 1))

    return (
        optimizer.weight_bytes * kept(Sharding.ZERO3),
        optimizer.gradient_bytes * kept(Sharding.ZERO2),
        (optimizer.master_bytes + optimizer.moment_bytes)
        * kept(Sharding.ZERO1)
        * np.where(layouts.offload & int(Offload.OPTIMIZER), 0.0, 1.0),
    )


def memory_bytes(
    model: ModelSpec,
    config: StepConfig,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    plan: StagePlan,
    state: StageState,
) -> Memory:
    """Peak memory of the first and the last stage; the larger counts. [B]

    Stages between hold no more than the first: as many layers, fewer micro-batches in flight, no embedding.
    """
    tokens = layouts.micro_batch * (config.seq_len / layouts.cp)
    flight = micro_batches_in_flight(layouts, layouts.num_micro_batches(config.global_batch))
    by_kind = [
        saved_bytes_per_token(model, layouts, kind=kind, precision=config.precision) for kind in layer_kinds(model)
    ]
    on_card = np.where(layouts.offload & int(Offload.ACTIVATIONS), 0.0, 1.0)
    saved = np.stack(by_kind) * on_card
    first_saved, last_saved = (plan.first * saved).sum(axis=0), (plan.last * saved).sum(axis=0)
    full = layouts.recompute >= int(Recompute.FULL)
    working = np.where(full, _one_layer_working(model, layouts, config.precision), 0.0) * tokens
    # What goes to the host is still there for the layer that works and for the one whose copies are on their way.
    working = working + 2.0 * (1.0 - on_card) * np.max(by_kind, axis=0) * tokens
    alone = layouts.pp == 1
    last_flight = np.where(layouts.vpp > 1, np.minimum(layouts.pp, flight), 1.0)
    activations = (
        np.where(alone, last_saved, first_saved) * tokens * flight + working,
        last_saved * tokens * np.where(alone, flight, last_flight) + working,
    )
    logits = LOGIT_BYTES * tokens * model.vocab / layouts.tp
    buffers = _buffer_bytes(model, layouts, tokens, config)
    sides = []
    for stage, (shared, experts) in enumerate(
        ((state.first_shared, state.first_experts), (state.last_shared, state.last_experts))
    ):
        weights, gradients, optimizer = _state_bytes(shared, experts, layouts, config)
        sides.append(
            {
                "weights": weights,
                "gradients": gradients,
                "optimizer": optimizer,
                "activations": activations[stage],
                "logits": logits if stage else np.where(alone, logits, 0.0),
                "buffers": buffers,
                "overhead": np.full(len(layouts), profile.memory_overhead_bytes),
            }
        )
    totals = [np.asarray(sum(side.values())) for side in sides]
    fuller_last = totals[1] > totals[0]
    return Memory(
        total_bytes=np.maximum(*totals),
        stage=np.where(fuller_last, layouts.pp - 1, 0),
        by_kind={kind: np.where(fuller_last, sides[1][kind], sides[0][kind]) for kind in KINDS},
    )


def _one_layer_working(model: ModelSpec, layouts: LayoutArrays, precision: str) -> FloatArray:
    """Activations of the layer being computed again under full recomputation, per token. [B]"""
    plain = replace(layouts, recompute=np.zeros_like(layouts.recompute))
    layers = [saved_bytes_per_token(model, plain, kind=kind, precision=precision) for kind in layer_kinds(model)]
    return np.asarray(np.max(layers, axis=0))


def _buffer_bytes(model: ModelSpec, layouts: LayoutArrays, tokens: FloatArray, config: StepConfig) -> FloatArray:
    """Gathered weights of two layers under ZeRO-3; dispatched and combined tokens of one mixture layer. [B]"""
    states = [layer_state(model, layouts, kind=kind) for kind in layer_kinds(model)]
    largest = np.max([state.shared + state.experts for state in states], axis=0)
    weights = 2.0 * config.optimizer.weight_bytes * largest
    buffers = np.where(layouts.sharding >= int(Sharding.ZERO3), weights, 0.0)
    if model.moe is not None:
        sent = tokens / layouts.tp * model.moe.top_k * routed_width(model) * SAVED_BYTES
        buffers = buffers + np.where(layouts.ep * layouts.etp > 1, 2.0 * sent, 0.0)
    return np.asarray(buffers)
