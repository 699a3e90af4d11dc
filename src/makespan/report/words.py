"""The answer in sentences, from the data of `result.json` alone, so that every page tells the same story."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from makespan.report import formats as f
from makespan.report.labels import CAUSES, TRAINING_CAUSES, label
from makespan.units import DAY_S

CHANGES_NOTE = (
    "Each change is simulated again, alone, on the first 300 of the same futures (fewer where there are fewer), so the odds it "
    "starts from can differ by a few points from those of all futures. Cost: what the run is charged, at unchanged prices."
)

_SINGULAR = frozenset(
    {*CAUSES.values()}
    - {"failures and checkpoints", "permits", "data and recipe", "restarts after failures", "checkpoints"}
)

WORTH_SAYING = 0.2
"""Rent paid but not used is named in the answer when it is more than this share of the cost."""

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
        lines += _held_back(best, data)
        lines += _alternatives(best, options)
    if data["scenario"]["deadline"] is not None and any(starts(option) for option in options):
        lines.insert(1, _deadline(data))
    lines += _cannot_run(options)
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
        return f"missed: {f.days(off)} {'before' if off < 0 else 'after'} {edge}"
    low = seen["forecast"]["p10" if edge == "P10" else "p90"]
    if seen["what"] == "goodput":
        by = f"{100 * abs(off):.1f} percentage points"
    else:
        by = f.percent(abs(off) / abs(low), 0) if low else f.plain(abs(off))
    return f"missed: {by} {'below' if off < 0 else 'above'} {edge}"


def tally(data: dict[str, Any]) -> str:
    """How many of the observations that can be compared lie inside P10 to P90; nothing where there is none."""
    judged = [seen for option in data["options"] for seen in option["observed"] if seen["verdict"] is not None]
    judged = [seen for seen in judged if not seen["identity"]]
    if not judged:
        return ""
    if len(judged) == 1:
        return (
            f"The one observation is {'inside' if judged[0]['verdict'] == 'inside' else 'outside'} the forecast range."
        )
    inside = sum(seen["verdict"] == "inside" for seen in judged)
    text = f"{inside} of {len(judged)} observations lie inside the forecast range"
    early = sum(seen["verdict"] in ("earlier", "lower") for seen in judged)
    late = sum(seen["verdict"] in ("later", "higher") for seen in judged)
    missed = [
        f"{number} {where}" for number, where in ((early, "before or below it"), (late, "after or above it")) if number
    ]
    return f"{text}{', ' if missed else ''}{', '.join(missed)}."


def no_change_helps(data: dict[str, Any]) -> str:
    """Why there is a deadline and no change to make; nothing where there are changes, or no deadline."""
    if data["scenario"]["deadline"] is None or data["changes"]:
        return ""
    day = f.date(data["scenario"]["deadline"])
    odds = [option["probability_by_deadline"] or 0.0 for option in data["options"]]
    if max(odds, default=0.0) >= 0.99:
        best = max(data["options"], key=lambda option: option["probability_by_deadline"] or 0.0)
        chance = f.odds(best["probability_by_deadline"], data["scenario"]["num_replicates"])
        return f"{best['name']} is already released by {day} in {chance} of the futures: there is nothing left to gain."
    if not any(starts(option) for option in data["options"]):
        return "Nothing fits, so there is nothing to change a little; what is missing is said with the options."
    return (
        "None of the changes that were tried (more accelerators, earlier capacity or power, a larger share, FP8, less work "
        "after pre-training, where they apply) raises the odds by a percentage point."
    )


def starts(option: Option) -> bool:
    """Whether the run computes at all, in some future."""
    return option["layout"] is not None and any(option["curves"]["progress"]["p90"])


def what_limits(option: Option) -> str:
    """What holds an option back: reasons if it cannot run, else the largest causes with their shares."""
    if option["reasons"]:
        return "; ".join(option["reasons"])
    held = limits(option)
    if not held:
        return "nothing but the training itself"
    return ", ".join(f"{name} {f.share(part)}" for name, part in held)


def change_effect(change: dict[str, Any], num_replicates: int) -> tuple[str, str, str]:
    """Odds from and to, days gained, and money of a change, in words.

    >>> change_effect({"probability": 0.39, "gained_probability": 0.02, "gained_s": 86400.0, "extra_cost_usd": -5e6}, 300)
    ('37 % → 39 %', '1 day earlier', '$5.00M less')
    >>> change_effect({"probability": 0.9, "gained_probability": 0.5, "gained_s": None, "extra_cost_usd": 0}, 300)
    ('40 % → 90 %', '–', 'no more')
    """
    before = max((change["probability"] or 0.0) - (change["gained_probability"] or 0.0), 0.0)
    odds = f"{f.odds(before, num_replicates)} → {f.odds(change['probability'], num_replicates)}"
    gained = change["gained_s"]
    when = f.DASH if gained is None else "same date" if abs(gained) < 0.5 * DAY_S else ""
    when = when or f"{f.days(gained)} {'earlier' if gained > 0 else 'later'}"
    cost = change["extra_cost_usd"]
    if cost is None:
        return odds, when, f.DASH
    money = "no more" if abs(cost) < 0.5 else f"{f.money(abs(cost))} {'more' if cost > 0 else 'less'}"
    return odds, when, money


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


def _against(seen: dict[str, Any]) -> str:
    """A verdict for a sentence about a date."""
    if seen["verdict"] == "inside" or seen["off_edge"] is None:
        return verdict(seen)
    side = "before P10" if seen["off_edge"] < 0 else "after P90"
    return f"{f.days(seen['off_edge'])} {side}: the forecast missed it"


def days_between(earlier: str, later: str) -> int:
    """Days from one ISO date to another."""
    return (dt.date.fromisoformat(later) - dt.date.fromisoformat(earlier)).days


def _nobody(data: dict[str, Any]) -> str:
    scenario = data["scenario"]
    if data["options"] and not any(starts(option) for option in data["options"]):
        one = len(data["options"]) == 1
        return f"{'The model cannot be trained so' if one else 'No option can train the model'}: nothing fits."
    if len(data["options"]) == 1:
        return (
            f"The model is not trained by {f.date(scenario['horizon'])} in more than half of the "
            f"{scenario['num_replicates']:,} simulated futures."
        )
    return (
        f"No option finishes by {f.date(scenario['horizon'])} in at least half of the "
        f"{scenario['num_replicates']:,} simulated futures."
    )


def _first(best: Option, data: dict[str, Any]) -> str:
    band = release(best)
    replicates: int = data["scenario"]["num_replicates"]
    alone = len(data["options"]) == 1
    lead = "The model is" if alone else f"{best['name']} finishes first: the model is"
    if replicates == 1:
        return f"{lead} released on {f.date(band['p50'])}."
    if band["p90"] is None:
        horizon = f.date(data["scenario"]["horizon"])
        spread = (
            f"one chance in ten of {f.date(band['p10'])} or earlier, "
            f"{f.share(1 - band['probability_complete'])} that it is not done by {horizon}"
        )
    else:
        spread = f"eight chances in ten between {f.date(band['p10'])} and {f.date(band['p90'])}"
    text = f"{lead} released around {f.date(band['p50'])} ({spread})."
    if len(data["options"]) > 1:
        ahead = f.odds(best["probability_first"], replicates)
        text += f" It is ahead of the other options in {ahead} of {replicates:,} simulated futures."
    return text


def _price(best: Option) -> str:
    cost, committed = best["cost_of_model_usd"]["p50"], best["committed_usd"]["p50"]
    text = f"The run is charged {f.money(cost)}; {f.money(committed)} are committed whatever runs"
    if cost is not None and committed is not None and cost > committed:
        text += " (the run goes on after that is used up)"
    idle = sum(row["mean_usd"] or 0.0 for row in best["cost_lines"] if row["line"] == "unused_commitment")
    total = sum(row["mean_usd"] or 0.0 for row in best["cost_lines"])
    if total > 0 and idle / total > WORTH_SAYING:
        text = text.replace(";", f", {f.share(idle / total)} of it rent for time before and after the run;", 1)
    return (
        f"{text}. It takes {f.energy(best['energy_j']['facility']['p50'])} and up to "
        f"{f.power(best['peak_power_w']['facility']['p50'])}."
    )


def _held_back(best: Option, data: dict[str, Any]) -> list[str]:
    """What takes the time until the release, beside the training."""
    held = limits(best)
    if not held:
        return []
    (name, share), *more = held
    parts = f"{name} take{'s' if name in _SINGULAR else ''} {f.share(share)}"
    parts += "".join(f" and {name} {f.share(share)}" for name, share in more)
    return [
        f"Of the time from {f.date(data['scenario']['as_of'])} to the release, {parts}; training at full size without a "
        f"fault would take {f.share(training_share(best))}."
    ]


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
        cost = least["cost_of_model_usd"]["p50"]
        if key == "committed_usd" and least["name"] not in says and cost is not None and cost > least[key]["p50"]:
            prices = f"{prices[:-1]}; its run outlasts that and is charged {f.money(cost)})"
        says.setdefault(least["name"], []).append(prices)
    lines = []
    for option in finishing:
        if option["name"] in says:
            later = days_between(release(best)["p50"], release(option)["p50"])
            when = f"released {f.days(later * DAY_S)} later" if later > 0 else "released at about the same date"
            lines.append(f"{option['name']} {' and '.join(says[option['name']])}, {when}.")
    return lines


def _deadline(data: dict[str, Any]) -> str:
    replicates = data["scenario"]["num_replicates"]
    day = f.date(data["scenario"]["deadline"])
    ranked = sorted(data["options"], key=lambda option: -(option["probability_by_deadline"] or 0.0))
    likely = [option for option in ranked if (option["probability_by_deadline"] or 0.0) >= 0.005]
    if not likely:
        chance = f.odds(0.0, replicates)
        if len(ranked) == 1:
            return f"Odds of release by {day}: {chance}."
        return f"No option has a real chance of release by {day} (each {chance})."
    if len(data["options"]) == 1:
        return f"Odds of release by {day}: {f.odds(ranked[0]['probability_by_deadline'], replicates)}."
    odds = [f"{option['name']} {f.odds(option['probability_by_deadline'], replicates)}" for option in likely]
    others = len(ranked) - len(likely)
    if others:
        odds.append(f"the other{'s' if others > 1 else ''} {f.odds(0.0, replicates)}")
    return f"Odds of release by {day}: {', '.join(odds)}."


def _seldom(data: dict[str, Any]) -> list[str]:
    """One sentence on the options that may not finish at all."""
    seldom = [
        option
        for option in data["options"]
        if release(option)["probability_complete"] < SELDOM and not option["reasons"]
    ]
    seldom.sort(key=lambda option: release(option)["probability_complete"])
    replicates = data["scenario"]["num_replicates"]
    parts = [f"{option['name']} {f.odds(release(option)['probability_complete'], replicates)}" for option in seldom]
    if not parts:
        return []
    if len(data["options"]) == 1:
        chance = f.odds(release(seldom[0])["probability_complete"], replicates)
        text = f"Odds of finishing at all, by {f.date(data['scenario']['horizon'])}: {chance}."
        return [text + _how_far(seldom[0])]
    return [f"Odds of finishing at all, by {f.date(data['scenario']['horizon'])}: {', '.join(parts)}."]


def _how_far(option: Option) -> str:
    """Where a run that does not finish stands at the end of the curves."""
    done = option["curves"]["progress"]["p50"]
    if not done or not 0 < done[-1] < 1:
        return ""
    return f" By then {f.share(done[-1])} of the training is done in the median future: it needs more accelerators or fewer tokens."


def _cannot_run(options: Sequence[Option]) -> list[str]:
    """Options for which nothing fits, or that never finish, each with its reasons."""
    return [
        f"{option['name']} {'does not finish' if starts(option) else 'cannot run'}: {'; '.join(option['reasons'])}."
        + _how_far(option)
        for option in options
        if option["reasons"]
    ]


def _what_happened(options: Sequence[Option]) -> list[str]:
    """The observed releases, or failing them the last dated observation of each option."""
    lines = []
    for option in options:
        judged = [seen for seen in option["observed"] if seen["verdict"] is not None and seen["date"] is not None]
        judged = [seen for seen in judged if seen["what"].endswith("release")] or judged[-1:]
        lines += [
            f"What then happened at {option['name']}: {seen['label'].lower()} on {f.date(seen['date'])}, {_against(seen)}."
            for seen in judged
        ]
    return lines
