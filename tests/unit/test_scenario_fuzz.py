"""Wrong scenarios of every sort: `check` lists problems and never crashes."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from makespan.errors import ScenarioError
from makespan.scenario import load

ROOT = Path(__file__).parents[2]
TREES = [
    YAML(typ="safe", pure=True).load((ROOT / "examples" / f"{name}.yaml").read_text("utf-8"))
    for name in ("memphis-2024", "quickstart")
]
QUIET = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=True),
    st.text(max_size=12),
    st.sampled_from(
        [
            "5 MW",
            "30 d",
            "2.5 USD/h",
            "15T",
            "-3 d",
            "1e400 MW",
            "101 %",
            "2026-02-30",
            "2027-01-01",
            "never",
            "optimal",
            "10 furlongs",
            "h100-sxm",
            "grid",
            "rent",
            "mix",
            "Build in Memphis",
            "memphis",
            "0",
            "1" * 5000,
            "$",
            "$5Q",
            ".inf",
            "0x1F",
            "<list>",
            "a.b",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["value", "range", "p10", "p50", "p90", "values", "weights", "source", "assumed", "known_on", "kind", "name", "x"]), inner, max_size=4),
    ),
    max_leaves=8,
)  # fmt: skip


def places(node, path=()):
    """Every key and index of a tree."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from places(child, (*path, key))


PLACES = [(index, path) for index, tree in enumerate(TREES) for path in places(tree)]


def written(tree) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.dump(tree, stream)
    return stream.getvalue() + "\n"


def problems_of(source, **options):
    """The problems of a text or file; anything else than `ScenarioError` escapes and fails the test."""
    try:
        load(source, **options)
    except ScenarioError as error:
        return error.problems, str(error)
    return (), ""


def outcome(text: str) -> list[str]:
    """Codes of a text's problems, each of which is complete."""
    problems, message = problems_of(text, base=ROOT / "examples" / "x.yaml")
    for problem in problems:
        assert problem.code.startswith("MS")
        assert problem.where
        assert problem.found
        assert problem.expected
        assert problem.fix
        assert problem.code in message
    return [problem.code for problem in problems]


@QUIET
@given(data=st.data())
def test_a_mutated_example_never_crashes(data):
    index, path = data.draw(st.sampled_from(PLACES))
    tree = copy.deepcopy(TREES[index])
    parent = tree
    for step in path[:-1]:
        parent = parent[step]
    action = data.draw(st.sampled_from(["replace", "delete", "rename", "wrap", "duplicate"]))
    last = path[-1]
    if action == "delete":
        del parent[last]
    elif action == "rename" and isinstance(parent, dict):
        parent[data.draw(st.text(max_size=8)) or "x"] = parent.pop(last)
    elif action == "wrap":
        parent[last] = [parent[last]]
    elif action == "duplicate" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[last] = data.draw(values)
    outcome(written(tree))


@QUIET
@given(
    tree=st.dictionaries(
        st.sampled_from(
            [
                "makespan",
                "as_of",
                "model",
                "run",
                "options",
                "sites",
                "cluster",
                "tokens",
                "sources",
                "observed",
                "layout",
                "failures",
            ]
        ),
        values,
    )
)
def test_random_trees_never_crash(tree):
    assert outcome(written(tree))


@settings(QUIET, max_examples=150)
@given(text=st.text(alphabet=st.sampled_from(list("ab:- \n\t[]{}&*!#|>'\"%@`,?0.\x00\x85﻿é")), max_size=60))
def test_random_text_never_crashes(text):
    assert outcome(text + "\n")


@settings(QUIET, max_examples=100)
@given(data=st.binary(max_size=60))
def test_random_bytes_never_crash(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(data)
    with pytest.raises(ScenarioError):
        load(path)


@QUIET
@given(data=st.data())
def test_overrides_never_crash(data):
    index, path = data.draw(st.sampled_from(PLACES))
    dotted = ".".join(str(step) for step in path)
    value = data.draw(
        st.one_of(st.text(max_size=10), st.sampled_from(["2 USD/h", "[1, 2", "{value: 3}", "~", "&a [*a]"]))
    )
    problems, message = problems_of(written(TREES[index]), overrides={dotted: value})
    assert bool(problems) == bool(message)


def test_a_cut_file_never_crashes():
    text = (ROOT / "examples" / "memphis-2024.yaml").read_text("utf-8")
    for end in range(0, len(text), len(text) // 40):
        outcome(text[:end] + "\n")


def test_alias_bombs_stop_early():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert outcome("\n".join(lines) + "\n") == ["MS105"]


def test_chains_of_aliases_are_as_deep_as_brackets():
    chain = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 300)]
    assert outcome("\n".join(chain) + "\n") == ["MS104"]


def test_a_file_of_another_kind_gets_a_short_answer():
    codes = outcome("".join(f"key{i}: {i}\n" for i in range(2000)))
    assert 200 <= len(codes) <= 210
