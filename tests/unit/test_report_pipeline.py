"""The drawing of a pipeline: the passes of the play, at their times, each once; batches and ranks that can be seen."""

import dataclasses
import itertools

import jsonschema
import numpy as np
import pytest

from makespan import catalog
from makespan.report import result_schema
from makespan.report.pipeline import caption, distinct, legend, pipeline_data, place, stage_rows, tick_s
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import Layout, Schedule
from makespan.specs.training import StepConfig
from makespan.step.drawing import MOST_RANKS, num_to_draw, pipeline_rows, played_pipeline
from makespan.step.orders import WorkKind
from makespan.step.schedules import schedule_allowed
from makespan.step.stages import pipeline_timeline
from report_fixture import memphis_plan, play, played

SCHEDULES = [
    (Schedule.ONE_F_ONE_B, 4, 1, 6),
    (Schedule.ONE_F_ONE_B, 4, 3, 9),
    (Schedule.GPIPE, 3, 1, 5),
    (Schedule.ZERO_BUBBLE, 4, 1, 8),
    (Schedule.DUALPIPE, 4, 1, 10),
]


def stage_of(schedule, pp, rank, chunk):
    if schedule == Schedule.DUALPIPE:
        return pp - 1 - rank if chunk else rank
    return chunk * pp + rank


@pytest.mark.parametrize("case", SCHEDULES)
def test_the_data_give_back_every_pass_of_the_timeline_at_its_time(case):
    """Start by tick, end by the length of the stage: both within a tick of the play."""
    schedule, pp, vpp, count = case
    timeline = play(*case)
    data = pipeline_data(played(timeline, 100))
    work = timeline.kind <= WorkKind.WEIGHT_GRAD
    expected = {
        (rank, micro_batch, chunk, kind): (start, end)
        for rank, micro_batch, chunk, kind, start, end in zip(
            *(
                getattr(timeline, name)[work].tolist()
                for name in ("rank", "micro_batch", "chunk", "kind", "start_s", "end_s")
            ),
            strict=True,
        )
    }
    seen = 0
    for row in data["ranks"]:
        columns = (row["passes"], row["start"], row["micro_batch"], row["chunk"])
        for kind, ticks, micro_batch, chunk in zip(*columns, strict=True):
            stage = data["stages"][stage_of(schedule, pp, row["rank"], chunk)]
            kinds = {"F": [0], "B": [1, 2], "I": [1], "W": [2]}[kind]
            length = sum(stage[("forward_s", "input_grad_s", "weight_grad_s")[k]] for k in kinds)
            passes = [expected[row["rank"], micro_batch, chunk, k] for k in kinds]
            assert ticks * data["tick_s"] == pytest.approx(passes[0][0], abs=data["tick_s"])
            assert ticks * data["tick_s"] + length == pytest.approx(passes[-1][1], abs=data["tick_s"])
            seen += len(kinds)
    assert seen == len(expected) == pp * count * 3 * (1 if schedule == Schedule.DUALPIPE else vpp)
    assert data["span_s"] == pytest.approx(timeline.makespan_s)
    assert [row["idle_s"] for row in data["ranks"]] == pytest.approx(timeline.idle_s.tolist())


@pytest.mark.parametrize("case", SCHEDULES)
def test_passes_of_a_rank_follow_each_other_and_fill_what_is_not_idle(case):
    timeline = play(*case)
    for row, busy in zip(pipeline_rows(timeline), timeline.busy_s, strict=True):
        assert sum(end - start for start, end, *_ in row) == pytest.approx(busy)
        assert all(after[0] >= before[1] - 1e-12 for before, after in itertools.pairwise(row))


@pytest.mark.parametrize("case", SCHEDULES)
def test_only_schedules_that_put_weight_gradients_off_show_them_apart(case):
    kinds = {kind for row in pipeline_rows(play(*case)) for _, _, kind, _, _ in row}
    assert kinds == ({"F", "I", "W"} if case[0] in (Schedule.ZERO_BUBBLE, Schedule.DUALPIPE) else {"F", "B"})
    assert [kind for kind, _ in legend(pipeline_data(played(play(*case), 10)))] == sorted(kinds, key="FBIW".index)


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize(("pp", "vpp"), [(2, 1), (4, 4), (16, 1), (24, 4), (64, 1), (64, 8)])
@pytest.mark.parametrize("count", [1, 2, 64, 128, 500])
def test_a_batch_to_draw_can_be_played_whenever_the_whole_one_can(schedule, pp, vpp, count):
    if not schedule_allowed(int(schedule), pp, vpp, count):
        return
    drawn = num_to_draw(Layout(pp=pp, vpp=vpp, schedule=schedule), count)
    assert 1 <= drawn <= min(count, 2 * pp)
    assert schedule_allowed(int(schedule), pp, vpp, drawn)


def step_of(layout, num_accelerators, global_batch):
    model = catalog.model("llama3.1-405b").spec
    cluster = ClusterSpec(
        name="H100",
        accelerator=catalog.accelerator("h100-sxm").spec,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric("nvlink8-ib-rail").spec,
        num_accelerators=num_accelerators,
    )
    config = StepConfig(global_batch=global_batch, seq_len=8192, precision="bf16")
    return model, config, cluster, catalog.framework("megatron-2025").spec, layout


def test_a_short_batch_is_the_layouts_own_timeline():
    question = step_of(Layout(tp=8, pp=8, dp=4, vpp=4), 256, 64)
    drawn, timeline = played_pipeline(*question), pipeline_timeline(*question)
    assert (drawn.num_micro_batches, drawn.num_played) == (16, 16)
    assert drawn.span_s == timeline.makespan_s
    assert drawn.idle_s == tuple(timeline.idle_s)
    assert drawn.rows == pipeline_rows(timeline)
    assert sum(drawn.layers_per_stage) == 126
    assert drawn.forward_s[-1] > 0
    assert stage_rows(pipeline_data(drawn))[-1]["last"] == 31


def test_a_long_batch_is_cut_and_a_long_pipeline_thinned_without_losing_its_ends():
    cut = played_pipeline(*step_of(Layout(tp=8, pp=8, dp=1), 64, 512))
    assert (cut.num_micro_batches, cut.num_played) == (512, 16)
    thin = played_pipeline(*step_of(Layout(tp=8, pp=63, dp=1), 504, 512))
    assert len(thin.ranks) == len(thin.rows) == len(thin.idle_s) == MOST_RANKS
    assert (thin.ranks[0], thin.ranks[-1]) == (0, 62)
    assert np.ptp(np.diff(thin.ranks)) <= 1
    assert "32 of its 63 ranks" in caption(STEP, {"tp": 8, "cp": 1, "dp": 1, "pp": 63}, pipeline_data(thin))


def test_one_stage_has_no_pipeline():
    assert played_pipeline(*step_of(Layout(tp=8, pp=1, dp=8), 64, 512)) is None


STEP = {"breakdown_s": {"bubble": 0.5}, "time_s": 10.0}
LAYOUT = {"tp": 8, "cp": 1, "dp": 4, "pp": 4}


def test_the_caption_says_which_batch_is_drawn_and_who_waits_how_long():
    timeline = play(Schedule.ONE_F_ONE_B, 4, 1, 8)
    share = timeline.idle_s / timeline.makespan_s
    long = caption(STEP, LAYOUT, pipeline_data(played(timeline, 128)))
    assert "One of 32 pipelines: the rows are its 4 ranks" in long
    assert "a batch of 8 micro-batches" in long
    assert "a step has 128" in long
    assert f"The busiest rank waits {share.min():.1%}".replace("%", " %") in long
    assert f"one on average {share.mean():.1%}".replace("%", " %") in long
    assert "the bubble of the whole step is 5.0 %" in long
    assert "All 8 micro-batches of a step" in caption(STEP, LAYOUT, pipeline_data(played(timeline, 8)))


def test_ticks_are_fine_and_starts_small_numbers():
    for span in (1e-4, 0.0317, 1.0, 99.9, 5e3):
        assert 1e5 * 0.99 <= span / tick_s(span) <= 1e6 * 1.01


def test_options_that_share_a_layout_share_its_drawing():
    plan = memphis_plan(5)
    pipelines = distinct(plan.options)
    assert [place(option, pipelines) for option in plan.options] == [0, 1, 1, 1, 1, None]
    alone = dataclasses.replace(plan.options[0], shown=None)
    assert distinct([alone]) == []


def test_the_data_are_valid_and_small():
    schema = result_schema()
    part = {"$ref": "#/$defs/pipeline", "$defs": schema["$defs"]}
    for case in SCHEDULES:
        jsonschema.validate(pipeline_data(played(play(*case), 100)), part)


def test_neighbouring_stages_that_are_alike_are_one_row():
    rows = stage_rows(pipeline_data(played(play(Schedule.ONE_F_ONE_B, 4, 3, 9), 9)))
    assert [(row["first"], row["last"], row["forward_s"]) for row in rows] == [(0, 10, 0.01), (11, 11, 0.0133333333)]
