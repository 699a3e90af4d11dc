"""Bytes of activations that a layer keeps for its backward, and those it needs while it works. Arrays (layouts,)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from makespan.rows import FloatLike, filled, maximum, some, where
from makespan.specs.layout import Recompute
from makespan.specs.model import ModelSpec
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.step.blocks import is_repeated
from makespan.step.mamba import mamba_saved_elements, mamba_saved_operands
from makespan.workload import LayerKind
from makespan.workload.operators import kv_heads_held
from makespan.workload.parameters import routed_width

SAVED_BYTES = 2.0
"""Activations are saved in 16 bits, except the inputs of low-precision products (`OPERAND_BYTES`)."""

OPERAND_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5625}
"""An input of a matrix product is saved as the product read it: quantised, one copy."""

STATISTIC_BYTES = 4.0
"""The logarithm of a softmax's sum is kept in 32 bits, one for each head and query."""

ROUTER_BYTES = 9.0
"""Of one token and expert: score and probability in 32 bits, and whether it was chosen."""

Kept = Callable[[Recompute], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """One layer, bytes per token of a rank's micro-batch, each of shape (layouts,). [B]

    kept : from forward to backward.   whole : the same without any recomputation.
    gradients : of activations, at the widest place of the layer's backward.
    """

    kept: FloatArray
    whole: FloatArray
    gradients: FloatArray

    @property
    def working(self) -> FloatArray:
        """Beyond `kept`, while the layer's backward runs: what was thrown away is there again, and its gradients. [B]"""
        return self.whole - self.kept + self.gradients


def layer_activations(
    model: ModelSpec,
    layouts: LayoutArrays,
    *,
    kind: LayerKind,
    precision: str = "bf16",
    load_imbalance: float = 1.0,
    pair_fraction: float = 1.0,
    quantised: bool = True,
) -> Saved:
    """Activations of one layer of a kind, per token of a rank's micro-batch. [B]

    Parameters
    ----------
    load_imbalance : tokens of the busiest expert rank over the mean. [-]
    pair_fraction : `FrameworkProfile.selective_pair_fraction`. [-]
    quantised : operands are kept as the products read them; else in 16 bits.

    Notes
    -----
    Counted by operator under flash attention, whose scores are never stored. Outputs (16 bits): the residual streams that
    the norms read (sharded under sequence parallelism), queries, keys, values and the attention output (sharded by heads),
    and what the activation reads. Operands (in the precision of the products): what the norms and the activation write.
    Recomputing a module drops what lies inside it; recomputing attention drops nothing, because its inputs stay and its
    output is the next product's input; full recomputation keeps the layer's input. Routing weights are applied at the
    activation, so the experts' outputs need not be kept.

    References
    ----------
    V. Korthikanti et al., arXiv:2205.05198, section 4 (the same count, with stored scores and dropout masks).
    """
    operand = OPERAND_BYTES[precision] if quantised else SAVED_BYTES
    pair = where((layouts.recompute & int(Recompute.SELECTIVE)) == int(Recompute.SELECTIVE), pair_fraction, 1.0)
    ones = filled(layouts.shape, 1.0)
    sizes = (model, layouts, kind, operand, load_imbalance)
    kept = _saved(*sizes, lambda module: 1.0 - is_repeated(layouts.recompute, module), pair)
    whole = _saved(*sizes, lambda _: ones, ones) if some(layouts.recompute) else kept
    only_input = SAVED_BYTES * model.hidden / _spread(layouts)
    full = layouts.recompute >= int(Recompute.FULL)
    return Saved(
        kept=where(full, only_input, kept),
        whole=whole,
        gradients=_gradient_bytes(model, layouts, kind, load_imbalance),
    )


def _spread(layouts: LayoutArrays) -> FloatArray:
    """Ranks that share the tokens of norms and residuals."""
    return where(layouts.sequence_parallel > 0, layouts.tp, 1) * 1.0


def saved_bytes_per_token(
    model: ModelSpec, layouts: LayoutArrays, *, kind: LayerKind, precision: str = "bf16"
) -> FloatArray:
    """What one layer of a kind keeps for its backward, per token of a rank's micro-batch (`layer_activations`). [B]"""
    return layer_activations(model, layouts, kind=kind, precision=precision).kept


def _saved(
    model: ModelSpec,
    layouts: LayoutArrays,
    kind: LayerKind,
    operand: float,
    load_imbalance: float,
    kept: Kept,
    pair: FloatArray,
) -> FloatArray:
    """pair : of two products that read the same tensor, the share of outputs that is kept."""
    spread = _spread(layouts)
    stream = (SAVED_BYTES + operand * kept(Recompute.NORM)) * model.hidden / spread
    total = filled(layouts.shape, 0.0)
    if kind.mixer == "attention":
        total = total + stream + _attention(model, layouts, operand, kept, pair)
    if kind.mixer == "mamba":
        total = total + stream + SAVED_BYTES * mamba_saved_elements(model, layouts.tp)
        total = total + operand * mamba_saved_operands(model, layouts.tp)
    if kind.ffn:
        total = total + stream
    inner = SAVED_BYTES * (2.0 * pair if model.gated else 1.0) + operand * kept(Recompute.ACTIVATION)
    if kind.ffn == "dense":
        total = total + inner * model.ffn_hidden / layouts.tp * kept(Recompute.MLP)
    if kind.ffn == "moe":
        assert model.moe is not None
        moe = model.moe
        side = (moe.shared_ffn + moe.dense_residual_ffn) / layouts.tp
        total = total + inner * side * kept(Recompute.MLP) + ROUTER_BYTES * moe.num_experts / spread
        if moe.latent:
            total = total + operand * moe.latent / spread
        routed = moe.top_k / layouts.tp * load_imbalance
        arrived = operand * routed_width(model) * layouts.etp
        total = total + routed * (inner * moe.expert_ffn + arrived) * kept(Recompute.EXPERTS)
    return total


def _attention(model: ModelSpec, layouts: LayoutArrays, operand: float, kept: Kept, pair: FloatArray) -> FloatLike:
    """Queries, keys, values, output and softmax statistic of an attention block; latents of multi-head latent attention."""
    # The output is kept once for the kernel's own backward and, where products are quantised, once as their operand.
    output = SAVED_BYTES + (operand if operand < SAVED_BYTES else 0.0)
    statistic = STATISTIC_BYTES * model.num_heads / layouts.tp
    if model.mla is None:
        heads, kv = model.num_heads * model.head_dim, kv_heads_held(model, layouts.tp) * model.head_dim
        read = SAVED_BYTES * (heads + 2.0 * pair * kv + (heads + kv if model.qk_norm else 0.0))
        return (read + output * heads) / layouts.tp + statistic
    mla = model.mla
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    read = SAVED_BYTES * model.num_heads * (2.0 * qk + mla.v_head_dim) * kept(Recompute.UP_PROJECTION)
    # Each latent is kept before its norm and, as the up-projection's operand, after it.
    latents = (SAVED_BYTES + operand) * (mla.q_lora_rank + mla.kv_lora_rank) + SAVED_BYTES * mla.qk_rope_head_dim
    written = output * model.num_heads * mla.v_head_dim
    return (read + written) / layouts.tp + statistic + latents / _spread(layouts)


def _gradient_bytes(model: ModelSpec, layouts: LayoutArrays, kind: LayerKind, load_imbalance: float) -> FloatArray:
    """Gradients of activations at the widest place of a layer's backward, per token. [B]

    Those of what the activation reads and writes, of the layer's input and output, and under sequence parallelism the
    gathered input and its gradient before it is scattered.
    """
    inputs = 2.0 if model.gated else 1.0
    ends = SAVED_BYTES * model.hidden * (2.0 / _spread(layouts) + where(_spread(layouts) > 1, 2.0, 0.0))
    wide = filled(layouts.shape, 0.0)
    if kind.mixer == "attention":
        heads = model.num_heads * (model.head_dim if model.mla is None else model.mla.v_head_dim)
        wide = 3.0 * heads / layouts.tp
    if kind.ffn == "dense":
        wide = maximum(wide, (1.0 + inputs) * model.ffn_hidden / layouts.tp)
    if kind.ffn == "moe":
        assert model.moe is not None
        routed = model.moe.top_k / layouts.tp * load_imbalance
        width = (1.0 + inputs) * model.moe.expert_ffn + 2.0 * routed_width(model) * layouts.etp
        wide = maximum(wide, routed * width)
    return ends + SAVED_BYTES * wide
