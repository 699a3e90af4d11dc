"""The data of result.json: the right percentile of the right array, never as null, and the same bytes each time."""

import datetime as dt
import json
import math
import re

import jsonschema
import numpy as np
import pytest

from makespan.report import labels, result, result_schema, words
from makespan.report.bands import band, curve_band, date_band, iso_date, number, step_sampler, time_grid
from makespan.report.folder import to_json
from makespan.report.levers import lever_row, swing_text
from makespan.specs.plan import Lever
from makespan.units import DAY_S, YEAR_S
from report_fixture import AS_OF, HOSTILE, memphis_plan


@pytest.fixture(scope="module")
def plan():
    return memphis_plan()


@pytest.fixture(scope="module")
def data(plan):
    return result(plan)


def by_name(data, name):
    return next(option for option in data["options"] if option["name"] == name)


def errors_of(data):
    validator = jsonschema.Draft202012Validator(result_schema(), format_checker=jsonschema.FormatChecker())
    return [f"{list(error.path)}: {error.message[:120]}" for error in validator.iter_errors(data)]


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(result_schema())


@pytest.mark.parametrize("arguments", [{}, {"deadline": None}, {"hostile": True}, {"n": 1}, {"n": 7}])
def test_results_are_valid_under_the_published_schema(arguments):
    assert errors_of(json.loads(to_json(result(memphis_plan(**arguments))))) == []


def test_the_schema_notices_a_field_that_is_missing_or_unknown(data):
    broken = json.loads(to_json(data))
    del broken["options"][0]["goodput"]
    broken["options"][1]["surprise"] = 1
    broken["options"][2]["completion"]["release"]["p50"] = "soon"
    assert len(errors_of(broken)) == 3


def test_same_plan_same_bytes_whatever_the_clock_says(plan):
    from dataclasses import replace

    slower = replace(plan, timings_s={"supply": 99.0})
    assert to_json(result(plan)) == to_json(result(slower)) == to_json(result(memphis_plan()))


def test_release_percentiles_are_order_statistics_of_the_replicates(plan, data):
    release = np.sort(plan.options[2].campaign.release_s)
    band = by_name(data, "Build in Memphis")["completion"]["release"]
    for key, p in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        expected = AS_OF + dt.timedelta(days=math.floor(release[math.ceil(p * len(release)) - 1] / DAY_S))
        assert band[key] == expected.isoformat()


def test_never_counts_as_after_every_date(data):
    some = by_name(data, "Rent 100,000 from Oracle")["completion"]["release"]
    assert 0.5 < some["probability_complete"] < 0.9
    assert some["p50"] is not None
    assert some["p90"] is None
    never = by_name(data, "Two racks in the office")
    assert never["completion"]["release"] == {"p10": None, "p50": None, "p90": None, "probability_complete": 0}
    assert never["feasible"] is False
    assert never["layout"] is None
    assert never["step"] is None
    assert never["reasons"]


def test_odds_of_the_deadline_count_the_replicates_up_to_and_on_the_day(plan, data):
    release = plan.options[2].campaign.release_s
    expected = np.mean(release <= plan.scenario.deadline_s)
    assert by_name(data, "Build in Memphis")["probability_by_deadline"] == pytest.approx(expected)
    assert result(memphis_plan(deadline=None))["options"][2]["probability_by_deadline"] is None


def test_odds_of_being_first_add_up_to_the_replicates_in_which_anybody_finishes(data):
    assert sum(option["probability_first"] for option in data["options"]) == pytest.approx(1.0)
    assert by_name(data, "Two racks in the office")["probability_first"] == 0


def test_means_of_the_ledger_add_up_to_the_mean_wall_time(plan, data):
    for option, row in zip(plan.options, data["options"], strict=True):
        wall = np.where(np.isfinite(option.campaign.release_s), option.campaign.release_s, option.campaign.horizon_s)
        assert sum(line["mean_s"] for line in row["ledger"]) == pytest.approx(wall.mean())
        assert sum(line["share"] for line in row["ledger"]) == pytest.approx(1.0)
        assert sum(part["share"] for part in row["limited_by"]) == pytest.approx(1.0)


def test_limits_come_largest_first(data):
    for option in data["options"]:
        shares = [part["share"] for part in option["limited_by"]]
        assert shares == sorted(shares, reverse=True)


def test_all_installed_of_several_pools_is_the_last_of_them(plan, data):
    mixed = plan.options[4]
    last = np.maximum(*(pool.supply.all_installed_s for pool in mixed.pools))
    assert by_name(data, mixed.option.name)["all_installed"]["p50"] == date_band(AS_OF, last)["p50"]


def test_curves_read_the_timeline_at_the_times_of_the_grid(plan, data):
    times = np.array(data["times_s"], dtype=float)
    assert times[0] == 0
    assert np.all(np.diff(times) > 0)
    line = plan.options[2].pools[0].supply.timeline
    at = line.at(line.powered, times)
    expected = np.sort(at, axis=0)[math.ceil(0.5 * at.shape[0]) - 1]
    curve = by_name(data, "Build in Memphis")["curves"]
    np.testing.assert_allclose(curve["powered"]["p50"], expected, rtol=1e-4)
    for low, mid, high in zip(*(curve["power_w"][key] for key in ("p10", "p50", "p90")), strict=True):
        assert low <= mid <= high


def test_power_of_a_rented_pool_has_no_limit_of_its_own(data):
    assert by_name(data, "Stay at Oracle")["curves"]["power_limit_w"] is None
    assert by_name(data, "Build in Memphis")["curves"]["power_limit_w"]["p50"][0] == 8e6


def test_capacity_chart_ends_after_the_last_likely_event(data):
    end = (AS_OF + dt.timedelta(seconds=data["times_s"][-1])).isoformat()
    assert end >= max(option["completion"]["release"]["p90"] or "" for option in data["options"])


def test_cash_paid_never_falls_here_and_ends_at_the_last_payment(plan, data):
    for option, row in zip(plan.options, data["options"], strict=True):
        paid = row["cash_flow"]["p50"]
        assert paid == sorted(paid)
        assert len(paid) == 18
        assert paid[-1] == pytest.approx(float(band(option.costs.cash_flow_usd.sum(axis=1))["p50"]), rel=1e-8)


def test_observations_are_judged_against_the_forecast_and_never_enter_it(plan, data):
    seen = {row["what"]: row for row in by_name(data, "Build in Memphis")["observed"]}
    release = seen["release"]
    p10 = dt.date.fromisoformat(release["forecast"]["p10"])
    assert release["verdict"] == "earlier"
    assert release["off_edge"] / DAY_S == pytest.approx((dt.date(2025, 2, 17) - p10).days, abs=1)
    assert release["rank"] == 0
    assert seen["powered"]["verdict"] == "higher"
    assert seen["powered"]["forecast"] == {"p10": 0, "p50": 0, "p90": 0}
    assert seen["note"]["verdict"] is None
    assert seen["note"]["forecast"] is None
    assert data["observed"][0]["source_title"] == "Gigafactory of compute announced"

    from dataclasses import replace

    blind = replace(plan, options=tuple(replace(o, option=replace(o.option, observed=())) for o in plan.options))
    without, with_them = result(blind), result(plan)
    for option in (*without["options"], *with_them["options"]):
        del option["observed"]
    assert without["options"] == with_them["options"]


def test_facts_come_weakest_first(data):
    order = ["assumed", "decision", "quoted", "derived", "published", "datasheet", "measured"]
    ranks = [order.index(fact["kind"]) for fact in data["facts"]]
    assert ranks == sorted(ranks)
    assert data["weakest_fact"] == "assumed"


def test_levers_are_written_in_the_unit_of_their_fact(data):
    ready = next(fact for fact in data["facts"] if fact["path"] == "run.ready")
    assert ready["known_on"] == "2024-07-10"
    flop = next(lever for lever in data["levers"] if lever["name"] == "run.stages.pretraining.flop")
    assert flop["label"] == "operations of pretraining"
    assert flop["low_text"] == "3.02e26 FLOP"
    assert flop["release_at_low"] < flop["release_at_high"]


def test_answers_name_the_earliest_option_and_say_what_cannot_be_had(data):
    first, odds = data["answers"][:2]
    assert first.startswith("Build in Memphis finishes first")
    assert "1 Mar 2025" in odds
    assert any("Two racks in the office" in line for line in data["answers"])
    assert any("release on 17 Feb 2025" in line and "the forecast missed it" in line for line in data["answers"])


def test_a_plan_in_which_nobody_finishes_still_has_an_answer():
    from dataclasses import replace

    plan = memphis_plan()
    alone = replace(plan, options=plan.options[5:], levers=(), changes=())
    data = result(alone)
    assert errors_of(data) == []
    assert data["answers"][0] == "The model cannot be trained so: nothing fits."
    assert any("none of 812 layouts fits (812 out of memory)" in line for line in data["answers"])
    assert words.no_change_helps(data).startswith("Nothing fits")


def test_a_single_option_is_not_compared_with_anything():
    from dataclasses import replace

    plan = memphis_plan()
    data = result(replace(plan, options=plan.options[2:3]))
    text = " ".join(data["answers"])
    assert data["answers"][0].startswith("The model is released around ")
    assert not re.search(r"finishes first|ahead of|other|against", text)


def test_a_run_that_outlasts_its_contract_says_so(data):
    import copy

    changed = copy.deepcopy(data)
    cheap = by_name(changed, "Stay at Oracle")
    cheap["committed_usd"]["p50"], cheap["cost_of_model_usd"]["p50"] = 1e6, 9e9
    assert any(
        "$1.00M against" in line and "outlasts that and is charged $9.00B" in line for line in words.answers(changed)
    )


def test_rent_that_nobody_used_is_named_when_it_is_much(data):
    import copy

    changed = copy.deepcopy(data)
    lines = by_name(changed, "Build in Memphis")["cost_lines"]
    lines[:] = [
        {"line": "rent", "mean_usd": 3e6, "share": 0.3},
        {"line": "unused_commitment", "mean_usd": 7e6, "share": 0.7},
    ]
    assert any("70 % of it rent for time before and after the run" in line for line in words.answers(changed))
    assert not any("before and after the run" in line for line in words.answers(data))


def test_a_deadline_without_changes_says_why(data):
    import copy

    changed = copy.deepcopy(data)
    assert words.no_change_helps(changed) == ""
    changed["changes"] = []
    assert words.no_change_helps(changed).startswith("None of the changes")
    by_name(changed, "Build in Memphis")["probability_by_deadline"] = 1.0
    assert "nothing left to gain" in words.no_change_helps(changed)
    changed["scenario"]["deadline"] = None
    assert words.no_change_helps(changed) == ""


def test_the_tally_counts_misses_on_either_side_and_no_identity(data):
    judged = [seen for option in data["options"] for seen in option["observed"] if seen["verdict"]]
    inside = sum(seen["verdict"] == "inside" for seen in judged)
    assert words.tally(data).startswith(f"{inside} of {len(judged)} observations lie inside")
    import copy

    changed = copy.deepcopy(data)
    for option in changed["options"]:
        for seen in option["observed"]:
            seen["identity"] = True
    assert words.tally(changed) == ""


@pytest.mark.parametrize(
    ("name", "low", "high", "texts"),
    [
        ("model.candidates", 0.0, 9.0, ("Grok 3 stand-in", "Grok 3 stand-in")),
        ("step.time_factor", 0.744, 1.37, ("26 % shorter", "37 % longer")),
        ("failures.per_accelerator", 1 / (2 * YEAR_S), 1 / (4 * YEAR_S), ("once in 2.00 years", "once in 4.00 years")),
        ("run.share", 0.67, 0.9, ("67 %", "90 %")),
        ("sites.x.power.y.from", 86400.0, 0.0, ("11 Jul 2024", "10 Jul 2024")),
    ],
)
def test_ends_of_levers_never_are_raw_si_numbers(plan, name, low, high, texts):
    lever = Lever(option="o", name=name, low=low, high=high, early_s=DAY_S, late_s=plan.scenario.horizon_s)
    row = lever_row(plan.scenario, lever, (), {})
    models = [choice.model.name for choice in plan.scenario.models]
    expected = (models[0], models[-1]) if name == "model.candidates" else texts
    assert (row["low_text"], row["high_text"]) == expected
    assert row["release_at_high"] is None
    assert swing_text(row).endswith("or more")


def test_every_cause_of_the_rooms_has_words_and_an_explanation():
    from makespan.campaign.attribution import OWN_CAUSES
    from makespan.specs.supply import CAUSES

    assert {*CAUSES, *OWN_CAUSES} <= labels.CAUSES.keys()
    assert {*CAUSES, *OWN_CAUSES} - {"none"} == labels.CAUSE_MEANINGS.keys()


def test_every_status_of_a_layout_has_words():
    from makespan.specs.layout import LayoutStatus

    assert {status.name.lower() for status in LayoutStatus} - {"ok"} == labels.LAYOUT_STATUS.keys()


def test_a_single_replicate_has_no_spread():
    data = result(memphis_plan(1))
    for option in data["options"]:
        release = option["completion"]["release"]
        assert release["p10"] == release["p50"] == release["p90"]


def test_hostile_texts_are_data_like_any_other():
    data = result(memphis_plan(hostile=True))
    assert data["options"][2]["name"] == HOSTILE
    assert json.loads(to_json(data)) == data


def test_numbers_are_plain_finite_and_short():
    assert number(math.inf) is None
    assert number(math.nan) is None
    assert number(3.0) == 3
    assert isinstance(number(3.0), int)
    assert number(1 / 3) == 0.333333333
    assert number(6.02214076e23) == 6.02214076e23


def test_dates_round_down_to_the_day():
    assert iso_date(AS_OF, -1.0) == "2024-07-09"
    assert iso_date(AS_OF, DAY_S - 1e-3) == "2024-07-10"
    assert iso_date(AS_OF, 1e15) is None


def test_bands_and_curves_agree_with_sorting():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(37, 5))
    values[rng.random((37, 5)) < 0.2] = np.inf
    columns = curve_band(values)
    for index in range(5):
        expected = band(values[:, index])
        for key in ("p10", "p50", "p90"):
            found = columns[key][index]
            assert found == pytest.approx(expected[key], rel=1e-4) if expected[key] is not None else found is None


def test_the_step_sampler_is_capacity_timeline_at(plan):
    line = plan.options[2].pools[0].supply.timeline
    times = np.array([0.0, 1.0, 25.3 * DAY_S, 60 * DAY_S, 4000 * DAY_S])
    np.testing.assert_array_equal(step_sampler(line.start_s, times)(line.installed), line.at(line.installed, times))


def test_the_time_grid_has_whole_days_and_reaches_the_end():
    grid = time_grid(400.5 * DAY_S)
    assert grid[-1] == 401 * DAY_S
    assert len(grid) <= 160
    np.testing.assert_array_equal(grid % DAY_S, 0)
    assert np.all(np.diff(grid) > 0)
