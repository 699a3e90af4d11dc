"""The fast search against plain loops, and against the published layout of a run."""

from dataclasses import replace

import pytest

from makespan import catalog
from makespan.search import reference, search
from makespan.search.pareto import pareto_front
from makespan.search.space import dp_choices, fewest_parts, product
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import LayoutStatus
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate

H100 = catalog.accelerator("h100-sxm").spec
PROFILE = catalog.framework("megatron-2026").spec
SMALL = ModelSpec(
    name="small", num_layers=10, hidden=4096, num_heads=32, num_kv_heads=8, head_dim=128, ffn_hidden=14336, vocab=128256
)
SMALL_MOE = replace(SMALL, name="small-moe", ffn_hidden=0, moe=MoeSpec(num_experts=8, top_k=2, expert_ffn=14336))
TIGHT = replace(H100, hbm_bytes=30e9)


def cluster(num_accelerators, accelerator=H100):
    return ClusterSpec(
        name="test",
        accelerator=accelerator,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric("nvlink8-ib-rail").spec,
        num_accelerators=num_accelerators,
    )


CASES = {
    "dense": (SMALL, StepConfig(global_batch=24, seq_len=4096, precision="bf16"), cluster(24), SearchConstraints()),
    "moe": (
        SMALL_MOE,
        StepConfig(global_batch=16, seq_len=2048, precision="bf16"),
        cluster(16),
        SearchConstraints(thorough=False),
    ),
    "little memory": (
        SMALL,
        StepConfig(global_batch=20, seq_len=4096, precision="fp8"),
        cluster(20, TIGHT),
        SearchConstraints(cp=1, recompute="none"),
    ),
    "fixed": (
        SMALL,
        StepConfig(global_batch=32, seq_len=4096, precision="bf16"),
        cluster(16),
        SearchConstraints(tp=2, pp=2, micro_batch=1),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_space_is_that_of_the_plain_loops(case):
    model, config, machine, constraints = case
    fast = LayoutArrays.build(**product(model, config, machine, constraints))
    rows = [fast.row(index) for index in range(len(fast))]
    assert len(set(rows)) == len(rows)
    assert set(rows) == set(reference.layouts(model, config, machine, constraints))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_best_layout_and_every_tally_equal_the_plain_loops(case):
    model, config, machine, constraints = case
    best, tally, count = reference.search(model, config, machine, PROFILE, constraints)
    found = search(model, config, machine, PROFILE, constraints)
    assert found.num_layouts == count
    assert found.num_feasible == tally[LayoutStatus.OK]
    assert {s: n for s, n in found.infeasible.items() if n} == {
        s: n for s, n in tally.items() if s is not LayoutStatus.OK
    }
    assert best is not None
    assert found.best.time_s == pytest.approx(best.time_s, rel=1e-12)


def test_cases_reach_feasible_layouts_and_more_than_one_reason():
    reasons = set()
    for model, config, machine, constraints in CASES.values():
        found = search(model, config, machine, PROFILE, constraints)
        reasons |= {status for status, count in found.infeasible.items() if count}
    assert {LayoutStatus.OUT_OF_MEMORY, LayoutStatus.VPP_NEEDS_PIPELINE, LayoutStatus.NOT_SUPPORTED} <= reasons


def test_when_nothing_fits_the_nearest_layout_says_what_it_lacks():
    machine = cluster(2, replace(H100, hbm_bytes=8e9))
    found = search(
        SMALL, StepConfig(global_batch=8, seq_len=4096, precision="bf16"), machine, PROFILE, SearchConstraints()
    )
    assert found.best is None
    assert found.num_feasible == 0
    layout, missing = found.nearest
    again = step_estimate(
        SMALL,
        StepConfig(global_batch=8, seq_len=4096, precision="bf16"),
        machine,
        PROFILE,
        layout,
        memory_headroom=SearchConstraints().memory_headroom,
    )
    assert missing == pytest.approx(again.memory.total_bytes - again.memory.limit_bytes, rel=1e-9)
    assert missing > 0


def test_pareto_points_do_not_dominate_each_other():
    model, config, machine, constraints = CASES["dense"]
    front = search(model, config, machine, PROFILE, constraints).pareto
    points = [(e.time_s, e.memory.total_bytes, e.layout.num_accelerators) for e in front]
    for a in points:
        for b in points:
            assert a == b or not all(x <= y for x, y in zip(a, b, strict=True))


def test_the_thin_space_is_part_of_the_whole_and_nearly_as_fast():
    model, config, machine = CASES["dense"][:3]
    whole = search(model, config, machine, PROFILE, SearchConstraints())
    thin = search(model, config, machine, PROFILE, SearchConstraints(thorough=False))
    assert thin.num_layouts < whole.num_layouts
    assert whole.best.time_s <= thin.best.time_s <= 1.05 * whole.best.time_s


@pytest.mark.parametrize("size", [97, 100, 1000])
def test_idle_accelerators_stay_within_the_limit(size):
    """A prime number of accelerators is no obstacle: some idle."""
    config = StepConfig(global_batch=1024, seq_len=4096, precision="bf16")
    found = search(SMALL, config, cluster(size), PROFILE, SearchConstraints(thorough=False))
    assert found.best is not None
    for estimate in found.top:
        assert 0.9 * size <= estimate.layout.num_accelerators <= size
        assert estimate.num_idle == size - estimate.layout.num_accelerators


def test_leanest_dp_needs_no_more_micro_batches():
    import numpy as np

    one = np.array([1])
    widest, leanest = dp_choices(one * 8, one, one, one, 100, 8 * 64)
    assert (widest[0], leanest[0]) == (64, 50)  # 100 over 64 replicas is two rounds, and so it is over 50


def test_fewest_parts_keeps_every_size_of_the_longest_part():
    for whole in range(1, 130):
        sizes = {-(-whole // parts) for parts in range(1, whole + 1)}
        assert {-(-whole // parts) for parts in fewest_parts(whole, whole)} == sizes


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_equals_the_definition(seed):
    import numpy as np

    costs = np.random.default_rng(seed).integers(0, 6, size=(80, 3)).astype(float)
    expected = {
        i
        for i, row in enumerate(costs)
        if not any(np.all(other <= row) and (np.any(other < row) or j < i) for j, other in enumerate(costs) if j != i)
    }
    assert set(pareto_front(costs).tolist()) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_times_of_fitting_layouts_do_not_depend_on_the_others(case):
    import numpy as np

    model, config, machine, constraints = case
    space = LayoutArrays.build(**product(model, config, machine, constraints))
    every = evaluate(model, config, machine, PROFILE, space)
    fitting = evaluate(model, config, machine, PROFILE, space, fitting_only=True)
    np.testing.assert_array_equal(every.status, fitting.status)
    np.testing.assert_array_equal(every.memory_bytes, fitting.memory_bytes)
    fits = every.status == LayoutStatus.OK
    np.testing.assert_array_equal(every.time_s[fits], fitting.time_s[fits])
    assert np.isnan(fitting.time_s[~fits]).all()
