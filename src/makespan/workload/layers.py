"""Which kinds of layers a model is made of, and how many of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from makespan.specs.model import ModelSpec

LETTERS = {
    "M": ("mamba", "mamba", ""),
    "*": ("attention", "attention", ""),
    "-": ("ffn", "", "dense"),
    "E": ("experts", "", "moe"),
}
"""Letter of `ModelSpec.pattern` to name, mixer and feed-forward of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """Layers that are alike.

    name : "dense" and "moe" hold attention and a feed-forward; "mamba", "attention", "ffn", "experts" hold one block.
    mixer : "attention", "mamba", or "" for none.   ffn : "dense", "moe", or "" for none.
    count : layers of this kind in the body; they add up to `ModelSpec.num_layers`. 0 for a kind of prediction layers only.
    mtp : layers of this kind in all multi-token-prediction layers together.
    """

    name: str
    mixer: str
    ffn: str
    count: int
    mtp: int


@lru_cache(maxsize=256)
def layer_kinds(model: ModelSpec) -> tuple[LayerKind, ...]:
    """The kinds of layers of a model, in the order in which they first appear.

    Raises
    ------
    ValueError : a pattern that has not one letter for each layer, an unknown letter, or sizes that are missing.

    Examples
    --------
    >>> hybrid = ModelSpec(name="tiny", num_layers=5, hidden=64, num_heads=4, num_kv_heads=4, head_dim=16, ffn_hidden=256,
    ...                    vocab=100, pattern="-*-*-")
    >>> [(kind.name, kind.count) for kind in layer_kinds(hybrid)]
    [('ffn', 3), ('attention', 2)]
    """
    names = body_names(model)
    predicted = _mtp_names(model)
    meaning = {name: (mixer, ffn) for name, mixer, ffn in LETTERS.values()}
    meaning |= {"dense": ("attention", "dense"), "moe": ("attention", "moe")}
    kinds = []
    for name in dict.fromkeys((*names, *predicted)):
        mixer, ffn = meaning[name]
        if mixer == "mamba" and model.mamba is None:
            raise ValueError(f"{model.name}: Mamba-2 layers without their sizes")
        if ffn == "moe" and model.moe is None:
            raise ValueError(f"{model.name}: mixture layers without their sizes")
        kinds.append(
            LayerKind(
                name=name,
                mixer=mixer,
                ffn=ffn,
                count=names.count(name),
                mtp=model.mtp_layers * predicted.count(name),
            )
        )
    return tuple(kinds)


@lru_cache(maxsize=256)
def body_names(model: ModelSpec) -> tuple[str, ...]:
    """Name of the kind of each layer, first to last: `num_layers` of them.

    Raises
    ------
    ValueError : a pattern that has not one letter for each layer, or an unknown letter.
    """
    if model.pattern:
        if len(model.pattern) != model.num_layers:
            raise ValueError(f"{model.name}: {len(model.pattern)} letters for {model.num_layers} layers")
        return _names(model, model.pattern)
    if model.moe is None:
        return ("dense",) * model.num_layers
    first, every = model.moe.num_dense_first_layers, model.moe.every
    return tuple("moe" if layer >= first and (layer + 1) % every == 0 else "dense" for layer in range(model.num_layers))


def _names(model: ModelSpec, letters: str) -> tuple[str, ...]:
    unknown = sorted(set(letters) - set(LETTERS))
    if unknown:
        raise ValueError(f"{model.name}: unknown letters {''.join(unknown)} in its pattern")
    return tuple(LETTERS[letter][0] for letter in letters)


def _mtp_names(model: ModelSpec) -> tuple[str, ...]:
    """Kinds in one multi-token-prediction layer."""
    if not model.mtp_layers:
        return ()
    if model.mtp_pattern:
        return _names(model, model.mtp_pattern)
    return ("moe" if model.moe is not None else "dense",)
