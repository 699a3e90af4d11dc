"""`makespan step --trace`: the file on disk, against the estimate it was written for."""

from __future__ import annotations

import json

import pytest

from makespan.cli.main import run as makespan

ARGUMENTS = ["step", "llama3.1-70b", "--on", "64xh100-sxm", "--global-batch", "128", "--seq-len", "8192"]


def test_the_trace_holds_every_pass_of_every_rank_and_lasts_as_long_as_the_step(tmp_path, capsys):
    target = tmp_path / "step.json"
    code = makespan([*ARGUMENTS, "--layout", "tp=4,pp=4,vpp=2,recompute=full", "--trace", str(target), "--json"])
    assert code == 0
    step = json.loads(capsys.readouterr().out)
    trace = json.loads(target.read_text())
    forward = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["name"].startswith("forward ")]
    micro_batches = 128 // step["layout"]["dp"]

    assert len(forward) == 4 * 2 * micro_batches
    assert {e["tid"] for e in forward} == {0, 1, 2, 3}
    assert trace["otherData"]["step_s"] == pytest.approx(step["time_s"], rel=0.03)
    assert {"tp", "optimizer"} <= {e.get("cat", "").split()[0] for e in trace["traceEvents"] if e["ph"] == "X"}


def test_a_layout_that_cannot_run_leaves_no_trace(tmp_path, capsys):
    target = tmp_path / "step.json"
    code = makespan([*ARGUMENTS, "--layout", "tp=3,pp=4", "--trace", str(target)])

    assert code == 2
    assert "--trace" in capsys.readouterr().err
    assert not target.exists()
