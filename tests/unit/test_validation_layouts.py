"""The ledger of published layouts: which row of a run counts, what explains a miss, and what the command prints."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from makespan.cli.main import cli
from makespan.specs.layout import Layout, Recompute, Sharding
from makespan.specs.search import SearchConstraints
from makespan.validation.files import read_models, read_rows
from makespan.validation.layouts import (
    EXPLAINED,
    HELD,
    MISSED,
    OUTSIDE,
    RECIPE,
    TIE,
    LayoutLedger,
    PublishedLayout,
    Reason,
    _held_together,
    _usable,
    held_values,
    is_tie,
    published_layouts,
    software_constraints,
    with_recipes,
)
from makespan.validation.layouts_page import layouts_as_data, layouts_page

RECIPE_OF_ALL = ("publisher", "model", "accelerator", "profile")
ROW = next(row for row in read_rows(None) if row["id"] == "dgxc0065")
"""GPT-3 175B on 128 H100, bf16, tp 4, pp 8, vpp 12."""


def answer(**changes: object) -> PublishedLayout:
    base = PublishedLayout(
        id="a",
        rows=("a",),
        family="f",
        split="development",
        model="m",
        accelerator="h100-sxm",
        num_accelerators=64,
        profile="p",
        precision="bf16",
        global_batch=64,
        seq_len=4096,
        is_mixture=False,
        layout=Layout(tp=4, dp=16),
        time_s=1.0,
        memory_fraction=0.5,
        best=Layout(tp=2, dp=32, recompute=Recompute.SELECTIVE),
        best_time_s=0.8,
        best_memory_fraction=0.9,
        num_layouts=10,
        tie_fraction=0.07,
        verdict=MISSED,
        held={"tp": 0.95, "recompute": 0.85},
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def table(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_layout_ties_up_to_the_fraction():
    assert is_tie(1.07, 1.0, 0.07)
    assert not is_tie(1.0701, 1.0, 0.07)


def test_what_a_miss_says_of_itself():
    miss = answer()

    assert miss.ratio == 0.8
    assert miss.is_never_worse
    assert miss.leading == "tp"
    assert miss.changes == (("tp", "4", "2"), ("recompute", "none", "selective"))
    assert not answer(best_time_s=1.001).is_never_worse


def test_the_software_of_a_row_is_held_and_its_layout_is_not():
    layout = Layout(tp=4, pp=8, dp=4, vpp=12, sharding=Sharding.ZERO1)
    constraints = software_constraints(layout, tp=4)

    assert (constraints.cuda_graphs, constraints.offload, constraints.ep_overlap) == ("none", "none", False)
    assert constraints.memory_headroom == 0.0
    held = {"cuda_graphs", "offload", "ep_overlap", "memory_headroom", "tp"}
    open_fields = [f.name for f in dataclasses.fields(constraints) if f.name not in held]
    assert all(getattr(constraints, name) == getattr(SearchConstraints(), name) for name in open_fields)


def test_a_layout_that_ties_in_another_run_of_the_publisher_is_a_recipe():
    """One layout kept for two sizes: dp differs, the choices do not. Another layout or publisher explains nothing."""
    tie = answer(id="t", verdict=TIE, num_accelerators=128, layout=Layout(tp=4, dp=32))
    miss, other = answer(), answer(id="o", layout=Layout(tp=8, dp=8))

    explained = with_recipes([tie, miss, other], [RECIPE_OF_ALL] * 3)
    assert [run.verdict for run in explained] == [TIE, EXPLAINED, MISSED]
    assert explained[1].reason is not None
    assert explained[1].reason.kind == RECIPE
    assert with_recipes([tie, miss], [RECIPE_OF_ALL, ("another", "m", "a", "p")])[1].verdict == MISSED


def test_shares_and_directions():
    runs = (
        answer(verdict=TIE, rows=("a", "b", "c")),
        answer(verdict=EXPLAINED, reason=Reason(kind=HELD, dimension="tp", text="t"), split="validation"),
        answer(),
        answer(verdict=OUTSIDE, best_time_s=1.2, outside=("micro_batch",)),
    )
    ledger = LayoutLedger(runs=runs, num_rows=6, memory_margin=0.1)

    assert ledger.tally() == {TIE: 1, EXPLAINED: 1, MISSED: 1, OUTSIDE: 1}
    assert ledger.share() == 0.5
    assert ledger.share("validation") == 1.0
    assert ledger.share_of_rows() == pytest.approx(4 / 6)
    assert (ledger.num_worse, ledger.num_outside) == (0, 1)
    missed_by_the_search = dataclasses.replace(runs[3], outside=())
    assert LayoutLedger(runs=(missed_by_the_search,), num_rows=1, memory_margin=0.1).num_worse == 1
    assert ledger.directions() == {("recompute", "none -> selective"): 2, ("tp", "less"): 2}
    page = layouts_page(ledger)
    assert "50.0 % of the runs, **missed**" in page
    assert "| held | tp | 1 |" in page
    assert "violated in 0 runs. In 1 more" in page
    assert "(micro_batch 1)" in page
    assert LayoutLedger(runs=(), num_rows=0, memory_margin=0.1).share() is None


def test_of_several_layouts_of_one_run_the_fastest_measured_counts(tmp_path):
    slower = ROW | {"id": "slow", "vpp": "6", "step_time_s": "99"}
    rows = table(tmp_path / "rows.csv", slower, ROW)

    (run,) = published_layouts(rows).runs
    assert run.id == ROW["id"]
    assert run.rows == (ROW["id"], "slow")
    assert run.layout.vpp == 12


def test_rows_without_a_time_or_a_layout_are_no_runs(tmp_path):
    silent = ROW | {"step_time_s": "", "tokens_per_s_per_gpu": ""}
    unstated = ROW | {"tp": "", "pp": "", "vpp": "", "dp": "", "micro_batch": ""}
    rows = table(tmp_path / "rows.csv", silent, unstated, ROW | {"id": "whole"})

    assert [run.rows for run in published_layouts(rows).runs] == [("whole",)]


def test_more_memory_than_there_is_goes_to_the_search_too(tmp_path):
    """tp 1 without a pipeline needs many times the memory; the search is given as much, and finds nothing slower."""
    rows = table(tmp_path / "rows.csv", ROW | {"tp": "4", "pp": "1", "vpp": "1", "dp": "32"})

    (run,) = published_layouts(rows).runs
    assert run.memory_fraction > 1.5
    assert run.best_memory_fraction <= run.memory_fraction * (1 + 1e-6)
    assert run.is_never_worse


def test_the_command_prints_and_writes_a_ledger(tmp_path, monkeypatch):
    rows = table(tmp_path / "rows.csv", ROW)
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = ["validate", "--rows", str(rows), "--layouts"]

    data = json.loads(CliRunner().invoke(cli, [*asked, "--json", "--write", "own.md"]).stdout)
    assert data["num_runs"] == 1
    assert data["runs"][0]["layout"] == "tp4 pp8 dp4 vpp12 mbs1 none recompute zero1"
    assert Path("own.md").read_text().startswith("# Published layouts")

    shown = CliRunner().invoke(cli, [*asked, "--write"])
    assert shown.exit_code == 0
    assert "tie or explained" in shown.stdout
    assert Path("docs/layouts.md").exists()
    assert layouts_as_data(LayoutLedger(runs=(), num_rows=0, memory_margin=0.1))["share"] is None


class Answers:
    """A search whose best time depends on the dimensions that are kept."""

    def __init__(self, times: dict[frozenset[str], float]) -> None:
        self.times = times

    def holding(self, names: list[str]) -> SimpleNamespace:
        return SimpleNamespace(time_s=self.times.get(frozenset(names), 0.8))


def test_dimensions_that_explain_only_together_are_named_in_the_order_of_their_weight():
    """tp alone leaves 12 %, tp with recomputation 3 %; ep, though held, adds nothing."""
    both = {frozenset({"tp", "recompute", *more}): 0.97 for more in ((), ("ep",))}
    times = {frozenset({"tp"}): 0.88, frozenset({"recompute"}): 0.84, **both}
    searched = Answers(times)

    assert _held_together(searched, answer(), ["ep", "recompute", "tp"]) == ("tp", "recompute")
    assert _held_together(searched, answer(), ["ep", "tp"]) == ()
    assert _held_together(searched, answer(), []) == ()


def test_a_dimension_counts_as_held_where_all_of_three_runs_agree(tmp_path):
    """tp and pp stay, vpp varies: over three batches tp is held, over two it may be chance."""
    runs = [ROW | {"id": f"r{k}", "global_batch": str(256 * k), "vpp": "6" if k == 1 else "12"} for k in (1, 2, 3)]

    def held(rows: list[dict[str, str]]) -> dict[str, int]:
        usable = _usable(read_rows(table(tmp_path / "rows.csv", *rows)), read_models(None))
        (names,) = held_values(usable).values()
        return dict(names)

    assert held(runs)["tp"] == 3
    assert "vpp" not in held(runs)
    assert held(runs[:2]) == {}
