"""Objectives of a step by hand, to a budget, and their floors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.scenario import parse_cluster, parse_layout
from makespan.search.objectives import (
    estimate_value,
    objective_floor,
    objective_values,
    to_budget,
    tokens_of_flop,
    working_s,
)
from makespan.specs.hardware import NodeSpec
from makespan.specs.search import Objective
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, step_estimate
from makespan.workload import model_flop_per_token

NODE = NodeSpec(
    name="by hand",
    accelerator="h100-sxm",
    accelerators_per_node=8,
    nameplate_w=10_000.0,
    provisioned_peak_w=10_000.0,
    mean_training_w=7_200.0,
    idle_w=1_600.0,
    network_storage_w=800.0,
)
"""Idle 2,400 W over 8: 300 W an accelerator; training 8,000 W over 8: 1,000 W."""

CLUSTER = replace(parse_cluster("64xh100-sxm"), node=NODE)


def test_time_cost_and_energy_by_hand():
    """64 accelerators for 2 s, kernels in 1.5 of them: 64 * (300 * 2 + 700 * 1.5) J."""
    step = {"time_s": 2.0, "num_accelerators": 64, "working_s": 1.5}

    assert objective_values(Objective.TIME, CLUSTER, **step) == 2.0
    assert objective_values(Objective.COST, CLUSTER, **step) == 128.0
    assert objective_values(Objective.ENERGY, CLUSTER, **step) == pytest.approx(64 * (600 + 1050))


def test_a_step_that_always_works_draws_the_training_power_and_one_that_only_waits_the_idle_power():
    busy = objective_values(Objective.ENERGY, CLUSTER, time_s=3.0, num_accelerators=8, working_s=3.0)
    waiting = objective_values(Objective.ENERGY, CLUSTER, time_s=3.0, num_accelerators=8, working_s=0.0)

    assert busy == pytest.approx(3.0 * (NODE.mean_training_w + NODE.network_storage_w))
    assert waiting == pytest.approx(3.0 * (NODE.idle_w + NODE.network_storage_w))


def test_arrays_broadcast_to_the_numbers_of_their_rows():
    time_s, used = np.array([[1.0], [2.0]]), np.array([8, 16, 24])
    for objective in Objective:
        table = np.broadcast_to(
            objective_values(objective, CLUSTER, time_s=time_s, num_accelerators=used, working_s=0.5), (2, 3)
        )
        for row, column in np.ndindex(2, 3):
            alone = objective_values(
                objective, CLUSTER, time_s=float(time_s[row, 0]), num_accelerators=int(used[column]), working_s=0.5
            )
            assert table[row, column] == alone


def test_energy_without_the_working_time_is_refused():
    with pytest.raises(ValueError, match="working time"):
        objective_values(Objective.ENERGY, CLUSTER, time_s=1.0, num_accelerators=8)


def test_a_budget_of_tokens_is_so_many_steps():
    """15.6 trillion tokens in steps of 2,048 x 8,192: 929,832 steps of 10 s are 9.3 million seconds."""
    assert to_budget(10.0, tokens=15.6e12, tokens_per_step=2048 * 8192) == pytest.approx(9.29832e6, rel=1e-5)


def test_a_budget_of_flop_buys_the_tokens_that_make_them():
    model = catalog.model("llama3.1-70b").spec
    tokens = tokens_of_flop(model, 8192, 3.8e25)

    assert tokens * model_flop_per_token(model, 8192) == pytest.approx(3.8e25)
    assert tokens == pytest.approx(3.8e25 / (6 * 70e9), rel=0.15)  # 6ND, attention apart


MODEL = catalog.model("llama3.1-70b").spec
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")
PROFILE = catalog.framework("megatron-2026").spec


def test_a_rank_without_pipeline_works_in_all_of_the_step_that_is_compute():
    """One stage, even replicas: the mean rank is every rank, and the breakdown lists its kernels."""
    estimate = step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, parse_layout("tp=8,dp=8", num_accelerators=64))
    waits = {"tp", "cp", "ep", "pp", "dp", "fsdp", "bubble", "jitter", "optimizer"}
    compute = sum(seconds for name, seconds in estimate.breakdown.items() if name not in waits)
    rows = LayoutArrays.of([estimate.layout])

    assert working_s(MODEL, CONFIG, CLUSTER, PROFILE, rows)[0] == pytest.approx(compute)


def test_energy_of_an_estimate_lies_between_idling_and_working_throughout():
    estimate = step_estimate(
        MODEL, CONFIG, CLUSTER, PROFILE, parse_layout("tp=4,pp=4,vpp=5,recompute=full", num_accelerators=64)
    )
    energy = estimate_value(Objective.ENERGY, MODEL, CONFIG, CLUSTER, PROFILE, estimate)

    assert 300.0 < energy / (64 * estimate.time_s) < 1000.0
    update = estimate.breakdown["optimizer"]
    rows = LayoutArrays.of([estimate.layout])
    working = float(working_s(MODEL, CONFIG, CLUSTER, PROFILE, rows, optimizer_s=update)[0])
    assert energy == pytest.approx(64 * (300.0 * estimate.time_s + 700.0 * working))


def test_the_replica_that_is_short_of_a_micro_batch_saves_energy():
    """100 sequences on 64 replicas: two rounds for the fullest, 100/64 for the mean one."""
    config = replace(CONFIG, global_batch=100)
    full, mean = (working_s(MODEL, c, CLUSTER, PROFILE, LayoutArrays.build(dp=64))[0] for c in (CONFIG, config))

    assert mean / full == pytest.approx(100 / 128)


seconds = st.floats(0.0, 100.0)


@given(
    objective=st.sampled_from(list(Objective)),
    global_batch=st.integers(1, 5000),
    micro_batch=st.integers(1, 16),
    per_replica=st.integers(1, 512),
    pp=st.integers(1, 16),
    slot_s=seconds,
    bubble_s=seconds,
    more=st.tuples(seconds, seconds),
    compute_share=st.floats(0.0, 1.0),
    dp_min=st.integers(1, 300),
    span=st.integers(0, 200),
    whole=st.booleans(),
)
def test_no_layout_of_a_cell_goes_below_the_floor(
    objective, global_batch, micro_batch, per_replica, pp, slot_s, bubble_s, more, compute_share, dp_min, span, whole
):
    """Every dp of the range, with transfers and an update on top, the mean or the fullest replica's working time."""
    dp = np.arange(dp_min, dp_min + span + 1)
    compute_s = compute_share * slot_s * pp
    floor = objective_floor(
        objective,
        CLUSTER,
        global_batch=global_batch,
        micro_batch=micro_batch,
        per_replica=per_replica,
        slot_s=slot_s,
        bubble_s=bubble_s,
        dp_min=dp_min,
        dp_max=dp_min + span,
        compute_s=compute_s,
        pp=pp,
    )
    count = -(-global_batch // (micro_batch * dp))
    time_s = (count * slot_s + bubble_s + more[0]) * (1.0 + more[1] / 100.0)
    held = count if whole else global_batch / (micro_batch * dp)
    values = objective_values(
        objective,
        CLUSTER,
        time_s=time_s,
        num_accelerators=per_replica * dp,
        working_s=held * compute_s / pp + more[0],
    )

    assert (floor <= values).all()


@pytest.mark.parametrize("objective", list(Objective))
def test_the_floor_is_reached_where_the_batch_divides(objective):
    """64 micro-batches on 16 replicas and nowhere else to go: the floor is the value, but for its rounding."""
    cell = {"global_batch": 64, "micro_batch": 1, "per_replica": 8, "slot_s": 0.5, "bubble_s": 0.25}
    floor = objective_floor(objective, CLUSTER, **cell, dp_min=16, dp_max=16, compute_s=0.8, pp=2)
    value = objective_values(objective, CLUSTER, time_s=2.25, num_accelerators=128, working_s=4 * 0.8 / 2)

    assert floor == pytest.approx(value, rel=1e-11)
    assert floor < value


def test_floors_of_many_cells_are_those_of_each():
    dp_max, slots = np.array([4, 8, 16]), np.array([[0.5], [0.25]])
    cell = {"global_batch": 100, "micro_batch": 2, "per_replica": 8, "bubble_s": 0.1, "dp_min": 2, "compute_s": 0.2}
    for objective in Objective:
        table = objective_floor(objective, CLUSTER, **cell, slot_s=slots, dp_max=dp_max)
        for row, column in np.ndindex(2, 3):
            alone = objective_floor(objective, CLUSTER, **cell, slot_s=float(slots[row, 0]), dp_max=int(dp_max[column]))
            assert math.isclose(table[row, column], alone, rel_tol=1e-15)
