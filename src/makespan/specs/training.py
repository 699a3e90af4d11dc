"""The run: stages, batches, precision, optimizer, and how much of a cluster it gets."""

from __future__ import annotations

from dataclasses import dataclass

from makespan.uncertainty import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """Bytes kept per parameter. Adam in mixed precision: 2 weights + 4 gradient + 4 master + 8 moments.

    name : `adam`: the bytes given here.   `profile`: those of gradients and master copy that the framework profile states.
    """

    name: str = "adam"
    weight_bytes: float = 2.0
    gradient_bytes: float = 4.0
    master_bytes: float = 4.0
    moment_bytes: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepConfig:
    """What one optimizer step has to do, whatever the layout.

    global_batch : sequences in a step, over all replicas. [-]
    seq_len : tokens in a sequence. [-]
    precision : `bf16`, `fp16`, `fp8` (delayed or current scaling), `mxfp8`, `nvfp4`: of the big matrix products.
    load_imbalance : tokens on the busiest expert rank over the mean, in a mixture of experts: 1 where routing is forced
        to balance, as in benchmarks. Slows experts, dispatch and memory of that rank. [-]
    """

    global_batch: int
    seq_len: int
    precision: str
    optimizer: OptimizerSpec = OptimizerSpec(name="profile")
    load_imbalance: float = 1.0

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch * self.seq_len


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage of training, in order.

    kind : `compute` (a budget of tokens or FLOP) or `calendar` (a duration: evaluation, post-training done by people).
    tokens, flop : the budget of a compute stage; exactly one is given.  flop counts model FLOP (6ND plus causal attention).
    duration_s : of a calendar stage. [s]
    share_used : of the run's accelerators, in a calendar stage; the energy and the charge follow it. [-]
    """

    name: str
    kind: str
    step: StepConfig | None = None
    tokens: Distribution | None = None
    flop: Distribution | None = None
    duration_s: Distribution | None = None
    share_used: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareStep:
    """From `from_s` on the run gets `share` of the usable accelerators (the rest does research, evaluation, other models)."""

    from_s: float
    share: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """A training run from the day its data and recipe are ready to the release.

    ready_s : when data and recipe are ready, seconds after `as_of`. [s]
    restarted_work : share of the pre-training budget spent again in attempts that were thrown away. [-]
    execution : productive speed of a real team's run over the tuned prediction, failures aside. [-]
    min_accelerators : the run does not start on fewer. [-]
    """

    stages: tuple[StageSpec, ...]
    ready_s: Distribution
    run_share: tuple[ShareStep, ...]
    restarted_work: Distribution
    execution: Distribution
    min_accelerators: int = 1
