"""The worked problems in the documentation are true: every ```pycon block runs."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "```pycon" in page.read_text()
]
BLOCK = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_worked_problems_run(page, monkeypatch):
    """Blocks of one page share their names, in order, as a reader would type them at the project's root."""
    monkeypatch.chdir(ROOT)
    text = "\n".join(BLOCK.findall(page.read_text()))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_every_room_has_a_chapter_with_a_worked_problem():
    rooms = {"workload", "network", "step", "search", "supply", "campaign", "economics", "catalog", "scenario", "study"}
    missing = rooms - {page.stem for page in PAGES if page.parent.name == "explain"}
    assert missing == set()


def test_the_scenario_in_the_readme_is_the_quickstart():
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    stored = (ROOT / "examples/quickstart.yaml").read_text()
    assert [line for line in shown.splitlines() if not line.startswith("#")] == [
        line for line in stored.splitlines() if not line.startswith("#")
    ]
