"""The step's closed form against the same layout played out event by event."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.specs.layout import Layout, LayoutStatus, Schedule
from makespan.specs.training import StepConfig
from makespan.step import step_estimate
from makespan.step.stages import HEAD, chunk_layers, chunk_sizes, pipeline_timeline, stage_times
from makespan.workload import body_names, layer_kinds

DENSE = catalog.model("llama3.1-70b").spec
MIXTURE = catalog.model("deepseek-v3").spec
CLUSTER = parse_cluster("4096xb200-sxm")
CONFIG = StepConfig(global_batch=512, seq_len=4096, precision="fp8")
PROFILE = replace(catalog.framework("megatron-2026").spec, chunk_overhead_s=0.0)
OUTSIDE = ("dp", "fsdp", "pp", "optimizer", "jitter")
"""Parts of a step that are no passes of a pipeline."""


def passes_s(estimate) -> float:
    return estimate.time_s - sum(estimate.breakdown.get(name, 0.0) for name in OUTSIDE)


@settings(max_examples=40, deadline=None)
@given(
    model=st.sampled_from([DENSE, replace(DENSE, num_layers=78), MIXTURE, replace(MIXTURE, mtp_layers=1)]),
    pp=st.sampled_from([2, 4, 8, 16]),
    vpp=st.sampled_from([1, 2, 4]),
    schedule=st.sampled_from(list(Schedule)),
    dp=st.sampled_from([8, 16]),
)
def test_the_closed_form_is_within_a_slot_of_the_schedule_played_out(model, pp, vpp, schedule, dp):
    """Stages are unequal here: dense layers in front, head and prediction layers at the end."""
    layout = Layout(tp=2, pp=pp, dp=dp, vpp=1 if schedule else vpp, schedule=schedule, ep=8 if model.moe else 1)
    estimate = step_estimate(model, CONFIG, CLUSTER, PROFILE, layout)
    if estimate.status not in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY):
        return
    played = pipeline_timeline(model, CONFIG, CLUSTER, replace(PROFILE, pp_exposed=0.0), layout)
    times = stage_times(model, CONFIG, CLUSTER, PROFILE, layout)
    slot = float((times.forward_s + times.input_grad_s + times.weight_grad_s).sum(axis=1).max())
    several = 1.0 + (pp / 4 if schedule == Schedule.DUALPIPE else 0.0)
    full = -(-model.num_layers // (layout.pp * layout.vpp))
    if full * layout.vpp > -(-model.num_layers // layout.pp):
        # Chunks cannot be equal: the closed form takes every stage for as full as the fullest, an upper bound.
        assert passes_s(estimate) > played.makespan_s - slot
        return

    assert passes_s(estimate) == pytest.approx(played.makespan_s, abs=several * slot, rel=0.035)


@given(num_layers=st.integers(1, 130), num_chunks=st.integers(1, 130))
def test_chunks_hold_all_layers_and_differ_only_at_the_end(num_layers, num_chunks):
    sizes = chunk_sizes(num_layers, num_chunks)

    assert sum(sizes) == num_layers
    assert len(sizes) == num_chunks
    assert min(sizes) >= 0
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "model", [DENSE, MIXTURE, catalog.model("nemotron-3-super-120b-a12b").spec], ids=lambda m: m.name
)
def test_every_layer_and_head_sits_on_one_stage(model):
    stages = chunk_layers(model, Layout(pp=8, vpp=2))
    held = Counter(name for stage in stages for name in stage)
    expected = Counter(body_names(model)) + Counter({kind.name: kind.mtp for kind in layer_kinds(model)})

    assert held - Counter({HEAD: 1 + model.mtp_layers}) == expected
    assert stages[-1][-1] == HEAD
