"""The fast search against plain loops, layout by layout; what it says of spaces with nothing in them; its thin form."""

import random
from dataclasses import replace
from math import gcd

import numpy as np
import pytest

from makespan import catalog
from makespan.search import engine, reference, search
from makespan.search.objectives import estimate_value
from makespan.search.pareto import pareto_front
from makespan.search.space import dp_range, dp_unit, fewest_parts, space_of
from makespan.specs.layout import LayoutStatus
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import step_estimate
from search_fixture import cluster, profile, some_problem

SMALL = replace(catalog.model("llama3.1-8b").spec, name="small", num_layers=6)
MIXTURE = replace(catalog.model("mixtral-8x7b").spec, name="small mixture", num_layers=6)
LEADING = replace(catalog.model("deepseek-v3").spec, num_layers=6, hidden=2048)
LEADING = replace(LEADING, moe=replace(LEADING.moe, num_experts=4, top_k=2))
GB200 = ("gb200", "gb200-nvl72", "nvlink72-ib-rail")
CONFIG = StepConfig(global_batch=24, seq_len=4096, precision="bf16")

LOOPS = {
    "dense": (SMALL, cluster(12), {"cp": 1, "recompute": "none", "offload": "none", "micro_batch": 2}, "megatron-2026"),
    "mixture": (MIXTURE, cluster(8), {"tp": 1, "cp": 1, "etp": 1, "pp": 2, "recompute": "none"}, "megatron-2026"),
    "leading": (
        LEADING,
        cluster(16, GB200),
        {"tp": 1, "cp": 1, "etp": 1, "micro_batch": 1, "recompute": "none"},
        "nemo-2025",
    ),
    "tight": (SMALL, cluster(8, memory=0.3), {"cp": 1, "offload": "none", "micro_batch": 1, "vpp": 1}, "torch-fsdp2"),
    "thin": (SMALL, cluster(10), {"thorough": False, "recompute": "none", "cp_kind": "ring"}, "megatron-2026"),
}


def problem_of(name, objective=Objective.TIME):
    model, machines, fixed, software = LOOPS[name]
    constraints = SearchConstraints(objective=objective, **fixed)
    return reference.problem_of(model, CONFIG, machines, profile(software), constraints), constraints


@pytest.mark.parametrize("name", LOOPS)
def test_best_layouts_equal_those_of_the_plain_loops(name):
    objective = list(Objective)[len(name) % 3]
    problem, constraints = problem_of(name, objective)
    expected = reference.search(problem, memory_headroom=constraints.memory_headroom)
    found = search(*problem.specs, constraints, top=4)
    wanted = [(v, layout) for v, layout in expected.ranked if not reference.leaves_switch_off(problem, layout)]
    assert expected.num_feasible == len(expected.ranked)
    assert expected.tally[LayoutStatus.OUT_OF_MEMORY] or name != "tight"
    assert found.num_layouts <= expected.num_legal
    assert found.num_feasible <= expected.num_feasible
    if constraints.thorough:
        assert found.num_legal == expected.num_legal
    firsts = {}
    for value, layout in wanted:
        firsts.setdefault(tuple(int(getattr(layout, size)) for size in engine.SIZES), (value, layout))
    for estimate, (value, layout) in zip(found.top, list(firsts.values())[:4], strict=True):
        assert estimate_value(objective, *problem.specs, estimate) == pytest.approx(value, rel=1e-12)
        assert estimate.layout == layout


@pytest.mark.parametrize("name", LOOPS)
def test_the_loops_name_no_layout_twice(name):
    problem, _ = problem_of(name)
    found = list(reference.layouts(problem))
    assert len(set(found)) == len(found)
    for layout in found:
        assert not layout.order or layout.order.matters(pp=layout.pp, cp=layout.cp, dp=layout.dp)
        assert not layout.ep_overlap or layout.ep > 1
        assert not layout.cp_kind or layout.cp > 1


@pytest.mark.parametrize("seed", range(40))
def test_values_of_dp_are_those_of_the_plain_loops(seed):
    draw = random.Random(seed)
    problem, _ = some_problem(draw, sizes=(7, 8, 50, 60, 97, 100, 1000))
    space = replace(problem.space, thin=False)
    problem = replace(problem, space=space)
    for _ in range(30):
        mesh, (ep, etp) = draw.choice(space.meshes), draw.choice(space.experts)
        pipe, batch = draw.choice(space.pipes), draw.choice(space.micro_batches)
        unit = dp_unit(*(np.array([size]) for size in (mesh.tp, mesh.cp, ep, etp)))
        assert unit[0] == ep * etp // gcd(ep * etp, mesh.tp * mesh.cp)
        least, most = dp_range(
            space,
            np.array([mesh.tp * mesh.cp * pipe.pp]),
            np.array([batch]),
            unit,
            np.array([pipe.pp if pipe.vpp > 1 else 1]),
            global_batch=problem.config.global_batch,
            size=problem.size,
        )
        fast = [number * int(unit[0]) for number in range(int(least[0]), int(most[0]) + 1)]
        assert fast == reference.replicas(problem, mesh=mesh, ep=ep, etp=etp, pipe=pipe, micro_batch=batch)


def test_leanest_dp_needs_no_more_micro_batches():
    config = replace(CONFIG, global_batch=100)
    fixed = SearchConstraints(thorough=False, tp=1, pp=1, cp=1, micro_batch=1, min_used_fraction=0.5)
    problem = reference.problem_of(SMALL, config, cluster(64), profile("megatron-2026"), fixed)
    dps = {layout.dp for layout in reference.layouts(problem)}
    assert dps == {50, 64}  # 100 sequences over 64 replicas are two rounds, and so they are over 50


@pytest.mark.parametrize("size", [97, 100, 1000])
def test_idle_accelerators_stay_within_the_limit(size):
    """A prime number of accelerators is no obstacle: some idle."""
    config = StepConfig(global_batch=1024, seq_len=4096, precision="bf16")
    found = search(SMALL, config, cluster(size), profile("megatron-2026"), SearchConstraints(), front=False)
    assert found.best is not None
    for estimate in found.top:
        assert 0.9 * size <= estimate.layout.num_accelerators <= size
        assert estimate.num_idle == size - estimate.layout.num_accelerators


def test_when_nothing_fits_a_layout_says_what_it_lacks():
    machines = cluster(2, memory=0.09)
    found = search(SMALL, replace(CONFIG, global_batch=8), machines, profile("megatron-2026"), SearchConstraints())
    assert found.best is None
    assert (found.num_feasible, found.num_ties, found.top) == (0, 0, ())
    layout, missing = found.nearest
    headroom = SearchConstraints().memory_headroom
    again = step_estimate(
        SMALL, replace(CONFIG, global_batch=8), machines, profile("megatron-2026"), layout, memory_headroom=headroom
    )
    assert again.status is LayoutStatus.OUT_OF_MEMORY
    assert missing == pytest.approx(again.memory.total_bytes - again.memory.limit_bytes, rel=1e-9)
    assert missing > 0


def test_an_answer_is_found_where_only_a_large_micro_batch_divides():
    """30 sequences in whole micro-batches on 8 replicas: neither 1, 2 nor 4 at a time; 5 at a time on six of them."""
    config = replace(CONFIG, global_batch=30)
    fixed = SearchConstraints(tp=1, pp=1, cp=1)
    found = search(SMALL, config, cluster(8), profile("megatron-2022"), fixed)
    assert found.best is not None
    assert (found.best.layout.dp, found.best.layout.micro_batch) == (6, 5)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_something_fits_exactly_where_some_layout_does(first):
    """Memory just below, and just above, what the leanest layout of a space needs."""
    answers = set()
    for seed in range(first, first + 20):
        draw = random.Random(seed)
        problem, _ = some_problem(draw, sizes=(4, 6, 8, 14, 16, 24))
        mesh, pipe, (ep, _) = (draw.choice(getattr(problem.space, name)) for name in ("meshes", "pipes", "experts"))
        fixed = {
            "tp": mesh.tp,
            "cp": mesh.cp,
            "pp": pipe.pp,
            "ep": ep,
            "etp": 1,
            "order": "tp-cp-dp-pp",
            "vpp": pipe.vpp,
        }
        constraints = SearchConstraints(**fixed, recompute=draw.choice(["none", "full"]))
        problem = reference.problem_of(*problem.specs, constraints)
        layouts = list(reference.layouts(problem))
        few = draw.sample(layouts, 400) if len(layouts) > 400 else layouts
        found = [step_estimate(*problem.specs, layout) for layout in few]
        needs = [
            each.memory.total_bytes for each in found if each.status in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY)
        ]
        if not needs:
            continue
        for share in (0.999, 1.001) if len(few) == len(layouts) else (1.001,):
            memory = min(needs) * share / (1.0 - constraints.memory_headroom)
            accelerator = replace(problem.cluster.accelerator, hbm_bytes=memory)
            machines = replace(problem.cluster, accelerator=accelerator)
            best = search(problem.model, problem.config, machines, problem.profile, constraints, front=False).best
            assert (best is not None) == (share > 1.0), f"seed {seed}"
            answers.add(best is not None)
    assert answers == {True, False}


def test_pareto_points_do_not_dominate_each_other_and_have_the_best_among_them():
    found = search(SMALL, CONFIG, cluster(24), profile("megatron-2026"), SearchConstraints())
    points = [(e.time_s, e.memory.total_bytes, e.layout.num_accelerators) for e in found.pareto]
    for a in points:
        for b in points:
            assert a == b or not all(x <= y for x, y in zip(a, b, strict=True))
    assert min(points)[0] == found.best.time_s
    assert all(estimate.status is LayoutStatus.OK for estimate in found.pareto)
    assert len(points) > 3


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_equals_the_definition(seed):
    costs = np.random.default_rng(seed).integers(0, 6, size=(80, 3)).astype(float)
    expected = {
        i
        for i, row in enumerate(costs)
        if not any(np.all(other <= row) and (np.any(other < row) or j < i) for j, other in enumerate(costs) if j != i)
    }
    assert set(pareto_front(costs).tolist()) == expected


def test_fewest_parts_keeps_every_size_of_the_longest_part():
    for whole in range(1, 130):
        sizes = {-(-whole // parts) for parts in range(1, whole + 1)}
        assert {-(-whole // parts) for parts in fewest_parts(whole, whole)} == sizes


REAL = {
    "llama3.1-405b": (16384, 2048, 8192, "bf16", cluster(16384)),
    "llama3.1-70b": (1024, 1024, 8192, "bf16", cluster(1024)),
    "qwen3-235b-a22b": (512, 2048, 4096, "fp8", cluster(512, GB200)),
    "grok-2": (1000, 2048, 8192, "bf16", cluster(1000)),
}


@pytest.mark.parametrize("name", REAL)
def test_the_thin_space_is_part_of_the_whole_and_nearly_as_good_at_what_it_knows(name):
    """Of the whole space what the thin one knows: its schedules, recompute policies, offloading, groups and orders."""
    _, batch, seq_len, precision, machines = REAL[name]
    config = StepConfig(global_batch=batch, seq_len=seq_len, precision=precision)
    job = (catalog.model(name).spec, config, machines, profile("megatron-2026"))
    thin = search(*job, SearchConstraints(thorough=False), front=False)
    whole = search(*job, SearchConstraints(), front=False)
    assert whole.best.time_s <= thin.best.time_s
    problem = reference.problem_of(*job, SearchConstraints())
    known = space_of(*job, SearchConstraints(thorough=False))

    def shared(name, *fields):
        kept = [{getattr(value, field) for value in getattr(known, name)} for field in fields]
        values = getattr(problem.space, name)
        return tuple(v for v in values if all(getattr(v, f) in k for f, k in zip(fields, kept, strict=True)))

    like_thin = replace(
        problem.space,
        experts=tuple(pair for pair in problem.space.experts if pair[1] in {etp for _, etp in known.experts}),
        pipes=shared("pipes", "schedule"),
        policies=shared("policies", "recompute", "offload"),
        choices=shared("choices", "shard_size", "offload_optimizer"),
        orders=known.orders,
    )
    limit = machines.accelerator.hbm_bytes * (1.0 - SearchConstraints().memory_headroom)
    threshold = thin.top[-1].time_s * (1.0 + 1e-9)
    best = engine.hunt(replace(problem, space=like_thin), limit, top=5, threshold=threshold).kept["objective"][0]
    assert whole.best.time_s * (1.0 - 1e-12) <= best <= thin.best.time_s * (1.0 + 1e-12)
    assert thin.best.time_s <= 1.05 * best
