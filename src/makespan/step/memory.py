"""Bytes on the fullest accelerator, by kind. Arrays of shape (layouts,)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import FloatArray, IntArray, LayoutArrays
from makespan.step.pipeline import StagePlan, micro_batches_in_flight
from makespan.workload.parameters import parameters_by_part

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


def layer_state(model: ModelSpec, layouts: LayoutArrays, *, moe_layer: bool) -> LayerState:
    """Parameters of a layer on one rank. Norms and routers are replicated over tp; all else is cut."""
    part = parameters_by_part(model).layer
    cut = part.attention + (part.side_ffn if moe_layer else part.dense_ffn)
    whole = part.norms + (part.router if moe_layer else 0)
    experts = part.experts / (layouts.ep * layouts.etp) if moe_layer else np.zeros(len(layouts))
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
    dense = layer_state(model, layouts, moe_layer=False)
    first = plan.body_dense * dense.shared
    last = plan.last_dense * dense.shared
    first_experts = last_experts = np.zeros(len(layouts))
    if model.moe is not None:
        moe = layer_state(model, layouts, moe_layer=True)
        first, last = first + plan.body_moe * moe.shared, last + plan.last_moe * moe.shared
        first_experts, last_experts = plan.body_moe * moe.experts, plan.last_moe * moe.experts
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
    model: ModelSpec, layouts: LayoutArrays, *, moe_layer: bool, precision: str = "bf16"
) -> FloatArray:
    """Activations that one layer keeps for its backward, per token of a rank's micro-batch. [B]

    Notes
    -----
    Counted by operator under flash attention. Outputs (16 bits): the two residual streams that the norms read (sharded
    under sequence parallelism), queries, keys, values and the attention output (sharded by heads), and what the
    activation reads. Operands (in the precision of the products): what the norms and the activation write. Selective
    recomputation drops the operands, full recomputation all but the layer's input. Routing weights are applied at the
    activation, so the experts' outputs need not be kept.
    """
    spread = np.where(layouts.sequence_parallel > 0, layouts.tp, 1)
    inputs = 2.0 if model.gated else 1.0
    if model.mla is not None:
        mla = model.mla
        qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        heads = model.num_heads * (2.0 * qk + 2.0 * mla.v_head_dim) / layouts.tp
        attention = heads + (mla.q_lora_rank + mla.kv_lora_rank + mla.qk_rope_head_dim) / spread
    else:
        attention = (2.0 * model.num_heads + 2.0 * model.num_kv_heads) * model.head_dim / layouts.tp
    outputs = 2.0 * model.hidden / spread + attention
    operands = 2.0 * model.hidden / spread
    if not moe_layer:
        outputs = outputs + inputs * model.ffn_hidden / layouts.tp
        operands = operands + model.ffn_hidden / layouts.tp
    else:
        assert model.moe is not None
        moe = model.moe
        side = (moe.shared_ffn + moe.dense_residual_ffn) / layouts.tp
        routed = moe.top_k / layouts.tp
        outputs = outputs + inputs * side + routed * inputs * moe.expert_ffn
        operands = operands + side + routed * (model.hidden + moe.expert_ffn)
    selective = layouts.recompute == int(Recompute.SELECTIVE)
    kept = SAVED_BYTES * outputs + np.where(selective, 0.0, OPERAND_BYTES[precision]) * operands
    only_input = SAVED_BYTES * model.hidden / spread
    return np.asarray(np.where(layouts.recompute == int(Recompute.FULL), only_input, kept))


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
        (optimizer.master_bytes + optimizer.moment_bytes) * kept(Sharding.ZERO1),
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
    dense_saved = saved_bytes_per_token(model, layouts, moe_layer=False, precision=config.precision)
    first_saved, last_saved = plan.body_dense * dense_saved, plan.last_dense * dense_saved
    if model.moe is not None:
        moe_saved = saved_bytes_per_token(model, layouts, moe_layer=True, precision=config.precision)
        first_saved, last_saved = first_saved + plan.body_moe * moe_saved, last_saved + plan.last_moe * moe_saved
    full = layouts.recompute == int(Recompute.FULL)
    working = np.where(full, _one_layer_working(model, layouts, config.precision), 0.0) * tokens
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
    return saved_bytes_per_token(model, plain, moe_layer=model.moe is not None, precision=precision)


def _buffer_bytes(model: ModelSpec, layouts: LayoutArrays, tokens: FloatArray, config: StepConfig) -> FloatArray:
    """Gathered weights of two layers under ZeRO-3; dispatched and combined tokens of one mixture layer. [B]"""
    moe_layer = model.moe is not None
    layer = layer_state(model, layouts, moe_layer=moe_layer)
    weights = 2.0 * config.optimizer.weight_bytes * (layer.shared + layer.experts)
    buffers = np.where(layouts.sharding >= int(Sharding.ZERO3), weights, 0.0)
    if model.moe is not None:
        sent = tokens / layouts.tp * model.moe.top_k * model.hidden * SAVED_BYTES
        buffers = buffers + np.where(layouts.ep * layouts.etp > 1, 2.0 * sent, 0.0)
    return np.asarray(buffers)
