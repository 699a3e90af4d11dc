"""The example scenarios against what is known of the real runs: where the forecast is right, and by how much it misses.

Every bound is a ledger line: what came out on 23 November 2026, with the reason where it is not good. A prediction may miss;
a page that says otherwise may not. So a verdict that changes fails here until the ledger and docs/cases/ are renewed.
Figures of the pages are those of `makespan plan FILE`: seed 0, 1,000 replicates.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from makespan.report.observed import judged
from makespan.scenario import load
from makespan.specs.plan import OptionResult, Plan
from makespan.specs.scenario import Scenario
from makespan.study import plan
from makespan.supply import supply
from makespan.supply.power import runnable_accelerators, site_pue
from makespan.uncertainty import Streams, percentiles

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86400.0
REPLICATES = 1000

MISSES = {
    ("first_training", "2024-07-22"): ("earlier", -8),
    ("first_training", "2024-08-11"): ("inside", 0),
    ("all_installed", "2024-09-02"): ("earlier", -60),
    ("all_powered", "2025-05-01"): ("later", 78),
    ("completion.pretraining", "2025-01-03"): ("earlier", -117),
    ("completion.release", "2025-02-17"): ("earlier", -123),
}
"""Build in Memphis: verdict on each observed date, and days from it to the nearest end of P10 to P90, on 23 November 2026.

First training: Musk's "training started" is weeks before weight (11 August, inside). All installed: 3,400 a day had no
precedent, halls B to D are drawn one after the other. All powered: the observation is when the grid alone could carry the
site. Pre-training and release: budget and speed do not belong together (docs/cases/memphis-2024.md); they were -173 and
-180 until recovery from failures entered as percentiles of what MegaScale printed, -155 and -158 until the step model was fitted
anew (28.4 % MFU on 73,500 for 29.6 %), -160 and -165 until the search looked at experts cut by tensor parallelism (34.5 %). Each
change was made with the outcome known; no published run states that it cut experts so.
"""

SPREAD_DAYS = {"inside": 0, "first_training": 2, "all_installed": 4, "all_powered": 8, "completion": 15}
"""How far the days may move before the page has to be renewed; wider where replicates are few in the tails."""


def case(name: str, *options: str, replicates: int = REPLICATES) -> Plan:
    scenario = load(ROOT / "examples" / name)
    kept = tuple(option for option in scenario.options if option.name in options)
    assert len(kept) == len(options)
    return plan(replace(scenario, options=kept), num_replicates=replicates, seed=0)


@cache
def memphis() -> Plan:
    return case("memphis-2024.yaml", "Build in Memphis", "Build new elsewhere")


@cache
def llama() -> Plan:
    return case("llama3-405b.yaml", "16,384 of the RoCE cluster")


def option(found: Plan, name: str) -> OptionResult:
    return next(one for one in found.options if one.option.name == name)


def day(scenario: Scenario, seconds: float) -> dt.date:
    return scenario.as_of + dt.timedelta(seconds=seconds)


def page(name: str) -> str:
    return (ROOT / "docs/cases" / name).read_text()


@cache
def what_if() -> ModuleType:
    """docs/cases/what_if.py, which holds the overrides behind the pages' tables of causes."""
    spec = importlib.util.spec_from_file_location("what_if", ROOT / "docs/cases/what_if.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ----------------------------------------------------------------------------------------------- 22 July 2024


def test_43_mw_of_22_july_carry_a_quarter_of_the_site():
    """8 MW of grid and 14 trailers of 2.5 MW: between 24,000 and 31,000 of the 100,000 (SemiAnalysis said 32,000).

    Ledger: 27,800 to 31,000 at P10 to P90, 29,400 in the middle; with a trailer kept spare, as the plan does, 27,700.
    """
    site = option(memphis(), "Build in Memphis").option.pools[0]
    pue = site_pue(site, Streams(0, 1000))

    low, middle, high = percentiles(runnable_accelerators(np.full(1000, 43e6), site.node, pue))
    with_spare = percentiles(runnable_accelerators(np.full(1000, 40.5e6), site.node, pue))[1]

    assert low > 24_000
    assert 24_000 < with_spare < middle < 31_000
    assert high < 31_000 * 1.005  # 31,025: the upper end is that of PUE 1.15
    assert [low, middle, high, with_spare] == pytest.approx([27_775, 29_446, 31_025, 27_734], rel=0.01)


def test_nameplate_would_have_carried_fewer_and_the_mean_draw_more():
    """The three figures of a node give three answers; capacity follows the provisioned peak."""
    node = option(memphis(), "Build in Memphis").option.pools[0].node
    per_w = 43e6 / 1.2 * node.accelerators_per_node
    by_nameplate = per_w / (node.nameplate_w + node.network_storage_w)
    by_mean = per_w / (node.mean_training_w + node.network_storage_w)

    by_peak = runnable_accelerators(np.array([43e6]), node, np.array([1.2]))[0]

    assert by_nameplate < by_peak < by_mean
    assert by_mean > 31_000


# ---------------------------------------------------------------------------------------- the build in Memphis


@pytest.mark.parametrize(("what", "date"), MISSES, ids=lambda value: value)
def test_verdict_on_what_happened_in_memphis(what, date):
    found = memphis()
    site = option(found, "Build in Memphis")
    (seen,) = [
        one
        for one in site.option.observed
        if one.what == what and one.at_s is not None and str(day(found.scenario, one.at_s)) == date
    ]
    verdict, days = MISSES[what, date]

    row = judged(found.scenario, site, seen)

    assert row["verdict"] == verdict
    spread = SPREAD_DAYS["inside" if verdict == "inside" else what.partition(".")[0]]
    assert row["off_edge"] / DAY_S == pytest.approx(days, abs=spread)


def test_every_dated_observation_of_memphis_has_a_verdict_here():
    found = memphis()
    seen = {
        (one.what, str(day(found.scenario, one.at_s)))
        for one in option(found, "Build in Memphis").option.observed
        if one.at_s is not None and one.value is None
    }
    assert seen == set(MISSES)


def test_the_page_of_memphis_tells_the_misses():
    """One row of its table for each date, with the days of the ledger."""
    rows = re.findall(r"^\|(.+)\|$", page("memphis-2024.md"), re.MULTILINE)
    for (_, date), (verdict, days) in MISSES.items():
        when = dt.date.fromisoformat(date)
        text = {"inside": "inside", "earlier": f"{-days} days before P10", "later": f"{days} days after P90"}[verdict]
        shown = f"{when.day} {when:%B %Y}"
        assert any(shown in row and text in row for row in rows), (shown, text)


def test_estimates_of_power_and_capital_of_memphis():
    """Epoch AI's model of the site: 181 MW is above our P90 of 155, $5.27B is inside.

    Power: 1.39 kW of IT an accelerator and PUE 1.30 there; metered liquid-cooled servers (1.20 kW) and 1.2 here.
    """
    found = memphis()
    site = option(found, "Build in Memphis")
    rows = {one.what: judged(found.scenario, site, one) for one in site.option.observed if one.value is not None}

    assert rows["peak_power_w"]["verdict"] == "higher"
    assert rows["peak_power_w"]["off_edge"] == pytest.approx(26e6, abs=4e6)
    assert rows["capex_usd"]["verdict"] == "inside"


def test_the_25_000_of_11_august_2024_are_inside_the_forecast():
    """Epoch AI's first training of weight. Ledger: 9,960, 22,938, 27,176 powered on that day."""
    found = memphis()
    site = option(found, "Build in Memphis")
    (seen,) = [one for one in site.option.observed if one.what == "powered"]

    row = judged(found.scenario, site, seen)

    assert (row["value"], row["verdict"]) == (25_000, "inside")
    assert row["forecast"]["p50"] == pytest.approx(22_900, rel=0.1)


def test_budget_is_among_the_levers_of_memphis_and_size_of_the_model_no_more():
    """The architecture is not public: how much the date depends on it is part of the answer.

    Ledger: medians of the release of the three stand-ins lie 7 days apart; 79 while experts were whole on an accelerator.
    """
    found = memphis()
    names = {lever.name for lever in found.levers if lever.option == "Build in Memphis"}
    trained = found.draws["model.candidates"]
    release = np.minimum(option(found, "Build in Memphis").campaign.release_s, found.scenario.horizon_s) / DAY_S
    medians = [float(np.median(release[trained == index])) for index in range(3)]

    assert "run.stages.pretraining.compute" in names
    assert "model.candidates" not in names
    assert max(medians) - min(medians) == pytest.approx(7, abs=15)


def test_the_layout_of_memphis_cuts_experts_as_attention():
    """All that the search gained in November 2026 is etp: 4.95 s a step on 100,000, 6.12 with experts whole (ledger)."""
    best = option(memphis(), "Build in Memphis").best
    assert best is not None
    assert best.best is not None

    assert (best.best.layout.tp, best.best.layout.etp, best.best.layout.ep) == (4, 4, 8)
    assert best.best.time_s == pytest.approx(4.95, rel=0.01)


# ------------------------------------------------------------------------------------------------- a new site


def test_a_new_site_is_powered_from_the_middle_of_2026():
    """Builders quoted 18 to 24 months, 32 buildings since took 830 days from first work to first use (median, Epoch AI).

    Ledger: all installed 6 April 2026 to 5 July 2027, all powered 15 May 2026 to 17 May 2028: it begins inside 2025-26, its
    median, 10 January 2027, is ten days late. Grid and building are drawn apart here and the later of the two counts.
    """
    found = memphis()
    site = option(found, "Build new elsewhere").pools[0].supply
    first, installed, powered = (
        [day(found.scenario, x) for x in percentiles(times)]
        for times in (site.first_usable_s, site.all_installed_s, site.all_powered_s)
    )

    assert dt.date(2025, 1, 1) <= powered[0] <= dt.date(2026, 12, 31)
    assert dt.date(2025, 1, 1) <= installed[1] <= dt.date(2026, 12, 31)
    assert abs(powered[1] - dt.date(2027, 1, 10)) < dt.timedelta(days=45)
    assert (first[1] - found.scenario.as_of).days == pytest.approx(830, rel=0.12)


def test_building_in_memphis_beats_a_new_site_by_about_two_years():
    """What the owner decided on: with the median, not with the best case. Ledger: 747 days."""
    found = memphis()
    powered = [percentiles(one.pools[0].supply.all_powered_s)[1] / DAY_S for one in found.options]

    assert powered[1] - powered[0] == pytest.approx(747, abs=60)


# -------------------------------------------------------------------------------------------------- the control


def test_llama_3_405b_takes_78_to_90_days_within_a_tenth():
    """30.84M H100-hours are 78 days of 16,384; 87 at the 90 % of effective time of the paper.

    Ledger, 23 November 2026: 97.7 days (P10 81, P90 124) of the 70 to 99 allowed; 87 is inside, 78 three days before P10. The
    goodput is lower than the printed one (see below); speed is about right: the layout that is found is faster than Meta's
    (45 % MFU for the printed 41 %), a team is put at 0.93 of it. It was 93.4 until the step model was fitted anew: software
    of 2024 exposes more of its tensor-parallel traffic, as MegaScale's Megatron-LM baseline shows.
    """
    days = percentiles(option(llama(), "16,384 of the RoCE cluster").campaign.pretraining_s / DAY_S)

    assert 78 * 0.9 <= days[1] <= 90 * 1.1
    assert 78 < days[0] < 87 < days[2]
    assert days[1] == pytest.approx(97.7, abs=3)


def test_goodput_of_llama_3_is_forecast_too_low():
    """Published: over 90 % in a window of 54 days. Ledger, 23 November 2026: P50 0.825, P90 0.895, half a point under it.

    Three to four points are attempts thrown away, which the window leaves out; three are the draw of fault rates (10.7 a day
    of running for 7.8), one the spread of recovery. P50 was 0.794 and P90 0.872 until recovery entered as percentiles.
    """
    found = llama()
    run = option(found, "16,384 of the RoCE cluster")
    (seen,) = [one for one in run.option.observed if one.what == "goodput"]

    row = judged(found.scenario, run, seen)

    assert row["verdict"] == "higher"
    assert row["off_edge"] == pytest.approx(0.005, abs=0.01)
    assert percentiles(run.campaign.goodput)[1] == pytest.approx(0.825, abs=0.015)


def test_the_page_of_llama_tells_the_days():
    low, middle, high = percentiles(option(llama(), "16,384 of the RoCE cluster").campaign.pretraining_s / DAY_S)
    (printed,) = re.findall(r"\*\*(\d+) days\*\* \(P10 (\d+), P90 (\d+)\)", page("llama3-405b.md"))

    assert [int(value) for value in printed] == pytest.approx([middle, low, high], abs=3)


# ------------------------------------------------------------------------------------------------------ the causes


@pytest.mark.parametrize("case", ["memphis", "llama"])
def test_every_what_if_of_the_pages_is_a_scenario(case):
    file, _, alone, steps = what_if().CASES[case]
    plain = load(ROOT / "examples" / file)

    for name, changes in {**alone, **what_if().added_up(steps)}.items():
        assert (load(ROOT / "examples" / file, overrides=changes) != plain) == bool(changes), name


@pytest.mark.parametrize(
    ("step", "row"),
    [
        ("+ central recovery", "recovery and saves at their central values"),
        ("+ 2.85e26 FLOP", "2.85e26 FLOP"),
        ("+ no failures", "no failures at all"),
    ],
)
def test_the_page_of_memphis_adds_the_causes_up(step, row):
    """Days after 3 January 2025 and goodput as printed. Ledger: from 247 days to eight before it, where nothing fails."""
    changes = what_if().added_up(what_if().MEMPHIS_ADDED_UP)[step]
    (one,) = what_if().rerun("memphis", changes).options
    end = memphis().scenario.as_of + dt.timedelta(seconds=percentiles(one.campaign.pretraining_s)[1])
    days, goodput = re.findall(
        rf"^\| {re.escape(row)}[^|]*\| (-?\d+) \| ([\d.]+) \|", page("memphis-2024.md"), re.MULTILINE
    )[0]

    assert (end - dt.date(2025, 1, 3)).days == pytest.approx(int(days), abs=5)
    assert percentiles(one.campaign.goodput)[1] == pytest.approx(float(goodput), abs=0.02)


@pytest.mark.parametrize(
    ("step", "row"),
    [
        ("no attempt thrown away", "no attempt thrown away"),
        ("its own rate of faults", "Llama 3's own rate"),
        ("all three", "all three"),
        ("no failures", "no failures"),
    ],
)
def test_the_page_of_llama_tells_the_causes(step, row):
    (one,) = what_if().rerun("llama", what_if().LLAMA[step]).options
    days, goodput = re.findall(
        rf"^\| {re.escape(row)}[^|]*\| (\d+) \([\d, ]+\) \| ([\d.]+) \|$", page("llama3-405b.md"), re.MULTILINE
    )[0]

    assert percentiles(one.campaign.pretraining_s)[1] / DAY_S == pytest.approx(int(days), abs=2)
    assert percentiles(one.campaign.goodput)[1] == pytest.approx(float(goodput), abs=0.015)


def test_half_as_many_accelerators_again_save_fewer_days_than_in_proportion():
    both = case("llama3-405b.yaml", "16,384 of the RoCE cluster", "all 24,576 of it", replicates=200)
    part, whole = (percentiles(one.campaign.pretraining_s)[1] for one in both.options)

    assert 1.0 < part / whole < 1.5


# --------------------------------------------------------------------------------------- the books add up


@pytest.mark.parametrize("name", ["Build in Memphis", "Build new elsewhere"])
def test_the_ledger_the_causes_and_the_costs_add_up(name):
    one = option(memphis(), name)
    wall = np.minimum(one.campaign.release_s, one.campaign.horizon_s)

    np.testing.assert_allclose(sum(one.campaign.ledger.values()), wall, atol=1e-3)
    np.testing.assert_allclose(sum(one.campaign.delay_s.values()), wall, atol=1e-3)
    np.testing.assert_allclose(sum(one.costs.cost_of_model.values()), one.costs.cost_of_model_usd, rtol=1e-9)
    np.testing.assert_allclose(sum(one.costs.capex.values()), one.costs.capex_usd, rtol=1e-9)


def test_energy_and_capital_of_memphis_by_hand():
    """From the drawn inputs, without the formulas of the room.

    Energy: accelerator-seconds held, at 1,027.5 W while they compute and 312.5 + 127.5 W while they wait for a restart or a
    save, times the PUE. To charge every held second at the mean of training would give 17 % more.
    """
    found = memphis()
    one = option(found, "Build in Memphis")
    draws, ledger, held = found.draws, one.campaign.ledger, one.campaign.accelerator_s
    pue = draws["sites.memphis.pue"]
    waiting = sum(ledger[line] for line in ("checkpoint", "detection", "restart", "repair_wait", "reconfiguration"))
    compute = sum(ledger[line] for line in ("productive", "lost_work", "restarted_work"))
    in_training = held - 0.3 * held * ledger["calendar_stage"] / (compute + waiting + 0.3 * ledger["calendar_stage"])
    idle_s = in_training * waiting / (compute + waiting)
    energy = ((held - idle_s) * (7200 + 1020) / 8 + idle_s * (2500 + 1020) / 8) * pue
    capital = (
        draws["sites.memphis.costs.compute_per_accelerator"] * 100_000
        + draws["sites.memphis.costs.construction_per_it_power"] * 100_000 * (8600 + 1020) / 8
        + draws["sites.memphis.costs.extra.batteries"]
        + 24e6
    )

    assert np.median(one.costs.energy_j) == pytest.approx(np.median(energy), rel=0.03)
    assert np.median(held * 1027.5 * pue) / np.median(one.costs.energy_j) == pytest.approx(1.2, abs=0.05)
    np.testing.assert_allclose(one.costs.capex_usd, capital, rtol=1e-9)


def test_peak_power_of_memphis_by_hand():
    """100,000 servers' eighths at 1,202.5 W times the PUE, where all were powered before the release."""
    found = memphis()
    one = option(found, "Build in Memphis")
    everything = 100_000 * (8600 + 1020) / 8 * found.draws["sites.memphis.pue"]
    in_time = one.pools[0].supply.all_powered_s < one.campaign.release_s

    assert in_time.mean() > 0.9
    np.testing.assert_allclose(one.costs.peak_power_w[in_time], everything[in_time], rtol=1e-6)


def test_supply_alone_gives_the_dates_of_the_plan():
    """The dates of the site do not depend on the run: the room asked by itself says the same."""
    found = memphis()
    one = option(found, "Build in Memphis")
    alone = supply(one.option.pools[0], Streams(0, REPLICATES), horizon_s=found.scenario.horizon_s)

    np.testing.assert_array_equal(alone.all_powered_s, one.pools[0].supply.all_powered_s)
