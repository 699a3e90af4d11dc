"""The space on which the speed of the search is judged is the one that the search looks at."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from makespan import catalog
from makespan.search.space import Space, space_of
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import CudaGraphs, Offload
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig

FILE = YAML(typ="safe").load(Path(__file__).resolve().parents[2] / "benchmarks" / "search_space.yaml")


def space(name: str, size: int) -> Space:
    run = FILE["runs"][name]
    cluster = ClusterSpec(
        name="judged",
        accelerator=catalog.accelerator(FILE["accelerator"]).spec,
        node=catalog.node(FILE["node"]).spec,
        fabric=catalog.fabric(FILE["fabric"]).spec,
        num_accelerators=size,
    )
    config = StepConfig(global_batch=run["global_batch"], seq_len=run["seq_len"], precision=run["precision"])
    constraints = SearchConstraints(
        min_used_fraction=FILE["min_used_fraction"], memory_headroom=FILE["memory_headroom"]
    )
    return space_of(catalog.model(name).spec, config, cluster, catalog.framework(FILE["framework"]).spec, constraints)


@pytest.mark.parametrize("size", FILE["accelerators"])
@pytest.mark.parametrize("name", FILE["runs"])
def test_the_space_of_the_file_is_the_space_that_is_searched(name, size):
    run, found = FILE["runs"][name], space(name, size)
    hosts = {
        "+".join(part.name.lower() for part in Offload if part & (policy.offload | int(choice.offload_optimizer)))
        or "none"
        for policy in found.policies
        for choice in found.choices
    }

    assert sorted({mesh.tp for mesh in found.meshes}) == FILE["tp"]
    assert sorted({mesh.cp for mesh in found.meshes}) == run["cp"]
    assert sorted({mesh.cp_kind.name.lower() for mesh in found.meshes}, reverse=True) == FILE["cp_kind"]
    assert found.experts == tuple((ep, etp) for ep in run["ep"] for etp in FILE["etp"])
    assert {pipe.pp for pipe in found.pipes} == set(range(1, run["pp"] + 1))
    assert len(found.pipes) == run["pipelines"]
    assert {pipe.schedule.name.lower() for pipe in found.pipes} == {"one_f_one_b"}
    assert list(found.micro_batches) == FILE["micro_batch"]
    assert len({policy.recompute for policy in found.policies}) == run["recompute"]
    assert [order.label for order in found.orders] == FILE["order"]
    assert sorted({choice.sharding.name.lower() for choice in found.choices}) == sorted(FILE["sharding"])
    assert sorted({choice.shard_size for choice in found.choices}) == FILE["shard_size"]
    assert hosts == set(FILE["offload"])
    assert {policy.ep_overlap for policy in found.policies} == set(FILE["ep_overlap"])
    assert {policy.cuda_graphs for policy in found.policies} == {
        CudaGraphs[word.upper()] for word in FILE["cuda_graphs"]
    }
    assert found.min_used_fraction == 0.9
