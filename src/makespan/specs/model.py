"""The architecture of a language model, as its `config.json` would state it. No formulas: see `workload`."""

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
class MambaSpec:
    """A Mamba-2 mixer (state-space duality). Sizes in elements; the inner width is `num_heads * head_dim`.

    num_heads, head_dim : heads of the scan and their width.
    state : numbers of state a channel carries from token to token.
    groups : groups of heads that share the input and output maps of the state (B and C).
    conv : taps of the causal convolution before the scan.

    References
    ----------
    T. Dao, A. Gu, Transformers are SSMs, arXiv:2405.21060, sections 6 and 7.
    """

    num_heads: int
    head_dim: int
    state: int
    groups: int
    conv: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeSpec:
    """Mixture of experts in the feed-forward part.

    num_experts, top_k : routed experts of a layer, and how many a token visits.
    expert_ffn : inner width of one routed expert.
    shared_ffn : summed inner width of the shared experts that every token visits; 0 for none.
    num_dense_first_layers : leading layers with a dense feed-forward of `ModelSpec.ffn_hidden` instead.
    dense_residual_ffn : inner width of a dense feed-forward beside the experts in every MoE layer (Grok-2); 0 for none.
    latent : routed experts act on vectors of this width instead of `hidden` (Nemotron 3 Super): one projection down before
        the dispatch and one up after the combine, shared by all experts. Router and shared experts see the full width.
        0 for none.
    every : a mixture in every `every`-th layer, the last of each group (Llama 4 Maverick: 2); dense elsewhere.
    """

    num_experts: int
    top_k: int
    expert_ffn: int
    shared_ffn: int = 0
    num_dense_first_layers: int = 0
    dense_residual_ffn: int = 0
    latent: int = 0
    every: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder-only language model: a transformer, or a hybrid of attention, Mamba-2 and feed-forward layers.

    ffn_hidden : inner width of the dense feed-forward; 0 where every layer is a mixture of experts.
    gated : SwiGLU-class feed-forward with three matrices instead of two.
    window, global_every : sliding-window attention of `window` tokens, with full attention in every `global_every`-th
        layer (2 = alternating); `window` None for full attention everywhere.
    norm_parameters : learned vectors per norm: 1 (RMSNorm) or 2 (LayerNorm with bias).
    norms_per_layer : norms of width `hidden` in a layer.
    learned_positions : length of a learned position table; 0 for none.
    mtp_layers : extra multi-token-prediction layers trained beside the model.
    mtp_pattern : letters of one multi-token-prediction layer of a hybrid ("*E": attention, then a mixture); "" for an
        ordinary layer, attention and the feed-forward of the last layer.
    mtp_shared : the multi-token-prediction layers are one layer used `mtp_layers` times (one set of weights).
    pattern : one letter a layer where layers hold one block each: M Mamba-2, * attention, - dense feed-forward, E mixture
        (Nemotron-H). "" for an ordinary transformer, every layer attention and a feed-forward.
    mamba : sizes of the Mamba-2 mixers; None where `pattern` has no M.
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
    mtp_pattern: str = ""
    mtp_shared: bool = False
    pattern: str = ""
    mamba: MambaSpec | None = None
