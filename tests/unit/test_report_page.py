"""The page as text: one file, nothing from outside, nothing of a scenario read as markup; the terminal likewise."""

import datetime as dt
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from makespan.report import html, result, terminal
from makespan.report.page import asset, close_ups, command, embed, memory_table, safe_url, step_rows
from report_fixture import HOSTILE, memphis_plan

PLAN = memphis_plan()
DATA = result(PLAN)
PAGE = html(PLAN, DATA)


class Elements(HTMLParser):
    """Elements and attributes of a page; the text of the script elements."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text, self.scripts, self._inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)


def test_the_page_is_one_file_under_three_megabytes_that_names_no_resource():
    assert len(PAGE.encode()) < 3e6
    for tag, attributes in Elements(PAGE).found:
        assert "src" not in attributes, (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
    assert not re.search(r"url\((?!data:)", asset("report.css"))
    assert "@import" not in asset("report.css")


def test_the_policy_allows_the_two_scripts_of_the_page_only():
    elements = Elements(PAGE)
    policy = next(a["content"] for tag, a in elements.found if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == 2
    assert "script-src 'unsafe-inline'" not in policy
    assert len(elements.scripts) == 3


def test_the_embedded_data_are_those_of_the_result():
    embedded = json.loads(Elements(PAGE).scripts[0])
    for key in ("scenario", "options", "times_s", "levers", "changes", "answers"):
        assert embedded[key] == DATA[key]


def test_every_section_the_contents_name_is_there():
    elements = Elements(PAGE)
    ids = {attributes.get("id") for _, attributes in elements.found}
    targets = {a["href"][1:] for tag, a in elements.found if tag == "a" and a.get("href", "").startswith("#")}
    assert targets <= ids
    assert {
        "dates",
        "observed",
        "time",
        "losses",
        "build",
        "layout",
        "cost",
        "levers",
        "changes",
        "facts",
        "limits",
        "again",
    } <= targets
    all_ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(all_ids) == len(set(all_ids))


def test_the_page_says_the_answer_the_command_and_every_fact():
    text = " ".join(Elements(PAGE).text)
    for line in DATA["answers"]:
        assert line in text
    assert "--replicates 200 --seed 0 --by 2025-03-01" in text
    for fact in DATA["facts"]:
        assert fact["path"] in text


def test_markup_in_a_scenario_stays_text():
    plan = memphis_plan(20, hostile=True)
    page = html(plan, result(plan))
    elements = Elements(page)
    assert len(elements.scripts) == 3
    assert page.count("<script") == 3
    assert HOSTILE in " ".join(elements.text)
    assert json.loads(elements.scripts[0])["options"][2]["name"] == HOSTILE
    assert not [a for _, a in elements.found if a.get("href", "").lower().startswith("javascript")]
    assert not [a for _, a in elements.found if any(key.startswith("on") for key in a)]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "JAVASCRIPT:x", "data:text/html,x", "//evil.example", "", " https://x"]
)
def test_only_web_addresses_become_links(url):
    assert safe_url(url) == ""


def test_embedded_json_cannot_leave_its_element():
    text = embed({"a": "</script><!-- &\u2028 é"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- &\u2028 é"}


def test_the_vendored_library_carries_its_licence():
    library = asset("echarts.min.js")
    assert library.startswith("/*! Apache ECharts 6")
    assert "Apache License, Version 2.0" in library[:400]
    assert "Redistributions in binary form" in library[:2500]
    assert "</script" not in library.lower()
    assert "Apache License" in asset("LICENSE.echarts")


def test_the_page_of_a_plan_without_deadline_levers_changes_or_layout():
    plan = memphis_plan(20, deadline=None)
    bare = replace(
        plan, options=plan.options[5:], levers=(), changes=(), scenario=replace(plan.scenario, rules=(), observed=(), text="", question="")
    )  # fmt: skip
    page = html(bare, result(bare))
    assert "Odds by" not in page
    assert 'id="levers"' not in page
    assert 'id="changes"' not in page
    assert "The model cannot be trained so: nothing fits." in page
    assert "finishes first" not in page
    for text in result(bare)["options"][0]["reasons"]:
        assert text in page
    assert "--by" not in command(bare, result(bare))


def test_options_with_the_same_step_share_a_close_up_and_the_earliest_comes_first():
    groups = close_ups(DATA)
    assert groups[0]["names"][1] == "Build in Memphis"
    assert sorted(name for group in groups for name in group["names"]) == sorted(
        option["name"] for option in DATA["options"] if option["step"]
    )
    for group in groups:
        steps = [option["step"] for option in DATA["options"] if option["name"] in group["names"]]
        assert all(step == group["step"] for step in steps)
    assert PAGE.count('class="pipe"') == len(groups) == 2


def test_the_step_table_holds_every_part_once_with_what_shows_beside_what_is_hidden():
    step = DATA["options"][0]["step"]
    rows = step_rows(step)
    assert sum(exposed for _, exposed, _ in rows) == pytest.approx(step["time_s"])
    assert {name: hidden for name, _, hidden in rows if hidden} == step["hidden_s"]
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names))
    text = " ".join(" ".join(Elements(PAGE).text).split())
    assert "Tensor-parallel communication 999 ms 4 % 300 ms" in text


def test_memory_by_stage_marks_the_fullest_and_leaves_out_what_no_stage_has():
    option = DATA["options"][0]
    table = memory_table(option["step"], option["layout"])
    assert table["columns"] == [("first", True), ("middle", False), ("last", False)]
    assert dict(table["rows"])["logits"] == [0, 0, 2e9]
    assert table["totals"][0] == option["step"]["memory_total_bytes"]
    one = {
        **option["step"],
        "memory_by_stage": [],
        "memory_bytes": {"weights": 3.0, "logits": 0},
        "memory_total_bytes": 3.0,
    }
    assert memory_table(one, {**option["layout"], "pp": 1}) == {
        "columns": [("every accelerator", False)],
        "rows": [("weights", [3.0])],
        "totals": [3.0],
    }


@pytest.mark.parametrize(("stage", "peak"), [(0, "first"), (5, "middle"), (14, "before last"), (15, "last")])
def test_the_fullest_stage_is_found_in_its_group(stage, peak):
    groups = [{"group": name, "memory_bytes": {"weights": 1.0}, "total_bytes": 1.0} for name in ("first", "middle", "before last", "last")]  # fmt: skip
    step = {"memory_stage": stage, "memory_by_stage": groups, "memory_bytes": {"weights": 1.0}}
    assert [name for name, marked in memory_table(step, {"pp": 16})["columns"] if marked] == [peak]


def test_what_would_help_the_step_is_said_in_words():
    text = " ".join(" ".join(Elements(PAGE).text).split())
    assert "Pipeline schedule: zero-bubble instead of 1f1b" in text
    quiet = [replace(option, shown=option.shown and replace(option.shown, step_changes=())) for option in PLAN.options]
    plan = replace(PLAN, options=tuple(quiet))
    assert "No single change of the layout would shorten the step" in html(plan, result(plan))


def test_one_stage_is_told_instead_of_drawn():
    options = []
    for option in PLAN.options[:2]:
        best = replace(option.best.best, layout=replace(option.best.best.layout, pp=1, vpp=1))
        options.append(
            replace(option, best=replace(option.best, best=best), shown=replace(option.shown, pipeline=None))
        )
    plan = replace(PLAN, options=tuple(options))
    data = result(plan)
    page = html(plan, data)
    assert data["pipelines"] == []
    assert "One stage, so there is no pipeline to draw" in page
    assert 'class="pipe"' not in page


def printed(width, **arguments):
    out = io.StringIO()
    terminal(PLAN, Console(file=out, width=width, color_system=None, highlight=False), **arguments)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 124, 200])
def test_the_terminal_fits_its_width_and_names_every_option(width):
    text = printed(width)
    assert max(len(line) for line in text.splitlines()) <= width
    squeezed = re.sub(r"\s+", " ", text)
    assert "Build in Memphis finishes first" in squeezed
    assert "What then happened" in text
    assert "Changes that would help" in text
    for figure in ("$508M", "654 GWh", "181 MW") if width >= 80 else ():
        assert figure in text


def test_the_terminal_gives_odds_of_another_date():
    release = PLAN.options[2].campaign.release_s
    by = dt.date(2025, 5, 21)
    share = (release <= (by - PLAN.scenario.as_of).days * 86400).mean()
    text = re.sub(r"\s+", " ", printed(200, by=by))
    assert f"Odds of release by 21 May 2025: Build in Memphis {share * 100:.0f}%" in text


def test_the_terminal_does_not_read_names_as_markup():
    out = io.StringIO()
    plan = memphis_plan(20)
    named = replace(plan.options[0], option=replace(plan.options[0].option, name="[red]Oracle[/red] [link=x]"))
    terminal(replace(plan, options=(named, *plan.options[1:])), Console(file=out, width=160, color_system=None))
    assert "[red]Oracle[/red]" in out.getvalue()
