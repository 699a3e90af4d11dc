"""Every error code has a page, and the page's own examples are what triggers it and what mends it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from makespan.errors import ScenarioError
from makespan.scenario import load, parse_cluster

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "errors").glob("MS*.md"))
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)

_spec = importlib.util.spec_from_file_location("scenario_base", Path(__file__).with_name("scenario_base.py"))
assert _spec is not None
assert _spec.loader is not None
scenario_base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenario_base)
over_base = scenario_base.over_base


def codes_of(text: str) -> set[str]:
    try:
        load(text)
    except ScenarioError as error:
        return {problem.code for problem in error.problems}
    return set()


def with_examples() -> list[object]:
    found = []
    for page in PAGES:
        examples = BLOCK.findall(page.read_text(encoding="utf-8"))
        if page.stem < "MS600" or page.stem > "MS610":
            found += [pytest.param(page.stem, examples, id=page.stem)] if examples else []
    return found


@pytest.mark.parametrize(("code", "examples"), with_examples())
def test_wrong_example_raises_its_code_and_the_other_none(code, examples):
    wrong, right = examples

    assert code in codes_of(over_base(wrong))
    assert codes_of(over_base(right)) == set()


def test_base_has_no_problem():
    assert codes_of(scenario_base.BASE) == set()


TEXTS = {
    "MS103": "a: [" + "1, " * 60_000 + "1]\n",
    "MS104": "note: " + "[" * 50 + "\n",
    "MS108": "# nothing but a comment\n",
    "MS109": "- makespan: 1\n",
    "MS110": "makespan: 1\n---\nmakespan: 1\n",
}


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_texts_that_are_no_scenario(code):
    assert codes_of(TEXTS[code]) == {code}


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path, "a\0b"):
        with pytest.raises(ScenarioError) as caught:
            load(path)
        assert [problem.code for problem in caught.value.problems] == ["MS101"]


def test_files_that_are_no_text(tmp_path):
    for data, line in ((b"a: 1\nb: \xff\n", 2), (b"\x89PNG\0", None), ("a: 1\n".encode("utf-16"), None)):
        path = tmp_path / "data.yaml"
        path.write_bytes(data)
        with pytest.raises(ScenarioError) as caught:
            load(path)
        assert [problem.code for problem in caught.value.problems] == ["MS102"]
        if line:
            assert caught.value.problems[0].line == line


def test_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"# " + b"x" * 300_001)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert [problem.code for problem in caught.value.problems] == ["MS103"]


def test_overrides_that_lead_nowhere():
    for path, value in (("options.7.price", "2 USD/h"), ("options.rent.price", "[1"), ("", "1"), ("name.x", "1")):
        with pytest.raises(ScenarioError) as caught:
            load(scenario_base.BASE, overrides={path: value})
        assert [problem.code for problem in caught.value.problems] == ["MS116"]
        assert "override" in str(caught.value)


def test_words_of_the_command_line():
    for text in ("16384", "x h100-sxm", "0xh100-sxm", "1.5xh100-sxm"):
        with pytest.raises(ScenarioError) as caught:
            parse_cluster(text)
        assert [problem.code for problem in caught.value.problems] == ["MS210"]
