"""Configurations are weighted once, groups and ratios between scales are what they say, files of many kinds are read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from click.testing import CliRunner

from makespan.cli.main import cli
from makespan.validation import OK, RowResult, page, validate
from makespan.validation.engine import compare_row, standing_of
from makespan.validation.files import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, read_models, read_rows
from makespan.validation.result import COUNTED, INCOMPLETE, LORA, NO_TIME, OTHER_MAKER
from makespan.validation.statistics import MEDIAN, expressible_share, scaling_of, spread_of, summaries_of

MODELS = read_models(None)
ROW = {
    "id": "a",
    "source": "Somebody, table 1",
    "date": "2025-11-01",
    "framework": "Megatron-Bridge 25.11",
    "model": "llama3_70b",
    "gpu": "h100-sxm",
    "n_gpus": "64",
    "tp": "4",
    "pp": "4",
    "vpp": "5",
    "cp": "1",
    "dp": "4",
    "sharding": "zero1",
    "micro_batch": "1",
    "global_batch": "128",
    "seq_len": "8192",
    "precision": "fp8-cs",
    "recompute": "none",
    "step_time_s": "10.0",
}


def result(**changes: object) -> RowResult:
    base = RowResult(
        id="x",
        status=OK,
        reason="",
        family="f",
        model="m",
        accelerator="a",
        num_accelerators=64,
        step_time_s=1.0,
        low_s=0.9,
        high_s=1.1,
        memory_gb=None,
        published_step_time_s=1.0,
        published_memory_gb=None,
        profile="p",
        layout="",
        provenance="",
        source="",
        split="development",
        configuration="c",
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_a_configuration_counts_once_at_the_median_of_its_rows():
    """Ten releases of one configuration with errors around +50 %, and one row of another with -2 %."""
    many = [result(published_step_time_s=1 / 1.5, step_time_s=1.0 + k / 100) for k in range(-5, 6)]
    other = result(configuration="d", published_step_time_s=1 / 0.98)
    whole = next(s for s in summaries_of([*many, other]) if (s.split, s.group) == ("all", "all"))

    assert (whole.num, whole.num_configurations) == (12, 2)
    assert whole.median_absolute == pytest.approx((0.5 + 0.02) / 2)
    assert whole.coverage == pytest.approx(0.5)  # none of the eleven, and the one


def test_only_rows_that_count_are_in_the_statistics_and_splits_stay_apart():
    rows = [
        result(),
        result(configuration="d", published_step_time_s=2.0, standing=LORA),
        result(configuration="e", published_step_time_s=0.8, split="validation"),
    ]
    summaries = {(s.split, s.group, s.name): s for s in summaries_of(rows)}

    assert summaries["all", "all", "all"].num == 2
    assert summaries["development", "all", "all"].median_absolute == 0.0
    assert summaries["validation", "all", "all"].median_absolute == pytest.approx(0.25)
    assert expressible_share([*rows, result(status="infeasible")]) == pytest.approx(2 / 3)


def test_groups_hold_the_rows_that_name_them():
    rows = [
        result(groups=(("precision", "fp8"), ("parallelism", "FSDP"), ("parallelism", "pipeline"))),
        result(configuration="d", groups=(("precision", "bf16"),)),
    ]
    names = {(s.group, s.name): s.num for s in summaries_of(rows) if s.split == "all"}

    assert names["precision", "fp8"] == names["parallelism", "FSDP"] == names["parallelism", "pipeline"] == 1
    assert names["precision", "bf16"] == 1


def test_spread_of_repeated_measurements_by_hand():
    rows = [
        result(published_step_time_s=1.0),
        result(published_step_time_s=1.1),
        result(published_step_time_s=1.02),
        result(configuration="d", published_step_time_s=5.0),
        result(configuration="e", published_step_time_s=2.0),
        result(configuration="e", published_step_time_s=2.0),
    ]
    spread = spread_of(rows)

    assert spread.num == 2
    assert spread.median == pytest.approx(0.05)


def test_ratio_between_scales_by_hand():
    """Measured 10 and 12 s, predicted 9 and 9.9 s: 1.1 over 1.2. Two measurements of the larger size: their median."""
    rows = [
        result(series="s", step_time_s=9.0, published_step_time_s=10.0),
        result(series="s", num_accelerators=128, step_time_s=9.9, published_step_time_s=11.5),
        result(series="s", num_accelerators=128, step_time_s=9.9, published_step_time_s=12.5),
        result(series="alone", num_accelerators=8),
    ]
    (point,) = scaling_of(rows)

    assert (point.smallest, point.num_accelerators) == (64, 128)
    assert point.error == pytest.approx(1.1 / 1.2 - 1)


def test_series_and_configuration_of_rows():
    def of(**changes: str) -> RowResult:
        return compare_row(ROW | changes, MODELS, frozenset())[0]

    small, large = of(), of(n_gpus="128", dp="8", global_batch="256")
    again = of(source="Somebody, table 2", date="2026-02-01", framework="Megatron-Bridge 26.02")

    assert small.series == large.series != ""
    assert small.configuration != large.configuration
    assert small.configuration == again.configuration
    assert small.series != again.series, "another release is another series"
    assert small.series != of(n_gpus="128", dp="8").series, "another batch for each accelerator"
    for changes in (
        {"recompute": "full"},
        {"precision": "fp8-mx", "gpu": "b200-sxm"},
        {"micro_batch": "2"},
        {"overlap_notes": "AsyncTP"},
        {"notes": "eager"},
    ):
        assert of(**changes).configuration != small.configuration
    assert dict(small.groups)["generation"] == "hopper"
    assert ("parallelism", "pipeline") in small.groups


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({}, COUNTED),
        ({"task": "LoRA"}, LORA),
        ({"gpu": "tpu-v5p"}, OTHER_MAKER),
        ({"gpu": "MI300X"}, OTHER_MAKER),
        ({"gpu": "gaudi2"}, OTHER_MAKER),
        ({"gpu": "NVIDIA H100 80GB HBM3"}, COUNTED),
        ({"micro_batch": ""}, INCOMPLETE),
        ({"precision": ""}, INCOMPLETE),
        ({"n_gpus": "many"}, INCOMPLETE),
        ({"model": "deepseek_v4_flash"}, INCOMPLETE),
        ({"step_time_s": ""}, NO_TIME),
        ({"step_time_s": "", "tokens_per_s_per_gpu": "1000"}, COUNTED),
    ],
)
def test_which_rows_count(changes, standing):
    assert standing_of(ROW | changes, MODELS) == standing


def test_junk_in_a_measured_cell_does_not_cost_the_prediction():
    junk, _ = compare_row(ROW | {"step_time_s": "fast", "mem_gb_reported": "lots"}, MODELS, frozenset())

    assert junk.status == OK
    assert junk.published_step_time_s is None
    assert "found 'fast'" in junk.reason


def test_a_run_that_a_rule_would_refuse_is_mended_and_said():
    refused = {
        "schedule": ({"overlap_notes": "DualPipe", "pp": "1", "dp": "16", "vpp": "1"}, "1F1B taken"),
        "chunks": ({"vpp": "25", "global_batch": "512"}, "chunks are too many"),
        "profile": (
            {"framework": "llm-foundry/Composer FSDP", "sharding": "zero2", "vpp": "1"},
            "predicted all the same",
        ),
    }
    for changes, said in refused.values():
        answer, _ = compare_row(ROW | changes, MODELS, frozenset())
        assert answer.status == OK
        assert said in answer.reason


def table(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_as_spreadsheets_save_them(tmp_path, delimiter):
    path = tmp_path / "rows.csv"
    odd = {("ID" if name == "id" else name.upper()): value for name, value in ROW.items()} | {"operator": "x; y"}
    path.write_bytes(b"\xef\xbb\xbf" + table([odd], delimiter).encode())
    (row,) = read_rows(path)

    assert row["id"] == "a"
    assert row["n_gpus"] == "64"


def test_command_answers_every_row_of_a_foreign_file(tmp_path):
    """Rows of models that only the second file knows, duplicate ids, blanks, junk: one answer each, in order."""
    rows = tmp_path / "rows.csv"
    models = tmp_path / "models.yaml"
    models.write_text(
        "models:\n  mine: {layers: 16, hidden: 2048, heads: 16, kv_heads: 8, ffn_hidden: 8192, vocab: 32000, gated: true}\n"
    )
    changes = [
        {"model": "mine"},
        {},
        {"id": "b", "model": "nobody"},
        {"id": "c", "tp": "", "pp": "", "dp": "", "vpp": ""},
    ]
    changes += [{"id": "d", "n_gpus": "-1"}, {"id": "", "gpu": "abacus"}]
    rows.write_text(table([ROW | {"operator": "?"} | change for change in changes]))
    written = tmp_path / "page.md"
    answer = CliRunner().invoke(
        cli, ["validate", "--rows", str(rows), "--models", str(models), "--json", "--write", str(written)]
    )
    data = json.loads(answer.stdout)

    assert answer.exit_code == 0
    assert [r["id"] for r in data["rows"]] == ["a", "a", "b", "c", "d", "row 6"]
    assert [r["status"] for r in data["rows"]] == [
        "ok",
        "ok",
        "not expressible",
        "ok",
        "not expressible",
        "not expressible",
    ]
    assert all("2 rows have this id" in r["reason"] for r in data["rows"][:2])
    assert all(r["reason"] for r in data["rows"][2:])
    assert "| measure |" in written.read_text()


def test_write_without_a_name_means_the_page_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "rows.csv").write_text(table([ROW]))
    answer = CliRunner().invoke(cli, ["validate", "--rows", "rows.csv", "--write"])

    assert answer.exit_code == 0
    assert (tmp_path / "docs" / "validation.md").read_text().startswith("# How accurate")


def test_a_file_without_any_measured_time_has_predictions_and_a_page(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(table([ROW | {"step_time_s": ""}]))
    answer = validate(path)

    assert answer.rows[0].status == OK
    assert answer.summaries == ()
    assert "No counting row" in page(answer)


def test_targets_say_what_was_reached():
    assert [MEDIAN.verdict(value) for value in (0.02, 0.04, 0.06, None)] == ["aim", "must", "missed", ""]


def test_columns_of_the_schema_are_documented():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs" / "explain" / "validation.md").read_text()
    assert [name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name not in text] == []
