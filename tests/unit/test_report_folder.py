"""A run folder appears complete or not at all, and never in place of somebody else's files."""

import hashlib
import json
from dataclasses import replace

import pytest

from makespan.errors import ScenarioError
from makespan.report import folder as room
from makespan.report import result, write_run
from report_fixture import memphis_plan

PLAN = memphis_plan(20)
NAMES = {"scenario.yaml", "resolved.json", "result.json", "report.html", "manifest.json"}


def listing(path):
    return {entry.name for entry in path.iterdir()}


def test_a_run_folder_is_complete(tmp_path):
    place = tmp_path / "deep" / "run"
    assert write_run(PLAN, place) == place
    assert listing(place) == NAMES
    assert listing(place.parent) == {"run"}, "no temporary folder is left"
    assert (place / "scenario.yaml").read_text() == PLAN.scenario.text
    assert json.loads((place / "result.json").read_text()) == result(PLAN)
    assert (place / "report.html").read_text().startswith("<!doctype html>")
    resolved = json.loads((place / "resolved.json").read_text())
    assert resolved["as_of"] == "2024-07-10"
    assert resolved["options"][2]["pools"][0]["num_accelerators"] == 100_000
    assert "facts" not in resolved


def test_the_manifest_says_what_was_run_and_hashes_it(tmp_path):
    write_run(PLAN, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["num_replicates"] == 20
    assert manifest["makespan_version"] == PLAN.version
    assert set(manifest["timings_s"]) == {"supply", "search", "report"}
    for name, digest in (
        manifest["outputs_sha256"] | {"scenario.yaml": manifest["inputs_sha256"]["scenario.yaml"]}
    ).items():
        assert hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() == digest
    assert len(manifest["facts_used"]) == len(PLAN.facts)


def test_the_clock_shows_in_the_manifest_alone(tmp_path):
    write_run(PLAN, tmp_path / "a")
    write_run(replace(memphis_plan(20), timings_s={"supply": 77.0}), tmp_path / "b")
    for name in NAMES - {"manifest.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_an_earlier_run_is_replaced_whole(tmp_path):
    place = tmp_path / "run"
    write_run(PLAN, place)
    write_run(memphis_plan(21), place)
    assert json.loads((place / "result.json").read_text())["scenario"]["num_replicates"] == 21
    assert listing(tmp_path) == {"run"}


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(PLAN, tmp_path / "run")
    assert listing(tmp_path / "run") == NAMES


@pytest.mark.parametrize(
    "kind", ["foreign file", "run with a foreign file", "same names, not ours", "a file", "a link"]
)
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path, kind):
    place = tmp_path / "run"
    if kind == "foreign file":
        place.mkdir()
        (place / "thesis.tex").write_text("years of work")
    elif kind == "run with a foreign file":
        write_run(PLAN, place)
        (place / "notes.txt").write_text("mine")
    elif kind == "same names, not ours":
        place.mkdir()
        (place / "manifest.json").write_text("[]")
    elif kind == "a file":
        place.write_text("a file")
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    before = listing(place) if place.is_dir() else place.read_text()
    with pytest.raises(ScenarioError) as refusal:
        write_run(PLAN, place)
    assert (listing(place) if place.is_dir() else place.read_text()) == before
    problem = refusal.value.problems[0]
    assert problem.code == "MS901"
    assert problem.fix
    assert refusal.value.exit_code == 2


def test_nothing_appears_when_writing_fails_half_way(tmp_path, monkeypatch):
    place = tmp_path / "run"
    write_run(PLAN, place)
    before = (place / "result.json").read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "_replace", fails)
    with pytest.raises(ScenarioError, match="No space left"):
        write_run(memphis_plan(21), place)
    assert listing(tmp_path) == {"run"}
    assert (place / "result.json").read_bytes() == before


def test_the_old_run_comes_back_when_the_new_one_cannot_be_put_in_place(tmp_path, monkeypatch):
    place = tmp_path / "run"
    write_run(PLAN, place)
    rename, calls = room.os.rename, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(room.os, "rename", second_fails)
    with pytest.raises(ScenarioError):
        write_run(memphis_plan(21), place)
    assert json.loads((place / "result.json").read_text())["scenario"]["num_replicates"] == 20
    assert listing(tmp_path) == {"run"}


def test_a_list_of_numbers_stands_on_one_line_and_text_is_not_touched():
    data = {"curve": [1, 2.5, None, -3e-7], "text": "[\n1,\n2]", "empty": [], "rows": [{"a": [1]}]}
    text = room.to_json(data)
    assert json.loads(text) == data
    assert '"curve": [1, 2.5, null, -3e-07]' in text
