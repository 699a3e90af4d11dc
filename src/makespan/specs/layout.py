"""How a step is cut up: parallel sizes, schedule, recompute, sharding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Recompute(IntEnum):
    """Activations thrown away in the forward pass and computed again in the backward."""

    NONE = 0
    SELECTIVE = 1
    """Everything but the outputs of matrix products and attention: norms, activations, casts. Flash attention always
    recomputes its scores and needs no policy."""
    FULL = 2


class Sharding(IntEnum):
    """What data-parallel ranks split among themselves (ZeRO stage; FSDP is ZERO3)."""

    NONE = 0
    ZERO1 = 1
    ZERO2 = 2
    ZERO3 = 3


class Schedule(IntEnum):
    """Pipeline schedule. Interleaved when `Layout.vpp` exceeds 1."""

    ONE_F_ONE_B = 0


class LayoutStatus(IntEnum):
    """Whether a layout can run; the first rule that fails names it. Reports tally these."""

    OK = 0
    HEADS_DO_NOT_DIVIDE = 1
    """tp does not divide the attention heads or the KV heads are split finer than allowed."""
    EXPERTS_DO_NOT_DIVIDE = 2
    """ep does not divide the experts, ep * etp does not divide tp * cp * dp, or a dense model has expert parallelism."""
    TOO_MANY_STAGES = 3
    """pp * vpp exceeds the layers plus two (embedding and head may each take a place)."""
    VPP_NEEDS_PIPELINE = 4
    """Interleaving without a pipeline, or with fewer micro-batches than stages."""
    TOO_MANY_ACCELERATORS = 5
    """tp * cp * pp * dp exceeds the accelerators."""
    BATCH_TOO_SMALL = 6
    """dp * micro_batch exceeds the global batch: some replica would have nothing to do."""
    SEQUENCE_DOES_NOT_DIVIDE = 7
    """The sequence is not cut evenly by tp and 2 * cp."""
    TP_LEAVES_DOMAIN = 8
    """tp is wider than the scale-up domain."""
    OUT_OF_MEMORY = 9
    NOT_SUPPORTED = 10
    """The framework profile lacks the combination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to cut a step over tp * cp * pp * dp accelerators.

    tp, pp, cp, dp : tensor-, pipeline-, context- and data-parallel sizes.
    ep : expert-parallel size; ep * etp divides tp * cp * dp.  etp : tensor-parallel size inside an expert (1: experts whole).
    vpp : model chunks per pipeline stage; more than 1 is the interleaved schedule.
    micro_batch : sequences per micro-batch.
    sequence_parallel : norms and dropout sharded over tp (Megatron's sequence parallelism).
    """

    tp: int = 1
    pp: int = 1
    cp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 1
    vpp: int = 1
    micro_batch: int = 1
    schedule: Schedule = Schedule.ONE_F_ONE_B
    recompute: Recompute = Recompute.NONE
    sharding: Sharding = Sharding.ZERO1
    sequence_parallel: bool = True

    @property
    def num_accelerators(self) -> int:
        return self.tp * self.pp * self.cp * self.dp

    def __str__(self) -> str:
        parts = [f"tp{self.tp}", f"pp{self.pp}", f"dp{self.dp}"]
        parts += [f"cp{self.cp}"] if self.cp > 1 else []
        parts += [f"ep{self.ep}"] if self.ep > 1 else []
        parts += [f"vpp{self.vpp}"] if self.vpp > 1 else []
        parts += [f"mbs{self.micro_batch}", self.recompute.name.lower() + " recompute", self.sharding.name.lower()]
        return " ".join(parts)
