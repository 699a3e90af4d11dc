"""A YAML document as nodes that know their line and column; and overrides laid over it.

Built from the parser's events, not from ruamel's round-trip objects: a third of the time, and depth, size and
aliases are limited before anything recurses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Scalar = str | int | float | bool | None
Loc = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
LONGEST_INTEGER = 40
"""Digits; longer ones become floats (the interpreter refuses to read thousands of digits as an integer)."""


@dataclass(slots=True, eq=False)
class Node:
    """A scalar, a list of nodes or a mapping of text to nodes, and where it stands.

    raw : the scalar as written.   keys : place of each key of a mapping, (line, column) counting from 1.
    origin : empty for the file, else the override that put it there.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int | None
    column: int | None
    raw: str = ""
    keys: dict[str, tuple[int | None, int | None]] | None = None
    origin: str = ""

    @property
    def mapping(self) -> dict[str, Node] | None:
        return self.value if isinstance(self.value, dict) else None

    @property
    def items(self) -> list[Node] | None:
        return self.value if isinstance(self.value, list) else None

    @property
    def is_scalar(self) -> bool:
        return not isinstance(self.value, dict | list)

    def describe(self, limit: int = 60) -> str:
        """What was found, short enough for a message."""
        if isinstance(self.value, dict):
            return "a mapping" + (f" with {', '.join(list(self.value)[:4])}"[:limit] if self.value else " (empty)")
        if isinstance(self.value, list):
            return f"a list of {len(self.value)}" if self.value else "an empty list"
        if self.value is None:
            return "nothing" if not self.raw else f"'{self.raw}' (nothing)"
        return f"'{shorten(self.raw, limit)}'"


def shorten(text: str, limit: int = 300) -> str:
    """A text of the file, short enough for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def resolve_scalar(text: str) -> Scalar:
    """The value of a plain scalar under YAML 1.2 (core schema): dates and `yes` stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.match(text):
        return int(text) if len(text) <= LONGEST_INTEGER else float(text)
    if _HEX.match(text) and len(text) <= LONGEST_INTEGER:
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return text


def plain(node: Node) -> Any:
    """The node as dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def slug(name: str) -> str:
    """A name as one component of a dotted path: "Stay at Oracle" -> "stay-at-oracle"."""
    return re.sub(r"[^\w+%-]+", "-", name.strip().lower()).strip("-") or "unnamed"


def component(node: Node, index: int) -> str:
    """What the index-th item of a list is called in a path: the slug of its name, or the index."""
    mapping = node.mapping
    name = mapping.get("name") if mapping else None
    return slug(name.value) if name is not None and isinstance(name.value, str) and name.value.strip() else str(index)


def locate(root: Node, loc: Loc) -> tuple[Node, str, tuple[int | None, int | None]]:
    """The deepest existing node on a path of keys and indexes, the path as text, and the place to point at."""
    node, parts, place = root, list[str](), (root.line, root.column)
    for step in loc:
        mapping, items = node.mapping, node.items
        if mapping is not None and isinstance(step, str) and step in mapping:
            assert node.keys is not None
            place = node.keys[step]
            node = mapping[step]
            parts.append(step)
        elif items is not None and isinstance(step, int) and step < len(items):
            node = items[step]
            place = (node.line, node.column)
            parts.append(component(node, step))
        else:
            parts.append(str(step))
    return node, ".".join(parts), place


def alias_paths(root: Node) -> dict[int, str]:
    """Node (by identity) -> its first path in the file, for nodes that aliases put in more than one place."""
    first: dict[int, str] = {}
    repeated: dict[int, str] = {}
    pending = [(root, "")]
    while pending:
        node, path = pending.pop()
        if id(node) in first:
            repeated[id(node)] = first[id(node)]
            continue
        first[id(node)] = path
        children = list((node.mapping or {}).items())
        children += [(component(item, index), item) for index, item in enumerate(node.items or ())]
        pending += [(child, f"{path}.{name}" if path else name) for name, child in reversed(children)]
    return repeated


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in (node.mapping or {}).values():
        yield from walk(child)
    for child in node.items or ():
        yield from walk(child)
