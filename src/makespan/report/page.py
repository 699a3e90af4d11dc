"""One self-contained HTML file: the answer first, then everything it stands on. Loads nothing from outside."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import shlex
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from makespan.report import formats as f
from makespan.report import labels, pipeline, words
from makespan.report.levers import swing_text
from makespan.report.step_text import CHANGES
from makespan.specs.plan import Plan
from makespan.units import HOUR_S

if TYPE_CHECKING:
    from jinja2 import Environment

COLOURS = 8
"""Options in a chart that get a colour of their own; further ones start over with a dashed line."""

PARTS = ("first_training", "all_installed", "all_powered", "pretraining", "release")


def html(plan: Plan, data: dict[str, Any]) -> str:
    """The page of a plan.

    Parameters
    ----------
    data : what `result(plan)` gave; every number on the page comes from here.

    Notes
    -----
    Names and texts from the scenario are escaped, links are followed to http(s) only, and the page's own policy
    (Content-Security-Policy) runs no script but the two that are hashed in it and loads nothing.
    """
    library, charts = asset("echarts.min.js"), asset("report.js")
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in (library, charts))
    environment = _environment()
    return environment.get_template("report.html.j2").render(
        data=data,
        options=data["options"],
        scenario=data["scenario"],
        best=words.fastest(data["options"]) if len(data["options"]) > 1 else None,
        silent_models=silent_models(data),
        sites=sites(data["options"]),
        causes_named=causes_named(data["options"]),
        lever_groups=lever_groups(data),
        close_ups=close_ups(data),
        ledger_names={name: text for name, (text, _) in labels.LEDGER.items()},
        curve_rows=curve_rows(data),
        command=command(plan, data),
        scenario_text=plan.scenario.text,
        style=_markup(asset("report.css")),
        library=_markup(library),
        charts=_markup(charts),
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        json=_markup(embed({**data, "facts": [], "rules": [], "labels": _chart_labels()})),
    )


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return (files("makespan.report") / "assets" / name).read_text(encoding="utf-8")


def embed(data: Any) -> str:
    """JSON that cannot end the script element it stands in, nor start a comment.

    >>> embed({"name": "</script><b>&"})
    '{"name":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e\\\\u0026"}'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def safe_url(url: str) -> str:
    """The address if it is one to follow, nothing otherwise.

    >>> safe_url("https://x.ai/"), safe_url("javascript:alert(1)")
    ('https://x.ai/', '')
    """
    return url if url.lower().startswith(("https://", "http://")) else ""


def sites(options: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pools whose build has more than one milestone, each once, with the options that use it."""
    found: dict[str, dict[str, Any]] = {}
    for option in options:
        for pool in option["pools"]:
            if len(pool["milestones"]) < 2:
                continue
            site = found.setdefault(pool["name"], {**pool, "options": []})
            site["options"].append(option["name"])
    return list(found.values())


def causes_named(options: list[dict[str, Any]]) -> list[str]:
    """Causes that take any time in some option and have an explanation, in the order of the explanations."""
    found = {row["cause"] for option in options for row in option["limited_by"] if row["share"]}
    return [name for name in labels.CAUSE_MEANINGS if name in found]


def lever_groups(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Levers by option, in the order of the options, the fastest first."""
    best = words.fastest(data["options"])
    names = [option["name"] for option in data["options"]]
    if best is not None:
        names.sort(key=lambda name: name != best["name"])
    groups = []
    for name in names:
        rows = [lever for lever in data["levers"] if lever["option"] == name]
        rows.sort(key=lambda lever: -(lever["swing_s"] or 0.0))
        if rows:
            groups.append({"option": name, "index": [o["name"] for o in data["options"]].index(name), "rows": rows})
    return groups


def close_ups(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps to show closely, each once: options with the same layout and step share one. The earliest option's comes first."""
    groups: list[dict[str, Any]] = []
    for index, option in enumerate(data["options"]):
        step = option["step"]
        if step is None:
            continue
        group = next((g for g in groups if g["step"] == step and g["layout"] == option["layout"]), None)
        if group is None:
            drawing = None if step["pipeline"] is None else data["pipelines"][step["pipeline"]]
            group = {"names": [], "index": index, "step": step, "layout": option["layout"], "pipeline": drawing}
            groups.append(group)
        group["names"].append(option["name"])
    best = words.fastest(data["options"])
    groups.sort(key=lambda group: best is None or best["name"] not in group["names"])
    return groups


def step_rows(step: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(part, exposed seconds, hidden seconds), what shows most first."""
    exposed, hidden = step["breakdown_s"], step["hidden_s"]
    rows = [(name, exposed.get(name) or 0.0, hidden.get(name) or 0.0) for name in {**exposed, **hidden}]
    return sorted((row for row in rows if row[1] > 0.0 or row[2] > 0.0), key=lambda row: (-row[1], -row[2]))


def memory_table(step: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """Memory by kind (rows) and by stages that differ (columns), or of the only stage.

    Returns
    -------
    dict : `columns` (name, whether it is the fullest), `rows` (kind, bytes by column), `totals` by column.
    """
    last, stage = layout["pp"] - 1, step["memory_stage"]
    peak = {last - 1: "before last", last: "last", 0: "first"}.get(stage, "middle")
    groups = step["memory_by_stage"]
    if not any(group["group"] == peak for group in groups):
        name = "every accelerator" if layout["pp"] == 1 else "fullest stage"
        groups = [{"group": name, "memory_bytes": step["memory_bytes"], "total_bytes": step["memory_total_bytes"]}]
    kinds = [kind for kind in step["memory_bytes"] if any(group["memory_bytes"].get(kind) for group in groups)]
    return {
        "columns": [(group["group"], len(groups) > 1 and group["group"] == peak) for group in groups],
        "rows": [(kind, [group["memory_bytes"].get(kind) for group in groups]) for kind in kinds],
        "totals": [group["total_bytes"] for group in groups],
    }


def initial(text: str) -> str:
    """The text with a capital at its start.

    >>> initial("all-to-all behind another micro-batch")
    'All-to-all behind another micro-batch'
    """
    return text[:1].upper() + text[1:]


def silent_models(data: dict[str, Any]) -> list[str]:
    """Options whose date does not follow which of several candidate models is trained."""
    if len(data["scenario"]["models"]) < 2:
        return []
    moved = {lever["option"] for lever in data["levers"] if lever["name"] == "model.candidates"}
    asked = {lever["option"] for lever in data["levers"]}
    return [option["name"] for option in data["options"] if option["name"] in asked - moved]


def command(plan: Plan, data: dict[str, Any]) -> str:
    """The command line that makes this page again."""
    scenario = data["scenario"]
    parts = ["makespan", "plan", plan.scenario.path or scenario["file"] or "SCENARIO.yaml"]
    parts += ["--replicates", str(scenario["num_replicates"]), "--seed", str(scenario["seed"])]
    if scenario["deadline"] is not None:
        parts += ["--by", scenario["deadline"]]
    return shlex.join(parts)


def milestone(option: dict[str, Any], part: str) -> dict[str, Any]:
    """The date band of one of `PARTS`."""
    band: dict[str, Any] = option["completion"][part] if part in option["completion"] else option[part]
    return band


def accelerator_hours(option: dict[str, Any]) -> dict[str, Any]:
    """Held accelerator time in hours, a band."""
    return {key: None if value is None else value / HOUR_S for key, value in option["accelerator_s"].items()}


def curve_rows(data: dict[str, Any], most: int = 24) -> list[tuple[int, str]]:
    """Some of the times of the curves, for a table: index and ISO date."""
    times = data["times_s"]
    as_of = dt.date.fromisoformat(data["scenario"]["as_of"])
    stride = max(len(times) // most, 1)
    return [(index, (as_of + dt.timedelta(seconds=times[index])).isoformat()) for index in range(0, len(times), stride)]


def _chart_labels() -> dict[str, Any]:
    return {
        "ledger": {name: text for name, (text, _) in labels.LEDGER.items()},
        "cause": labels.CAUSES,
        "cost": labels.COSTS,
        "step": labels.STEP_PARTS,
        "memory": labels.MEMORY,
    }


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("makespan.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("date", "date_range", "money", "energy", "power", "duration", "days", "share", "odds", "percent", "count")
    environment.filters.update(
        {name: getattr(f, name) for name in (*names, "size", "gib", "plain", "mass", "write", "span")}
    )
    environment.filters.update(safe_url=safe_url, readable=labels.readable, initial=initial)
    environment.globals.update(
        labels=labels, words=words, parts=PARTS, milestone=milestone, observed_value=words.observed_text,
        word=labels.label, swing_text=swing_text, accelerator_hours=accelerator_hours, colours=COLOURS,
        pipeline_caption=pipeline.caption, pipeline_legend=pipeline.legend, stage_rows=pipeline.stage_rows,
        step_rows=step_rows, memory_table=memory_table, layout_dimensions=CHANGES,
    )  # fmt: skip
    return environment
