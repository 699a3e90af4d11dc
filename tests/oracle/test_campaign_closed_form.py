"""Long runs at constant capacity against the closed forms, and the closed forms against each other.

The mean over N faults of something whose spread is about its size is known to about 1/sqrt(N); with about 400,000 faults
in all, four standard errors are 0.6 %, and 1 % is asserted.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from makespan.campaign import daly_interval_s, erlang_b, expected_cycle, expected_goodput, simulate, young_interval_s
from makespan.campaign import run as campaign_run
from makespan.campaign.spares import _blocked
from makespan.specs.campaign import CheckpointSpec, FailureSpec, RateTable, RecoverySpec
from makespan.specs.supply import CapacityTimeline
from makespan.specs.training import StageSpec, TrainingSpec
from makespan.uncertainty import Fixed, Streams
from makespan.units import HOUR_S

REPLICATES = 200
FAULTS = 2_000


def run(
    hazard_per_s,
    *,
    interval_s,
    blocking_s,
    save_s,
    detection_s,
    restart_s,
    spread,
    spare_fraction=0.0,
    repair_s=0.0,
    seed=1,
    replicates=REPLICATES,
    faults=FAULTS,
):
    """A run that never ends on 1,000 accelerators of one FLOP/s in all, until about 2,000 faults in each replicate."""
    keep = 1.0 - spare_fraction
    usable = np.full((replicates, 1), 1000.0 / keep)
    timeline = CapacityTimeline(
        pool="site",
        target=1000,
        start_s=np.zeros((replicates, 1)),
        installed=usable,
        powered=usable,
        usable=usable,
        power_limit_w=np.full((replicates, 1), np.inf),
        binding=np.zeros((replicates, 1), np.int64),
    )
    return simulate(
        [timeline],
        [RateTable(num_accelerators=np.array([1000.0]), flop_per_s=np.array([1.0]))],
        None,
        TrainingSpec(
            stages=(StageSpec(name="pretraining", kind="compute", flop=Fixed(value=1e18)),),
            ready_s=Fixed(value=0.0),
            run_share=(),
            restarted_work=Fixed(value=0.0),
            execution=Fixed(value=1.0),
        ),
        1.0,
        FailureSpec(per_accelerator_s=Fixed(value=hazard_per_s / 1000.0), per_job_s=Fixed(value=0.0)),
        RecoverySpec(
            detection_s=Fixed(value=detection_s),
            restart_s=Fixed(value=restart_s),
            restart_per_doubling_s=0.0,
            spread=spread,
            spare_fraction=spare_fraction,
            repair_s=Fixed(value=repair_s),
        ),
        CheckpointSpec(interval_s=interval_s, blocking_s=Fixed(value=blocking_s), save_s=Fixed(value=save_s)),
        [8],
        Streams(seed=seed, num_replicates=replicates),
        horizon_s=faults / hazard_per_s,
    )


SETTINGS = {
    "Llama-3-like: a fault in 3 hours": (
        1 / (3 * HOUR_S),
        {
            "interval_s": 1200.0,
            "blocking_s": 2.0,
            "save_s": 60.0,
            "detection_s": 120.0,
            "restart_s": 500.0,
            "spread": 0.6,
        },
    ),
    "a fault in half an hour": (
        1 / 1800.0,
        {
            "interval_s": 250.0,
            "blocking_s": 5.0,
            "save_s": 60.0,
            "detection_s": 120.0,
            "restart_s": 500.0,
            "spread": 0.6,
        },
    ),
    "restarts seldom get through": (
        1 / 200.0,
        {"interval_s": 50.0, "blocking_s": 5.0, "save_s": 5.0, "detection_s": 30.0, "restart_s": 300.0, "spread": 1.0},
    ),
    "blocking saves, equal recoveries": (
        1 / 5000.0,
        {
            "interval_s": 700.0,
            "blocking_s": 100.0,
            "save_s": 100.0,
            "detection_s": 0.0,
            "restart_s": 600.0,
            "spread": 0.0,
        },
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_simulated_goodput_and_every_line_meet_the_closed_form(name):
    hazard, setting = SETTINGS[name]
    result = run(hazard, **setting)
    cycle = expected_cycle(hazard, **setting)
    wall = result.horizon_s

    assert np.mean(result.goodput) == pytest.approx(float(cycle.goodput), rel=0.01)
    for line, expected in (
        ("lost_work", cycle.lost_s),
        ("checkpoint", cycle.checkpoint_s),
        ("detection", cycle.detection_s),
        ("restart", cycle.restart_s),
    ):
        # A line that is small against the day is held to 1 % of itself, or to 0.01 % of the wall time.
        share = float(expected / cycle.cycle_s)
        assert np.mean(result.ledger[line]) / wall == pytest.approx(share, rel=0.01, abs=1e-4), line
    assert np.mean(result.interruptions) == pytest.approx(wall / float(cycle.cycle_s), rel=0.01)


def test_simulated_wait_for_nodes_meets_the_loss_formula():
    """7 spare nodes and 3 in repair on average: the wait per fault is B(7, 3) repair / 8, within 3 % (rare and skewed)."""
    hazard, repair = 1 / HOUR_S, 3 * HOUR_S
    setting = SETTINGS["a fault in half an hour"][1]
    spare_fraction = 56.5 / 1056.5
    result = run(hazard, **setting, spare_fraction=spare_fraction, repair_s=repair)
    per_fault = np.sum(result.ledger["repair_wait"]) / np.sum(result.interruptions)

    assert per_fault == pytest.approx(float(erlang_b(7, 3.0)) * repair / 8, rel=0.03)


def test_a_fixed_restart_gives_the_expected_time_of_daly_and_of_bougeret():
    hazard, interval, blocking, downtime, restart = 1 / 4000.0, 600.0, 20.0, 90.0, 400.0
    useful_second = (
        (1 / hazard + downtime) * math.exp(hazard * restart) * math.expm1(hazard * (interval + blocking)) / interval
    )
    goodput = expected_goodput(
        hazard, interval, blocking_s=blocking, save_s=blocking, detection_s=downtime, restart_s=restart
    )
    assert float(goodput) == pytest.approx(1 / useful_second, rel=1e-12)


def test_the_lines_of_a_cycle_add_up():
    rng = np.random.default_rng(0)
    hazard, interval, blocking = rng.uniform(1e-5, 1e-2, 50), rng.uniform(1, 5000, 50), rng.uniform(0, 100, 50)
    for spread in (0.0, 0.3, 1.0):
        cycle = expected_cycle(
            hazard,
            interval,
            blocking_s=blocking,
            save_s=2 * blocking,
            detection_s=60.0,
            restart_s=300.0,
            repair_wait_s=7.0,
            spread=spread,
        )
        lines = (
            cycle.detection_s + cycle.repair_wait_s + cycle.restart_s + cycle.kept_s + cycle.lost_s + cycle.checkpoint_s
        )
        assert_allclose(lines, cycle.cycle_s, rtol=1e-9)


@pytest.mark.parametrize("mtbf_s", [600.0, 1800.0, 10_000.0, 1e6])
@pytest.mark.parametrize("blocking_s", [1.0, 30.0, 120.0])
def test_dalys_interval_is_within_1_percent_of_the_best_goodput_and_youngs_is_no_better(mtbf_s, blocking_s):
    def goodput(interval):
        return expected_goodput(
            1 / mtbf_s, interval, blocking_s=blocking_s, save_s=blocking_s, detection_s=60.0, restart_s=300.0
        )

    best = np.max(goodput(np.geomspace(1.0, 10 * mtbf_s, 20_000)))
    daly = float(goodput(daly_interval_s(blocking_s, mtbf_s)))
    young = float(goodput(young_interval_s(blocking_s, mtbf_s)))

    assert daly >= best * 0.99
    assert daly >= young * 0.9999


def test_simulated_optimum_is_at_dalys_interval():
    """On the same draws, the interval of Daly beats half and twice of it, as the closed form says, by the same amount."""
    hazard = 1 / 3000.0
    setting = dict(SETTINGS["blocking saves, equal recoveries"][1])
    daly = float(daly_interval_s(100.0, 3000.0))
    found, expected = [], []
    for interval in (daly / 2, daly, 2 * daly):
        setting["interval_s"] = interval
        found.append(np.mean(run(hazard, **setting).goodput))
        expected.append(float(expected_goodput(hazard, **setting)))
    assert found[1] > found[0]
    assert found[1] > found[2]
    assert_allclose(np.array(found) / found[1], np.array(expected) / expected[1], rtol=0.01)


def test_young_and_daly_agree_where_failures_are_rare():
    assert float(daly_interval_s(10.0, 1e9) / young_interval_s(10.0, 1e9)) == pytest.approx(1.0, rel=1e-3)
    assert float(daly_interval_s(100.0, 40.0)) == 40.0


@pytest.mark.parametrize(("servers", "offered"), [(0, 3.0), (1, 0.2), (5, 5.0), (12, 20.0), (40, 25.0)])
def test_erlangs_recursion_equals_its_sum(servers, offered):
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    assert float(erlang_b(servers, offered)) == pytest.approx(terms[-1] / sum(terms), rel=1e-12)


def test_erlang_broadcasts_and_knows_its_limits():
    table = erlang_b(np.array([[0.0], [2.0], [1000.0]]), np.array([1.0, np.inf, 0.0]))
    assert_allclose(table, [[1.0, 1.0, 1.0], [0.2, 1.0, 0.0], [0.0, 1.0, 0.0]])


def test_the_table_that_chooses_the_spares_equals_erlangs_formula():
    spares, load = np.array([0, 1, 5, 30, 200]), np.array([0.0, 0.3, 4.0, 25.0, 60.0])
    assert_allclose(_blocked(spares, load), erlang_b(spares[:, None], load[None, :]), rtol=1e-12, atol=1e-9)
    flooded = np.array([1000.0, 5000.0])
    assert_allclose(_blocked(spares, flooded), erlang_b(spares[:, None], flooded[None, :]), rtol=2e-3)


def test_going_on_in_expectation_gives_the_mean_of_going_on_by_events(monkeypatch):
    hazard, setting = SETTINGS["a fault in half an hour"]
    drawn = run(hazard, **setting)
    monkeypatch.setattr(campaign_run, "MANY_FAULTS", 0.0)
    smooth = run(hazard, **setting, replicates=2)

    assert np.ptp(smooth.goodput) == 0.0
    assert smooth.goodput[0] == pytest.approx(np.mean(drawn.goodput), rel=0.01)
    assert smooth.interruptions[0] == pytest.approx(np.mean(drawn.interruptions), rel=0.01)
    assert sum(line[0] for line in smooth.ledger.values()) == pytest.approx(smooth.horizon_s, rel=1e-12)
