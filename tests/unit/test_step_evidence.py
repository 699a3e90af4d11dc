"""What a step time stands on, precisions a chip has, and chunks that a row leaves open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.training import StepConfig
from makespan.step import interval_sigma, step_estimate
from makespan.step.legality import has_precision
from makespan.validation.express import case_of
from makespan.validation.files import read_models

BRIDGE = catalog.framework("megatron-2025").spec


@pytest.mark.parametrize(
    ("accelerator", "precision", "arithmetic", "expected"),
    [
        ("h100-sxm", "fp8", "fp8", "measured"),
        ("h200-sxm", "bf16", "bf16", "same family"),
        ("a100-sxm-80gb", "bf16", "bf16", "borrowed"),
        ("mi300x", "bf16", "bf16", "assumed"),
    ],
)
def test_evidence_gets_weaker_with_distance_from_what_was_measured(accelerator, precision, arithmetic, expected):
    assert catalog.evidence(BRIDGE, accelerator, precision, arithmetic) == expected
    assert expected in catalog.EVIDENCE


def test_a_precision_without_runs_is_borrowed():
    measured = replace(BRIDGE, measured_precisions=("bf16",))

    assert catalog.evidence(measured, "h100-sxm", "fp8", "fp8") == "borrowed"


def test_block_scaled_eight_bits_need_a_chip_that_has_them():
    """MXFP8 came with Blackwell: an H100 has 8-bit products, but not those."""
    hopper, blackwell = catalog.accelerator("h100-sxm").spec, catalog.accelerator("b200-sxm").spec
    config = StepConfig(global_batch=64, seq_len=4096, precision="mxfp8")
    model = catalog.model("llama3.1-8b").spec

    assert has_precision(hopper, "fp8")
    assert not has_precision(hopper, "mxfp8")
    assert has_precision(blackwell, "mxfp8")
    refused = step_estimate(model, config, parse_cluster("8xh100-sxm"), BRIDGE, Layout(dp=8))
    assert refused.status is LayoutStatus.NOT_SUPPORTED


def test_a_mixture_on_software_that_ran_none_gets_a_wide_interval():
    mixture, dense = catalog.model("deepseek-v3").spec, catalog.model("llama3.1-8b").spec
    cluster, jax = parse_cluster("256xh100-sxm"), catalog.framework("jax-2024").spec

    assert jax.residual_sigma_moe == 0
    assert interval_sigma(mixture, cluster, jax, 256) > 2 * interval_sigma(dense, cluster, jax, 256)


@pytest.mark.parametrize(("dp", "global_batch", "vpp"), [(128, 2048, 8), (128, 2000, 1)])
def test_blank_interleaving_counts_places_for_embedding_and_head(dp, global_batch, vpp):
    """126 layers, embedding and head fill 16 stages of 8 chunks; with 15 micro-batches a replica the counts do not allow it."""
    row = {
        "id": "x",
        "framework": "Meta internal",
        "date": "2024-07",
        "model": "llama3.1_405b",
        "gpu": "h100-sxm",
        "n_gpus": str(8 * 16 * dp),
        "tp": "8",
        "pp": "16",
        "micro_batch": "1",
        "global_batch": str(global_batch),
        "seq_len": "8192",
        "precision": "bf16",
    }
    case = case_of(row, read_models(None))

    assert case.layout is not None
    assert case.layout.vpp == vpp
