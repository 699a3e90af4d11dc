"""Llama 3 405B on 8,192 and 16,384 H100: arXiv:2407.21783, table 4 (bf16, 16M tokens a step).

The third printed row (131,072 tokens, cp 16) is left out: the paper does not say which half of attention its FLOP count.
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

import pytest

from makespan import catalog
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import Layout, Recompute
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

ROWS = list(csv.DictReader((Path(__file__).parent / "table4.csv").read_text(encoding="utf-8").splitlines()))
AS_OF = dt.date(2024, 7, 10)

LEDGER = {("8192", 4): 0.03, ("16384", 4): 0.065}
"""Largest accepted |predicted / printed MFU - 1|, November 2026, with four chunks a stage: the paper does not print the
interleaving, and two layers a chunk is what balances 126 layers, embedding and head on 16 stages. The larger run was 2 % off until software of
2024 exposed more of its tensor-parallel traffic, as plain Megatron-LM of that year shows; the smaller one was 9 % off."""


def predicted(row: dict[str, str], vpp: int):
    cluster = ClusterSpec(
        name="Llama 3",
        accelerator=catalog.accelerator("h100-sxm", AS_OF).spec,
        node=catalog.node("hgx-h100", AS_OF).spec,
        fabric=catalog.fabric("roce-3tier", AS_OF).spec,
        num_accelerators=int(row["accelerators"]),
    )
    layout = Layout(
        tp=int(row["tp"]),
        cp=int(row["cp"]),
        pp=int(row["pp"]),
        dp=int(row["dp"]),
        vpp=vpp,
        recompute=Recompute.NONE,
    )
    config = StepConfig(global_batch=int(row["global_batch"]), seq_len=int(row["seq_len"]), precision="bf16")
    model = catalog.model("llama3.1-405b").spec
    return step_estimate(model, config, cluster, catalog.framework("megatron-2024", AS_OF).spec, layout)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["accelerators"])
def test_identity_mfu_of_the_printed_rate(row):
    """The printed FLOP rate over the dense bf16 peak gives back the printed MFU, to the printed digits."""
    peak = catalog.accelerator("h100-sxm", AS_OF).spec.peak_flop_per_s["bf16"]

    assert float(row["tflops_per_accelerator"]) * 1e12 / peak == pytest.approx(float(row["mfu"]), abs=0.0101)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["accelerators"])
def test_predicts_mfu_from_facts_of_july_2024(row):
    """Nothing measured on this run goes in; profile and kernels are as known before the paper appeared."""
    estimate = predicted(row, vpp=4)

    assert abs(estimate.mfu / float(row["mfu"]) - 1) <= LEDGER[row["accelerators"], 4]


def test_halving_the_batch_per_replica_costs_mfu():
    """Printed: 0.43 against 0.41. The bubble doubles its share; predicted 1.13, so the true bubble is smaller than ours."""
    small, large = (predicted(row, vpp=4).mfu for row in ROWS)

    assert 1.02 < small / large < 1.14
