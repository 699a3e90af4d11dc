"""Capacity by date: sites worked by hand, and rules that hold for every site."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from makespan.specs.hardware import AcceleratorSpec, AttentionEfficiency, FabricSpec, KernelSpec, NodeSpec
from makespan.specs.supply import (
    CAUSES,
    ActivitySpec,
    BuildCosts,
    BuildSpec,
    DeliveryLot,
    HallSpec,
    PowerSource,
    RampStep,
    RentSpec,
    SupplyResult,
)
from makespan.supply import ScheduleError, firm_power_w, runnable_accelerators, schedule_problems, supply
from makespan.supply.install import arrivals, handover_groups, pods_of
from makespan.supply.power import firm_capacity_w
from makespan.uncertainty import Distribution, Fixed, Streams, Triangular

DAY_S = 86400.0
YEARS_S = 5 * 365.25 * DAY_S
ACCELERATOR = AcceleratorSpec(
    name="a",
    family="f",
    vendor="v",
    peak_flop_per_s={"bf16": 1e15},
    hbm_bytes=8e10,
    hbm_bytes_per_s=3e12,
    scale_up_domain_size=8,
    scale_up_bytes_per_s=4.5e11,
    scale_out_bytes_per_s=5e10,
    idle_w=70.0,
    tdp_w=700.0,
    kernels=KernelSpec(gemm={}, attention=AttentionEfficiency(flop_utilisation=0.5), elementwise_hbm_utilisation=0.8),
)
ONE_KW = NodeSpec(
    name="one kilowatt an accelerator, with its share of the network",
    accelerator="a",
    accelerators_per_node=8,
    nameplate_w=12e3,
    provisioned_peak_w=7.2e3,
    mean_training_w=6e3,
    idle_w=2e3,
    network_storage_w=0.8e3,
)
FABRIC = FabricSpec(name="f", tiers=())
COSTS = BuildCosts(
    compute_usd_per_accelerator=Fixed(value=1.0),
    construction_usd_per_it_w=Fixed(value=1.0),
    compute_life_s=1.0,
    construction_life_s=1.0,
)


def days(value: float) -> Fixed:
    return Fixed(value=value * DAY_S)


def spread(low: float, mode: float, high: float) -> Triangular:
    return Triangular(low=low * DAY_S, mode=mode * DAY_S, high=high * DAY_S)


BY_HAND = BuildSpec(
    name="by hand",
    place="x",
    accelerator=ACCELERATOR,
    node=ONE_KW,
    fabric=FABRIC,
    num_accelerators=1000,
    activities=(
        ActivitySpec(name="shell", duration_s=days(10), cause="permit"),
        ActivitySpec(name="cooling", duration_s=days(5), after=("shell",), lag_s=DAY_S, cause="cooling"),
    ),
    halls=(HallSpec(name="A", num_accelerators=1000, after=("cooling",)),),
    deliveries=(
        DeliveryLot(at_s=days(4), num_accelerators=400),
        DeliveryLot(at_s=days(24), num_accelerators=600),
    ),
    power=(
        PowerSource(name="grid", kind="grid", capacity_w=Fixed(value=500e3), from_s=days(0)),
        PowerSource(
            name="gas",
            kind="turbine",
            capacity_w=Fixed(value=250e3),
            from_s=days(31),
            num_units=4,
            num_redundant=1,
        ),
    ),
    install_per_s=Fixed(value=100 / DAY_S),
    pod_size=400,
    burn_in_s=days(2),
    first_pass_yield=Fixed(value=0.9),
    repair_s=days(5),
    pue=Fixed(value=1.25),
    costs=COSTS,
)
"""Pods of 400, 400, 200. The first: cooling ends on day 16, racked 16 to 20, 360 accepted on 22 and 40 on 27. The
second waits for the lot of day 24: racked to 28, accepted 30, repaired 35. The third follows: 30, 32, 37. Grid power
carries 500 / 1.25 = 400, from day 31 with three of four turbines 1,000."""


def run(pool: BuildSpec | RentSpec, num_replicates: int = 1, seed: int = 7, horizon_s: float = YEARS_S) -> SupplyResult:
    return supply(pool, Streams(seed=seed, num_replicates=num_replicates), horizon_s=horizon_s)


def in_days(line, values) -> list[tuple[float, float]]:
    """Changes of one array of a timeline in its first replicate, as (day, value)."""
    live = np.isfinite(line.start_s[0])
    rows = zip(line.start_s[0, live] / DAY_S, values[0, live].tolist(), strict=True)
    changes: list[tuple[float, float]] = []
    for day, value in rows:
        if not changes or changes[-1][1] != value:
            changes.append((round(day, 6), value))
    return changes


# --- a site worked by hand ---------------------------------------------------------------------------------------


def test_installed_powered_and_limit_by_hand():
    line = run(BY_HAND).timeline

    assert in_days(line, line.installed) == [(0, 0), (22, 360), (27, 400), (30, 760), (32, 940), (35, 980), (37, 1000)]
    assert in_days(line, line.powered) == [
        (0, 0),
        (22, 360),
        (27, 400),
        (31, 760),
        (32, 940),
        (35, 980),
        (37, 1000),
    ]
    assert_array_equal(line.usable, line.powered)
    assert in_days(line, line.power_limit_w) == [(0, 500e3), (31, 1250e3)]


def test_causes_by_hand():
    line = run(BY_HAND).timeline

    assert [(day, CAUSES[int(code)]) for day, code in in_days(line, line.binding)] == [
        (0, "permit"),  # the shell
        (10, "cooling"),  # its lag of a day is part of the wait for it
        (16, "installation"),
        (20, "commissioning"),
        (22, "delivery"),
        (24, "installation"),
        (28, "commissioning"),
        (30, "power"),
        (31, "installation"),  # the third pod only waits its turn
        (32, "commissioning"),  # repairs
        (37, "none"),
    ]


def test_three_dates_by_hand():
    """The first date asks for a whole pod of 400, so it waits for the first pod's repairs."""
    answer = run(BY_HAND)

    assert answer.first_usable_s / DAY_S == pytest.approx([27])
    assert answer.all_installed_s / DAY_S == pytest.approx([37])
    assert answer.all_powered_s / DAY_S == pytest.approx([37])


def test_power_that_comes_last_moves_only_the_third_date():
    late_gas = replace(BY_HAND.power[1], from_s=days(60))
    answer = run(replace(BY_HAND, power=(BY_HAND.power[0], late_gas)))

    assert answer.all_installed_s / DAY_S == pytest.approx([37])
    assert answer.all_powered_s / DAY_S == pytest.approx([60])
    assert answer.criticality == {
        "shell": 0,
        "cooling": 0,
        "power: grid": 0,
        "power: gas": 1,
        "hall A: installation": 0,
        "hall A: commissioning": 0,
        "delivery 1: 400": 0,
        "delivery 2: 600": 0,
    }


def test_the_path_to_the_last_accelerator_leads_through_the_last_wait():
    """The second lot held the crew up, so neither the shell nor the first lot is on the path."""
    share = run(BY_HAND).criticality

    assert {name for name, value in share.items() if value == 1} == {
        "delivery 2: 600",
        "hall A: installation",
        "hall A: commissioning",
    }
    early = replace(BY_HAND, deliveries=(DeliveryLot(at_s=days(4), num_accelerators=1000),))
    share = run(early).criticality
    assert {name for name, value in share.items() if value == 1} == {
        "shell",
        "cooling",
        "hall A: installation",
        "hall A: commissioning",
    }


def test_milestones_by_hand():
    found = {name: (start[0] / DAY_S, end[0] / DAY_S) for name, (start, end) in run(BY_HAND).milestones.items()}

    assert found == {
        "shell": (0, 10),
        "cooling": (11, 16),
        "hall A: installation": pytest.approx((16, 30)),
        "hall A: commissioning": pytest.approx((20, 37)),
        "delivery 1: 400": (4, 4),
        "delivery 2: 600": (24, 24),
        "power: grid": (0, math.inf),
        "power: gas": (31, math.inf),
    }


def test_halls_are_filled_in_order_even_if_a_later_one_is_ready_first():
    """Hall B stands ready, but the crew is kept for hall A: 16 + 5 days for A, 5 for B, then burn-in."""
    build = replace(
        BY_HAND,
        halls=(
            HallSpec(name="A", num_accelerators=500, after=("cooling",)),
            HallSpec(name="B", num_accelerators=500),
        ),
        deliveries=(),
        first_pass_yield=Fixed(value=1.0),
    )

    assert run(build).all_installed_s / DAY_S == pytest.approx([16 + 5 + 5 + 2])


def test_accelerators_that_stand_already_count_from_the_first_day_and_need_no_delivery():
    build = replace(BY_HAND, initial_accelerators=600, deliveries=(DeliveryLot(at_s=days(4), num_accelerators=400),))
    line = run(build).timeline

    assert in_days(line, line.installed) == [(0, 600), (22, 960), (27, 1000)]
    assert in_days(line, line.powered) == [(0, 400), (31, 960 + 40)]


# --- activities --------------------------------------------------------------------------------------------------


def test_an_activity_starts_after_the_last_of_its_predecessors_and_not_before_its_own_date():
    #  a (3) ─┐
    #         ├─> c (4, lag 2) ─> d (1)      e: 2 days, not before day 20, after d
    #  b (5) ─┘
    build = replace(
        BY_HAND,
        activities=(
            ActivitySpec(name="e", duration_s=days(2), after=("d",), not_before_s=days(20)),
            ActivitySpec(name="d", duration_s=days(1), after=("c",)),
            ActivitySpec(name="c", duration_s=days(4), after=("a", "b"), lag_s=2 * DAY_S),
            ActivitySpec(name="a", duration_s=days(3)),
            ActivitySpec(name="b", duration_s=days(5)),
        ),
        halls=(HallSpec(name="A", num_accelerators=1000, after=("e",)),),
        deliveries=(),
        starts_s=days(1),
    )
    answer = run(build)
    dates = {name: (start[0] / DAY_S, end[0] / DAY_S) for name, (start, end) in answer.milestones.items()}

    assert [dates[name] for name in "abcde"] == [(1, 4), (1, 6), (8, 12), (12, 13), (20, 22)]
    # e's own date governs, so nothing before it is on the path
    assert [answer.criticality[name] for name in "abcde"] == [0, 0, 0, 0, 1]


def test_history_keeps_its_date_whatever_the_owner_does_later():
    done = ActivitySpec(name="shell", duration_s=days(0), not_before_s=days(-7))
    build = replace(BY_HAND, activities=(done, BY_HAND.activities[1]), starts_s=days(-1))
    answer = run(build)

    assert answer.milestones["shell"][1][0] == -7 * DAY_S
    assert answer.milestones["cooling"][0][0] == -1 * DAY_S


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activities": (ActivitySpec(name="shell", duration_s=days(1), after=("roof",)),)}, "'roof', which is no"),
        (
            {
                "activities": (
                    ActivitySpec(name="cooling", duration_s=days(1), after=("shell",)),
                    ActivitySpec(name="shell", duration_s=days(1), after=("cooling",)),
                )
            },
            "in a loop: cooling -> shell -> cooling",
        ),
        ({"activities": (BY_HAND.activities[0], *BY_HAND.activities)}, "activity 'shell' is named twice"),
        ({"halls": (HallSpec(name="A", num_accelerators=1000, after=("door",)),)}, "hall 'A' comes after 'door'"),
        ({"power": (replace(BY_HAND.power[0], after=("line",)),)}, "power source 'grid' comes after 'line'"),
        ({"activities": (ActivitySpec(name="cooling", duration_s=days(1), after=("cooling",)),)}, "in a loop: cooling"),
    ],
)
def test_a_broken_network_says_what_is_wrong(change, message):
    build = replace(BY_HAND, **change)

    assert any(message in problem for problem in schedule_problems(build))
    with pytest.raises(ScheduleError, match="by hand") as caught:
        run(build)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_sound_network_has_no_problems():
    assert schedule_problems(BY_HAND) == ()


def test_a_crew_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match="installation rate"):
        run(replace(BY_HAND, install_per_s=Fixed(value=0.0)))


# --- pods and lots -----------------------------------------------------------------------------------------------


def test_pods_do_not_cross_halls_and_end_at_the_number_wanted():
    build = replace(
        BY_HAND,
        halls=tuple(HallSpec(name=name, num_accelerators=450) for name in "ABC"),
        pod_size=200,
        initial_accelerators=250,
    )
    pods = pods_of(build)

    assert pods.size.tolist() == [200, 200, 200, 50, 100]
    assert pods.hall.tolist() == [0, 1, 1, 1, 2]
    assert pods.needed.tolist() == [200, 400, 600, 650, 750]
    assert pods.first_of_hall.tolist() == [0, 1, 4]


def test_handover_groups_stay_inside_halls():
    build = replace(
        BY_HAND, halls=tuple(HallSpec(name=name, num_accelerators=500) for name in "AB"), pod_size=100
    )  # five pods a hall

    assert handover_groups(pods_of(build), 10).tolist() == list(range(10))
    assert handover_groups(pods_of(build), 5).tolist() == [1, 3, 4, 6, 8, 9]


def test_lots_may_overtake_each_other():
    lots = (DeliveryLot(at_s=days(1), num_accelerators=100), DeliveryLot(at_s=days(1), num_accelerators=50))
    dates, which = arrivals(lots, np.array([[9.0, 3.0], [3.0, 9.0]]), np.array([50, 60, 150, 151]))

    assert dates.tolist() == [[3, 9, 9, math.inf], [3, 3, 9, math.inf]]
    assert which.tolist() == [[1, 0, 0, -1], [0, 0, 1, -1]]


# --- power -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "firm_mw"),
    [
        ({"kind": "grid"}, 2.5),
        ({"kind": "turbine", "num_units": 14}, 35.0),
        ({"kind": "turbine", "num_units": 14, "num_redundant": 1}, 32.5),
        ({"kind": "turbine", "num_units": 10, "availability": 0.9}, 22.5),
        # the spare covers the outage: one is not taken off for both
        ({"kind": "turbine", "num_units": 10, "num_redundant": 1, "availability": 0.95}, 22.5),
        # outages beyond the spare are felt
        ({"kind": "turbine", "num_units": 10, "num_redundant": 1, "availability": 0.8}, 20.0),
        ({"kind": "battery", "num_units": 50, "firm": False}, 0.0),
    ],
)
def test_firm_capacity(source, firm_mw):
    spec = PowerSource(name="s", capacity_w=Fixed(value=2.5e6), from_s=days(0), **source)

    assert firm_capacity_w(spec, np.array([2.5e6])) / 1e6 == pytest.approx([firm_mw])


def test_firm_power_by_date():
    """From its date to its end, and not before its activities: cooling ends on day 16."""
    build = replace(
        BY_HAND,
        power=(
            PowerSource(name="old", kind="grid", capacity_w=Fixed(value=8e6), from_s=days(0), until_s=days(20)),
            PowerSource(
                name="new", kind="grid", capacity_w=Fixed(value=50e6), from_s=days(3), after=("shell", "cooling")
            ),
        ),
    )
    found = firm_power_w(build, Streams(seed=1, num_replicates=2), np.array([0, 15.9, 16, 19.9, 20]) * DAY_S)

    assert (found / 1e6).tolist() == [[8, 8, 58, 58, 50]] * 2


def test_power_sized_for_a_number_carries_that_number():
    """Rounding of the division costs no accelerator; a watt less does."""
    for num in (7, 1000, 99_999, 100_000):
        for pue in (1.1, 1.23, 1.3, 1.37):
            need_w = num * pue * ONE_KW.provisioned_peak_per_accelerator_w
            assert runnable_accelerators(np.array([need_w]), ONE_KW, np.array([pue])) == [num]
            assert runnable_accelerators(np.array([need_w - 1.0]), ONE_KW, np.array([pue])) == [num - 1]


def test_memphis_on_22_july_2024_could_run_about_a_quarter():
    """8 MW of grid and 14 mobile units of 2.5 MW, 43 MW, carry 24,000 to 31,000 H100 by provisioned peak.

    10.2 kW is the most a DGX H100 draws (NVIDIA, DGX H100 user guide); the network's share of 0.8 kW a node and a PUE of
    1.2 to 1.3 are assumed.
    """
    node = replace(ONE_KW, provisioned_peak_w=10.2e3)
    build = replace(
        BY_HAND,
        node=node,
        num_accelerators=100_000,
        power=(
            PowerSource(name="grid", kind="grid", capacity_w=Fixed(value=8e6), from_s=days(0), until_s=days(22)),
            PowerSource(name="gas", kind="turbine", capacity_w=Fixed(value=2.5e6), from_s=days(12), num_units=14),
        ),
    )
    firm = firm_power_w(build, Streams(seed=1, num_replicates=1), np.array([11, 12]) * DAY_S)[0]

    assert firm.tolist() == [8e6, 43e6]
    for pue in (1.2, 1.25, 1.3):
        assert 24_000 <= runnable_accelerators(firm[1:], node, np.array([pue]))[0] <= 31_000


def test_power_that_ends_takes_accelerators_away_again():
    gas = replace(BY_HAND.power[1], until_s=days(80))
    line = run(replace(BY_HAND, power=(BY_HAND.power[0], gas))).timeline

    assert in_days(line, line.powered)[-2:] == [(37, 1000), (80, 400)]
    assert in_days(line, line.installed)[-1] == (37, 1000)
    assert CAUSES[int(in_days(line, line.binding)[-1][1])] == "power"


# --- never -------------------------------------------------------------------------------------------------------


def test_a_site_that_is_never_energised_is_installed_but_never_powered():
    never = tuple(replace(source, from_s=Fixed(value=math.inf)) for source in BY_HAND.power)
    answer = run(replace(BY_HAND, power=never))

    assert answer.all_installed_s / DAY_S == pytest.approx([37])
    assert answer.first_usable_s.tolist() == answer.all_powered_s.tolist() == [math.inf]
    assert answer.criticality["power: gas"] == answer.criticality["power: grid"] == 1
    assert np.all(answer.timeline.usable == 0)
    assert CAUSES[answer.timeline.binding[0, -1]] == "power"


def test_too_few_deliveries_leave_the_site_short_for_ever():
    answer = run(replace(BY_HAND, deliveries=BY_HAND.deliveries[:1]))

    assert answer.all_installed_s.tolist() == [math.inf]
    assert answer.timeline.installed.max() == 400
    assert CAUSES[answer.timeline.binding[0, -1]] == "delivery"


def test_too_few_halls_leave_the_site_short_for_ever():
    answer = run(replace(BY_HAND, halls=(HallSpec(name="A", num_accelerators=400),)))

    assert answer.timeline.installed.max() == 400
    assert CAUSES[answer.timeline.binding[0, -1]] == "construction"
    assert sum(answer.criticality.values()) == 0


def test_what_is_not_there_by_the_horizon_never_is():
    answer = run(BY_HAND, horizon_s=33 * DAY_S)

    assert answer.timeline.installed.max() == 940
    assert answer.all_installed_s.tolist() == answer.all_powered_s.tolist() == [math.inf]
    assert answer.first_usable_s / DAY_S == pytest.approx([27])


def test_an_owner_who_may_begin_later_is_held_back_by_the_contract():
    build = replace(BY_HAND, activities=(), halls=(HallSpec(name="A", num_accelerators=1000),), deliveries=())
    line = run(replace(build, starts_s=days(12))).timeline

    assert [(day, CAUSES[int(code)]) for day, code in in_days(line, line.binding)][:2] == [
        (0, "contract"),
        (12, "installation"),
    ]


def test_the_fabric_caps_a_job():
    line = run(replace(BY_HAND, largest_cluster=600)).timeline

    assert in_days(line, line.usable)[-1] == (31, 600)
    assert in_days(line, line.powered)[-1] == (37, 1000)
    assert CAUSES[int(in_days(line, line.binding)[-1][1])] == "cluster_size"


# --- rules for every site ----------------------------------------------------------------------------------------

UNCERTAIN = replace(
    BY_HAND,
    name="uncertain",
    num_accelerators=3000,
    activities=(
        ActivitySpec(name="shell", duration_s=spread(5, 10, 40), cause="construction"),
        ActivitySpec(name="cooling", duration_s=spread(3, 5, 9), after=("shell",), cause="cooling"),
        ActivitySpec(name="line", duration_s=spread(20, 40, 90), cause="power"),
    ),
    halls=tuple(HallSpec(name=name, num_accelerators=1000, after=("cooling",)) for name in "ABC"),
    deliveries=tuple(DeliveryLot(at_s=spread(n, n + 9, n + 30), num_accelerators=1000) for n in range(3)),
    power=(
        replace(BY_HAND.power[0], capacity_w=Triangular(low=1e6, mode=2e6, high=3e6)),
        replace(BY_HAND.power[0], name="second feeder", capacity_w=Fixed(value=3e6), after=("line",)),
    ),
    pod_size=64,
    install_per_s=Triangular(low=50 / DAY_S, mode=100 / DAY_S, high=150 / DAY_S),
    burn_in_s=spread(1, 2, 5),
    first_pass_yield=Triangular(low=0.8, mode=0.9, high=1.0),
    repair_s=spread(3, 5, 9),
    pue=Triangular(low=1.2, mode=1.3, high=1.4),
)
MOMENTS = np.linspace(0, 150, 301) * DAY_S


def scaled(distribution: Distribution, factor: float) -> Triangular:
    assert isinstance(distribution, Triangular)
    return replace(
        distribution,
        low=distribution.low * factor,
        mode=distribution.mode * factor,
        high=distribution.high * factor,
    )


def better_sites(size: float, index: int) -> dict[str, BuildSpec]:
    """The uncertain site with one thing made better by a share between 0 and 1."""
    site = UNCERTAIN
    lots = list(site.deliveries)
    lots[index] = replace(lots[index], at_s=scaled(lots[index].at_s, 1 - size))
    work = list(site.activities)
    work[index] = replace(work[index], duration_s=scaled(work[index].duration_s, 1 - size))
    more = replace(site.power[1], capacity_w=Fixed(value=3e6 * (1 + size)))
    return {
        "delivery": replace(site, deliveries=tuple(lots)),
        "activity": replace(site, activities=tuple(work)),
        "power": replace(site, power=(site.power[0], more)),
        "crew": replace(site, install_per_s=scaled(site.install_per_s, 1 + size)),
        "burn-in": replace(site, burn_in_s=scaled(site.burn_in_s, 1 - size)),
        "repair": replace(site, repair_s=scaled(site.repair_s, 1 - size)),
        "pue": replace(site, pue=scaled(site.pue, 1 - size / 10)),
        "standing": replace(site, initial_accelerators=int(64 * 15 * size)),
    }


@settings(max_examples=15, deadline=None)
@given(size=st.floats(0, 0.9), index=st.integers(0, 2), seed=st.integers(0, 1000))
def test_making_one_thing_better_never_costs_capacity(size, index, seed):
    base = run(UNCERTAIN, 20, seed)
    usable = base.timeline.at(base.timeline.usable, MOMENTS)
    for name, site in better_sites(size, index).items():
        answer = run(site, 20, seed)
        slack = 64 if name == "standing" else 0  # pods are cut elsewhere in a hall that is partly full
        assert np.all(answer.timeline.at(answer.timeline.usable, MOMENTS + 1e-3) >= usable - slack), name
        if slack == 0:
            for date in ("first_usable_s", "all_installed_s", "all_powered_s"):
                assert np.all(getattr(answer, date) <= getattr(base, date) + 1e-3), name


def test_the_first_replicates_do_not_depend_on_how_many_follow():
    few, many = run(UNCERTAIN, 100), run(UNCERTAIN, 1000)

    for name in ("first_usable_s", "all_installed_s", "all_powered_s", "pue"):
        assert_array_equal(getattr(few, name), getattr(many, name)[:100])
    for name in ("installed", "powered", "usable", "binding", "power_limit_w"):
        assert_array_equal(
            few.timeline.at(getattr(few.timeline, name), MOMENTS),
            many.timeline.at(getattr(many.timeline, name), MOMENTS)[:100],
        )


def test_options_that_share_a_site_share_its_luck():
    """Another option's draws in between, or fewer halls, change no duration that both have."""
    streams = Streams(seed=3, num_replicates=50)
    first = supply(UNCERTAIN, streams, horizon_s=YEARS_S)
    supply(replace(UNCERTAIN, name="elsewhere"), streams, horizon_s=YEARS_S)
    smaller = supply(replace(UNCERTAIN, halls=UNCERTAIN.halls[:1]), streams, horizon_s=YEARS_S)
    other = supply(replace(UNCERTAIN, name="elsewhere"), streams, horizon_s=YEARS_S)

    for name in ("shell", "cooling", "line", "delivery 2: 1,000"):
        assert_array_equal(first.milestones[name][1], smaller.milestones[name][1])
        assert not np.any(first.milestones[name][1] == other.milestones[name][1])


def test_a_named_distribution_is_drawn_once_for_all_that_name_it():
    """The way to let activities slip together."""
    both = tuple(
        ActivitySpec(name=name, duration_s=replace(spread(1, 5, 20), name="weather")) for name in ("roof", "yard")
    )
    milestones = run(replace(UNCERTAIN, activities=(*UNCERTAIN.activities, *both)), 30).milestones

    assert_array_equal(milestones["roof"][1], milestones["yard"][1])


def test_a_timeline_is_sorted_padded_and_says_nothing_twice():
    answer = run(UNCERTAIN, 200)
    line = answer.timeline
    live = np.isfinite(line.start_s)
    arrays = [line.installed, line.powered, line.usable, line.power_limit_w, line.binding]

    assert np.all(line.start_s[:, 0] == 0)
    assert np.all(line.start_s[:, 1:][live[:, 1:]] > line.start_s[:, :-1][live[:, 1:]])
    assert live[:, -1].any()
    changed = np.any([values[:, 1:] != values[:, :-1] for values in arrays], axis=0)
    assert_array_equal(changed, live[:, 1:])
    assert np.all(line.installed >= line.powered)
    assert np.all(line.powered >= line.usable)
    assert np.all((line.binding == 0) == (line.usable >= line.target))
    assert line.start_s.shape[1] <= 300


def test_a_site_of_any_size_stays_small():
    """A million accelerators in pods of 64: the timeline does not grow with them."""
    build = replace(
        UNCERTAIN,
        num_accelerators=1_000_000,
        halls=tuple(HallSpec(name=str(n), num_accelerators=250_000, after=("cooling",)) for n in range(4)),
        deliveries=(DeliveryLot(at_s=spread(1, 5, 9), num_accelerators=1_000_000),),
        power=(replace(UNCERTAIN.power[0], capacity_w=Fixed(value=2e9)),),
        install_per_s=Fixed(value=1e4 / DAY_S),
    )
    answer = run(build, 20)

    assert answer.timeline.start_s.shape[1] <= 300
    assert np.all(np.isfinite(answer.all_powered_s))


# --- rent --------------------------------------------------------------------------------------------------------

OFFER = RentSpec(
    name="offer",
    place="cloud",
    accelerator=ACCELERATOR,
    node=ONE_KW,
    fabric=FABRIC,
    ramp=(
        RampStep(from_s=days(-10), num_accelerators=Fixed(value=1000)),
        RampStep(from_s=days(30), num_accelerators=Fixed(value=4000)),
    ),
    price_usd_per_accelerator_s=Fixed(value=1.0),
    pue=Fixed(value=1.2),
)


def test_a_ramp_is_cumulative_and_all_of_it_is_powered():
    answer = run(OFFER)
    line = answer.timeline

    assert in_days(line, line.installed) == in_days(line, line.usable) == [(0, 1000), (30, 4000)]
    assert [CAUSES[int(code)] for _, code in in_days(line, line.binding)] == ["contract", "none"]
    assert np.all(line.power_limit_w == math.inf)
    assert line.target == 4000
    assert answer.first_usable_s[0] == 0
    assert answer.all_installed_s[0] == answer.all_powered_s[0] == 30 * DAY_S
    assert answer.pue.tolist() == [1.2]
    assert answer.criticality == {"ramp 1: 1,000": 0, "ramp 2: 4,000": 1}


def test_a_job_gets_the_healthy_share_and_never_more_than_one_cluster():
    healthy = replace(OFFER, available_fraction=Fixed(value=0.97))
    line = run(healthy).timeline
    assert in_days(line, line.usable) == [(0, 970), (30, 3880)]
    assert CAUSES[line.binding[0, -1]] == "none"  # repairs at the provider's are no wait for anything

    cut = run(replace(healthy, largest_cluster=2000)).timeline
    assert in_days(cut, cut.usable) == [(0, 970), (30, 2000)]
    assert in_days(cut, cut.installed) == [(0, 1000), (30, 4000)]
    assert [CAUSES[int(code)] for _, code in in_days(cut, cut.binding)] == ["contract", "cluster_size"]

    roomy = run(replace(healthy, largest_cluster=4000)).timeline
    assert CAUSES[roomy.binding[0, -1]] == "none"


def test_an_offer_may_bring_fewer_than_hoped():
    short = replace(OFFER.ramp[1], num_accelerators=Triangular(low=2000, mode=4000, high=4000))
    answer = run(replace(OFFER, ramp=(OFFER.ramp[0], short)), 200)
    final = answer.timeline.installed[:, -1]

    assert np.all((final >= 2000) & (final < 4000) & (final == np.floor(final)))
    assert {CAUSES[code] for code in answer.timeline.binding[:, -1]} == {"contract"}
    assert np.all(answer.all_installed_s == 30 * DAY_S)  # what there will be is there


def test_odds_of_delivery_hold_for_the_whole_offer():
    answer = run(replace(OFFER, delivery_probability=0.7), 4000)
    never = np.isinf(answer.first_usable_s)

    assert_allclose(never.mean(), 0.3, atol=0.03)
    assert_array_equal(never, np.isinf(answer.all_powered_s))
    assert np.all(answer.timeline.usable[never] == 0)
    assert {CAUSES[code] for code in answer.timeline.binding[never].ravel()} == {"contract"}


def test_an_empty_offer_never_has_anything():
    answer = run(replace(OFFER, ramp=()))

    assert answer.first_usable_s.tolist() == answer.all_installed_s.tolist() == [math.inf]
    assert answer.timeline.usable.tolist() == [[0]]
