"""Every row through the step model, compared with what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from makespan.search import search
from makespan.specs.layout import LayoutStatus
from makespan.specs.step import StepEstimate
from makespan.step import step_estimate
from makespan.validation.cells import NotExpressible, number
from makespan.validation.express import Case, case_of, published_step_time_s
from makespan.validation.files import Row, read_models, read_rows, shipped_ids
from makespan.validation.result import (
    INFEASIBLE,
    NOT_EXPRESSIBLE,
    OK,
    STATUSES,
    IdentityResult,
    RowResult,
    ValidationResult,
    summaries_of,
    summarise,
)
from makespan.validation.split import family_of, fold_of, split_of
from makespan.version import __version__

GIGABYTE = 1e9
GIBIBYTE = 2.0**30

__all__ = ["compare_row", "family_of", "fold_of", "split_of", "validate"]


def validate(rows_path: Path | None = None, models_path: Path | None = None) -> ValidationResult:
    """Predict every row of a file of measured runs, and compare.

    Parameters
    ----------
    rows_path : CSV in the schema of docs/explain/validation.md; None for the shipped evidence.
    models_path : YAML of architectures, added to the shipped ones.

    Raises
    ------
    ScenarioError : a file cannot be read as what it should be. A row never raises: it gets a status and a reason.
    """
    rows = read_rows(rows_path)
    models = read_models(models_path)
    seen = frozenset(shipped_ids())
    results, identities = [], []
    for position, row in enumerate(rows):
        result, identity = compare_row(row, models, seen, number_of_row=position + 1)
        results.append(result)
        identities += [identity] if identity is not None else []
    return ValidationResult(
        source="shipped evidence" if rows_path is None else str(rows_path),
        rows=tuple(results),
        identities=tuple(identities),
        summaries=summaries_of(results),
        memory=summarise(
            (row.memory_error for row in results if row.memory_error is not None),
            (),
            profile="memory",
            accelerator="all",
        ),
        identity=summarise((i.error for i in identities), (), profile="identity", accelerator="all"),
        tallies={status: sum(row.status == status for row in results) for status in STATUSES},
        version=__version__,
    )


def compare_row(
    row: Row, models: Mapping[str, Any], seen: frozenset[str], *, number_of_row: int = 0
) -> tuple[RowResult, IdentityResult | None]:
    """One row, predicted and compared; and the arithmetic check of its printed FLOP rate, where it has one."""
    case: Case | None = None
    estimate: StepEstimate | None = None
    status, reason = NOT_EXPRESSIBLE, ""
    published = memory = None
    try:
        published = published_step_time_s(row)
        memory = _published_memory_gb(row)
        case = case_of(row, models)
        estimate = _estimate(case)
        status, reason = _judge(case, estimate)
    except NotExpressible as error:
        reason = str(error)
    except (ValueError, ArithmeticError) as error:
        reason = f"the step model refuses it: {str(error)[:120] or type(error).__name__}"
    if status != OK:
        estimate = None
    result = RowResult(
        id=row.get("id", "") or f"row {number_of_row}",
        status=status,
        reason=reason,
        family=family_of(row),
        model=row.get("model", ""),
        accelerator=case.label if case is not None else row.get("gpu", ""),
        num_accelerators=case.cluster.num_accelerators if case is not None else None,
        step_time_s=estimate.time_s if estimate is not None else None,
        low_s=estimate.p10_s if estimate is not None else None,
        high_s=estimate.p90_s if estimate is not None else None,
        memory_gb=estimate.memory.total_bytes / GIGABYTE if estimate is not None else None,
        published_step_time_s=published,
        published_memory_gb=memory,
        profile=case.profile.name if case is not None else "",
        layout=str(estimate.layout) if estimate is not None else "",
        provenance=estimate.provenance.name.lower() if estimate is not None else "",
        source=row.get("source", ""),
        split=split_of(row, seen),
    )
    identity = None
    if case is not None and estimate is not None and published is not None:
        identity = _identity(row, case, estimate, published)
    return result, identity


def _published_memory_gb(row: Row) -> float | None:
    """Printed peak memory in units of 1e9 bytes; binary units where the row's notes name them."""
    printed = number(row, "mem_gb_reported")
    if printed is None:
        return None
    return printed * (GIBIBYTE / GIGABYTE if "GiB" in row.get("notes", "") else 1.0)


def _estimate(case: Case) -> StepEstimate:
    if case.layout is not None:
        return step_estimate(case.model, case.config, case.cluster, case.profile, case.layout)
    found = search(case.model, case.config, case.cluster, case.profile, case.constraints, top=1)
    if found.best is None:
        raise NotExpressible("layout not stated, and none that the search knows fits")
    return found.best


def _judge(case: Case, estimate: StepEstimate) -> tuple[str, str]:
    """Status and reason of an estimate. Too much memory is a doubt about our memory model, not about the run: it ran."""
    notes = list(case.notes)
    if estimate.status is LayoutStatus.OUT_OF_MEMORY:
        need, have = estimate.memory.total_bytes / GIGABYTE, case.cluster.accelerator.hbm_bytes / GIGABYTE
        notes.append(f"memory estimate {need:.0f} GB exceeds the {have:.0f} GB there are")
    elif estimate.status is not LayoutStatus.OK:
        reason = f"layout {case.layout}: {estimate.status.name.lower().replace('_', ' ')}"
        return INFEASIBLE, "; ".join([reason, *notes])
    times = (estimate.time_s, estimate.p10_s, estimate.p90_s)
    if not all(math.isfinite(time) and time > 0 for time in times):
        return INFEASIBLE, "; ".join(["the step model gives no finite time", *notes])
    return OK, "; ".join(notes)


def _identity(row: Row, case: Case, estimate: StepEstimate, published_s: float) -> IdentityResult | None:
    """The printed FLOP rate from the printed time: checks the operation count, under the nearer attention convention."""
    try:
        printed = number(row, "tflops_per_gpu_reported")
    except NotExpressible:
        return None
    if printed is None:
        return None
    num = case.cluster.num_accelerators
    candidates = {
        "causal": estimate.model_flop / published_s / num,
        "full": estimate.model_flop_full_attention / published_s / num,
    }
    convention = min(candidates, key=lambda name: abs(candidates[name] / (printed * 1e12) - 1.0))
    return IdentityResult(
        id=row.get("id", ""),
        what="model FLOP a second and accelerator, from the printed step time",
        ours=candidates[convention],
        published=printed * 1e12,
        convention=convention,
    )
