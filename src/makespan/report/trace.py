"""One pipeline's step as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Format: Trace Event Format, Google, "Complete Events" (ph X) and "Metadata Events" (ph M); times in microseconds.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makespan.errors import Problem, ScenarioError
from makespan.specs.layout import Schedule
from makespan.step.orders import WorkKind
from makespan.step.timeline import Timeline

MAX_EVENTS = 1_000_000
"""Perfetto in a browser gets slow beyond about this many."""

RANKS, LINKS = 1, 2
"""Process ids of the two groups of tracks: what ranks do, what they send."""

NAMES = {
    int(WorkKind.FORWARD): "forward",
    int(WorkKind.INPUT_GRAD): "backward",
    int(WorkKind.WEIGHT_GRAD): "weight gradient",
    int(WorkKind.SEND_FORWARD): "send activation",
    int(WorkKind.SEND_BACKWARD): "send gradient",
}
"""Category of an event and first words of its name, by `WorkKind`."""

PIPELINE_CATEGORY = "pp communication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What all ranks do before or after the passes, such as gathering weights or the optimizer step. `category` as in events."""

    name: str
    category: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParts:
    """What a timeline does not know: what a pass is made of, and what surrounds the passes.

    exposed : by `WorkKind` of a pass, exposed communication by its name ("tp", "ep", "cp", "fsdp") as a share of the pass;
        the rest is compute. Each gives a slice inside its pass, after the compute. Shares of a pass add up to at most 1.
    before, after : in order, on every rank at once; `after` starts when the last rank has finished.
    """

    exposed: Mapping[WorkKind, Mapping[str, float]] = field(default_factory=dict)
    before: Sequence[Segment] = ()
    after: Sequence[Segment] = ()


def pipeline_trace(
    timeline: Timeline, parts: TraceParts | None = None, *, title: str = "training step", max_events: int = MAX_EVENTS
) -> dict[str, Any]:
    """A step of one pipeline as Chrome trace JSON.

    Parameters
    ----------
    parts : what passes are made of and what surrounds them; nothing if left out.
    title : of the group of tracks.

    Returns
    -------
    dict : `traceEvents` holds a slice for each pass ("forward 3", args: micro-batch, chunk, stage), slices nested in it for
        compute and exposed communication, slices of surrounding segments, and on tracks of their own the transfers between
        stages. A rank is a track; time without a slice is bubble. `otherData` holds totals.

    Notes
    -----
    Compute and exposed communication alternate layer by layer in a real pass; here the pass's shares stand one after the
    other. A backward pass that is not split shows gradients of inputs, then of weights, in truth also layer by layer.

    Raises
    ------
    ScenarioError : more than `max_events` events (MS902).
    ValueError : shares or seconds that are negative, or shares of a pass that add up to more than 1.
    """
    parts = TraceParts() if parts is None else parts
    _check(parts)
    _check_size(timeline, parts, max_events)
    lead_s = sum(segment.seconds for segment in parts.before)
    events = _names_of_tracks(timeline, title)
    for rank in range(timeline.pp):
        events += _segments(parts.before, rank, 0.0)
    events += _passes(timeline, parts, lead_s)
    events += _transfers(timeline, lead_s)
    for rank in range(timeline.pp):
        events += _segments(parts.after, rank, lead_s + timeline.makespan_s)
    total_s = lead_s + timeline.makespan_s + sum(segment.seconds for segment in parts.after)
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "schedule": timeline.schedule.name,
            "pp": timeline.pp,
            "vpp": timeline.vpp,
            "num_micro_batches": timeline.num_micro_batches,
            "step_s": total_s,
            "bubble_s": [float(value) for value in timeline.idle_s],
            "peak_micro_batches_in_flight": [float(value) for value in timeline.in_flight],
        },
        "traceEvents": events,
    }


def write_trace(path: Path, timeline: Timeline, parts: TraceParts | None = None, **options: Any) -> Path:
    """Write `pipeline_trace` (with its options) to a file, under another name first, so that it appears complete or not at all.

    Raises
    ------
    ScenarioError : too many events, or a place that cannot be written (MS902).
    """
    path = Path(path)
    data = pipeline_trace(timeline, parts, **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "a folder")
        if path.exists() and not path.is_file():  # /dev/null or a pipe: write into it, never put a file in its place
            path.write_text(_as_text(data), encoding="utf-8")
            return path
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(_as_text(data))
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _problem(
            str(path), error.strerror or str(error), "a file that can be written", "choose another name"
        ) from error
    return path


def _as_text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _rows(timeline: Timeline) -> list[tuple[int, int, int, int, float, float]]:
    columns = (timeline.rank, timeline.kind, timeline.micro_batch, timeline.chunk, timeline.start_s, timeline.end_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _slice(name: str, category: str, pid: int, tid: int, start_s: float, end_s: float) -> dict[str, Any]:
    """A complete event. Ends are rounded to nanoseconds, not lengths, so that neighbours never overlap."""
    start, end = round(start_s * 1e9), round(end_s * 1e9)
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": start / 1e3,
        "dur": (end - start) / 1e3,
        "pid": pid,
        "tid": tid,
    }


def _passes(timeline: Timeline, parts: TraceParts, lead_s: float) -> list[dict[str, Any]]:
    inside: dict[int, list[tuple[str, str, float]]] = {}
    for what, shares in parts.exposed.items():
        pieces = [
            (f"{name} communication", f"{name} communication", share) for name, share in shares.items() if share > 0
        ]
        if pieces:
            rest = max(1.0 - sum(share for _, _, share in pieces), 0.0)
            inside[int(what)] = [("compute", NAMES[int(what)], rest), *pieces]
    events: list[dict[str, Any]] = []
    for rank, kind, micro_batch, chunk, start_s, end_s in _rows(timeline):
        if kind > WorkKind.WEIGHT_GRAD:
            continue
        begin, finish = lead_s + start_s, lead_s + end_s
        event = _slice(f"{NAMES[kind]} {micro_batch}", NAMES[kind], RANKS, rank, begin, finish)
        event["args"] = {"micro_batch": micro_batch, "chunk": chunk, "stage": _stage(timeline, rank, chunk)}
        events.append(event)
        clock, done = begin, 0.0
        for name, category, share in inside.get(kind, ()):
            done += share
            until = min(begin + done * (finish - begin), finish)
            events.append(_slice(name, category, RANKS, rank, clock, until))
            clock = until
    return events


def _transfers(timeline: Timeline, lead_s: float) -> list[dict[str, Any]]:
    events = []
    for (rank, kind, micro_batch, chunk, start_s, end_s), target in zip(
        _rows(timeline), timeline.to_rank.tolist(), strict=True
    ):
        if kind <= WorkKind.WEIGHT_GRAD:
            continue
        track = _track(rank, target, timeline.pp)
        name = f"{NAMES[kind]} {micro_batch}"
        event = _slice(name, PIPELINE_CATEGORY, LINKS, track, lead_s + start_s, lead_s + end_s)
        event["args"] = {"micro_batch": micro_batch, "chunk": chunk, "to_rank": target}
        events.append(event)
    return events


def _segments(segments: Sequence[Segment], rank: int, start_s: float) -> list[dict[str, Any]]:
    events, clock = [], start_s
    for segment in segments:
        if segment.seconds > 0.0:
            events.append(_slice(segment.name, segment.category, RANKS, rank, clock, clock + segment.seconds))
        clock += segment.seconds
    return events


def _stage(timeline: Timeline, rank: int, chunk: int) -> int:
    if timeline.schedule == Schedule.DUALPIPE:
        return timeline.pp - 1 - rank if chunk else rank
    return chunk * timeline.pp + rank


def _track(rank: int, to_rank: int, pp: int) -> int:
    """Tracks of a rank's links: to the next rank (the last one's next is the first), and to the one before."""
    return 2 * rank + int(to_rank != (rank + 1) % pp)


def _names_of_tracks(timeline: Timeline, title: str) -> list[dict[str, Any]]:
    def name(what: str, pid: int, tid: int, value: str | int) -> dict[str, Any]:
        key = "sort_index" if what.endswith("sort_index") else "name"
        return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {key: value}}

    events = [
        name("process_name", RANKS, 0, f"{title}: ranks of one pipeline"),
        name("process_sort_index", RANKS, 0, 0),
    ]
    for rank in range(timeline.pp):
        events += [name("thread_name", RANKS, rank, f"rank {rank}"), name("thread_sort_index", RANKS, rank, rank)]
    sends = timeline.kind > WorkKind.WEIGHT_GRAD
    pairs = sorted(set(zip(timeline.rank[sends].tolist(), timeline.to_rank[sends].tolist(), strict=True)))
    if pairs:
        events += [name("process_name", LINKS, 0, f"{title}: transfers between stages")]
        events += [name("process_sort_index", LINKS, 0, 1)]
    for rank, target in pairs:
        track = _track(rank, target, timeline.pp)
        events += [name("thread_name", LINKS, track, f"rank {rank} to {target}")]
        events += [name("thread_sort_index", LINKS, track, track)]
    return events


def _check(parts: TraceParts) -> None:
    for shares in parts.exposed.values():
        if min(shares.values(), default=0.0) < 0.0 or sum(shares.values()) > 1.0 + 1e-9:
            raise ValueError("shares of a pass must not be negative, nor add up to more than 1")
    if any(not 0.0 <= segment.seconds < float("inf") for segment in (*parts.before, *parts.after)):
        raise ValueError("segments must take a finite time that is not negative")


def _check_size(timeline: Timeline, parts: TraceParts, limit: int) -> None:
    count = len(timeline) + timeline.pp * (len(parts.before) + len(parts.after))
    for kind, shares in parts.exposed.items():
        pieces = sum(share > 0 for share in shares.values())
        count += int((timeline.kind == kind).sum()) * (pieces + 1 if pieces else 0)
    check_events(count, limit)


def check_events(count: int, limit: int = MAX_EVENTS) -> None:
    """Refuse a trace of more events than a viewer can show.

    Raises
    ------
    ScenarioError : more than `limit` (MS902).
    """
    if count > limit:
        raise _problem(
            "trace",
            f"{count:,} events",
            f"at most {limit:,}, which is what a viewer can show",
            "trace a layout with fewer micro-batches (a larger micro_batch or dp), or fewer chunks (vpp)",
        )


def _problem(source: str, found: str, expected: str, fix: str) -> ScenarioError:
    return ScenarioError(source, [Problem(code="MS902", where="trace", found=found, expected=expected, fix=fix)])
