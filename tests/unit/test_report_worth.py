"""The worth of a better cluster as table and data."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from makespan import catalog
from makespan.report.worth import worth_data, worth_table
from makespan.scenario import parse_cluster
from makespan.specs.layout import Layout
from makespan.specs.search import HardwareWorth, Objective
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

ESTIMATE = step_estimate(
    catalog.model("llama3.1-8b").spec,
    StepConfig(global_batch=64, seq_len=8192, precision="bf16"),
    parse_cluster("8xh100-sxm"),
    catalog.framework("megatron-2026").spec,
    Layout(tp=2, dp=4),
)


def worth(name, change, saved, *, kept=None, same=True, accelerators=math.nan):
    return HardwareWorth(
        name=name,
        change=change,
        estimate=ESTIMATE,
        saved_fraction=saved,
        same_layout=same,
        kept_fraction=saved if kept is None else kept,
        accelerators_fraction=accelerators,
    )


FOUND = (
    worth("FLOP/s", "+10 %", 0.0712, accelerators=0.0789),
    worth("HBM capacity", "+10 %", 0.031, kept=0.0, same=False, accelerators=math.inf),
    worth("network latency", "half", 0.0004, accelerators=0.0004),
    worth("oversubscription", "none: no tier is oversubscribed", 0.0, accelerators=0.0),
)


def printed(table):
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


def test_the_table_tells_savings_and_what_saves_nothing():
    text = printed(worth_table(FOUND))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}

    assert "7.1 %" in rows["FLOP/s"]
    assert "+7.9 %" in rows["FLOP/s"]
    assert rows["FLOP/s"].rstrip().endswith("the same")
    assert "3.1 %" in rows["HBM"]
    assert "0.0 %" in rows["HBM"]
    assert "none would" in rows["HBM"]
    assert str(ESTIMATE.layout) in rows["HBM"]
    assert "Saves nothing: network latency half; oversubscription (no tier is oversubscribed)." in text


@pytest.mark.parametrize(("objective", "word"), [(Objective.COST, "accelerator time"), (Objective.ENERGY, "energy")])
def test_the_heading_says_what_is_saved(objective, word):
    assert word in printed(worth_table(FOUND, objective=objective)).splitlines()[0]


def test_where_nothing_helps_the_table_says_so():
    text = printed(worth_table([replace(found, saved_fraction=0.0) for found in FOUND]))

    assert "HBM capacity +10 %" in text
    assert "the same" not in text


def test_the_data_are_plain_json_without_nan():
    data = json.loads(json.dumps(worth_data(FOUND), allow_nan=False))

    assert [row["name"] for row in data] == [found.name for found in FOUND]
    assert data[0]["saved_fraction"] == 0.0712
    assert data[0]["layout"]["tp"] == 2
    assert (data[1]["saved_by_old_layout_fraction"], data[1]["same_layout"]) == (0, False)
    assert (data[1]["accelerators_fraction"], data[1]["no_accelerators_would"]) == (None, True)
    assert [row["possible"] for row in data] == [True, True, True, False]
