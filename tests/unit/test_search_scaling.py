"""Scaling curves: what grows, what stops it, and how far it goes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.search import search
from makespan.search.batch import critical_batch, token_multiplier
from makespan.search.scaling import (
    how_far,
    powered,
    scaling_curve,
    without_memory,
    without_network,
    without_stragglers,
)
from makespan.specs.search import ScalingPoint, SearchConstraints
from makespan.specs.training import StepConfig

MODEL = catalog.model("llama3.1-8b").spec
LARGE = catalog.model("llama3.1-70b").spec
CLUSTER = parse_cluster("64xh100-sxm")
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")
PROFILE = catalog.framework("megatron-2026").spec
LAW = catalog.batch_law("bergsma-2025").spec
SIZES = (8, 64, 512, 2048, 16384)


def curve(model=MODEL, sizes=SIZES, **options):
    cluster = options.pop("cluster", CLUSTER)
    constraints = options.pop("constraints", SearchConstraints())
    return scaling_curve(model, CONFIG, cluster, PROFILE, constraints, sizes, **{"tokens": 1e12, **options})


def test_a_point_is_the_best_layout_of_its_size():
    point = curve(sizes=(32,))[0]
    config = replace(CLUSTER, num_accelerators=32)
    best = search(MODEL, CONFIG, config, PROFILE, SearchConstraints(thorough=False), top=1, front=False).best

    assert best is not None
    assert point.estimate is not None
    assert point.estimate.layout == best.layout
    assert point.train_s == pytest.approx(1e12 / (128 * 8192) * best.time_s)
    assert point.tokens_per_s == pytest.approx(best.tokens_per_s)


def test_a_fixed_batch_stops_the_curve():
    """128 sequences have work for a few hundred accelerators: beyond, nothing gets faster and the batch is why."""
    points = curve()

    assert [p.num_accelerators for p in points] == list(SIZES)
    assert {p.global_batch for p in points} == {128}
    assert points[0].limit == "none"
    assert points[-1].limit == "batch"
    assert points[-1].gains["batch"] > 2.0
    far = how_far(points)
    assert far.num_accelerators is not None
    assert far.limit == "batch"


def test_more_accelerators_never_take_longer_and_idle_ones_count_against_mfu():
    points = curve(sizes=(8, 24, 40, 128, 1000, 5000, 20000), limits=False)
    times = [p.train_s for p in points]

    assert times == sorted(times, reverse=True)
    for point in points:
        assert point.estimate is not None
        assert point.estimate.num_idle == point.num_accelerators - point.estimate.num_accelerators
        used = point.estimate.num_accelerators / point.num_accelerators
        assert point.mfu == pytest.approx(point.estimate.mfu * used)
    assert points[-1].estimate.num_idle > 0


def test_a_batch_is_chosen_where_it_pays_and_its_tokens_are_counted():
    points = curve(max_batch=1024, law=LAW)

    batches = [p.global_batch for p in points]
    assert batches[0] == 128
    assert batches == sorted(batches)
    assert 128 < batches[-1] <= 1024
    critical = critical_batch(LAW, tokens=1e12)
    for point in points:
        extra = token_multiplier(point.global_batch * 8192, 128 * 8192, critical)
        assert point.tokens == pytest.approx(1e12 * extra.p50)
        assert point.tokens_p90 == pytest.approx(1e12 * extra.p90)
    fixed = curve(limits=False)
    assert all(p.train_s <= q.train_s * (1 + 1e-12) for p, q in zip(points, fixed, strict=True))
    assert points[-1].train_s < 0.8 * fixed[-1].train_s


def test_without_a_law_the_largest_batch_is_free():
    free = curve(sizes=(2048,), max_batch=1024, limits=False)[0]
    assert (free.global_batch, free.tokens) == (1024, 1e12)


def test_a_model_that_does_not_fit_is_short_of_memory():
    points = curve(LARGE, sizes=(8, 64))

    assert points[0].estimate is None
    assert points[0].limit == "memory"
    assert math.isinf(points[0].train_s)
    assert points[0].tokens_per_s == points[0].mfu == 0.0
    assert points[1].estimate is not None


def test_a_size_that_no_layout_of_the_constraints_has_is_no_lack_of_memory():
    points = curve(sizes=(2,), constraints=SearchConstraints(tp=8))
    assert points[0].limit == "constraints"


def test_slow_links_are_a_limit_of_the_network():
    """Everything beyond the node a hundred times slower; the batch has work for more, so only the network is left."""
    inner, *outer = CLUSTER.fabric.tiers
    tiers = (inner, *(replace(tier, bytes_per_s=tier.bytes_per_s / 100) for tier in outer))
    slow = replace(CLUSTER, fabric=replace(CLUSTER.fabric, tiers=tiers))
    points = curve(sizes=(8, 64), cluster=slow)

    assert points[-1].limit == "network"


def test_power_is_the_limit_beyond_what_can_be_fed():
    watts = CLUSTER.node.provisioned_peak_per_accelerator_w
    points = curve(sizes=(32, 64, 128), power_limit_w=64.5 * watts)

    assert powered(CLUSTER, 64.5 * watts) == 64
    assert [p.limit for p in points] == ["none", "none", "power"]
    assert points[2].train_s == points[1].train_s
    assert points[2].estimate.num_idle == 64
    assert points[2].gains["power"] == pytest.approx(curve(sizes=(64, 128))[0].train_s / curve(sizes=(128,))[0].train_s)


def test_walls_taken_away_change_nothing_else():
    better = without_network(CLUSTER)
    for old, new in zip(CLUSTER.fabric.tiers, better.fabric.tiers, strict=True):
        assert new.effective_bytes_per_s == pytest.approx(10 * old.effective_bytes_per_s)
        assert (new.size, new.latency_s) == (old.size, old.latency_s / 10)
    assert better.accelerator == CLUSTER.accelerator
    roomy = without_memory(CLUSTER).accelerator
    assert roomy.hbm_bytes == 10 * CLUSTER.accelerator.hbm_bytes
    assert roomy.hbm_bytes_per_s == CLUSTER.accelerator.hbm_bytes_per_s
    assert without_stragglers(PROFILE) == replace(PROFILE, jitter_per_doubling=0.0, jitter_per_doubling_fp8=0.0)


def test_progress_ends_at_the_end():
    told = []
    curve(sizes=(8, 16), progress=lambda done, of: told.append((done, of)))

    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert told == sorted(told)


def test_every_catalogued_fabric_reaches_any_size():
    """The last tier is unbounded, so one cluster's fabric serves every size of its curve."""
    for name in catalog.names("fabric"):
        assert math.isinf(catalog.fabric(name).spec.tiers[-1].size)


def points_of(times, limit="batch"):
    """A curve of bare times at 1, 2, 4, ... accelerators."""
    return [
        ScalingPoint(num_accelerators=2**i, global_batch=1, estimate=None, tokens=1.0, train_s=t, limit=limit)
        for i, t in enumerate(times)
    ]


def test_how_far_by_hand():
    """Gains of doubling: 2, 1.8, 1.4, 1.1: from the third size on below 1.5."""
    far = how_far(points_of([100.0, 50.0, 50 / 1.8, 50 / 1.8 / 1.4, 50 / 1.8 / 1.4 / 1.1]))

    assert (far.num_accelerators, far.limit, far.largest) == (4, "batch", 8)
    assert far.gain == pytest.approx(1.4)


def test_one_bad_size_does_not_end_the_curve():
    far = how_far(points_of([100.0, 90.0, 40.0, 20.0, 19.0]))
    assert far.num_accelerators == 8


def test_a_curve_that_keeps_gaining_says_so():
    far = how_far(points_of([8.0, 4.0, 2.0, 1.0]))
    assert (far.num_accelerators, far.limit, far.largest) == (None, "none", 4)
    assert how_far(points_of([math.inf, math.inf])).largest == 0


def test_how_far_reads_between_sizes():
    """A straight line of logarithms: sizes that are no doublings give the same answer."""
    sizes = [1, 3, 9, 27, 81, 243]
    points = [
        ScalingPoint(num_accelerators=n, global_batch=1, estimate=None, tokens=1.0, train_s=n**-0.8, limit="network")
        for n in sizes
    ]
    assert how_far(points, least_gain=1.8).num_accelerators == 1
    assert how_far(points, least_gain=1.7).num_accelerators is None
    assert how_far(points, least_gain=1.8).gain == pytest.approx(2**0.8)
