"""The re-runs behind the tables of causes on this folder's pages: what if one thing had been known, or several.

    python docs/cases/what_if.py memphis      # from the project's root, where makespan is installed; a minute
    python docs/cases/what_if.py llama

Every row is the forecast with some inputs overridden, on the same draws (seed 0, 1,000 replicates). It prints P10, P50
and P90 of the end of pre-training, goodput, and for Memphis GPU-hours held and FLOP done over their peak.
"""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from makespan.scenario import load
from makespan.specs.plan import OptionResult, Plan
from makespan.study import plan
from makespan.uncertainty import percentiles

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DAY_S = 86400.0
Changes = dict[str, str]


def known(value: str) -> str:
    return f"{{value: {value}, decision: known here}}"


def compute(flop: float) -> Changes:
    return {"run.stages.0.compute": known(f"{flop:.4g} FLOP")}


# Both cases. Llama 3: 419 unexpected interruptions / 54 days / 16,384 accelerators.
LLAMA_RATE = {"failures.per_accelerator": known("4.73e-4/d"), "failures.per_job": known("0.001/d")}
NO_FAILURES = {"failures.per_accelerator": known("1e-9/d"), "failures.per_job": known("1e-6/d")}
CENTRAL_RECOVERY = {
    "recovery.detection": known("7 min"),
    "recovery.restart": known("3 min"),
    "checkpoints.blocking": known("10 s"),
    "checkpoints.save": known("120 s"),
}
SKEWED_RECOVERY = {  # the catalog's ranges until November 2026: likeliest value and ends of triangles
    "recovery.detection": "{value: 7 min, range: [2 min, 15 min], assumed: as it was}",
    "recovery.restart": "{value: 3 min, range: [1 min, 13 min], assumed: as it was}",
    "checkpoints.blocking": "{value: 10 s, range: [2 s, 60 s], assumed: as it was}",
    "checkpoints.save": "{value: 120 s, range: [40 s, 400 s], assumed: as it was}",
}
NO_RESTARTS = {"run.restarted_work": known("0 %")}
TUNED = {"run.execution": known("100 %")}

# Memphis
SITE = {
    **{f"sites.memphis.activities.{index}.duration": known("1 d") for index in range(5)},
    "sites.memphis.deliveries.0.date": known("2024-07-22"),
    "sites.memphis.deliveries.1.date": known("2024-08-11"),
    "sites.memphis.deliveries.2.date": known("2024-08-18"),
    "sites.memphis.deliveries.3.date": known("2024-08-25"),
    "sites.memphis.install_rate": known("3400/d"),
    "sites.memphis.burn_in": known("1 d"),
    "sites.memphis.first_pass_yield": known("100 %"),
    "sites.memphis.power.1.from": known("2024-08-01"),
    "sites.memphis.power.3.from": known("2024-07-22"),
    "sites.memphis.power.4.from": known("2024-08-10"),
    "sites.memphis.power.5.from": known("2024-09-01"),
}
RECIPE = {"run.ready": known("2024-08-11")}
SHARE = {"run.share": known("65 %"), **NO_RESTARTS}
FASTER = 0.40 / 0.345  # the central stand-in has 34.5 % MFU on 73,500, which compute at a share of 75 %, spares off
FASTER_BUDGET = {
    "run.stages.0.compute": f"{{value: {3.4e26 / FASTER:.4g} FLOP, "
    f"range: [{2.85e26 / FASTER:.4g} FLOP, {4.64e26 / FASTER:.4g} FLOP], assumed: a higher MFU as a smaller budget}}"
}
OBSERVED_BUT_SPEED = {**SITE, **RECIPE, **SHARE, **LLAMA_RATE, **CENTRAL_RECOVERY}

MEMPHIS: dict[str, Changes] = {
    "the forecast": {},
    "site as observed": SITE,
    "recipe on 11 August": RECIPE,
    "share of 65 %, restarts in it": SHARE,
    "2.85e26 FLOP": compute(2.85e26),
    "4.64e26 FLOP": compute(4.64e26),
    "MFU of 40 %": FASTER_BUDGET,
    "FP8": {"run.stages.0.precision": "fp8"},
    "a team that loses nothing": TUNED,
    "Llama 3's rate of failures": LLAMA_RATE,
    "central recovery": CENTRAL_RECOVERY,
    "Llama 3's rate, central recovery": {**LLAMA_RATE, **CENTRAL_RECOVERY},
    "no failures": NO_FAILURES,
    "recovery as first entered": SKEWED_RECOVERY,
    "1.2e26 FLOP": compute(1.2e26),
    "1.6e26 FLOP": compute(1.6e26),
    "all observed but speed, 1.6e26 FLOP": {**OBSERVED_BUT_SPEED, **compute(1.6e26)},
}
MEMPHIS_ADDED_UP: dict[str, Changes] = {
    "+ site as observed": SITE,
    "+ recipe on 11 August": RECIPE,
    "+ share of 65 %, restarts in it": SHARE,
    "+ Llama 3's rate of failures": LLAMA_RATE,
    "+ central recovery": CENTRAL_RECOVERY,
    "+ 2.85e26 FLOP": compute(2.85e26),
    "+ MFU of 40 %": compute(2.85e26 / FASTER),
    "+ a team that loses nothing": TUNED,
    "+ no failures": NO_FAILURES,
}
LLAMA: dict[str, Changes] = {
    "the forecast": {},
    "no attempt thrown away": NO_RESTARTS,
    "its own rate of faults": LLAMA_RATE,
    "central recovery": CENTRAL_RECOVERY,
    "the last two": {**LLAMA_RATE, **CENTRAL_RECOVERY},
    "all three": {**LLAMA_RATE, **CENTRAL_RECOVERY, **NO_RESTARTS},
    "a team that loses nothing": TUNED,
    "no long context": {"run.stages.2.tokens": known("0.001T")},
    "no failures": NO_FAILURES,
    "recovery as first entered": SKEWED_RECOVERY,
}
CASES = {
    "memphis": ("memphis-2024.yaml", "Build in Memphis", MEMPHIS, MEMPHIS_ADDED_UP),
    "llama": ("llama3-405b.yaml", "16,384 of the RoCE cluster", LLAMA, {}),
}


def rerun(case: str, changes: Changes, *, num_replicates: int = 1000) -> Plan:
    """The one option of a case that its page takes apart, with some inputs overridden."""
    file, name, _, _ = CASES[case]
    scenario = load(EXAMPLES / file, overrides=changes)
    kept = tuple(option for option in scenario.options if option.name == name)
    return plan(replace(scenario, options=kept), num_replicates=num_replicates, seed=0)


def added_up(steps: dict[str, Changes]) -> dict[str, Changes]:
    total: Changes = {}
    rows = {}
    for name, changes in steps.items():
        total = {**total, **changes}
        rows[name] = total
    return rows


def held_accelerator_s(found: Plan, one: OptionResult) -> np.ndarray:
    """Accelerator-seconds that the run's share held from the first training to the end of pre-training; inf for never."""
    share = found.draws.get("run.share.0", np.full(found.scenario.num_replicates, 0.65))
    timeline = one.pools[0].supply.timeline
    held = np.full(len(share), np.inf)
    for row, (begin, end) in enumerate(zip(one.campaign.first_training_s, one.campaign.pretraining_s, strict=True)):
        if np.isfinite(end):
            moments = np.linspace(begin, end, 600)
            at = np.maximum(np.searchsorted(timeline.start_s[row], moments, side="right") - 1, 0)
            held[row] = timeline.usable[row][at].mean() * share[row] * (end - begin)
    return held


def told(case: str, name: str, changes: Changes, found: Plan) -> str:
    (one,) = found.options
    as_of, goodput = found.scenario.as_of, percentiles(one.campaign.goodput)
    ends = percentiles(one.campaign.pretraining_s)
    text = f"{name:36s} goodput " + " ".join(f"{value:.2f}" for value in goodput)
    if case == "llama":
        faults = np.median(one.campaign.interruptions / (one.campaign.pretraining_s / DAY_S))
        return f"{text}  days " + " ".join(f"{end / DAY_S:.1f}" for end in ends) + f"  faults a day {faults:.1f}"
    dates = [as_of + dt.timedelta(seconds=end) if np.isfinite(end) else "never" for end in ends]
    held = held_accelerator_s(found, one)
    budget = found.draws.get("run.stages.pretraining.compute", found.scenario.training.stages[0].flop.central)
    if changes.get("run.stages.0.compute") in (
        compute(2.85e26 / FASTER)["run.stages.0.compute"],
        *FASTER_BUDGET.values(),
    ):
        budget = budget * FASTER  # told as what is done, not as the smaller budget that stands for it
    used = percentiles(budget / (held * one.option.pools[0].accelerator.peak_flop_per_s["bf16"]))
    late = (dates[1] - dt.date(2025, 1, 3)).days if np.isfinite(ends[1]) else "never"
    hours = " ".join(f"{value / 3.6e9:.0f}" for value in percentiles(held))
    peak = " ".join(f"{value:.3f}" for value in used)
    return (
        f"{text}  ends {dates[0]} {dates[1]} {dates[2]}  days after 3 January 2025 {late:>4}  "
        f"M GPU-hours {hours}  over peak {peak}"
    )


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in CASES:
        raise SystemExit(f"usage: python docs/cases/what_if.py {'|'.join(CASES)}")
    case = sys.argv[1]
    _, _, alone, steps = CASES[case]
    for name, changes in {**alone, **added_up(steps)}.items():
        print(told(case, name, changes, rerun(case, changes)), flush=True)


if __name__ == "__main__":
    main()
