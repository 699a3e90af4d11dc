"""How a step is cut up: parallel sizes, schedule, recompute, sharding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Recompute(IntFlag):
    """Activations thrown away in the forward pass and computed again in the backward, by module of a layer.

    Flags combine: `NORM | CORE_ATTENTION`. Flash attention always recomputes its scores inside its own backward; that is
    no recomputation in this sense.
    """

    NONE = 0
    NORM = 1
    """Norms, and the casts that follow them."""
    ACTIVATION = 2
    """The feed-forward's activation function, of experts too."""
    SELECTIVE = 3
    """Everything but the outputs of matrix products and attention: norms, activations, casts."""
    CORE_ATTENTION = 4
    """Scores, softmax and weighted values once more: the attention kernel's forward."""
    UP_PROJECTION = 8
    """Keys, values and queries out of the latents of multi-head latent attention."""
    MLP = 16
    """The dense or shared feed-forward."""
    EXPERTS = 32
    """Routed experts with their dispatch."""
    FULL = 64
    """The whole layer: only its input is kept."""

    @classmethod
    def parse(cls, text: str) -> Recompute:
        """The policy of a label: `none`, `selective`, `full`, or modules joined by `+`. Raises ValueError for others.

        Examples
        --------
        >>> Recompute.parse("norm+core_attention").label
        'norm+core_attention'
        """
        policy = cls.NONE
        for word in text.lower().split("+"):
            name = word.strip().replace("-", "_").upper()
            if name not in cls.__members__:
                known = ", ".join(member.lower() for member in cls.__members__)
                raise ValueError(f"recompute '{word.strip()}' is not one of {known}")
            policy |= cls[name]
        return policy

    @property
    def label(self) -> str:
        """`none`, `selective`, `full`, or the modules joined by `+`."""
        named = {0: "none", 3: "selective"}.get(int(self))
        if named is not None:
            return named
        if self & Recompute.FULL:
            return "full"
        return "+".join(member.name.lower() for member in _MODULES if self & member and member.name)


_MODULES = (
    Recompute.NORM,
    Recompute.ACTIVATION,
    Recompute.CORE_ATTENTION,
    Recompute.UP_PROJECTION,
    Recompute.MLP,
    Recompute.EXPERTS,
)


class Sharding(IntEnum):
    """What data-parallel ranks split among themselves (ZeRO stage; FSDP is ZERO3)."""

    NONE = 0
    ZERO1 = 1
    ZERO2 = 2
    ZERO3 = 3


class Schedule(IntEnum):
    """Pipeline schedule."""

    ONE_F_ONE_B = 0
    """Interleaved when `Layout.vpp` exceeds 1."""
    GPIPE = 1
    """All forward passes, then all backward passes."""
    ZERO_BUBBLE = 2
    """ZB-H1: gradients of weights fill the drain; the memory of 1F1B."""
    DUALPIPE = 3
    """Two directions at once over twice the weights; expert all-to-all hides behind the other direction's compute."""


class ContextKind(IntEnum):
    """How context-parallel ranks get at each other's keys and values."""

    RING = 0
    """Keys and values travel round the ring, or are gathered: the same bytes."""
    ALL_TO_ALL = 1
    """Heads are exchanged for sequence pieces (Ulysses); cp has to divide the heads a tensor-parallel rank holds."""


class Offload(IntFlag):
    """What lives in host memory and crosses the host link."""

    NONE = 0
    OPTIMIZER = 1
    """Master weights and moments; the update streams them through the accelerator."""
    ACTIVATIONS = 2
    """Saved activations go out in the forward pass and come back in the backward."""


class CudaGraphs(IntEnum):
    """How far launches from the host are replaced by recorded graphs."""

    NONE = 0
    PARTIAL = 1
    """Some modules of a layer, or layer by layer."""
    FULL = 2
    """The whole iteration."""


class RankOrder(IntEnum):
    """Which ranks are neighbours on the fabric, innermost dimension first. Accelerators are filled domain by domain."""

    TP_CP_DP_PP = 0
    """Pipeline stages outermost: data parallelism may share a domain with tensor and context parallelism."""
    TP_CP_PP_DP = 1
    """Stages next to each other, data parallelism outermost: Llama 3's order, Megatron's `--use-tp-pp-dp-mapping`."""
    TP_DP_CP_PP = 2
    """Data parallelism inside context parallelism."""

    @property
    def label(self) -> str:
        """As it is written: `tp-cp-pp-dp`."""
        return self.name.lower().replace("_", "-")

    def matters(self, *, pp: int, cp: int, dp: int) -> bool:
        """Whether ranks sit elsewhere than in the default order.

        Examples
        --------
        >>> RankOrder.TP_CP_PP_DP.matters(pp=4, cp=1, dp=8), RankOrder.TP_DP_CP_PP.matters(pp=4, cp=1, dp=8)
        (True, False)
        """
        moved = {RankOrder.TP_CP_DP_PP: 1, RankOrder.TP_CP_PP_DP: pp, RankOrder.TP_DP_CP_PP: cp}[self]
        return moved > 1 and dp > 1


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
    SCHEDULE_DOES_NOT_FIT = 11
    """The schedule needs another number of stages, chunks or micro-batches."""
    SHARDS_DO_NOT_DIVIDE = 12
    """The group that ZeRO-3 shards over does not divide the data-parallel ranks, or there is no ZeRO-3."""
    NO_HOST_LINK = 13
    """Something is to live in host memory, and the accelerator's link to it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to cut a step over tp * cp * pp * dp accelerators.

    tp, pp, cp, dp : tensor-, pipeline-, context- and data-parallel sizes.
    ep : expert-parallel size; ep * etp divides tp * cp * dp.  etp : tensor-parallel size inside an expert (1: experts whole).
    vpp : model chunks per pipeline stage; more than 1 is the interleaved schedule.
    micro_batch : sequences per micro-batch.
    sequence_parallel : norms and dropout sharded over tp (Megatron's sequence parallelism).
    shard_size : data-parallel ranks that ZeRO-3 shards over, replicas of such groups beyond (HSDP); 0 for all.
    ep_overlap : expert all-to-all of one micro-batch runs behind the compute of another.
    order : of the ranks on the fabric, innermost dimension first.
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
    cp_kind: ContextKind = ContextKind.RING
    shard_size: int = 0
    offload: Offload = Offload.NONE
    cuda_graphs: CudaGraphs = CudaGraphs.NONE
    ep_overlap: bool = False
    order: RankOrder = RankOrder.TP_CP_DP_PP

    @property
    def num_accelerators(self) -> int:
        return self.tp * self.pp * self.cp * self.dp

    def __str__(self) -> str:
        parts = [f"tp{self.tp}", f"pp{self.pp}", f"dp{self.dp}"]
        parts += [f"cp{self.cp}"] if self.cp > 1 else []
        parts += [f"ep{self.ep}"] if self.ep > 1 else []
        parts += [f"etp{self.etp}"] if self.etp > 1 else []
        parts += [f"vpp{self.vpp}"] if self.vpp > 1 else []
        parts += [f"mbs{self.micro_batch}", self.recompute.label + " recompute", self.sharding.name.lower()]
        parts += [self.schedule.name.lower().replace("_", "-")] if self.schedule else []
        parts += ["cp all-to-all"] if self.cp > 1 and self.cp_kind else []
        parts += [f"sharded over {self.shard_size}"] if self.shard_size else []
        parts += (
            ["offload " + "+".join(str(part.name).lower() for part in Offload if part & self.offload)]
            if self.offload
            else []
        )
        parts += [f"{self.cuda_graphs.name.lower()} graphs"] if self.cuda_graphs else []
        parts += ["ep overlap"] if self.ep_overlap else []
        parts += [f"ranks {self.order.label}"] if self.order.matters(pp=self.pp, cp=self.cp, dp=self.dp) else []
        return " ".join(parts)
