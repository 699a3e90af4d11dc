"""What a framework profile lacks: key by key, one layout that needs it and one that does not."""

import random
from dataclasses import replace

import numpy as np
import pytest

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.search import search
from makespan.specs.layout import (
    ContextKind,
    CudaGraphs,
    Layout,
    LayoutStatus,
    Offload,
    RankOrder,
    Recompute,
    Schedule,
    Sharding,
)
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, step_estimate
from makespan.step.features import FEATURES, JOB_FEATURES, KEYS, everything, lacking
from makespan.step.legality import unsupported

DENSE = catalog.model("llama3.1-8b").spec  # 32 layers
MIXTURE = catalog.model("mixtral-8x7b").spec
CONFIG = StepConfig(global_batch=256, seq_len=8192, precision="bf16")
CLUSTER = parse_cluster("256xh100-sxm")
NAMES = catalog.names("framework")
FSDP = {"sharding": Sharding.ZERO3}
AWAY = {"offload": Offload.ACTIVATIONS}
HIDDEN = {"ep": 4, "dp": 8, "ep_overlap": True}

NEEDS = {
    "tensor_parallel": (Layout(tp=2), Layout(pp=2)),
    "pipeline_parallel": (Layout(pp=2), Layout(tp=2)),
    "interleaving": (Layout(pp=2, vpp=2), Layout(pp=2)),
    "context_parallel": (Layout(cp=2), Layout(dp=2)),
    "cp_all_to_all": (Layout(cp=2, cp_kind=ContextKind.ALL_TO_ALL), Layout(cp=1, cp_kind=ContextKind.ALL_TO_ALL)),
    "expert_parallel": (Layout(dp=2, ep=2), Layout(dp=2)),
    "expert_tensor_parallel": (Layout(dp=2, etp=2), Layout(tp=2)),
    "expert_with_tensor_parallel": (Layout(tp=2, dp=2, ep=2), Layout(dp=2, ep=2)),
    "zero1": (Layout(sharding=Sharding.ZERO1), Layout(sharding=Sharding.ZERO2)),
    "zero2": (Layout(sharding=Sharding.ZERO2), Layout(sharding=Sharding.ZERO3)),
    "zero3": (Layout(**FSDP), Layout(sharding=Sharding.ZERO2)),
    "hsdp": (Layout(dp=8, shard_size=4, **FSDP), Layout(dp=8, **FSDP)),
    "zero2_pipeline": (Layout(pp=2, sharding=Sharding.ZERO2), Layout(pp=2, **FSDP)),
    "zero3_pipeline": (Layout(pp=2, **FSDP), Layout(pp=1, **FSDP)),
    "zero3_expert": (Layout(dp=2, ep=2, **FSDP), Layout(dp=2, ep=2)),
    "one_f_one_b": (Layout(pp=2, vpp=2), Layout(pp=1)),
    "gpipe": (Layout(pp=2, schedule=Schedule.GPIPE), Layout(pp=2)),
    "zero_bubble": (Layout(pp=2, schedule=Schedule.ZERO_BUBBLE), Layout(pp=2)),
    "dualpipe": (Layout(pp=2, schedule=Schedule.DUALPIPE), Layout(pp=2)),
    "ep_overlap": (Layout(**HIDDEN), Layout(ep=4, dp=8)),
    "ep_overlap_one_chunk": (Layout(pp=2, **HIDDEN), Layout(pp=2, vpp=2, **HIDDEN)),
    "ep_overlap_full_recompute": (
        Layout(recompute=Recompute.FULL, **HIDDEN),
        Layout(recompute=Recompute.EXPERTS, **HIDDEN),
    ),
    "partial_graphs": (Layout(cuda_graphs=CudaGraphs.PARTIAL), Layout(cuda_graphs=CudaGraphs.FULL)),
    "full_graphs": (Layout(cuda_graphs=CudaGraphs.FULL), Layout(cuda_graphs=CudaGraphs.PARTIAL)),
    "zero3_graphs": (Layout(cuda_graphs=CudaGraphs.PARTIAL, **FSDP), Layout(cuda_graphs=CudaGraphs.PARTIAL)),
    "offload_optimizer": (Layout(offload=Offload.OPTIMIZER | Offload.ACTIVATIONS), Layout(**AWAY)),
    "offload_activations": (Layout(**AWAY), Layout(offload=Offload.OPTIMIZER)),
    "offload_activations_pipeline": (Layout(pp=2, **AWAY), Layout(pp=2, offload=Offload.OPTIMIZER)),
    "offload_activations_recompute": (Layout(recompute=Recompute.FULL, **AWAY), Layout(**AWAY)),
    "offload_activations_graphs": (Layout(cuda_graphs=CudaGraphs.FULL, **AWAY), Layout(**AWAY)),
    "selective_recompute": (Layout(recompute=Recompute.SELECTIVE), Layout(recompute=Recompute.NORM)),
    "core_attention_recompute": (Layout(recompute=Recompute.CORE_ATTENTION), Layout(recompute=Recompute.FULL)),
    "module_recompute": (
        Layout(recompute=Recompute.NORM | Recompute.CORE_ATTENTION),
        Layout(recompute=Recompute.FULL | Recompute.NORM),
    ),
    "pp_inside_dp": (Layout(pp=2, dp=2, order=RankOrder.TP_CP_PP_DP), Layout(dp=2, order=RankOrder.TP_CP_PP_DP)),
    "pp_inside_dp_regrouped": (
        Layout(cp=2, pp=2, dp=2, order=RankOrder.TP_CP_PP_DP),
        Layout(tp=2, pp=2, dp=2, order=RankOrder.TP_CP_PP_DP),
    ),
    "cp_outside_dp": (Layout(cp=2, dp=2, order=RankOrder.TP_DP_CP_PP), Layout(cp=2, dp=2)),
}
"""A layout that needs a key, and a near one that does not."""

JOB_NEEDS = {
    "expert_tensor_apart": (MIXTURE, Layout(tp=2, dp=2), Layout(tp=2, etp=2, dp=2)),
    "full_graphs_moe": (MIXTURE, Layout(cuda_graphs=CudaGraphs.FULL), Layout(cuda_graphs=CudaGraphs.PARTIAL)),
    "uneven_batch": (DENSE, Layout(dp=60), Layout(dp=64, micro_batch=2)),  # 256 = 60 * 4 + 16
    "uneven_stages": (DENSE, Layout(pp=3), Layout(pp=3, vpp=2)),  # 32 layers
    "uneven_chunks": (DENSE, Layout(pp=4, vpp=3), Layout(pp=4, vpp=4)),
    "uneven_interleaving": (DENSE, Layout(pp=4, vpp=2, dp=24), Layout(pp=4, vpp=2, dp=32)),  # 11 and 8 micro-batches
}


def lacks(key, layout, model=DENSE):
    """Whether a profile that lacks just this key refuses the layout: as a column, and as plain numbers."""
    profile = replace(catalog.framework("megatron-2026").spec, supports={key: False})
    [[one]] = [unsupported(model, CONFIG, CLUSTER, profile, LayoutArrays.of([layout]))]
    alone = unsupported(model, CONFIG, CLUSTER, profile, LayoutArrays.alone(layout))
    assert bool(one) == bool(alone)
    return bool(one)


def test_every_key_is_tested_here():
    assert set(NEEDS) == set(FEATURES)
    assert set(JOB_NEEDS) == set(JOB_FEATURES)


@pytest.mark.parametrize("key", NEEDS)
def test_a_key_refuses_the_layouts_that_need_it(key):
    needing, other = NEEDS[key]

    assert lacks(key, needing)
    assert not lacks(key, other)


@pytest.mark.parametrize("key", JOB_NEEDS)
def test_a_key_that_asks_the_model_or_the_batch(key):
    model, needing, other = JOB_NEEDS[key]

    assert lacks(key, needing, model)
    assert not lacks(key, other, model)


def test_dense_models_need_nothing_of_mixtures():
    assert not lacks("expert_tensor_apart", Layout(tp=2))
    assert not lacks("full_graphs_moe", Layout(cuda_graphs=CudaGraphs.FULL))


def test_everything_allows_every_layout_and_keeps_the_rest():
    profile = catalog.framework("fsdp-2023").spec
    opened = replace(profile, supports=everything(profile))

    assert lacking(DENSE, CONFIG, opened, LayoutArrays.of([Layout(tp=8, pp=4)])) == {}
    assert (opened.supports["mxfp8"], opened.supports["quantised_activations"]) == (False, False)
    assert all(opened.supports[key] for key in KEYS)


def test_masks_of_an_open_grid_broadcast():
    """A search gives every dimension an axis of its own."""
    profile = replace(catalog.framework("megatron-2026").spec, supports=dict.fromkeys(KEYS, False))
    flat = LayoutArrays.build(tp=[1, 1, 2, 2], pp=[1, 4, 1, 4], vpp=[1, 2, 1, 2], dp=3)
    columns = {name: np.array([[getattr(flat, name)[0]]]) for name in LayoutArrays.__dataclass_fields__}
    columns |= {"tp": np.array([[1], [2]]), "pp": np.array([[1, 4]]), "vpp": np.array([[1, 2]])}
    grid = LayoutArrays(**columns)

    for key, mask in lacking(DENSE, CONFIG, profile, grid).items():
        expected = lacking(DENSE, CONFIG, profile, flat)[key].reshape(2, 2)
        assert np.array_equal(np.broadcast_to(mask, (2, 2)), expected), key


def some_layout(draw):
    pp, sharding = draw.choice([1, 2, 3, 4]), draw.choice(list(Sharding))
    return Layout(
        tp=draw.choice([1, 2, 8]),
        pp=pp,
        cp=draw.choice([1, 1, 2]),
        dp=draw.choice([1, 2, 3, 4]),
        ep=draw.choice([1, 1, 2]),
        etp=draw.choice([1, 1, 2]),
        vpp=draw.choice([1, 2]) if pp > 1 else 1,
        micro_batch=draw.choice([1, 2]),
        schedule=draw.choice(list(Schedule)) if pp > 1 else Schedule.ONE_F_ONE_B,
        recompute=Recompute(draw.choice([0, 3, 4, 64, draw.randrange(64)])),
        sharding=sharding,
        cp_kind=draw.choice(list(ContextKind)),
        shard_size=draw.choice([0, 1]) if sharding is Sharding.ZERO3 else 0,
        offload=Offload(draw.choice([0, 0, 1, 2])),
        cuda_graphs=draw.choice(list(CudaGraphs)),
        ep_overlap=draw.random() < 0.3,
        order=draw.choice(list(RankOrder)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_refused_exactly_where_something_is_lacking(name):
    profile, draw = catalog.framework(name).spec, random.Random(name)
    opened = replace(profile, supports=everything(profile))
    refused = ran = 0
    for _ in range(150):
        model, layout = draw.choice([DENSE, MIXTURE]), some_layout(draw)
        free = step_estimate(model, CONFIG, CLUSTER, opened, layout)
        held = step_estimate(model, CONFIG, CLUSTER, profile, layout)
        needs = [key for key, mask in lacking(model, CONFIG, profile, LayoutArrays.of([layout])).items() if mask[0]]
        if free.status in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY):
            assert held.status is (LayoutStatus.NOT_SUPPORTED if needs else free.status)
            refused, ran = refused + bool(needs), ran + (not needs)
            if not needs:
                assert held.time_s == free.time_s
        else:
            assert held.status is free.status
    assert refused > 3


@pytest.mark.parametrize("model", [DENSE, MIXTURE], ids=["dense", "mixture"])
@pytest.mark.parametrize("name", NAMES)
def test_a_search_never_proposes_what_the_software_lacks(name, model):
    profile = catalog.framework(name).spec
    found = search(model, CONFIG, parse_cluster("64xh100-sxm"), profile, SearchConstraints(), top=5)
    proposed = [estimate.layout for estimate in (*found.top, *found.pareto)]

    assert proposed
    masks = lacking(model, CONFIG, profile, LayoutArrays.of(proposed))
    assert {key: str(proposed[int(mask.argmax())]) for key, mask in masks.items() if mask.any()} == {}
