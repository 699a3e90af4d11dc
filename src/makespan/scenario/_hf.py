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
from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec

MAX_BYTES = 1_000_000
_LLAMA_LIKE = frozenset({"llama", "mistral", "ministral", "olmo", "olmo2", "olmo3", "seed_oss", "smollm3", "granite"})
_QWEN = frozenset({"qwen2", "qwen3"})
_QWEN_MOE = frozenset({"qwen2_moe", "qwen3_moe"})
_DEEPSEEK = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"})
_GEMMA = frozenset({"gemma2", "gemma3_text"})
_BLOCKS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}
"""Words of `layers_block_type` of a Nemotron-H configuration, as the letters of its older `hybrid_override_pattern`."""
KNOWN = tuple(
    sorted(
        _LLAMA_LIKE
        | _QWEN
        | _QWEN_MOE
        | _DEEPSEEK
        | _GEMMA
        | {"mixtral", "gpt_oss", "phi3", "nemotron", "gpt2", "glm4_moe", "nemotron_h", "llama4_text"}
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
    if kind == "nemotron_h":
        return _nemotron_h(config, name)
    layers = _size(config, "num_hidden_layers", high=MOST_LAYERS)
    hidden, heads = (_size(config, key) for key in ("hidden_size", "num_attention_heads"))
    bias = bool(config.get("attention_bias", kind in ("qwen2", "qwen2_moe", "gpt_oss")))
    if not config.get("head_dim") and hidden % heads and kind not in _DEEPSEEK:
        raise ConfigError(f"hidden_size {hidden}, which num_attention_heads {heads} does not divide, and no head_dim")
    moe = _moe(config, kind)
    dense = moe is None or moe.num_dense_first_layers > 0 or moe.every > 1
    ffn = _size(config, "intermediate_size_mlp" if kind == "llama4_text" else "intermediate_size") if dense else 0
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
        attention_output_bias=bias and kind not in ("qwen2", "qwen2_moe", "glm4_moe"),
        mlp_bias=bool(config.get("mlp_bias", kind == "gpt_oss")),
        qk_norm=kind in ("qwen3", "qwen3_moe", "olmo2", "olmo3", "gemma3_text")
        # The norm of Llama 4 has no parameters.
        or (bool(config.get("use_qk_norm")) and kind != "llama4_text"),
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
    return MlaSpec(
        kv_lora_rank=_size(config, "kv_lora_rank"),
        # null: the query is not compressed (Moonlight, DeepSeek-V2-Lite)
        q_lora_rank=_size(config, "q_lora_rank", 0, low=0),
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
        return MoeSpec(
            num_experts=_size(config, "num_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=_size(config, "moe_intermediate_size"),
            shared_ffn=_size(config, "shared_expert_intermediate_size", 0, low=0),
            num_dense_first_layers=_leading(config.get("mlp_only_layers")),
            every=_size(config, "decoder_sparse_step", 1),
        )
    if kind == "llama4_text":
        every = _size(config, "interleave_moe_layer_step", 1)
        _same_mixtures(config, every)
        return MoeSpec(
            num_experts=_size(config, "num_local_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=_size(config, "intermediate_size"),
            shared_ffn=_size(config, "intermediate_size"),
            every=every,
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


def _leading(dense: Any) -> int:
    """How many layers at the start are dense, from a list of their numbers."""
    if not dense:
        return 0
    if not isinstance(dense, list) or sorted(map(str, dense)) != sorted(map(str, range(len(dense)))):
        raise ConfigError("dense layers that are not the first ones (mlp_only_layers), which is not modelled")
    return len(dense)


def _same_mixtures(config: Mapping[str, Any], every: int) -> None:
    """Where the mixtures are listed, the list must be that of every so many layers."""
    listed = config.get("moe_layers")
    layers = _size(config, "num_hidden_layers", high=MOST_LAYERS)
    if listed and listed != [layer for layer in range(layers) if (layer + 1) % every == 0]:
        raise ConfigError("experts in an irregular order of layers (moe_layers), which is not modelled")


def _pattern(config: Mapping[str, Any], text: str, words: str) -> str:
    """Letters of a hybrid's layers, from a text of letters or a list of words."""
    written = config.get(text)
    if isinstance(written, str) and written:
        letters = written.replace("|", "")
    else:
        listed = config.get(words)
        if not isinstance(listed, list) or not listed:
            raise ConfigError(f"a hybrid without '{text}' or '{words}'")
        letters = "".join(_BLOCKS.get(str(word), "?") for word in listed)
    if set(letters) - set(_BLOCKS.values()):
        raise ConfigError(f"'{text}' or '{words}' with layers other than {', '.join(sorted(_BLOCKS))}")
    return letters


def _nemotron_h(config: Mapping[str, Any], name: str) -> ModelSpec:
    """Mamba-2, attention, feed-forward and mixture layers of one block each (Nemotron-H, Nemotron 3)."""
    pattern = _pattern(config, "hybrid_override_pattern", "layers_block_type")
    if _size(config, "num_hidden_layers", len(pattern), high=MOST_LAYERS) != len(pattern):
        raise ConfigError(
            f"'num_hidden_layers': {config['num_hidden_layers']} for {len(pattern)} layers in the pattern"
        )
    mtp_layers = _size(config, "num_nextn_predict_layers", 0, low=0)
    mtp = _pattern(config, "mtp_hybrid_override_pattern", "mtp_layers_block_type") if mtp_layers else ""
    used = set(pattern + mtp)
    hidden, heads = (_size(config, key) for key in ("hidden_size", "num_attention_heads"))
    older = _size(config, "attention_head_dim", hidden // heads)
    moe = None
    if "E" in used:
        shared = _size(config, "moe_shared_expert_intermediate_size", 0, low=0)
        moe = MoeSpec(
            num_experts=_size(config, "n_routed_experts"),
            top_k=_size(config, "num_experts_per_tok"),
            expert_ffn=_size(config, "moe_intermediate_size"),
            shared_ffn=shared * _size(config, "n_shared_experts", 1, low=0),
            latent=_size(config, "moe_latent_size", 0, low=0),
        )
    mamba = None
    if "M" in used:
        mamba = MambaSpec(
            num_heads=_size(config, "mamba_num_heads"),
            head_dim=_size(config, "mamba_head_dim"),
            state=_size(config, "ssm_state_size"),
            groups=_size(config, "n_groups"),
            conv=_size(config, "conv_kernel", 4),
        )
    bias = bool(config.get("attention_bias", False))
    return ModelSpec(
        name=name,
        num_layers=len(pattern),
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=_size(config, "num_key_value_heads", heads),
        head_dim=_size(config, "head_dim", older),
        ffn_hidden=_size(config, "intermediate_size") if "-" in used else 0,
        vocab=_size(config, "vocab_size"),
        gated=False,
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        moe=moe,
        attention_bias=bias,
        attention_output_bias=bias,
        mlp_bias=bool(config.get("mlp_bias", False)),
        router_bias=moe is not None,
        mtp_layers=mtp_layers,
        mtp_pattern=mtp,
        pattern=pattern,
        mamba=mamba,
    )


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
