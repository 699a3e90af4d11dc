"""Scaling curves: the best layout on every size of a cluster, and what keeps a larger one from being as much faster.

What costs speed is found by taking causes away one at a time and searching again; the cause without which the run is
fastest is the limit. Every change is tenfold, so that they compare.

| limit | what is taken away |
|---|---|
| `batch` | the batch is ten times as large and needs no more tokens |
| `memory` | the accelerators hold ten times as much |
| `network` | every tier has ten times the bandwidth and a tenth of the latency, the scale-up domain as many accelerators as before |
| `stragglers` | nobody waits for the slowest (`jitter_per_doubling` is 0) |
| `power` | every accelerator is powered |

Beyond the accelerators that can be powered the limit is `power` whatever else costs speed there: more of them change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from makespan.search.batch import Best, train_time
from makespan.search.engine import search
from makespan.specs.hardware import ClusterSpec, FabricSpec, FabricTier, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.search import (
    CriticalBatchLaw,
    HowFar,
    RampStage,
    ScalingPoint,
    SearchConstraints,
    SearchResult,
    TrainTime,
)
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import step_estimate

TENFOLD = 10.0
"""How much better each cause is made. [-]"""

NEARLY_LINEAR = 0.9
"""Share of the curve's best speed per accelerator above which no limit is looked for. [-]"""

LEAST_GAIN = 1.1
"""A cause whose absence makes the run less than this many times faster is no limit. [-]"""

Progress = Callable[[int, int], None]
"""Told (parts done, parts in all); a size is two parts, its speed and its limit."""


def without_network(cluster: ClusterSpec) -> ClusterSpec:
    """The cluster with ten times the bandwidth and a tenth of the latency in every tier of its fabric."""

    def better(tier: FabricTier) -> FabricTier:
        measured = tier.collectives
        if measured is not None:
            measured = replace(
                measured,
                launch_s=measured.launch_s / TENFOLD,
                hop_s=measured.hop_s / TENFOLD,
                ramp_s=measured.ramp_s / TENFOLD,
            )
        return replace(
            tier, bytes_per_s=tier.bytes_per_s * TENFOLD, latency_s=tier.latency_s / TENFOLD, collectives=measured
        )

    fabric = FabricSpec(name=cluster.fabric.name, tiers=tuple(map(better, cluster.fabric.tiers)))
    return replace(cluster, fabric=fabric)


def without_memory(cluster: ClusterSpec) -> ClusterSpec:
    """The cluster whose accelerators hold ten times as much, at the same bandwidth."""
    return replace(cluster, accelerator=replace(cluster.accelerator, hbm_bytes=cluster.accelerator.hbm_bytes * TENFOLD))


def without_stragglers(profile: FrameworkProfile) -> FrameworkProfile:
    """The software with nobody waiting for the slowest."""
    return replace(profile, jitter_per_doubling=0.0, jitter_per_doubling_fp8=0.0)


def powered(cluster: ClusterSpec, power_limit_w: float) -> int:
    """Accelerators that a limit of IT power can feed: whole ones, at the peak that has to be provisioned for each. [-]"""
    return math.floor(power_limit_w / cluster.node.provisioned_peak_per_accelerator_w)


class _Curve:
    """The searches of one curve, each made once."""

    def __init__(
        self,
        model: ModelSpec,
        config: StepConfig,
        cluster: ClusterSpec,
        profile: FrameworkProfile,
        constraints: SearchConstraints,
        *,
        tokens: float,
        law: CriticalBatchLaw | None,
        max_batch: int | None,
        ramp: Sequence[RampStage],
    ):
        self.model, self.config, self.cluster, self.profile = model, config, cluster, profile
        self.constraints, self.tokens, self.law, self.ramp = constraints, tokens, law, tuple(ramp)
        most = config.global_batch if max_batch is None else max_batch
        self.doublings = 0 if ramp else max(math.floor(math.log2(most / config.global_batch)), 0)
        self.clusters = {
            "": cluster,
            "network": without_network(cluster),
            "memory": without_memory(cluster),
        }
        self.known: dict[tuple[int, int, str], SearchResult] = {}

    def result(self, size: int, batch: int, without: str = "") -> SearchResult:
        """The search of a size and a batch on the cluster as it is, or without one of its walls."""
        key = (size, batch, without)
        if key not in self.known:
            config = replace(self.config, global_batch=batch)
            cluster = replace(self.clusters[without], num_accelerators=size)
            self.known[key] = search(self.model, config, cluster, self.profile, self.constraints, top=1, front=False)
        return self.known[key]

    def best(self, size: int, batch: int, without: str = "") -> StepEstimate | None:
        return self.result(size, batch, without).best

    def unhindered(self, size: int, batch: int) -> StepEstimate | None:
        """The best layout as it is, with nobody waiting for the slowest."""
        best = self.best(size, batch)
        if best is None:
            return None
        config = replace(self.config, global_batch=batch)
        cluster = replace(self.cluster, num_accelerators=size)
        return step_estimate(self.model, config, cluster, without_stragglers(self.profile), best.layout)

    def time(self, batch: int, best: Best, *, walled: bool = True) -> TrainTime:
        """Time to the budget; not `walled`: all of it at this batch, with no more tokens for it."""
        return train_time(
            self.model,
            replace(self.config, global_batch=batch),
            self.cluster,
            self.profile,
            self.constraints,
            tokens=self.tokens,
            ramp=self.ramp if walled else (),
            reference_batch=None if self.ramp or not walled else self.config.global_batch,
            law=self.law,
            best=best,
        )

    def at(self, size: int, doubled: int) -> tuple[TrainTime, int]:
        """The fastest of the batches from `doubled` doublings on: larger ones as long as each is faster than the last."""
        found, chosen = self._doubled(size, doubled), doubled
        for more in range(doubled + 1, self.doublings + 1):
            other = self._doubled(size, more)
            if not other.train_s < found.train_s:
                break
            found, chosen = other, more
        return found, chosen

    def _doubled(self, size: int, doublings: int) -> TrainTime:
        return self.time(self.config.global_batch << doublings, lambda batch: self.best(size, batch))


def scaling_curve(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    sizes: Sequence[int],
    *,
    tokens: float,
    law: CriticalBatchLaw | None = None,
    max_batch: int | None = None,
    ramp: Sequence[RampStage] = (),
    power_limit_w: float = math.inf,
    limits: bool = True,
    thorough: bool = False,
    progress: Progress | None = None,
) -> tuple[ScalingPoint, ...]:
    """The best layout, the time to a budget of tokens and what limits it, on every size of a cluster.

    Parameters
    ----------
    config : its `global_batch` is the reference for which `tokens` is meant, and the batch of every size where neither
        `max_batch` nor `ramp` is given.
    sizes : accelerators, each at least 1; answered in ascending order, each once.
    tokens : budget of the run. [-]
    law : extra tokens of batches above the reference.
    max_batch : sequences; each size takes the fastest of the reference and its doublings up to this.
    ramp : batches by trained tokens, the same at every size; no batch is chosen then.
    power_limit_w : IT power; a larger cluster runs with the accelerators that it can feed. [W]
    limits : whether to look for what limits each size; some three searches more a size that loses a tenth.
    thorough : search the whole space at each size, not the thin one.

    Returns
    -------
    One point a size. A larger cluster never takes longer than a smaller one of the curve: it may run the smaller one's
    layout and leave the rest idle.

    Notes
    -----
    Batches are tried from the choice of the size before on, upwards while each doubling is faster; the choice never falls
    with the size. The fabric is the cluster's at every size: its last tier is unbounded.
    """
    curve = _Curve(
        model,
        config,
        cluster,
        profile,
        replace(constraints, thorough=thorough),
        tokens=tokens,
        law=law,
        max_batch=max_batch,
        ramp=ramp,
    )
    fed = max(powered(cluster, power_limit_w), 1) if math.isfinite(power_limit_w) else max(sizes, default=1)
    found: list[tuple[int, TrainTime]] = []
    doubled = 0
    ascending = sorted(set(sizes))
    for done, size in enumerate(ascending):
        if progress is not None:
            progress(done, 2 * len(ascending))
        answer, chosen = curve.at(min(size, fed), doubled)
        if found and not answer.train_s < found[-1][1].train_s:
            answer = found[-1][1]
        elif math.isfinite(answer.train_s):
            doubled = chosen
        found.append((size, answer))
    per_accelerator = min((answer.train_s * min(size, fed) for size, answer in found), default=math.inf)
    points = []
    for done, (size, answer) in enumerate(found):
        if progress is not None:
            progress(len(ascending) + done, 2 * len(ascending))
        lost = answer.train_s * size * NEARLY_LINEAR > per_accelerator or not math.isfinite(answer.train_s)
        gains = _walls(curve, size, fed, answer) if lost and limits else {}
        points.append(_point(size, answer, tokens, _limit(curve, min(size, fed), answer, gains), gains))
    if progress is not None:
        progress(2 * len(ascending), 2 * len(ascending))
    return tuple(points)


def _walls(curve: _Curve, size: int, fed: int, answer: TrainTime) -> dict[str, float]:
    """How many times faster the run would be without each cause; `inf` where it fits only without it, 1 for no change. [-]"""
    running = min(size, fed)
    batch = answer.stages[-1].global_batch

    def gain(best: Best, at: int = batch, *, walled: bool = True) -> float:
        other = curve.time(at, best, walled=walled)
        return max(answer.train_s / other.train_s, 1.0) if math.isfinite(other.train_s) else 1.0

    gains = {
        "batch": gain(lambda sequences: curve.best(running, sequences), int(batch * TENFOLD), walled=False),
        "memory": gain(lambda sequences: curve.best(running, sequences, "memory")),
        "network": gain(lambda sequences: curve.best(running, sequences, "network")),
        "stragglers": gain(lambda sequences: curve.unhindered(running, sequences)),
    }
    if fed < size:
        gains["power"] = gain(lambda sequences: curve.best(size, sequences))
    return gains


def _limit(curve: _Curve, size: int, answer: TrainTime, gains: Mapping[str, float]) -> str:
    """The name of the limit: see `ScalingPoint.limit`."""
    if not gains:
        return "none"
    if gains.get("power", 0.0) >= LEAST_GAIN:
        return "power"
    limit = max(gains, key=lambda name: gains[name])
    if gains[limit] >= LEAST_GAIN:
        return limit
    if math.isfinite(answer.train_s):
        return "none"
    # Not even ten times the memory helps: short of memory all the same if a legal layout lacks nothing else.
    lacking = any(curve.result(size, stage.global_batch).nearest is not None for stage in answer.stages)
    return "memory" if lacking else "constraints"


def _point(size: int, answer: TrainTime, tokens: float, limit: str, gains: Mapping[str, float]) -> ScalingPoint:
    last = answer.stages[-1]
    estimate = last.estimate if math.isfinite(answer.train_s) else None
    return ScalingPoint(
        num_accelerators=size,
        global_batch=last.global_batch,
        estimate=None if estimate is None else replace(estimate, num_idle=size - estimate.num_accelerators),
        tokens=answer.tokens,
        train_s=answer.train_s,
        limit=limit,
        tokens_p10=answer.tokens_p10,
        tokens_p90=answer.tokens_p90,
        train_p10_s=answer.train_p10_s,
        train_p90_s=answer.train_p90_s,
        budget_tokens=tokens,
        gains=gains,
    )


def _train_s(points: Sequence[ScalingPoint], size: float) -> float:
    """Time of a size between those of the curve: a straight line of logarithms. [s]"""
    for below, above in pairwise(points):
        if below.num_accelerators <= size <= above.num_accelerators:
            if not math.isfinite(below.train_s):
                return above.train_s if size == above.num_accelerators else below.train_s
            step = math.log(above.num_accelerators / below.num_accelerators)
            share = math.log(size / below.num_accelerators) / step
            return float(below.train_s ** (1.0 - share) * above.train_s**share)
    return points[-1].train_s


def how_far(points: Sequence[ScalingPoint], *, least_gain: float = 1.5) -> HowFar:
    """How far a run scales: from which size on twice the accelerators give less than `least_gain` times the speed.

    Parameters
    ----------
    points : a scaling curve; times between its sizes are read off a straight line of logarithms.

    Notes
    -----
    The first size from which the gain stays below: one bad size (a cluster that no layout divides well) does not end the
    curve. The limit is that of the first point at twice that size or beyond which has one.
    """
    able = [p for p in points if math.isfinite(p.train_s) and 2 * p.num_accelerators <= points[-1].num_accelerators]
    if not able:
        return HowFar(least_gain=least_gain, num_accelerators=None, gain=math.nan, limit="none", largest=0)
    gains = [point.train_s / _train_s(points, 2 * point.num_accelerators) for point in able]
    first = next((i for i in range(len(able)) if max(gains[i:]) < least_gain), None)
    largest = able[-1].num_accelerators
    if first is None:
        return HowFar(least_gain=least_gain, num_accelerators=None, gain=gains[-1], limit="none", largest=largest)
    size = able[first].num_accelerators
    limit = next((p.limit for p in points if p.num_accelerators >= 2 * size and p.limit != "none"), "none")
    return HowFar(least_gain=least_gain, num_accelerators=size, gain=gains[first], limit=limit, largest=largest)
