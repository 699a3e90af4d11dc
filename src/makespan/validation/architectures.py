"""An entry of models.yaml as a `ModelSpec`, or the reason why it is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec
from makespan.validation.cells import LARGEST_COUNT, NotExpressible
from makespan.validation.files import read_models
from makespan.workload.layers import LETTERS

UNSUPPORTED = {
    "ssm": "state-space layers other than Mamba-2",
    "linear_attention": "linear attention",
    "gated_delta_net": "gated delta-net layers",
    "encoder_layers": "an encoder",
    "cross_attention": "cross attention",
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
        "mtp_shared",
        "hybrid_pattern",
        "mamba",
        "moe_latent_size",
        "moe_every",
        "moe_layer_freq",
        "sliding_window",
        "window_pattern",
        "learned_positions",
        "learned_sinks",
        "attention_bias",
        "attention_output_bias",
        "mlp_bias",
        "router_bias",
        "qk_norm",
        "norms_per_layer",
        "lora",
        "base",
        "source",
        "note",
        "notes",
        "mtp_note",
    ]
)


MOST_LAYERS = 100_000
"""Far beyond any model; a slip of the pen is refused before its layers are counted one by one."""


def _shown(value: object) -> str:
    """A wrong value as a message shows it. What holds other values is only named: aliases of YAML make it grow without end."""
    return repr(str(value)[:40]) if isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _word(entry: Mapping[str, Any], key: str, name: str, *, default: str = "") -> str:
    """A cell that holds one word, in lower case."""
    value = entry.get(key)
    if not isinstance(value, str | None):
        raise NotExpressible(f"model {name}: {key} is {_shown(value)}, no word")
    return (value or default).lower()


def _size(
    entry: Mapping[str, Any],
    key: str,
    name: str,
    *,
    least: int = 1,
    most: int = LARGEST_COUNT,
    default: int | None = None,
) -> int:
    value = entry.get(key)
    if value is None:
        if default is None:
            raise NotExpressible(f"model {name}: {key} is not known")
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise NotExpressible(f"model {name}: {key} is {_shown(value)}, no whole number from {least} to {most:,}")
    return value


def _flag(entry: Mapping[str, Any], key: str, name: str, *, default: bool = False) -> bool:
    value = entry.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise NotExpressible(f"model {name}: {key} is {_shown(value)}, not true or false")
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
    entry, notes = _completed(entry, name)
    for key, what in UNSUPPORTED.items():
        if entry.get(key) not in (None, False, 0):
            raise NotExpressible(f"model {name}: {what} cannot be expressed ({key})")
    attention = _word(entry, "attention", name, default="full")
    if attention not in ("full", "mha", "gqa", "mqa", "mla", "causal"):
        raise NotExpressible(f"model {name}: {attention[:60]} attention cannot be expressed")
    notes += [
        f"unknown key {key} of the model ignored" for key in sorted(set(map(str, entry)) - KNOWN - set(UNSUPPORTED))
    ]
    pattern, mtp_layers, mtp_pattern = _patterns(entry, name)
    layers = _size(entry, "layers", name, most=MOST_LAYERS, default=len(pattern) or None)
    if pattern and len(pattern) != layers:
        raise NotExpressible(f"model {name}: its pattern has {len(pattern)} letters for {layers} layers")
    heads = _size(entry, "heads", name, default=None if not pattern or "*" in pattern + mtp_pattern else 1)
    hidden = _size(entry, "hidden", name)
    mla = _mla(entry, name)
    if attention == "mla" and mla is None:
        raise NotExpressible(f"model {name}: sizes of its latent attention are not known")
    moe = _moe(entry, name, layers, pattern + mtp_pattern)
    dense_layers_exist = "-" in pattern + mtp_pattern if pattern else _has_dense_layers(moe)
    window, every = _window(entry, name, layers)
    spec = ModelSpec(
        name=name,
        num_layers=layers,
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
        attention_output_bias=_flag(entry, "attention_output_bias", name),
        mlp_bias=_flag(entry, "mlp_bias", name),
        qk_norm=_flag(entry, "qk_norm", name),
        attention_sinks=_flag(entry, "learned_sinks", name),
        router_bias=_flag(entry, "router_bias", name),
        norms_per_layer=_size(entry, "norms_per_layer", name, default=2),
        learned_positions=seq_len if _flag(entry, "learned_positions", name) else 0,
        mtp_layers=mtp_layers,
        mtp_pattern=mtp_pattern,
        mtp_shared=_flag(entry, "mtp_shared", name),
        pattern=pattern,
        mamba=_mamba(entry, name, pattern + mtp_pattern),
    )
    if spec.num_kv_heads > heads or heads % spec.num_kv_heads:
        raise NotExpressible(f"model {name}: {heads} heads are no multiple of {spec.num_kv_heads} KV heads")
    return spec, notes


def _completed(entry: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], list[str]]:
    """What an entry leaves out, from the shipped architecture of the same name if nothing it says is against that."""
    shipped = read_models(None).get(name)
    if not isinstance(shipped, Mapping) or entry is shipped:
        return entry, []
    words = ("source", "note", "notes", "mtp_note", "kind", "lora", "base")
    missing = [key for key in shipped if key not in words and entry.get(key) is None and shipped[key] is not None]
    agree = all(shipped.get(key) == value for key, value in entry.items() if key not in words and value is not None)
    if not missing or not agree:
        return entry, []
    return {**entry, **{key: shipped[key] for key in missing}}, [f"{', '.join(missing)} as in the shipped {name}"]


def _patterns(entry: Mapping[str, Any], name: str) -> tuple[str, int, str]:
    """Letters of the body, prediction layers, and letters of one of them.

    Megatron-LM writes both in one text, "MEM*E/*E/*E": what follows a slash is one prediction layer; "|" marks stages.
    """
    stated = _size(entry, "mtp_layers", name, least=0, default=0)
    kind = _word(entry, "kind", name)
    if not entry.get("hybrid_pattern"):
        if entry.get("mamba") or "mamba" in kind or "hybrid" in kind:
            raise NotExpressible(f"model {name}: the order of its layers (hybrid_pattern) is not known")
        return "", stated, ""
    letters = entry["hybrid_pattern"]
    if not isinstance(letters, str):
        raise NotExpressible(f"model {name}: hybrid_pattern is {_shown(letters)}, no text")
    body, *predicted = re.sub(r"[\s|]", "", letters).split("/")
    unknown = sorted(set(body + "".join(predicted)) - set(LETTERS))
    if unknown or not body:
        raise NotExpressible(f"model {name}: layers of the kind {''.join(unknown)[:10]!r} cannot be expressed")
    if len(set(predicted)) > 1:
        raise NotExpressible(f"model {name}: prediction layers that differ from each other cannot be expressed")
    layers = stated if entry.get("mtp_layers") is not None else len(predicted)
    return body, layers, predicted[0] if predicted else ""


def _mamba(entry: Mapping[str, Any], name: str, letters: str) -> MambaSpec | None:
    if "M" not in letters:
        return None
    sizes = entry.get("mamba")
    if not isinstance(sizes, Mapping):
        raise NotExpressible(f"model {name}: sizes of its Mamba-2 layers (mamba) are not known")
    mamba = MambaSpec(
        num_heads=_size(sizes, "heads", name),
        head_dim=_size(sizes, "head_dim", name),
        state=_size(sizes, "state", name),
        groups=_size(sizes, "groups", name, default=1),
        conv=_size(sizes, "conv", name, default=4),
    )
    if mamba.num_heads % mamba.groups:
        raise NotExpressible(f"model {name}: {mamba.num_heads} Mamba-2 heads in {mamba.groups} groups")
    return mamba


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


def _moe(entry: Mapping[str, Any], name: str, layers: int, letters: str) -> MoeSpec | None:
    if entry.get("n_experts") is None and entry.get("top_k") is None:
        if _word(entry, "kind", name) == "moe" or "E" in letters:
            raise NotExpressible(f"model {name}: its experts are not known")
        return None
    first, every = (0, 1) if letters else _mixture_layers(entry, name, layers)
    moe = MoeSpec(
        num_experts=_size(entry, "n_experts", name),
        top_k=_size(entry, "top_k", name),
        expert_ffn=_size(entry, "expert_ffn", name),
        shared_ffn=_size(entry, "shared_expert_ffn", name, least=0, default=0),
        num_dense_first_layers=first,
        dense_residual_ffn=_size(entry, "dense_residual_ffn", name, least=0, default=0),
        latent=_size(entry, "moe_latent_size", name, least=0, default=0),
        every=every,
    )
    if moe.top_k > moe.num_experts or first > layers or every > layers:
        raise NotExpressible(f"model {name}: its experts or dense layers are more than there are")
    return moe


def _has_dense_layers(moe: MoeSpec | None) -> bool:
    return moe is None or moe.num_dense_first_layers > 0 or moe.every > 1


def _mixture_layers(entry: Mapping[str, Any], name: str, layers: int) -> tuple[int, int]:
    """Dense layers at the start, and every how many layers a mixture comes.

    `moe_layer_freq` as in Megatron-LM: a number, or a list (or its text, "([0]*3+[1]*58)") of 0 and 1 for each layer.
    """
    first = _size(entry, "dense_first_layers", name, least=0, default=0)
    value = entry.get("moe_every") or entry.get("moe_layer_freq")
    if value is None:
        return first, 1
    if isinstance(value, str) and not value.strip().isdigit():
        value = _repeated(value, name)
    if not isinstance(value, list):
        number = value if not isinstance(value, str) else int(value)
        return first, _size({"moe_every": number}, "moe_every", name)
    if len(value) != layers or set(value) - {0, 1} or 1 not in value:
        raise NotExpressible(f"model {name}: moe_layer_freq is no list of 0 and 1 for its {layers} layers")
    leading = value.index(1)
    if all(value[leading:]):
        return leading, 1
    every = leading + 1
    if value == [int((layer + 1) % every == 0) for layer in range(layers)]:
        return 0, every
    raise NotExpressible(f"model {name}: mixtures in an irregular order of layers cannot be expressed")


def _repeated(text: str, name: str) -> list[int]:
    """A text such as "([0]*3+[1]*58)" or "[0,1]*24" as the list it stands for. Nothing is evaluated."""
    values: list[int] = []
    for part in re.sub(r"[\s()'\"]", "", text).split("+"):
        found = re.fullmatch(r"\[([01](?:,[01])*)\](?:\*(\d{1,5}))?", part)
        if found is None:
            raise NotExpressible(f"model {name}: moe_layer_freq '{text[:40]}' cannot be read")
        values += [int(word) for word in found[1].split(",")] * int(found[2] or 1)
    return values


def _window(entry: Mapping[str, Any], name: str, layers: int) -> tuple[int | None, int]:
    """The window, and every how many layers attention is full (1: never)."""
    if entry.get("sliding_window") is None:
        return None, 1
    window = _size(entry, "sliding_window", name)
    pattern = entry.get("window_pattern")
    if isinstance(pattern, int) and not isinstance(pattern, bool):
        pattern = f"every {pattern}"
    if not isinstance(pattern, str | None):
        raise NotExpressible(f"model {name}: window_pattern is {_shown(pattern)}, no text")
    text = (pattern or "").lower()
    if not text or text.startswith("all layers"):
        return window, 1
    if text.startswith("alternating"):
        return window, 2
    several = re.search(r"\b(\d{1,3})\s*(?:local|sliding|windowed)?\s*(?::|to|/|,|and|\+)\s*(?:1|one)\b", text)
    each = re.search(
        r"\bevery (\d{1,3})|\b(?:1|one) (?:full |global )?(?:in|of)(?: every)? (\d{1,3})\b|skip_freq=(\d{1,3})", text
    )
    if several is not None:
        every = int(several[1]) + 1
    elif each is not None:
        every = int(next(word for word in each.groups() if word))
    else:
        raise NotExpressible(f"model {name}: window pattern '{text[:60]}' cannot be expressed")
    if every == 1:
        return None, 1
    # Fewer layers than a period: full attention never comes.
    return (window, every) if 1 < every <= layers else (window, 1)
