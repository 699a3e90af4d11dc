"""A scaling curve as one SVG that needs nothing else: speed against size, days to train, and MFU.

Limits are told by the shape of the mark and in words, never by colour alone. Colours and fonts are those of the report page,
light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from makespan.report import formats as f
from makespan.report.scaling import LIMITS, limit_text
from makespan.specs.search import HowFar, ScalingPoint
from makespan.units import DAY_S

WIDTH = 960
STYLE = """
svg { --card: #fff; --ink: #16202c; --soft: #566270; --line: #dde2e8; --axis: #8a94a0; --c0: #0072b2; --c1: #c4500a;
  color-scheme: light dark; font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --card: #182029; --ink: #e6ebf1; --soft: #a3afbc; --line: #2d3844;
  --axis: #71808f; --c0: #56b4e9; --c1: #ff8a4c; } }
.back { fill: var(--card); } text { fill: var(--ink); font-size: 13px; } .soft { fill: var(--soft); font-size: 12px; }
.head { font-size: 17px; font-weight: 650; } .panel { font-size: 13.5px; font-weight: 600; }
.grid { stroke: var(--line); } .axis { stroke: var(--axis); } .ideal { stroke: var(--soft); stroke-dasharray: 6 5; fill: none; }
.curve { stroke: var(--c0); stroke-width: 2.2; fill: none; stroke-linejoin: round; } .thin { stroke: var(--c0); fill: none; opacity: .8; } .band { fill: var(--c0); opacity: .16; }
.far { stroke: var(--c1); stroke-width: 1.6; stroke-dasharray: 2 4; stroke-linecap: round; } .fartext { fill: var(--c1); font-size: 12px; }
.mark { fill: var(--card); stroke: var(--c0); stroke-width: 1.8; } .full { fill: var(--c0); stroke: var(--card); stroke-width: 1; }
.none { stroke: var(--soft); stroke-width: 1.6; fill: none; } .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
""".strip()

SHAPES = {
    "none": "M0-3.4A3.4 3.4 0 1 1 0 3.4A3.4 3.4 0 1 1 0-3.4Z",
    "batch": "M-4.6-4.6H4.6V4.6H-4.6Z",
    "memory": "M0-6L5.6 4.4H-5.6Z",
    "network": "M0-6.2L6.2 0L0 6.2L-6.2 0Z",
    "stragglers": "M0 6L5.6-4.4H-5.6Z",
    "power": "M-1.8-5.8H1.8V-1.8H5.8V1.8H1.8V5.8H-1.8V1.8H-5.8V-1.8H-1.8Z",
    "constraints": "M-4.2-4.2L4.2 4.2M-4.2 4.2L4.2-4.2",
}
"""Outline of the mark of each limit, round its middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Values from `low` to `high` on pixels from `start` to `end`; logarithmic or straight."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def at(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Decades; also 2 and 5 where there are few of them; ten steps of a straight axis at most."""
        if not self.log:
            step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (self.high - self.low) / s <= 6 or s == 0.5)
            return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]
        lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        digits = (1, 2, 5) if highest - lowest <= 3 else (1,)
        values = [digit * 10.0**power for power in range(lowest, highest + 1) for digit in digits]
        edge = 1 + 1e-9
        return [value for value in values if self.low / edge <= value <= self.high * edge]


def _short(value: float) -> str:
    """A number on an axis: 500, 10k, 2M.

    >>> [_short(v) for v in (0.5, 20, 10_000, 2e6, 1e9)]
    ['0.5', '20', '10k', '2M', '1G']
    """
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """Where one chart stands, and its axes."""

    title: str
    x: _Axis
    y: _Axis
    label: Callable[[float], str]

    def frame(self) -> list[str]:
        """Title, grid and axes."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        out = [f'<text class="panel" x="{left - 46:.0f}" y="{top - 14:.0f}">{escape(self.title)}</text>']
        for value in self.y.ticks():
            y = self.y.at(value)
            out.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
            out.append(
                f'<text class="soft" text-anchor="end" x="{left - 8:.1f}" y="{y + 4:.1f}">{self.label(value)}</text>'
            )
        for value in self.x.ticks():
            x = self.x.at(value)
            out.append(f'<path class="grid" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>')
            out.append(
                f'<text class="soft" text-anchor="middle" x="{x:.1f}" y="{bottom + 18:.1f}">{_short(value)}</text>'
            )
        out.append(f'<path class="axis" d="M{left:.1f} {bottom:.1f}H{right:.1f}"/>')
        return out

    def line(self, points: Sequence[tuple[float, float]], css: str) -> str:
        path = "L".join(f"{self.x.at(x):.1f} {self.y.at(y):.1f}" for x, y in points)
        return f'<path class="{css}" d="M{path}"/>'

    def marks(self, points: Sequence[ScalingPoint], values: Sequence[float]) -> list[str]:
        """A mark a point, in the shape of its limit, with its figures for those who point at it."""
        out = []
        for point, value in zip(points, values, strict=True):
            x, y = self.x.at(point.num_accelerators), self.y.at(value)
            css = "full" if point.limit == "none" else "mark"
            out.append(
                f'<path class="{css}" d="{SHAPES[point.limit]}" transform="translate({x:.1f} {y:.1f})">'
                f"<title>{escape(_told(point))}</title></path>"
            )
        return out


def _told(point: ScalingPoint) -> str:
    layout = "" if point.estimate is None else f", {point.estimate.layout}"
    limit = f"; limit: {limit_text(point)}" if point.limit != "none" else ""
    return (
        f"{point.num_accelerators:,} accelerators: {point.useful_tokens_per_s:,.0f} tokens of the budget a second, MFU {point.mfu:.1%}, "
        f"{f.duration(point.train_s)}, batch {point.global_batch:,}{layout}{limit}"
    )


def _span(values: Sequence[float], *, room: float = 1.25) -> tuple[float, float]:
    """Ends of a logarithmic axis around some values."""
    return min(values) / room, max(values) * room


def scaling_svg(points: Sequence[ScalingPoint], far: HowFar | None = None, *, title: str, subtitle: str = "") -> str:
    """The drawing of a curve: tokens a second against size with the straight line of its best speed per accelerator, days
    to train with P10 to P90, and MFU of the whole cluster.

    Parameters
    ----------
    far : marked by a dotted line at that size.   title, subtitle : two lines of text above.
    """
    fitting = [point for point in points if point.estimate is not None]
    top = 104
    height = 800 if fitting else 140
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(subtitle)}</desc><style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        f'<text class="head" x="24" y="34">{escape(title)}</text>',
        f'<text class="soft" x="24" y="55">{escape(subtitle)}</text>',
    ]
    if not fitting:
        return "\n".join([*out, '<text x="24" y="96">Nothing fits at any of these sizes.</text>', "</svg>", ""])
    ends = points[0].num_accelerators, max(points[-1].num_accelerators, 2 * points[0].num_accelerators)
    out += _legend(points, 24, 80)
    out += _speed(points, fitting, far, _Axis(low=ends[0], high=ends[1], start=76, end=WIDTH - 28), top + 26)
    half = WIDTH / 2
    out += _days(fitting, _Axis(low=ends[0], high=ends[1], start=76, end=half - 18), 550)
    out += _mfu(fitting, _Axis(low=ends[0], high=ends[1], start=half + 66, end=WIDTH - 28), 550)
    out.append(f'<text class="soft" text-anchor="middle" x="{half}" y="{height - 14}">accelerators</text>')
    return "\n".join([*out, "</svg>", ""])


def _legend(points: Sequence[ScalingPoint], x: float, y: float) -> list[str]:
    """Shape and name of every limit that occurs."""
    names = {"none": "no limit found", **{name: text for name, text in LIMITS.items() if text}}
    out = []
    for name in (name for name in SHAPES if any(point.limit == name for point in points)):
        css = "full" if name == "none" else "mark"
        out.append(f'<path class="{css}" d="{SHAPES[name]}" transform="translate({x + 6:.0f} {y - 4:.0f})"/>')
        out.append(f'<text class="soft" x="{x + 18:.0f}" y="{y:.0f}">{escape(names[name])}</text>')
        x += 42 + 6.6 * len(names[name])
    return out


def _speed(
    points: Sequence[ScalingPoint], fitting: Sequence[ScalingPoint], far: HowFar | None, x: _Axis, top: float
) -> list[str]:
    """Tokens a second, the ideal line, names of the limits, and sizes on which nothing fits.

    Tokens of the budget are drawn; a thin line shows all tokens where larger batches need more of them.
    """
    per_accelerator = max(point.useful_tokens_per_s / point.num_accelerators for point in fitting)
    ideal = [(point.num_accelerators, per_accelerator * point.num_accelerators) for point in (fitting[0], fitting[-1])]
    speeds = [point.useful_tokens_per_s for point in fitting]
    low, high = _span([*speeds, ideal[1][1]])
    low /= 1.5
    wasted = any(point.tokens > 1.01 * point.budget_tokens for point in fitting)
    panel = _Panel(
        title="tokens of the budget a second"
        + (" (thin: all tokens)" if wasted else "")
        + "; dashed: the best speed per accelerator",
        x=x,
        y=_Axis(low=low, high=high, start=top + 350, end=top),
        label=_short,
    )
    out = panel.frame()
    out.append(panel.line(ideal, "ideal"))
    if far is not None and far.num_accelerators is not None:
        at = x.at(far.num_accelerators)
        side = "end" if at > (x.start + x.end) / 2 else "start"
        shift = -8 if side == "end" else 8
        out.append(f'<path class="far" d="M{at:.1f} {panel.y.start:.1f}V{top:.1f}"/>')
        text = f"from {far.num_accelerators:,} on, doubling gives less than {far.least_gain:g}x: {LIMITS[far.limit] or 'no single cause'}"
        out.append(
            f'<text class="fartext halo" text-anchor="{side}" x="{at + shift:.1f}" y="{panel.y.start - 10:.1f}">{escape(text)}</text>'
        )
    if wasted:
        out.append(panel.line([(p.num_accelerators, p.tokens_per_s) for p in fitting], "thin"))
    out.append(panel.line([(p.num_accelerators, p.useful_tokens_per_s) for p in fitting], "curve"))
    out += panel.marks(fitting, speeds)
    told = {"none"}
    for point, speed in zip(fitting, speeds, strict=True):
        if point.limit not in told:
            at, y = x.at(point.num_accelerators), panel.y.at(speed)
            out.append(f'<text class="halo" x="{at + 9:.1f}" y="{y + 20:.1f}">{escape(LIMITS[point.limit])}</text>')
        told.add(point.limit)
    out += _misfits(points, panel)
    return out


def _misfits(points: Sequence[ScalingPoint], panel: _Panel) -> list[str]:
    """Crosses on the axis at the sizes on which nothing fits."""
    missing = [point for point in points if point.estimate is None]
    cross = "M-3.6-3.6L3.6 3.6M-3.6 3.6L3.6-3.6"
    y = panel.y.start - 10
    out = [
        f'<path class="none" d="{cross}" transform="translate({panel.x.at(p.num_accelerators):.1f} {y:.1f})">'
        f"<title>{p.num_accelerators:,} accelerators: nothing fits ({LIMITS[p.limit]})</title></path>"
        for p in missing
    ]
    if missing:
        at = panel.x.at(missing[0].num_accelerators)
        text = f"nothing fits: {LIMITS[missing[0].limit]}"
        out.append(f'<text class="soft halo" x="{at + 6:.1f}" y="{y - 12:.1f}">{escape(text)}</text>')
    return out


def _days(fitting: Sequence[ScalingPoint], x: _Axis, top: float) -> list[str]:
    """Days to train with the band from P10 to P90."""
    low, high = _span([p.train_p10_s / DAY_S for p in fitting] + [p.train_p90_s / DAY_S for p in fitting], room=1.4)
    panel = _Panel(
        title="days to train, with P10 to P90", x=x, y=_Axis(low=low, high=high, start=top + 180, end=top), label=_short
    )
    upper = [(p.num_accelerators, p.train_p90_s / DAY_S) for p in fitting]
    lower = [(p.num_accelerators, p.train_p10_s / DAY_S) for p in reversed(fitting)]
    days = [p.train_s / DAY_S for p in fitting]
    return [
        *panel.frame(),
        panel.line([*upper, *lower], "band"),
        panel.line([(p.num_accelerators, value) for p, value in zip(fitting, days, strict=True)], "curve"),
        *panel.marks(fitting, days),
    ]


def _mfu(fitting: Sequence[ScalingPoint], x: _Axis, top: float) -> list[str]:
    values = [point.mfu for point in fitting]
    panel = _Panel(
        title="MFU of the whole cluster, idle accelerators included",
        x=x,
        y=_Axis(low=0.0, high=max(values) * 1.1, start=top + 180, end=top, log=False),
        label=lambda value: f"{value:.0%}",
    )
    return [
        *panel.frame(),
        panel.line([(p.num_accelerators, value) for p, value in zip(fitting, values, strict=True)], "curve"),
        *panel.marks(fitting, values),
    ]
