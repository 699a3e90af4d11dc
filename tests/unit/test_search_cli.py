"""`makespan search` as a user types it, and its answer as text, JSON, CSV and data frame."""

import csv
import io
import json
import re
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import makespan
from makespan.cli import progress
from makespan.cli.main import run
from makespan.report import SearchAnswer, search_columns, search_data, search_table, why_nothing_fits
from makespan.report.search_answer import Found, lost_seconds, ranked, why_behind
from makespan.scenario import parse_cluster, parse_framework, parse_layout, parse_model
from makespan.search.emptied import Emptied, Release
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.search import Objective, SearchConstraints, SearchResult
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

MODEL, PROFILE, CLUSTER = parse_model("llama3.1-8b"), parse_framework("megatron-2026"), parse_cluster("16xh100-sxm")
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")
ASK = ["search", "llama3.1-8b", "--on", "16xh100-sxm", "--thin"]
SIZED = [*ASK, "--global-batch", "128", "--seq-len", "8k"]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def said(capsys, arguments, expected=0):
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == expected, captured.err
    return captured


def data_of(capsys, arguments, expected=0):
    return json.loads(said(capsys, [*arguments, "--json"], expected).out)


def estimate(text="tp=2,pp=1", **changes):
    """A layout worked out; a changed time without its own breakdown is made of matrix products."""
    found = step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, parse_layout(text, num_accelerators=16))
    if "time_s" in changes and "breakdown" not in changes:
        changes["breakdown"] = {**found.breakdown, "gemm": found.breakdown["gemm"] + changes["time_s"] - found.time_s}
    return replace(found, **changes)


def answer_of(top, *, objective=Objective.TIME, tie_fraction=0.02, **changes):
    result = SearchResult(
        best=top[0] if top else None,
        top=tuple(top),
        pareto=(),
        num_layouts=1000,
        num_feasible=400,
        num_excluded=5000,
        infeasible={LayoutStatus.OUT_OF_MEMORY: 600, LayoutStatus.BATCH_TOO_SMALL: 0, LayoutStatus.NOT_SUPPORTED: 7000},
        num_ties=3,
        tie_fraction=tie_fraction,
        objective=objective,
    )
    values = {
        "model": MODEL,
        "cluster": CLUSTER,
        "profile": PROFILE,
        "constraints": SearchConstraints(objective=objective),
        "found": (Found(config=CONFIG, result=result),),
        "top": 10,
        "seconds": 0.125,
    }
    return SearchAnswer(**values | changes)


def text_of(answer, width=100):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(search_table(answer))
    return console.file.getvalue()


# Reasons for a rank


def test_the_seconds_lost_by_cause_add_up_to_the_difference():
    best, other = estimate(), estimate("tp=8,pp=2,recompute=full")
    assert sum(lost_seconds(best, other).values()) == pytest.approx(other.time_s - best.time_s, rel=1e-9)


@pytest.mark.parametrize(
    ("breakdown", "why"),
    [
        ({"gemm": 3.5, "bubble": 0.2, "tp": 0.3}, "+0.5 s matrix products"),
        ({"gemm": 3.1, "bubble": 0.35, "tp": 0.3}, "+0.15 s pipeline bubble, +0.1 s matrix products"),
        ({"gemm": 4.0, "bubble": 0.2, "tp": 0.0}, "+1 s matrix products, -0.3 s tensor-parallel communication"),
        ({"gemm": 3.0, "bubble": 0.2, "tp": 0.305}, "+5 ms tensor-parallel communication"),
        ({"gemm": 2.0, "bubble": 0.9, "tp": 0.3}, "-1 s matrix products, +0.7 s pipeline bubble"),
        ({"gemm": 3.0, "bubble": 0.2, "tp": 0.3, "ep": 0.25}, "+0.25 s expert-parallel communication"),
    ],
)
def test_the_largest_differences_are_named(breakdown, why):
    best = estimate(breakdown={"gemm": 3.0, "bubble": 0.2, "tp": 0.3}, time_s=3.5)
    other = estimate(breakdown=breakdown, time_s=sum(breakdown.values()))
    assert why_behind(best, other) == why


def test_equal_times_are_told_apart_by_accelerators_and_memory():
    best = estimate(num_accelerators=12)
    assert why_behind(best, replace(best, num_accelerators=16)) == "same time, 4 accelerators more"
    kinds = {**best.memory.by_kind, "buffers": best.memory.by_kind["buffers"] + 3 * 2**30}
    fuller = replace(best, memory=replace(best.memory, by_kind=kinds))
    assert why_behind(best, fuller) == "same time, 3.0 GiB more"


def test_layouts_within_the_tie_fraction_are_ties():
    times = (2.0, 2.0, 2.039, 2.041)
    rows = ranked(answer_of([estimate(time_s=t) for t in times]))
    assert [row.tie for row in rows] == [False, True, True, False]
    assert [row.behind for row in rows] == pytest.approx([0.0, 0.0, 0.0195, 0.0205])
    assert [row.tie for row in ranked(answer_of([estimate(time_s=t) for t in times], tie_fraction=0.0))] == [
        False, True, False, False,
    ]  # fmt: skip


def test_accelerator_time_counts_only_what_is_used():
    rows = ranked(answer_of([estimate(time_s=3.0, num_accelerators=12)], objective=Objective.COST))
    assert rows[0].value == 3.0 * 16  # the layout's own accelerators, not what the estimate was told


def test_the_text_marks_ties_and_gives_reasons_and_the_tally():
    text = text_of(answer_of([estimate(time_s=2.0), estimate("tp=4,pp=1", time_s=2.01), estimate(time_s=2.2)]))
    lines = text.splitlines()
    assert lines[0] == "llama3.1-8b on 16 h100-sxm, 128 x 8,192 tokens, bf16, megatron-2026"
    marks = [line.split("  ")[0].strip() for line in lines if re.match(r" *\d+ (=| ) ", line)]
    assert marks == ["1", "2 =", "3"]
    assert (
        "1,000 layouts worked out, 5,000 excluded by proof as no better or not fitting, of 6,000 legal ones; of those worked"
        " out, 400 fit; 0.12 s." in " ".join(text.split())
    )
    assert text.index("7,000 not supported by the framework") < text.index("600 out of memory")
    assert "batch too small" not in text
    assert (
        "within 2.0% of the best, where the model cannot tell layouts apart: 3 of the layouts worked out."
        in " ".join(text.split())
    )


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_text_fits_the_terminal(width):
    long = "tp=2,pp=2,cp=2,recompute=norm+core_attention+mlp,sharding=zero3,shard_size=4,offload=optimizer,graphs=full"
    answer = answer_of(
        [estimate(time_s=123456.0), estimate(time_s=234567.0, layout=parse_layout(long, num_accelerators=16))],
        warnings=("w " * 100,),
        rules=("r " * 100,),
        fixed={"recompute": "norm+core_attention+mlp", "sharding": "zero3", "tp": "8", "cp_kind": "all_to_all"},
        cluster=replace(CLUSTER, num_accelerators=10_000_000),
    )
    for objective in Objective:
        lines = text_of(replace(answer, constraints=SearchConstraints(objective=objective)), width).splitlines()
        assert max(map(len, lines)) <= width
        assert not [line for line in lines if line != line.rstrip()]


def test_where_nothing_fits_what_is_excluded_is_proved_not_to_fit():
    result = SearchResult(best=None, top=(), pareto=(), num_layouts=0, num_feasible=0, num_excluded=8_000)
    text = why_nothing_fits(replace(answer_of([]), found=(Found(config=CONFIG, result=result),)))
    assert "0 layouts worked out, 8,000 proved not to fit, of 8,000 legal ones; 0.12 s." in text
    assert "no better" not in text


# Few accelerators used


def test_a_batch_that_cannot_feed_the_cluster_is_a_warning(capsys):
    small = ["search", "llama3.1-8b", "--on", "128xh100-sxm", "--seq-len", "8k", "--thin", "--objective", "cost"]
    data = data_of(capsys, [*small, "--global-batch", "4"])
    used = data["best"]["num_accelerators"]
    assert used < 0.9 * 128
    assert f"uses {used} of the 128 accelerators, less than --min-used 90%" in data["warnings"][0]
    assert "a batch of 4 sequences" in data["warnings"][0]
    assert data_of(capsys, SIZED)["warnings"] == []
    assert (
        "less than --min-used 90%: dp=2 is fixed"
        in data_of(capsys, [*SIZED, "--fix", "dp=2,tp=2,pp=1,cp=1"])["warnings"][0]
    )


# JSON


def test_json_has_what_scripts_ask_for(capsys):
    data = data_of(capsys, [*SIZED, "--top", "3"])
    assert data["layouts"] + data["excluded"] == data["legal"]
    assert 0 < data["feasible"] <= data["layouts"]
    assert set(data["infeasible_by_reason"]) <= {status.name.lower() for status in LayoutStatus}
    assert data["seconds"] > 0
    assert len(data["top"]) == 3
    assert data["best"] == data["top"][0]
    best = data["best"]
    assert set(best["layout"]) >= set(Layout.__slots__)
    assert best["bounds_s"][0] <= best["p10_s"] <= best["time_s"] <= best["p90_s"]
    assert sum(best["memory_bytes"].values()) == pytest.approx(best["memory_total_bytes"])
    assert best["objective"] == best["time_s"]
    assert [row["rank"] for row in data["top"]] == [1, 2, 3]
    assert best["tie"] is False
    for row in data["top"][1:]:
        assert sum(row["lost_s"].values()) == pytest.approx(row["time_s"] - best["time_s"], abs=1e-9)
        assert row["why"]
    assert {row["precision"] for row in data["pareto"]} == {"bf16"}
    assert data["cluster"] == {
        "accelerator": "h100-sxm", "num_accelerators": 16, "asked": 16, "node": "hgx-h100", "fabric": "nvlink8-ib-rail",
    }  # fmt: skip
    assert (data["global_batch"], data["seq_len"], data["precision"]) == (128, 8192, "bf16")
    assert (data["objective"], data["framework"], data["nearest"]) == ("time", "megatron-2026", None)


def test_what_is_fixed_holds_for_every_layout(capsys):
    data = data_of(capsys, [*SIZED, "--fix", "tp=2,recompute=full,order=tp-cp-pp-dp"])
    assert data["fixed"] == {"tp": "2", "recompute": "full", "order": "tp-cp-pp-dp"}
    for row in data["top"]:
        assert (row["layout"]["tp"], row["layout"]["recompute"]) == (2, "full")


def test_the_printed_layout_goes_into_step(capsys):
    text = said(capsys, SIZED).out
    words = re.search(r"--layout\s+(\S+)", text)[1]
    best = data_of(capsys, SIZED)["best"]
    step = ["step", "llama3.1-8b", "--on", "16xh100-sxm", "--global-batch", "128", "--seq-len", "8k", "--layout", words]
    assert data_of(capsys, step)["layout"] == best["layout"]


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_closer_look_is_one_line_that_can_be_pasted(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    asked = [
        "search",
        "llama3.1-8b",
        "--on",
        "16xh100-sxm/spectrum-x-3tier",
        "--global-batch",
        "128",
        "--seq-len",
        "8k",
    ]
    line = next(line for line in said(capsys, [*asked, "--thin"]).out.splitlines() if line.startswith("makespan step"))
    words = shlex.split(line)[1:]
    again, best = data_of(capsys, words), data_of(capsys, [*asked, "--thin"])["best"]
    assert again["layout"] == best["layout"]
    assert again["time_s"] == pytest.approx(best["time_s"])


def test_a_batch_in_tokens_says_how_it_was_rounded(capsys):
    asked = [*ASK, "--seq-len", "8k", "--global-batch"]
    rule = "global batch: 1,000,000 tokens asked, rounded to 122 sequences of 8,192: 999,424 tokens"
    assert data_of(capsys, [*asked, "1M tokens"])["rules"][0] == rule
    assert not any(rule.startswith("global batch") for rule in data_of(capsys, [*asked, "1048576 tokens"])["rules"])


def test_left_out_batch_and_length_follow_rules_that_are_printed(capsys):
    data = data_of(capsys, ASK)
    assert data["seq_len"] == 8192
    assert data["global_batch"] > 0
    starts = [rule.split(":")[0] for rule in data["rules"]]
    assert starts == ["sequence length", "budget", "global batch", "framework", "cluster"]
    assert f"{data['global_batch']:,} sequences" in data["rules"][2]
    given = data_of(capsys, [*SIZED, "--framework", "megatron-2026"])
    assert [rule.split(":")[0] for rule in given["rules"]] == ["cluster"]
    assert "rule: global batch" in said(capsys, ASK).out


def test_a_budget_gives_the_days_of_the_run(capsys):
    data = data_of(capsys, [*SIZED, "--tokens", "1T"])
    steps = 1e12 / (128 * 8192)
    assert data["budget"]["num_steps"] == pytest.approx(steps)
    assert data["budget"]["train_s"] == pytest.approx(steps * data["best"]["time_s"])
    assert "1T tokens are 953,674 steps" in said(capsys, [*SIZED, "--tokens", "1T"]).out


def test_a_power_limit_leaves_fewer_accelerators(capsys):
    each_w = CLUSTER.node.provisioned_peak_per_accelerator_w
    data = data_of(capsys, [*SIZED, "--power-limit", f"{each_w * 8.5 / 1e3:.6f} kW"])
    assert (data["cluster"]["asked"], data["cluster"]["num_accelerators"]) == (16, 8)
    assert data["best"]["num_accelerators"] <= 8
    assert "feeds 8 of the 16" in data["warnings"][0]
    assert data_of(capsys, [*SIZED, "--power-limit", "1 MW"])["warnings"] == []


def test_an_open_precision_tries_all_and_warns(capsys):
    data = data_of(capsys, [*SIZED, "--precision", "open", "--top", "4"])
    alone = [data_of(capsys, [*SIZED, "--precision", name]) for name in ("bf16", "fp8")]
    assert data["precision"] == "open"
    assert data["layouts"] == sum(part["layouts"] for part in alone)
    assert data["best"]["time_s"] == min(part["best"]["time_s"] for part in alone)
    assert data["best"]["precision"] == "fp8"
    assert [row["time_s"] for row in data["top"]] == sorted(row["time_s"] for row in data["top"])
    assert any("changes what is learnt" in line for line in data["warnings"])
    assert any("fp16 was not tried" in rule for rule in data["rules"])
    assert "warning: precision changes" in said(capsys, [*SIZED, "--precision", "open"]).out


def test_more_memory_kept_free_is_kept_free(capsys):
    best = data_of(capsys, [*SIZED, "--memory-headroom", "50%"])["best"]
    assert best["memory_limit_bytes"] == pytest.approx(CLUSTER.accelerator.hbm_bytes / 2)
    assert best["memory_total_bytes"] <= best["memory_limit_bytes"]


def test_worth_is_added_on_request(capsys):
    assert "worth" not in data_of(capsys, SIZED)
    assert {row["name"] for row in data_of(capsys, [*SIZED, "--worth"])["worth"]} >= {"HBM capacity", "FLOP/s"}


# Sizes and ramps

CURVE = [*SIZED, "--scale", "8..64", "--tokens", "1T"]


def test_a_curve_is_data_and_a_drawing(capsys):
    data = data_of(capsys, [*CURVE, "--plot", "curve.svg", "--batch-law", "none", "--fix", "tp=2"])
    assert [point["num_accelerators"] for point in data["points"]] == [8, 16, 32, 64]
    assert (data["tokens"], data["batch_law"], data["fixed"]) == (1e12, None, {"tp": "2"})
    assert all(point["layout"]["tp"] == 2 for point in data["points"])
    days = [point["train_s"]["p50"] for point in data["points"]]
    assert days == sorted(days, reverse=True)
    assert Path("curve.svg").read_text().startswith("<svg")
    assert [path.name for path in Path().iterdir()] == ["curve.svg"]


def test_a_curve_prints_a_line_a_size_and_its_rules(capsys):
    text = said(capsys, CURVE).out
    assert "critical batch: the law" in text
    assert "rule: curve: every size takes its layout from the thin space" in text
    assert all(re.search(rf"^ *{size} ", text, re.MULTILINE) for size in (8, 16, 32, 64))


def test_a_curve_on_which_nothing_fits_is_exit_3(capsys):
    arguments = ["search", "llama3.1-405b", "--on", "8xh100-sxm", "--scale", "4..16", "--tokens", "1T"]
    assert "nothing fits" in said(capsys, arguments, 3).out


def test_a_ramp_gives_the_time_through_its_batches(capsys):
    data = data_of(capsys, [*SIZED, "--ramp", "1M@0,2M@400B", "--tokens", "1T"])
    stages = data["training"]["stages"]
    assert stages[0]["tokens"] == 4e11
    assert sum(stage["train_s"] for stage in stages) == pytest.approx(data["training"]["train_s"]["p50"])
    assert "through the ramp" in said(capsys, [*SIZED, "--ramp", "1M@0,2M@400B"]).out


# Nothing fits


def test_the_constraint_that_emptied_the_search_is_named(capsys):
    arguments = [*SIZED, "--memory-headroom", "92%", "--fix", "tp=1"]
    text = said(capsys, arguments, 3).err
    assert "no layout of llama3.1-8b on 16 h100-sxm" in text
    assert "without --memory-headroom 92% something fits" in text
    data = data_of(capsys, arguments, 3)
    assert (data["best"], data["top"], data["feasible"]) == (None, [], 0)
    assert ["memory_headroom"] in [release["without"] for release in data["emptied_by"]["releases"]]


def test_where_nothing_could_fit_more_accelerators_are_named(capsys):
    arguments = ["search", "llama3.1-405b", "--on", "8xh100-sxm", "--global-batch", "8", "--seq-len", "8k", "--thin"]
    text = said(capsys, arguments, 3).err
    assert "nothing fits on 8 h100-sxm without --min-used 90% and --memory-headroom 5% either" in text
    assert re.search(r"more accelerators; with (16|32|64) something fits", text)


def test_pairs_and_long_lists_of_constraints_are_told_briefly():
    one = estimate()
    names = [("tp", "pp"), ("tp", "dp"), ("pp", "dp"), ("tp", "cp"), ("cp", "dp"), ("cp", "pp")]
    releases = tuple(
        Release(names=pair, best=replace(one, time_s=float(place))) for place, pair in enumerate(names, start=1)
    )
    answer = replace(
        answer_of([], fixed={"tp": "8", "pp": "2", "dp": "4", "cp": "1"}), emptied=Emptied(releases=releases)
    )
    text = why_nothing_fits(answer)
    assert "without tp=8 and pp=2 something fits: tp2 pp1 dp8" in text
    assert "so it does without cp and dp, or cp and pp" in text
    answer = replace(answer, emptied=Emptied(nearest=(Layout(), 2.5 * 2**30), most_tried=2048))
    assert "lacks 2.5 GiB" in why_nothing_fits(answer)
    assert "would not help: up to 2,048 were tried" in why_nothing_fits(answer)
    assert search_data(answer)["emptied_by"]["nearest"]["missing_bytes"] == 2.5 * 2**30


# CSV and data frame


def test_csv_has_words_units_and_the_best_first(capsys):
    said(capsys, [*SIZED, "--csv", "layouts.csv", "--precision", "open"])
    rows = list(csv.DictReader(Path("layouts.csv").read_text().splitlines()))
    assert list(rows[0])[:2] == ["precision", "tp"]
    assert {"time_s", "memory_bytes", "num_accelerators"} < set(rows[0])
    assert {row["precision"] for row in rows} == {"bf16", "fp8"}
    assert {row["schedule"] for row in rows} <= {"1f1b", "gpipe", "zero_bubble", "dualpipe"}
    assert {row["sharding"] for row in rows} <= {"none", "zero1", "zero2", "zero3"}
    times = [float(row["time_s"]) for row in rows if row["precision"] == "bf16"]
    assert times == sorted(times)
    assert times[0] == pytest.approx(data_of(capsys, SIZED)["best"]["time_s"])
    assert [path.name for path in Path().iterdir()] == ["layouts.csv"]


def test_csv_alone_on_standard_output(capsys):
    captured = said(capsys, [*SIZED, "--csv", "-"])
    rows = list(csv.reader(captured.out.splitlines()))
    assert rows[0][0] == "precision"
    assert len({len(row) for row in rows}) == 1
    assert captured.err == ""


@pytest.mark.parametrize("place", [".", "none/x.csv", ""])
def test_csv_places_that_cannot_be_are_refused_before_the_search(capsys, monkeypatch, place):
    monkeypatch.setattr("makespan.search.search", lambda *_, **__: pytest.fail("searched first"))
    assert "MS001 --csv" in said(capsys, [*SIZED, "--csv", place], 2).err
    assert list(Path().iterdir()) == []


def test_columns_and_frame_are_the_same_as_the_result():
    result = makespan.search_layouts(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints(thorough=False))
    columns = search_columns(result)
    assert len({len(values) for values in columns.values()}) == 1
    first = result.best.layout
    assert (columns["tp"][0], columns["sharding"][0]) == (first.tp, first.sharding.name.lower())
    assert columns["time_s"][0] == pytest.approx(result.best.time_s)
    assert columns["memory_bytes"][0] == pytest.approx(result.best.memory.total_bytes)
    pandas = pytest.importorskip("pandas")
    frame = makespan.search_frame(result)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(columns)
    assert frame["time_s"].tolist() == columns["time_s"]
    assert makespan.search_frame(replace(result, columns={})).shape[0] == len(result.top)


def test_without_pandas_the_frame_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        makespan.search_frame(SearchResult(best=None, top=(), pareto=(), num_layouts=0, num_feasible=0))


def test_the_summary_of_a_result_is_short():
    result = makespan.search_layouts(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints(thorough=False), top=3)
    lines = makespan.search_summary(result).splitlines()
    assert len(lines) == 4
    assert str(result.best.layout) in lines[0]
    assert lines[-1].startswith(f"{result.num_layouts:,} layouts worked out")


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_long_search_shows_a_sign_of_life_on_a_terminal_only(monkeypatch):
    for stream, quiet, shown in ((Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.working("searching layouts", quiet=quiet, after_s=0.0):
            until = time.monotonic() + 5.0
            while shown and "searching layouts" not in stream.getvalue() and time.monotonic() < until:
                time.sleep(0.01)
        assert ("searching layouts" in stream.getvalue()) is shown


def test_what_is_quick_shows_nothing(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.working("searching layouts", after_s=60.0):
        pass
    assert stream.getvalue() == ""


# Wrong input

WRONG = {
    "no accelerators": (["--on", "0xh100-sxm"], "--on: found '0' accelerators; expected a whole number"),
    "fewer than none": (["--on", "-5xh100-sxm"], "--on: found '-5'"),
    "beyond reason": (["--on", "1e12xh100-sxm"], "from 1 to 10,000,000"),
    "unknown accelerator": (["--on", "8xh10"], "did you mean 'h100-sxm'?"),
    "unknown framework": (["--framework", "megatron2026"], "did you mean 'megatron-2026'"),
    "unknown objective": (["--objective", "tme"], "did you mean 'time'?"),
    "unknown precision": (["--precision", "fp7"], "did you mean 'fp8'?"),
    "precision of other chips": (["--precision", "nvfp4"], "choose from: bf16, fp16, fp8"),
    "no batch": (["--global-batch", "0"], "--global-batch: found '0' (not a whole number of sequences)"),
    "huge batch": (["--global-batch", "1" + "0" * 18], "at most 2 billion tokens"),
    "no tokens": (["--seq-len", "0"], "--seq-len: found '0'"),
    "less than a step": (["--tokens", "15"], "expected at least one step: 128 x 8,192 are 1,048,576 tokens"),
    "nothing and something": (["--fix", "offload=none+activations"], "either offload=none or what is to be joined"),
    "none and the whole layer": (["--fix", "recompute=full+none"], 'write "recompute=none" or "recompute=full"'),
    "nothing fixed": (["--fix", ","], "--fix: found ','; expected key=value pairs"),
    "no layouts": (["--top", "0"], "'--top': 0 is not in the range"),
    "all memory free": (["--memory-headroom", "120%"], "--memory-headroom: found '120%'"),
    "power without a unit": (["--power-limit", "100"], "a power with its unit"),
    "power for less than one": (["--power-limit", "1 kW"], "--power-limit: found '1 kW'; expected at least 1.40 kW"),
    "no budget": (["--tokens", "0"], "--tokens: found '0'"),
    "batch above the most": (["--max-batch", "64"], "--max-batch: found '64'"),
    "a drawing of nothing": (["--plot", "x.svg"], "add --scale"),
    "a drawing of another kind": (["--scale", "8..16", "--plot", "x.png"], "ends in .svg"),
    "a drawing nowhere": (["--scale", "8..16", "--plot", "none/x.svg"], "make it first"),
    "sizes backwards": (["--scale", "64..8"], "--scale: found '64..8'"),
    "worth of a curve": (["--scale", "8..16", "--worth"], "ask twice"),
    "a law without batches": (["--batch-law", "none"], "--scale or --ramp beside it"),
    "an unknown law": (["--scale", "8..16", "--batch-law", "bergsma"], "did you mean 'bergsma-2025'"),
    "an open precision of a curve": (["--scale", "8..16", "--precision", "open"], "one precision"),
    "a ramp that starts late": (["--ramp", "1M@1T"], "--ramp: found '1M@1T'"),
    "CSV and JSON at once": (["--csv", "-", "--json"], "one of them on standard output"),
    "no key": (["--fix", "8"], "--fix: found '8'; expected key=value"),
    "unknown dimension": (["--fix", "shedule=gpipe"], "did you mean 'schedule'?"),
    "too wide": (["--fix", "tp=16"], "--fix: found tp=16; expected tp inside the scale-up domain"),
    "more than there are": (["--fix", "tp=8,pp=8"], "at most the 16 accelerators"),
    "experts of a dense model": (["--fix", "ep=8"], "llama3.1-8b has no experts"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_exit_2_and_says_what_to_write(capsys, arguments, says):
    captured = said(capsys, [*SIZED, *arguments], 2)
    assert says in captured.err
    assert captured.out == ""
    assert "internal error" not in captured.err
