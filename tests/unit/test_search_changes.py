"""What would help a layout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from makespan import catalog
from makespan.scenario import parse_cluster, parse_layout
from makespan.search import helpful_changes
from makespan.search.changes import neighbours
from makespan.specs.layout import Layout, LayoutStatus, Recompute
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

MODEL = catalog.model("llama3.1-70b").spec
CLUSTER = parse_cluster("64xh100-sxm")
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")
PROFILE = catalog.framework("megatron-2026").spec


def estimate(text: str):
    layout = parse_layout(text, num_accelerators=64)
    return step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, layout)


def test_needless_recomputation_is_the_first_thing_to_drop():
    """A layout with room that computes everything twice: the policies are tried, and less of it comes out first."""
    slow = estimate("tp=4,pp=4,vpp=5,recompute=full")
    changes = helpful_changes(MODEL, CONFIG, CLUSTER, PROFILE, slow)

    assert changes[0].dimension == "recompute"
    assert changes[0].before == "full"
    assert changes[0].time_s < 0.9 * slow.time_s


def test_a_change_is_what_the_step_model_says_of_its_layout():
    slow = estimate("tp=8,pp=8,recompute=full")
    changes = helpful_changes(MODEL, CONFIG, CLUSTER, PROFILE, slow)

    assert len(changes) == 3
    assert len({change.dimension for change in changes}) == 3
    assert [change.time_s for change in changes] == sorted(change.time_s for change in changes)
    for change in changes:
        again = step_estimate(MODEL, CONFIG, CLUSTER, PROFILE, change.layout)
        assert again.status is LayoutStatus.OK
        assert again.time_s == pytest.approx(change.time_s)
        assert again.memory.total_bytes == pytest.approx(change.memory_bytes)
        assert change.layout.num_accelerators <= slow.layout.num_accelerators


def test_what_does_not_fit_is_told_what_would():
    full = estimate("tp=1,pp=4,micro_batch=2")
    assert full.status is LayoutStatus.OUT_OF_MEMORY
    changes = helpful_changes(MODEL, CONFIG, CLUSTER, PROFILE, full)

    assert changes
    limit = full.memory.limit_bytes
    assert all(change.memory_bytes <= limit < full.memory.total_bytes for change in changes)


def test_nothing_is_said_of_what_cannot_run():
    broken = estimate("tp=8,pp=8,ep=2")
    assert broken.status is LayoutStatus.EXPERTS_DO_NOT_DIVIDE

    assert helpful_changes(MODEL, CONFIG, CLUSTER, PROFILE, broken) == ()


def test_a_neighbour_differs_in_its_dimension_and_in_what_follows_from_it():
    layout = Layout(tp=4, pp=4, dp=4, vpp=2)
    follows = {"tp": {"dp"}, "cp": {"dp"}, "pp": {"dp", "vpp"}, "schedule": {"vpp"}}
    seen = set()
    for dimension, other in neighbours(MODEL, CONFIG, CLUSTER, layout):
        allowed = {dimension, *follows.get(dimension, set())}
        kept = {name: getattr(layout, name) for name in allowed}
        assert replace(other, **kept) == layout
        seen.add(dimension)
    assert {"tp", "pp", "cp", "vpp", "micro_batch", "recompute", "sharding", "schedule"} <= seen
    assert any(other.recompute is Recompute.CORE_ATTENTION for _, other in neighbours(MODEL, CONFIG, CLUSTER, layout))
