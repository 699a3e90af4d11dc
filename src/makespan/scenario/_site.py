"""A site of one's own: activities, halls, deliveries, power, money."""

from __future__ import annotations

from typing import Any

from makespan.scenario._context import suggestion
from makespan.scenario._machine import read_machine
from makespan.scenario._names import default_rule
from makespan.scenario._section import Section, fixed
from makespan.specs.supply import ActivitySpec, BuildCosts, BuildSpec, DeliveryLot, HallSpec, PowerSource
from makespan.uncertainty import Distribution, Fixed, scaled

NOTHING = Fixed(value=0.0)


def read_site(section: Section, name: str) -> BuildSpec | None:
    """One site; None, with problems, where something that has no rule is missing or wrong."""
    ctx = section.ctx
    machine = read_machine(section) if not section.failed("accelerator") else None
    count = section.whole("count")
    activities = _activities(section)
    known = [activity.name for activity in activities]
    halls = _halls(section, count, known)
    deliveries = _deliveries(section, count)
    power = _power(section, known)
    starts = section.dist("starts", fixed(0.0, str(ctx.origin), "work may begin on as_of"))
    numbers = {
        "install_per_s": section.dist("install_rate", default_rule(ctx, "install_rate")),
        "burn_in_s": section.dist("burn_in", default_rule(ctx, "burn_in")),
        "first_pass_yield": section.dist("first_pass_yield", default_rule(ctx, "first_pass_yield")),
        "repair_s": section.dist("repair", default_rule(ctx, "pod_repair")),
        "pue": section.dist("pue", default_rule(ctx, "pue")),
    }
    pod = section.whole("pod", default_rule(ctx, "pod"))
    largest = section.whole("largest_cluster") if section.has("largest_cluster") else None
    costs = _costs(section)
    if count is not None and pod is not None:
        pod = min(pod, count)
    wrong = any(value is None for value in (machine, count, starts, pod, costs, *numbers.values()))
    if (
        wrong
        or halls is None
        or deliveries is None
        or power is None
        or (largest is None and section.has("largest_cluster"))
    ):
        return None
    assert machine is not None
    assert count is not None
    assert starts is not None
    assert pod is not None
    assert costs is not None
    fields: dict[str, Any] = numbers
    return BuildSpec(
        name=name,
        place=section.text("place", name),
        accelerator=machine.accelerator,
        node=machine.node,
        fabric=machine.fabric,
        num_accelerators=count,
        activities=activities,
        halls=halls,
        deliveries=deliveries,
        power=power,
        pod_size=pod,
        costs=costs,
        largest_cluster=largest,
        starts_s=starts,
        **fields,
    )


def _after(item: Section, known: list[str], own: str = "") -> tuple[str, ...]:
    """Predecessors that exist; the others are reported."""
    found = []
    names = item.names("after")
    joined = ", ".join(name for name, _ in names)
    for name, node in names:
        if name == own:
            item.ctx.report(
                "MS402",
                node,
                item.at("after"),
                found=f"'{name}' after itself",
                expected="another activity",
                fix="delete it",
            )
        elif name in known:
            found.append(name)
        else:
            split = next((k for k in known if "," in k and k in joined and name in k), None)
            fix = f'put the name in quotes: ["{split}"]' if split else suggestion(name, known)
            item.ctx.report(
                "MS401",
                node,
                item.at("after"),
                found=f"'{name}'",
                expected="the name of an activity of this site",
                fix=fix,
            )
    return tuple(found)


def _activities(section: Section) -> tuple[ActivitySpec, ...]:
    from makespan.scenario._shape import ActivityShape

    items = list(section.each("activities", ActivityShape))
    known = [item.text("name") for item in items]
    found: list[ActivitySpec] = []
    for index, item in enumerate(items):
        name = known[index]
        if name in known[:index] and name:
            item.report(
                "MS304",
                "name",
                found=f"'{name}' a second time",
                expected="a name of its own",
                fix="rename one of the activities",
            )
            continue
        after = _after(item, known, name)
        lag = item.number("lag") if item.has("lag") else 0.0
        not_before = item.dist("not_before") if item.has("not_before") else None
        duration: Distribution | None
        if item.has("done"):
            if item.has("duration") or item.has("not_before"):
                other = "duration" if item.has("duration") else "not_before"
                item.report(
                    "MS114",
                    other,
                    found=f"'{other}' beside 'done'",
                    expected="one of them",
                    fix="an activity with a date of completion needs no duration",
                )
            duration, not_before = NOTHING, item.dist("done")
        elif item.has("duration"):
            duration = item.dist("duration")
        else:
            duration = None
            if not item.failed("duration"):
                item.report(
                    "MS112",
                    "",
                    found="neither 'duration' nor 'done'",
                    expected="how long it takes, or when it was done",
                    fix="add 'duration: {p10: 10 d, p50: 14 d, p90: 25 d}'",
                )
        if duration is None or lag is None or (not_before is None and (item.has("done") or item.has("not_before"))):
            duration, lag, not_before = duration or NOTHING, lag or 0.0, None  # keep the name for the checks below
        cause = item.text("cause") or "construction"
        found.append(
            ActivitySpec(name=name, duration_s=duration, after=after, lag_s=lag, not_before_s=not_before, cause=cause)
        )
    _cycles(section, found)
    return tuple(found)


def _cycles(section: Section, activities: list[ActivitySpec]) -> None:
    """Report activities that wait for each other: what is left when everything that can start has been taken away."""
    left = {activity.name: set(activity.after) for activity in activities}
    while ready := [name for name, after in left.items() if not after & left.keys()]:
        for name in ready:
            del left[name]
    if not left:
        return
    # Follow predecessors until a name comes back: one cycle, in order.
    path = [next(iter(left))]
    while True:
        following = min(left[path[-1]] & left.keys())
        if following in path:
            cycle = [*path[path.index(following) :], following]
            break
        path.append(following)
    section.report(
        "MS402",
        "activities",
        found=" waits for ".join(f"'{name}'" for name in cycle),
        expected="work that can begin",
        fix="delete one of these predecessors",
    )


def _halls(section: Section, count: int | None, known: list[str]) -> tuple[HallSpec, ...] | None:
    from makespan.scenario._shape import HallShape

    if not section.has("halls"):
        if count is None:
            return None
        text = "one hall, ready when every activity has ended" if known else "one hall, ready at the start"
        section.ctx.rule(section.at("halls"), f"{count}", text)
        return (HallSpec(name="hall", num_accelerators=count, after=tuple(known)),)
    halls, complete, seen = [], True, set[str]()
    for item in section.each("halls", HallShape):
        size, after, name = item.whole("count"), _after(item, known), item.text("name", item.path)
        if name in seen:
            item.report(
                "MS304",
                "name",
                found=f"'{name}' a second time",
                expected="a name of its own",
                fix="rename one of the halls",
            )
        seen.add(name)
        if size is None:
            complete = False
            continue
        halls.append(HallSpec(name=name, num_accelerators=size, after=after))
    if not complete or section.failed("halls") or count is None or not halls:
        return None
    total = sum(hall.num_accelerators for hall in halls)
    if total != count:
        section.report(
            "MS403",
            "halls",
            found=f"halls for {total:,} in all",
            expected=f"the site's count, {count:,}",
            fix="change the halls or `count`",
        )
    return tuple(halls)


def _deliveries(section: Section, count: int | None) -> tuple[DeliveryLot, ...] | None:
    from makespan.scenario._shape import DeliveryShape

    lots, complete = [], True
    for item in section.each("deliveries", DeliveryShape):
        at, size = item.dist("date"), item.whole("count")
        if at is None or size is None:
            complete = False
            continue
        lots.append(DeliveryLot(at_s=at, num_accelerators=size))
    if not complete or count is None or not lots:
        return None
    total = sum(lot.num_accelerators for lot in lots)
    if total != count:
        section.report(
            "MS404",
            "deliveries",
            found=f"{total:,} delivered in all",
            expected=f"the site's count, {count:,}",
            fix="change the lots or `count`",
        )
    return tuple(lots)


def _power(section: Section, known: list[str]) -> tuple[PowerSource, ...] | None:
    from makespan.scenario._shape import PowerShape

    ctx = section.ctx
    items = list(section.each("power", PowerShape))
    site_price: Distribution | None = None
    if section.has("energy_price") or any(not item.has("energy_price") and not _burns_gas(item) for item in items):
        site_price = section.dist("energy_price", default_rule(ctx, "energy_price"))
    site_carbon: float | None = None
    if section.has("carbon") or any(not item.has("carbon") and not _burns_gas(item) for item in items):
        site_carbon = section.number("carbon", default_rule(ctx, "grid_carbon"))
    sources, seen = [], set[str]()
    for item in items:
        name = item.text("name", item.path)
        if name in seen:
            item.report(
                "MS304",
                "name",
                found=f"'{name}' a second time",
                expected="a name of its own",
                fix="rename one of the sources",
            )
        seen.add(name)
        source = _source(item, name, known, site_price, site_carbon)
        if source is not None:
            sources.append(source)
    if len(sources) < len(items) or not items or section.failed("power"):
        return None
    if not any(source.firm for source in sources):
        section.report(
            "MS614",
            "power",
            found="no firm source",
            expected="at least one source that capacity may rest on",
            fix="add a grid connection or generators",
        )
        return None
    return tuple(sources)


def _source(
    item: Section, name: str, known: list[str], site_price: Distribution | None, site_carbon: float | None
) -> PowerSource | None:
    capacity = item.dist("capacity")
    begin = item.dist("from", fixed(0.0, str(item.ctx.origin), "there on as_of"))
    until = item.dist("until") if item.has("until") else None
    units = item.whole("units") if item.has("units") else 1
    spare = item.whole("spare_units") if item.has("spare_units") else 0
    ctx = item.ctx
    gas = _burns_gas(item)
    always = fixed(1.0, "100 %", "it is there all the time")
    availability = item.number("availability", default_rule(ctx, "turbine_availability") if gas else always)
    if item.has("energy_price") or gas:
        energy = item.dist("energy_price", default_rule(ctx, "turbine_energy_price"))
    else:
        energy = site_price
    if item.has("carbon") or gas:
        carbon = item.number("carbon", default_rule(ctx, "turbine_carbon"))
    else:
        carbon = site_carbon
    after = _after(item, known)
    charge: Distribution = NOTHING
    if item.has("fixed") or gas:
        charged = item.dist("fixed", default_rule(ctx, "turbine_rent"))
        if charged is None:
            return None
        if item.has("fixed") and _is_money_rate(item):
            charge = charged
        elif capacity is not None and units is not None:
            charge = scaled(charged, capacity.central * units)
    if units is not None and spare is not None and spare >= units and item.has("spare_units"):
        item.report(
            "MS614",
            "spare_units",
            found=f"{spare} spare of {units}",
            expected="fewer spare units than units",
            fix="check both numbers",
        )
        return None
    if begin is not None and until is not None and until.central <= begin.central:
        item.report(
            "MS205",
            "until",
            found="an end that is not after the beginning",
            expected="`until` after `from`",
            fix="check both dates",
        )
        return None
    if (
        capacity is None
        or begin is None
        or units is None
        or spare is None
        or availability is None
        or energy is None
        or carbon is None
        or (until is None and item.has("until"))
        or item.failed("kind")
    ):
        return None
    kind = item.text("kind")
    return PowerSource(
        name=name,
        kind=kind,
        capacity_w=capacity,
        from_s=begin,
        until_s=until,
        after=after,
        num_units=units,
        num_redundant=spare,
        availability=availability,
        energy_price_usd_per_j=energy,
        fixed_usd_per_s=charge,
        carbon_kg_per_j=carbon,
        firm=item.flag("firm", kind != "battery"),
    )


def _burns_gas(item: Section) -> bool:
    return item.text("kind") in ("turbine", "fuel_cell")


def _is_money_rate(item: Section) -> bool:
    """Whether `fixed` is money per time, rather than money per capacity and time."""
    from makespan.units import UnitError, parse

    node = item.child("fixed")
    while node is not None and not node.is_scalar:
        mapping, items = node.mapping, node.items
        node = (
            next(iter(mapping[k] for k in ("value", "p50", "range", "values") if k in mapping), None)
            if mapping
            else items[0]
            if items
            else None
        )
    try:
        parse(node.value if node is not None and isinstance(node.value, str | int | float) else "", "money_rate")
    except UnitError:
        return False
    return True


def _costs(section: Section) -> BuildCosts | None:
    from makespan.scenario._shape import CostsShape
    from makespan.scenario._values import read_value

    costs = section.sub_or_empty("costs", CostsShape)
    ctx = section.ctx
    values = {
        "compute_usd_per_accelerator": costs.dist(
            "compute_per_accelerator", default_rule(ctx, "compute_per_accelerator")
        ),
        "construction_usd_per_it_w": costs.dist(
            "construction_per_it_power", default_rule(ctx, "construction_per_it_power")
        ),
        "staff_usd_per_s": costs.dist("staff", default_rule(ctx, "staff")),
        "maintenance_fraction_per_s": costs.dist("maintenance", default_rule(ctx, "maintenance")),
        "compute_life_s": costs.number("compute_life", default_rule(ctx, "compute_life")),
        "construction_life_s": costs.number("construction_life", default_rule(ctx, "construction_life")),
        "residual_fraction": costs.number("residual", default_rule(ctx, "residual")),
        "discount_rate_per_s": costs.number("discount_rate", default_rule(ctx, "discount_rate")),
    }
    extra: dict[str, Distribution] = {}
    complete = not section.failed("costs")
    node = costs.child("extra")
    for name, child in ((node.mapping if node is not None else None) or {}).items():
        if ctx.is_bad((*costs.loc, "extra", name)):
            complete = False
            continue
        from makespan.scenario._shape import Quantity

        value = read_value(ctx, child, Quantity(kind="money", low=0.0), f"{costs.at('extra')}.{name}", costs.origin)
        complete = complete and value is not None
        if value is not None:
            extra[name] = value
    if not complete or any(value is None for value in values.values()):
        return None
    fields: dict[str, Any] = values
    return BuildCosts(extra_capex_usd=extra, **fields)
