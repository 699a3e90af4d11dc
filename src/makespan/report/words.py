"""The answer in sentences, from the data of `result.json` alone, so that every page tells the same story."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from makespan.report import formats as f
from makespan.report.labels import CAUSES, TRAINING_CAUSES, label
from makespan.units import DAY_S

SELDOM = 0.9
"""An option that finishes in fewer of the replicates than this is called out."""

Option = dict[str, Any]


def answers(data: dict[str, Any]) -> list[str]:
    """Sentences, most important first, without markup. Each stands alone."""
    options: list[Option] = data["options"]
    lines: list[str] = []
    best = fastest(options)
    if best is None:
        lines.append(_nobody(data))
    else:
        lines.append(_first(best, data))
        lines.append(_price(best))
        lines += _alternatives(best, options)
    if data["scenario"]["deadline"] is not None:
        lines.insert(1, _deadline(data))
    lines += _seldom(data)
    lines += _what_happened(options)
    return lines


def fastest(options: Sequence[Option]) -> Option | None:
    """The option with the earliest median release; None where none has one."""
    finishing = [option for option in options if release(option)["p50"] is not None]
    return min(finishing, key=lambda option: (release(option)["p50"], -option["probability_first"]), default=None)


def release(option: Option) -> dict[str, Any]:
    band: dict[str, Any] = option["completion"]["release"]
    return band


def limits(option: Option, most: int = 2) -> list[tuple[str, float]]:
    """The causes that take the largest share of the time to release, in words, the training itself left out."""
    causes = [(row["cause"], row["share"]) for row in option["limited_by"] if row["share"]]
    held = [(label(CAUSES, cause), share) for cause, share in causes if cause not in TRAINING_CAUSES]
    return [(name, share) for name, share in held if share >= 0.005][:most]


def training_share(option: Option) -> float:
    """Share of the time to release that is the training itself."""
    return sum(row["share"] or 0.0 for row in option["limited_by"] if row["cause"] in TRAINING_CAUSES)


def verdict(seen: dict[str, Any]) -> str:
    """A verdict as words: "inside the range", "12 days later than P90"."""
    if seen["verdict"] is None:
        return ""
    if seen["verdict"] == "inside":
        return "inside the forecast range (P10 to P90)"
    edge = "P10" if seen["verdict"] in ("earlier", "lower") else "P90"
    off = seen["off_edge"]
    if off is None:
        return f"{seen['verdict']} than {edge}, which is never"
    if seen["verdict"] in ("earlier", "later"):
        return f"{f.days(off)} {seen['verdict']} than {edge}"
    low = seen["forecast"]["p10" if edge == "P10" else "p90"]
    return f"{f.percent(abs(off) / abs(low), 0) if low else f.plain(abs(off))} {seen['verdict']} than {edge}"


def observed_text(seen: dict[str, Any], value: float | str | None) -> str:
    """An observed or forecast value in the format of its quantity."""
    what = seen["what"]
    if value is None:
        return f.NEVER if seen["date"] and seen["value"] is None else f.DASH
    if isinstance(value, str):
        return f.date(value)
    for suffix, write in (
        ("_usd", f.money),
        ("_j", f.energy),
        ("_w", f.power),
        ("_kg", f.mass),
        ("goodput", f.percent),
    ):
        if what.endswith(suffix):
            return write(value)
    return f.count(value)


def observed_span(seen: dict[str, Any]) -> str:
    """P10 to P90 of the forecast that an observation is compared with."""
    low, high = seen["forecast"]["p10"], seen["forecast"]["p90"]
    if isinstance(low, str):
        return f.date(low) if low == high else f.date_range(low, high)
    return f"{observed_text(seen, low)} – {observed_text(seen, high)}"


def days_between(earlier: str, later: str) -> int:
    """Days from one ISO date to another."""
    return (dt.date.fromisoformat(later) - dt.date.fromisoformat(earlier)).days


def _nobody(data: dict[str, Any]) -> str:
    scenario = data["scenario"]
    return (
        f"No option finishes by {f.date(scenario['horizon'])} in at least half of the "
        f"{scenario['num_replicates']:,} simulated futures."
    )


def _first(best: Option, data: dict[str, Any]) -> str:
    band = release(best)
    replicates: int = data["scenario"]["num_replicates"]
    if replicates == 1:
        return f"{best['name']} finishes first: the model is released on {f.date(band['p50'])}."
    if band["p90"] is None:
        horizon = f.date(data["scenario"]["horizon"])
        spread = (
            f"one chance in ten of {f.date(band['p10'])} or earlier, "
            f"{f.share(1 - band['probability_complete'])} that it is not done by {horizon}"
        )
    else:
        spread = f"eight chances in ten between {f.date(band['p10'])} and {f.date(band['p90'])}"
    text = f"{best['name']} finishes first: the model is released around {f.date(band['p50'])} ({spread})."
    if len(data["options"]) > 1:
        ahead = f.odds(best["probability_first"], replicates)
        text += f" It is ahead of the other options in {ahead} of {replicates:,} simulated futures."
    return text


def _price(best: Option) -> str:
    text = (
        f"The model then costs {f.money(best['cost_of_model_usd']['p50'])}, with "
        f"{f.money(best['committed_usd']['p50'])} committed in all; it takes "
        f"{f.energy(best['energy_j']['facility']['p50'])} and up to {f.power(best['peak_power_w']['facility']['p50'])}."
    )
    held = limits(best, 1)
    if held:
        name, share = held[0]
        text += f" {f.share(training_share(best))} of the wait is the training itself; the largest delay is {name} ({f.share(share)})."
    return text


def _alternatives(best: Option, options: Sequence[Option]) -> list[str]:
    """What less money buys: the cheapest for the model, and the one that commits least."""
    says: dict[str, list[str]] = {}
    finishing = [option for option in options if release(option)["p50"] is not None]
    for key, claim in (
        ("cost_of_model_usd", "costs least for this model"),
        ("committed_usd", "commits the least money"),
    ):
        priced = [option for option in finishing if option[key]["p50"] is not None]
        least = min(priced, key=lambda option: option[key]["p50"], default=None)
        if least is None or least is best or best[key]["p50"] is None:
            continue
        prices = f"{claim} ({f.money(least[key]['p50'])} against {f.money(best[key]['p50'])})"
        says.setdefault(least["name"], []).append(prices)
    lines = []
    for option in finishing:
        if option["name"] in says:
            later = days_between(release(best)["p50"], release(option)["p50"])
            when = f"{f.days(later * DAY_S)} later" if later > 0 else "at about the same date"
            lines.append(f"{option['name']} {' and '.join(says[option['name']])}, {when}.")
    return lines


def _deadline(data: dict[str, Any]) -> str:
    replicates = data["scenario"]["num_replicates"]
    day = f.date(data["scenario"]["deadline"])
    ranked = sorted(data["options"], key=lambda option: -(option["probability_by_deadline"] or 0.0))
    likely = [option for option in ranked if (option["probability_by_deadline"] or 0.0) >= 0.005]
    if not likely:
        return f"No option has a real chance of release by {day} (each {f.odds(0.0, replicates)})."
    odds = [f"{option['name']} {f.odds(option['probability_by_deadline'], replicates)}" for option in likely]
    others = len(ranked) - len(likely)
    if others:
        odds.append(f"the other{'s' if others > 1 else ''} {f.odds(0.0, replicates)}")
    return f"Odds of release by {day}: {', '.join(odds)}."


def _seldom(data: dict[str, Any]) -> list[str]:
    """One sentence on the options that may not finish at all."""
    seldom = [option for option in data["options"] if release(option)["probability_complete"] < SELDOM]
    seldom.sort(key=lambda option: release(option)["probability_complete"])
    replicates = data["scenario"]["num_replicates"]
    parts = [f"{option['name']} {f.odds(release(option)['probability_complete'], replicates)}" for option in seldom]
    if not parts:
        return []
    return [f"Odds of finishing at all, by {f.date(data['scenario']['horizon'])}: {', '.join(parts)}."]


def _what_happened(options: Sequence[Option]) -> list[str]:
    """The observed releases, or failing them the last dated observation of each option."""
    lines = []
    for option in options:
        judged = [seen for seen in option["observed"] if seen["verdict"] is not None and seen["date"] is not None]
        judged = [seen for seen in judged if seen["what"].endswith("release")] or judged[-1:]
        lines += [
            f"What happened: {option['name']}, {seen['label'].lower()} on {f.date(seen['date'])}, {verdict(seen)}."
            for seen in judged
        ]
    return lines
