"""One sourced value of the file: its forms, its unit, its limits, its provenance."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from makespan.provenance import Fact, Kind
from makespan.scenario._context import Context, comma_hint, suggestion
from makespan.scenario._tree import Node
from makespan.uncertainty import Discrete, Distribution, Fixed, Percentiles, Triangular, Uniform
from makespan.units import UnitError, parse

if TYPE_CHECKING:
    from makespan.scenario._shape import Quantity

PROVENANCE_KEYS = ("source", "assumed", "decision", "how", "where", "known_on")
FORM_KEYS = ("value", "range", "p10", "p50", "p90", "values", "weights")
VALUE_KEYS = (*FORM_KEYS, *PROVENANCE_KEYS, "kind", "note")
_FORMS = "a value, {value: ..., range: [low, high]}, {p10: ..., p50: ..., p90: ...} or {values: [...], weights: [...]}"
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


@dataclass(frozen=True, slots=True)
class Origin:
    """Provenance of a value, its own or that of the mapping it stands in."""

    node: Node | None = None
    source: str = ""
    assumed: str = ""
    decision: str = ""
    how: str = ""
    where: str = ""
    known_on: dt.date | None = None
    kind: Kind | None = None

    @property
    def stated(self) -> bool:
        return bool(self.source or self.assumed or self.decision)


def read_origin(ctx: Context, node: Node, path: str, inherited: Origin) -> Origin:
    """Provenance keys of a mapping; the inherited ones where it states none."""
    mapping = node.mapping or {}
    texts = {
        key: mapping[key].raw.strip()
        for key in PROVENANCE_KEYS
        if key in mapping and mapping[key].is_scalar and mapping[key].value is not None
    }
    stated = [key for key in ("source", "assumed", "decision") if texts.get(key)]
    if len(stated) > 1:
        ctx.report(
            "MS504",
            mapping[stated[1]],
            f"{path}.{stated[1]}",
            found=" and ".join(f"'{key}'" for key in stated) + " for one value",
            expected="one of source, assumed and decision",
            fix="keep the one that is true; put the rest into `how`",
        )
    if not texts:
        return inherited
    known_on = None
    if "known_on" in texts:
        known_on = read_day(ctx, mapping["known_on"], f"{path}.known_on")
    if not stated:
        # `how`, `where`, `known_on` alone qualify what is inherited.
        return Origin(
            node=inherited.node or node,
            source=inherited.source,
            assumed=inherited.assumed,
            decision=inherited.decision,
            how=texts.get("how", inherited.how),
            where=texts.get("where", inherited.where),
            known_on=known_on or inherited.known_on,
            kind=inherited.kind,
        )
    return Origin(
        node=mapping[stated[0]],
        source=texts.get("source", ""),
        assumed=texts.get("assumed", "") if "assumed" in stated[:1] else "",
        decision=texts.get("decision", "") if "decision" in stated[:1] else "",
        how=texts.get("how", ""),
        where=texts.get("where", ""),
        known_on=known_on,
        kind=_own_kind(mapping),
    )


def _own_kind(mapping: dict[str, Node]) -> Kind | None:
    # Elsewhere `kind` is the kind of an option or of a power source; only words for facts count here.
    word = mapping["kind"].raw if "kind" in mapping else ""
    return {
        "measured": Kind.MEASURED,
        "datasheet": Kind.DATASHEET,
        "published": Kind.PUBLISHED,
        "derived": Kind.DERIVED,
        "quoted": Kind.QUOTED,
    }.get(word)


def read_day(ctx: Context, node: Node, path: str) -> dt.date | None:
    """An ISO date, or a problem."""
    if node.is_scalar and isinstance(node.value, str) and _ISO.match(node.value):
        try:
            return dt.date.fromisoformat(node.value)
        except ValueError as error:
            ctx.report(
                "MS204",
                node,
                path,
                found=f"{node.describe()} ({error})",
                expected="a date of the calendar",
                fix="correct the day or the month",
            )
            return None
    ctx.report("MS204", node, path, found=node.describe(), expected="an ISO date", fix=_date_hint(node))
    return None


def _date_hint(node: Node) -> str:
    text = node.raw.strip()
    if match := re.match(r"(\d{1,2})[./](\d{1,2})[./](\d{4})\Z", text):
        return f"write {match[3]}-{int(match[2]):02d}-{int(match[1]):02d} (year-month-day)"
    if match := re.match(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})\Z", text):
        return f"write {match[1]}-{int(match[2]):02d}-{int(match[3]):02d}"
    if match := re.match(r"(\d{4}-\d{2}-\d{2})[T ]", text):
        return f"write {match[1]}, without the time of day"
    if match := re.match(r"(\d{4})-(\d{2})\Z", text):
        return f"write a day, such as {text}-01"
    return "write it as year-month-day, such as 2027-03-01"


def read_value(ctx: Context, node: Node, quantity: Quantity, path: str, inherited: Origin) -> Distribution | None:
    """The distribution of one value, its fact noted; None (and a problem) where it cannot be read."""
    name = ctx.draw_name(node, quantity.kind, path)
    if node.is_scalar:
        value = _number(ctx, node, quantity, path)
        if value is None:
            return None
        _note(ctx, node, quantity, path, inherited, text=node.raw)
        return Fixed(name=name, value=value)
    if node.items is not None:
        ctx.report(
            "MS113", node, path, found=node.describe(), expected=_FORMS, fix="write {range: [low, high]} for a range"
        )
        return None
    return _mapping_value(ctx, node, quantity, path, inherited, name)


def _mapping_value(
    ctx: Context, node: Node, quantity: Quantity, path: str, inherited: Origin, name: str
) -> Distribution | None:
    mapping = node.mapping
    assert mapping is not None
    known = True
    for key in mapping:
        if key not in VALUE_KEYS:
            known = False
            assert node.keys is not None
            ctx.report(
                "MS111",
                mapping[key],
                f"{path}.{key}",
                found=f"the key '{key}'",
                expected=f"one of {', '.join(VALUE_KEYS)}",
                fix=comma_hint(key, mapping[key]) or suggestion(key, VALUE_KEYS, otherwise="delete it"),
                place=node.keys[key],
            )
    for key in ("source", "assumed", "decision", "how", "where"):
        if key in mapping and (not isinstance(mapping[key].value, str) or not mapping[key].raw.strip()):
            ctx.report(
                "MS113",
                mapping[key],
                f"{path}.{key}",
                found=mapping[key].describe(),
                expected="text",
                fix="write some text, in quotes if it holds a colon",
            )
    return form_value(ctx, node, quantity, path, inherited, name, quiet=not known)


def form_value(
    ctx: Context, node: Node, quantity: Quantity, path: str, inherited: Origin, name: str, *, quiet: bool = False
) -> Distribution | None:
    """The distribution that the keys `value`, `range`, `p10`... of a mapping describe; other keys are not looked at."""
    mapping = node.mapping or {}
    origin = read_origin(ctx, node, path, inherited)
    keys = [key for key in FORM_KEYS if key in mapping]
    forms = {
        "value": "value",
        "range": "value",
        "p10": "percentiles",
        "p50": "percentiles",
        "p90": "percentiles",
        "values": "values",
        "weights": "values",
    }
    used = {forms[key] for key in keys}
    problem = ""
    if not used:
        problem = "no value" if not quiet else ""
        if quiet:
            return None
    elif len(used) > 1:
        problem = " and ".join(f"'{key}'" for key in keys) + " together"
    elif used == {"percentiles"} and len(keys) < 3:
        problem = "only " + " and ".join(keys)
    elif keys == ["weights"]:
        problem = "'weights' without 'values'"
    elif quantity.plain and keys != ["value"]:
        ctx.report(
            "MS207",
            node,
            path,
            found=f"an uncertain value ({', '.join(keys)})",
            expected="one number: this field is used as it stands",
            fix="keep `value`, and say how uncertain it is in `assumed` or `how`",
        )
        return None
    if problem:
        ctx.report("MS207", node, path, found=problem, expected=_FORMS, fix="write one of these forms in full")
        return None
    if used == {"percentiles"}:
        return _percentiles(ctx, node, mapping, quantity, path, origin, name)
    if used == {"values"}:
        return _discrete(ctx, node, mapping, quantity, path, origin, name)
    return _triangular(ctx, node, mapping, quantity, path, origin, name)


def _triangular(
    ctx: Context, node: Node, mapping: dict[str, Node], quantity: Quantity, path: str, origin: Origin, name: str
) -> Distribution | None:
    value = _number(ctx, mapping["value"], quantity, f"{path}.value") if "value" in mapping else None
    if "value" in mapping and value is None:
        if "range" in mapping:
            _pair(ctx, mapping["range"], quantity, f"{path}.range")
        return None
    if "range" not in mapping:
        assert value is not None
        _note(ctx, node, quantity, path, origin, text=mapping["value"].raw)
        return Fixed(name=name, value=value)
    pair = _pair(ctx, mapping["range"], quantity, f"{path}.range")
    if pair is None:
        return None
    low, high = pair
    edges = mapping["range"].items or []
    low_text, high_text = edges[0].raw, edges[1].raw
    if not low <= high or (value is not None and not low <= value <= high):
        middle = "" if value is None else f" with the value {mapping['value'].raw}"
        ctx.report(
            "MS202",
            mapping["range"],
            f"{path}.range",
            found=f"[{low_text}, {high_text}]{middle}",
            expected="lowest <= value <= highest",
            fix="put the numbers in order, or widen the range",
        )
        return None
    if value is None:
        _note(ctx, node, quantity, path, origin, text=f"{low_text} to {high_text}", low=low_text, high=high_text)
        return Uniform(name=name, low=low, high=high) if low < high else Fixed(name=name, value=low)
    _note(ctx, node, quantity, path, origin, text=mapping["value"].raw, low=low_text, high=high_text)
    return Triangular(name=name, low=low, mode=value, high=high) if low < high else Fixed(name=name, value=value)


def _pair(ctx: Context, node: Node, quantity: Quantity, path: str) -> tuple[float, float] | None:
    items = node.items
    if items is None or len(items) != 2:
        ctx.report(
            "MS207", node, path, found=node.describe(), expected="[lowest, highest]", fix="write two values in brackets"
        )
        return None
    low, high = (_number(ctx, item, quantity, path) for item in items)
    return None if low is None or high is None else (low, high)


def _percentiles(
    ctx: Context, node: Node, mapping: dict[str, Node], quantity: Quantity, path: str, origin: Origin, name: str
) -> Distribution | None:
    numbers = [_number(ctx, mapping[key], quantity, f"{path}.{key}") for key in ("p10", "p50", "p90")]
    low, middle, high = numbers
    if low is None or middle is None or high is None:
        return None
    texts = [mapping[key].raw for key in ("p10", "p50", "p90")]
    if not low <= middle <= high:
        ctx.report(
            "MS202", node, path, found=", ".join(texts), expected="p10 <= p50 <= p90", fix="put the three in order"
        )
        return None
    _note(ctx, node, quantity, path, origin, text=texts[1], low=texts[0], high=texts[2])
    if low == high:
        return Fixed(name=name, value=middle)
    is_date = quantity.kind == "date"  # its zero, `as_of`, means nothing
    return within(Percentiles(name=name, p10=low, p50=middle, p90=high, linear=is_date), quantity)


def within(value: Distribution, quantity: Quantity) -> Distribution:
    """The same with tails that end at the field's limits: percentiles say nothing of where they end."""
    if not isinstance(value, Percentiles):
        return value
    return replace(
        value,
        least=value.least if quantity.low is None else quantity.low,
        most=value.most if quantity.high is None else quantity.high,
    )


def _discrete(
    ctx: Context, node: Node, mapping: dict[str, Node], quantity: Quantity, path: str, origin: Origin, name: str
) -> Distribution | None:
    items = mapping["values"].items
    if not items:
        ctx.report(
            "MS206",
            mapping["values"],
            f"{path}.values",
            found=mapping["values"].describe(),
            expected="a list of values",
            fix="write [a, b, ...]",
        )
        return None
    values = [_number(ctx, item, quantity, f"{path}.values") for item in items]
    weights = [1.0] * len(items)
    if "weights" in mapping:
        found = read_weights(ctx, mapping["weights"], len(items), f"{path}.weights")
        if found is None:
            return None
        weights = found
    if any(value is None for value in values):
        return None
    numbers = tuple(value for value in values if value is not None)
    _note(ctx, node, quantity, path, origin, text=" or ".join(item.raw for item in items))
    return Discrete(name=name, values=numbers, weights=tuple(weights))


def read_weights(ctx: Context, node: Node, count: int, path: str) -> list[float] | None:
    """Weights of `count` alternatives: none negative, not all 0."""
    items = node.items
    numbers = [
        float(item.value)
        for item in items or ()
        if isinstance(item.value, int | float) and not isinstance(item.value, bool)
    ]
    if items is None or len(numbers) != len(items) or len(numbers) != count:
        ctx.report(
            "MS206",
            node,
            path,
            found=node.describe(),
            expected=f"{count} plain numbers, one for each value",
            fix="write as many weights as values",
        )
        return None
    if any(not 0 <= number < math.inf for number in numbers) or sum(numbers) <= 0 or not math.isfinite(sum(numbers)):
        ctx.report(
            "MS206",
            node,
            path,
            found=", ".join(item.raw for item in items),
            expected="weights of 0 or more, at least one above 0",
            fix="weights need not add up to 1",
        )
        return None
    return numbers


def _number(ctx: Context, node: Node, quantity: Quantity, path: str) -> float | None:
    """One written number or date in SI, within its limits; None and a problem otherwise."""
    from makespan.scenario._shape import DATE, quantity_noun

    if quantity.kind == DATE:
        if quantity.never and node.value == "never":
            return math.inf
        day = read_day(ctx, node, path)
        return None if day is None else ctx.seconds(day)
    noun, example = quantity_noun(quantity)
    if not node.is_scalar or node.value is None or isinstance(node.value, bool):
        ctx.report("MS201", node, path, found=node.describe(), expected=noun, fix=f"write {example}")
        return None
    value: str | int | float = node.value  # type: ignore[assignment]
    number = None
    error: UnitError | None = None
    for kind in filter(None, (quantity.kind, quantity.or_kind)):
        try:
            number = parse(value, kind)
            break
        except UnitError as failed:
            error = error or failed
        except OverflowError:
            error = error or UnitError(f"found '{node.raw}', which is too large")
    if number is None:
        found = str(error).split("; expected")[0].removeprefix("found ")
        if isinstance(value, str):
            found = found if len(found) < 120 else node.describe()
        ctx.report("MS201", node, path, found=found, expected=noun, fix=f"write {example}")
        return None
    if quantity.kind == "count" and number != math.floor(number):
        ctx.report("MS209", node, path, found=node.describe(), expected="a whole number", fix=f"write {number:.0f}")
        return None
    limits = quantity.limits
    if (
        (quantity.low is not None and number < quantity.low)
        or (quantity.high is not None and number > quantity.high)
        or (quantity.positive and number <= 0)
    ):
        ctx.report("MS203", node, path, found=node.describe(), expected=limits, fix="check the number and its unit")
        return None
    return number


def _note(
    ctx: Context, node: Node, quantity: Quantity, path: str, origin: Origin, *, text: str, low: str = "", high: str = ""
) -> None:
    """Keep the fact of a value, and check when it could be known."""
    kind, source, known_on = Kind.DECISION, None, origin.known_on
    if origin.source:
        source = ctx.sources.get(origin.source)
        if source is None:
            ctx.report(
                "MS501",
                origin.node,
                f"{path}.source",
                found=f"the source '{origin.source}'",
                expected="a key of `sources`",
                fix=suggestion(
                    origin.source, list(ctx.sources), otherwise="add it under `sources` with title, publisher and date"
                ),
            )
        else:
            ctx.used_sources.setdefault(source.key, source)
        kind = origin.kind or (Kind.DERIVED if origin.how else ctx.source_kinds.get(origin.source, Kind.PUBLISHED))
        known_on = _known_on(ctx, path, origin)
    elif origin.assumed:
        kind = Kind.ASSUMED
        known_on = _known_on(ctx, path, origin)
    elif not origin.decision and ctx.strict and not quantity.decision and text != str(ctx.as_of):
        ctx.report(
            "MS503",
            node,
            path,
            found=f"{node.describe()} without a source",
            expected="in a strict scenario: source, assumed or decision",
            fix="write {value: ..., source: KEY}, {value: ..., range: [..], assumed: WHY} or {value: ..., decision: WHY}",
        )
    ctx.keep(
        [
            Fact(
                path=path,
                text=text,
                kind=kind,
                source=source,
                where=origin.where,
                how=origin.how,
                why=origin.assumed or origin.decision,
                low=low,
                high=high,
                known_on=known_on,
                file=ctx.file,
                line=node.line,
            )
        ]
    )


def _known_on(ctx: Context, path: str, origin: Origin) -> dt.date | None:
    """When a fact could first be known; a problem where that is after `as_of`."""
    source = ctx.sources.get(origin.source)
    known_on = origin.known_on or (source.date if source is not None else None)
    if known_on is None or ctx.as_of is None:
        return known_on
    if known_on > ctx.as_of:
        by = "its known_on" if origin.known_on else f"the date of its source '{origin.source}'"
        ctx.report(
            "MS502",
            origin.node,
            path,
            found=f"a fact known from {known_on} on ({by})",
            expected=f"only what was known on {ctx.as_of} (as_of)",
            fix="use an earlier source, mark it as assumed, or move it to `observed`; if it was known earlier, say so with `known_on` and `how`",
        )
    elif origin.known_on and source is not None and origin.known_on < source.date and not origin.how:
        ctx.report(
            "MS506",
            origin.node,
            path,
            found=f"known_on {origin.known_on}, before its source of {source.date}",
            expected="`how` it was known before it was printed",
            fix="add `how: ...`, or leave known_on out",
        )
    return known_on
