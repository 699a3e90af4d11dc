"""Hybrids written into a scenario by their sizes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from makespan import catalog
from makespan.errors import ScenarioError
from makespan.scenario import load
from makespan.specs.model import ModelSpec

_spec = importlib.util.spec_from_file_location("scenario_base", Path(__file__).with_name("scenario_base.py"))
assert _spec is not None
assert _spec.loader is not None
scenario_base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenario_base)

NANO = catalog.model("nemotron-3-nano-30b-a3b").spec
WRITTEN = {
    "num_layers": "52",
    "hidden": "2688",
    "num_heads": "32",
    "num_kv_heads": "2",
    "head_dim": "128",
    "vocab": "131072",
    "gated": "false",
    "router_bias": "true",
    "pattern": f'"{NANO.pattern}"',
    "mamba": "{num_heads: 64, head_dim: 64, state: 128, groups: 8}",
    "moe": "{num_experts: 128, top_k: 6, expert_ffn: 1856, shared_ffn: 3712}",
}


def read(**changes: str) -> ModelSpec:
    sizes = ", ".join(f"{key}: {value}" for key, value in (WRITTEN | changes).items() if value)
    return load(scenario_base.over_base(f"model: {{{sizes}}}\n")).models[0].model


def test_the_sizes_of_the_catalogs_hybrid_make_the_same_model():
    assert replace(read(), name=NANO.name) == NANO


def test_experts_on_a_latent_and_prediction_layers():
    model = read(
        moe="{num_experts: 128, top_k: 6, expert_ffn: 1856, latent: 1024}",
        mtp_layers="2",
        mtp_pattern='"*E"',
        mtp_shared="true",
    )

    assert model.moe is not None
    assert model.moe.latent == 1024
    assert (model.mtp_layers, model.mtp_pattern, model.mtp_shared) == (2, "*E", True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": '"ME*"'}, "3 letters for 52 layers"),
        ({"pattern": '"' + "MG" * 26 + '"'}, "unknown letters G"),
        ({"mamba": ""}, "Mamba-2 layers without their sizes"),
        ({"moe": ""}, "mixture layers without their sizes"),
        ({"pattern": '"' + "M-" * 26 + '"'}, "ffn_hidden"),
    ],
)
def test_a_pattern_that_makes_no_model_is_reported(changes, words):
    with pytest.raises(ScenarioError, match=words):
        read(**changes)
