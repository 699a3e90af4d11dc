"""A quick reader of the plain YAML that catalog files are written in.

A full YAML parser takes some 10 µs a character, half the time of a `makespan check`. Catalog files need little of it:
block mappings, lists of one-line items, one-line `{...}` and `[...]`, plain and quoted scalars, `>-`, comments. Anything
else raises `NotPlain`, and `files.parse_yaml` hands the text to the full parser, so a file may use all of YAML. A test
reads every file with both.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

_KEY = re.compile(r"(?P<key>[A-Za-z_][\w.-]*|\"[^\"\\]*\"):(?: +(?P<rest>\S.*))?$")
_FLOW_KEY = re.compile(r"\s*(?P<key>[A-Za-z_][\w.-]*)\s*:\s+")
_FLOW_PLAIN = re.compile(r"[^\s,\[\]{}\"'&*!|>%@`#][^,\[\]{}]*")
_QUOTED = re.compile(r"\"(?P<double>[^\"\\]*)\"|'(?P<single>[^']*)'(?!')")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DOUBTFUL = re.compile(r"[-+.0-9][-+.0-9_:eExobinfNaA]*")
_SPECIAL = frozenset(("~", "null", "Null", "NULL", "True", "TRUE", "False", "FALSE"))
_INDICATORS = frozenset("&*!|>%@`?-[]{},#\"'")

Line = tuple[int, str]


class NotPlain(Exception):
    """The text uses more of YAML than this reader knows."""


def read(text: str) -> Any:
    """The content of a plain YAML text. Raises `NotPlain`."""
    if "\t" in text:
        raise NotPlain("a tab")
    lines = [(len(raw) - len(raw.lstrip(" ")), raw.strip()) for raw in text.splitlines()]
    lines = [line for line in lines if line[1] and not line[1].startswith("#")]
    value, end = _block(lines, 0, 0)
    if end != len(lines):
        raise NotPlain("a line that belongs nowhere")
    return value


def _block(lines: list[Line], start: int, indent: int) -> tuple[Any, int]:
    """The mapping or list whose lines stand at `indent`, and the index after it."""
    if start >= len(lines) or lines[start][0] != indent:
        raise NotPlain("nothing where a block was expected")
    if lines[start][1].startswith("- "):
        items = []
        while start < len(lines) and lines[start][0] == indent and lines[start][1].startswith("- "):
            content = lines[start][1][2:].strip()
            if _KEY.match(content):
                raise NotPlain("a block mapping in a list")
            items.append(_value(content))
            start += 1
        return items, start
    mapping: dict[str, Any] = {}
    while start < len(lines) and lines[start][0] == indent:
        match = _KEY.match(lines[start][1])
        if match is None:
            raise NotPlain(lines[start][1])
        key, rest = match["key"].strip('"'), match["rest"]
        if key in mapping or (match["key"] == key and _scalar(key) != key):
            raise NotPlain(f"the key {key}")
        start += 1
        if rest is None:
            deeper = start < len(lines) and lines[start][0] > indent
            mapping[key], start = _block(lines, start, lines[start][0]) if deeper else (None, start)
            if mapping[key] is None:
                raise NotPlain("a key without a value")
        elif rest == ">-":
            folded = []
            while start < len(lines) and lines[start][0] > indent:
                if lines[start][0] != indent + 2:
                    raise NotPlain("indented text")
                folded.append(lines[start][1])
                start += 1
            mapping[key] = " ".join(folded)
        else:
            mapping[key] = _value(rest)
    if start < len(lines) and lines[start][0] > indent:
        raise NotPlain("a value over several lines")
    return mapping, start


def _value(text: str) -> Any:
    """A scalar or a one-line flow collection, with a comment after it."""
    if text[0] in "{[\"'":
        value, end = _flow(text, 0)
        rest = text[end:]
        if rest.strip() and not rest.lstrip().startswith("#"):
            raise NotPlain(text)
        if rest and not rest.startswith(" "):
            raise NotPlain(text)
        return value
    text = text.split(" #", 1)[0].rstrip()
    if text[0] in _INDICATORS and not _INT.fullmatch(text) and not _FLOAT.fullmatch(text):
        raise NotPlain(text)
    if ": " in text or text.endswith(":"):
        raise NotPlain(text)
    return _scalar(text)


def _flow(text: str, at: int) -> tuple[Any, int]:
    """What begins at `at` inside a flow collection, and the index after it."""
    at = _skip(text, at)
    if at >= len(text):
        raise NotPlain("a collection over several lines")
    if text[at] in "{[":
        return _collection(text, at)
    if quoted := _QUOTED.match(text, at):
        return quoted["double"] if quoted["single"] is None else quoted["single"], quoted.end()
    plain = _FLOW_PLAIN.match(text, at)
    if plain is None or " #" in plain[0] or ": " in plain[0] or plain[0].rstrip().endswith(":"):
        raise NotPlain(text[at:])
    if plain[0][0] in "-?" and not _INT.fullmatch(plain[0].strip()) and not _FLOAT.fullmatch(plain[0].strip()):
        raise NotPlain(plain[0])
    return _scalar(plain[0].strip()), plain.end()


def _collection(text: str, at: int) -> tuple[Any, int]:
    closing = "}" if text[at] == "{" else "]"
    mapping: dict[str, Any] = {}
    items: list[Any] = []
    at = _skip(text, at + 1)
    while at < len(text) and text[at] != closing:
        if closing == "}":
            match = _FLOW_KEY.match(text, at)
            if match is None or match["key"] in mapping or _scalar(match["key"]) != match["key"]:
                raise NotPlain(text[at:])
            mapping[match["key"]], at = _flow(text, match.end())
        else:
            item, at = _flow(text, at)
            items.append(item)
        at = _skip(text, at)
        if at < len(text) and text[at] == ",":
            at = _skip(text, at + 1)
        elif at < len(text) and text[at] != closing:
            raise NotPlain(text[at:])
    if at >= len(text):
        raise NotPlain("a collection over several lines")
    return (mapping if closing == "}" else items), at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def _scalar(text: str) -> Any:
    """A plain scalar as YAML 1.2 resolves it."""
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _DATE.fullmatch(text):
        return dt.date.fromisoformat(text)
    if text in ("true", "false"):
        return text == "true"
    if text in _SPECIAL or _DOUBTFUL.fullmatch(text):
        raise NotPlain(text)
    return text
