"""Every row through the step model, compared with what was measured."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from makespan import catalog
from makespan.search import search
from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus, Offload, Recompute, Schedule, Sharding
from makespan.specs.step import StepEstimate
from makespan.step import step_estimate
from makespan.step.kernels import ARITHMETIC
from makespan.validation.cells import NotExpressible, number, text_of
from makespan.validation.comparisons import comparisons_of, spreads_of
from makespan.validation.express import Case, case_of, is_lora, published_step_time_s
from makespan.validation.files import Row, read_models, read_rows, shipped_ids
from makespan.validation.result import (
    COUNTED,
    INCOMPLETE,
    INFEASIBLE,
    LORA,
    NO_TIME,
    NOT_EXPRESSIBLE,
    OK,
    OTHER_MAKER,
    STANDINGS,
    STATUSES,
    IdentityResult,
    RowResult,
    ValidationResult,
)
from makespan.validation.software import date_of, memory_kind
from makespan.validation.split import family_of, fold_of, publisher_of, split_of
from makespan.validation.statistics import expressible_share, scaling_of, spread_of, summaries_of, summarise
from makespan.version import __version__

GIGABYTE = 1e9
GIBIBYTE = 2.0**30

__all__ = ["compare_row", "family_of", "fold_of", "split_of", "standing_of", "validate"]

MOST_MENDED = 5
"""Changes to a layout that no rule allows, before it is given up."""

COUNTED_CELLS = ("n_gpus", "global_batch", "micro_batch", "seq_len", "precision")
COUNTED_SIZES = ("layers", "hidden", "heads", "vocab")
_OTHER_MAKERS = re.compile(r"tpu|^v\d[ep]?\b|gaudi|hpu|\bmi\d{3}|trn|trainium|ascend|\bamd\b|intel", re.IGNORECASE)


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
    ids = Counter(row.get("id", "") for row in rows)
    results, identities = [], []
    for position, row in enumerate(rows):
        result, identity = compare_row(row, models, seen, number_of_row=position + 1)
        if ids[row.get("id", "")] > 1 and row.get("id"):
            said = f"{ids[row['id']]} rows have this id"
            result = dataclasses.replace(result, reason="; ".join(part for part in (result.reason, said) if part))
        results.append(result)
        identities += [identity] if identity is not None else []
    comparisons = comparisons_of(results)
    memory_errors = [row.memory_error for row in results if row.memory_error is not None]
    return ValidationResult(
        source="shipped evidence" if rows_path is None else str(rows_path),
        rows=tuple(results),
        identities=tuple(identities),
        summaries=summaries_of(results),
        scaling=scaling_of(results),
        spread=spread_of(results),
        memory=summarise(memory_errors, group="memory"),
        identity=summarise([identity.error for identity in identities], group="identity"),
        tallies={status: sum(row.status == status for row in results) for status in STATUSES},
        standings={standing: sum(row.standing == standing for row in results) for standing in STANDINGS},
        expressible=expressible_share(results),
        version=__version__,
        comparisons=comparisons,
        comparison_spreads=spreads_of(comparisons),
    )


def standing_of(row: Row, models: Mapping[str, Any]) -> str:
    """Whether a row counts: every size, the precision, a measured time and a complete architecture are there."""
    if is_lora(row):
        return LORA
    if _OTHER_MAKERS.search(text_of(row, "gpu")):
        return OTHER_MAKER
    entry = models.get(row.get("model", ""))
    if not isinstance(entry, Mapping) or any(entry.get(size) is None for size in COUNTED_SIZES):
        return INCOMPLETE
    try:
        cells = [text_of(row, "precision"), *(number(row, name) for name in COUNTED_CELLS if name != "precision")]
        published = published_step_time_s(row)
    except NotExpressible:
        return INCOMPLETE
    if not all(cells):
        return INCOMPLETE
    return COUNTED if published is not None else NO_TIME


def compare_row(
    row: Row, models: Mapping[str, Any], seen: Collection[str], *, number_of_row: int = 0
) -> tuple[RowResult, IdentityResult | None]:
    """One row, predicted and compared; and the arithmetic check of its printed FLOP rate, where it has one."""
    case: Case | None = None
    estimate: StepEstimate | None = None
    status, reason = NOT_EXPRESSIBLE, ""
    published = memory = None
    doubts: list[str] = []
    try:
        published = _measured(lambda: published_step_time_s(row), doubts)
        memory = _measured(lambda: _published_memory_gb(row), doubts)
        case = case_of(row, models)
        estimate = _estimate(case, doubts)
        status, reason = _judge(case, estimate, doubts)
    except NotExpressible as error:
        reason = "; ".join([str(error), *doubts])
    except Exception as error:  # one row's fault, or ours, does not keep the others from their answer
        reason = f"the step model refuses it: {type(error).__name__} {str(error)[:120]}".rstrip()
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
        memory_gb=_memory_as_printed(row, estimate) / GIGABYTE if estimate is not None else None,
        published_step_time_s=published,
        published_memory_gb=memory,
        profile=case.profile.name if case is not None else "",
        layout=str(estimate.layout) if estimate is not None else "",
        provenance=_provenance(case) if case is not None and estimate is not None else "",
        source=row.get("source", ""),
        split=split_of(row, seen),
        standing=standing_of(row, models),
        configuration=_configuration(case) if case is not None else "",
        groups=_groups(case, estimate) if case is not None and estimate is not None else (),
        series=_series(row, case) if case is not None else "",
        rivals=_rivals(row, case) if case is not None else "",
        choices=choices_of(estimate.layout) if estimate is not None else (),
    )
    identity = None
    if case is not None and estimate is not None and published is not None:
        identity = _identity(row, case, estimate, published)
    return result, identity


def _provenance(case: Case) -> str:
    """What the step time stands on: one of `catalog.EVIDENCE`."""
    precision = case.config.precision
    return catalog.evidence(case.profile, case.cluster.accelerator.name, precision, ARITHMETIC[precision])


def _measured(read: Callable[[], float | None], doubts: list[str]) -> float | None:
    """A measured cell; junk in it is said and does not keep the row from being predicted."""
    try:
        return read()
    except NotExpressible as error:
        doubts.append(str(error))
        return None


def _memory_as_printed(row: Row, estimate: StepEstimate) -> float:
    """Predicted peak of the kind that the row prints: tensors, the allocator's, or the device's. [B]"""
    memory = estimate.memory
    kinds = {"allocated": memory.allocated_bytes, "reserved": memory.reserved_bytes, "device": memory.total_bytes}
    return kinds[memory_kind(row)]


def _published_memory_gb(row: Row) -> float | None:
    """Printed peak memory in units of 1e9 bytes; binary units where the cell or the row's notes name them."""
    printed = number(row, "mem_gb_reported")
    if printed is None:
        return None
    is_bare = not re.search("[a-z]", text_of(row, "mem_gb_reported"))
    return printed * (GIBIBYTE / GIGABYTE if is_bare and "GiB" in row.get("notes", "") else 1.0)


def _estimate(case: Case, doubts: list[str]) -> StepEstimate:
    """The estimate of a row's layout."""
    return as_it_ran(case, doubts)[1]


def as_it_ran(case: Case, doubts: list[str]) -> tuple[FrameworkProfile, StepEstimate]:
    """The estimate of a row's layout, and the profile under which it stands.

    The run did run: what the profile or a rule would refuse is mended and said in `doubts`.
    """
    if case.layout is None:
        found = search(case.model, case.config, case.cluster, case.profile, case.constraints, top=1)
        if found.best is None:
            raise NotExpressible("layout not stated, and none that the search knows fits")
        return case.profile, found.best
    profile, layout = case.profile, case.layout
    estimate = step_estimate(case.model, case.config, case.cluster, profile, layout)
    for _ in range(MOST_MENDED):
        if estimate.status in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY):
            break
        if estimate.status is LayoutStatus.NOT_SUPPORTED and profile.supports:
            doubts.append(f"{profile.name} is not known to do this; predicted all the same")
            profile = dataclasses.replace(profile, supports={})
        else:
            mended, said = _mended(layout, estimate.status, case.model.num_layers)
            if mended == layout:
                break
            doubts.append(said)
            layout = mended
        estimate = step_estimate(case.model, case.config, case.cluster, profile, layout)
    return profile, estimate


def _mended(layout: Layout, status: LayoutStatus, num_layers: int) -> tuple[Layout, str]:
    """The nearest layout that the model can say, and what was changed; the same layout where there is none."""
    if status is LayoutStatus.SCHEDULE_DOES_NOT_FIT:
        name = layout.schedule.name.lower().replace("_", " ")
        return dataclasses.replace(layout, schedule=Schedule.ONE_F_ONE_B), f"schedule {name} does not fit: 1F1B taken"
    if status is LayoutStatus.TOO_MANY_STAGES and layout.vpp > 1 and layout.pp <= num_layers:
        vpp = max(1, num_layers // layout.pp)
        return dataclasses.replace(layout, vpp=vpp), f"{layout.pp} x {layout.vpp} chunks are too many: vpp {vpp} taken"
    if status is LayoutStatus.VPP_NEEDS_PIPELINE:
        return dataclasses.replace(layout, vpp=1), "interleaving does not fit: vpp 1 taken"
    if status is LayoutStatus.SHARDS_DO_NOT_DIVIDE:
        return dataclasses.replace(
            layout, shard_size=0
        ), f"group of {layout.shard_size} does not divide: sharded over all"
    if status is LayoutStatus.NO_HOST_LINK:
        return dataclasses.replace(layout, offload=Offload.NONE), "rate of the host link not known: nothing offloaded"
    return layout, ""


def _judge(case: Case, estimate: StepEstimate, doubts: list[str]) -> tuple[str, str]:
    """Status and reason of an estimate. Too much memory is a doubt about our memory model, not about the run: it ran."""
    notes = [*case.notes, *doubts]
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


def _model_name(case: Case) -> str:
    """The architecture as run: a window of packed documents and prediction layers belong to it."""
    model = case.model
    parts = [model.name]
    parts += [f"window {model.window}"] if model.window else []
    parts += [f"mtp {model.mtp_layers}"] if model.mtp_layers else []
    return " ".join(parts)


def _common(case: Case) -> list[str]:
    return [_model_name(case), case.label, case.software, case.config.precision, *filter(None, case.variant)]


def _configuration(case: Case) -> str:
    """What was run, whichever release measured it: rows that share it are weighted as one."""
    config, layout = case.config, case.layout if case.layout is not None else case.constraints
    outer = case.cluster.fabric.tiers[-1].bytes_per_s / GIGABYTE
    sizes = [f"{case.cluster.num_accelerators} at {outer:.0f} GB/s", f"batch {config.global_batch} x {config.seq_len}"]
    return "; ".join([*_common(case), *sizes, str(layout)])


def _series(row: Row, case: Case) -> str:
    """What a scaling series keeps: publisher, release, everything of a configuration but the number of replicas."""
    if case.layout is None:
        return ""
    layout = dataclasses.replace(case.layout, dp=1, shard_size=0)
    each = case.config.global_batch / case.cluster.num_accelerators
    batch = f"{each:.6g} x {case.config.seq_len} each"
    release = [publisher_of(row), text_of(row, "framework"), date_of(row)]
    return "; ".join([*_common(case), batch, str(layout).replace(" dp1", ""), *release])


def _rivals(row: Row, case: Case) -> str:
    """What rows share whose layouts are compared. Releases differ in more than layouts, so they are kept apart."""
    release = [case.profile.name, publisher_of(row), text_of(row, "framework"), date_of(row)]
    return "; ".join([*_common(case), f"{case.config.seq_len} tokens", *release])


FOLLOW = ("dp", "shard_size", "order")
"""Fields of a layout that follow from the number of accelerators, or that no row states."""


def choices_of(layout: Layout) -> tuple[tuple[str, str], ...]:
    """(dimension, value) of what a publisher chooses."""
    names = [field.name for field in dataclasses.fields(layout) if field.name not in FOLLOW]
    return tuple((name, value_in_words(getattr(layout, name))) for name in names)


def value_in_words(value: Any) -> str:
    """A field of a layout as the command line writes it."""
    if isinstance(value, Recompute):
        return value.label
    if isinstance(value, Offload):
        return "+".join(str(part.name).lower() for part in Offload if part & value) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    name = getattr(value, "name", None)
    return str(value) if name is None else {"ONE_F_ONE_B": "1f1b"}.get(name, name.lower().replace("_", "-"))


def _groups(case: Case, estimate: StepEstimate) -> tuple[tuple[str, str], ...]:
    """The groups of the targets that a row belongs to."""
    layout = estimate.layout
    arithmetic = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(case.config.precision, case.config.precision)
    groups = [
        ("generation", case.cluster.accelerator.family),
        ("precision", arithmetic),
        ("architecture", "dense" if case.model.moe is None else "MoE"),
    ]
    if layout.sharding is Sharding.ZERO3:
        groups.append(("parallelism", "FSDP"))
    if layout.pp > 1:
        groups.append(("parallelism", "pipeline"))
    return tuple(groups)


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
