"""Whatever a scenario may say happened is compared with the forecast: nothing is taken in and then left without a verdict."""

from __future__ import annotations

import pytest

from makespan.errors import ScenarioError
from makespan.report.observed import judged
from makespan.scenario import load
from makespan.scenario._options import OBSERVABLE
from makespan.study import plan

SCENARIO = """
makespan: 1
name: observed
as_of: 2024-08-01
model: llama3.1-8b
tokens: 1T
cluster: {name: here, accelerator: h100-sxm, count: 512}
observed:
  - {what: WHAT, option: here, DATA, text: seen}
"""
DATA = {
    "date": "date: 2024-09-01",
    "money": "value: 10 MUSD",
    "energy": "value: 1 GWh",
    "power": "value: 1 MW",
    "fraction": "value: 90 %",
    "count": "value: 512",
}


def written(what: str) -> str:
    data = DATA[OBSERVABLE[what]]
    if what in ("installed", "powered", "usable"):
        data += ", date: 2024-09-01"
    return data


@pytest.mark.parametrize("what", [what for what in OBSERVABLE if what != "note"])
def test_an_observation_gets_a_verdict(what, tmp_path):
    path = tmp_path / "observed.yaml"
    path.write_text(SCENARIO.replace("WHAT", what).replace("DATA", written(what)))
    found = plan(load(path), num_replicates=20)
    (option,) = found.options
    (seen,) = option.option.observed

    row = judged(found.scenario, option, seen)

    assert row["verdict"] is not None
    assert row["forecast"] is not None


@pytest.mark.parametrize("missing", ["date", "value"])
def test_a_count_of_accelerators_needs_its_number_and_its_day(missing, tmp_path):
    data = {"date": "value: 512", "value": "date: 2024-09-01"}[missing]
    path = tmp_path / "observed.yaml"
    path.write_text(SCENARIO.replace("WHAT", "powered").replace("DATA", data))

    with pytest.raises(ScenarioError, match=f"'powered' without '{missing}'"):
        load(path)
