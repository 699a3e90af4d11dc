"""Files to scenarios: rules, options, sites, overrides, plain data."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from makespan import catalog
from makespan.errors import ScenarioError
from makespan.scenario import check, json_schema, load, resolved, starter
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.uncertainty import Fixed
from makespan.units import DAY_S, HOUR_S, MONTH_S, YEAR_S

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

_spec = importlib.util.spec_from_file_location("scenario_base", Path(__file__).with_name("scenario_base.py"))
assert _spec is not None
assert _spec.loader is not None
scenario_base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenario_base)
over_base = scenario_base.over_base

SITE = """
sites:
  hill:
    accelerator: h100-sxm
    count: 1024
    starts: 2026-10-02
    activities:
      - {name: "design, permits", done: 2026-10-20}
      - {name: shell, duration: {p10: 10 d, p50: 20 d, p90: 40 d}, after: ["design, permits"], lag: 2 d, cause: permit}
    halls: [{name: A, count: 512, after: [shell]}, {name: B, count: 512}]
    deliveries: [{date: 2026-12-01, count: 512}, {date: 2027-01-01, count: 512}]
    pod: 4096
    energy_price: 60 USD/MWh
    power:
      - {name: grid, kind: grid, capacity: 1 MW, until: 2027-03-01}
      - {name: gas, kind: turbine, capacity: 2 MW, units: 3, spare_units: 1, after: [shell], energy_price: 40 USD/MWh, fixed: 30 kUSD/MW/month}
      - {name: pack, kind: battery, capacity: 5 MW, fixed: 1 MUSD/year}
    costs: {extra: {substation: 24 MUSD}, discount_rate: 8 %/year}
"""


def codes(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(text)
    return [problem.code for problem in caught.value.problems]


def test_quickstart_expands_to_one_rented_option_and_says_every_rule():
    scenario = load(ROOT / "examples" / "quickstart.yaml")

    (option,) = scenario.options
    (pool,) = option.pools
    assert (option.kind, option.name) == ("rent", "3072 x h200-sxm")
    assert isinstance(pool, RentSpec)
    assert [(step.from_s.central, step.num_accelerators.central) for step in pool.ramp] == [(37 * DAY_S, 3072)]
    rules = {rule.path: rule for rule in scenario.rules}
    for path in (
        "framework",
        "run.share",
        "run.global_batch",
        "run.seq_len",
        "cluster.node",
        "cluster.price",
        "failures.per_job",
        "recovery.restart",
        "horizon",
    ):
        assert rules[path].rule
        assert rules[path].value
    assert scenario.training.stages[0].step.seq_len == 8192
    assert len((ROOT / "examples" / "quickstart.yaml").read_text().splitlines()) <= 12


def test_the_batch_rule_is_its_formula():
    """0.2920 C^0.3271 tokens at C = 15e12 tokens of the model's FLOP, a power of two of sequences, at most the cap."""
    from makespan.workload import model_flop_per_token

    rules = catalog.defaults(None).spec
    text = over_base("run: {tokens: 15T}")
    scenario = load(text)
    flop = 15e12 * float(model_flop_per_token(scenario.models[0].model, 8192))
    tokens = min(0.2920 * flop**0.3271, rules["batch_most_tokens"].value.central)
    batch = scenario.training.stages[0].step.global_batch

    assert batch & (batch - 1) == 0
    assert batch * 8192 <= tokens < 2 * batch * 8192


def test_facts_and_names_of_draws_are_stable_under_reordering():
    rent = '{name: "Rent A", kind: rent, accelerator: h100-sxm, count: {range: [10, 20]}, price: 2 USD/h}'
    other = "{name: B, kind: rent, accelerator: h100-sxm, count: 8, price: 2 USD/h}"
    first = load(over_base(f"options:\n  - {rent}\n  - {other}\nsites:\n"[:-7])).options
    second = load(over_base(f"options:\n  - {other}\n  - {rent}\n")).options
    assert first[0].pools[0].ramp[0].num_accelerators.name == "options.rent-a.count"
    assert first[0].pools[0].ramp == second[1].pools[0].ramp


def test_a_site_is_read_whole():
    scenario = load(over_base(SITE + "options:\n  - {name: Own, kind: build, site: hill}\n"))
    (site,) = scenario.options[0].pools
    assert isinstance(site, BuildSpec)
    design, shell = site.activities
    assert (design.duration_s.central, design.not_before_s.central) == (0, -12 * DAY_S)
    assert (shell.after, shell.lag_s, shell.cause, shell.duration_s.p50) == (
        ("design, permits",),
        2 * DAY_S,
        "permit",
        20 * DAY_S,
    )
    assert [(h.name, h.num_accelerators, h.after) for h in site.halls] == [("A", 512, ("shell",)), ("B", 512, ())]
    assert site.pod_size == 1024  # no pod is larger than the site
    grid, gas, pack = site.power
    assert (grid.firm, gas.firm, pack.firm) == (True, True, False)
    assert grid.until_s.central == 120 * DAY_S
    assert grid.energy_price_usd_per_j.central == pytest.approx(60 / 3.6e9)
    assert gas.energy_price_usd_per_j.central == pytest.approx(40 / 3.6e9)
    assert gas.fixed_usd_per_s.central == pytest.approx(30e3 / 1e6 / MONTH_S * 2e6 * 3)
    assert pack.fixed_usd_per_s.central == pytest.approx(1e6 / YEAR_S)
    assert (gas.num_units, gas.num_redundant, gas.after) == (3, 1, ("shell",))
    assert site.costs.extra_capex_usd["substation"].central == 24e6
    assert site.costs.discount_rate_per_s == pytest.approx(0.08 / YEAR_S)
    assert "sites.hill.costs.staff" in {rule.path for rule in scenario.rules}


def test_pools_are_shared_by_options_that_name_them():
    scenario = load(
        over_base(
            SITE
            + "options:\n  - {name: Rent, kind: rent, accelerator: h100-sxm, count: 64, price: 2 USD/h}\n"
            + "  - {name: Own, kind: build, site: hill}\n"
            + "  - {name: Both, kind: mix, pools: [{option: Rent}, {site: hill}], move: {gain: 1.5, duration: 3 d}}\n"
        )
    )
    rent, own, both = scenario.options
    assert both.pools == (rent.pools[0], own.pools[0])
    assert (both.move.gain, both.move.duration_s.central) == (1.5, 3 * DAY_S)


def test_an_offer_gives_its_terms_and_the_file_has_the_last_word():
    text = over_base(
        "options:\n  - {name: Rent, kind: rent, offer: oci-h100, count: 4096, price: 3.60 USD/h, term: 2 years}\n"
    )
    scenario = load(text)
    offer = catalog.offer("oci-h100", as_of=scenario.as_of).spec
    pool = scenario.options[0].pools[0]
    assert pool.price_usd_per_accelerator_s.central == pytest.approx(3.6 / HOUR_S)
    assert pool.term_s == 2 * YEAR_S
    assert (pool.largest_cluster, pool.place, pool.node.name) == (offer.largest_cluster, offer.place, offer.node)
    assert pool.available_fraction.central == offer.available_fraction.central
    assert any(rule.path == "options.rent.largest_cluster" and "oci-h100" in rule.rule for rule in scenario.rules)


def test_catalog_facts_are_as_old_as_the_plan():
    scenario = load(ROOT / "examples" / "memphis-2024.yaml")
    assert all(fact.known_on is None or fact.known_on <= scenario.as_of for fact in scenario.facts)
    assert len({fact.path for fact in scenario.facts}) == len(scenario.facts)
    assert any(fact.path.startswith("accelerators.h100-sxm") for fact in scenario.facts)


def test_observed_goes_to_its_option_and_is_no_fact():
    text = over_base(
        "observed:\n"
        "  - {what: completion.release, option: Rent, date: 2027-02-01, text: released, source: later-2027}\n"
        "  - {what: energy_j, value: 310 GWh, identity: true}\n"
    )
    scenario = load(text)
    (seen,) = scenario.options[0].observed
    assert (seen.what, seen.at_s, seen.source) == ("completion.release", 92 * DAY_S, "later-2027")
    (whole,) = scenario.observed
    assert (whole.value, whole.identity) == (310e9 * 3600, True)
    assert not any("observed" in fact.path for fact in scenario.facts)


def test_overrides_by_index_by_name_and_through_the_pool():
    base = scenario_base.BASE

    def count(**overrides):
        (step,) = load(base, overrides={k.replace("__", "."): v for k, v in overrides.items()}).options[0].pools[0].ramp
        return step.num_accelerators

    assert count(options__0__count="20000").central == 20000
    assert count(options__rent__count="20000").central == 20000
    assert count(options__Rent__pools__0__count="20000").central == 20000
    assert count(options__0__count="{range: [10, 20]}").low == 10
    site = load(base, overrides={"options.1.pools.0.pue": "1.5"}).options[1].pools[0]
    assert site.pue == Fixed(name="sites.hill.pue", value=1.5)
    assert load(base, overrides={"recovery.spare_fraction": "4 %"}).recovery.spare_fraction == 0.04
    quick = ROOT / "examples" / "quickstart.yaml"
    assert (
        load(quick, overrides={"options.0.pools.0.count": "8192"}).options[0].pools[0].ramp[0].num_accelerators.central
        == 8192
    )


def test_overrides_reach_the_pools_of_a_mix():
    text = over_base(
        "options:\n  - {name: Rent, kind: rent, accelerator: h100-sxm, count: 64, price: 2 USD/h}\n"
        "  - {name: Both, kind: mix, pools: [{option: Rent}, {site: hill}]}\n"
    )
    changed = load(text, overrides={"options.both.pools.0.count": "128", "options.both.pools.1.pue": "1.4"})
    rent, hill = changed.options[1].pools
    assert rent.ramp[0].num_accelerators.central == 128
    assert hill.pue.central == 1.4
    assert changed.options[0].pools[0] == rent


def test_a_wrong_override_is_named_as_such():
    with pytest.raises(ScenarioError) as caught:
        load(scenario_base.BASE, overrides={"options.0.price": "2", "options.0.prise": "2 USD/h"})
    problems = caught.value.problems
    assert {p.code for p in problems} == {"MS201", "MS111"}
    assert all(p.line is None and "override" in p.where for p in problems)


def test_a_scenario_loads_again_with_its_earlier_overrides():
    once = load(ROOT / "examples" / "quickstart.yaml", overrides={"cluster.count": "8192"})
    twice = load(once, overrides={"tokens": "10T"})
    assert twice.options[0].pools[0].ramp[0].num_accelerators.central == 8192
    assert twice.training.stages[0].tokens.central == 10e12
    assert load(once) == once


def test_loading_twice_gives_the_same():
    path = ROOT / "examples" / "memphis-2024.yaml"
    assert load(path) == load(path)
    assert json.dumps(resolved(path)) == json.dumps(resolved(load(path)))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_no_problem_and_resolve_to_plain_data(path):
    assert check(path) == []
    data = json.loads(json.dumps(resolved(path), allow_nan=False))
    assert data["as_of"]
    assert data["options"][0]["pools"][0]["accelerator"]["name"]
    assert data["facts"]
    assert data["rules"]


def test_the_starter_is_a_scenario(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text(starter(), encoding="utf-8")
    assert check(path) == []
    assert {option.kind for option in load(path).options} == {"rent", "build", "mix"}


@pytest.mark.parametrize("text", [*(p.read_text() for p in EXAMPLES), starter(), scenario_base.BASE, over_base(SITE)])
def test_what_loads_is_valid_under_the_published_schema(text):
    validator = jsonschema.Draft202012Validator(json_schema())
    tree = YAML(typ="safe", pure=True).load(text)
    tree = json.loads(json.dumps(tree, default=str))
    assert [error.message for error in validator.iter_errors(tree)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("as_of",), None),
        (("options", 0, "prise"), "2 USD/h"),
        (("run", "stages", 0, "precision"), "fp12"),
        (("sites", "hill", "power"), []),
        (("run", "share"), {"value": 1, "why": "x"}),
    ],
)
def test_what_the_schema_refuses(path, value):
    validator = jsonschema.Draft202012Validator(json_schema())
    tree = json.loads(json.dumps(YAML(typ="safe", pure=True).load(scenario_base.BASE), default=str))
    parent = tree
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    assert not validator.is_valid(tree)


def test_the_schema_in_the_repository_is_the_programs():
    stored = json.loads((ROOT / "docs" / "schema" / "scenario-1.json").read_text("utf-8"))
    assert stored == json_schema()


def test_duplicates_and_other_problems_are_reported_together():
    assert codes(over_base("horizon: 5").replace("name: Base\n", "name: Base\nname: Two\n")) == ["MS107", "MS201"]


def test_a_comma_inside_braces_is_explained():
    with pytest.raises(ScenarioError) as caught:
        load(over_base("run: {tokens: {value: 15T, assumed: large, like the last}}"))
    assert "comma" in caught.value.problems[0].fix


def test_dense_candidates_weights():
    scenario = load(over_base("model:\n  candidates: [{name: llama3.1-70b, weight: 3}, {name: llama3.1-8b}]\n"))
    assert [(c.model.name, c.weight) for c in scenario.models] == [("llama3.1-70b", 3.0), ("llama3.1-8b", 1.0)]
    assert replace(scenario.models[0], weight=1.0).model == catalog.model("llama3.1-70b").spec
