"""The architecture of a transformer, as its `config.json` would state it. No formulas: see `workload`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaSpec:
    """Multi-head latent attention (DeepSeek-V2, -V3). Sizes in elements."""

    kv_lora_rank: int
    q_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeSpec:
    """Mixture of experts in the feed-forward part.

    num_experts, top_k : routed experts of a layer, and how many a token visits.
    expert_ffn : inner width of one routed expert.
    shared_ffn : summed inner width of the shared experts that every token visits; 0 for none.
    num_dense_first_layers : leading layers with a dense feed-forward of `ModelSpec.ffn_hidden` instead.
    dense_residual_ffn : inner width of a dense feed-forward beside the experts in every MoE layer (Grok-2); 0 for none.
    """

    num_experts: int
    top_k: int
    expert_ffn: int
    shared_ffn: int = 0
    num_dense_first_layers: int = 0
    dense_residual_ffn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder-only transformer.

    ffn_hidden : inner width of the dense feed-forward; 0 where every layer is a mixture of experts.
    gated : SwiGLU-class feed-forward with three matrices instead of two.
    window, global_every : sliding-window attention of `window` tokens, with full attention in every `global_every`-th
        layer (2 = alternating); `window` None for full attention everywhere.
    norm_parameters : learned vectors per norm: 1 (RMSNorm) or 2 (LayerNorm with bias).
    norms_per_layer : norms of width `hidden` in a layer.
    learned_positions : length of a learned position table; 0 for none.
    mtp_layers : extra multi-token-prediction layers trained beside the model.
    """

    name: str
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_hidden: int
    vocab: int
    gated: bool = True
    tied_embeddings: bool = False
    mla: MlaSpec | None = None
    moe: MoeSpec | None = None
    window: int | None = None
    global_every: int = 1
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    attention_sinks: bool = False
    router_bias: bool = False
    norm_parameters: int = 1
    norms_per_layer: int = 2
    learned_positions: int = 0
    mtp_layers: int = 0
