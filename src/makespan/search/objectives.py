"""What a step costs: in time, in accelerator time, in energy; what that makes of a budget; and how low it can be.

Values are those of one step. Arguments are arrays or numbers and broadcast together (`makespan.rows`).
"""

from __future__ import annotations

from typing import Any

from makespan.rows import FloatLike, Rows, ceiling, maximum
from makespan.specs.hardware import ClusterSpec, FrameworkProfile, NodeSpec
from makespan.specs.model import ModelSpec
from makespan.specs.search import Objective
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays
from makespan.step.evaluate import all_layers, layer_table
from makespan.workload import model_flop_per_sequence

ROUNDING = 1.0 - 2.0**-40
"""A floor is lowered by this factor: a value adds and multiplies the same numbers in another order. [-]"""


def _work_w(node: NodeSpec) -> float:
    """What an accelerator draws while it trains beyond what it draws while it waits; never below 0. [W]"""
    return max(node.mean_training_per_accelerator_w - node.idle_per_accelerator_w, 0.0)


def objective_values(
    objective: Objective,
    cluster: ClusterSpec,
    *,
    time_s: FloatLike,
    num_accelerators: FloatLike | Rows,
    working_s: FloatLike | None = None,
) -> Rows:
    """What the best layout has least of, for one step. [s] for TIME, [accelerator s] for COST, [J] for ENERGY

    Parameters
    ----------
    time_s : of the step. [s]   num_accelerators : that the layout uses. [-]
    working_s : in which kernels run on a mean rank (see `working_s`); only ENERGY needs it. [s]

    Notes
    -----
    COST: time * used. Money is that times a price per accelerator-hour over 3,600. Idle accelerators are not charged.

    ENERGY: used * (idle * time + (training - idle) * working). `idle` is `NodeSpec.idle_per_accelerator_w`, `training` is
    `NodeSpec.mean_training_per_accelerator_w`: IT power at the wall of the node with its share of network and storage,
    from the catalog's nodes. Accelerators that the layout does not use draw nothing here.

    Left out: PUE (multiply by it for the facility); power caps and the slower clocks they bring; that a rank which waits
    inside a collective polls, so draws more than idle; that `training` was measured as a mean over steps with waits of
    their own, so kernels draw more than that. The last two make the energy too low, by about the share of the step that
    waits. The same power is taken for every layout and precision. A node whose stated training power is below its idle
    power counts as drawing its idle power throughout.
    """
    values: Any = time_s
    if objective is Objective.COST:
        values = time_s * num_accelerators
    elif objective is Objective.ENERGY:
        if working_s is None:
            raise ValueError("energy needs the working time of a mean rank")
        node = cluster.node
        values = num_accelerators * (node.idle_per_accelerator_w * time_s + _work_w(node) * working_s)
    found: Rows = values
    return found


def working_s(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    *,
    optimizer_s: FloatLike = 0.0,
) -> Rows:
    """Time in which kernels run on the mean rank, in one step; layouts that break no rule. Shape (layouts,). [s]

    Parameters
    ----------
    optimizer_s : the update of the weights (`StepEstimate.breakdown["optimizer"]`). [s]

    Notes
    -----
    micro-batches of a mean replica, B / (b dp), times the kernels of every layer and head of the model, over pp stages.
    Not the fullest replica or the slowest stage, for which the step waits: energy is a sum over all. Kernels include
    what is recomputed (`LayerTimes.kernels_s`), not communication, bubbles, or waiting for launches from the host.
    """
    table = layer_table(model, config, cluster, profile, layouts)
    once = all_layers(model, table.of_kinds(lambda times: times.kernels_s), table.rows(table.head.kernels_s))
    micro_batches = config.global_batch / (layouts.micro_batch * layouts.dp)
    working: Rows = micro_batches * once / layouts.pp + optimizer_s
    return working


def estimate_value(
    objective: Objective,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
) -> float:
    """The objective of a layout that has been worked out. Unit as `objective_values`."""
    working = None
    if objective is Objective.ENERGY:
        row, update = LayoutArrays.of([estimate.layout]), estimate.breakdown.get("optimizer", 0.0)
        working = float(working_s(model, config, cluster, profile, row, optimizer_s=update)[0])
    used = float(estimate.layout.num_accelerators)
    value = objective_values(objective, cluster, time_s=estimate.time_s, num_accelerators=used, working_s=working)
    return float(value)


def tokens_of_flop(model: ModelSpec, seq_len: int, flop: FloatLike) -> FloatLike:
    """Tokens that a budget of model FLOP buys (6ND plus causal attention: `workload.model_flop_per_sequence`). [-]"""
    return flop / model_flop_per_sequence(model, seq_len) * seq_len


def to_budget(value_per_step: FloatLike | Rows, *, tokens: FloatLike, tokens_per_step: FloatLike) -> Rows:
    """An objective of one step -> of a training run of `tokens`: seconds, accelerator-seconds or joule.

    Notes
    -----
    Steps only, and not rounded up to whole ones: no failures, checkpoints, evaluation or ramp of the batch (see the
    campaign for those). For a budget of FLOP pass `tokens_of_flop`.

    Examples
    --------
    Ten million tokens in steps of four million: two and a half steps of 2 s.

    >>> to_budget(2.0, tokens=10e6, tokens_per_step=4e6)
    5.0
    """
    run: Any = value_per_step * (tokens / tokens_per_step)
    found: Rows = run
    return found


def objective_floor(
    objective: Objective,
    cluster: ClusterSpec,
    *,
    global_batch: int,
    micro_batch: FloatLike | Rows,
    per_replica: FloatLike | Rows,
    slot_s: FloatLike,
    bubble_s: FloatLike,
    dp_min: FloatLike | Rows,
    dp_max: FloatLike | Rows,
    compute_s: FloatLike = 0.0,
    pp: FloatLike | Rows = 1,
) -> Rows:
    """No layout that differs from a cell in dp alone, dp_min <= dp <= dp_max, has less of the objective. Unit as there.

    Parameters
    ----------
    global_batch, micro_batch : B and b. [sequence]   per_replica : tp * cp * pp. [-]
    slot_s : one micro-batch on the slowest stage, or less.   bubble_s : fill and drain, or less, for every dp. [s]
    compute_s : kernels of every layer and head for one micro-batch (what `working_s` sums), or less. [s]

    Notes
    -----
    Proof. Let n = ceil(B / (b dp)), t the slot, u the bubble. A step takes at least T = n t + u: transfers, gradients,
    the optimizer and stragglers only add to it.

    * TIME. n falls as dp grows, so n >= n0 = ceil(B / (b dp_max)), and T >= n0 t + u.
    * COST = r dp T, r accelerators a replica. dp n is a whole number and at least B / b, so at least ceil(B / b); it is
      also at least dp_min n0. With m = max(ceil(B / b), dp_min n0): r dp T = r (dp n t + dp u) >= r (m t + dp_min u).
    * ENERGY = r dp (p T + w W), p the idle power, w >= 0 what work adds. The first part is p times COST. Of the working
      time W >= (B / (b dp)) c / pp, c the compute, so r dp w W >= r w (B / b) c / pp, whatever dp is: dp cancels.

    Stragglers slow a step more the more accelerators it has; a caller may multiply slot and bubble by that factor at
    dp_min. The result is lowered by `ROUNDING`, so that it holds for the rounded numbers as well.
    """
    rounds = ceiling(global_batch / (micro_batch * dp_max))
    if objective is Objective.TIME:
        floor: Rows = (rounds * slot_s + bubble_s) * ROUNDING
        return floor
    works = maximum(ceiling(global_batch / micro_batch), dp_min * rounds)
    cost: Rows = per_replica * (works * slot_s + dp_min * bubble_s)
    if objective is Objective.COST:
        return cost * ROUNDING
    node = cluster.node
    working = per_replica * (global_batch / micro_batch) * compute_s / pp
    energy: Rows = (node.idle_per_accelerator_w * cost + _work_w(node) * working) * ROUNDING
    return energy


__all__ = [
    "ROUNDING",
    "estimate_value",
    "objective_floor",
    "objective_values",
    "to_budget",
    "tokens_of_flop",
    "working_s",
]
