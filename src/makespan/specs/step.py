"""What the step and search rooms answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from makespan.provenance import Kind
from makespan.specs.layout import Layout, LayoutStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Peak bytes on the fullest accelerator.

    by_kind : weights, gradients, optimizer, activations, logits, buffers (tensors), fragmentation (held by the allocator,
        not used), overhead (outside of it).   stage : of the pipeline, counted from 0.
    by_stage : the same for the first stage, one in the middle, the one before the last and the last, as far as there are
        such stages; a single stage is `last`.
    """

    by_kind: Mapping[str, float]
    limit_bytes: float
    stage: int = 0
    by_stage: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def total_bytes(self) -> float:
        """On the device: what has to fit. [B]"""
        return sum(self.by_kind.values())

    @property
    def allocated_bytes(self) -> float:
        """By tensors, as `torch.cuda.max_memory_allocated` counts. [B]"""
        return self.reserved_bytes - self.by_kind.get("fragmentation", 0.0)

    @property
    def reserved_bytes(self) -> float:
        """By the allocator, as `torch.cuda.max_memory_reserved` counts. [B]"""
        return self.total_bytes - self.by_kind.get("overhead", 0.0)

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.limit_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """One optimizer step.

    time_s : prediction. [s]   lower_s, upper_s : everything overlaps at ideal kernels; nothing overlaps. [s]
    p10_s, p90_s : 80 % interval from the spread of residuals. [s]
    breakdown : seconds by cause; exposed parts only, so the values add up to `time_s`.
    hidden : seconds of communication that run behind compute, by collective.
    model_flop, model_flop_full_attention : of the step, causal half or full attention. [FLOP]
    executed_flop : what the kernels do, recompute included, summed over accelerators. [FLOP]
    mfu, mfu_full_attention, hfu : against the dense bf16 peak of the accelerators the layout uses. [-]
    tokens_per_s : of the whole cluster. [1/s]
    num_idle : accelerators of the cluster that the layout leaves out. [-]
    provenance : the weakest kind of fact behind the utilisations.
    """

    layout: Layout
    status: LayoutStatus
    time_s: float
    lower_s: float
    upper_s: float
    p10_s: float
    p90_s: float
    breakdown: Mapping[str, float]
    hidden: Mapping[str, float]
    memory: MemoryEstimate
    model_flop: float
    model_flop_full_attention: float
    executed_flop: float
    mfu: float
    mfu_full_attention: float
    hfu: float
    tokens_per_step: float
    tokens_per_s: float
    num_accelerators: int
    num_idle: int
    provenance: Kind = Kind.ASSUMED
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """One dimension of a layout changed (dp follows the other sizes), and what comes of it.

    dimension : field of `Layout`.   before, after : its values in words.   time_s, memory_bytes : of the changed layout.
    """

    dimension: str
    before: str
    after: str
    layout: Layout
    time_s: float
    memory_bytes: float
