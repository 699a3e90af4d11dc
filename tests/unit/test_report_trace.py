"""The Chrome trace of a pipeline: fields that viewers need, tracks without overlap, times that add up."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from makespan.errors import ScenarioError
from makespan.report.trace import Segment, TraceParts, pipeline_trace, write_trace
from makespan.specs.layout import Schedule
from makespan.step.orders import WorkKind
from makespan.step.timeline import Timeline, simulate

LAYOUTS = [
    (Schedule.ONE_F_ONE_B, 4, 1, 6),
    (Schedule.ONE_F_ONE_B, 4, 3, 9),
    (Schedule.ONE_F_ONE_B, 2, 2, 4),
    (Schedule.ONE_F_ONE_B, 1, 1, 3),
    (Schedule.GPIPE, 3, 1, 5),
    (Schedule.ZERO_BUBBLE, 4, 1, 8),
    (Schedule.DUALPIPE, 4, 1, 10),
]
PARTS = TraceParts(
    exposed={
        WorkKind.FORWARD: {"tp": 0.2, "ep": 0.1},
        WorkKind.INPUT_GRAD: {"tp": 0.3},
        WorkKind.WEIGHT_GRAD: {},
    },
    before=[Segment(name="all-gather of weights", category="dp communication", seconds=0.004)],
    after=[
        Segment(name="reduce-scatter of gradients", category="dp communication", seconds=0.006),
        Segment(name="optimizer", category="optimizer", seconds=0.003),
    ],
)


def line(schedule: Schedule, pp: int, vpp: int, count: int, hop: float = 0.0007) -> Timeline:
    rng = np.random.default_rng(11)
    forward = rng.uniform(0.008, 0.012, (pp, vpp))
    return simulate(
        schedule,
        pp=pp,
        vpp=vpp,
        num_micro_batches=count,
        forward_s=forward,
        input_grad_s=1.1 * forward,
        weight_grad_s=0.9 * forward,
        hop_s=hop,
    )


def slices(data, pid=1):
    return [event for event in data["traceEvents"] if event["ph"] == "X" and event["pid"] == pid]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_event_has_what_viewers_need(layout):
    data = json.loads(json.dumps(pipeline_trace(line(*layout), PARTS), allow_nan=False))

    assert set(data) == {"displayTimeUnit", "otherData", "traceEvents"}
    named = set()
    for event in data["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
            if event["name"] == "thread_name":
                named.add((event["pid"], event["tid"]))
        else:
            assert event["ph"] == "X"
            assert event["ts"] >= 0.0
            assert event["dur"] >= 0.0
            assert event["name"]
            assert event["cat"]
    assert named == {(e["pid"], e["tid"]) for e in data["traceEvents"] if e["ph"] == "X"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_of_a_track_nest_or_follow_and_never_overlap(layout):
    data = pipeline_trace(line(*layout), PARTS)
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in slices(data) + slices(data, 2):
        start = round(event["ts"] * 1e3)
        tracks.setdefault((event["pid"], event["tid"]), []).append((start, start + round(event["dur"] * 1e3)))

    for spans in tracks.values():
        stack: list[tuple[int, int]] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while stack and stack[-1][1] <= start:
                stack.pop()
            assert not stack or end <= stack[-1][1]
            stack.append((start, end))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_rank_s_slices_and_its_bubble_are_the_step(layout):
    """Passes, surrounding segments and the bubble add up; so do compute and communication inside a pass."""
    timeline = line(*layout)
    data = pipeline_trace(timeline, PARTS)
    around = 0.004 + 0.006 + 0.003
    assert data["otherData"]["step_s"] == pytest.approx(timeline.makespan_s + around)

    for rank in range(layout[1]):
        mine = [event for event in slices(data) if event["tid"] == rank]
        passes = [event for event in mine if "args" in event]
        rest = [event for event in mine if event["cat"] in {"optimizer", "dp communication"}]
        spent_us = sum(event["dur"] for event in passes + rest)
        assert spent_us / 1e6 + timeline.idle_s[rank] == pytest.approx(data["otherData"]["step_s"], abs=1e-6)
        inside = [event for event in mine if event not in passes and event not in rest]
        whole = sum(event["dur"] for event in passes if event["cat"] != "weight gradient")
        assert sum(event["dur"] for event in inside) == pytest.approx(whole)
        tp = sum(event["dur"] for event in inside if event["cat"] == "tp communication")
        forward, backward = (
            sum(event["dur"] for event in passes if event["cat"] == cat) for cat in ("forward", "backward")
        )
        assert tp == pytest.approx(0.2 * forward + 0.3 * backward, rel=1e-4)
    ends = [event["ts"] + event["dur"] for event in slices(data)]
    assert max(ends) / 1e6 == pytest.approx(data["otherData"]["step_s"], abs=1e-8)


def test_one_rank_by_hand():
    """1 ms forward, 1 ms and 1 ms backward, two stages, two micro-batches, one of four tenths of the forward pass exposed."""
    timeline = simulate(
        Schedule.ONE_F_ONE_B,
        pp=2,
        num_micro_batches=2,
        forward_s=1e-3,
        input_grad_s=1e-3,
        weight_grad_s=1e-3,
    )
    data = pipeline_trace(timeline, TraceParts(exposed={WorkKind.FORWARD: {"tp": 0.4}}))
    last = [(e["name"], e["ts"], e["dur"]) for e in slices(data) if e["tid"] == 1]

    assert last[:5] == [
        ("forward 0", 1000.0, 1000.0),
        ("compute", 1000.0, 600.0),
        ("tp communication", 1600.0, 400.0),
        ("backward 0", 2000.0, 1000.0),
        ("weight gradient 0", 3000.0, 1000.0),
    ]
    assert slices(data)[0]["args"] == {"micro_batch": 0, "chunk": 0, "stage": 0}
    assert data["otherData"]["bubble_s"] == pytest.approx([0.003, 0.003])


def test_transfers_have_tracks_of_their_own():
    data = pipeline_trace(line(Schedule.ONE_F_ONE_B, 4, 2, 8))
    sends = slices(data, 2)

    assert {event["cat"] for event in sends} == {"pp communication"}
    assert len(sends) == 2 * 8 * (4 * 2 - 1)
    assert not slices(pipeline_trace(line(Schedule.ONE_F_ONE_B, 4, 2, 8, hop=0.0)), 2)


def test_too_many_events_are_refused_before_they_are_made():
    timeline = line(Schedule.ONE_F_ONE_B, 4, 1, 6)
    count = sum(event["ph"] == "X" for event in pipeline_trace(timeline, PARTS)["traceEvents"])

    assert pipeline_trace(timeline, PARTS, max_events=count)
    with pytest.raises(ScenarioError, match=f"MS902 trace: found {count} events; expected at most {count - 1}"):
        pipeline_trace(timeline, PARTS, max_events=count - 1)


@pytest.mark.parametrize(
    "parts",
    [
        TraceParts(exposed={WorkKind.FORWARD: {"tp": 0.7, "ep": 0.4}}),
        TraceParts(exposed={WorkKind.FORWARD: {"tp": -0.1}}),
        TraceParts(after=[Segment(name="optimizer", category="optimizer", seconds=-1.0)]),
        TraceParts(before=[Segment(name="optimizer", category="optimizer", seconds=float("nan"))]),
    ],
)
def test_impossible_parts_are_refused(parts):
    with pytest.raises(ValueError, match="must"):
        pipeline_trace(line(Schedule.GPIPE, 3, 1, 5), parts)


def test_the_file_is_the_trace_and_nothing_else_is_left(tmp_path):
    timeline = line(Schedule.ZERO_BUBBLE, 4, 1, 8)
    path = write_trace(tmp_path / "new" / "step.json", timeline, PARTS, title="llama")
    once = path.read_bytes()
    write_trace(path, timeline, PARTS, title="llama")

    assert json.loads(once) == json.loads(json.dumps(pipeline_trace(timeline, PARTS, title="llama")))
    assert path.read_bytes() == once
    assert [entry.name for entry in path.parent.iterdir()] == ["step.json"]
    assert path.stat().st_mode & 0o400


def test_a_place_that_cannot_be_written_is_the_users_problem(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "step.json"):
        with pytest.raises(ScenarioError, match="MS902"):
            write_trace(place, line(Schedule.GPIPE, 3, 1, 5))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path):
    """So does /dev/null: as root a file could take its place."""
    place = tmp_path / "pipe"
    os.mkfifo(place)
    end = os.open(place, os.O_RDWR | os.O_NONBLOCK)
    try:
        write_trace(place, line(Schedule.GPIPE, 2, 1, 2))

        assert json.loads(os.read(end, 1 << 16))["traceEvents"]
    finally:
        os.close(end)
    assert place.is_fifo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]
