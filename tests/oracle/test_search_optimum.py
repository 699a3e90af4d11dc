"""What the search finds against every layout of small spaces worked out: best, list, ties, counts; and twice the same."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from makespan import catalog
from makespan.search import engine, reference, search
from makespan.search.ties import tie_fraction
from makespan.specs.layout import LayoutStatus
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from search_fixture import FEW, cluster, profile, some_case, worked_out

EVERYTHING = 10**6
"""A list so long that no layout can be left out."""


def first_of_each(case, ranked):
    """Of ranked places the first of every distinct `engine.SIZES`."""
    found = {}
    for place in ranked.tolist():
        found.setdefault(tuple(int(getattr(case.rows, name)[place]) for name in engine.SIZES), place)
    return list(found.values())


def assert_same(case, found, *, top):
    """Best and list of a search are those of the ranking; equal layouts may be named either way."""
    ranked = case.ranked()
    if not len(ranked):
        assert found.best is None, case.name
        return
    expected = first_of_each(case, ranked)[:top]
    if len(found.top) < len(expected):
        # Where few fit, the list ends at a multiple of the best known.
        assert case.value[expected[len(found.top)]] > engine.REACHES[-1] * case.value[expected[0]], case.name
        expected = expected[: len(found.top)]
    assert found.top, case.name
    assert len(found.top) == len(expected), case.name
    value_of = dict(zip(case.layouts, case.value.tolist(), strict=True))
    for estimate, place in zip(found.top, expected, strict=True):
        assert estimate.status is LayoutStatus.OK, f"{case.name}: {estimate.layout}"
        assert value_of[estimate.layout] == pytest.approx(case.value[place], rel=1e-12), case.name
        is_tied = np.count_nonzero(np.abs(case.value[ranked] / case.value[place] - 1.0) < 1e-12) > 1
        assert estimate.layout == case.layouts[place] or is_tied, case.name
    assert found.best is found.top[0]


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_best_layouts_are_those_of_every_layout_worked_out(first, monkeypatch):
    for seed in range(first, first + 20):
        case = some_case(seed, sizes=FEW, most=1500)
        found = case.search(monkeypatch, top=(1, 3, 5, 20)[seed % 4])
        assert_same(case, found, top=(1, 3, 5, 20)[seed % 4])
        legal = int(np.count_nonzero(case.legal))
        if case.constraints.thorough:
            assert found.num_legal == legal, case.name
        looked_at = np.count_nonzero(case.legal & np.logical_not(case.idle))
        assert found.num_layouts <= looked_at, case.name
        ranked = case.ranked()
        if len(ranked):
            near = case.value[ranked] <= case.value[ranked[0]] * (1.0 + tie_fraction(case.problem.profile))
            assert found.num_ties <= np.count_nonzero(near), case.name
            if found.num_layouts == looked_at:
                assert found.num_ties == np.count_nonzero(near), case.name


@pytest.mark.parametrize("first", range(500, 540, 20))
def test_a_list_of_everything_has_every_layout_that_fits(first):
    """With no last of the list there is no bound to leave anything out by: all are evaluated, none twice."""
    for seed in range(first, first + 20):
        case = some_case(seed, sizes=FEW, most=1500)
        found = engine.hunt(case.problem, case.limit_bytes, top=EVERYTHING)
        ranked = case.ranked()
        assert found.num_feasible == len(ranked), case.name
        if len(ranked):
            np.testing.assert_allclose(found.kept["objective"], case.value[ranked], rtol=1e-12, err_msg=case.name)
            np.testing.assert_allclose(np.sort(found.near), case.value[ranked], rtol=1e-12, err_msg=case.name)


def test_ties_are_counted_among_all_that_was_worked_out(monkeypatch):
    """A list of one has the best for its last, but what ties with it is worse."""
    number = 0
    for seed in range(600, 630):
        case = some_case(seed, sizes=FEW, most=800)
        ranked = case.ranked()
        if not len(ranked) or not case.constraints.thorough:
            continue
        found = case.search(monkeypatch, top=1)
        near = case.value[ranked] <= case.value[ranked[0]] * (1.0 + tie_fraction(case.problem.profile))
        if found.num_layouts == np.count_nonzero(case.legal & np.logical_not(case.idle)):
            assert found.num_ties == np.count_nonzero(near), case.name
            number += found.num_ties > 1
    assert number > 3


DENSE = replace(catalog.model("llama3.1-8b").spec, num_layers=10)
MIXTURE = replace(catalog.model("mixtral-8x7b").spec, num_layers=6)
LEADING = replace(catalog.model("deepseek-v3").spec, num_layers=7, hidden=2048, mtp_layers=1)
LEADING = replace(LEADING, moe=replace(LEADING.moe, num_experts=8, top_k=2))
HYBRID = catalog.model("nemotron-3-nano-30b-a3b").spec
HYBRID = replace(HYBRID, pattern=HYBRID.pattern[:9], num_layers=9, moe=replace(HYBRID.moe, num_experts=8, top_k=2))
GB200 = ("gb200", "gb200-nvl72", "nvlink72-ib-rail")

WHOLE = {
    "dense, 60 accelerators": (DENSE, 60, {"cp": 1, "recompute": "none", "offload": "none", "tp": 2}, "megatron-2026"),
    "dense, 8, fp8": (DENSE, 8, {"recompute": "none", "offload": "none", "precision": "fp8"}, "megatron-2026"),
    "mixture, 36": (MIXTURE, 36, {"tp": 2, "cp": 1, "recompute": "none", "offload": "none"}, "megatron-2026"),
    "mixture, 64 of 72": (MIXTURE, 64, {"tp": 1, "cp": 1, "etp": 1, "micro_batch": 2, "machine": GB200}, "torch-fsdp2"),
    "leading layers, 16": (LEADING, 16, {"tp": 1, "cp": 1, "etp": 1, "recompute": "full"}, "megatron-2026"),
    "hybrid, 50": (HYBRID, 50, {"tp": 1, "cp": 1, "etp": 1, "recompute": "selective"}, "megatron-2026"),
    "little memory": (DENSE, 16, {"cp": 1, "offload": "optimizer", "pp": 2, "tp": 2, "memory": 0.2}, "megatron-2026"),
    "FSDP of 2023": (DENSE, 50, {}, "fsdp-2023"),
    "JAX": (DENSE, 24, {"recompute": "full", "cp_kind": "ring"}, "jax-2024"),
    "Megatron of 2022": (MIXTURE, 24, {}, "megatron-2022"),
    "stages inside": (DENSE, 48, {"order": "tp-cp-pp-dp", "recompute": "none", "tp": 4}, "megatron-2026"),
    "DualPipe": (
        LEADING,
        32,
        {"schedule": "dualpipe", "tp": 1, "offload": "none", "cp": 1, "recompute": "none"},
        "megatron-2026+",
    ),
    "zero bubble": (DENSE, 36, {"schedule": "zero-bubble", "cp": 1, "recompute": "none"}, "automodel-2026"),
    "no overlap": (
        MIXTURE,
        16,
        {"ep_overlap": False, "cuda_graphs": "none", "recompute": "none", "cp": 1, "etp": 1},
        "megatron-2026",
    ),
    "thin": (MIXTURE, 60, {"thorough": False}, "megatron-2026"),
    "groups of eight": (
        DENSE,
        32,
        {"shard_size": 8, "sharding": "zero3", "cp": 1, "recompute": "none"},
        "megatron-2026",
    ),
}


@cache
def whole_space(name):
    """Problem, constraints and layouts of a whole space, for the time of a step."""
    model, size, given, software = WHOLE[name]
    fixed = dict(given)
    machine = {key: fixed.pop(key) for key in ("machine", "memory") if key in fixed}
    config = StepConfig(global_batch=48, seq_len=4096, precision=fixed.pop("precision", "bf16"))
    constraints = SearchConstraints(**fixed)
    problem = reference.problem_of(model, config, cluster(size, **machine), profile(software), constraints)
    return problem, constraints, list(reference.layouts(problem))


def whole_case(name, objective):
    problem, constraints, layouts = whole_space(name)
    problem, constraints = replace(problem, objective=objective), replace(constraints, objective=objective)
    return worked_out(f"{name}, {objective}", problem, constraints, layouts)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        *((name, Objective.TIME) for name in WHOLE),
        *((name, objective) for name in list(WHOLE)[:6] for objective in (Objective.COST, Objective.ENERGY)),
    ],
)
def test_best_layouts_of_whole_spaces(name, objective):
    case = whole_case(name, objective)
    found = search(*case.problem.specs, case.constraints, top=5)
    assert len(case.ranked())
    assert_same(case, found, top=5)
    if case.constraints.thorough:
        assert found.num_legal == np.count_nonzero(case.legal)


def bytes_of(found):
    columns = {name: values.tobytes() for name, values in found.columns.items()}
    return pickle.dumps(
        (found.best, found.top, found.pareto, found.num_layouts, found.num_ties, found.nearest, columns)
    )


@pytest.mark.parametrize("name", ["mixture, 36", "little memory", "thin"])
def test_the_answer_depends_on_nothing_but_the_question(name, monkeypatch):
    """Byte by byte the same: twice in a row, and with one thread for the two."""
    case = whole_case(name, Objective.TIME)
    first, again = (search(*case.problem.specs, case.constraints) for _ in range(2))
    monkeypatch.setattr(engine, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    alone = search(*case.problem.specs, case.constraints)
    assert bytes_of(first) == bytes_of(again) == bytes_of(alone)
