"""Bytes of a file to nodes: everything that can be wrong before a key is looked at."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from makespan.errors import Problem
from makespan.scenario._tree import Node, resolve_scalar, shorten

MAX_BYTES = 300_000
MAX_DEPTH = 40
MAX_NODES = 50_000
_DROPPED = "\0"
"""Stands for the second of two equal keys; no key of a file can be it."""


class Unreadable(Exception):
    """The text is no document we can look into; the problems say why."""

    def __init__(self, problem: Problem):
        self.problem = problem
        super().__init__(str(problem))


def _stop(code: str, found: str, expected: str, fix: str, mark: Any = None) -> Unreadable:
    line = mark.line + 1 if mark is not None else None
    column = mark.column + 1 if mark is not None else None
    return Unreadable(
        Problem(code=code, where="file", found=shorten(found), expected=expected, fix=fix, line=line, column=column)
    )


def read_text(path: Path) -> str:
    """The text of a scenario file.  Raises `Unreadable`."""
    try:
        if path.is_dir():
            raise _stop("MS101", f"'{path}', a folder", "a scenario file", "name a .yaml file in it")
        size = path.stat().st_size
        if not path.is_file():
            raise _stop("MS101", f"'{path}', which is no regular file", "a scenario file", "name a .yaml file")
        if size > MAX_BYTES:
            raise _stop(
                "MS103",
                f"a file of {size:,} bytes",
                f"a scenario of at most {MAX_BYTES:,} bytes",
                "check that this is a scenario file; keep data in files of its own",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise _stop(
            "MS101", f"no file '{path}'", "a scenario file", 'check the path, or write one with "makespan init"'
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _stop(
            "MS101", f"'{path}', which cannot be read ({reason})", "a readable file", "check its path and permissions"
        ) from None
    return decode(data)


def decode(data: bytes) -> str:
    """UTF-8 text, a byte-order mark dropped.  Raises `Unreadable`."""
    if b"\0" in data:
        raise _stop(
            "MS102", "binary data (a zero byte)", "a YAML text file in UTF-8", "name the scenario file, not a data file"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rsplit(b"\n", 1)[-1]) + 1
        raise Unreadable(
            Problem(
                code="MS102",
                where="file",
                found=f"byte 0x{data[error.start]:02x}, which is not UTF-8",
                expected="a YAML text file in UTF-8",
                fix="save the file as UTF-8",
                line=line,
                column=column,
            )
        ) from None


def compose(text: str) -> tuple[Node, list[Problem]]:
    """The one document of a YAML text as a tree of nodes, with problems that do not stop the reading.  Raises `Unreadable`."""
    if len(text) > MAX_BYTES:
        raise _stop(
            "MS103",
            f"a text of {len(text):,} characters",
            f"a scenario of at most {MAX_BYTES:,} characters",
            "check that this is a scenario file",
        )
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    builder = _Builder()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for event in YAML(typ="safe", pure=True).parse(text):
                builder.feed(event)
    except Unreadable:
        raise
    except MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except YAMLError as error:
        # The reader's own errors (control characters) hold a position and no mark.
        position = getattr(error, "position", None)
        what = f"the character {error.character!r}" if hasattr(error, "character") else str(error).splitlines()[0]
        raise Unreadable(_syntax_problem(what, "printable YAML text", "delete the character", text, position)) from None
    except (
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        AssertionError,
        RecursionError,
        OverflowError,
    ) as error:
        raise _stop(
            "MS106",
            f"text that the YAML parser cannot read ({error})",
            "YAML 1.2",
            "look for stray characters such as % ! & *",
        ) from None
    if builder.root is None:
        raise _stop(
            "MS108", "an empty file", "a scenario", 'write one with "makespan init", or see examples/quickstart.yaml'
        )
    return builder.root, builder.problems


def _syntax(error: Any, text: str) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(part for part in (error.problem, error.context) if part)
    line = text.splitlines()[mark.line] if mark is not None and mark.line < len(text.splitlines()) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return _stop("MS106", "a tab in the indentation", "spaces", "replace the tab by spaces", mark)
    fixes = {
        "mapping values are not allowed": 'put text that holds ": " in quotes, and check the indentation',
        "could not find expected ':'": 'write "key: value"; check the line above for an open quote or bracket',
        "expected <block end>": "line up the keys of one mapping; items of a list start with '- '",
        "expected ',' or": "close the bracket, or put a comma between the items",
        "quoted scalar": "close the quote",
        "undefined alias": "define the anchor (&name) before its alias (*name)",
        "cannot start any token": "put the text in quotes",
    }
    fix = next(
        (fix for key, fix in fixes.items() if key in problem),
        "check the indentation, quotes and brackets of this line and the one above",
    )
    return _stop("MS106", f"a syntax error ({problem or 'unreadable'})", "YAML 1.2", fix, mark)


def _syntax_problem(found: str, expected: str, fix: str, text: str, position: Any) -> Problem:
    line = column = None
    if isinstance(position, int):
        before = text[:position]
        line, column = before.count("\n") + 1, len(before.rsplit("\n", 1)[-1]) + 1
    return Problem(code="MS106", where="file", found=found, expected=expected, fix=fix, line=line, column=column)


class _Builder:
    """Nodes from parser events, with limits on depth, size and aliases."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.documents = 0
        self.num_nodes = 0
        self.stack: list[tuple[Node, str | None, int]] = []  # container, pending anchor, nodes before it
        self.pending_key: list[str | None] = []
        self.pending_place: list[tuple[int, int] | None] = []
        self.depths: list[int] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # node, values in it, levels in it

    def feed(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                raise _stop(
                    "MS110",
                    "a second document (after '---')",
                    "one scenario in a file",
                    "put each scenario in a file of its own",
                    event.start_mark,
                )
        elif kind == "ScalarEvent":
            self._check_tag(event)
            value = resolve_scalar(event.value) if event.implicit[0] and not event.style else event.value
            if kind == "ScalarEvent" and self.root is None and not self.stack and value is None:
                return
            self._add(Node(value, event.start_mark.line + 1, event.start_mark.column + 1, raw=event.value), event, 1)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._check_tag(event)
            self._open(event, is_mapping=kind == "MappingStartEvent")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            node, anchor, before = self.stack.pop()
            self.pending_key.pop()
            self.pending_place.pop()
            levels = self.depths.pop() + 1
            self._deepen(levels)
            if anchor:
                self.anchors[anchor] = (node, self.num_nodes - before, levels)
        elif kind == "AliasEvent":
            self._alias(event)

    def _check_tag(self, event: Any) -> None:
        # ruamel >= 0.18 keeps a Tag object in `ctag`; `tag` is text or None.
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) != "tag:yaml.org,2002:str":
            stop = _stop("MS117", f"the tag '{tag}'", "plain YAML without tags", "delete the tag", event.start_mark)
            self.problems.append(stop.problem)

    def _open(self, event: Any, *, is_mapping: bool) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._too_deep(event.start_mark)
        mark = event.start_mark
        empty: list[Node] | dict[str, Node] = {} if is_mapping else []
        node = Node(empty, mark.line + 1, mark.column + 1, keys={} if is_mapping else None)
        before = self.num_nodes
        self._add(node, event, 1)
        self.stack.append((node, getattr(event, "anchor", None), before))
        self.pending_key.append(None)
        self.pending_place.append(None)
        self.depths.append(0)

    def _too_deep(self, mark: Any) -> Unreadable:
        found = f"more than {MAX_DEPTH} levels of nesting"
        return _stop("MS104", found, "a flatter file", "check the brackets and the indentation", mark)

    def _deepen(self, levels: int) -> None:
        if self.depths:
            self.depths[-1] = max(self.depths[-1], levels)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            raise _stop(
                "MS105",
                f"the alias '*{event.anchor}', whose anchor is not complete before it",
                "an alias after its anchor",
                "define the anchor (&name) earlier, and not around the alias",
                event.start_mark,
            )
        node, size, levels = self.anchors[event.anchor]
        if len(self.stack) + levels > MAX_DEPTH:
            raise self._too_deep(event.start_mark)
        self._deepen(levels)
        self._add(node, event, size)

    def _add(self, node: Node, event: Any, size: int) -> None:
        self.num_nodes += size
        mark = event.start_mark
        if self.num_nodes > MAX_NODES:
            code, what = ("MS105", "aliases that expand to") if size > 1 else ("MS103", "a file of")
            raise _stop(
                code,
                f"{what} more than {MAX_NODES:,} values",
                "a scenario",
                "write the values out, or split the file",
                mark,
            )
        if node.is_scalar and getattr(event, "anchor", None) and type(event).__name__ == "ScalarEvent":
            self.anchors[event.anchor] = (node, 1, 0)
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1][0]
        if isinstance(parent.value, list):
            parent.value.append(node)
            return
        assert isinstance(parent.value, dict)
        assert parent.keys is not None
        key = self.pending_key[-1]
        if key is None:
            self._key(parent, node, mark)
        else:
            if key != _DROPPED:
                parent.value[key] = node
                parent.keys[key] = self.pending_place[-1] or (None, None)
            self.pending_key[-1] = None

    def _key(self, parent: Node, node: Node, mark: Any) -> None:
        if not node.is_scalar:
            raise _stop(
                "MS117", "a key that is a list or a mapping", "keys that are plain text", "write the key as text", mark
            )
        key = node.raw
        assert parent.keys is not None
        if key in parent.keys:
            first = parent.keys[key][0]
            found = f"the key '{key}' a second time (first on line {first})"
            self.problems.append(_stop("MS107", found, "each key once", "delete or rename one of them", mark).problem)
            key = _DROPPED
        self.pending_key[-1] = key
        self.pending_place[-1] = (mark.line + 1, mark.column + 1)
