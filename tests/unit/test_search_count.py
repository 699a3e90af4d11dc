"""The number of legal layouts against plain loops over every layout of small spaces, and against the search."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan import catalog
from makespan.search import search
from makespan.search.count import OF_CHOICES, OF_PIPES, OF_RANGE, OF_SIZES, count_legal
from makespan.search.engine import hunt
from makespan.search.problem import Problem
from makespan.search.space import Mesh, Pipe, Policy, space_of
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import ContextKind, CudaGraphs, Offload, RankOrder, Recompute, Schedule, Sharding
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays
from makespan.step.arrays import COLUMNS
from makespan.step.features import KEYS, everything, lacking
from makespan.step.grid import StateChoice
from makespan.step.legality import rules, structural_status
from makespan.step.memory import with_optimizer

H100 = catalog.accelerator("h100-sxm").spec
NO_HOST = replace(H100, host_bytes_per_s=0.0)
SMALL_DOMAIN = replace(H100, scale_up_domain_size=4)
MEGATRON = catalog.framework("megatron-2026").spec
FRAMEWORKS = sorted(path.stem for path in Path(catalog.__file__).parent.glob("data/frameworks/*.yaml"))
DENSE = ModelSpec(
    name="dense", num_layers=4, hidden=512, num_heads=4, num_kv_heads=2, head_dim=128, ffn_hidden=1024, vocab=1024
)
MOE = replace(DENSE, name="moe", num_layers=3, ffn_hidden=0, moe=MoeSpec(num_experts=6, top_k=2, expert_ffn=96))


def cluster(size, accelerator=H100):
    return ClusterSpec(
        name="test",
        accelerator=accelerator,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric("nvlink8-ib-rail").spec,
        num_accelerators=size,
    )


def problem_of(model, size, *, batch=24, seq_len=24, profile=MEGATRON, accelerator=H100, keep=1, **fixed):
    """keep : every so many-th policy and every other micro-batch is kept, so that plain loops stay short."""
    config = StepConfig(global_batch=batch, seq_len=seq_len, precision="bf16")
    constraints = SearchConstraints(**fixed)
    machine = cluster(size, accelerator)
    space = space_of(model, config, machine, profile, constraints)
    if keep > 1:
        space = replace(
            space, policies=both_ways(space, space.policies[::keep]), micro_batches=space.micro_batches[::2]
        )
    return Problem(
        model=model, config=config, cluster=machine, profile=profile, space=space, objective=constraints.objective
    )


def both_ways(space, policies):
    """The policies with overlap on and off, where the space has both."""
    alike = {replace(policy, ep_overlap=False) for policy in policies}
    return tuple(policy for policy in space.policies if replace(policy, ep_overlap=False) in alike)


def dps_of(problem, mesh, expert, pipe, micro_batch):
    """Every dp that is looked at, one by one."""
    space, size, batch = problem.space, problem.size, problem.config.global_batch
    ranks, own = mesh.tp * mesh.cp, expert[0] * expert[1]
    least = Fraction(str(space.min_used_fraction)) * min(Fraction(size, ranks * pipe.pp), Fraction(batch, micro_batch))
    found = [
        dp
        for dp in (range(1, size + 1) if space.dp is None else [space.dp])
        if ranks * dp % own == 0
        and ranks * pipe.pp * dp <= size
        and micro_batch * dp <= batch
        and (pipe.vpp == 1 or -(-batch // (micro_batch * dp)) >= pipe.pp)
        and (dp >= least or space.dp is not None)
    ]
    if not space.thin or not found:
        return found
    rounds = -(-batch // (micro_batch * found[-1]))
    return sorted({found[-1], min(dp for dp in found if -(-batch // (micro_batch * dp)) <= rounds)})


def plain_count(problem):
    """Every combination as a row, each held against the rules; rows that are one layout under two names count once."""
    space = problem.space
    sizes = [
        (m.tp, m.cp, int(m.cp_kind), e[0], e[1], p.pp, p.vpp, int(p.schedule), b, dp)
        for m in space.meshes
        for e in space.experts
        for p in space.pipes
        for b in space.micro_batches
        for dp in dps_of(problem, m, e, p, b)
    ]
    away = [
        int(p.offload) | int(c.offload_optimizer) for p in space.policies for c in space.choices for _ in space.orders
    ]
    rest = [
        (int(p.recompute), int(p.ep_overlap), int(p.cuda_graphs), int(c.sharding), c.shard_size, int(o))
        for p in space.policies
        for c in space.choices
        for o in space.orders
    ]
    if not sizes or not rest:
        return 0
    names = ("tp", "cp", "cp_kind", "ep", "etp", "pp", "vpp", "schedule", "micro_batch", "dp")
    names += ("recompute", "ep_overlap", "cuda_graphs", "sharding", "shard_size", "order", "offload")
    left, right = np.array(sizes), np.column_stack([rest, away])
    rows = np.concatenate([np.repeat(left, len(right), axis=0), np.tile(right, (len(left), 1))], axis=1)
    assert len(rows) < 3_000_000
    layouts = LayoutArrays.build(**dict(zip(names, rows.T, strict=True)))
    good = structural_status(problem.model, problem.config, problem.cluster, layouts) == 0
    for mask in lacking(problem.model, problem.config, problem.profile, layouts).values():
        good &= np.logical_not(mask)
    if len(space.orders) > 1:
        moved = ((layouts.order == 1) & (layouts.pp > 1)) | ((layouts.order == 2) & (layouts.cp > 1))
        same = np.logical_not(moved & (layouts.dp > 1))
        layouts = replace(layouts, order=np.where(same, 0, layouts.order))
    if len({policy.ep_overlap for policy in space.policies}) > 1:
        layouts = replace(layouts, ep_overlap=np.where(layouts.ep == 1, 0, layouts.ep_overlap))
    code = np.zeros(len(rows), dtype=np.int64)
    for name in COLUMNS:
        column = getattr(layouts, name)
        code = code * (int(column.max()) + 1) + column
    return len(np.unique(code[good]))


ALL = replace(MEGATRON, supports=everything(MEGATRON))
EVEN_TURNS = replace(MEGATRON, supports={**everything(MEGATRON), "uneven_interleaving": False})
EVEN_BATCH = replace(MEGATRON, supports={**everything(MEGATRON), "uneven_batch": False})
EVEN = replace(MEGATRON, supports={**everything(MEGATRON), "uneven_batch": False, "uneven_interleaving": False})
REGROUPS = replace(MEGATRON, supports={**everything(MEGATRON), "pp_inside_dp_regrouped": False})

CASES = {
    "dense": problem_of(DENSE, 13, keep=3),
    "mixture": problem_of(MOE, 8, keep=29),
    "one accelerator": problem_of(MOE, 1),
    "many, fixed sizes": problem_of(MOE, 200, batch=64, tp=2, cp=3, micro_batch=1, recompute="full"),
    "many, one stage": problem_of(DENSE, 97, batch=97, cp=1, pp=1, keep=5),
    "dp fixed": problem_of(MOE, 48, dp=6, batch=40, keep=29),
    "dp fixed beyond the batch": problem_of(MOE, 48, dp=6, batch=5),
    "thin": problem_of(MOE, 48, batch=100, seq_len=4096, thorough=False),
    "thin, awkward": problem_of(DENSE, 199, batch=77, seq_len=4096, thorough=False),
    "thin, dp fixed": problem_of(DENSE, 199, batch=77, seq_len=4096, thorough=False, dp=12),
    "thin, two ways": problem_of(
        DENSE, 30, batch=77, seq_len=4096, thorough=False, schedule="dualpipe", profile=ALL, min_used_fraction=0.2
    ),
    "thin, even": problem_of(MOE, 40, batch=48, seq_len=4096, thorough=False, profile=EVEN),
    "mostly idle": problem_of(DENSE, 24, min_used_fraction=0.1, tp=1, keep=9),
    "everything": problem_of(MOE, 12, profile=ALL, keep=37),
    "two ways": problem_of(DENSE, 60, batch=48, schedule="dualpipe", profile=ALL, keep=9, min_used_fraction=0.3),
    "two ways, even batch": problem_of(DENSE, 60, batch=48, schedule="dualpipe", profile=EVEN, keep=9),
    "no bubble": problem_of(DENSE, 60, batch=48, schedule="zero_bubble", profile=ALL, keep=9),
    "gpipe": problem_of(DENSE, 20, schedule="gpipe", profile=ALL, keep=9),
    "even turns": problem_of(DENSE, 60, batch=48, profile=EVEN_TURNS, tp=1, keep=9, min_used_fraction=0.4),
    "even batch": problem_of(DENSE, 60, batch=48, profile=EVEN_BATCH, tp=1, keep=9, min_used_fraction=0.4),
    "even": problem_of(MOE, 30, batch=48, profile=EVEN, tp=1, micro_batch=1, keep=61, min_used_fraction=0.4),
    "groups of domains": problem_of(DENSE, 80, batch=96, sharding="zero3", cp=2, profile=ALL, keep=9),
    "groups of six": problem_of(MOE, 36, shard_size=6, pp=1, keep=37, min_used_fraction=0.3),
    "groups of twelve": problem_of(DENSE, 70, batch=64, shard_size=12, sharding="zero3", profile=ALL, keep=9),
    "small domain": problem_of(MOE, 16, accelerator=SMALL_DOMAIN, keep=37),
    "no host link": problem_of(DENSE, 8, accelerator=NO_HOST, offload="optimizer+activations"),
    "optimizer on the host": problem_of(DENSE, 8, offload="optimizer", keep=5),
    "activations on the host": problem_of(DENSE, 8, offload="activations", keep=5),
    "overlap on": problem_of(MOE, 8, ep_overlap=True, keep=17),
    "graphs off": problem_of(MOE, 8, cuda_graphs="none", keep=17),
    "stages inside": problem_of(MOE, 12, order="tp-cp-pp-dp", keep=37),
    "stages inside, not regrouped": problem_of(
        MOE, 12, order="tp-cp-pp-dp", profile=REGROUPS, keep=37, min_used_fraction=0.1
    ),
    "not regrouped": problem_of(MOE, 12, profile=REGROUPS, keep=37, min_used_fraction=0.1),
    "context outside": problem_of(MOE, 12, order="tp-dp-cp-pp", profile=ALL, keep=37),
    "heads exchanged": problem_of(DENSE, 12, cp_kind="all_to_all", keep=9),
    "modules": problem_of(MOE, 6, recompute="norm+experts", keep=2),
    "uneven chunks": problem_of(DENSE, 12, pp=2, vpp=3, keep=3),
    "too many chunks": problem_of(DENSE, 12, pp=4, vpp=3),
    "no such experts": problem_of(DENSE, 12, ep=2),
    "no such stages": problem_of(DENSE, 12, pp=1, vpp=2),
    "wider than the cluster": problem_of(DENSE, 4, tp=8),
    "wider than the domain": problem_of(DENSE, 64, tp=16),
}
EMPTY = {
    "dp fixed beyond the batch",
    "no host link",
    "too many chunks",
    "no such experts",
    "no such stages",
    "wider than the cluster",
    "wider than the domain",
}


@pytest.mark.parametrize("name", CASES)
def test_the_count_is_that_of_plain_loops(name):
    expected = plain_count(CASES[name])
    assert (expected == 0) == (name in EMPTY)
    assert count_legal(CASES[name]) == expected


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize(("model", "size", "fixed"), [(DENSE, 11, {}), (MOE, 12, {"micro_batch": 1})])
def test_the_count_is_that_of_plain_loops_for_every_software(name, model, size, fixed):
    problem = problem_of(model, size, profile=catalog.framework(name).spec, keep=37, min_used_fraction=0.7, **fixed)
    expected = plain_count(problem)
    assert expected > 0
    assert count_legal(problem) == expected


@settings(max_examples=100, deadline=None)
@given(
    lacks=st.sets(st.sampled_from(KEYS), max_size=12),
    size=st.integers(1, 40),
    batch=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    seq_len=st.sampled_from([8, 12, 30]),
    mixture=st.booleans(),
    thin=st.booleans(),
    picked=st.randoms(use_true_random=False),
)
def test_the_count_is_that_of_plain_loops_for_any_software(lacks, size, batch, share, seq_len, mixture, thin, picked):
    """Some values of every dimension, whatever the software lacks."""
    model, fixed = (MOE if mixture else DENSE), {"min_used_fraction": share, "thorough": not thin}
    problem = problem_of(model, size, batch=batch, seq_len=seq_len, profile=ALL, **fixed)
    most = {"meshes": 4, "experts": 4, "pipes": 5, "micro_batches": 2, "policies": 5, "choices": 4}
    axes = {
        name: tuple(picked.sample(getattr(problem.space, name), min(number, len(getattr(problem.space, name)))))
        for name, number in most.items()
    }
    axes["policies"] = both_ways(problem.space, axes["policies"])
    profile = replace(ALL, supports={**ALL.supports, **dict.fromkeys(lacks, False)})
    problem = replace(problem, space=replace(problem.space, **axes), profile=profile)
    assert count_legal(problem) == plain_count(problem)


def one_of_each():
    """A space in which every key of `supports` decides on some layout."""
    problem = problem_of(MOE, 24, batch=22, seq_len=24, profile=ALL, min_used_fraction=0.6)
    recomputes = (Recompute.NONE, Recompute.SELECTIVE, Recompute.CORE_ATTENTION, Recompute.NORM, Recompute.FULL)
    ring, swapped = ContextKind.RING, ContextKind.ALL_TO_ALL
    pipes = [(1, 1, 0), (2, 1, 0), (3, 1, 0), (2, 2, 0), (3, 1, 1), (3, 1, 2), (2, 1, 3)]
    space = replace(
        problem.space,
        meshes=tuple(
            Mesh(tp=tp, cp=cp, cp_kind=kind)
            for tp, cp, kind in [(1, 1, ring), (2, 1, ring), (2, 2, ring), (2, 2, swapped)]
        ),
        experts=((1, 1), (3, 1), (1, 2), (2, 2), (1, 4), (2, 4)),
        pipes=tuple(Pipe(pp=pp, vpp=vpp, schedule=Schedule(code)) for pp, vpp, code in pipes),
        micro_batches=(1,),
        policies=tuple(
            Policy(recompute=recompute, offload=offload, ep_overlap=overlap, cuda_graphs=graphs)
            for recompute in recomputes
            for offload in (Offload.NONE, Offload.ACTIVATIONS)
            for overlap in (True, False)
            for graphs in CudaGraphs
        ),
        orders=tuple(RankOrder),
        choices=tuple(
            StateChoice(sharding=Sharding(stage), shard_size=size, offload_optimizer=away)
            for stage, size, away in [(0, 0, False), (1, 0, True), (2, 0, False), (3, 0, False), (3, 4, False)]
        ),
    )
    return replace(problem, space=space)


@pytest.mark.parametrize("key", KEYS)
def test_software_that_lacks_one_thing_has_fewer_layouts(key):
    whole = one_of_each()
    problem = replace(whole, profile=replace(ALL, supports={**ALL.supports, key: False}))
    expected = plain_count(problem)
    assert count_legal(problem) == expected < count_legal(whole)


def test_every_rule_is_looked_at():
    looked_at = [*OF_SIZES, *OF_PIPES, *OF_CHOICES, *OF_RANGE]
    alone = LayoutArrays.build()
    assert sorted(looked_at) == sorted(
        status for status, _ in rules(DENSE, StepConfig(global_batch=1, seq_len=8, precision="bf16"), cluster(1), alone)
    )


def test_a_space_counted_by_hand():
    """Two accelerators, a batch of two, no cutting of layers or sequences, one policy: what is left is tp, dp, sharding.

    tp 1 with dp 2; with dp 1 where a micro-batch takes both sequences and feeds no other replica. tp 2 with dp 1, one
    sequence or two at a time. Each with ZeRO 0 to 3: 16 layouts.
    """
    fixed = {"pp": 1, "cp": 1, "recompute": "none", "offload": "none", "cuda_graphs": "none"}
    problem = problem_of(DENSE, 2, batch=2, **fixed)
    assert count_legal(problem) == 16
    assert count_legal(problem_of(DENSE, 2, batch=2, sharding="zero1", **fixed)) == 4


def test_an_empty_dimension_leaves_nothing():
    problem = CASES["dense"]
    for axis in ("meshes", "experts", "pipes", "micro_batches", "policies", "orders", "choices"):
        assert count_legal(replace(problem, space=replace(problem.space, **{axis: ()}))) == 0
    assert count_legal(replace(problem, config=replace(problem.config, precision="nvfp4"))) == 0  # no such arithmetic


def test_a_million_accelerators_with_one_sequence_have_layouts():
    """With one sequence there is one replica: dp is 1, and all that is counted is the rest."""
    model = catalog.model("deepseek-v3").spec
    fixed = {"pp": 1, "ep": 1, "etp": 1, "recompute": "none", "offload": "none", "cuda_graphs": "none"}
    problem = problem_of(model, 1_000_000, batch=1, seq_len=4096, ep_overlap=False, sharding="none", **fixed)
    # tp divides 128 heads within a domain of 8; cp: 1, 2, ..., 2048 in rings, tp * cp dividing the sequence;
    # exchanged heads where tp * cp divides 128.
    rings = sum(4096 % (tp * cp) == 0 for tp in (1, 2, 4, 8) for cp in (2**k for k in range(12)))
    swapped = sum(128 % (tp * cp) == 0 for tp in (1, 2, 4, 8) for cp in (2**k for k in range(1, 12)))
    assert count_legal(problem) == rings + swapped
    assert count_legal(problem_of(model, 1_000_000, batch=1, seq_len=4096)) > rings + swapped


@pytest.mark.parametrize(
    ("model", "size", "profile", "fixed"),
    [
        (DENSE, 24, MEGATRON, {"recompute": "none"}),
        (DENSE, 24, MEGATRON, {"recompute": "none", "min_used_fraction": 0.2}),
        (DENSE, 24, REGROUPS, {"recompute": "none", "min_used_fraction": 0.2, "order": "tp-cp-pp-dp"}),
        (DENSE, 24, EVEN, {"recompute": "full", "min_used_fraction": 0.5}),
        (MOE, 16, MEGATRON, {"recompute": "none", "micro_batch": 2, "ep_overlap": True}),
        (MOE, 24, MEGATRON, {"recompute": "full", "micro_batch": 1, "ep_overlap": False}),
        (MOE, 24, MEGATRON, {"thorough": False, "ep_overlap": False}),
    ],
)
def test_a_search_that_leaves_nothing_out_looks_at_all(model, size, profile, fixed):
    """Memory without end, more layouts wanted than there are, and no free switch to be off: nothing is excluded."""
    machine = cluster(size, replace(H100, hbm_bytes=1e18))
    config = StepConfig(global_batch=24, seq_len=4096, precision="bf16")
    constraints = SearchConstraints(cuda_graphs="none", offload="none", **fixed)
    space = space_of(model, config, machine, profile, constraints)
    config = with_optimizer(config, profile)
    problem = Problem(
        model=model, config=config, cluster=machine, profile=profile, space=space, objective=constraints.objective
    )
    found = hunt(problem, machine.accelerator.hbm_bytes, top=1_000_000)
    assert found.num_layouts == count_legal(problem)


@pytest.mark.parametrize(("name", "size"), [("llama3.1-8b", 64), ("mixtral-8x7b", 100)])
def test_a_search_excludes_the_rest(name, size):
    model = catalog.model(name).spec
    config = StepConfig(global_batch=128, seq_len=4096, precision="bf16")
    machine, constraints = cluster(size), SearchConstraints(min_used_fraction=0.95)
    found = search(model, config, machine, MEGATRON, constraints)
    problem = problem_of(model, size, batch=128, seq_len=4096, min_used_fraction=0.95)
    assert found.num_legal == count_legal(problem)
    assert 0 < found.num_layouts < found.num_legal
