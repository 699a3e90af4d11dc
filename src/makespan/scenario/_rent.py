"""A rented pool: an offer of the catalog, terms of the file, rules for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from makespan.scenario._machine import Machine, read_machine
from makespan.scenario._names import default_rule, look_up, offer_rule, price_rule
from makespan.scenario._section import Rule, Section, fixed
from makespan.specs.supply import RampStep, RentSpec
from makespan.uncertainty import Distribution

if TYPE_CHECKING:
    from makespan.catalog import Entry, OfferSpec


def read_rent(section: Section, name: str) -> RentSpec | None:
    """One rented pool; None, with problems, where something that has no rule is missing or wrong."""
    offer: Entry[OfferSpec] | None = None
    if section.has("offer"):
        if not section.failed("offer"):
            offer = look_up(section.ctx, "offer", section.text("offer"), section.child("offer"), section.at("offer"))
        if offer is None:
            _read_terms(section, None, None)
            _ramp(section)
            return None
    machine = _machine(section, offer)
    ramp = _ramp(section)
    terms = _read_terms(section, offer, machine)
    if machine is None or ramp is None or terms is None:
        return None
    place = section.text("place")
    if not place:
        place = offer.spec.place if offer is not None else "rented cluster"
        section.ctx.rule(section.at("place"), place, "the offer's place" if offer is not None else "no place is named")
    return RentSpec(
        name=name,
        place=place,
        accelerator=machine.accelerator,
        node=machine.node,
        fabric=machine.fabric,
        ramp=ramp,
        **terms,
    )


def _machine(section: Section, offer: Entry[OfferSpec] | None) -> Machine | None:
    if offer is None:
        return read_machine(section)
    named = section.text("accelerator")
    if named and named != offer.spec.accelerator:
        section.report(
            "MS406",
            "accelerator",
            found=f"{named} in an offer of {offer.spec.accelerator}",
            expected=f"{offer.spec.accelerator}",
            fix="leave 'accelerator' out, or choose another offer",
        )
        return None
    return read_machine(section, offered=(offer.spec.accelerator, offer.spec.node, offer.spec.fabric), offer=offer.name)


def _read_terms(section: Section, offer: Entry[OfferSpec] | None, machine: Machine | None) -> dict[str, Any] | None:
    """Price and terms of the contract: the file's, else the offer's, else by rule."""
    ctx = section.ctx

    def offered(key: str, value: Distribution | float) -> Rule | None:
        return None if offer is None else offer_rule(offer, key, value)

    spec = offer.spec if offer is not None else None
    price_from = (
        offered("price", spec.price_usd_per_accelerator_s)
        if spec
        else (price_rule(ctx, machine.accelerator.name) if machine else None)
    )
    price = section.dist("price", price_from) if section.has("price") or price_from is not None else None
    if price is None and machine is not None and not section.has("price"):
        section.report(
            "MS618",
            "",
            found=f"no price, and the catalog has none for {machine.accelerator.name} by {ctx.origin}",
            expected="'price', per accelerator and time",
            fix="add 'price: 2.50 USD/h'",
        )
    term = section.number("term", offered("term", spec.term_s) if spec else default_rule(ctx, "term"))
    take = section.number(
        "take_or_pay", offered("take_or_pay", spec.take_or_pay) if spec else default_rule(ctx, "take_or_pay")
    )
    commitment = section.number("commitment") if section.has("commitment") else 0.0
    available = section.dist(
        "available",
        offered("available_fraction", spec.available_fraction) if spec else default_rule(ctx, "available_fraction"),
    )
    probability = section.number(
        "delivery_probability",
        offered("delivery_probability", spec.delivery_probability)
        if spec
        else default_rule(ctx, "delivery_probability"),
    )
    pue = section.dist("pue", offered("pue", spec.pue) if spec else default_rule(ctx, "pue"))
    carbon = section.number("carbon", default_rule(ctx, "grid_carbon"))
    largest: int | None = None
    if section.has("largest_cluster"):
        largest = section.whole("largest_cluster")
        if largest is None:
            return None
    elif spec is not None and spec.largest_cluster is not None:
        largest = spec.largest_cluster
        ctx.rule(section.at("largest_cluster"), f"{largest}", f"from the catalog's offer {offer.name if offer else ''}")
    if (
        price is None
        or term is None
        or take is None
        or commitment is None
        or available is None
        or probability is None
        or pue is None
        or carbon is None
    ):
        return None
    return {
        "price_usd_per_accelerator_s": price,
        "largest_cluster": largest,
        "term_s": term,
        "take_or_pay": take,
        "commitment_usd": commitment,
        "available_fraction": available,
        "delivery_probability": probability,
        "pue": pue,
        "carbon_kg_per_j": carbon,
    }


def _ramp(section: Section) -> tuple[RampStep, ...] | None:
    """Dates and counts, cumulative and in order."""
    from makespan.scenario._shape import RampShape

    if section.has("ramp"):
        for key in ("count", "from"):
            if section.has(key):
                section.report(
                    "MS114",
                    key,
                    found=f"'{key}' beside 'ramp'",
                    expected="one of them",
                    fix="put it into the ramp, or delete the ramp",
                )
                return None
        steps: list[RampStep] = []
        complete = True
        for item in section.each("ramp", RampShape):
            date, count = item.dist("date"), item.dist("count")
            if date is None or count is None:
                complete = False
                continue
            if steps and date.central <= steps[-1].from_s.central:
                item.report(
                    "MS407",
                    "date",
                    found="a date not after that of the step before",
                    expected="dates in order",
                    fix="sort the steps by date",
                )
                complete = False
            if steps and count.central < steps[-1].num_accelerators.central:
                item.report(
                    "MS407",
                    "count",
                    found=f"{count.central:,.0f} after {steps[-1].num_accelerators.central:,.0f}",
                    expected="counts that grow: each is the number in all, not what is added",
                    fix="write the number in all",
                )
                complete = False
            steps.append(RampStep(from_s=date, num_accelerators=count))
        return tuple(steps) if complete and steps else None
    if not section.has("count"):
        if not section.failed("ramp"):
            section.report(
                "MS611",
                "",
                found="neither 'count' nor 'ramp'",
                expected="how many accelerators",
                fix="add 'count: 4096' and 'from: 2026-12-01', or a 'ramp'",
            )
        return None
    begin = section.dist("from", fixed(0.0, str(section.ctx.origin), "the accelerators are there on as_of"))
    count = section.dist("count")
    if begin is None or count is None:
        return None
    return (RampStep(from_s=begin, num_accelerators=count),)
