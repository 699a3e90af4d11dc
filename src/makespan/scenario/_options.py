"""`options:` (or the short form `cluster:`) to ways of getting the compute; `observed:` to what then happened."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from makespan.scenario._context import suggestion
from makespan.scenario._names import default_rule
from makespan.scenario._rent import read_rent
from makespan.scenario._section import Section
from makespan.scenario._site import read_site
from makespan.scenario._tree import slug
from makespan.scenario._values import read_day
from makespan.specs.supply import BuildSpec, MoveSpec, ObservedSpec, OptionSpec, RentSpec
from makespan.units import UnitError, parse

if TYPE_CHECKING:
    from pydantic import BaseModel

Pool = RentSpec | BuildSpec

OBSERVABLE = {
    "first_training": "date",
    "all_installed": "date",
    "all_powered": "date",
    "completion.pretraining": "date",
    "completion.release": "date",
    "cost_of_model_usd": "money",
    "committed_usd": "money",
    "capex_usd": "money",
    "residual_usd": "money",
    "energy_j": "energy",
    "it_energy_j": "energy",
    "peak_power_w": "power",
    "it_peak_power_w": "power",
    "goodput": "fraction",
    "interruptions": "count",
    "installed": "count",
    "powered": "count",
    "usable": "count",
    "note": "text",
}
"""What may be observed, named as in `result.json`, and how it is written."""
_ON_A_DAY = ("installed", "powered", "usable")
"""Counts of accelerators: they need the day on which they were counted beside the number."""


def read_options(top: Section) -> tuple[OptionSpec, ...]:
    """Every option that could be read."""
    sites = _sites(top)
    if top.has("cluster"):
        if top.has("options"):
            top.report(
                "MS114",
                "cluster",
                found="'cluster' beside 'options'",
                expected="one of them",
                fix="make the cluster an option of kind rent",
            )
            return ()
        return _cluster(top)
    if not top.has("options"):
        top.report(
            "MS611",
            "",
            found="neither 'options' nor 'cluster'",
            expected="a way of getting the compute",
            fix="add 'cluster: {accelerator: h100-sxm, count: 4096, from: 2026-12-01}'",
        )
        return ()
    sections = _option_sections(top)
    names = _unique_names(sections, set(sites))
    pools: dict[str, Pool | None] = {}
    for section, kind in sections:
        name = section.text("name")
        if kind == "rent":
            pools[name] = read_rent(section, name)
        elif kind == "build":
            pools[name] = _site_pool(section, sites)
    options = [_option(section, kind, names, pools, sites) for section, kind in sections]
    return tuple(option for option in options if option is not None)


def _option_sections(top: Section) -> list[tuple[Section, str]]:
    from makespan.scenario._shape import AnyOptionShape, BuildShape, MixShape, RentShape

    shapes: dict[str, type[BaseModel]] = {"rent": RentShape, "build": BuildShape, "mix": MixShape}
    sections: list[tuple[Section, str]] = []
    for bare in top.each("options", AnyOptionShape):
        kind = bare.text("kind")
        if kind in shapes:
            sections.append((Section.of(top.ctx, bare.node, shapes[kind], bare.loc, bare.path, top.origin), kind))
    return sections


def _unique_names(sections: list[tuple[Section, str]], sites: set[str]) -> dict[str, str]:
    """Name -> kind. Names that would be taken for one another are reported."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for section, kind in sections:
        name = section.text("name")
        if not name:
            continue
        key = slug(name)
        if key in taken:
            section.report(
                "MS304",
                "name",
                found=f"'{name}', like the option '{taken[key]}'",
                expected="a name of its own",
                fix="rename one of the options",
            )
        elif kind != "build" and name in sites:
            section.report(
                "MS304",
                "name",
                found=f"'{name}', which is a site",
                expected="a name of its own",
                fix="rename the option or the site",
            )
        taken.setdefault(key, name)
        names.setdefault(name, kind)
    return names


def _sites(top: Section) -> dict[str, BuildSpec | None]:
    from makespan.scenario._shape import SiteShape

    found: dict[str, BuildSpec | None] = {}
    node = top.child("sites")
    for name in (node.mapping if node is not None else None) or {}:
        found[name] = None
    for name, section in top.entries("sites", SiteShape):
        found[name] = read_site(section, name)
    return found


def _cluster(top: Section) -> tuple[OptionSpec, ...]:
    from makespan.scenario._shape import ClusterShape

    section = top.sub("cluster", ClusterShape)
    if section is None:
        return ()
    name = section.text("name")
    if not name:
        count = section.child("count")
        machine = section.text("accelerator") or section.text("offer")
        written = count.raw if count is not None and count.is_scalar else ""
        name = f"{written} x {machine}".strip(" x") or "cluster"
    pool = read_rent(section, name)
    return () if pool is None else (OptionSpec(name=name, kind="rent", pools=(pool,), note=section.text("note")),)


def _site_pool(section: Section, sites: dict[str, BuildSpec | None]) -> BuildSpec | None:
    name = section.text("site")
    if not name:
        return None
    if name not in sites:
        section.report(
            "MS302", "site", found=f"'{name}'", expected="a key of `sites`", fix=suggestion(name, list(sites))
        )
        return None
    return sites[name]


def _option(
    section: Section,
    kind: str,
    names: dict[str, str],
    pools: dict[str, Pool | None],
    sites: dict[str, BuildSpec | None],
) -> OptionSpec | None:
    name = section.text("name")
    observed = tuple(read_observed(section, "observed", {}).get("", ()))
    if kind != "mix":
        pool = pools.get(name)
        if pool is None:
            return None
        return OptionSpec(name=name, kind=kind, pools=(pool,), observed=observed, note=section.text("note"))
    members = _members(section, name, names, pools, sites)
    move = _move(section)
    if members is None or move is None:
        return None
    return OptionSpec(name=name, kind=kind, pools=members, move=move, observed=observed, note=section.text("note"))


def _members(
    section: Section,
    option: str,
    names: dict[str, str],
    pools: dict[str, Pool | None],
    sites: dict[str, BuildSpec | None],
) -> tuple[Pool, ...] | None:
    from makespan.scenario._shape import MixPoolShape

    found: list[Pool | None] = []
    seen: list[str] = []
    for index, item in enumerate(section.each("pools", MixPoolShape)):
        given = [key for key in ("option", "site") if item.has(key)]
        inline = [key for key in ("offer", "accelerator", "count", "ramp") if item.has(key)]
        if len(given) > 1 or (given and inline):
            item.report(
                "MS114",
                given[0],
                found=" and ".join([*given, *inline]),
                expected="an option, a site, or a rented pool of its own",
                fix="keep one of them",
            )
            found.append(None)
            continue
        if item.has("site"):
            found.append(_site_pool(item, sites))
        elif item.has("option"):
            found.append(_named_pool(item, option, names, pools))
        else:
            found.append(read_rent(item, item.text("name") or f"{option}, pool {index + 1}"))
        last = found[-1]
        if last is not None and last.name in seen:
            item.report(
                "MS405",
                given[0] if given else "",
                found=f"the pool '{last.name}' twice",
                expected="different pools",
                fix="delete one of them",
            )
            found[-1] = None
        elif last is not None:
            seen.append(last.name)
    complete = [pool for pool in found if pool is not None]
    return tuple(complete) if len(complete) == len(found) >= 2 else None


def _named_pool(item: Section, option: str, names: dict[str, str], pools: dict[str, Pool | None]) -> Pool | None:
    name = item.text("option")
    if not name:
        return None
    if name not in names:
        item.report(
            "MS303",
            "option",
            found=f"'{name}'",
            expected="the name of an option",
            fix=suggestion(name, [n for n, kind in names.items() if kind != "mix"]),
        )
        return None
    if names[name] == "mix" or name == option:
        item.report(
            "MS405",
            "option",
            found=f"'{name}', which is a mix itself",
            expected="an option of kind rent or build",
            fix="name its pools one by one",
        )
        return None
    return pools.get(name)


def _move(section: Section) -> MoveSpec | None:
    from makespan.scenario._shape import MoveShape

    move = section.sub_or_empty("move", MoveShape)
    if section.failed("move"):
        return None
    gain = move.number("gain", default_rule(section.ctx, "move_gain"))
    duration = move.dist("duration", default_rule(section.ctx, "move_duration"))
    cost = move.dist("cost", default_rule(section.ctx, "move_cost"))
    if gain is None or duration is None or cost is None:
        return None
    return MoveSpec(gain=gain, duration_s=duration, cost_usd=cost)


def read_observed(section: Section, key: str, options: dict[str, str]) -> dict[str, list[ObservedSpec]]:
    """Observations by the option they belong to; "" for those that name none."""
    from makespan.scenario._shape import ObservedShape

    found: dict[str, list[ObservedSpec]] = {}
    for item in section.each(key, ObservedShape):
        option = item.text("option")
        if option and option not in options:
            item.report(
                "MS303",
                "option",
                found=f"'{option}'",
                expected="the name of an option",
                fix=suggestion(option, list(options)),
            )
        observed = _observed(item)
        if observed is not None:
            found.setdefault(option, []).append(observed)
    return found


def _observed(item: Section) -> ObservedSpec | None:
    ctx = item.ctx
    what = item.text("what")
    if item.failed("what") or not what:
        return None
    if what not in OBSERVABLE:
        item.report(
            "MS208",
            "what",
            found=f"'{what}'",
            expected=f"one of {', '.join(OBSERVABLE)}",
            fix=suggestion(what, list(OBSERVABLE)),
        )
        return None
    source = item.text("source")
    if source and source not in ctx.sources:
        item.report(
            "MS501",
            "source",
            found=f"the source '{source}'",
            expected="a key of `sources`",
            fix=suggestion(source, list(ctx.sources), otherwise="add it under `sources`"),
        )
    elif source:
        ctx.used_sources.setdefault(source, ctx.sources[source])
    elif ctx.strict:
        item.report(
            "MS503",
            "",
            found="an observation without a source",
            expected="in a strict scenario: a source",
            fix="add 'source: KEY'",
        )
    form = OBSERVABLE[what]
    at_s = value = None
    node = item.child("date")
    if node is not None:
        day = read_day(ctx, node, item.at("date"))
        at_s = None if day is None else ctx.seconds(day)
    node = item.child("value")
    if node is not None:
        value = _observed_value(item, form)
    for needs in ("date", "value") if what in _ON_A_DAY else ({"date": "date", "text": "text"}.get(form, "value"),):
        if not item.has(needs):
            item.report(
                "MS112",
                "",
                found=f"'{what}' without '{needs}'",
                expected=f"the key '{needs}'",
                fix=f"add '{needs}: ...'",
            )
    return ObservedSpec(
        what=what, text=item.text("text"), at_s=at_s, value=value, source=source, identity=item.flag("identity", False)
    )


def _observed_value(item: Section, form: str) -> float | None:
    node = item.child("value")
    assert node is not None
    kind = "factor" if form in ("date", "text") else form
    try:
        if not node.is_scalar or not isinstance(node.value, str | int | float):
            raise UnitError("no number")
        value = parse(node.value, kind)
    except (UnitError, OverflowError) as error:
        item.report(
            "MS201",
            "value",
            found=f"{node.describe()} ({str(error).split(';')[0]})",
            expected="the value with its unit",
            fix='write "139 MW", "310 GWh" or "$3.6B"',
        )
        return None
    return value if math.isfinite(value) else None
