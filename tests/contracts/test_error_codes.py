"""Codes in the source and pages in `docs/errors` are the same set."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = re.compile(r'"(MS\d{3})"')


def test_every_code_has_a_page_and_every_page_a_code():
    raised = {c for path in (ROOT / "src" / "makespan").rglob("*.py") for c in CODE.findall(path.read_text("utf-8"))}
    pages = {path.stem for path in (ROOT / "docs" / "errors").glob("MS*.md")}

    assert raised == pages


def test_a_page_says_what_is_checked_and_why():
    for path in (ROOT / "docs" / "errors").glob("MS*.md"):
        text = path.read_text("utf-8")
        assert text.startswith(f"# {path.stem}: "), path.name
        assert "**Checks**" in text, path.name
        assert "**Why:**" in text, path.name
