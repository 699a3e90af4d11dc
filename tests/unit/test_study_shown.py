"""The close look at a shown layout: the drawing and the changes are those of the layout, the cluster and the central model."""

from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from makespan.report import result, result_schema
from makespan.scenario import load
from makespan.search import helpful_changes
from makespan.specs.hardware import ClusterSpec
from makespan.step.drawing import played_pipeline
from makespan.study import plan
from makespan.study.shown import ShownBook
from makespan.study.stages import reference_step

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama3-405b.yaml"


@pytest.fixture(scope="module")
def answer():
    return plan(load(EXAMPLE), num_replicates=10)


def test_every_shown_layout_is_looked_at_with_its_own_cluster_and_the_weightiest_model(answer):
    scenario = answer.scenario
    model = max(scenario.models, key=lambda choice: choice.weight).model
    config = reference_step(scenario.training)
    looked = 0
    for option in answer.options:
        if option.best is None or option.best.best is None:
            assert option.shown is None
            continue
        best, pool = option.best.best, option.option.pools[-1]
        cluster = ClusterSpec(name="", accelerator=pool.accelerator, node=pool.node, fabric=pool.fabric, num_accelerators=best.num_accelerators)  # fmt: skip
        headroom = scenario.constraints.memory_headroom
        question = (model, config, cluster, scenario.framework)
        assert option.shown.step_changes == helpful_changes(*question, best, memory_headroom=headroom)
        drawn, expected = option.shown.pipeline, played_pipeline(*question, best.layout)
        assert (drawn is None) == (best.layout.pp == 1)
        assert drawn is None or (drawn.rows, drawn.span_s) == (expected.rows, expected.span_s)
        for change in option.shown.step_changes:
            assert change.time_s < best.time_s
            assert change.memory_bytes <= best.memory.limit_bytes
        looked += 1
    assert looked > 0


def test_the_result_of_a_real_plan_keeps_to_the_schema(answer):
    jsonschema.Draft202012Validator(result_schema()).validate(result(answer))


def test_one_search_is_looked_at_once_and_no_layout_is_no_look(answer):
    option = answer.options[0]
    book, pool = ShownBook(answer.scenario), option.option.pools[-1]
    assert book.of(pool, option.best) is book.of(pool, option.best)
    assert book.of(pool, replace(option.best, best=None)) is None
