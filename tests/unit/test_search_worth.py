"""What a better cluster would save, against the step model, a brute force and Amdahl's law."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.search import scaled, search
from makespan.search.objectives import estimate_value
from makespan.search.worth import BETTER, accelerators_worth, hardware_worth
from makespan.specs.layout import LayoutStatus
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

THIN = SearchConstraints(thorough=False)
PROFILE = catalog.framework("megatron-2026").spec
DENSE = (catalog.model("llama3.1-70b").spec, StepConfig(global_batch=128, seq_len=8192, precision="bf16"))
MIXTURE = (catalog.model("qwen3-30b-a3b").spec, StepConfig(global_batch=128, seq_len=4096, precision="bf16"))
CLUSTER = parse_cluster("64xh100-sxm")


def best_of(case, cluster=CLUSTER, constraints=THIN):
    return search(*case, cluster, PROFILE, constraints, top=1, front=False).best


def worth_of(case, cluster=CLUSTER, constraints=THIN):
    return hardware_worth(*case, cluster, PROFILE, constraints, best_of(case, cluster, constraints))


@pytest.fixture(scope="module", params=[DENSE, MIXTURE], ids=["dense", "mixture"])
def both(request):
    return request.param, worth_of(request.param)


def test_every_improvement_is_told_largest_saving_first(both):
    _, found = both
    saved = [worth.saved_fraction for worth in found]

    assert saved == sorted(saved, reverse=True)
    assert {worth.name for worth in found} == {
        "HBM capacity",
        "HBM bandwidth",
        "FLOP/s",
        "scale-up bandwidth",
        "scale-out bandwidth",
        "oversubscription",
        "scale-up domain",
        "network latency",
    }
    assert {worth.change for worth in found if worth.name == "scale-up domain"} == {"8 to 16", "8 to 72"}
    assert len(found) == 9


def test_ten_per_cent_more_of_anything_saves_at_most_what_amdahl_allows(both):
    """A step that did nothing else would take 1/1.1 of the time. FLOP/s does not help bytes, latency or launches."""
    _, found = both
    for worth in found:
        if worth.change == "+10 %" and worth.name != "HBM capacity":
            assert 0.0 <= worth.saved_fraction < 1.0 - 1.0 / BETTER
        assert worth.saved_fraction >= worth.kept_fraction >= 0.0


def test_a_saving_is_the_step_model_s_own(both):
    """The old layout on the faster chip, worked out by hand here; a new layout is legal, and better."""
    case, found = both
    changed = {
        "FLOP/s": scaled.scaled_arithmetic(CLUSTER, BETTER),
        "HBM bandwidth": scaled.scaled_hbm_bandwidth(CLUSTER, BETTER),
        "HBM capacity": scaled.scaled_hbm_capacity(CLUSTER, BETTER),
    }
    old = next(worth for worth in found if worth.name == "oversubscription").estimate
    for worth in found:
        if worth.name not in changed:
            continue
        kept = step_estimate(*case, changed[worth.name], PROFILE, old.layout, memory_headroom=0.05)
        again = step_estimate(*case, changed[worth.name], PROFILE, worth.estimate.layout, memory_headroom=0.05)
        assert worth.kept_fraction == pytest.approx(1.0 - kept.time_s / old.time_s)
        assert worth.saved_fraction == pytest.approx(1.0 - again.time_s / old.time_s)
        assert again.status is LayoutStatus.OK
        assert worth.same_layout == (worth.estimate.layout == old.layout)


def test_nothing_is_credited_that_the_thin_search_finds_without_the_improvement(both):
    """The layouts that win on better clusters are no better than the reference on this one."""
    case, found = both
    old = next(worth for worth in found if worth.name == "oversubscription").estimate
    assert old.time_s <= best_of(case).time_s
    for worth in found:
        without = step_estimate(*case, CLUSTER, PROFILE, worth.estimate.layout, memory_headroom=0.05)
        assert without.status is not LayoutStatus.OK or without.time_s >= old.time_s * (1.0 - 1e-8)


def test_a_saving_is_at_least_that_of_searching_the_changed_cluster(both):
    """Brute force: the whole thin space on the faster network."""
    case, found = both
    faster = scaled.scaled_scale_up_bandwidth(CLUSTER, BETTER)
    worth = next(worth for worth in found if worth.name == "scale-up bandwidth")

    assert worth.estimate.time_s <= best_of(case, faster).time_s * (1.0 + 1e-9)


def everything_faster(cluster, profile, factor):
    """Rates times a factor, every fixed time over it: the whole step must follow."""
    for change in (
        scaled.scaled_arithmetic,
        scaled.scaled_hbm_bandwidth,
        scaled.scaled_scale_up_bandwidth,
        scaled.scaled_scale_out_bandwidth,
    ):
        cluster = change(cluster, factor)
    cluster = scaled.scaled_latency(cluster, 1.0 / factor)
    tiers = tuple(
        tier
        if tier.collectives is None
        else replace(tier, collectives=replace(tier.collectives, ramp_s=tier.collectives.ramp_s / factor))
        for tier in cluster.fabric.tiers
    )
    kernels = cluster.accelerator.kernels
    gemm = {name: replace(fit, overhead_s=fit.overhead_s / factor) for name, fit in kernels.gemm.items()}
    accelerator = replace(
        cluster.accelerator,
        kernels=replace(kernels, gemm=gemm),
        host_bytes_per_s=cluster.accelerator.host_bytes_per_s * factor,
    )
    overheads = [field.name for field in dataclasses.fields(profile) if field.name.endswith("_s")]
    profile = replace(profile, **{name: getattr(profile, name) / factor for name in overheads})
    return replace(cluster, accelerator=accelerator, fabric=replace(cluster.fabric, tiers=tiers)), profile


@pytest.mark.parametrize("case", [DENSE, MIXTURE], ids=["dense", "mixture"])
def test_everything_ten_per_cent_faster_takes_exactly_a_tenth_off_the_speed(case):
    """The sum rule: 1 - 1/1.1 with latencies and launches, less without them, and no rate is counted twice."""
    layout = best_of(case).layout
    before = step_estimate(*case, CLUSTER, PROFILE, layout).time_s
    faster, profile = everything_faster(CLUSTER, PROFILE, BETTER)
    rates, _ = everything_faster(CLUSTER, PROFILE, 1.0)
    assert step_estimate(*case, rates, PROFILE, layout).time_s == before

    assert step_estimate(*case, faster, profile, layout).time_s == pytest.approx(before / BETTER, rel=1e-12)
    rates = CLUSTER
    singles = []
    for change in (
        scaled.scaled_arithmetic,
        scaled.scaled_hbm_bandwidth,
        scaled.scaled_scale_up_bandwidth,
        scaled.scaled_scale_out_bandwidth,
    ):
        singles.append(1.0 - step_estimate(*case, change(CLUSTER, BETTER), PROFILE, layout).time_s / before)
        rates = change(rates, BETTER)
    together = 1.0 - step_estimate(*case, rates, PROFILE, layout).time_s / before
    assert max(singles) < together < 1.0 - 1.0 / BETTER


def test_more_memory_lets_a_layout_run_that_did_not_fit():
    """Chips with too little for any layout but those that recompute: the capacity is worth a new layout."""
    small = scaled.scaled_hbm_capacity(CLUSTER, 0.5)
    found = worth_of(DENSE, small)
    capacity = next(worth for worth in found if worth.name == "HBM capacity")
    without = step_estimate(*DENSE, small, PROFILE, capacity.estimate.layout, memory_headroom=0.05)

    assert capacity.kept_fraction == 0.0
    assert capacity.saved_fraction > 0.0
    assert not capacity.same_layout
    assert without.status is LayoutStatus.OUT_OF_MEMORY


def test_a_fixed_dimension_stays_fixed():
    constraints = SearchConstraints(thorough=False, tp=4, sharding="zero1", micro_batch=1)
    found = worth_of(DENSE, constraints=constraints)

    for worth in found:
        layout = worth.estimate.layout
        assert (layout.tp, layout.sharding.name, layout.micro_batch) == (4, "ZERO1", 1)


def test_where_dp_is_fixed_accelerators_are_not_compared():
    best = best_of(DENSE)
    constraints = SearchConstraints(thorough=False, dp=best.layout.dp)
    found = worth_of(DENSE, constraints=constraints)

    assert all(math.isnan(worth.accelerators_fraction) for worth in found)
    assert all(worth.estimate.layout.dp == best.layout.dp for worth in found)


@pytest.mark.parametrize("objective", [Objective.COST, Objective.ENERGY])
def test_the_saving_is_of_the_objective(objective):
    constraints = SearchConstraints(thorough=False, objective=objective)
    found = worth_of(DENSE, constraints=constraints)
    flops = next(worth for worth in found if worth.name == "FLOP/s")
    old = next(worth for worth in found if worth.name == "oversubscription").estimate
    faster = scaled.scaled_arithmetic(CLUSTER, BETTER)
    before = estimate_value(objective, *DENSE, CLUSTER, PROFILE, old)
    after = estimate_value(objective, *DENSE, faster, PROFILE, flops.estimate)

    assert 0.0 < flops.saved_fraction < 1.0 - 1.0 / BETTER
    assert flops.saved_fraction == pytest.approx(1.0 - after / before)
    assert math.isnan(flops.accelerators_fraction)


def with_tiers(cluster, change):
    return replace(cluster, fabric=replace(cluster.fabric, tiers=tuple(change(t) for t in cluster.fabric.tiers)))


def test_the_most_oversubscribed_tier_is_freed_and_nothing_else():
    ratios = {"rail": 2.0, "spine": 8.0}
    blocked = with_tiers(CLUSTER, lambda tier: replace(tier, oversubscription=ratios.get(tier.name, 1.0)))
    freed = scaled.scaled_oversubscription(blocked)

    assert [tier.oversubscription for tier in freed.fabric.tiers] == [1.0, 2.0, 1.0, 1.0]
    again = scaled.scaled_oversubscription(freed)
    assert [tier.oversubscription for tier in again.fabric.tiers] == [1.0] * 4
    assert scaled.scaled_oversubscription(again) is again
    assert scaled.most_oversubscribed(again) is None


def test_a_blocked_rail_is_worth_freeing_and_a_free_one_is_not():
    blocked = with_tiers(CLUSTER, lambda tier: replace(tier, oversubscription=8.0 if tier.name == "rail" else 1.0))
    by_name = {worth.name: worth for worth in worth_of(MIXTURE, blocked)}
    assert by_name["oversubscription"].change == "rail 8 to 1"
    assert by_name["oversubscription"].saved_fraction > 0.01

    free = {worth.name: worth for worth in worth_of(MIXTURE)}["oversubscription"]
    assert free.change.startswith("none")
    assert (free.saved_fraction, free.same_layout) == (0.0, True)


def test_a_wider_domain_is_wider_in_chip_and_fabric_and_outer_tiers_hold_whole_domains():
    wide = scaled.scaled_domain(CLUSTER, 72)

    assert wide.accelerator.scale_up_domain_size == 72
    assert [tier.size for tier in wide.fabric.tiers] == [72, 288, 16416, math.inf]
    assert scaled.scale_up_domain(wide) == 72
    assert [tier.bytes_per_s for tier in wide.fabric.tiers] == [tier.bytes_per_s for tier in CLUSTER.fabric.tiers]


def test_one_domain_that_holds_the_cluster_is_wide_enough():
    found = worth_of(MIXTURE, parse_cluster("8xh100-sxm"), replace(THIN, memory_headroom=0.0))
    domains = [worth for worth in found if worth.name == "scale-up domain"]

    assert [worth.saved_fraction for worth in domains] == [0.0]
    assert domains[0].change.startswith("none")


def test_half_the_latency_halves_what_is_counted_a_time_and_leaves_what_grows_with_the_message():
    quick = scaled.scaled_latency(CLUSTER, 0.5)
    for old, new in zip(CLUSTER.fabric.tiers, quick.fabric.tiers, strict=True):
        assert new.latency_s == old.latency_s / 2
        assert new.bytes_per_s == old.bytes_per_s
        if old.collectives is not None:
            assert new.collectives.launch_s == old.collectives.launch_s / 2
            assert new.collectives.hop_s == old.collectives.hop_s / 2
            assert new.collectives.ramp_s == old.collectives.ramp_s


@pytest.mark.parametrize(
    ("change", "in_chip", "tiers"),
    [
        (scaled.scaled_scale_up_bandwidth, "scale_up_bytes_per_s", [2.0, 1.0, 1.0, 1.0]),
        (scaled.scaled_scale_out_bandwidth, "scale_out_bytes_per_s", [1.0, 2.0, 2.0, 2.0]),
        (scaled.scaled_hbm_bandwidth, "hbm_bytes_per_s", [1.0] * 4),
        (scaled.scaled_hbm_capacity, "hbm_bytes", [1.0] * 4),
    ],
)
def test_a_change_is_made_in_chip_and_fabric_and_nowhere_else(change, in_chip, tiers):
    changed = change(CLUSTER, 2.0)
    old, new = CLUSTER.accelerator, changed.accelerator
    differ = [field.name for field in dataclasses.fields(old) if getattr(old, field.name) != getattr(new, field.name)]

    assert differ == [in_chip]
    assert getattr(new, in_chip) == 2.0 * getattr(old, in_chip)
    ratios = [b.bytes_per_s / a.bytes_per_s for a, b in zip(CLUSTER.fabric.tiers, changed.fabric.tiers, strict=True)]
    assert ratios == tiers
    assert replace(changed, accelerator=old, fabric=CLUSTER.fabric) == CLUSTER


@given(saved=st.floats(0.0, 0.9), exponent=st.floats(0.05, 1.2))
def test_accelerators_that_save_the_same_do(saved, exponent):
    more = accelerators_worth(saved, exponent)

    assert (1.0 + more) ** -exponent == pytest.approx(1.0 - saved)


def test_accelerators_are_compared_with_a_cluster_that_has_more_of_them():
    """Small, and far from any wall: 10 % more accelerators save about 10 % of the time, so do not many more than 9 %."""
    flops = next(worth for worth in worth_of(DENSE) if worth.name == "FLOP/s")

    assert 0.8 * flops.saved_fraction < flops.accelerators_fraction < 1.6 * flops.saved_fraction


def test_a_layout_that_does_not_run_has_no_worth():
    best = best_of(DENSE)
    broken = replace(best, status=LayoutStatus.OUT_OF_MEMORY)

    assert hardware_worth(*DENSE, CLUSTER, PROFILE, THIN, broken) == ()
