"""A scaling curve as table, data and drawing."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from makespan import catalog
from makespan.report.scaling import (
    how_far_text,
    limit_text,
    scaling_data,
    scaling_table,
    train_time_data,
    train_time_table,
)
from makespan.report.scaling_plot import SHAPES, scaling_svg
from makespan.scenario import parse_cluster
from makespan.search.batch import train_time
from makespan.search.scaling import how_far, scaling_curve
from makespan.specs.search import HowFar, RampStage, SearchConstraints
from makespan.specs.training import StepConfig

MODEL = catalog.model("llama3.1-70b").spec
CLUSTER = parse_cluster("8xh100-sxm")
CONFIG = StepConfig(global_batch=256, seq_len=8192, precision="bf16")
PROFILE = catalog.framework("megatron-2026").spec
LAW = catalog.batch_law("bergsma-2025").spec
SVG = "{http://www.w3.org/2000/svg}"


def made(sizes=(8, 128, 1024, 8192), **options):
    return scaling_curve(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints(), sizes, tokens=2e12, **options)


POINTS = made(max_batch=1024, law=LAW)
FAR = how_far(POINTS, least_gain=1.95)


def printed(renderable, width=180):
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_data_is_json_and_says_what_the_points_say():
    data = json.loads(json.dumps(scaling_data(POINTS, FAR), allow_nan=False))

    assert [point["num_accelerators"] for point in data["points"]] == [8, 128, 1024, 8192]
    assert data["points"][0]["layout"] is None
    assert data["points"][0]["train_s"]["p50"] is None
    last = data["points"][-1]
    assert last["train_s"]["p50"] == pytest.approx(POINTS[-1].train_s)
    assert last["train_s"]["p10"] < last["train_s"]["p50"] < last["train_s"]["p90"]
    assert last["useful_tokens_per_s"] == pytest.approx(2e12 / POINTS[-1].train_s)
    assert data["how_far"]["num_accelerators"] == FAR.num_accelerators


def test_the_table_has_a_line_a_size_and_the_rules():
    text = printed(scaling_table(MODEL, CONFIG, CLUSTER, PROFILE, POINTS, FAR, rules=["because of this"]))

    assert "nothing fits" in text
    assert "8,192" in text
    assert "rule: because of this" in text
    assert re.search(r"8,192 +1?,?\d+ +[\d.]+[kMG] ", text)
    assert str(POINTS[-1].estimate.layout) in text
    assert "twice as many" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_of_the_table_is_cut(width):
    large = replace(POINTS[-1], num_accelerators=1_000_000, global_batch=131_072, train_s=3.2e9, train_p10_s=2.9e9)
    large = replace(large, train_p90_s=3.5e9, limit="stragglers", gains={"stragglers": 1.4})
    text = printed(scaling_table(MODEL, CONFIG, CLUSTER, PROFILE, (*POINTS, large), FAR), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if re.match(r" *1,000,000 +131,072 ", line))
    assert "33,565-40,509" in row


def test_a_limit_is_told_with_what_it_costs():
    point = replace(POINTS[-1], limit="network", gains={"network": 1.43, "batch": 1.2})
    assert limit_text(point) == "network 1.4x"
    assert limit_text(replace(point, limit="none")) == ""
    assert limit_text(replace(point, limit="memory", gains={"memory": math.inf})) == "memory"


def test_how_far_in_words():
    ends = HowFar(least_gain=1.5, num_accelerators=None, gain=1.8, limit="none", largest=512)
    assert "Up to 512" in how_far_text(ends)
    assert "cannot be said" in how_far_text(replace(ends, largest=0))


def drawn(points, far=None):
    text = scaling_svg(points, far, title="A <model> & more", subtitle="so")
    return text, ElementTree.fromstring(text)


def test_the_drawing_needs_nothing_else_and_tells_limits_by_shape():
    text, root = drawn(POINTS, FAR)

    assert not re.search(r"(href|url\(|@import|<script|<image)", text)
    assert text.count("http") == 1  # the name of the format
    assert "prefers-color-scheme: dark" in text
    marks = [node for node in root.iter(f"{SVG}path") if node.find(f"{SVG}title") is not None]
    fitting = [point for point in POINTS if point.estimate is not None]
    assert len(marks) == 3 * len(fitting) + (len(POINTS) - len(fitting))
    for point in fitting:
        assert SHAPES[point.limit] in {node.get("d") for node in marks}
    words = {node.text for node in root.iter(f"{SVG}text")}
    assert "A <model> & more" in words
    assert "nothing fits: memory" in words
    assert len(set(SHAPES.values())) == len(SHAPES)


def test_everything_lies_inside_the_drawing():
    _, root = drawn(POINTS, FAR)
    width, height = float(root.get("width")), float(root.get("height"))
    for node in root.iter(f"{SVG}text"):
        assert 0 <= float(node.get("x")) <= width
        assert 0 <= float(node.get("y")) <= height
    for node in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"translate\(([\d.-]+) ([\d.-]+)\)", node.get("transform") or ""):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_the_mark_of_a_point_stands_where_its_figures_say():
    """Twice the size is the same way to the right everywhere on a logarithmic axis."""
    points = made(sizes=(128, 256, 512), limits=False)
    _, root = drawn(points)
    marks = [node for node in root.iter(f"{SVG}path") if node.find(f"{SVG}title") is not None][:3]
    xs = [float(re.findall(r"translate\(([\d.]+)", node.get("transform"))[0]) for node in marks]

    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert xs == sorted(xs)


@pytest.mark.parametrize("sizes", [(128,), (8,), (128, 1024)])
def test_short_curves_are_drawn(sizes):
    _, root = drawn(made(sizes=sizes, limits=False))
    assert root.tag == f"{SVG}svg"


def test_a_ramp_as_table_and_data():
    ramp = (RampStage(from_tokens=0.0, global_batch=64), RampStage(from_tokens=5e11, global_batch=256))
    cluster = replace(CLUSTER, num_accelerators=256)
    constraints = SearchConstraints(thorough=False)
    time = train_time(MODEL, CONFIG, cluster, PROFILE, constraints, tokens=2e12, ramp=ramp)
    data = json.loads(json.dumps(train_time_data(time), allow_nan=False))
    text = printed(train_time_table(time))

    assert [stage["global_batch"] for stage in data["stages"]] == [64, 256]
    assert sum(stage["train_s"] for stage in data["stages"]) == pytest.approx(data["train_s"]["p50"])
    assert "0.500T" in text
    assert "2.00T tokens in" in text
