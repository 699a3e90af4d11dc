"""Words of the command line: a cluster, a batch, a sequence length, a model. Layouts: `_layout_words`."""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path

from makespan import catalog
from makespan.catalog.families import aliases, frameworks_called
from makespan.errors import Problem, ScenarioError
from makespan.scenario._context import Context, did_you_mean, suggestion
from makespan.scenario._hf import ConfigError, model_from_file
from makespan.scenario._limits import MOST_ACCELERATORS
from makespan.scenario._names import FRAMEWORKS, default_fabric, default_node, look_up
from makespan.scenario._run import sequences
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.units import UnitError, parse

_CLUSTER = re.compile(r"\s*(?P<count>[+-]?[\d.,_]+(?:[eE][+-]?\d+)?[kKMBT]?)\s*[x×*]\s*(?P<name>\S.*?)\s*\Z")


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
    expected = f"a whole number of accelerators, from 1 to {MOST_ACCELERATORS:,} and in digits, then x and their name"
    if match is None:
        raise _wrong("--on", f"'{text}'", expected, example)
    try:
        count = parse(match["count"], "count")
    except UnitError:
        raise _wrong("--on", f"'{match['count']}'", expected, example) from None
    is_plain = "e" not in match["count"].lower()
    if not is_plain or count != int(count) or not 1 <= count <= MOST_ACCELERATORS:
        raise _wrong("--on", f"'{match['count']}' accelerators", expected, example)
    name, _, fabric_name = match["name"].partition("/")
    ctx = Context(file="command line", as_of=as_of)
    accelerator = look_up(ctx, "accelerator", name.strip(), None, "--on")
    if accelerator is None:
        raise ScenarioError("command line", ctx.problems)
    node_name = default_node(ctx, accelerator.name)
    fabric_name = fabric_name.strip() or default_fabric(ctx, accelerator.name) or ""
    if node_name is None or not fabric_name:
        raise _wrong(
            "--on",
            f"no node or fabric for {accelerator.name}",
            "an accelerator that the catalog knows a server for",
            "choose another",
            "MS617",
        )
    node = look_up(ctx, "node", node_name, None, "--on")
    fabric = look_up(ctx, "fabric", fabric_name, None, "--on")
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
        found = look_up(ctx, "model", text, None, "MODEL")
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
                "MODEL", str(error), "a Hugging Face config.json of a known architecture", "check the path", "MS305"
            ) from None
    names = catalog.names("model")
    raise _wrong(
        "MODEL", f"'{text}'", "a model of the catalog, or the path of a config.json", suggestion(text, names), "MS301"
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
        most = f"{LARGEST_BATCH_TOKENS / 1e9:g} billion tokens"
        raise _wrong(
            "--global-batch",
            f"'{text}' ({str(error).split(';')[0]})",
            f"a whole number of sequences, at least 1, or a number of tokens, at most {most}",
            'write "2048 sequences" or "16M tokens"',
        ) from None


def rounded_batch(text: str | int, batch: int, seq_len: int) -> str:
    """What became of a batch that was given in tokens and is no whole number of sequences; empty for others.

    batch : sequences, by `parse_batch`.

    Examples
    --------
    >>> rounded_batch("16M tokens", 1953, 8192)
    'global batch: 16,000,000 tokens asked, rounded to 1,953 sequences of 8,192: 15,998,976 tokens'
    >>> rounded_batch("2048", 2048, 8192)
    ''
    """
    match = re.match(r"(.*?)\s*tokens?\s*\Z", str(text), re.DOTALL)
    asked = parse(match[1].strip(), "count") if match else batch * seq_len
    if asked == batch * seq_len:
        return ""
    return (
        f"global batch: {asked:,.0f} tokens asked, rounded to {batch:,} sequences of {seq_len:,}: "
        f"{batch * seq_len:,} tokens"
    )


LONGEST_SEQUENCE = 100_000_000
"""Ten times the longest context that a model has been announced with."""

_LENGTH = re.compile(r"\s*(?P<number>\d{1,3}(?:[,_]\d{3})+|\d+)\s*(?P<prefix>[kK]i?|Mi)?\s*(?:tokens?)?\s*\Z")


def parse_seq_len(text: str | int) -> int:
    """Tokens of a sequence written as "8192", "8192 tokens", "8k" or "128Ki".

    `k` and `Ki` are 1,024 tokens, `Mi` 1,024 of those: an "8k" context is one of 8,192 tokens.

    Raises
    ------
    ScenarioError : not of that form, no token, or more than `LONGEST_SEQUENCE`.

    Examples
    --------
    >>> parse_seq_len("8192"), parse_seq_len("8k"), parse_seq_len("128 Ki tokens")
    (8192, 8192, 131072)
    """
    match = _LENGTH.match(str(text))
    length = 0
    if match is not None and len(match["number"]) <= 20:
        factor = {"": 1, "k": 1024, "m": 1024**2}[(match["prefix"] or "")[:1].lower()]
        length = int(re.sub(r"\D", "", match["number"])) * factor
    if not 1 <= length <= LONGEST_SEQUENCE:
        raise _wrong(
            "--seq-len",
            f"'{text}'",
            f"tokens in a sequence, a whole number from 1 to {LONGEST_SEQUENCE:,}",
            'write "8192", or "8k" or "128Ki" where k is 1,024',
        )
    return length
