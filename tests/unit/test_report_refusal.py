"""Why a layout cannot run: every rule names its own numbers and a remedy."""

from __future__ import annotations

import json

import pytest

from makespan import catalog
from makespan.cli.main import run
from makespan.errors import ScenarioError
from makespan.provenance import Kind
from makespan.report import step_table, step_trace, why_not
from makespan.scenario import parse_cluster, parse_framework, parse_layout
from makespan.specs.layout import LayoutStatus
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

BROKEN = {
    "tp=3": (LayoutStatus.HEADS_DO_NOT_DIVIDE, "tp 3 does not divide"),
    "tp=8,cp=16,cp_kind=all_to_all": (LayoutStatus.HEADS_DO_NOT_DIVIDE, "tp 8 * cp 16"),
    "tp=8,ep=8": (LayoutStatus.EXPERTS_DO_NOT_DIVIDE, "has no experts"),
    "pp=16,vpp=8": (LayoutStatus.TOO_MANY_STAGES, "80 layers"),
    "vpp=2": (LayoutStatus.VPP_NEEDS_PIPELINE, "needs a pipeline"),
    "pp=8,vpp=2,dp=64": (LayoutStatus.VPP_NEEDS_PIPELINE, "at least pp 8 micro-batches, and there are 1"),
    "dp=512": (LayoutStatus.BATCH_TOO_SMALL, "dp 512 * micro_batch 1 exceeds the batch of 64"),
    "tp=8,cp=3,dp=1": (LayoutStatus.SEQUENCE_DOES_NOT_DIVIDE, "2 * cp = 6"),
    "pp=3,dp=1,schedule=dualpipe": (LayoutStatus.SCHEDULE_DOES_NOT_FIT, "even pp"),
    "pp=2,dp=1,vpp=2,schedule=gpipe": (LayoutStatus.SCHEDULE_DOES_NOT_FIT, "gpipe takes one chunk"),
    "dp=8,sharding=zero3,shard_size=5": (LayoutStatus.SHARDS_DO_NOT_DIVIDE, "shard_size 5 does not divide"),
    "dp=8,shard_size=4": (LayoutStatus.SHARDS_DO_NOT_DIVIDE, "needs sharding=zero3"),
    "pp=2,dp=8,sharding=zero2": (LayoutStatus.NOT_SUPPORTED, "megatron-2026 is not known to do: zero2 pipeline"),
}
MODEL = catalog.model("llama3.1-70b").spec
CONFIG = StepConfig(global_batch=64, seq_len=8192, precision="bf16")
CLUSTER = parse_cluster("512xh100-sxm")
PROFILE = parse_framework("megatron-2026")


@pytest.mark.parametrize("text", BROKEN)
def test_a_refusal_names_the_numbers_and_a_remedy(text):
    status, said = BROKEN[text]
    layout = parse_layout(text, num_accelerators=512)
    estimate = step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, layout)
    reason = why_not(MODEL, CONFIG, CLUSTER, PROFILE, layout, estimate.status)

    assert estimate.status is status
    assert said in reason
    assert "; " in reason  # what is wrong; the remedy
    assert step_table(MODEL, CONFIG, CLUSTER, PROFILE, estimate)


def test_a_layout_that_runs_has_no_reason():
    layout = parse_layout("tp=8,pp=4,dp=16", num_accelerators=512)

    assert why_not(MODEL, CONFIG, CLUSTER, PROFILE, layout, LayoutStatus.OK) == ""


def test_the_command_says_why_and_on_what_its_kernels_stand(capsys):
    words = ["step", "llama3.1-8b", "--global-batch", "64", "--seq-len", "8192", "--json", "--layout"]
    codes, answers = [], []
    for cluster, layout in (("8xh100-sxm", "dp=8,recompute=full"), ("8xmi300x", "dp=8"), ("72xh100-sxm", "dp=72")):
        codes.append(run([*words, layout, "--on", cluster]))
        answers.append(json.loads(capsys.readouterr().out))

    assert codes == [0, 0, 3]
    assert [answer["provenance"] for answer in answers[:2]] == ["measured", "assumed"]
    assert answers[0]["reason"] is None
    assert "exceeds the batch of 64" in answers[2]["reason"]


def test_what_kernels_stand_on():
    assert catalog.kernel_kind("h100-sxm", "fp8") is Kind.MEASURED
    assert catalog.kernel_kind("h800-sxm", "fp8") is Kind.ASSUMED


def test_a_trace_too_long_to_show_is_refused_before_it_is_played_out(tmp_path):
    config = StepConfig(global_batch=100_000_000, seq_len=1, precision="bf16")
    layout = parse_layout("tp=8,pp=16,dp=1", num_accelerators=512)
    estimate = step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, layout)

    with pytest.raises(ScenarioError, match=r"MS902.*4,800,000,000 events"):
        step_trace(tmp_path / "step.json", MODEL, config, CLUSTER, PROFILE, estimate)
