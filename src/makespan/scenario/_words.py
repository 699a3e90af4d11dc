"""Words of the command line: a cluster, a batch, a model, a layout."""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path
from typing import Any

from makespan import catalog
from makespan.catalog.families import aliases, frameworks_called
from makespan.errors import Problem, ScenarioError
from makespan.scenario._context import Context, did_you_mean, suggestion
from makespan.scenario._hf import ConfigError, model_from_file
from makespan.scenario._limits import MOST_ACCELERATORS
from makespan.scenario._names import FRAMEWORKS, default_fabric, default_node, look_up
from makespan.scenario._run import sequences
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import ContextKind, CudaGraphs, Layout, Offload, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.units import UnitError, parse

_CLUSTER = re.compile(r"\s*(?P<count>[\d.,_]+[kKM]?)\s*[x×*]\s*(?P<name>\S.*?)\s*\Z")
_SIZES = ("tp", "pp", "cp", "dp", "ep", "etp", "vpp", "micro_batch")
_ALIASES = {"mbs": "micro_batch", "vp": "vpp", "graphs": "cuda_graphs", "sp": "sequence_parallel"}
_WORDS: dict[str, tuple[str, ...]] = {
    "recompute": tuple(name.lower() for name in Recompute.__members__),
    "sharding": tuple(member.name.lower() for member in Sharding),
    "schedule": ("1f1b", *(member.name.lower() for member in Schedule if member)),
    "cp_kind": tuple(member.name.lower() for member in ContextKind),
    "cuda_graphs": tuple(member.name.lower() for member in CudaGraphs),
    "offload": tuple(name.lower() for name in Offload.__members__),
    "ep_overlap": ("no", "yes"),
    "sequence_parallel": ("no", "yes"),
}
"""Keys whose values are words. Those of `recompute` and `offload` may be joined by "+"."""
_JOINED = ("recompute", "offload")


def _wrong(where: str, found: str, expected: str, fix: str, code: str = "MS210") -> ScenarioError:
    return ScenarioError("command line", [Problem(code=code, where=where, found=found, expected=expected, fix=fix)])


def parse_cluster(text: str, as_of: dt.date | None = None) -> ClusterSpec:
    """The cluster of a text such as "16384xh100-sxm", on the accelerator's usual node and fabric.

    "16384xh100-sxm/spectrum-x-3tier" names another fabric of the catalog.

    Raises
    ------
    ScenarioError : not of that form, no whole number, or a name the catalog does not know (by `as_of`).

    Examples
    --------
    >>> parse_cluster("1024xh100-sxm").num_accelerators
    1024
    """
    match = _CLUSTER.match(text)
    example = 'write "16384xh100-sxm"'
    if match is None:
        raise _wrong("cluster", f"'{text}'", "a number and an accelerator", example)
    try:
        count = parse(match["count"], "count")
    except UnitError:
        raise _wrong("cluster", f"'{match['count']}'", "a whole number of accelerators", example) from None
    if count != int(count) or not 1 <= count <= MOST_ACCELERATORS:
        expected = f"a whole number of accelerators, between 1 and {MOST_ACCELERATORS:,}"
        raise _wrong("cluster", f"'{match['count']}'", expected, example)
    name, _, fabric_name = match["name"].partition("/")
    ctx = Context(file="command line", as_of=as_of)
    accelerator = look_up(ctx, "accelerator", name.strip(), None, "cluster")
    if accelerator is None:
        raise ScenarioError("command line", ctx.problems)
    node_name = default_node(ctx, accelerator.name)
    fabric_name = fabric_name.strip() or default_fabric(ctx, accelerator.name) or ""
    if node_name is None or not fabric_name:
        raise _wrong(
            "cluster",
            f"no node or fabric for {accelerator.name}",
            "an accelerator that the catalog knows a server for",
            "choose another",
            "MS617",
        )
    node = look_up(ctx, "node", node_name, None, "cluster")
    fabric = look_up(ctx, "fabric", fabric_name, None, "cluster")
    if node is None or fabric is None:
        raise ScenarioError("command line", ctx.problems)
    return ClusterSpec(
        name=f"{int(count)} x {accelerator.name}",
        accelerator=accelerator.spec,
        node=node.spec,
        fabric=fabric.spec,
        num_accelerators=int(count),
    )


def parse_model(text: str, as_of: dt.date | None = None) -> ModelSpec:
    """A model by its name in the catalog, or by the path of a Hugging Face config.json.

    Raises
    ------
    ScenarioError : neither, or an architecture that is not known.
    """
    if text in catalog.names("model"):
        ctx = Context(file="command line", as_of=as_of)
        found = look_up(ctx, "model", text, None, "model")
        if found is None:
            raise ScenarioError("command line", ctx.problems)
        spec: ModelSpec = found.spec
        return spec
    path = Path(os.path.expanduser(text))
    if "/" in text or text.endswith(".json") or path.is_dir():
        try:
            return model_from_file(path)
        except (ConfigError, ValueError) as error:
            raise _wrong(
                "model", str(error), "a Hugging Face config.json of a known architecture", "check the path", "MS305"
            ) from None
    names = catalog.names("model")
    raise _wrong(
        "model", f"'{text}'", "a model of the catalog, or the path of a config.json", suggestion(text, names), "MS301"
    )


def parse_framework(text: str | None, as_of: dt.date | None = None) -> FrameworkProfile:
    """A framework profile by its name in the catalog, or by the name of a software: of its profiles the newest one known.

    Without a name the newest Megatron-class profile. Only what was known by `as_of` counts; case does not.

    Raises
    ------
    ScenarioError : a name the catalog does not know (by `as_of`), or no profile as old as that.

    Examples
    --------
    >>> parse_framework("Megatron").name, parse_framework("torchtitan").name
    ('megatron-2026', 'torch-fsdp2')
    """
    known = [name for name in catalog.names("framework") if _is_known("framework", name, as_of)]
    if text is None:
        called = [name for name in (*FRAMEWORKS, "megatron-2022") if name in known]
    else:
        called = [text] if text in known else [name for name in frameworks_called(text, as_of) if name in known]
    if called:
        profile: FrameworkProfile = catalog.framework(called[0], as_of=as_of).spec
        return profile
    by_then = f" known on {as_of}" if as_of is not None else ""
    choice = f"choose from: {', '.join(known)}" if known else "give a later --as-of"
    if text is not None and not frameworks_called(text):
        near = did_you_mean(text, [*known, *aliases()])
        meant = f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
        software = f"; or the newest of: {', '.join(aliases())}"
        expected = f"a framework profile of the catalog{by_then}, or a software it has profiles of"
        raise _wrong("--framework", f"'{text}'", expected, f"{meant}{choice}{software}", "MS301")
    found = f"'{text}'" if text is not None else "none named, and none of the usual ones that old"
    raise _wrong("--framework", found, f"a framework profile{by_then}", choice, "MS505")


def _is_known(kind: str, name: str, as_of: dt.date | None) -> bool:
    try:
        catalog.entry(kind, name, as_of=as_of)
    except catalog.NotYetKnown:
        return False
    return True


LARGEST_BATCH_TOKENS = 2e9
"""No step of a language model has come near it; "16M" without a unit means sequences and would exceed it."""


def parse_batch(text: str | int, *, seq_len: int) -> int:
    """Sequences in a batch written as "2048", "2048 sequences" or "16M tokens".

    Raises
    ------
    ScenarioError : not of that form, or less than one sequence.

    Examples
    --------
    >>> parse_batch("16M tokens", seq_len=8192), parse_batch("2048", seq_len=8192)
    (1953, 2048)
    """
    try:
        count = sequences(text, seq_len)
        if count * seq_len > LARGEST_BATCH_TOKENS:
            raise UnitError(f"{count:,} sequences of {seq_len:,} are {count * seq_len / 1e9:,.0f} billion tokens")
        return count
    except UnitError as error:
        raise _wrong(
            "global batch",
            f"'{text}' ({str(error).split(';')[0]})",
            "a number of sequences or of tokens",
            'write "2048 sequences" or "16M tokens"',
        ) from None


def _pairs(text: str, where: str, allowed: tuple[str, ...], example: str) -> dict[str, Any]:
    """key=value pairs, separated by commas or blanks."""
    found: dict[str, Any] = {}
    for word in filter(None, re.split(r"[,\s]+", text.strip())):
        key, sign, value = word.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not sign or key not in allowed:
            fix = suggestion(key, allowed) if sign else example
            raise _wrong(where, f"'{word}'", f"key=value with one of {', '.join(allowed)}", fix)
        if key in found:
            raise _wrong(where, f"'{key}' a second time", "each key once", "delete one")
        if key in _WORDS:
            words = _WORDS[key]
            given = value.lower().replace("-", "_").split("+") if key in _JOINED else [value.lower().replace("-", "_")]
            unknown = next((part for part in given if part not in words), None)
            if unknown is not None:
                joined = ', or several joined by "+"' if key in _JOINED else ""
                raise _wrong(
                    where, f"'{word}'", f"{key} as one of {', '.join(words)}{joined}", suggestion(unknown, words)
                )
            found[key] = "+".join(given)
        elif key in ("min_used_fraction", "memory_headroom"):
            found[key] = _fraction(value, word, where)
        elif not value.isdigit() or len(value) > 9 or int(value) < 1:
            raise _wrong(where, f"'{word}'", "a whole number, at least 1", example)
        else:
            found[key] = int(value)
    return found


def _fraction(value: str, word: str, where: str) -> float:
    try:
        number = parse(value, "fraction")
    except UnitError:
        number = -1.0
    if not 0 <= number < 1:
        raise _wrong(where, f"'{word}'", "a share from 0 to 1", "write 0.05 or 5%")
    return number


def parse_layout(text: str, *, num_accelerators: int) -> Layout:
    """The layout of a text such as "tp=8,pp=16,micro_batch=1,recompute=none"; `dp` fills the cluster where it is left out.

    Raises
    ------
    ScenarioError : unknown keys or values, or sizes whose product exceeds the cluster.

    Examples
    --------
    >>> parse_layout("tp=8,pp=16", num_accelerators=16384).dp
    128
    """
    example = 'write "tp=8,pp=16,cp=1,micro_batch=1"'
    pairs = _pairs(text, "layout", (*_SIZES, "shard_size", *_WORDS), example)
    if not pairs:
        raise _wrong("layout", "no sizes", "key=value pairs", example)
    model_parallel = pairs.get("tp", 1) * pairs.get("pp", 1) * pairs.get("cp", 1)
    pairs.setdefault("dp", num_accelerators // model_parallel)
    if pairs["dp"] < 1 or model_parallel * pairs["dp"] > num_accelerators:
        raise _wrong(
            "layout",
            f"tp * pp * cp * dp of {model_parallel * max(pairs['dp'], 1):,}",
            f"at most the {num_accelerators:,} accelerators",
            "lower one of the sizes",
        )
    return Layout(**{key: _layout_value(key, value) for key, value in pairs.items()})


def _layout_value(key: str, value: Any) -> Any:
    """The value of a field of `Layout` from its word; sizes pass through."""
    if key == "recompute":
        return Recompute.parse(value)
    if key == "offload":
        parts = [Offload[part.upper()] for part in value.split("+")]
        return Offload(sum({int(part) for part in parts}))
    if key in ("ep_overlap", "sequence_parallel"):
        return value == "yes"
    if key == "schedule":
        return Schedule.ONE_F_ONE_B if value == "1f1b" else Schedule[value.upper()]
    kinds: dict[str, Any] = {"sharding": Sharding, "cp_kind": ContextKind, "cuda_graphs": CudaGraphs}
    return kinds[key][value.upper()] if key in kinds else value


def parse_constraints(text: str) -> SearchConstraints:
    """What the search must not change, as in "tp=8,recompute=none"; an empty text leaves everything open.

    Raises
    ------
    ScenarioError : unknown keys or values.
    """
    allowed = (
        "tp",
        "pp",
        "cp",
        "ep",
        "vpp",
        "dp",
        "micro_batch",
        "recompute",
        "sharding",
        "min_used_fraction",
        "memory_headroom",
    )
    return SearchConstraints(**_pairs(text, "fixed dimensions", allowed, 'write "tp=8,recompute=none"'))
