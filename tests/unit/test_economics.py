"""Costs worked by hand: one contract, one site, one move; and what must hold whatever the figures."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from makespan.economics import COST_LINES, cost_of, month_edges_s, present_value_usd, straight_line
from makespan.economics.cash import paid_evenly, paid_once
from makespan.economics.steps import StepFunction
from makespan.specs.campaign import LEDGER, CampaignResult
from makespan.specs.hardware import NodeSpec
from makespan.specs.supply import (
    BuildCosts,
    BuildSpec,
    CapacityTimeline,
    DeliveryLot,
    MoveSpec,
    OptionSpec,
    PowerSource,
    RampStep,
    RentSpec,
    SupplyResult,
)
from makespan.uncertainty import Fixed, Streams, Uniform
from makespan.units import DAY_S, HOUR_S, MONTH_S, YEAR_S

ANY: Any = SimpleNamespace()
NODE = NodeSpec(
    name="node",
    accelerator="chip",
    accelerators_per_node=8,
    nameplate_w=12_000.0,
    provisioned_peak_w=10_000.0,
    mean_training_w=8_000.0,
    idle_w=2_400.0,
    network_storage_w=800.0,
)  # per accelerator: 1,350 W provisioned, 1,100 W training, 400 W idle
YEAR = 365.0 * DAY_S


def fixed(value: float) -> Fixed:
    return Fixed(value=value)


def rent(**changes: Any) -> RentSpec:
    base: dict[str, Any] = {
        "name": "lease",
        "place": "cloud",
        "accelerator": ANY,
        "node": NODE,
        "fabric": ANY,
        "ramp": (RampStep(from_s=fixed(0.0), num_accelerators=fixed(1000.0)),),
        "price_usd_per_accelerator_s": fixed(2.0 / HOUR_S),
        "term_s": YEAR,
    }
    return RentSpec(**(base | changes))


def build(**changes: Any) -> BuildSpec:
    base: dict[str, Any] = {
        "name": "site",
        "place": "here",
        "accelerator": ANY,
        "node": NODE,
        "fabric": ANY,
        "num_accelerators": 1000,
        "activities": (),
        "halls": (),
        "deliveries": (DeliveryLot(at_s=fixed(0.0), num_accelerators=1000),),
        "power": (
            PowerSource(
                name="grid",
                kind="grid",
                capacity_w=fixed(1e9),
                from_s=fixed(0.0),
                energy_price_usd_per_j=fixed(72.0 / 3.6e9),
                carbon_kg_per_j=0.36 / 3.6e6,
            ),
        ),
        "install_per_s": fixed(1.0),
        "pod_size": 1000,
        "burn_in_s": fixed(0.0),
        "first_pass_yield": fixed(1.0),
        "repair_s": fixed(0.0),
        "pue": fixed(1.25),
        "costs": BuildCosts(
            compute_usd_per_accelerator=fixed(36_500.0),
            construction_usd_per_it_w=fixed(10.0),
            extra_capex_usd={"substation": fixed(1.5e6)},
            staff_usd_per_s=fixed(1e6 / YEAR),
            maintenance_fraction_per_s=fixed(0.02 / YEAR),
            compute_life_s=5 * YEAR,
            construction_life_s=15 * YEAR,
        ),
    }
    return BuildSpec(**(base | changes))


def supply(pool: str, starts: Any, installed: Any, *, powered: Any = None, pue: float = 1.25) -> SupplyResult:
    start = np.atleast_2d(np.asarray(starts, dtype=float))
    values = np.atleast_2d(np.asarray(installed, dtype=float))
    live = values if powered is None else np.atleast_2d(np.asarray(powered, dtype=float))
    first = np.min(np.where(values > 0, start, np.inf), axis=1)
    return SupplyResult(
        timeline=CapacityTimeline(
            pool=pool,
            target=int(values.max()),
            start_s=start,
            installed=values,
            powered=live,
            usable=live,
            power_limit_w=np.full_like(values, np.inf),
            binding=np.zeros(values.shape, dtype=np.int64),
        ),
        first_usable_s=first,
        all_installed_s=first,
        all_powered_s=first,
        milestones={},
        criticality={},
        pue=np.full(len(start), pue),
    )


def campaign(
    pools: dict[str, Any],
    *,
    first: Any,
    release: Any,
    until: dict[str, Any] | None = None,
    waiting_s: float = 0.0,
    horizon_s: float = 5 * YEAR,
) -> CampaignResult:
    release_s = np.atleast_1d(np.asarray(release, dtype=float))
    first_s = np.broadcast_to(np.asarray(first, dtype=float), release_s.shape).copy()
    held = {name: np.broadcast_to(np.asarray(v, dtype=float), release_s.shape).copy() for name, v in pools.items()}
    total = np.sum(list(held.values()), axis=0)
    end = np.minimum(release_s, horizon_s)
    wall = np.maximum(end - np.minimum(first_s, end), 1.0)
    ledger = {line: np.zeros_like(end) for line in LEDGER}
    ledger["productive"] = wall - waiting_s
    ledger["restart"] = np.full_like(end, waiting_s)
    times = np.linspace(0.0, horizon_s, 400)
    used = np.where((times >= first_s[:, None]) & (times < end[:, None]), (total / wall)[:, None], 0.0)
    return CampaignResult(
        horizon_s=horizon_s,
        first_training_s=first_s,
        stage_end_s={},
        pretraining_s=release_s,
        release_s=release_s,
        ledger=ledger,
        delay_s={},
        goodput=np.ones_like(end),
        interruptions=np.zeros_like(end),
        accelerator_s=total,
        productive_accelerator_s=total * (1 - waiting_s / wall),
        pool_accelerator_s=held,
        progress_times_s=times,
        progress=np.zeros_like(used),
        used=used,
        checkpoint_interval_s=np.zeros_like(end),
        pool_until_s={k: np.atleast_1d(np.asarray(v, dtype=float)) for k, v in (until or {}).items()},
    )


def option(*pools: RentSpec | BuildSpec, move: MoveSpec | None = None) -> OptionSpec:
    return OptionSpec(name="option", kind="rent", pools=pools, move=move)


def streams(num: int = 1) -> Streams:
    return Streams(seed=1, num_replicates=num)


def test_rent_of_a_run_shorter_than_its_term():
    """1,000 accelerators for a year at $2/h; the run trains from day 10 to day 110 on 80 % of them."""
    held = 800 * 100 * DAY_S
    result = cost_of(
        option(rent()),
        [supply("lease", [0.0], [1000.0])],
        campaign({"lease": held}, first=10 * DAY_S, release=110 * DAY_S),
        streams(),
        horizon_s=5 * YEAR,
    )

    assert_allclose(result.cost_of_model["rent"], 800 * 100 * 24 * 2)  # $3.84M
    assert_allclose(result.cost_of_model["unused_commitment"], 0.8 * 1000 * 265 * 24 * 2)  # 80 % of days 0-10, 110-365
    assert_allclose(result.committed_usd, 1000 * 365 * 24 * 2)  # $17.52M
    assert_allclose(result.cash_flow_usd.sum(), 1000 * 365 * 24 * 2)
    assert_allclose(result.capex_usd, 0.0)
    assert_allclose(result.energy_j, held * 1100 * 1.25)
    assert_allclose(result.peak_power_w, 1000 * 1350 * 1.25)


def test_rent_beyond_the_term_is_billed_until_the_last_use():
    result = cost_of(
        option(rent(term_s=30 * DAY_S)),
        [supply("lease", [0.0], [1000.0])],
        campaign({"lease": 1000 * 100 * DAY_S}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=5 * YEAR,
    )

    assert_allclose(result.cost_of_model["rent"], 1000 * 100 * 24 * 2)
    assert_allclose(result.cost_of_model["unused_commitment"], 0.0, atol=1e-6)
    assert_allclose(result.committed_usd, 1000 * 30 * 24 * 2)
    assert_allclose(result.cash_flow_usd.sum(), 1000 * 100 * 24 * 2)


def test_take_or_pay_share_and_floor():
    """Half is due for what is unused; a $20M floor tops the contract up, and the run pays its 80 % of that."""
    spec = rent(take_or_pay=0.5, commitment_usd=20e6)
    result = cost_of(
        option(spec),
        [supply("lease", [0.0], [1000.0])],
        campaign({"lease": 800 * 100 * DAY_S}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=5 * YEAR,
    )
    contract = 0.5 * 1000 * 365 * 48 + 0.5 * 800 * 100 * 48
    unused = 0.8 * (0.5 * 1000 * 265 * 48 + (20e6 - contract))

    assert_allclose(result.cost_of_model["unused_commitment"], unused)
    assert_allclose(result.committed_usd, 20e6)
    assert_allclose(result.cash_flow_usd.sum(), 20e6)


def test_a_ramp_is_charged_by_date():
    """500 from day 0, 1,000 from day 50: a run on all of them for 100 days leaves the rest of the term unused."""
    held = (500 * 50 + 1000 * 50) * DAY_S
    result = cost_of(
        option(rent()),
        [supply("lease", [0.0, 50 * DAY_S, np.inf], [500.0, 1000.0, 1000.0])],
        campaign({"lease": held}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=5 * YEAR,
    )

    assert_allclose(result.cost_of_model["rent"], 75_000 * 48)
    assert_allclose(result.cost_of_model["unused_commitment"], 1000 * 265 * 48)
    assert_allclose(result.committed_usd, (500 * 50 + 1000 * 315) * 48)


def test_an_offer_that_never_comes_costs_nothing():
    result = cost_of(
        option(rent(commitment_usd=5e6)),
        [supply("lease", [[0.0, np.inf]], [[0.0, 0.0]])],
        campaign({"lease": 0.0}, first=np.inf, release=np.inf),
        streams(),
        horizon_s=YEAR,
    )

    for name in ("cost_of_model_usd", "committed_usd", "energy_j", "peak_power_w"):
        assert_allclose(getattr(result, name), 0.0, err_msg=name)
    assert_allclose(result.cash_flow_usd, 0.0)


def test_build_worked_by_hand():
    """1,000 accelerators accepted on day 0; the run holds 600 of them for 100 days, a tenth of it waiting."""
    held = 600 * 100 * DAY_S
    result = cost_of(
        option(build()),
        [supply("site", [0.0], [1000.0])],
        campaign({"site": held}, first=0.0, release=100 * DAY_S, waiting_s=10 * DAY_S),
        streams(),
        horizon_s=5 * YEAR,
    )
    line = {name: float(value[0]) for name, value in result.cost_of_model.items()}
    structure = 10.0 * 1000 * 1350 + 1.5e6  # $15M
    energy_j = (0.9 * 1100 + 0.1 * 400) * held * 1.25

    assert line["compute_depreciation"] == pytest.approx(36.5e6 / (5 * 365) * 100 * 0.6)  # $1.2M
    assert line["construction_depreciation"] == pytest.approx(structure / (15 * 365) * 100 * 0.6)
    assert line["staff"] == pytest.approx(1e6 / 365 * 100 * 0.6)
    assert line["maintenance"] == pytest.approx(0.02 * 36.5e6 / 365 * 100 * 0.6)
    assert line["energy"] == pytest.approx(energy_j / 3.6e9 * 72)
    assert line["cost_of_capital"] == 0.0
    assert line["rent"] == line["unused_commitment"] == 0.0
    assert result.energy_j[0] == pytest.approx(energy_j)
    assert result.it_energy_j[0] == pytest.approx(energy_j / 1.25)
    assert result.carbon_kg[0] == pytest.approx(energy_j / 3.6e6 * 0.36)
    assert result.peak_power_w[0] == pytest.approx(1000 * 1350 * 1.25)
    assert result.it_peak_power_w[0] == pytest.approx(1000 * 1350)
    assert result.capex_usd[0] == result.committed_usd[0] == pytest.approx(36.5e6 + structure)
    assert result.residual_usd[0] == pytest.approx(36.5e6 * (1 - 100 / 1825) + structure * (1 - 100 / 5475))


def test_cost_of_capital_is_interest_on_mean_book_value():
    """9 % a year on compute that falls from $36.5M by 100/1825 in 100 days, all used by the run."""
    costs = dataclasses.replace(
        build().costs,
        discount_rate_per_s=0.09 / YEAR,
        construction_usd_per_it_w=fixed(0.0),
        extra_capex_usd={},
    )
    result = cost_of(
        option(build(costs=costs)),
        [supply("site", [0.0], [1000.0])],
        campaign({"site": 1000 * 100 * DAY_S}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=YEAR,
    )
    mean_book = 36.5e6 * (1 - 50 / 1825)

    assert result.cost_of_model["cost_of_capital"][0] == pytest.approx(0.09 * 100 / 365 * mean_book)


def test_build_cash_flow_is_capital_plus_the_sites_running_cost():
    result = cost_of(
        option(build()),
        [supply("site", [0.0], [1000.0])],
        campaign({"site": 600 * 100 * DAY_S}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=YEAR,
    )
    energy = 1000 * 1100 * 1.25 * 100 * DAY_S * 72 / 3.6e9
    running = (1e6 + 0.02 * 36.5e6) * 100 / 365 + energy

    assert_allclose(result.cash_flow_usd.sum(), 36.5e6 + 15e6 + running)
    assert result.cash_flow_usd.shape == (1, 12)
    assert np.all(result.cash_flow_usd[:, 4:] == 0)


def test_dearer_source_covers_what_the_grid_cannot():
    """1.375 MW of mean draw: the grid gives 1 MW at $50/MWh, turbines the rest at $150/MWh."""
    power = (
        PowerSource(
            name="gas",
            kind="turbine",
            capacity_w=fixed(0.5e6),
            num_units=3,
            num_redundant=1,
            from_s=fixed(0.0),
            energy_price_usd_per_j=fixed(150 / 3.6e9),
            fixed_usd_per_s=fixed(1000.0 / DAY_S),
        ),
        PowerSource(
            name="grid",
            kind="grid",
            capacity_w=fixed(1e6),
            from_s=fixed(0.0),
            energy_price_usd_per_j=fixed(50 / 3.6e9),
        ),
        PowerSource(name="battery", kind="battery", capacity_w=fixed(1e6), from_s=fixed(0.0), firm=False),
    )
    result = cost_of(
        option(build(power=power)),
        [supply("site", [0.0], [1000.0])],
        campaign({"site": 1000 * 100 * DAY_S}, first=0.0, release=100 * DAY_S),
        streams(),
        horizon_s=YEAR,
    )
    mean_price = (1.0 * 50 + 0.375 * 150) / 1.375

    assert result.cost_of_model["energy"][0] == pytest.approx(1.375 * 100 * 24 * mean_price)
    assert result.cost_of_model["generation_fixed"][0] == pytest.approx(1000 * 100)


def test_mix_pays_rent_until_the_move_then_the_site():
    """300 rented for 60 days (month to month), then 1,000 of its own until day 160; the move costs $1M."""
    lease = rent(term_s=0.0)
    rented, own = 300 * 60 * DAY_S, 1000 * 100 * DAY_S
    result = cost_of(
        option(lease, build(), move=MoveSpec(cost_usd=fixed(1e6))),
        [supply("lease", [0.0], [300.0]), supply("site", [0.0, 50 * DAY_S], [0.0, 1000.0])],
        campaign(
            {"lease": rented, "site": own},
            first=0.0,
            release=160 * DAY_S,
            until={"lease": 60 * DAY_S, "site": 160 * DAY_S},
        ),
        streams(),
        horizon_s=YEAR,
    )
    line = {name: float(value[0]) for name, value in result.cost_of_model.items()}

    assert line["rent"] == pytest.approx(300 * 60 * 48)
    assert line["unused_commitment"] == pytest.approx(0.0, abs=1e-3)
    assert line["compute_depreciation"] == pytest.approx(36.5e6 * 100 / 1825)  # 110 days on the floor, 100 of them used
    assert line["move"] == 1e6
    assert result.energy_j[0] == pytest.approx((rented + own) * 1100 * 1.25)
    assert result.peak_power_w[0] == pytest.approx(1000 * 1350 * 1.25)


def test_the_move_is_found_when_the_campaign_does_not_say():
    """Without `pool_until_s` the lease ends where its part of the work is done: 37.5 % of an even run."""
    run = campaign({"lease": 300.0 * DAY_S, "site": 500.0 * DAY_S}, first=0.0, release=80 * DAY_S, horizon_s=YEAR)
    result = cost_of(
        option(rent(term_s=0.0), build(), move=MoveSpec()),
        [supply("lease", [0.0], [10.0]), supply("site", [0.0], [1000.0])],
        run,
        streams(),
        horizon_s=YEAR,
    )

    assert result.cash_flow_usd.shape == (1, 12)
    from makespan.economics.usage import pool_uses

    lease, site = pool_uses(run, ["lease", "site"])
    assert lease.until_s[0] == pytest.approx(30 * DAY_S, abs=DAY_S)
    assert site.from_s[0] == lease.until_s[0]


def test_published_model_of_the_memphis_site_is_an_identity():
    """100,000 H100 at $36.3k and 139 MW of IT at $11.7/W: Epoch AI's model prints $5.27B (the two are its own rounding)."""
    node = dataclasses.replace(NODE, provisioned_peak_w=1390 * 8.0 - 800, network_storage_w=800)
    costs = dataclasses.replace(
        build().costs,
        compute_usd_per_accelerator=fixed(36_300.0),
        construction_usd_per_it_w=fixed(11.7),
        extra_capex_usd={},
    )
    result = cost_of(
        option(build(node=node, costs=costs, num_accelerators=100_000)),
        [supply("site", [0.0], [100_000.0])],
        campaign({"site": 1e12}, first=0.0, release=200 * DAY_S),
        streams(),
        horizon_s=YEAR,
    )

    assert result.capex_usd[0] == pytest.approx(5.27e9, rel=0.005)
    assert result.it_peak_power_w[0] == pytest.approx(139e6)


def test_llama_3_405b_at_two_dollars_an_hour():
    """30.84M GPU-hours of rent by use cost 30.84M times the price, however they are spread."""
    held = 30.84e6 * HOUR_S
    result = cost_of(
        option(rent(term_s=0.0)),
        [supply("lease", [0.0], [16_384.0])],
        campaign({"lease": held}, first=0.0, release=held / 16_384),
        streams(),
        horizon_s=YEAR,
    )

    assert result.cost_of_model_usd[0] == pytest.approx(61.68e6)


FIGURES = st.floats(0.1, 10.0)


@settings(max_examples=40, deadline=None)
@given(
    price=FIGURES,
    share=st.floats(0.05, 1.0),
    days=st.floats(1.0, 900.0),
    term=st.floats(0.0, 1000.0),
    top=st.floats(0, 1),
)
def test_rent_scales_with_price_and_never_exceeds_what_is_paid(price, share, days, term, top):
    def cost(factor: float) -> Any:
        spec = rent(price_usd_per_accelerator_s=fixed(factor * price / HOUR_S), term_s=term * DAY_S, take_or_pay=top)
        run = campaign({"lease": share * 1000 * days * DAY_S}, first=0.0, release=days * DAY_S)
        return cost_of(option(spec), [supply("lease", [0.0], [1000.0])], run, streams(), horizon_s=5 * YEAR)

    one, two = cost(1.0), cost(2.0)

    assert_allclose(two.cost_of_model["rent"], 2 * one.cost_of_model["rent"])
    assert_allclose(two.cost_of_model_usd, 2 * one.cost_of_model_usd)
    assert_allclose(two.committed_usd, 2 * one.committed_usd)
    assert one.cost_of_model_usd[0] <= one.cash_flow_usd.sum() * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_lines_add_up_and_capital_is_conserved_in_every_replicate(seed):
    """Random ramps, some never finished: no line is negative, lines add up, capital = written off + residual."""
    rng = np.random.default_rng(seed)
    n = 16
    start = np.sort(rng.uniform(0, 3 * YEAR, (n, 6)), axis=1)
    start[:, 0] = 0.0
    start[rng.random(n) < 0.3, 4:] = np.inf
    installed = np.sort(rng.integers(0, 1001, (n, 6)), axis=1).astype(float)
    release = np.where(rng.random(n) < 0.3, np.inf, rng.uniform(0.5, 4.0, n) * YEAR)
    first = np.minimum(rng.uniform(0, 0.5, n) * YEAR, release)
    held = StepFunction.of(start, installed).between(first, np.minimum(release, 4 * YEAR)) * rng.uniform(0, 1, n)
    spec = build(
        costs=dataclasses.replace(
            build().costs,
            compute_usd_per_accelerator=Uniform(name="compute", low=3e4, high=4e4),
            discount_rate_per_s=0.09 / YEAR,
            residual_fraction=0.1,
        )
    )
    lease = rent(price_usd_per_accelerator_s=Uniform(name="price", low=1 / HOUR_S, high=3 / HOUR_S), commitment_usd=1e7)
    run = campaign({"lease": 0.3 * held, "site": 0.7 * held}, first=first, release=release, horizon_s=4 * YEAR)
    result = cost_of(
        option(lease, spec, move=MoveSpec(cost_usd=Uniform(name="egress", low=0, high=1e6))),
        [supply("lease", start, installed), supply("site", start, installed)],
        run,
        streams(n),
        horizon_s=4 * YEAR,
    )

    assert tuple(result.cost_of_model) == COST_LINES
    assert_allclose(np.sum(list(result.cost_of_model.values()), axis=0), result.cost_of_model_usd)
    assert_allclose(np.sum(list(result.capex.values()), axis=0), result.capex_usd)
    for name, values in result.cost_of_model.items():
        assert np.all(np.isfinite(values)), name
        assert np.all(values >= 0), name
    assert np.all((result.residual_usd >= 0) & (result.residual_usd <= result.capex_usd + 1e-6))
    assert np.all(np.isfinite(result.cash_flow_usd))
    assert np.all(result.energy_j >= result.it_energy_j)


def test_integral_of_a_step_function_equals_brute_force():
    rng = np.random.default_rng(5)
    start = np.sort(rng.uniform(0, 100, (20, 5)), axis=1)
    start[:, 0] = 0.0
    start[::3, 3:] = np.inf
    values = rng.integers(0, 50, (20, 5)).astype(float)
    until = rng.uniform(0, 150, 20)
    brute = [
        sum(
            v * max(0.0, min(u, e) - s) for s, e, v in zip(row, [*row[1:], np.inf], vals, strict=True) if np.isfinite(s)
        )
        for row, vals, u in zip(start, values, until, strict=True)
    ]

    assert_allclose(StepFunction.of(start, values).integral(until), brute)


def test_straight_line_stops_at_the_residual():
    written, bound = straight_line(np.array([[20.0]]), np.array([[1.0]]), life_s=10.0, residual_fraction=0.2)

    assert_allclose(written, 0.8)
    assert_allclose(bound, 10 - 0.8 * 5 + 0.2 * 10)


def test_payments_before_the_first_month_are_booked_in_it_and_late_ones_left_out():
    edges = month_edges_s(3 * MONTH_S)
    once = paid_once(np.array([1.0, 2.0, 4.0]), np.array([-DAY_S, 1.5 * MONTH_S, np.inf]), edges)
    evenly = paid_evenly(np.array([4.0]), np.array([-MONTH_S]), np.array([3 * MONTH_S]), edges)

    assert_allclose(once, [[1, 0, 0], [0, 2, 0], [0, 0, 0]])
    assert_allclose(evenly, [[2, 1, 1]])


def test_present_value_of_a_level_payment_equals_the_annuity_formula():
    rate = 0.09
    monthly = (1 + rate) ** (1 / 12)
    annuity = (1 - monthly**-60) / (monthly - 1) * monthly**0.5

    assert present_value_usd(np.full((2, 60), 100.0), rate / YEAR_S) == pytest.approx([100 * annuity] * 2)
    assert present_value_usd(np.full(60, 100.0), 0.0) == pytest.approx(6000.0)
