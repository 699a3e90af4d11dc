"""Did a number move? A few figures of the example plans, as stored by `python tests/golden/test_golden.py`.

A difference is not a fault: it asks for a sentence in the commit saying which number moved, by how much and why, and for
the stored file to be written anew.
"""

import json
import sys
from pathlib import Path

import pytest

import makespan

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).with_name("figures.json")
EXAMPLES = ("quickstart", "llama3-405b")
REPLICATES = 100


def figures(name):
    """Medians of every option of an example: days to the release, millions of dollars, GWh, MW, step seconds."""
    plan = makespan.plan(makespan.load(ROOT / f"examples/{name}.yaml"), num_replicates=REPLICATES, seed=0)
    rows = {}
    for result in plan.options:
        median = lambda values: makespan.percentiles(values)[1]  # noqa: E731
        rows[result.option.name] = {
            "release_days": median(result.campaign.release_s) / 86400,
            "goodput": median(result.campaign.goodput),
            "cost_musd": median(result.costs.cost_of_model_usd) / 1e6,
            "energy_gwh": median(result.costs.energy_j) / 3.6e12,
            "peak_mw": median(result.costs.peak_power_w) / 1e6,
            "step_s": result.best.best.time_s,
            "memory_gb": result.best.best.memory.total_bytes / 1e9,
        }
    return rows


@pytest.mark.parametrize("name", EXAMPLES)
def test_figures_are_those_stored(name):
    stored = json.loads(STORED.read_text())[name]
    now = figures(name)
    assert now.keys() == stored.keys()
    for option, row in now.items():
        assert row == pytest.approx(stored[option], rel=1e-3), (
            f"{option}: a number moved; say why, then renew {STORED.name}"
        )


if __name__ == "__main__":
    STORED.write_text(json.dumps({name: figures(name) for name in EXAMPLES}, indent=2) + "\n")
    sys.exit(0)
