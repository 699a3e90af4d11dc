"""Words of a layout on the command line: `tp=8,pp=16,recompute=none`, for one layout and for what a search must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from enum import Enum, IntFlag
from functools import cache
from typing import Any, get_type_hints

from makespan.errors import Problem, ScenarioError
from makespan.scenario._context import suggestion
from makespan.specs.layout import Layout, Recompute, Schedule
from makespan.specs.search import Objective, SearchConstraints
from makespan.units import UnitError, parse

ALIASES = {"mbs": "micro_batch", "vp": "vpp", "graphs": "cuda_graphs", "sp": "sequence_parallel"}
"""Short names that people write."""

SHARES = ("min_used_fraction", "memory_headroom")
"""Constraints that are shares; each has an option of its own as well."""

MAY_BE_WHOLE = ("min_used_fraction",)
"""Shares that may be 100 %: no accelerator idle. With all of the memory free nothing would run."""

LARGEST_SIZE = 999_999_999
"""No size of a layout comes near it."""

_TRUE, _FALSE = ("yes", "on", "true"), ("no", "off", "false")
_ZERO_ALLOWED = ("shard_size",)


def _wrong(where: str, found: str, expected: str, fix: str) -> ScenarioError:
    return ScenarioError("command line", [Problem(code="MS210", where=where, found=found, expected=expected, fix=fix)])


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_")


@cache
def words_of(key: str) -> Mapping[str, Any]:
    """Word -> value of a field of `Layout` whose values have names; empty for sizes.

    Examples
    --------
    >>> list(words_of("sharding"))
    ['none', 'zero1', 'zero2', 'zero3']
    """
    kind = get_type_hints(Layout)[key]
    if kind is bool:
        return {"no": False, "yes": True}
    if not issubclass(kind, Enum):
        return {}
    return {word_of(member): member for member in kind.__members__.values()}


def word_of(value: Any) -> str:
    """The word of a value of a field of `Layout`, as `parse_layout` takes it.

    Examples
    --------
    >>> word_of(Recompute.NORM | Recompute.MLP), word_of(True), word_of(8)
    ('norm+mlp', 'yes', '8')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Recompute):
        return value.label
    if isinstance(value, IntFlag):
        return "+".join(str(part.name).lower() for part in type(value) if part & value) or "none"
    if value is Schedule.ONE_F_ONE_B:
        return "1f1b"
    if isinstance(value, Enum):
        return str(getattr(value, "label", value.name.lower()))
    return str(value)


def value_of_code(key: str, code: int) -> Any:
    """The value of a field of `Layout` from its integer, as columns hold it.

    Examples
    --------
    >>> word_of(value_of_code("schedule", 3))
    'dualpipe'
    """
    return get_type_hints(Layout)[key](code)


def layout_words(layout: Layout) -> str:
    """The layout as `parse_layout` takes it; what has its usual value is left out.

    Examples
    --------
    >>> layout_words(Layout(tp=8, dp=4, recompute=Recompute.FULL))
    'tp=8,dp=4,recompute=full'
    """
    usual = Layout()
    changed = [f.name for f in fields(Layout) if getattr(layout, f.name) != getattr(usual, f.name)]
    return ",".join(f"{name}={word_of(getattr(layout, name))}" for name in changed) or "tp=1"


def _pairs(text: str, where: str, allowed: tuple[str, ...], example: str) -> dict[str, Any]:
    """key=value pairs, separated by commas or blanks. Words are checked and spelled as `word_of` spells them."""
    found: dict[str, Any] = {}
    for word in filter(None, re.split(r"[,\s]+", text.strip())):
        key, sign, value = word.partition("=")
        key = ALIASES.get(_plain(key), _plain(key))
        if not sign or key not in allowed:
            fix = suggestion(key, (*allowed, *ALIASES)) if sign else example
            raise _wrong(where, f"'{word}'", f"key=value with one of {', '.join(allowed)}", fix)
        if key in found:
            raise _wrong(where, f"'{key}' a second time", "each key once", "delete one")
        if key in SHARES:
            found[key] = parse_share(value, where, found=word, whole=key in MAY_BE_WHOLE)
        elif words_of(key):
            found[key] = _word(key, value, word, where)
        else:
            found[key] = _size(key, value, word, where)
    return found


def _word(key: str, value: str, word: str, where: str) -> str:
    """One of the words of a key, or several joined by "+" where its values combine."""
    known = {_plain(name): name for name in words_of(key)}
    first = next(iter(words_of(key).values()))
    if isinstance(first, bool):
        known |= dict.fromkeys(_TRUE, "yes") | dict.fromkeys(_FALSE, "no")
    joined = isinstance(first, IntFlag)
    given = [_plain(part) for part in (value.split("+") if joined else [value])]
    unknown = next((part for part in given if part not in known), None)
    if unknown is not None:
        names = tuple(words_of(key))
        several = ', or several joined by "+"' if joined else ""
        raise _wrong(where, f"'{word}'", f"{key} as one of {', '.join(names)}{several}", suggestion(unknown, names))
    nothing = next(iter(words_of(key))) if joined else None
    if joined and len(given) > 1 and nothing in given:
        rest = "+".join(known[part] for part in given if part != nothing) or nothing
        raise _wrong(
            where,
            f"'{word}'",
            f"either {key}={nothing} or what is to be joined",
            f'write "{key}={nothing}" or "{key}={rest}"',
        )
    return "+".join(known[part] for part in given)


def _size(key: str, value: str, word: str, where: str) -> int:
    least = 0 if key in _ZERO_ALLOWED else 1
    number = int(value) if re.fullmatch(r"[0-9]{1,20}", value) else -1
    if not least <= number <= LARGEST_SIZE:
        raise _wrong(
            where, f"'{word}'", f"{key} as a whole number from {least} to {LARGEST_SIZE:,}", f'write "{key}=8"'
        )
    return number


def parse_share(value: str, where: str, *, found: str | None = None, whole: bool = False) -> float:
    """A share such as "5%" or "0.05".

    whole : 100 % is a share too.   found : what the message quotes in place of the value.

    Raises
    ------
    ScenarioError : no number, below 0, above 100 %, or 100 % itself where that is not allowed.

    Examples
    --------
    >>> parse_share("5%", "--memory-headroom"), parse_share("1", "--min-used", whole=True)
    (0.05, 1.0)
    """
    try:
        number = parse(value, "fraction")
    except UnitError:
        number = -1.0
    if not 0 <= number < 1 and not (whole and number == 1):
        expected = f"a share from 0 % to {'100 %' if whole else 'less than 100 %'}"
        meant = f"{value.strip()}%" if 1 < number <= 100 and "%" not in value else "90%" if whole else "5%"
        raise _wrong(where, f"'{found or value}'", expected, f'write "{meant}"')
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
    pairs = _pairs(text, "layout", tuple(f.name for f in fields(Layout)), example)
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
    return Layout(**{key: layout_value(key, value) for key, value in pairs.items()})


def layout_value(key: str, word: Any) -> Any:
    """The value of a field of `Layout` from its word; sizes and values pass through.

    Examples
    --------
    >>> layout_value("recompute", "norm+mlp").label, layout_value("ep_overlap", "yes"), layout_value("tp", 8)
    ('norm+mlp', True, 8)
    """
    if not isinstance(word, str):
        return word
    words = words_of(key)
    parts = [words[part] for part in word.split("+")]
    value = parts[0]
    for part in parts[1:]:
        value = value | part
    return value


def constraint_keys() -> tuple[str, ...]:
    """What `--fix` may hold: the fields of `SearchConstraints` that name a field of `Layout`, and the shares."""
    sizes = {f.name for f in fields(Layout)}
    return (*(f.name for f in fields(SearchConstraints) if f.name in sizes), *SHARES)


def parse_constraints(
    text: str,
    *,
    memory_headroom: str | None = None,
    min_used: str | None = None,
    objective: str = "time",
    thorough: bool = True,
) -> SearchConstraints:
    """What the search must not change, as in "tp=8,recompute=none"; an empty text leaves everything open.

    Parameters
    ----------
    memory_headroom, min_used : shares as texts, for `memory_headroom` and `min_used_fraction` of the constraints.
    objective : `time`, `cost` or `energy`.

    Raises
    ------
    ScenarioError : unknown keys or values, or a share that is given twice.

    Examples
    --------
    >>> fixed = parse_constraints("tp=8 recompute=none", memory_headroom="10%")
    >>> fixed.tp, fixed.recompute, fixed.memory_headroom, fixed.pp
    (8, 'none', 0.1, None)
    """
    pairs = _pairs(text, "--fix", constraint_keys(), 'write "tp=8,recompute=none"')
    if text.strip() and not pairs:
        raise _wrong("--fix", f"'{text}'", "key=value pairs", 'write "tp=8,recompute=none", or leave it out')
    options = {"memory_headroom": ("--memory-headroom", memory_headroom), "min_used_fraction": ("--min-used", min_used)}
    for key, (option, value) in options.items():
        if value is None:
            continue
        if key in pairs:
            raise _wrong(option, f"'{value}', and {key} in --fix", "one of the two", "delete one")
        pairs[key] = parse_share(value, option, whole=key in MAY_BE_WHOLE)
    if "ep_overlap" in pairs:
        pairs["ep_overlap"] = layout_value("ep_overlap", pairs["ep_overlap"])
    found = SearchConstraints(**pairs)
    return replace(found, objective=parse_objective(objective), thorough=thorough)


def parse_objective(text: str) -> Objective:
    """The objective of a word. Raises ScenarioError for others."""
    names = tuple(member.value for member in Objective)
    if _plain(text) not in names:
        raise _wrong("--objective", f"'{text}'", f"one of {', '.join(names)}", suggestion(_plain(text), names))
    return Objective(_plain(text))


def fixed_words(constraints: SearchConstraints) -> dict[str, str]:
    """What the search must keep, by field of `Layout`, in words.

    Examples
    --------
    >>> fixed_words(SearchConstraints(tp=8, ep_overlap=False))
    {'tp': '8', 'ep_overlap': 'no'}
    """
    keys = [key for key in constraint_keys() if key not in SHARES]
    return {key: word_of(value) for key in keys if (value := getattr(constraints, key)) is not None}
