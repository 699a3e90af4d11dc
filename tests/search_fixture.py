"""Small search problems, drawn at random, with every layout worked out: what the fast search is held against."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from makespan import catalog
from makespan.search import engine, reference
from makespan.search.objectives import objective_values, working_s
from makespan.search.problem import Problem
from makespan.search.space import Pipe
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import Layout, LayoutStatus, RankOrder, Schedule
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate
from makespan.step.arrays import COLUMNS
from makespan.step.features import everything
from makespan.step.legality import has_precision

MODELS = (
    *("llama3.1-8b", "llama3.1-405b", "gpt3-175b", "nemotron-4-340b", "nemotron-h-56b", "nemotron-3-super-120b-a12b"),
    *(
        "deepseek-v3",
        "glm-4.5",
        "gpt-oss-20b",
        "grok-2",
        "llama-4-maverick",
        "mixtral-8x7b",
        "qwen3-30b-a3b",
        "kimi-k2",
    ),
)
MACHINES = (
    ("h100-sxm", "hgx-h100", "nvlink8-ib-rail"),
    ("h100-sxm", "hgx-h100", "roce-3tier"),
    ("gb200", "gb200-nvl72", "nvlink72-ib-rail"),
    ("gb300", "gb300-nvl72", "nvlink72-ib-800g"),
    ("a100-sxm-80gb", "hgx-a100", "nvlink8-a100-roce"),
    ("mi300x", "mi300x-8", "infinity8-roce"),
    ("b200-sxm", "hgx-b200", "nvlink8-b200-ib"),
    ("tpu-v6e", "tpu-v6e-host", "ici-torus-2d"),
)
PROFILES = (
    *("megatron-2026", "megatron-2024", "megatron-2022", "torch-fsdp2", "fsdp-2023", "jax-2024", "automodel-2026"),
    *("megatron-2026+", "torch-fsdp2+", "jax-2024+", "megatron-2022+"),
)
"""A plus stands for the same software, were it to support every layout."""

FEW = (8, 12, 16, 24, 36, 50, 60, 64, 72)
MANY = (96, 100, 128, 144, 288, 300, 720, 1000, 1024, 4096, 16384, 100_000)


@cache
def profile(name):
    spec = catalog.framework(name.removesuffix("+")).spec
    return replace(spec, name=name, supports=everything(spec)) if name.endswith("+") else spec


@cache
def cluster(num_accelerators, machine=MACHINES[0], memory=1.0):
    accelerator, node, fabric = machine
    spec = catalog.accelerator(accelerator).spec
    return ClusterSpec(
        name="test",
        accelerator=replace(spec, hbm_bytes=spec.hbm_bytes * memory),
        node=catalog.node(node).spec,
        fabric=catalog.fabric(fabric).spec,
        num_accelerators=num_accelerators,
    )


def some_model(draw):
    """A model of the catalog cut to few layers, sometimes narrower, with another vocabulary or other prediction layers."""
    model = catalog.model(draw.choice(MODELS)).spec
    if model.pattern:
        pattern = model.pattern[: draw.choice([9, 12])]
        return replace(model, num_layers=len(pattern), pattern=pattern)
    layers, moe = draw.choice([2, 3, 4, 5, 6, 7, 8, 10, 12, 16, model.num_layers]), model.moe
    if moe is not None:
        layers += layers % moe.every
        dense = draw.choice([0, 1, 2, moe.num_dense_first_layers]) if model.ffn_hidden and moe.every == 1 else 0
        moe = replace(moe, num_dense_first_layers=min(dense, layers - 1))
    return replace(
        model,
        num_layers=layers,
        moe=moe,
        hidden=max(model.hidden // draw.choice([1, 1, 2, 4]), 256),
        vocab=draw.choice([model.vocab, 1024, 512_000]),
        mtp_layers=draw.choice([0, model.mtp_layers, 1, 2]),
    )


def _some(draw, values, most):
    places = sorted(draw.sample(range(len(values)), min(most, len(values))))
    return tuple(values[place] for place in places)


def _some_policies(draw, policies):
    """Some recompute policies, with or without offloading, a switch open or fixed."""

    def keep(name, most):
        values = sorted({getattr(policy, name) for policy in policies})
        return set(_some(draw, values, most))

    kept = {
        "recompute": keep("recompute", draw.choice([1, 2, 3])),
        "offload": keep("offload", draw.choice([1, 2])),
        "ep_overlap": keep("ep_overlap", draw.choice([1, 2, 2, 2])),
        "cuda_graphs": keep("cuda_graphs", draw.choice([1, 2, 2, 2])),
    }
    return tuple(p for p in policies if all(getattr(p, name) in values for name, values in kept.items()))


def _some_orders(draw, space, supports):
    chosen = draw.random()
    if chosen < 0.1 and supports.get("cp_outside_dp", True):
        return (RankOrder.TP_DP_CP_PP,)
    return _some(draw, space.orders, 1) if chosen < 0.3 else space.orders


def _smaller(draw, space, supports):
    """A few values of every dimension."""
    policies, pipes = _some_policies(draw, space.policies), _some(draw, space.pipes, 4)
    if draw.random() < 0.1 and supports.get("gpipe", True):
        pipes += tuple(Pipe(pp=pp, vpp=1, schedule=Schedule.GPIPE) for pp in sorted({p.pp for p in pipes}) if pp > 1)
    return replace(
        space,
        meshes=_some(draw, space.meshes, 3),
        experts=_some(draw, space.experts, 3),
        pipes=pipes,
        micro_batches=_some(draw, space.micro_batches, 2),
        policies=policies,
        choices=_some(draw, space.choices, 3),
        orders=_some_orders(draw, space, supports),
        ep_overlap=max(policy.ep_overlap for policy in policies),
        cuda_graphs=max(policy.cuda_graphs for policy in policies),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A problem with all its layouts worked out, one row each.

    status : codes, memory looked at.   value : the objective; NaN where there is no time.
    idle : a free switch is left off (`reference.leaves_switch_off`).
    """

    name: str
    problem: Problem
    constraints: SearchConstraints
    layouts: list[Layout]
    rows: LayoutArrays
    status: np.ndarray
    time_s: np.ndarray
    memory_bytes: np.ndarray
    exposed_s: np.ndarray
    value: np.ndarray

    @cached_property
    def legal(self):
        return np.isin(self.status, [int(LayoutStatus.OK), int(LayoutStatus.OUT_OF_MEMORY)])

    @cached_property
    def idle(self):
        return np.array(
            [
                runs and reference.leaves_switch_off(self.problem, layout)
                for runs, layout in zip(self.legal.tolist(), self.layouts, strict=True)
            ],
            dtype=np.bool_,
        )

    @property
    def limit_bytes(self):
        return self.problem.cluster.accelerator.hbm_bytes * (1.0 - self.constraints.memory_headroom)

    def ranked(self):
        """Places of the layouts that run, fit, and leave no free switch off, best first."""
        good = np.flatnonzero((self.status == 0) & np.logical_not(self.idle))
        keys = [getattr(self.rows, name) for name in reversed(COLUMNS)]
        keys += [self.memory_bytes, self.rows.num_accelerators, self.value]
        return good[np.lexsort([key[good] for key in keys])]

    def search(self, monkeypatch, *, top, front=True):
        """What the engine finds in this space. A thin search before it looks at all of it, dp apart."""
        space = self.problem.space
        with monkeypatch.context() as patch:
            patch.setattr(engine, "space_of", lambda *specs: replace(space, thin=space.thin or not specs[-1].thorough))
            return engine.search(*self.problem.specs, self.constraints, top=top, front=front)


def worked_out(name, problem, constraints, layouts):
    rows = LayoutArrays.of(layouts)
    found = evaluate(*problem.specs, rows, memory_headroom=constraints.memory_headroom, detail=True)
    runs = np.flatnonzero(np.isfinite(found.time_s))
    working = None
    if problem.objective is Objective.ENERGY:
        working = np.full(len(rows), np.nan)
        if len(runs):
            update = found.detail["time.optimizer"][runs]
            working[runs] = working_s(*problem.specs, rows.take(runs), optimizer_s=update)
    shown = np.zeros(len(rows))
    if len(runs):
        shown = found.detail["time.dp"] + found.detail["time.fsdp"]
    return Case(
        name=name,
        problem=problem,
        constraints=constraints,
        layouts=layouts,
        rows=rows,
        status=found.status,
        time_s=found.time_s,
        memory_bytes=found.memory_bytes,
        exposed_s=shown,
        value=objective_values(
            problem.objective,
            problem.cluster,
            time_s=found.time_s,
            num_accelerators=rows.num_accelerators,
            working_s=working,
        ),
    )


def some_problem(draw, *, sizes=FEW + MANY):
    """A random model, machine, software and job, and constraints."""
    machine, software = draw.choice(MACHINES), profile(draw.choice(PROFILES))
    machines = cluster(draw.choice(sizes), machine, draw.choice([1.0, 1.0, 1.0, 0.3, 10.0]))
    model = some_model(draw)
    can = [p for p in ("fp8", "nvfp4", "mxfp8") if has_precision(machines.accelerator, p) and software.supports.get(p)]
    config = StepConfig(
        global_batch=draw.choice([1, 3, 7, 8, 16, 24, 48, 60, 64, 90, 96, 100, 128, 500, 512, 1024, 4096, 16384]),
        seq_len=draw.choice([2048, 4096, 6144, 8192, 32768, 131072]),
        precision=draw.choice(["bf16", "bf16", *can]),
        load_imbalance=draw.choice([1.0, 1.0, 1.4]),
    )
    constraints = SearchConstraints(
        objective=draw.choice(list(Objective)),
        thorough=draw.random() < 0.85,
        min_used_fraction=draw.choice([0.9, 0.9, 0.5, 0.97, 1.0]),
        memory_headroom=draw.choice([0.05, 0.0, 0.2]),
        dp=draw.choice([None] * 6 + [1, 2, 4, 8, 12]),
    )
    return reference.problem_of(model, config, machines, software, constraints), constraints


def some_case(seed, *, sizes=FEW + MANY, most=2500):
    """A problem whose space is so small that every layout can be worked out."""
    draw = random.Random(seed)
    while True:
        problem, constraints = some_problem(draw, sizes=sizes)
        if problem.space.is_empty:
            continue
        problem = replace(problem, space=_smaller(draw, problem.space, problem.profile.supports))
        layouts = []
        for layout in reference.layouts(problem):
            layouts.append(layout)
            if len(layouts) > most:
                break
        if 0 < len(layouts) <= most:
            name = f"seed {seed}: {problem.model.name} on {problem.size} {problem.cluster.fabric.name}, {problem.profile.name}"
            return worked_out(name, problem, constraints, layouts)
