"""The published schema of result.json is the one results are made to."""

import json
from pathlib import Path

from makespan.report import result_schema
from makespan.report.data import SCHEMA_VERSION

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / f"result-{SCHEMA_VERSION}.json"


def test_the_published_schema_is_the_one_in_use():
    """After a wanted change: `makespan schema --result > docs/schema/result-1.json`."""
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == result_schema()


def test_the_fields_that_others_build_on_are_required():
    option = result_schema()["$defs"]["option"]
    promised = {
        *("name", "kind", "first_training", "all_installed", "all_powered", "completion", "cost_of_model_usd"),
        *("committed_usd", "capex_usd", "residual_usd", "energy_j", "peak_power_w", "goodput", "limited_by"),
        *("layout", "step", "observed", "probability_by_deadline"),
    }
    assert promised <= set(option["required"])
    assert option["properties"]["completion"]["required"] == ["pretraining", "release"]
