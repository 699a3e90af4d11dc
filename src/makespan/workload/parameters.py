"""How many parameters a transformer has, in all and on the path of one token.

Counts are exact: checked to the last digit against `config.json` totals in tests/validation/parameter_counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from makespan.specs.model import MlaSpec, ModelSpec, MoeSpec
from makespan.workload.layers import layer_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounts:
    """Layers by kind of feed-forward part. `dense + moe` is `ModelSpec.num_layers`."""

    dense: int
    moe: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of the parts a layer is made of. [-]

    attention : projections with their norms and biases.   norms : the layer's norms of width `hidden`.
    dense_ffn : feed-forward of a dense layer.   router, experts : of a mixture layer, all experts together.
    side_ffn : what every token visits beside the routed experts (shared experts, dense residual).
    """

    attention: int
    norms: int
    dense_ffn: int
    router: int
    experts: int
    side_ffn: int

    @property
    def dense_layer(self) -> int:
        return self.attention + self.norms + self.dense_ffn

    @property
    def moe_layer(self) -> int:
        return self.attention + self.norms + self.router + self.experts + self.side_ffn


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters of a model by part. [-]"""

    embedding: int
    head: int
    final_norm: int
    layer: LayerParameters
    counts: LayerCounts

    @property
    def total(self) -> int:
        layers = self.counts.dense * self.layer.dense_layer + self.counts.moe * self.layer.moe_layer
        return self.embedding + self.head + self.final_norm + layers


def layer_counts(model: ModelSpec) -> LayerCounts:
    """Layers whose feed-forward is no mixture, and mixture layers."""
    moe = sum(kind.count for kind in layer_kinds(model) if kind.ffn == "moe")
    return LayerCounts(dense=model.num_layers - moe, moe=moe)


def ffn_matrices(model: ModelSpec) -> int:
    """Matrices in a feed-forward block: 3 for the gated kind (gate, up, down), else 2. [-]"""
    return 3 if model.gated else 2


def _mla_parameters(model: ModelSpec, mla: MlaSpec) -> int:
    heads, query_dim = model.num_heads, mla.qk_nope_head_dim + mla.qk_rope_head_dim
    if mla.q_lora_rank:
        query = mla.q_lora_rank * (model.hidden + 1 + heads * query_dim)
    else:
        query = model.hidden * heads * query_dim
    down = model.hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim) + mla.kv_lora_rank
    up = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return query + down + up + heads * mla.v_head_dim * model.hidden


def attention_parameters(model: ModelSpec) -> int:
    """Projections of one attention block, with biases, QK norms and sinks. [-]"""
    if model.mla is not None:
        return _mla_parameters(model, model.mla)
    qkv_width = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    count = model.hidden * qkv_width + model.num_heads * model.head_dim * model.hidden
    count += qkv_width if model.attention_bias else 0
    count += model.hidden if model.attention_output_bias else 0
    count += 2 * model.head_dim if model.qk_norm else 0
    count += model.num_heads if model.attention_sinks else 0
    return count


def ffn_parameters(model: ModelSpec, width: int) -> int:
    """One feed-forward block of inner width `width`, biases included. [-]"""
    if width == 0:
        return 0
    matrices = ffn_matrices(model)
    biases = (matrices - 1) * width + model.hidden if model.mlp_bias else 0
    return matrices * model.hidden * width + biases


def _router_parameters(model: ModelSpec, moe: MoeSpec) -> int:
    return model.hidden * moe.num_experts + (moe.num_experts if model.router_bias else 0)


def layer_parameters(model: ModelSpec) -> LayerParameters:
    """Parameters of each part of a layer. [-]"""
    moe = model.moe
    return LayerParameters(
        attention=attention_parameters(model),
        norms=model.norms_per_layer * model.norm_parameters * model.hidden,
        dense_ffn=ffn_parameters(model, model.ffn_hidden),
        router=_router_parameters(model, moe) if moe else 0,
        experts=moe.num_experts * ffn_parameters(model, moe.expert_ffn) if moe else 0,
        side_ffn=ffn_parameters(model, moe.shared_ffn) + ffn_parameters(model, moe.dense_residual_ffn) if moe else 0,
    )


def parameters_by_part(model: ModelSpec) -> Parameters:
    """Parameters of the model by part. Multi-token-prediction layers are not counted: they are dropped after training."""
    return Parameters(
        embedding=(model.vocab + model.learned_positions) * model.hidden,
        head=0 if model.tied_embeddings else model.vocab * model.hidden,
        final_norm=model.norm_parameters * model.hidden,
        layer=layer_parameters(model),
        counts=layer_counts(model),
    )


def parameter_count(model: ModelSpec) -> int:
    """All parameters of a model. [-]

    Examples
    --------
    >>> parameter_count(ModelSpec(name="Llama 3.1 8B", num_layers=32, hidden=4096, num_heads=32, num_kv_heads=8,
    ...                           head_dim=128, ffn_hidden=14336, vocab=128256))
    8030261248
    """
    return parameters_by_part(model).total


def active_parameter_count(model: ModelSpec, *, embedding: bool = True) -> int:
    """Parameters that one token visits: everything, less the experts it is not routed to. [-]

    Parameters
    ----------
    embedding : count the input embedding table, of which a token reads one row. Publications differ.
    """
    parts = parameters_by_part(model)
    idle = 0
    if model.moe is not None:
        share = model.moe.num_experts - model.moe.top_k
        idle = parts.counts.moe * share * ffn_parameters(model, model.moe.expert_ffn)
    unread = 0 if embedding or model.tied_embeddings else parts.embedding
    return parts.total - idle - unread
