"""An entry of models.yaml as a `ModelSpec`, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from makespan.specs.model import MlaSpec, ModelSpec, MoeSpec
from makespan.validation.cells import LARGEST_COUNT, NotExpressible

UNSUPPORTED = {
    "hybrid_pattern": "Mamba layers",
    "mamba": "Mamba layers",
    "ssm": "state-space layers",
    "linear_attention": "linear attention",
    "moe_latent_size": "experts on a latent",
    "encoder_layers": "an encoder",
    "moe_layer_freq": "experts in some layers only",
    "moe_every": "experts in some layers only",
}
"""Keys whose presence makes another architecture than `ModelSpec` can say."""

KNOWN = frozenset(
    [
        "layers",
        "hidden",
        "heads",
        "kv_heads",
        "head_dim",
        "ffn_hidden",
        "vocab",
        "gated",
        "tied_embeddings",
        "mla",
        "kind",
        "attention",
        "n_experts",
        "top_k",
        "expert_ffn",
        "shared_expert_ffn",
        "dense_first_layers",
        "dense_residual_ffn",
        "mtp_layers",
        "sliding_window",
        "window_pattern",
        "learned_positions",
        "learned_sinks",
        "attention_bias",
        "mlp_bias",
        "qk_norm",
        "lora",
        "base",
        "source",
        "note",
        "notes",
        "mtp_note",
    ]
)


def _size(entry: Mapping[str, Any], key: str, name: str, *, least: int = 1, default: int | None = None) -> int:
    value = entry.get(key)
    if value is None:
        if default is None:
            raise NotExpressible(f"model {name}: {key} is not known")
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_COUNT:
        raise NotExpressible(f"model {name}: {key} is {str(value)[:40]!r}, no whole number from {least}")
    return value


def _flag(entry: Mapping[str, Any], key: str, name: str, *, default: bool = False) -> bool:
    value = entry.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise NotExpressible(f"model {name}: {key} is {str(value)[:40]!r}, not true or false")
    return value


def model_spec(name: str, models: Mapping[str, Any], *, seq_len: int) -> tuple[ModelSpec, list[str]]:
    """The architecture and what was assumed.

    Raises
    ------
    NotExpressible : not in the file, incomplete, or of a kind that `ModelSpec` cannot say.
    """
    if name not in models:
        raise NotExpressible(f"model '{name[:60]}' has no architecture in the models file")
    entry = models[name]
    if not isinstance(entry, Mapping):
        raise NotExpressible(f"model {name}: its architecture is no mapping")
    for key, what in UNSUPPORTED.items():
        if entry.get(key) not in (None, False, 0, 1):
            raise NotExpressible(f"model {name}: {what} cannot be expressed ({key})")
    attention = str(entry.get("attention") or "full").lower()
    if attention not in ("full", "mha", "gqa", "mqa", "mla", "causal"):
        raise NotExpressible(f"model {name}: {attention[:60]} attention cannot be expressed")
    notes = [
        f"unknown key {key} of the model ignored" for key in sorted(set(map(str, entry)) - KNOWN - set(UNSUPPORTED))
    ]
    heads = _size(entry, "heads", name)
    hidden = _size(entry, "hidden", name)
    mla = _mla(entry, name)
    if attention == "mla" and mla is None:
        raise NotExpressible(f"model {name}: sizes of its latent attention are not known")
    moe = _moe(entry, name)
    dense_layers_exist = moe is None or moe.num_dense_first_layers > 0
    window, every = _window(entry, name)
    spec = ModelSpec(
        name=name,
        num_layers=_size(entry, "layers", name),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=_size(entry, "kv_heads", name, default=heads),
        head_dim=_head_dim(entry, name, mla, hidden, heads),
        ffn_hidden=_size(entry, "ffn_hidden", name, least=0, default=None if dense_layers_exist else 0),
        vocab=_size(entry, "vocab", name),
        gated=_flag(entry, "gated", name, default=True),
        tied_embeddings=_flag(entry, "tied_embeddings", name),
        mla=mla,
        moe=moe,
        window=window,
        global_every=every,
        attention_bias=_flag(entry, "attention_bias", name),
        mlp_bias=_flag(entry, "mlp_bias", name),
        qk_norm=_flag(entry, "qk_norm", name),
        attention_sinks=_flag(entry, "learned_sinks", name),
        learned_positions=seq_len if _flag(entry, "learned_positions", name) else 0,
        mtp_layers=_size(entry, "mtp_layers", name, least=0, default=0),
    )
    if spec.num_kv_heads > heads or heads % spec.num_kv_heads:
        raise NotExpressible(f"model {name}: {heads} heads are no multiple of {spec.num_kv_heads} KV heads")
    return spec, notes


def _head_dim(entry: Mapping[str, Any], name: str, mla: MlaSpec | None, hidden: int, heads: int) -> int:
    if mla is not None:
        return mla.qk_nope_head_dim + mla.qk_rope_head_dim
    return _size(entry, "head_dim", name, default=hidden // heads if hidden % heads == 0 else None)


def _mla(entry: Mapping[str, Any], name: str) -> MlaSpec | None:
    sizes = entry.get("mla")
    if sizes is None:
        return None
    if not isinstance(sizes, Mapping):
        raise NotExpressible(f"model {name}: mla is no mapping")
    return MlaSpec(
        kv_lora_rank=_size(sizes, "kv_lora_rank", name),
        q_lora_rank=_size(sizes, "q_lora_rank", name, least=0, default=0),
        qk_nope_head_dim=_size(sizes, "qk_nope_head_dim", name),
        qk_rope_head_dim=_size(sizes, "qk_rope_head_dim", name),
        v_head_dim=_size(sizes, "v_head_dim", name),
    )


def _moe(entry: Mapping[str, Any], name: str) -> MoeSpec | None:
    if entry.get("n_experts") is None and entry.get("top_k") is None:
        if str(entry.get("kind", "dense")).lower() == "moe":
            raise NotExpressible(f"model {name}: its experts are not known")
        return None
    moe = MoeSpec(
        num_experts=_size(entry, "n_experts", name),
        top_k=_size(entry, "top_k", name),
        expert_ffn=_size(entry, "expert_ffn", name),
        shared_ffn=_size(entry, "shared_expert_ffn", name, least=0, default=0),
        num_dense_first_layers=_size(entry, "dense_first_layers", name, least=0, default=0),
        dense_residual_ffn=_size(entry, "dense_residual_ffn", name, least=0, default=0),
    )
    if moe.top_k > moe.num_experts or moe.num_dense_first_layers > _size(entry, "layers", name):
        raise NotExpressible(f"model {name}: its experts or dense layers are more than there are")
    return moe


def _window(entry: Mapping[str, Any], name: str) -> tuple[int | None, int]:
    if entry.get("sliding_window") is None:
        return None, 1
    window = _size(entry, "sliding_window", name)
    pattern = str(entry.get("window_pattern") or "").lower()
    if not pattern or pattern.startswith("all layers"):
        return window, 1
    if pattern.startswith("alternating"):
        return window, 2
    raise NotExpressible(f"model {name}: window pattern '{pattern[:60]}' cannot be expressed")
