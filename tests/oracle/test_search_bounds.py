"""No bound of the search is above the layout it stands for: every layout of many random small spaces, all at once."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from makespan import catalog
from makespan.search import reference
from makespan.search.blocks import refined
from makespan.search.bounds import bare_sizes, cut, factors, families, with_policies
from makespan.search.floors import floors
from makespan.search.problem import family_columns
from makespan.specs.layout import Offload, RankOrder, Schedule, Sharding
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step.evaluate import jitter_factor
from makespan.step.grid import Grid
from search_fixture import cluster, profile, some_case, worked_out

SEEDS = 240
SLACK = 1.0 + 1e-12
"""The last digits: bounds and times add up in another order."""


class Bounds:
    """All bounds of a case's space, and which of them stand for which layout."""

    def __init__(self, case, *, limit_bytes=math.inf, dp_at_a_time=3):
        self.problem, self.dp_at_a_time = case.problem, dp_at_a_time
        space = self.problem.space
        self.known = factors(self.problem)
        self.bare, _ = bare_sizes(self.problem, self.known)
        self.floors = floors(self.problem, self.bare, limit_bytes)
        self.sizes = with_policies(self.problem, self.known, self.bare, math.inf)
        self.families = families(self.problem, self.known, self.floors, self.sizes, math.inf)
        self.added, _ = refined(self.problem, self.sizes, self.families, limit_bytes)
        self.pieces, self.of_family = cut(self.problem, self.sizes, self.families, dp_at_a_time)
        size, sizes = self.families.size, self.sizes
        names = ("mesh", "expert", "place", "recompute", "offload", "ep_overlap", "cuda_graphs")
        keys = [*(getattr(sizes, name)[size].tolist() for name in names)]
        keys += [self.families.pipe.tolist(), self.families.order.tolist()]
        self.family = {key: row for row, key in enumerate(zip(*keys, strict=True))}
        bare = (self.bare.mesh.tolist(), self.bare.expert.tolist(), self.bare.place.tolist())
        self.bare_of = dict(zip(zip(*bare, strict=True), self.bare.floor.tolist(), strict=True))
        self.mesh = {(m.tp, m.cp, m.cp_kind): place for place, m in enumerate(space.meshes)}
        self.expert = {pair: place for place, pair in enumerate(space.experts)}
        self.place = {batch: place for place, batch in enumerate(space.micro_batches)}
        self.pipe = {(p.pp, p.vpp, p.schedule): place for place, p in enumerate(space.pipes)}
        self.choice = {(c.sharding, c.shard_size, c.offload_optimizer): place for place, c in enumerate(space.choices)}

    def of(self, layout):
        """(mesh, expert, place of the micro-batch, pipe, choice) of a layout."""
        return (
            self.mesh[layout.tp, layout.cp, layout.cp_kind],
            self.expert[layout.ep, layout.etp],
            self.place[layout.micro_batch],
            self.pipe[layout.pp, layout.vpp, layout.schedule],
            self.choice[layout.sharding, layout.shard_size, bool(layout.offload & Offload.OPTIMIZER)],
        )

    def row(self, layout):
        """Its family."""
        mesh, expert, place, pipe, _ = self.of(layout)
        switches = (int(layout.ep_overlap), int(layout.cuda_graphs))
        policy = (int(layout.recompute), int(layout.offload & Offload.ACTIVATIONS), *switches)
        return self.family[mesh, expert, place, *policy, pipe, int(layout.order)]

    def piece(self, row, dp):
        """The piece of a family with this dp."""
        number = (dp // int(self.families.unit[row]) - int(self.families.least[row])) // self.dp_at_a_time
        found = int(np.searchsorted(self.of_family, row)) + number
        least, most = (int(getattr(self.pieces, name)[found] * self.pieces.unit[found]) for name in ("least", "most"))
        assert self.of_family[found] == row
        assert least <= dp <= most
        return found


def spent(case, seconds, layout):
    """Seconds that a layout takes anyhow, in the objective; nothing works in them."""
    problem, used = case.problem, layout.num_accelerators
    busy = seconds * float(jitter_factor(problem.profile, used, precision=problem.config.precision))
    idle_w = problem.cluster.node.idle_per_accelerator_w
    return {Objective.TIME: busy, Objective.COST: busy * used, Objective.ENERGY: busy * used * idle_w}[
        problem.objective
    ]


def in_units(case, seconds):
    """`Floors.exposed` counts accelerator time where the objective is energy."""
    energy = case.problem.objective is Objective.ENERGY
    return seconds * (case.problem.cluster.node.idle_per_accelerator_w if energy else 1.0)


def test_no_bound_is_above_the_layout_it_stands_for():
    checked = Counter()
    for seed in range(SEEDS):
        case = some_case(seed)
        if not case.legal.any():
            continue
        bounds = Bounds(case)
        cells = len(case.problem.space.experts)
        for index in np.flatnonzero(case.legal).tolist():
            layout, value, name = case.layouts[index], float(case.value[index]), f"{case.name}: {case.layouts[index]}"
            mesh, expert, place, pipe, choice = bounds.of(layout)
            row = bounds.row(layout)
            unit = bounds.families.unit[row]
            assert bounds.families.least[row] * unit <= layout.dp <= bounds.families.most[row] * unit, name
            assert bounds.bare_of[mesh, expert, place] <= value * SLACK, name
            assert bounds.families.floor[row] <= value * SLACK, name
            exposed = in_units(case, float(bounds.floors.exposed[mesh * cells + expert, pipe]))
            assert exposed <= spent(case, float(case.exposed_s[index]), layout) * SLACK, name
            more = bounds.added[row, choice]
            if math.isinf(more):
                assert case.idle[index], name
                continue
            assert bounds.families.bare[row] + more <= value * SLACK, name
            assert bounds.pieces.bare[bounds.piece(row, layout.dp)] + more <= value * SLACK, name
            checked.update([case.problem.objective.name, layout.schedule.name, layout.order.name, layout.sharding.name])
            checked.update(["hsdp"] * (layout.shard_size > 0) + ["interleaved"] * (layout.vpp > 1))
    kinds = [each.name for kind in (Objective, Schedule, RankOrder, Sharding) for each in kind]
    assert min(checked[kind] for kind in [*kinds, "hsdp", "interleaved"]) > 20
    assert sum(checked[objective.name] for objective in Objective) > 5000


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize(("name", "ep"), [("llama3.1-8b", 1), ("mixtral-8x7b", 8)])
@pytest.mark.parametrize(("batch", "size", "micro_batch"), [(96, 1000, 2), (500, 720, 2), (500, 720, 5)])
def test_groups_of_fsdp_hide_their_sums_the_better_the_more_micro_batches_there_are(
    objective, name, ep, batch, size, micro_batch
):
    """Gradients are summed over the groups once a step, behind every backward pass; a wide range of dp, cut into pieces."""
    fixed = {"tp": 1, "pp": 1, "cp": 1, "ep": ep, "etp": 1, "micro_batch": micro_batch, "offload": "none"}
    groups = {"sharding": "zero3", "shard_size": 8, "recompute": "none", "cuda_graphs": "full", "ep_overlap": ep > 1}
    constraints = SearchConstraints(objective=objective, min_used_fraction=0.4, **fixed, **groups)
    model = replace(catalog.model(name).spec, num_layers=4, vocab=1024)
    config = StepConfig(global_batch=batch, seq_len=2048, precision="bf16")
    machines = cluster(size, ("b200-sxm", "hgx-b200", "nvlink8-b200-ib"))
    problem = reference.problem_of(model, config, machines, profile("torch-fsdp2+"), constraints)
    case = worked_out(name, problem, constraints, list(reference.layouts(problem)))
    bounds = Bounds(case)
    assert np.count_nonzero(case.legal) > 2
    for index in np.flatnonzero(case.legal).tolist():
        layout = case.layouts[index]
        row, choice = bounds.row(layout), bounds.of(layout)[4]
        floor = bounds.pieces.bare[bounds.piece(row, layout.dp)] + bounds.added[row, choice]
        assert floor <= case.value[index] * SLACK, layout


def test_no_dp_of_a_family_takes_less_time_or_memory_than_its_floors():
    """Floors of time count without jitter. Data parallelism inside context parallelism is left out: dp then moves layers."""
    for seed in range(1000, 1120):
        case = some_case(seed)
        if not case.legal.any() or RankOrder.TP_DP_CP_PP in case.problem.space.orders:
            continue
        bounds = Bounds(case)
        rows = family_columns(case.problem, bounds.sizes, bounds.families)
        fewest = bounds.families.least * bounds.families.unit
        grid = Grid(*case.problem.specs, rows, fewest=fewest)
        shape = (len(fewest),)
        least = [tuple(np.broadcast_to(v, shape) for v in grid.floor_under(c)) for c in case.problem.space.choices]
        for index in np.flatnonzero(case.legal).tolist():
            layout, name = case.layouts[index], f"{case.name}: {case.layouts[index]}"
            row, choice = bounds.row(layout), bounds.of(layout)[4]
            jitter = jitter_factor(
                case.problem.profile, layout.num_accelerators, precision=case.problem.config.precision
            )
            quiet_s, needs = (float(values[row]) for values in least[choice])
            assert quiet_s * float(jitter) <= case.time_s[index] * SLACK, name
            assert needs <= case.memory_bytes[index] * SLACK, name


def test_what_fits_is_never_left_out_for_its_memory():
    """The memory of the accelerator is set between those that layouts of the space need."""
    for seed in range(2000, 2050):
        case = some_case(seed)
        if not case.legal.any():
            continue
        for share in (0.0, 0.1, 0.5):
            limit = float(np.quantile(case.memory_bytes[case.legal], share)) * (1.0 + 1e-9)
            bounds = Bounds(case, limit_bytes=limit)
            for index in np.flatnonzero(case.legal & (case.memory_bytes <= limit)).tolist():
                layout = case.layouts[index]
                possible = np.isfinite(bounds.added[bounds.row(layout), bounds.of(layout)[4]])
                assert possible or case.idle[index], f"{case.name}: {layout}"


def test_a_bound_is_sharp_where_nothing_is_left_out():
    """Pipelines apart, the last bound of a family with a single dp is its value: bounds are not sound by being small."""
    shares = []
    for seed in range(3000, 3040):
        case = some_case(seed)
        case = replace(case, problem=replace(case.problem, space=replace(case.problem.space, thin=False)))
        bounds = Bounds(case)
        for index in np.flatnonzero(case.legal).tolist():
            layout = case.layouts[index]
            row, choice = bounds.row(layout), bounds.of(layout)[4]
            if bounds.families.least[row] == bounds.families.most[row] and layout.order is RankOrder.TP_CP_DP_PP:
                shares.append((bounds.families.bare[row] + bounds.added[row, choice]) / case.value[index])
    finite = np.array(shares)[np.isfinite(shares)]
    assert len(finite) > 200
    assert np.median(finite) == pytest.approx(1.0, abs=1e-6)
