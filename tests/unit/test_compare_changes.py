"""What would help: each change is the same run with one input changed, on the same replicates."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from makespan.scenario import load
from makespan.specs.supply import BuildSpec
from makespan.study import plan
from makespan.uncertainty import Fixed, percentiles, scaled
from makespan.units import DAY_S

room = importlib.import_module("makespan.compare.changes")  # the package's `changes` is the function

TEXT = """\
makespan: 1
as_of: 2026-11-01
horizon: 2 years
model: llama3.1-8b
run:
  ready: {value: 2026-12-10, range: [2026-11-01, 2027-02-20]}
  share:
    - {from: 2026-11-20, value: 75 %, range: [60 %, 90 %]}
  stages:
    - {name: pretraining, tokens: {value: 400B, range: [300B, 700B]}, seq_len: 8192, global_batch: 256 sequences, precision: bf16}
    - {name: evaluation, duration: {value: 20 d, range: [10 d, 40 d]}, share_used: 25 %}
options:
  - name: Rent
    kind: rent
    accelerator: h100-sxm
    price: {value: 2.50 USD/h, range: [2 USD/h, 4 USD/h]}
    ramp:
      - {date: {value: 2026-12-01, range: [2026-11-15, 2027-03-01]}, count: 256}
"""

SITE = """\
sites:
  hill:
    accelerator: h100-sxm
    count: 512
    pod: 64
    activities: [{name: fit-out, duration: {p10: 10 d, p50: 20 d, p90: 40 d}}]
    deliveries: [{date: {value: 2026-12-01, range: [2026-11-15, 2027-02-01]}, count: 512}]
    power:
      - {name: grid, kind: grid, capacity: 200 kW}
      - {name: gas, kind: turbine, capacity: 200 kW, units: 1, from: 2026-12-01, fixed: 46 kUSD/MW/month}
      - {name: line, kind: grid, capacity: 1 MW, from: {value: 2027-02-01, range: [2027-01-01, 2027-08-01]}}
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    def from_text(text: str):
        path = tmp_path_factory.mktemp("scenario") / "scenario.yaml"
        path.write_text(text)
        return load(path)

    return from_text


@pytest.fixture(scope="module")
def rented(read):
    """A plan of 100 replicates, of which a what-if runs 60, and a deadline near the median."""
    answer = plan(read(TEXT), num_replicates=100)
    deadline_s = percentiles(answer.options[0].campaign.release_s)[1]
    return replace(answer, scenario=replace(answer.scenario, deadline_s=deadline_s))


@pytest.fixture(scope="module")
def built(read):
    text = TEXT.split("options:", maxsplit=1)[0] + "options: [{name: Own, kind: build, site: hill}]\n" + SITE
    answer = plan(read(text), num_replicates=60)
    deadline_s = percentiles(answer.options[0].campaign.release_s)[1]
    return replace(answer, scenario=replace(answer.scenario, deadline_s=deadline_s))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(room, "MOST_REPLICATES", 60)


def test_changes_are_sorted_by_cost_and_measured_on_the_same_replicates(rented):
    found = room.changes(rented, most=10)
    assert len(found) >= 3
    costs = [change.extra_cost_usd for change in found]
    assert costs == sorted(costs)
    assert room.changes(rented, most=2) == found[:2]
    base = rented.options[0]
    before = np.mean(base.campaign.release_s[:60] <= rented.scenario.deadline_s)
    for change in found:
        assert change.option == base.option.name
        assert change.probability - change.gained_probability == pytest.approx(before, abs=1e-12)
        assert change.gained_probability >= room.LEAST_GAIN


def test_a_change_of_nothing_gives_the_same_run_replicate_by_replicate(monkeypatch, rented, built):
    """So whatever a change gains is the change's and not luck: draws keep their names, sizes their grid."""
    for name, nothing in (("EARLIER_S", 0.0), ("MORE", 1.0), ("MORE_SHARE", 0.0)):
        monkeypatch.setattr(room, name, nothing)
    tried = 0
    for answer in (rented, built):
        base = answer.options[0]
        for text, scenario in room._what_ifs(answer.scenario, base.option):
            if any(word in text for word in ("FP8", "cut post-training", "install")):
                continue
            tried += 1
            same = plan(scenario, num_replicates=60).options[0]
            np.testing.assert_array_equal(same.campaign.release_s, base.campaign.release_s[:60], err_msg=text)
            if base.option.kind == "rent":
                np.testing.assert_array_equal(same.costs.cost_of_model_usd, base.costs.cost_of_model_usd[:60])
    assert tried >= 6


def test_the_gain_in_time_is_that_of_the_median(rented):
    found = {change.text: change for change in room.changes(rented, most=10)}
    shorter = found["cut post-training and evaluation by a quarter"]
    base = rented.options[0].campaign
    stages = tuple(
        stage if stage.duration_s is None else replace(stage, duration_s=scaled(stage.duration_s, 0.75))
        for stage in rented.scenario.training.stages
    )
    changed = plan(
        replace(rented.scenario, training=replace(rented.scenario.training, stages=stages)), num_replicates=60
    ).options[0]
    wanted = percentiles(base.release_s[:60])[1] - percentiles(changed.campaign.release_s)[1]
    assert shorter.gained_s == pytest.approx(wanted)
    assert 2 * DAY_S < shorter.gained_s < 10 * DAY_S


def test_nothing_is_offered_when_the_deadline_is_met_in_every_replicate(rented):
    certain = replace(rented, scenario=replace(rented.scenario, deadline_s=rented.scenario.horizon_s))
    assert np.all(rented.options[0].campaign.release_s < rented.scenario.horizon_s)
    assert room.changes(certain) == ()


def test_nothing_is_offered_when_nothing_helps(rented):
    hopeless = replace(rented, scenario=replace(rented.scenario, deadline_s=1.0 * DAY_S))
    assert room.changes(hopeless) == ()


def test_without_a_deadline_there_is_nothing_to_help_with(rented):
    with pytest.raises(ValueError, match="no deadline"):
        room.changes(replace(rented, scenario=replace(rented.scenario, deadline_s=None)))


def test_the_option_with_the_best_odds_is_helped(rented):
    """Of two options the earlier one, wherever it stands."""
    soon = rented.options[0]
    late = replace(soon, campaign=replace(soon.campaign, release_s=soon.campaign.release_s + 60 * DAY_S))
    late = replace(late, option=replace(late.option, name="Late"))
    for order in ((late, soon), (soon, late)):
        assert {change.option for change in room.changes(replace(rented, options=order))} == {"Rent"}


def test_more_accelerators_never_lower_the_odds(rented):
    option = rented.scenario.options[0]
    (pool,) = option.pools
    releases = []
    for count in (256, 288, 320, 400):
        more = replace(pool, ramp=tuple(replace(step, num_accelerators=Fixed(value=count)) for step in pool.ramp))
        scenario = replace(rented.scenario, options=(replace(option, pools=(more,)),))
        releases.append(plan(scenario, num_replicates=60).options[0].campaign.release_s)
    odds = [np.mean(release <= rented.scenario.deadline_s) for release in releases]
    assert odds == sorted(odds)
    assert odds[-1] > odds[0]
    medians = [percentiles(release)[1] for release in releases]
    assert medians == sorted(medians, reverse=True)


def test_a_run_that_has_no_share_yet_gets_none(rented):
    """The first ten points more are not ten points of accelerators that are not the run's yet."""
    steps = rented.scenario.training.run_share
    assert steps[0].share.central == 0
    (changed,) = (
        scenario
        for text, scenario in room._what_ifs(rented.scenario, rented.scenario.options[0])
        if "points more" in text
    )
    assert changed.training.run_share[0] == steps[0]
    assert changed.training.run_share[1].share.central == pytest.approx(steps[1].share.central + 0.1)


def test_more_generation_is_paid_for(built):
    """A quarter more units cost a quarter more to have."""
    (changed,) = (
        scenario for text, scenario in room._what_ifs(built.scenario, built.scenario.options[0]) if "generation" in text
    )
    pool = changed.options[0].pools[0]
    assert isinstance(pool, BuildSpec)
    for old, new in zip(built.scenario.options[0].pools[0].power, pool.power, strict=True):
        factor = 1.0 if old.kind == "grid" else 1.25
        assert new.capacity_w.central == pytest.approx(factor * old.capacity_w.central)
        assert new.fixed_usd_per_s.central == pytest.approx(factor * old.fixed_usd_per_s.central)
