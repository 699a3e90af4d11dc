"""A search as text: the best layouts with the reason for each rank, how many were looked at, why the others are out."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from makespan.report.labels import LAYOUT_STATUS
from makespan.report.search_answer import Ranked, SearchAnswer, budget_data, ranked, reasons, why_behind
from makespan.report.step_text import GIB, heading, in_words, seconds_text
from makespan.search.emptied import Emptied, given
from makespan.specs.search import Objective, SearchConstraints, SearchResult
from makespan.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult

LEAST_OF = {
    Objective.TIME: "least step time first",
    Objective.COST: "least accelerator time first",
    Objective.ENERGY: "least energy of a step first",
}
CONSTRAINTS = {
    "memory_headroom": "--memory-headroom",
    "min_used_fraction": "--min-used",
}
"""Options that hold what is no dimension of a layout."""

SHOWN_RELEASES = 4


def search_table(answer: SearchAnswer) -> Group:
    """The best layouts, and the account of the others. Fits 80 columns; layouts and reasons wrap where they must."""
    from rich.console import Group
    from rich.text import Text

    rows = ranked(answer)
    kept = [f"{key}={word}" for key, word in answer.fixed.items()]
    question = [LEAST_OF[answer.constraints.objective]] + ([f"kept: {', '.join(kept)}"] if kept else [])
    if answer.is_open:
        question.append(f"precision open: {', '.join(found.config.precision for found in answer.found)}")
    parts: list[RenderableType] = [
        _Item(heading(answer.model, answer.config, answer.cluster, answer.profile), style="bold"),
        _Item("; ".join(question)),
    ]
    parts += [_Item(f"warning: {line}", hanging=2, style="yellow") for line in answer.warnings]
    parts += [Text("")]
    parts += _list(rows, answer)
    parts += [Text(""), *_account(answer, rows)]
    parts += [_Item(f"note: {note}", hanging=2, style="dim") for note in rows[0].estimate.notes]
    parts += [_Item(f"rule: {rule}", hanging=2, style="dim") for rule in answer.rules]
    return Group(*parts)


def _list(rows: tuple[Ranked, ...], answer: SearchAnswer) -> list[RenderableType]:
    """A line of figures for each layout, the layout below it, and what it loses against the best."""
    from rich.text import Text

    table = [_heads(answer), *(_figures(row, answer) for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    parts: list[RenderableType] = [Text(lines[0], style="bold", no_wrap=True)]
    for row, line in zip(rows, lines[1:], strict=True):
        parts.append(Text(line, no_wrap=True))
        named = f"{row.config.precision}  {row.estimate.layout}" if answer.is_open else str(row.estimate.layout)
        parts.append(_Item(named, widths[0] + 2, style="cyan"))
        if row.why:
            parts.append(_Item(row.why, widths[0] + 2, style="dim"))
    return parts


def _heads(answer: SearchAnswer) -> list[str]:
    objective = answer.constraints.objective
    value = {Objective.TIME: [], Objective.COST: ["accel. h"], Objective.ENERGY: ["MJ"]}[objective]
    idle = ["idle"] if objective is Objective.TIME else []
    return ["#", *value, "step s", "behind", "80% interval", "MFU", "mem GiB", "used", *idle]


def _figures(row: Ranked, answer: SearchAnswer) -> list[str]:
    estimate, objective = row.estimate, answer.constraints.objective
    value = {
        Objective.TIME: [],
        Objective.COST: [_four(row.value / HOUR_S)],
        Objective.ENERGY: [_four(row.value / 1e6)],
    }[objective]
    idle = [f"{estimate.num_idle:,}"] if objective is Objective.TIME else []
    return [
        f"{row.rank}{' =' if row.tie else '  '}",
        *value,
        seconds_text(estimate.time_s),
        "" if row.rank == 1 else f"{row.behind:.1%}",
        f"{_short(estimate.p10_s)} to {_short(estimate.p90_s)}",
        f"{estimate.mfu:.1%}",
        f"{estimate.memory.total_bytes / GIB:.1f}",
        f"{estimate.num_accelerators:,}",
        *idle,
    ]


def _four(value: float) -> str:
    """Four digits, as many as tell neighbours apart."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:#.4g}"


def _short(seconds: float) -> str:
    """Three digits: the ends of an interval are known no better."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:#.3g}"


@dataclass(frozen=True, slots=True)
class _Item:
    """A line that wraps to the width of the console, its continuation indented under its start."""

    text: str
    indent: int = 0
    hanging: int = 0
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        first, rest = " " * self.indent, " " * (self.indent + self.hanging)
        lines = textwrap.wrap(
            self.text,
            width=max(options.max_width, 20),
            initial_indent=first,
            subsequent_indent=rest,
            break_on_hyphens=False,
        )
        yield from (Text(line, style=self.style, no_wrap=True) for line in lines)


def _account(answer: SearchAnswer, rows: tuple[Ranked, ...]) -> list[RenderableType]:
    """Ties, how many layouts were looked at, why the rest is out."""
    parts: list[RenderableType] = []
    if any(row.tie for row in rows):
        tied = max((found.result.num_ties for found in answer.found if found.config is rows[0].config), default=0)
        within = f"within {answer.tie_fraction:.1%} of the best" if answer.tie_fraction else "as good as the best"
        many = f": {tied:,} of the layouts worked out" if tied else ""
        parts.append(_Item(f"= {within}, where the model cannot tell layouts apart{many}."))
    parts.append(_Item(tally(answer)))
    parts += [_Item(line, indent=2, hanging=2) for line in _reason_lines(answer)]
    best = rows[0]
    if answer.tokens is not None:
        run = budget_data(answer, best.estimate)
        days = run["train_s"] / DAY_S
        said = (
            f"{answer.tokens / 1e12:.4g}T tokens are {run['num_steps']:,.0f} steps, {days:,.1f} days of the best layout"
        )
        parts.append(_Item(f"{said}, without failures, checkpoints and evaluation."))
    return parts


def _reason_lines(answer: SearchAnswer) -> list[str]:
    out = reasons(answer)
    if not out:
        return []
    width = max(len(f"{count:,}") for count, _ in out)
    return [
        "out, of the combinations looked at, by the first rule they break:",
        *(f"{count:>{width},} {words}" for count, words in out),
    ]


def tally(answer: SearchAnswer) -> str:
    """How many layouts there are, were worked out, were excluded by proof, and how many of those worked out fit; the time.

    Where nothing fits anywhere, every excluded layout was proved not to fit.
    """
    evaluated, excluded = answer.count("num_layouts"), answer.count("num_excluded")
    fits = any(found.result.best is not None for found in answer.found)
    proof = "excluded by proof as no better or not fitting" if fits else "proved not to fit"
    proved = f", {excluded:,} {proof}, of {answer.count('num_legal'):,} legal ones" if excluded else ""
    in_all = f" in {len(answer.found)} precisions" if answer.is_open else ""
    fit = f"of those worked out, {answer.count('num_feasible'):,} fit; " if evaluated else ""
    return f"{evaluated:,} layouts worked out{in_all}{proved}; {fit}{answer.seconds:.2f} s."


def why_nothing_fits(answer: SearchAnswer) -> str:
    """The answer when no layout fits: what stopped them, which constraint emptied the search, how near the nearest came."""
    lines = [f"no layout of {heading(answer.model, answer.config, answer.cluster, answer.profile)} fits"]
    lines += [f"  - {line}" for line in answer.warnings]
    out = ", ".join(f"{count:,} {words}" for count, words in reasons(answer))
    lines.append(f"  - {tally(answer)}" + (f" Out: {out}" if out else ""))
    if answer.nearest is not None:
        layout, missing = answer.nearest
        lines.append(f"  - the nearest, {layout}, lacks {missing / GIB:.1f} GiB an accelerator")
    if answer.emptied is not None:
        lines += [f"  - {line}" for line in _emptied_lines(answer, answer.emptied)]
    return "\n".join(lines)


def constraint_words(name: str, constraints: SearchConstraints, fixed: dict[str, str]) -> str:
    """A constraint as the user gave it: "tp=8", "--memory-headroom 5%".

    >>> constraint_words("memory_headroom", SearchConstraints(), {})
    '--memory-headroom 5%'
    """
    if name == "thorough":
        return "--thin"
    value = getattr(constraints, name)
    if name in CONSTRAINTS:
        return f"{CONSTRAINTS[name]} {100 * value:.4g}%"
    return f"{name}={fixed.get(name, value)}"


def _emptied_lines(answer: SearchAnswer, emptied: Emptied) -> list[str]:
    """Which constraints keep everything out, or what would help where none does."""
    lines = []
    releases = sorted(emptied.releases, key=lambda release: release.best.time_s)
    for release in releases[:SHOWN_RELEASES]:
        names = " and ".join(constraint_words(name, answer.constraints, dict(answer.fixed)) for name in release.names)
        time = seconds_text(release.best.time_s)
        lines.append(f"without {names} something fits: {release.best.layout} ({time} s)")
    if len(releases) > SHOWN_RELEASES:
        rest = [" and ".join(release.names) for release in releases[SHOWN_RELEASES:]]
        lines.append(f"so it does without {', or '.join(rest)}")
    if releases:
        return lines
    where = f"{answer.cluster.num_accelerators:,} {answer.cluster.accelerator.name}"
    dropped = [constraint_words(name, answer.constraints, dict(answer.fixed)) for name in given(answer.constraints)]
    lines.append(f"nothing fits on {where} " + (f"without {' and '.join(dropped)} either" if dropped else "at all"))
    if emptied.nearest is not None:
        layout, missing = emptied.nearest
        then = "then the" if dropped else "the"
        lines.append(f"{then} nearest, {layout}, lacks {missing / GIB:.1f} GiB an accelerator")
    if emptied.enough_accelerators is not None:
        lines.append(f"what would help: more accelerators; with {emptied.enough_accelerators:,} something fits")
    else:
        lines.append(f"more accelerators would not help: up to {emptied.most_tried:,} were tried")
    return lines


def search_summary(result: SearchResult) -> str:
    """A search in a few lines of plain text, for a notebook or a log: the best layouts, ties marked, and the tally.

    Examples
    --------
    >>> print(search_summary(SearchResult(best=None, top=(), pareto=(), num_layouts=12, num_feasible=0)))
    nothing fits; 12 layouts worked out, of them 0 fit
    """
    if result.best is None:
        lines = ["nothing fits; "]
    else:
        lines = []
        for rank, estimate in enumerate(result.top, start=1):
            figures = f"{seconds_text(estimate.time_s)} s, MFU {estimate.mfu:.1%}, "
            figures += f"{estimate.memory.total_bytes / GIB:.1f} GiB, {estimate.num_accelerators:,} used"
            why = f"  ({why_behind(result.best, estimate)})" if rank > 1 else ""
            lines.append(f"{rank:>3}  {figures}: {estimate.layout}{why}\n")
    tail = f"{result.num_layouts:,} layouts worked out"
    if result.num_excluded:
        tail += f", {result.num_excluded:,} excluded by proof"
    tail += (
        f", of them {result.num_feasible:,} fit"
        if not result.num_excluded
        else f"; of those worked out {result.num_feasible:,} fit"
    )
    out = ", ".join(
        f"{count:,} {in_words(LAYOUT_STATUS, status.name.lower())}"
        for status, count in sorted(result.infeasible.items(), key=lambda item: -item[1])
        if count
    )
    return "".join(lines) + tail + (f"; out: {out}" if out else "")
