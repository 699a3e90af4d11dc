"""How many parameters a model has, in all and on the path of one token.

Counts are exact: checked to the last digit against `config.json` totals in tests/validation/parameter_counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec
from makespan.workload.layers import LayerKind, layer_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of the parts a layer is made of; 0 for a part it does not have. [-]

    attention : projections with their norms and biases.   mamba : Mamba-2 mixer with its convolution and norm.
    norms : the layer's norms of width `hidden`.   dense_ffn : a dense feed-forward.
    router, experts : of a mixture, all experts together.   latent : projections around experts that act on a latent.
    side_ffn : what every token visits beside the routed experts (shared experts, dense residual).
    """

    attention: int
    mamba: int
    norms: int
    dense_ffn: int
    router: int
    latent: int
    experts: int
    side_ffn: int

    @property
    def total(self) -> int:
        return (
            self.attention
            + self.mamba
            + self.norms
            + self.dense_ffn
            + self.router
            + self.latent
            + self.experts
            + self.side_ffn
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters of a model by part. [-]

    layers : every kind of layer with the parameters of one layer of it.
    """

    embedding: int
    head: int
    final_norm: int
    layers: tuple[tuple[LayerKind, LayerParameters], ...]

    @property
    def total(self) -> int:
        body = sum(kind.count * part.total for kind, part in self.layers)
        return self.embedding + self.head + self.final_norm + body


@dataclass(frozen=True, slots=True, kw_only=True)
class MtpParameters:
    """Parameters of the multi-token-prediction layers, in all of them together. [-]

    projection : from the hidden vector and the next token's embedding, side by side, back to `hidden`.
    norms : of the two inputs of the projection and of the output.
    layers : every kind of layer, how many of it are stored, and the parameters of one.
    """

    projection: int
    norms: int
    layers: tuple[tuple[LayerKind, int, LayerParameters], ...]

    @property
    def total(self) -> int:
        return self.projection + self.norms + sum(count * part.total for _, count, part in self.layers)


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


def mamba_parameters(model: ModelSpec, mamba: MambaSpec) -> int:
    """One Mamba-2 mixer. [-]

    Notes
    -----
    Input projection to the gate, x, B, C and the step sizes (no bias); convolution over x, B and C with its bias; step
    bias, decay and skip of each head; gated norm; output projection.

    References
    ----------
    `Mamba2` of github.com/state-spaces/mamba, mamba_ssm/modules/mamba2.py.
    """
    inner, groups = mamba_inner(mamba), 2 * mamba.groups * mamba.state
    projections = model.hidden * (2 * inner + groups + mamba.num_heads) + inner * model.hidden
    convolution = (inner + groups) * (mamba.conv + 1)
    return projections + convolution + 3 * mamba.num_heads + inner


def mamba_inner(mamba: MambaSpec) -> int:
    """Channels of the scan: heads times their width. [-]"""
    return mamba.num_heads * mamba.head_dim


def ffn_parameters(model: ModelSpec, width: int, *, inputs: int | None = None) -> int:
    """One feed-forward block of inner width `width`, biases included. [-]

    inputs : width of what it reads and writes; `hidden` where None.
    """
    if width == 0:
        return 0
    outer = model.hidden if inputs is None else inputs
    matrices = ffn_matrices(model)
    biases = (matrices - 1) * width + outer if model.mlp_bias else 0
    return matrices * outer * width + biases


def expert_parameters(model: ModelSpec, moe: MoeSpec) -> int:
    """One routed expert. [-]"""
    return ffn_parameters(model, moe.expert_ffn, inputs=routed_width(model))


def routed_width(model: ModelSpec) -> int:
    """Width of a token as it travels to its experts: the latent where there is one, else `hidden`. [-]"""
    return model.moe.latent if model.moe is not None and model.moe.latent else model.hidden


def _router_parameters(model: ModelSpec, moe: MoeSpec) -> int:
    return model.hidden * moe.num_experts + (moe.num_experts if model.router_bias else 0)


@lru_cache(maxsize=256)
def layer_parameters(model: ModelSpec, kind: LayerKind) -> LayerParameters:
    """Parameters of each part of one layer of a kind. [-]

    `norms_per_layer` belongs to a layer of two blocks; a layer of one block has half of them.
    """
    blocks = (kind.mixer != "") + (kind.ffn != "")
    moe = model.moe if kind.ffn == "moe" else None
    return LayerParameters(
        attention=attention_parameters(model) if kind.mixer == "attention" else 0,
        mamba=mamba_parameters(model, model.mamba) if kind.mixer == "mamba" and model.mamba is not None else 0,
        norms=-(-model.norms_per_layer * blocks // 2) * model.norm_parameters * model.hidden,
        dense_ffn=ffn_parameters(model, model.ffn_hidden) if kind.ffn == "dense" else 0,
        router=_router_parameters(model, moe) if moe else 0,
        latent=2 * model.hidden * moe.latent if moe else 0,
        experts=moe.num_experts * expert_parameters(model, moe) if moe else 0,
        side_ffn=ffn_parameters(model, moe.shared_ffn) + ffn_parameters(model, moe.dense_residual_ffn) if moe else 0,
    )


@lru_cache(maxsize=256)
def parameters_by_part(model: ModelSpec) -> Parameters:
    """Parameters of the model by part.

    Multi-token-prediction layers are not counted (they are dropped after training): see `mtp_parameters`.
    """
    return Parameters(
        embedding=(model.vocab + model.learned_positions) * model.hidden,
        head=0 if model.tied_embeddings else model.vocab * model.hidden,
        final_norm=model.norm_parameters * model.hidden,
        layers=tuple((kind, layer_parameters(model, kind)) for kind in layer_kinds(model)),
    )


def mtp_parameters(model: ModelSpec) -> MtpParameters:
    """Parameters that multi-token-prediction layers add while training; embedding and head are the model's own. [-]

    References
    ----------
    DeepSeek-V3 technical report, arXiv:2412.19437, section 2.2.
    """
    copies = min(1, model.mtp_layers) if model.mtp_shared else model.mtp_layers
    layers = tuple(
        (kind, kind.mtp * copies // model.mtp_layers, layer_parameters(model, kind))
        for kind in layer_kinds(model)
        if kind.mtp
    )
    return MtpParameters(
        projection=copies * 2 * model.hidden * model.hidden,
        norms=copies * 3 * model.norm_parameters * model.hidden,
        layers=layers,
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
        mixtures = sum(kind.count for kind, _ in parts.layers if kind.ffn == "moe")
        idle = mixtures * (model.moe.num_experts - model.moe.top_k) * expert_parameters(model, model.moe)
    unread = 0 if embedding or model.tied_embeddings else parts.embedding
    return parts.total - idle - unread
