"""Fit the factors of framework profiles on the measured runs of their software.

    python benchmarks/fit_profiles.py megatron-2025,megatron-2026 [--only dense|moe] [--shared moe_slowdown,permute_slowdown]
        [--free host_overhead_s] [--hold dp_exposed=0.3] [--folds] [--hold-out] [--worst 20] [--lines]

Rows: the shipped table of runs, development folds only (whole families: publisher, model, accelerator); identical
configurations share one weight. `--shared` factors have one value in all profiles named, `--free` factors one in each.
Least squares on log(predicted / measured) with a soft loss; every factor has a prior around its physical value, so that
factors which the rows cannot tell apart stay where they were put. Nearly all terms are linear in a factor, so the fit is
made in a linear form about a point, begun again three times where it ended. `--folds` leaves each development fold out in
turn and prints the errors on what was left out, with the spread that holds 80 % of it; `--hold-out` prints the errors on
the fold that no fit may use, with the factors fitted on the others. Without factors the shipped values are reported.
`--lines` prints the facts for the catalog's YAML. docs/explain/step.md has the command of each shipped profile.
Needs SciPy.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from makespan import catalog
from makespan.specs.hardware import FrameworkProfile
from makespan.step import LayoutArrays, evaluate
from makespan.step.estimate import Z_90, interval_sigma
from makespan.validation.cells import NotExpressible
from makespan.validation.engine import family_of, fold_of
from makespan.validation.express import Case, case_of, published_step_time_s
from makespan.validation.files import read_models, read_rows

HOLD_OUT = 0
DOUBTFUL = {
    "mb0165": "437 GB of weights, gradients and moments on 276 GiB: the layout cannot be as it is stated",
    "mb0167": "its time is that of five chunks a stage; the row says one",
    "mb0344": "the same layout takes less on a slower part: recomputation that is not stated",
    "mb0231": "48.7 s; later releases print 27 to 22 s for the same layout",
    "mb0264": "24.8 s; the same layout took 12.5 s two months earlier",
    "mb0292": "20 to 30 % from the same layout in the next release; drops tokens",
    "mb0351": "the architecture is printed incompletely",
    "mb0371": "natural routing, not balanced: time of the busiest rank and of shapes that change",
    **dict.fromkeys(
        ("mb0375", "mb0376", "mb0377", "mb0378", "mb0379", "mb0380", "mb0382"),
        "one micro-batch of 4 to 16 sequences: a test of latency, half a second a step",
    ),
}
"""Rows that do not count in a fit, and why. They count in errors that are printed, unless a line says otherwise."""
SCALE = 0.04
"""Residuals up to about this (log) count squared, larger ones by their size. [-]"""


@dataclass(frozen=True)
class Prior:
    """A factor's prior: log-normal about `centre` with `sigma`, inside `low` to `high`."""

    centre: float
    sigma: float
    low: float
    high: float


PRIORS: Mapping[str, Prior] = {
    "gemm_slowdown": Prior(1.15, 0.1, 0.8, 1.6),
    "attention_slowdown": Prior(1.2, 0.15, 0.8, 4.0),
    "attention_lag.hopper": Prior(1.7, 0.3, 1.0, 4.0),
    "attention_lag.blackwell": Prior(2.5, 0.3, 1.0, 6.0),
    "attention_backward_ratio": Prior(3.1, 0.05, 2.0, 4.5),
    "elementwise_slowdown": Prior(1.2, 0.4, 0.2, 5.0),
    "cast_slowdown": Prior(1.0, 0.5, 0.1, 4.0),
    "moe_slowdown": Prior(1.5, 0.3, 0.7, 4.0),
    "scan_slowdown": Prior(1.2, 0.5, 0.3, 6.0),
    "host_overhead_s": Prior(1.5e-3, 0.4, 1e-4, 2e-2),
    "host_overhead_moe_s": Prior(2e-3, 0.4, 1e-5, 2e-2),
    "host_overhead_per_expert_s": Prior(2e-4, 0.3, 1e-6, 2e-3),
    "host_share_partial_graphs": Prior(0.5, 0.5, 0.02, 1.0),
    "host_share_unquantised": Prior(0.6, 0.4, 0.1, 1.0),
    "moe_slowdown_unquantised": Prior(1.3, 0.3, 0.7, 4.0),
    "moe_slowdown_fused": Prior(1.1, 0.15, 0.7, 3.0),
    "permute_slowdown": Prior(1.5, 0.4, 0.2, 12.0),
    "expert_bias_slowdown": Prior(1.5, 0.3, 0.2, 4.0),
    "expert_overhead_s": Prior(5e-5, 0.5, 1e-6, 1e-3),
    "router_overhead_s": Prior(3e-4, 0.7, 1e-6, 8e-3),
    "routing_map_passes": Prior(20.0, 0.4, 0.5, 200.0),
    "ep_exposed_scale_out": Prior(0.9, 0.2, 0.05, 1.0),
    "chunk_overhead_s": Prior(2e-4, 0.7, 1e-6, 5e-3),
    "tp_exposed": Prior(0.5, 0.4, 0.02, 1.0),
    "cp_exposed": Prior(0.2, 0.5, 0.01, 1.0),
    "ep_exposed": Prior(0.6, 0.4, 0.02, 1.0),
    "ep_exposed_overlapped": Prior(0.6, 0.3, 0.05, 1.0),
    "pp_exposed": Prior(0.2, 0.6, 0.01, 1.0),
    "dp_exposed": Prior(0.3, 0.5, 0.02, 1.0),
    "fsdp_exposed": Prior(0.25, 0.5, 0.02, 1.0),
    "jitter_per_doubling": Prior(0.003, 0.7, 1e-5, 0.03),
    "jitter_per_doubling_fp8": Prior(0.003, 0.7, 1e-5, 0.03),
    "training_slowdown.nvfp4": Prior(
        0.84, 0.15, 0.5, 1.2
    ),  # one value for GB200 and GB300, fitted with a centre of 0.9
}
"""Physical values and how far a fit may pull them, before any row is looked at (docs/explain/step.md)."""


OF_ACCELERATORS = "training_slowdown."
"""Factors of this name belong to accelerators: one value for all, or `accelerator:name` for one."""


def base(key: str) -> str:
    """A factor's name, without the profile it is for."""
    return key.rpartition(":")[2]


def value_of(profile: FrameworkProfile, name: str) -> float:
    """A factor by name; `mapping.key` for one entry of a mapping, 1 where it has none; 0 for those of accelerators."""
    field, _, key = name.partition(".")
    value = getattr(profile, field, 0.0)
    return float(value.get(key, 1.0) if key and value else value)


def with_values(profile: FrameworkProfile, values: Mapping[str, float]) -> FrameworkProfile:
    """The profile with these factors, named as in `value_of`."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        field, _, key = name.partition(".")
        changes[field] = {**changes.get(field, getattr(profile, field)), key: value} if key else value
    return dataclasses.replace(profile, **changes)


def with_factors(case: Case, ratios: Mapping[str, float], factors: Mapping[str, float]) -> Case:
    """The case under these factors: those without a name before a colon, and those with its profile's or accelerator's.

    ratios : of the case's factors to its profile's, by name (newer releases, what a row switches on). [-]
    """
    values: dict[str, float] = {}
    cluster = case.cluster
    for key, value in factors.items():
        owner, _, name = key.rpartition(":")
        if owner not in ("", case.profile.name, cluster.accelerator.name):
            continue
        if name.startswith(OF_ACCELERATORS):
            kernels = cluster.accelerator.kernels
            slow = {**kernels.training_slowdown, name.removeprefix(OF_ACCELERATORS): value}
            kernels = dataclasses.replace(kernels, training_slowdown=slow)
            cluster = dataclasses.replace(
                cluster, accelerator=dataclasses.replace(cluster.accelerator, kernels=kernels)
            )
        else:
            values[name] = value * ratios.get(name, 1.0)
    return dataclasses.replace(case, profile=with_values(case.profile, values), cluster=cluster)


@dataclass(frozen=True)
class Run:
    """A measured run: the question, the answer, where it belongs.   weight : 1 over the runs of its configuration."""

    id: str
    case: Case
    seconds: float
    fold: int
    weight: float
    group: str
    ratios: Mapping[str, float]


def is_moe(case: Case) -> bool:
    return case.model.moe is not None


def runs_of(profile: FrameworkProfile, only: str | None) -> list[Run]:
    """Runs that this profile predicts, with stated layouts, whole families in a fold."""
    models = read_models(None)
    found: list[tuple[str, Case, float, int]] = []
    for row in read_rows(None):
        try:
            seconds, case = published_step_time_s(row), case_of(row, models)
        except NotExpressible:
            continue
        if seconds is None or case.layout is None or case.profile.name != profile.name or not row.get("micro_batch"):
            continue
        if only is not None and is_moe(case) != (only == "moe"):
            continue
        found.append((row["id"], case, seconds, fold_of(family_of(row))))
    alike: dict[Any, int] = defaultdict(int)
    keys = [
        (c.model, c.config, c.cluster.name, c.cluster.fabric.tiers[-1].bytes_per_s, c.layout) for _, c, _, _ in found
    ]
    for key in keys:
        alike[str(key)] += 1
    fields = [f.name for f in dataclasses.fields(profile) if f.name in PRIORS]
    return [
        Run(
            id=name,
            case=case,
            seconds=seconds,
            fold=fold,
            weight=1.0 / alike[str(key)],
            group=f"{case.cluster.accelerator.name} {case.config.precision} {'moe' if is_moe(case) else 'dense'}",
            ratios={f: getattr(case.profile, f) / getattr(profile, f) if getattr(profile, f) else 1.0 for f in fields},
        )
        for (name, case, seconds, fold), key in zip(found, keys, strict=True)
    ]


def log_errors(runs: Sequence[Run], factors: Mapping[str, float]) -> np.ndarray:
    """log(predicted / measured) of every run under these factors."""
    errors = np.empty(len(runs))
    for place, run in enumerate(runs):
        case = with_factors(run.case, run.ratios, factors)
        assert case.layout is not None
        arrays = evaluate(case.model, case.config, case.cluster, case.profile, LayoutArrays.of([case.layout]))
        errors[place] = math.log(float(arrays.time_s[0]) / run.seconds)
    return errors


@dataclass(frozen=True)
class Linear:
    """Predicted over measured time near a point: `ratio + slope @ (factors - point)`. Most terms are linear in a factor."""

    names: tuple[str, ...]
    point: np.ndarray
    ratio: np.ndarray
    slope: np.ndarray


def linear(runs: Sequence[Run], at: Mapping[str, float]) -> Linear:
    """Differences over a tenth of every factor."""
    ratio = np.exp(log_errors(runs, at))
    slope = np.empty((len(runs), len(at)))
    for place, (name, value) in enumerate(at.items()):
        slope[:, place] = (np.exp(log_errors(runs, {**at, name: 1.1 * value})) - ratio) / (0.1 * value)
    return Linear(names=tuple(at), point=np.array(list(at.values())), ratio=ratio, slope=slope)


def fit_linear(runs: Sequence[Run], near: Linear, rows: np.ndarray) -> dict[str, float]:
    """Factors that fit these rows best under their priors, in the linear form."""
    from scipy.optimize import least_squares

    priors = [PRIORS[base(key)] for key in near.names]
    centres, widths = np.log([p.centre for p in priors]), np.array([p.sigma for p in priors])
    low, high = np.log([p.low for p in priors]), np.log([p.high for p in priors])
    weights = np.sqrt([0.0 if runs[row].id in DOUBTFUL else runs[row].weight for row in rows])

    def residuals(theta: np.ndarray) -> np.ndarray:
        ratio = near.ratio[rows] + near.slope[rows] @ (np.exp(theta) - near.point)
        errors = np.log(np.maximum(ratio, 0.05))
        soft = np.sign(errors) * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / SCALE) ** 2) - 1.0))
        return np.concatenate([weights * soft, (theta - centres) / widths])

    begin = np.clip(np.log(near.point), low + 1e-6, high - 1e-6)
    solved = least_squares(residuals, begin, bounds=(low, high), xtol=1e-5, ftol=1e-7)
    return dict(zip(near.names, np.exp(solved.x).tolist(), strict=True))


def fit(runs: Sequence[Run], start: Mapping[str, float], *, passes: int = 3) -> dict[str, float]:
    """Factors that fit the runs best under their priors: the linear fit, begun again where it ended."""
    best = dict(start)
    for _ in range(passes):
        best = fit_linear(runs, linear(runs, best), np.arange(len(runs)))
    return best


def weighted_quantile(values: Iterable[float], weights: Iterable[float], share: float) -> float:
    pairs = sorted(zip(values, weights, strict=True))
    total, seen = sum(w for _, w in pairs), 0.0
    for value, weight in pairs:
        seen += weight
        if seen >= share * total:
            return value
    return pairs[-1][0]


def summary(title: str, runs: Sequence[Run], errors: np.ndarray) -> str:
    """Median, P90 and signed median of predicted / measured - 1; share inside P10 to P90; configurations weigh one.

    sigma : the spread of the logarithm whose P10 to P90 holds 80 % of the configurations, bias included.
    """
    if not len(runs):
        return f"{title:40s}    none"
    plain = np.expm1(errors)
    weights = [run.weight for run in runs]
    size = np.abs(plain)
    inside = np.abs(errors) <= Z_90 * np.array([sigma_of(run.case) for run in runs])
    return (
        f"{title:40s} {sum(weights):5.0f} configurations {len(runs):4d} rows"
        f"   median {100 * weighted_quantile(size, weights, 0.5):5.1f} %"
        f"   P90 {100 * weighted_quantile(size, weights, 0.9):5.1f} %"
        f"   signed {100 * weighted_quantile(plain, weights, 0.5):+5.1f} %"
        f"   inside {100 * float(np.average(inside, weights=weights)):3.0f} %"
        f"   sigma {weighted_quantile(np.abs(errors), weights, 0.8) / Z_90:.3f}"
    )


def sigma_of(case: Case) -> float:
    """Spread of the logarithm behind the case's shipped interval. [-]"""
    assert case.layout is not None
    return float(
        interval_sigma(
            case.model, case.cluster, case.profile, case.layout.num_accelerators, precision=case.config.precision
        )
    )


def report(title: str, runs: Sequence[Run], errors: np.ndarray) -> None:
    """All runs, those of one profile, without doubtful ones, and by group."""
    print(summary(title, runs, errors))
    sure = [place for place, run in enumerate(runs) if run.id not in DOUBTFUL]
    if len(sure) < len(runs):
        print(summary(f"{title}, without doubtful", [runs[p] for p in sure], errors[sure]))
    for part in (lambda run: run.case.profile.name, lambda run: run.group):
        groups: dict[str, list[int]] = defaultdict(list)
        for place in sure:
            groups[part(runs[place])].append(place)
        if len(groups) > 1:
            for name, places in sorted(groups.items()):
                print("  " + summary(name, [runs[p] for p in places], errors[places]))


def left_out(runs: Sequence[Run], best: Mapping[str, float]) -> None:
    """Each development fold predicted with factors fitted on the others."""
    outside, left = [], []
    near = linear(runs, best)
    for fold in sorted({run.fold for run in runs}):
        inner = np.array([place for place, run in enumerate(runs) if run.fold != fold], dtype=int)
        outer = [run for run in runs if run.fold == fold]
        factors = fit_linear(runs, near, inner)
        print(f"  without fold {fold}: " + ", ".join(f"{n} {v:.3g}" for n, v in factors.items()))
        outside.append(log_errors(outer, factors))
        left += outer
    report("development, family left out", left, np.concatenate(outside))


def worst(runs: Sequence[Run], errors: np.ndarray, num: int) -> None:
    """The runs that are farthest off."""
    for place in np.argsort(-np.abs(errors))[:num]:
        run = runs[place]
        config = run.case.config
        print(
            f"  {run.id:9s} {np.expm1(errors[place]):+6.1%} {run.seconds:8.3f} s {run.case.model.name:26s}"
            f" {run.case.cluster.name:16s} {config.precision:6s} batch {config.global_batch} x {config.seq_len}"
            f"  {run.case.layout}  {'; '.join(run.case.notes)[:90]}"
        )


def lines(runs: Sequence[Run], best: Mapping[str, float], errors: np.ndarray) -> None:
    """Facts as the catalog's YAML writes them."""
    for name, value in best.items():
        key = name.removesuffix("_s")
        text = f"{value * 1e3:.2g} ms" if name.endswith("_s") else f"{value:.3g}"
        print(
            f'{key}: {{value: {text}, kind: derived, how: "benchmarks/fit_profiles.py of {dt.date.today()}: {len(best)}'
            f" factors over {sum(r.weight for r in runs):.0f} configurations ({len(runs)} rows), median |error|"
            f' {100 * statistics.median(np.abs(np.expm1(errors))):.1f} %"}}'
        )


def listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", help="one, or several separated by commas")
    parser.add_argument("--only", choices=["dense", "moe"])
    parser.add_argument("--shared", default="", help="factors to fit, one value for all profiles, separated by commas")
    parser.add_argument("--free", default="", help="factors to fit, one value for each profile; profile:name for one")
    parser.add_argument("--hold", default="", help="factors to set, as name=value or profile:name=value")
    parser.add_argument("--folds", action="store_true", help="leave each development fold out in turn")
    parser.add_argument("--hold-out", action="store_true", help="also the fold that no fit uses")
    parser.add_argument("--worst", type=int, default=0)
    parser.add_argument("--lines", action="store_true", help="print facts for the catalog")
    asked = parser.parse_args()
    profiles = {name: catalog.framework(name).spec for name in listed(asked.profiles)}
    runs = [run for profile in profiles.values() for run in runs_of(profile, asked.only)]
    held = {key: float(value) for key, _, value in (pair.partition("=") for pair in listed(asked.hold))}
    runs = [dataclasses.replace(run, case=with_factors(run.case, run.ratios, held)) for run in runs]
    development = [run for run in runs if run.fold != HOLD_OUT]

    first = next(iter(profiles.values()))
    start = {key: value_of(first, base(key)) or PRIORS[base(key)].centre for key in listed(asked.shared)}
    for key in listed(asked.free):
        owners = [key.rpartition(":")[0]] if ":" in key else list(profiles)
        for owner in owners:
            value = value_of(profiles[owner], base(key)) or PRIORS[base(key)].centre
            start[f"{owner}:{base(key)}" if len(profiles) > 1 else base(key)] = value
    best = fit(development, start) if start else {}
    for key, value in best.items():
        prior = PRIORS[base(key)]
        print(f"{key:40s} {start[key]:.4g} -> {value:.4g}   prior {prior.centre:g} x/ {math.exp(prior.sigma):.2f}")
    errors = log_errors(development, best)
    report("development, in sample", development, errors)
    if asked.folds and start:
        left_out(development, best)
    if asked.hold_out:
        kept = [run for run in runs if run.fold == HOLD_OUT]
        report("hold-out fold", kept, log_errors(kept, best))
    worst(development, errors, asked.worst)
    if asked.lines:
        lines(development, best, errors)


if __name__ == "__main__":
    main()
