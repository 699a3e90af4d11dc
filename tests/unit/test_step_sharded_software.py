"""What profiles of sharded software say beyond factors on kernels, and what a row says of the machine and recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from makespan import catalog
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Recompute
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate
from makespan.validation.express import case_of
from makespan.validation.files import read_models
from makespan.validation.machine import cluster_of

CONFIG = StepConfig(global_batch=64, seq_len=4096, precision="bf16")
H100 = ClusterSpec(
    name="64 H100",
    accelerator=catalog.accelerator("h100-sxm").spec,
    node=catalog.node("hgx-h100").spec,
    fabric=catalog.fabric("nvlink8-ib-rail").spec,
    num_accelerators=64,
)
MODEL = catalog.model("llama3.1-8b").spec
ROW = {
    "id": "row",
    "source": "pytorch/torchtitan benchmarks",
    "framework": "torchtitan FSDP2",
    "task": "pretrain",
    "model": "llama3_8b",
    "gpu": "h100-sxm",
    "gpus_per_node": "8",
    "n_gpus": "64",
    "micro_batch": "1",
    "global_batch": "64",
    "seq_len": "8192",
    "precision": "bf16",
    "recompute": "none",
}


def detail(profile: FrameworkProfile, **layout: int) -> dict[str, float]:
    arrays = evaluate(MODEL, CONFIG, H100, profile, LayoutArrays.build(dp=64, sharding=3, **layout), detail=True)
    return {name: float(values[0]) for name, values in arrays.detail.items()}


def test_a_kernel_of_an_older_generation_lags_on_the_family_it_was_not_written_for():
    plain = replace(catalog.framework("fsdp-2023").spec, attention_lag={})
    here = detail(replace(plain, attention_lag={"hopper": 2.0}))
    elsewhere = detail(replace(plain, attention_lag={"blackwell": 2.0}))

    assert here["time.attention"] == pytest.approx(2.0 * detail(plain)["time.attention"])
    assert elsewhere["time.attention"] == detail(plain)["time.attention"]


def test_waiting_for_the_slowest_begins_where_the_profile_says():
    profile = replace(catalog.framework("fsdp-2023").spec, jitter_per_doubling=0.01, jitter_from=8.0)
    parts = {name: value for name, value in detail(profile).items() if name.startswith("time.")}
    waiting = parts.pop("time.jitter")

    assert waiting == pytest.approx(0.03 * sum(parts.values()))  # 64 are three doublings from 8
    assert detail(replace(profile, jitter_from=64.0))["time.jitter"] == 0.0


def test_op_level_checkpointing_does_every_second_product_again():
    profile = replace(catalog.framework("torch-fsdp2").spec, selective_pair_fraction=0.5)
    saved = replace(profile, selective_pair_fraction=1.0)
    selective = int(Recompute.SELECTIVE)
    again = (
        detail(profile, recompute=selective)["time.recompute"] - detail(saved, recompute=selective)["time.recompute"]
    )
    full, none = (detail(profile, recompute=int(policy)) for policy in (Recompute.FULL, Recompute.NONE))
    products = full["executed_flop"] - none["executed_flop"]

    assert again > 0.0
    assert detail(profile, recompute=selective)["executed_flop"] - none["executed_flop"] < 0.5 * products
    assert detail(profile)["time.recompute"] == 0.0


def test_a_part_with_less_power_has_a_lower_clock_and_keeps_its_bandwidth():
    text = "H100 96GB HBM2e 2.4TB/s 500W (Grand Teton); 400 Gb/s RDMA per GPU"
    part = cluster_of({**ROW, "interconnect": text})[0].accelerator

    clock = (500 / 700) ** 0.4
    assert part.peak_flop_per_s["bf16"] == pytest.approx(clock * H100.accelerator.peak_flop_per_s["bf16"])
    assert part.hbm_bytes_per_s == 2.4e12
    assert part.tdp_w == 500.0


@pytest.mark.parametrize(
    ("notes", "factor", "times"),
    [
        ("float8 rowwise; compile", "gemm_slowdown", 1.8),
        ("float8 tensorwise; compile", "gemm_slowdown", 1.0),
        ("eager; selective op AC", "elementwise_slowdown", 2.0),
        ("torch.compile; selective op AC", "elementwise_slowdown", 1.0),
    ],
)
def test_what_the_notes_switch_on_in_the_profile(notes, factor, times):
    usual = catalog.framework("torch-fsdp2").spec
    case = case_of({**ROW, "notes": notes}, read_models(None))

    assert getattr(case.profile, factor) == pytest.approx(times * getattr(usual, factor))


def test_pure_mixed_precision_sums_gradients_in_16_bits():
    row = {**ROW, "framework": "llm-foundry/Composer FSDP", "notes": "grad_accum=1; precision=bf16/PURE; n_params=1"}

    assert case_of(row, read_models(None)).config.optimizer.gradient_bytes == 2.0
