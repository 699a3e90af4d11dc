"""Which constraint emptied a search."""

from dataclasses import dataclass

import pytest

from makespan.scenario import parse_cluster, parse_constraints, parse_framework, parse_model
from makespan.search import emptied as room
from makespan.search import search
from makespan.search.emptied import why_empty
from makespan.specs.layout import Layout
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig

CONFIG = StepConfig(global_batch=128, seq_len=4096, precision="bf16")
MODEL = parse_model("llama3.1-8b")
PROFILE = parse_framework("megatron-2026")
CLUSTER = parse_cluster("8xh100-sxm")


@dataclass
class Answer:
    best: object
    nearest: object = None


def asked_of(monkeypatch, fits):
    """Replace the search by a rule on constraints and cluster size; note what it is asked."""
    asked = []

    def search(_model, _config, cluster, _profile, constraints, *, top, front):
        assert (constraints.thorough, front, top) == (True, False, 1)
        asked.append(constraints)
        found = fits(constraints, cluster.num_accelerators)
        return Answer(best="found" if found else None, nearest=None if found else (Layout(), 1e9))

    monkeypatch.setattr(room, "search", search)
    return asked


def releases(constraints, cluster=CLUSTER):
    return [release.names for release in why_empty(MODEL, CONFIG, cluster, PROFILE, constraints).releases]


def test_the_single_constraints_whose_removal_is_enough_are_named(monkeypatch):
    asked_of(monkeypatch, lambda c, _: c.tp is None or c.memory_headroom == 0)
    assert releases(SearchConstraints(tp=8, pp=2, recompute="none")) == [("tp",), ("memory_headroom",)]


def test_pairs_are_named_where_no_single_one_is_enough(monkeypatch):
    asked_of(monkeypatch, lambda c, _: (c.tp is None) + (c.pp is None) + (c.min_used_fraction == 0) >= 2)
    found = releases(SearchConstraints(tp=8, pp=2, dp=3))
    assert found == [("tp", "pp"), ("tp", "min_used_fraction"), ("pp", "min_used_fraction")]


def test_a_set_of_which_none_can_be_kept_is_named_where_no_pair_is_enough(monkeypatch):
    asked_of(monkeypatch, lambda c, _: c.tp is None and c.pp is None and c.dp is None)
    assert releases(SearchConstraints(tp=8, pp=2, cp=1, dp=3)) == [("tp", "pp", "dp")]


def test_where_nothing_fits_at_all_the_nearest_and_a_size_that_would_do_are_told(monkeypatch):
    asked = asked_of(monkeypatch, lambda _, size: size >= 60)
    found = why_empty(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints(tp=8))
    assert found.releases == ()
    assert found.nearest == (Layout(), 1e9)
    assert found.enough_accelerators == 64
    assert all(c.tp is None and c.memory_headroom == 0 and c.min_used_fraction == 0 for c in asked)


def test_the_nearest_never_lacks_more_than_the_one_that_was_known(monkeypatch):
    asked_of(monkeypatch, lambda *_: False)
    near, far = (Layout(tp=8), 5e8), (Layout(tp=8), 2e9)
    for known, told in ((near, near), (far, (Layout(), 1e9)), (None, (Layout(), 1e9))):
        assert why_empty(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints(), nearest=known).nearest == told


def test_a_thin_space_that_stands_in_the_way_is_named(monkeypatch):
    asked = asked_of(monkeypatch, lambda *_: True)
    assert releases(SearchConstraints(tp=8, thorough=False)) == [("thorough",)]
    assert len(asked) == 1


def test_many_constraints_are_not_tried_in_pairs(monkeypatch):
    asked = asked_of(monkeypatch, lambda c, _: c.tp is None and c.pp is None)
    assert releases(SearchConstraints(tp=8, pp=2, cp=1, dp=3, vpp=1)) == [("tp", "pp")]
    assert len(asked) == 1 + 7 + 7


def test_405b_on_sixteen_accelerators_fits_on_twice_as_many_with_host_memory():
    config = StepConfig(global_batch=2048, seq_len=8192, precision="bf16")
    model, cluster = parse_model("llama3.1-405b"), parse_cluster("16xh100-sxm")
    first = search(model, config, cluster, PROFILE, SearchConstraints(), top=1, front=False).nearest
    found = why_empty(model, config, cluster, PROFILE, SearchConstraints(), nearest=first)
    assert found.enough_accelerators == 32
    assert found.nearest[1] <= first[1]


def test_a_cluster_a_thousand_times_as_large_is_the_last_that_is_tried(monkeypatch):
    asked = asked_of(monkeypatch, lambda *_: False)
    assert why_empty(MODEL, CONFIG, CLUSTER, PROFILE, SearchConstraints()).enough_accelerators is None
    assert len(asked) == 1 + room.MOST_DOUBLINGS


def test_no_cluster_is_tried_that_nobody_can_build(monkeypatch):
    asked = asked_of(monkeypatch, lambda *_: False)
    found = why_empty(MODEL, CONFIG, parse_cluster("3000000xh100-sxm"), PROFILE, SearchConstraints())
    assert (len(asked), found.most_tried) == (2, 6_000_000)


@pytest.mark.parametrize(
    ("fix", "headroom", "expected"),
    [
        ("tp=1,recompute=none,sharding=none,pp=1", None, None),
        ("tp=1,cp=1,pp=1,dp=8,recompute=none,offload=none,sharding=none,micro_batch=4", None, None),
        ("", "90%", [("memory_headroom",)]),
        ("tp=1,cp=1,pp=1,dp=1", "0%", [("tp",), ("pp",), ("cp",), ("dp",)]),
    ],
)
def test_with_the_real_search_every_release_fits_and_obeys_the_rest(fix, headroom, expected):
    constraints = parse_constraints(fix, memory_headroom=headroom)
    found = why_empty(MODEL, CONFIG, CLUSTER, PROFILE, constraints)
    assert found.releases
    for release in found.releases:
        layout = release.best.layout
        kept = {"tp", "pp", "cp", "dp", "micro_batch"} - set(release.names)
        assert all(getattr(constraints, name) in (None, getattr(layout, name)) for name in kept)
        assert release.best.memory.fits
        if "memory_headroom" not in release.names:
            limit = CLUSTER.accelerator.hbm_bytes * (1 - constraints.memory_headroom)
            assert release.best.memory.total_bytes <= limit
    if expected is not None:
        assert set(expected) <= {release.names for release in found.releases}


def test_405b_on_eight_accelerators_needs_more_of_them():
    found = why_empty(parse_model("llama3.1-405b"), CONFIG, CLUSTER, PROFILE, SearchConstraints(tp=8))
    assert found.releases == ()
    assert found.enough_accelerators in (16, 32, 64)
