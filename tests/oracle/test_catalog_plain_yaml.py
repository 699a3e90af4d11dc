"""The catalog's quick reader against a full YAML parser."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from makespan.catalog import files
from makespan.catalog.plain import NotPlain, read

DATA = Path(str(files.data()))
FILES = sorted(str(p.relative_to(DATA)) for p in DATA.rglob("*.yaml"))


def full(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def exact(value: object) -> object:
    """With types, so that 1 and 1.0 and True are told apart."""
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [exact(v) for v in value]
    return (type(value).__name__, value)


@pytest.mark.parametrize("name", FILES)
def test_every_file_reads_the_same(name: str):
    """And without the full parser, so that nothing is slow by accident."""
    text = (DATA / name).read_text(encoding="utf-8")

    assert exact(read(text)) == exact(full(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: 1.5\nc: 1e3 W\n", {"a": 1, "b": 1.5, "c": "1e3 W"}),
        ("a: {b: [1 W, 2.0], c: 'x, y', d: \"p: q # r\"}\n", {"a": {"b": ["1 W", 2.0], "c": "x, y", "d": "p: q # r"}}),
        ("a: 2024-07-10  # a day\nb:\n  - {c: true}\n  - x\n", {"a": dt.date(2024, 7, 10), "b": [{"c": True}, "x"]}),
        ("a: >-\n  two\n  lines\nb: c\n", {"a": "two lines", "b": "c"}),
        ("# note\n\na:\n  # inside\n  b: http://x.org/y#z\n", {"a": {"b": "http://x.org/y#z"}}),
    ],
)
def test_what_it_reads(text: str, value: object):
    assert exact(read(text)) == exact(value) == exact(full(text))


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",  # twice
        "a: {b: 1, c, 000 W}\n",  # a comma in unquoted text
        "a: {b: 1,\n  c: 2}\n",  # over two lines
        "a: |\n  x\n",
        "a: &x 1\nb: *x\n",
        'a: "\\n"\n',
        "a: 1e3\n",  # a number to some, a text to others
        "a: 0x10\n",
        "a: .inf\n",
        "a: ~\n",
        "a:\n",
        "a: b: c\n",
        "a: b\n  c\n",
        "- a: 1\n",
        "1: a\n",
        "true: a\n",
    ],
)
def test_what_it_leaves_to_the_full_parser(text: str):
    with pytest.raises(NotPlain):
        read(text)


ALPHABET = "ab1.-:,# {}[]'\"\n>"


@given(st.text(alphabet=ALPHABET, max_size=40))
def test_it_never_reads_something_else_than_the_full_parser(text: str):
    try:
        ours = read(text)
    except (NotPlain, ValueError):
        return
    try:
        theirs = full(text)
    except YAMLError:
        raise AssertionError(f"{text!r}: read as {ours!r}, but it is no YAML") from None
    assert exact(ours) == exact(theirs)
