"""A Hugging Face `config.json` as a `ModelSpec`.

Only architectures whose layers are known are read; another one is an error with the list of those that are. Sizes that
the file leaves out take the defaults of the library's configuration class, and only those given below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from makespan.scenario._limits import MOST, MOST_LAYERS
from makespan.specs.model import MlaSpec, ModelSpec, MoeSpec

MAX_BYTES = 1_000_000
_LLAMA_LIKE = frozenset({"llama", "mistral", "ministral", "olmo", "olmo2", "olmo3", "seed_oss", "smollm3", "granite"})
_QWEN = frozenset({"qwen2", "qwen3"})
_QWEN_MOE = frozenset({"qwen2_moe", "qwen3_moe"})
_DEEPSEEK = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"})
_GEMMA = frozenset({"gemma2", "gemma3_text"})
KNOWN = tuple(
    sorted(
        _LLAMA_LIKE
        | _QWEN
        | _QWEN_MOE
        | _DEEPSEEK
        | _GEMMA
        | {"mixtral", "gpt_oss", "phi3", "nemotron", "gpt2", "glm4_moe"}
    )
)
"""Values of `model_type` that are understood."""


class ConfigError(ValueError):
    """A config.json that cannot be read as a model; the message says why."""


def model_from_file(path: Path) -> ModelSpec:
    """The architecture in a config.json (or in a folder that holds one).

    Raises
    ------
    ConfigError : the file is missing, is no JSON object, names an unknown architecture, or lacks a size.
    """
    if path.is_dir():
        path = path / "config.json"
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"'{path}', which is no regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"the file '{path}' of more than {MAX_BYTES:,} bytes")
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"no file '{path}'") from None
    except OSError as error:
        raise ConfigError(f"'{path}', which cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}', which is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"'{path}', which holds no JSON object")
    return model_from_config(
        data, name=path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    )


def model_from_config(config: Mapping[str, Any], *, name: str) -> ModelSpec:
    """The architecture that a Hugging Face configuration describes.

    Raises
    ------
    ConfigError : unknown architecture, or a missing or senseless size.

    Examples
    --------
    >>> llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    ...          "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}
    >>> model_from_config(llama, name="llama3.1-8b").head_dim
    128
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**config, **text}
    kind = str(config.get("model_type", ""))
    if kind not in KNOWN:
        raise ConfigError(f"the architecture '{kind}' (model_type), which is none of {', '.join(KNOWN)}")
    if kind == "gpt2":
        return _gpt2(config, name)
    layers = _size(config, "num_hidden_layers", high=MOST_LAYERS)
    hidden, heads = (_size(config, key) for key in ("hidden_size", "num_attention_heads"))
    bias = bool(config.get("attention_bias", kind in ("qwen2", "qwen2_moe", "gpt_oss")))
    if not config.get("head_dim") and hidden % heads and kind not in _DEEPSEEK:
        raise ConfigError(f"hidden_size {hidden}, which num_attention_heads {heads} does not divide, and no head_dim")
    moe = _moe(config, kind)
    ffn = _size(config, "intermediate_size") if moe is None or moe.num_dense_first_layers else 0
    window, every = _window(config, kind)
    return ModelSpec(
        name=name,
        num_layers=layers,
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=_size(config, "num_key_value_heads", heads),
        head_dim=_size(config, "head_dim", hidden // heads),
        ffn_hidden=ffn,
        vocab=_size(config, "vocab_size"),
        gated=kind != "nemotron",
        tied_embeddings=bool(config.get("tie_word_embeddings", kind in _GEMMA)),
        mla=_mla(config) if kind in _DEEPSEEK else None,
        moe=moe,
        window=window,
        global_every=every,
        attention_bias=bias,
        attention_output_bias=bias and kind not in ("qwen2", "qwen2_moe"),
        mlp_bias=bool(config.get("mlp_bias", kind == "gpt_oss")),
        qk_norm=kind in ("qwen3", "qwen3_moe", "olmo2", "olmo3", "gemma3_text") or bool(config.get("use_qk_norm")),
        attention_sinks=kind == "gpt_oss",
        router_bias=kind in ("gpt_oss", "deepseek_v3", "kimi_k2", "glm4_moe"),
        norm_parameters=2 if kind == "nemotron" else 1,
        norms_per_layer=4 if kind in _GEMMA else 2,
        mtp_layers=_size(config, "num_nextn_predict_layers", 0, low=0),
    )


def _size(config: Mapping[str, Any], key: str, default: int | None = None, *, low: int = 1, high: int = MOST) -> int:
    value = config.get(key)
    if value is None:
        if default is None:
            raise ConfigError(f"a configuration without '{key}'")
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"'{key}': {value!r}, which is no size")
    return value


def _mla(config: Mapping[str, Any]) -> MlaSpec:
    if config.get("q_lora_rank") is None:
        raise ConfigError("latent attention without a compressed query (q_lora_rank is null), which is not modelled")
    return MlaSpec(
        kv_lora_rank=_size(config, "kv_lora_rank"),
        q_lora_rank=_size(config, "q_lora_rank"),
        qk_nope_head_dim=_size(config, "qk_nope_head_dim"),
        qk_rope_head_dim=_size(config, "qk_rope_head_dim"),
        v_head_dim=_size(config, "v_head_dim"),
    )


def _moe(config: Mapping[str, Any], kind: str) -> MoeSpec | None:
    if kind in ("mixtral", "gpt_oss"):
        return MoeSpec(
            num_experts=_size(config, "num_local_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=_size(config, "intermediate_size"),
        )
    if kind in _QWEN_MOE:
        if _size(config, "decoder_sparse_step", 1) != 1 or config.get("mlp_only_layers"):
            raise ConfigError(
                "experts in some of the layers only (decoder_sparse_step, mlp_only_layers), which is not modelled"
            )
        return MoeSpec(
            num_experts=_size(config, "num_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=_size(config, "moe_intermediate_size"),
            shared_ffn=_size(config, "shared_expert_intermediate_size", 0, low=0),
        )
    if kind in _DEEPSEEK or kind == "glm4_moe":
        expert = _size(config, "moe_intermediate_size")
        if _size(config, "moe_layer_freq", 1) != 1:
            raise ConfigError("experts in some of the layers only (moe_layer_freq), which is not modelled")
        return MoeSpec(
            num_experts=_size(config, "n_routed_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=expert,
            shared_ffn=expert * _size(config, "n_shared_experts", 0, low=0),
            num_dense_first_layers=_size(config, "first_k_dense_replace", 0, low=0),
        )
    return None


def _window(config: Mapping[str, Any], kind: str) -> tuple[int | None, int]:
    if config.get("sliding_window") is None or config.get("use_sliding_window") is False:
        return None, 1
    window = _size(config, "sliding_window")
    layer_types = config.get("layer_types")
    if isinstance(layer_types, list) and layer_types:
        full = sum(1 for word in layer_types if word == "full_attention")
        return (
            (None, 1)
            if full == len(layer_types)
            else (window, round(len(layer_types) / full) if full else len(layer_types) + 1)
        )
    every = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": _size(config, "sliding_window_pattern", 6)}.get(kind)
    # Without a pattern every layer slides: full attention never comes.
    return window, every if every is not None else _size(config, "num_hidden_layers") + 1


def _gpt2(config: Mapping[str, Any], name: str) -> ModelSpec:
    hidden, heads = _size(config, "n_embd"), _size(config, "n_head")
    return ModelSpec(
        name=name,
        num_layers=_size(config, "n_layer", high=MOST_LAYERS),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        ffn_hidden=_size(config, "n_inner", 4 * hidden),
        vocab=_size(config, "vocab_size"),
        gated=False,
        tied_embeddings=bool(config.get("tie_word_embeddings", True)),
        attention_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        norm_parameters=2,
        learned_positions=_size(config, "n_positions"),
    )
