"""What each framework profile can run is said key by key, and every refusal says why."""

import re

import pytest

from makespan import catalog
from makespan.catalog import files
from makespan.catalog.families import aliases, frameworks_called
from makespan.step.features import FEATURES, JOB_FEATURES, KEYS

NAMES = catalog.names("framework")
PRECISIONS = {"bf16", "fp16", "fp8", "mxfp8", "nvfp4"}
TRAITS = {"quantised_activations", "fused_experts_mxfp8"}
DOCUMENT = files.data().parents[3] / "docs" / "explain" / "catalog.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_states_every_key_and_no_other(name):
    stated = catalog.framework(name).spec.supports

    assert sorted(set(KEYS) | PRECISIONS) == sorted(set(stated) - TRAITS)
    assert set(map(type, files.raw_entry("framework", name)["supports"].values())) == {bool}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_profile_lacks_has_its_reason_beside_it(name):
    text = (files.data() / "frameworks" / f"{name}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text[text.index("\nsupports:") :].splitlines() if re.match(r"  \w+: false", line)]
    layouts = [line for line in lines if line.split(":")[0].strip() in KEYS]

    assert layouts
    assert [line for line in layouts if not re.search(r"false  # \w?.{6,}", line)] == []


def test_no_key_stands_twice():
    assert not set(FEATURES) & set(JOB_FEATURES)


def test_the_chapter_explains_every_key():
    if not DOCUMENT.exists():
        pytest.skip("installed without its documentation")
    chapter = DOCUMENT.read_text(encoding="utf-8")

    assert [key for key in (*KEYS, *sorted(TRAITS)) if f"`{key}`" not in chapter] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_combination_is_not_claimed_where_its_parts_are_lacking(name):
    """`zero3_pipeline` without a pipeline would say nothing."""
    has = catalog.framework(name).spec.supports
    needs = {
        "interleaving": ("pipeline_parallel",),
        "cp_all_to_all": ("context_parallel",),
        "expert_with_tensor_parallel": ("expert_parallel", "tensor_parallel"),
        "hsdp": ("zero3",),
        "zero2_pipeline": ("zero2", "pipeline_parallel"),
        "zero3_pipeline": ("zero3", "pipeline_parallel"),
        "zero3_expert": ("zero3", "expert_parallel"),
        "one_f_one_b": ("pipeline_parallel",),
        "gpipe": ("pipeline_parallel",),
        "zero_bubble": ("pipeline_parallel",),
        "dualpipe": ("pipeline_parallel",),
        "uneven_stages": ("pipeline_parallel",),
        "uneven_chunks": ("interleaving",),
        "uneven_interleaving": ("interleaving",),
        "ep_overlap": ("expert_parallel",),
        "ep_overlap_one_chunk": ("ep_overlap",),
        "ep_overlap_full_recompute": ("ep_overlap",),
        "full_graphs_moe": ("full_graphs",),
        "offload_activations_pipeline": ("offload_activations", "pipeline_parallel"),
        "offload_activations_recompute": ("offload_activations",),
        "offload_activations_graphs": ("offload_activations",),
        "pp_inside_dp": ("pipeline_parallel",),
        "pp_inside_dp_regrouped": ("pp_inside_dp",),
        "cp_outside_dp": ("context_parallel",),
    }

    assert [(key, part) for key, parts in needs.items() if has[key] for part in parts if not has[part]] == []


def test_an_alias_is_no_name_of_a_profile_and_every_profile_has_one():
    assert not set(aliases()) & set(NAMES)
    assert {name for word in aliases() for name in frameworks_called(word)} == set(NAMES)
