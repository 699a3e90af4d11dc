"""The commands as a user types them: answers, exit codes, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from makespan.cli.main import COMMANDS, run
from makespan.report import result_schema

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
STEP = ["--on", "512xh100-sxm", "--global-batch", "512", "--seq-len", "8192"]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def out_of(capsys, arguments, expected=0):
    code = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert code == expected, captured.err
    return captured.out if expected == 0 else captured.err


def test_help_names_every_command(capsys):
    text = out_of(capsys, ["--help"])
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    assert "Usage: makespan" in out_of(capsys, [name, "--help"])


def test_a_misspelt_command_gets_a_suggestion(capsys):
    assert "'plan'" in out_of(capsys, ["paln"], expected=2)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_no_problems(capsys, path):
    assert "no problems" in out_of(capsys, ["check", path])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_plan_into_a_complete_run_folder(capsys, path):
    printed = json.loads(out_of(capsys, ["plan", path, "--replicates", "40", "-o", "out", "--json"]))
    assert {p.name for p in Path("out").iterdir()} == {
        "scenario.yaml",
        "resolved.json",
        "result.json",
        "report.html",
        "manifest.json",
    }
    stored = json.loads(Path("out/result.json").read_text())
    assert printed == stored
    jsonschema.validate(stored, result_schema())
    assert [p.name for p in Path().iterdir()] == ["out"]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(capsys):
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out_of(
            capsys,
            ["plan", ROOT / "examples/quickstart.yaml", "--replicates", "30", "--seed", seed, "-o", folder, "--json"],
        )
    a, b, c = (Path(folder, "result.json").read_bytes() for folder in "abc")
    assert a == b
    assert a != c


def test_a_deadline_gives_odds_and_changes_that_help(capsys):
    arguments = ["plan", ROOT / "examples/quickstart.yaml", "--by", "2027-03-01", "--replicates", "200", "-o", "out"]
    text = out_of(capsys, arguments)
    assert "Odds" in text
    data = json.loads(Path("out/result.json").read_text())
    odds = data["options"][0]["probability_by_deadline"]
    assert 0.2 < odds < 0.95
    assert 1 <= len(data["changes"]) <= 3
    costs = [change["extra_cost_usd"] for change in data["changes"]]
    assert costs == sorted(costs)
    assert all(change["gained_probability"] >= 0.01 for change in data["changes"])


def test_a_plan_that_never_fits_is_an_answer_with_reasons(capsys):
    Path("tiny.yaml").write_text(
        "makespan: 1\nas_of: 2026-11-01\nmodel: llama3.1-405b\ntokens: 1T\n"
        "cluster: {accelerator: h100-sxm, count: 8, from: 2026-12-01}\n"
    )
    code = run(["plan", "tiny.yaml", "--replicates", "20", "-o", "out"])
    captured = capsys.readouterr()
    assert code == 3
    assert "never" in captured.out
    data = json.loads(Path("out/result.json").read_text())
    option = data["options"][0]
    assert option["completion"]["release"]["p50"] is None
    assert option["completion"]["release"]["probability_complete"] == 0
    assert any("lacks" in reason for reason in option["reasons"])


WRONG = {
    "no such file": (["plan", "missing.yaml"], "missing.yaml"),
    "a folder": (["check", "."], "folder"),
    "wrong deadline": (["plan", ROOT / "examples/quickstart.yaml", "--by", "soon"], "2027-03-01"),
    "deadline before the start": (["plan", ROOT / "examples/quickstart.yaml", "--by", "2020-01-01"], "as_of"),
    "no replicates": (["plan", ROOT / "examples/quickstart.yaml", "--replicates", "0"], "replicates"),
    "unknown accelerator": (
        ["step", "llama3.1-70b", "--on", "8xh10", "--global-batch", "8", "--seq-len", "128"],
        "h100-sxm",
    ),
    "unknown model": (["step", "llama4.1-70b", *STEP], "llama3.1-70b"),
    "unknown fact": (["catalog", "show", "h100"], "h100-sxm"),
    "batch without sense": (
        ["step", "llama3.1-70b", "--on", "8xh100-sxm", "--global-batch", "-3", "--seq-len", "128"],
        "batch",
    ),
    "batch of sixteen million sequences": (
        ["step", "llama3.1-70b", "--on", "8xh100-sxm", "--global-batch", "16M", "--seq-len", "8192"],
        "16M tokens",
    ),
    "layout without sense": (["step", "llama3.1-70b", *STEP, "--layout", "tp=eight"], "tp"),
    "precision the chip lacks": (["step", "llama3.1-70b", *STEP, "--precision", "nvfp4"], "precision"),
    "unknown framework": (["step", "llama3.1-70b", *STEP, "--framework", "megatron-2023"], "megatron"),
    "a deadline beyond the horizon": (["plan", ROOT / "examples/quickstart.yaml", "--by", "2050-01-01"], "horizon"),
    "a cluster beyond reason": (
        ["step", "llama3.1-70b", "--on", "1000000000xh100-sxm", "--global-batch", "8", "--seq-len", "128"],
        "10,000,000",
    ),
    "a device for a model": (["step", "/dev/zero", *STEP], "no regular file"),
    "init where nothing can be": (["init", "/proc/nothing.yaml"], "another place"),
    "init over a file": (["init", ROOT / "examples/quickstart.yaml"], "--force"),
}


@pytest.mark.parametrize(("arguments", "hint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_exit_2_with_a_remedy_and_leaves_nothing(capsys, arguments, hint):
    text = out_of(capsys, arguments, expected=2)
    assert hint in text
    assert "Traceback" not in text
    assert "internal error" not in text
    assert list(Path().iterdir()) == []


def test_a_place_that_cannot_be_is_refused_before_anything_is_computed(capsys, monkeypatch):
    import makespan.study

    monkeypatch.setattr(makespan.study, "plan", lambda *_, **__: pytest.fail("computed first"))
    Path("file").write_text("mine")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    for place, says in (("file", "a file"), ("file/sub", "no folder"), ("mine", "notes.txt"), (".", "file, mine")):
        text = out_of(capsys, ["plan", ROOT / "examples/quickstart.yaml", "-o", place], expected=2)
        assert says in text
        assert "MS901" in text
    assert Path("file").read_text() == "mine"
    assert Path("mine/notes.txt").read_text() == "mine"


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    from makespan.cli.options import write_text
    from makespan.errors import ScenarioError

    for place in (tmp_path, tmp_path / "none" / "page.md", tmp_path / ("x" * 300)):
        with pytest.raises(ScenarioError, match="MS001"):
            write_text(place, "text", "--write")
    assert list(tmp_path.iterdir()) == []
    write_text(tmp_path / "page.md", "text", "--write")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"]


def test_an_internal_error_is_70_and_asks_for_a_report(capsys, monkeypatch):
    import makespan.scenario

    def broken(_):
        raise RuntimeError("boom")

    monkeypatch.setattr(makespan.scenario, "check", broken)
    text = out_of(capsys, ["check", "x.yaml"], expected=70)
    assert "report it" in text
    assert "Traceback" not in text


def test_init_writes_a_scenario_that_plans(capsys):
    out_of(capsys, ["init", "mine.yaml"])
    assert "no problems" in out_of(capsys, ["check", "mine.yaml"])
    out_of(capsys, ["plan", "mine.yaml", "--replicates", "20", "-o", "out"])


def test_schemas_are_json_schemas(capsys):
    for arguments in (["schema"], ["schema", "--result"]):
        jsonschema.Draft202012Validator.check_schema(json.loads(out_of(capsys, arguments)))


def test_step_prints_time_memory_and_utilisation(capsys):
    data = json.loads(out_of(capsys, ["step", "llama3.1-70b", *STEP, "--layout", "tp=4,pp=4", "--json"]))
    assert data["layout"]["dp"] == 32
    assert sum(data["breakdown_s"].values()) == pytest.approx(data["time_s"], rel=1e-9)
    assert data["bounds_s"][0] <= data["time_s"] <= data["bounds_s"][1]
    text = out_of(capsys, ["step", "llama3.1-70b", *STEP, "--layout", "tp=4,pp=4"])
    assert "MFU" in text


def test_search_is_at_least_as_fast_as_any_named_layout(capsys):
    best = json.loads(out_of(capsys, ["search", "llama3.1-70b", *STEP, "--json"]))["best"]
    named = json.loads(out_of(capsys, ["step", "llama3.1-70b", *STEP, "--layout", "tp=4,pp=4", "--json"]))
    assert best["time_s"] <= named["time_s"]


def test_search_where_nothing_fits_is_exit_3_with_the_nearest(capsys):
    arguments = ["search", "llama3.1-405b", "--on", "8xh100-sxm", "--global-batch", "8", "--seq-len", "8192"]
    assert "lacks" in out_of(capsys, arguments, expected=3)


def test_fixed_sizes_that_contradict_the_cluster_are_refused(capsys):
    size = ["--global-batch", "8", "--seq-len", "8192", "--fix", "tp=8,pp=16"]
    text = out_of(capsys, ["search", "llama3.1-8b", "--on", "8xh100-sxm", *size], expected=2)
    assert "found tp=8,pp=16; expected at most the 8 accelerators" in text


def test_catalog_lists_and_shows_facts_with_sources(capsys):
    names = json.loads(out_of(capsys, ["catalog", "list", "--json"]))
    assert "h100-sxm" in names["accelerator"]
    (entry,) = json.loads(out_of(capsys, ["catalog", "show", "h100-sxm", "--json"]))
    assert all(fact["source"] or fact["why"] for fact in entry["facts"])
    assert "NVIDIA" in out_of(capsys, ["catalog", "show", "h100-sxm"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", ["--help", "schema", "catalog list", "catalog show h100-sxm"])
def test_output_that_cannot_be_written_is_said(arguments):
    command = f"{sys.executable} -m makespan {arguments} > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "the output cannot be written: No space left on device\n")


def test_a_closed_output_is_no_error():
    command = f"{sys.executable} -m makespan check {ROOT / 'examples/quickstart.yaml'} >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupted_plan_leaves_nothing():
    command = [sys.executable, "-m", "makespan", "plan", ROOT / "examples/memphis-2024.yaml", "--replicates", "100000"]
    running = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert (running.returncode, said.strip()) == (130, "interrupted; nothing was written")
    assert list(Path().iterdir()) == []


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m makespan schema | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.stderr == ""
