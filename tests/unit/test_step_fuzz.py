"""Random layouts of every model, accelerator and profile of the catalog, from a fixed seed: what holds of any step."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import ContextKind, CudaGraphs, Layout, LayoutStatus, Offload, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate
from makespan.step.features import everything

TRIES = 700
COMMUNICATION = {"tp", "cp", "ep", "dp", "fsdp", "pp"}
SHIFTED_OVERLAP = 0.01
"""Where traffic outlasts a layer's kernels, a faster kernel moves time between forward and backward, and data parallelism
hides behind the two differently: a step of the same length may then show a little more of it."""


@cache
def models() -> dict[str, ModelSpec]:
    return {name: catalog.model(name).spec for name in catalog.names("model")}


@cache
def profiles() -> dict[str, FrameworkProfile]:
    """Every layout allowed, so that the formulas are reached; what a software lacks is tested beside its keys."""
    known = {name: catalog.framework(name).spec for name in catalog.names("framework")}
    return {name: replace(spec, supports=everything(spec)) for name, spec in known.items()}


@cache
def cluster(count: int, accelerator: str) -> ClusterSpec:
    return parse_cluster(f"{count}x{accelerator}")


def random_layout(draw: random.Random, model: ModelSpec, count: int) -> Layout:
    """Mostly legal: sizes that divide what they cut, with a few that do not."""
    heads = math.gcd(model.num_heads, model.num_kv_heads)
    tp = draw.choice([size for size in (1, 1, 2, 4, 8) if heads % size == 0] if draw.random() < 0.95 else [3, 16])
    pp, cp = draw.choice([1, 1, 2, 3, 4, 8]), draw.choice([1, 1, 1, 2, 4])
    dp = max(1, min(count // (tp * pp * cp), draw.choice([1, 2, 3, 8, 64])))
    ranks = tp * cp * dp
    experts = model.moe.num_experts if model.moe is not None else 1
    ep = draw.choice([size for size in (1, 2, 4, 8, 16, 64) if experts % size == 0 == ranks % size])
    sharding = draw.choice(list(Sharding))
    return Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        dp=dp,
        ep=ep,
        etp=2 if model.moe is not None and ranks % (2 * ep) == 0 and draw.random() < 0.2 else 1,
        vpp=draw.choice([1, 1, 2, 3]) if pp > 1 else 1,
        micro_batch=draw.choice([1, 1, 2, 4]),
        schedule=draw.choice([Schedule.ONE_F_ONE_B] * 6 + list(Schedule)) if pp > 1 else Schedule.ONE_F_ONE_B,
        recompute=Recompute(draw.choice([0, 0, 3, 64, draw.randrange(128)])),
        sharding=sharding,
        sequence_parallel=draw.random() < 0.7,
        cp_kind=draw.choice(list(ContextKind)),
        shard_size=2 if sharding is Sharding.ZERO3 and cp * dp % 2 == 0 and draw.random() < 0.3 else 0,
        offload=Offload(draw.choice([0, 0, 0, 1, 2, 3])),
        cuda_graphs=draw.choice(list(CudaGraphs)),
        ep_overlap=draw.random() < 0.3,
    )


@cache
def runs() -> list[tuple[ModelSpec, StepConfig, ClusterSpec, FrameworkProfile, StepEstimate]]:
    """Steps that can run, from a fixed seed; a layout that lacks memory counts."""
    draw, found = random.Random(20261123), []
    for _ in range(TRIES):
        model, profile = draw.choice(list(models().values())), draw.choice(list(profiles().values()))
        count = draw.choice([1, 7, 8, 72, 1024, 4096, 100_003])
        machine = cluster(count, draw.choice(catalog.names("accelerator")))
        config = StepConfig(
            global_batch=draw.choice([1, 60, 256, 2048, 16384]),
            seq_len=draw.choice([1, 512, 4096, 4100, 8192, 131_072, 1_000_000]),
            precision=draw.choice(["bf16", "bf16", "fp8", "fp16", "mxfp8", "nvfp4"]),
        )
        estimate = step_estimate(model, config, machine, profile, random_layout(draw, model, count))
        if math.isfinite(estimate.time_s):
            found.append((model, config, machine, profile, estimate))
        else:
            assert estimate.status not in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY)
    return found


def test_enough_of_them_run():
    assert len(runs()) > TRIES / 8
    assert {estimate.status for *_, estimate in runs()} == {LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY}


def test_every_figure_is_finite_and_the_parts_add_up():
    for *_, step in runs():
        parts = [*step.breakdown.values(), *step.hidden.values(), *step.memory.by_kind.values(), step.mfu, step.hfu]
        assert all(math.isfinite(part) and part >= 0.0 for part in parts), step
        assert sum(step.breakdown.values()) == pytest.approx(step.time_s, rel=1e-9)
        assert sum(step.memory.by_kind.values()) == pytest.approx(step.memory.total_bytes, rel=1e-9)
        assert 0.0 < step.lower_s <= step.time_s * (1 + 1e-12) <= step.upper_s * (1 + 1e-9), step
        assert step.p10_s < step.time_s < step.p90_s
        assert (step.status is LayoutStatus.OUT_OF_MEMORY) == (step.memory.total_bytes > step.memory.limit_bytes)


def test_kernels_do_at_least_the_models_flop():
    for model, _, _, _, step in runs():
        assert step.executed_flop >= step.model_flop * (1 - 1e-9), (model.name, step.layout)


def test_one_accelerator_does_not_communicate():
    alone = [step for *_, step in runs() if step.layout.num_accelerators == 1]

    assert alone
    for step in alone:
        assert not COMMUNICATION & {*step.breakdown, *step.hidden}


def faster(machine: ClusterSpec, what: str) -> ClusterSpec:
    chip = machine.accelerator
    if what == "flop":
        return replace(
            machine,
            accelerator=replace(chip, peak_flop_per_s={k: 1.5 * peak for k, peak in chip.peak_flop_per_s.items()}),
        )
    if what == "network":
        tiers = tuple(replace(tier, bytes_per_s=1.5 * tier.bytes_per_s) for tier in machine.fabric.tiers)
        return replace(machine, fabric=replace(machine.fabric, tiers=tiers))
    return replace(machine, accelerator=replace(chip, **{what: 1.5 * getattr(chip, what)}))


@pytest.mark.parametrize(
    ("what", "slack"),
    [("flop", SHIFTED_OVERLAP), ("hbm_bytes_per_s", SHIFTED_OVERLAP), ("network", 1e-6), ("host_bytes_per_s", 1e-6)],
)
def test_faster_hardware_never_slows_a_step(what, slack):
    for model, config, machine, profile, step in runs():
        quick = step_estimate(model, config, faster(machine, what), profile, step.layout)

        assert quick.time_s <= step.time_s * (1 + slack), (model.name, machine.name, profile.name, step.layout)
        assert quick.lower_s <= step.lower_s * (1 + 1e-9)


def test_memory_grows_with_the_micro_batch_and_falls_with_sharded_optimizer_state():
    for model, config, machine, profile, step in runs():
        more = step_estimate(
            model, config, machine, profile, replace(step.layout, micro_batch=2 * step.layout.micro_batch)
        )
        plain, sharded = (
            step_estimate(model, config, machine, profile, replace(step.layout, sharding=kind, shard_size=0))
            for kind in (Sharding.NONE, Sharding.ZERO1)
        )

        if math.isfinite(more.time_s):
            assert more.memory.total_bytes >= step.memory.total_bytes * (1 - 1e-12), (model.name, step.layout)
        if math.isfinite(plain.time_s) and math.isfinite(sharded.time_s):
            assert sharded.memory.total_bytes <= plain.memory.total_bytes * (1 + 1e-12)


def test_full_recompute_executes_more_and_twice_the_batch_is_no_faster():
    for model, config, machine, profile, step in runs():
        full = step_estimate(model, config, machine, profile, replace(step.layout, recompute=Recompute.FULL))
        double = step_estimate(
            model, replace(config, global_batch=2 * config.global_batch), machine, profile, step.layout
        )

        assert full.executed_flop >= step.executed_flop * (1 - 1e-12)
        assert not double.time_s < step.time_s * (1 - 1e-9)


def test_many_layouts_at_once_are_each_alone():
    draw = random.Random(7)
    for name in ("llama3.1-70b", "deepseek-v3", "nemotron-3-super-120b-a12b"):
        model, machine = models()[name], cluster(4096, "gb200")
        profile, config = profiles()["megatron-2026"], StepConfig(global_batch=2048, seq_len=8192, precision="mxfp8")
        rows = [random_layout(draw, model, 4096) for _ in range(40)]
        together = evaluate(model, config, machine, profile, LayoutArrays.of(rows))
        alone = [step_estimate(model, config, machine, profile, row) for row in rows]

        assert [LayoutStatus(code) for code in together.status.tolist()] == [step.status for step in alone]
        for column in ("time_s", "lower_s", "upper_s"):
            np.testing.assert_allclose(getattr(together, column), [getattr(step, column) for step in alone], rtol=1e-12)
