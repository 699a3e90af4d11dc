"""A plan made by hand, with the shape and the sizes of the Memphis question: six options, one of which never finishes.

The numbers are invented around public figures; they test pages, not formulas. Of the formula rooms only the play of a
pipeline runs here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from makespan.provenance import Fact, Kind, Source
from makespan.specs.campaign import LEDGER, CampaignResult, CheckpointSpec, FailureSpec, RecoverySpec
from makespan.specs.economics import CostResult
from makespan.specs.hardware import (
    AcceleratorSpec,
    AttentionEfficiency,
    FabricSpec,
    FabricTier,
    FrameworkProfile,
    GemmEfficiency,
    KernelSpec,
    NodeSpec,
)
from makespan.specs.layout import Layout, LayoutStatus, Recompute, Schedule
from makespan.specs.model import ModelSpec, MoeSpec
from makespan.specs.plan import Change, Lever, OptionResult, Plan, PlayedPipeline, PoolResult, ShownStep
from makespan.specs.scenario import ModelChoice, RuleUsed, Scenario
from makespan.specs.search import SearchConstraints, SearchResult
from makespan.specs.step import MemoryEstimate, StepChange, StepEstimate
from makespan.specs.supply import (
    CAUSES,
    BuildCosts,
    BuildSpec,
    CapacityTimeline,
    MoveSpec,
    ObservedSpec,
    OptionSpec,
    RampStep,
    RentSpec,
    SupplyResult,
)
from makespan.specs.training import ShareStep, StageSpec, StepConfig, TrainingSpec
from makespan.step.drawing import pipeline_rows
from makespan.step.timeline import Timeline, simulate
from makespan.uncertainty import Fixed, Triangular
from makespan.units import DAY_S, HOUR_S, MONTH_S, YEAR_S

FloatArray = NDArray[np.float64]

AS_OF = dt.date(2024, 7, 10)
HORIZON_S = 5 * YEAR_S
HOSTILE = "<script>alert('x')</script> & \"Söhne\" </script>"

H100 = AcceleratorSpec(
    name="h100-sxm",
    family="hopper",
    vendor="NVIDIA",
    peak_flop_per_s={"bf16": 989.4e12, "fp8": 1979e12},
    hbm_bytes=80e9,
    hbm_bytes_per_s=3.35e12,
    scale_up_domain_size=8,
    scale_up_bytes_per_s=450e9,
    scale_out_bytes_per_s=50e9,
    idle_w=70.0,
    tdp_w=700.0,
    kernels=KernelSpec(
        gemm={"bf16": GemmEfficiency(flop_utilisation=0.75, hbm_utilisation=0.85, overhead_s=4e-6)},
        attention=AttentionEfficiency(flop_utilisation=0.6),
        elementwise_hbm_utilisation=0.8,
    ),
)
NODE = NodeSpec(
    name="hgx-h100-liquid",
    accelerator="h100-sxm",
    accelerators_per_node=8,
    nameplate_w=14e3,
    provisioned_peak_w=10.2e3,
    mean_training_w=8.9e3,
    idle_w=2.5e3,
    network_storage_w=0.9e3,
    cooling="liquid",
)
FABRIC = FabricSpec(
    name="spectrum-x-3tier",
    tiers=(
        FabricTier(name="NVLink", size=8, bytes_per_s=450e9, latency_s=3e-6, efficiency=0.8),
        FabricTier(name="spine", size=float("inf"), bytes_per_s=50e9, latency_s=2e-5, efficiency=0.9),
    ),
)
SOURCES = (
    Source(
        key="post", title="A post about 24,000 H100", publisher="X", date=dt.date(2024, 7, 10), url="https://x.com/"
    ),
    Source(
        key="chamber",
        title="Gigafactory of compute announced",
        publisher="Greater Memphis Chamber",
        date=dt.date(2024, 6, 5),
        url="https://memphischamber.com/",
    ),
    Source(
        key="release", title="Grok 3 beta", publisher="xAI", date=dt.date(2025, 2, 19), url="https://x.ai/blog/grok-3"
    ),
    Source(key="evil", title=HOSTILE, publisher="nobody", date=dt.date(2024, 1, 1), url="javascript:alert(1)"),
)


MEMORY = {
    "weights": 14e9,
    "gradients": 9e9,
    "optimizer": 6e9,
    "activations": 24e9,
    "logits": 0.0,
    "buffers": 3e9,
    "overhead": 4e9,
}


def played(timeline: Timeline, num_micro_batches: int, *, layers: int = 1) -> PlayedPipeline:
    """A timeline of stages of 10, 11 and 9 ms as what a plan holds; the last stage has a head of a third of a stage."""
    num_stages = timeline.pp * timeline.vpp
    scale = [1.0] * (num_stages - 1) + [4 / 3]
    return PlayedPipeline(
        num_micro_batches=num_micro_batches,
        num_played=timeline.num_micro_batches,
        span_s=timeline.makespan_s,
        layers_per_stage=(layers,) * num_stages,
        forward_s=tuple(0.010 * s for s in scale),
        input_grad_s=tuple(0.011 * s for s in scale),
        weight_grad_s=tuple(0.009 * s for s in scale),
        ranks=tuple(range(timeline.pp)),
        idle_s=tuple(timeline.idle_s.tolist()),
        rows=pipeline_rows(timeline),
    )


def play(schedule: Schedule, pp: int, vpp: int, num_micro_batches: int) -> Timeline:
    """The stages of `played` at work."""
    scale = np.ones((pp, vpp))
    scale[-1, -1] = 4 / 3
    return simulate(
        schedule,
        pp=pp,
        vpp=vpp,
        num_micro_batches=num_micro_batches,
        forward_s=0.010 * scale,
        input_grad_s=0.011 * scale,
        weight_grad_s=0.009 * scale,
        hop_s=0.0005,
    )


@cache
def _pipeline(num_micro_batches: int) -> PlayedPipeline:
    return played(play(Schedule.ONE_F_ONE_B, 16, 4, min(num_micro_batches, 32)), num_micro_batches)


def _shown(search: SearchResult) -> ShownStep | None:
    """A look at the layout of `_search`, one pipeline for all options with as many replicas."""
    best = search.best
    if best is None:
        return None
    layout = replace(best.layout, schedule=Schedule.ZERO_BUBBLE, vpp=1)
    change = StepChange(dimension="schedule", before="1f1b", after="zero-bubble", layout=layout, time_s=best.time_s * 0.97, memory_bytes=61e9)  # fmt: skip
    return ShownStep(step_changes=(change,), pipeline=_pipeline(65_536 // best.layout.dp))


def _search(num_accelerators: int) -> SearchResult:
    dp = max(num_accelerators // 128, 1)
    layout = Layout(tp=8, pp=16, dp=dp, ep=8, vpp=4, recompute=Recompute.SELECTIVE)
    compute_s = 6.1 * 98304 / num_accelerators
    parts = {
        "gemm": compute_s * 0.62,
        "attention": compute_s * 0.11,
        "elementwise": compute_s * 0.08,
        "moe": compute_s * 0.05,
        "bubble": compute_s * 0.05,
        "tp": compute_s * 0.04,
        "ep": compute_s * 0.03,
        "dp": 0.12,
        "optimizer": 0.02,
        "jitter": 0.15,
    }
    time_s = sum(parts.values())
    flop = 4.0e20
    mfu = flop / time_s / (layout.num_accelerators * 989.4e12)
    best = StepEstimate(
        layout=layout,
        status=LayoutStatus.OK,
        time_s=time_s,
        lower_s=time_s * 0.7,
        upper_s=time_s * 1.4,
        p10_s=time_s * 0.88,
        p90_s=time_s * 1.14,
        breakdown=parts,
        hidden={"dp": 1.1, "tp": 0.3},
        memory=MemoryEstimate(
            by_kind=MEMORY,
            limit_bytes=76e9,
            by_stage={
                "first": MEMORY,
                "middle": {**MEMORY, "weights": 13e9, "activations": 22e9},
                "last": {**MEMORY, "activations": 9e9, "logits": 2e9},
            },
        ),
        model_flop=flop,
        model_flop_full_attention=flop * 1.06,
        executed_flop=flop * 1.12,
        mfu=mfu,
        mfu_full_attention=mfu * 1.06,
        hfu=mfu * 1.12,
        tokens_per_step=33.5e6,
        tokens_per_s=33.5e6 / time_s,
        num_accelerators=num_accelerators,
        num_idle=num_accelerators - layout.num_accelerators,
        provenance=Kind.MEASURED,
        notes=("expert all-to-all is borrowed from a relative",),
    )
    second = replace(best, layout=replace(layout, tp=4, pp=32), time_s=time_s * 1.02)
    return SearchResult(
        best=best,
        top=(best, second),
        pareto=(best,),
        num_layouts=41230,
        num_feasible=3127,
        infeasible={LayoutStatus.OUT_OF_MEMORY: 30211, LayoutStatus.BATCH_TOO_SMALL: 7892},
    )


def _timeline(
    name: str, target: int, times_s: FloatArray, counts: FloatArray, powered: FloatArray, limit_w: FloatArray
) -> CapacityTimeline:
    order = np.argsort(times_s, axis=1, kind="stable")
    pick = lambda values: np.take_along_axis(values, order, axis=1)  # noqa: E731
    start_s, counts, powered, limit_w = (pick(values) for values in (times_s, counts, powered, limit_w))
    start_s[:, 0] = 0.0
    counts = np.maximum.accumulate(counts, axis=1)
    powered = np.minimum(np.maximum.accumulate(powered, axis=1), counts)
    return CapacityTimeline(
        pool=name,
        target=target,
        start_s=start_s,
        installed=counts,
        powered=powered,
        usable=powered,
        power_limit_w=limit_w,
        binding=np.where(powered < counts, CAUSES.index("power"), CAUSES.index("installation")),
    )


def _rent(
    name: str, count: int, first_day: float, ramp_days: float, rng: np.random.Generator, n: int, odds: float = 1.0
):
    """A rented pool: its spec, and its supply with a ramp in eight steps."""
    spec = RentSpec(
        name=name,
        place="Oracle Cloud",
        accelerator=H100,
        node=NODE,
        fabric=FABRIC,
        ramp=(RampStep(from_s=Fixed(value=first_day * DAY_S), num_accelerators=Fixed(value=count)),),
        price_usd_per_accelerator_s=Fixed(value=2.5 / HOUR_S),
        term_s=YEAR_S,
    )
    delivered = rng.random(n) < odds
    slip = 1 + 0.35 * np.abs(rng.standard_normal(n))
    steps = np.linspace(0, 1, 8)
    times = (first_day + ramp_days * steps[None, :] * slip[:, None]) * DAY_S * np.ones((n, 1))
    counts = np.ceil(count / 8 * np.arange(1, 9))[None, :] * np.ones((n, 1))
    if first_day == 0:
        times[:, :], counts[:, :] = np.linspace(0, 7, 8) * DAY_S, count
    else:
        times = np.concatenate([np.zeros((n, 1)), times], axis=1)
        counts = np.concatenate([np.zeros((n, 1)), counts], axis=1)
    times = np.where(delivered[:, None] | (np.arange(times.shape[1]) == 0), times, np.inf)
    counts = np.where(delivered[:, None], counts, 0.0 if first_day else counts)
    limit = np.full_like(times, np.inf)
    line = _timeline(name, count, times, counts, counts, limit)
    last = np.where(delivered, line.start_s[:, -1], np.inf)
    first = np.where(delivered, line.start_s[:, 1] if first_day else 0.0, np.inf)
    supply = SupplyResult(
        timeline=line,
        first_usable_s=first,
        all_installed_s=last,
        all_powered_s=last,
        milestones={"contract": (np.zeros(n), first)},
        criticality={"contract": 1.0},
        pue=np.full(n, 1.3),
    )
    return spec, PoolResult(supply=supply, levels=(count // 4, count), searches=(_search(count // 4), _search(count)))


def _build(name: str, place: str, first_day: float, rng: np.random.Generator, n: int, spread: float):
    """A site of one's own: 100,000 in twenty lots, power lagging behind."""
    count = 100_000
    spec = BuildSpec(
        name=name,
        place=place,
        accelerator=H100,
        node=NODE,
        fabric=FABRIC,
        num_accelerators=count,
        activities=(),
        halls=(),
        deliveries=(),
        power=(),
        install_per_s=Fixed(value=2000 / DAY_S),
        pod_size=512,
        burn_in_s=Fixed(value=3 * DAY_S),
        first_pass_yield=Fixed(value=0.9),
        repair_s=Fixed(value=10 * DAY_S),
        pue=Fixed(value=1.3),
        costs=BuildCosts(
            compute_usd_per_accelerator=Fixed(value=36300),
            construction_usd_per_it_w=Fixed(value=11.7),
            compute_life_s=5 * YEAR_S,
            construction_life_s=14 * YEAR_S,
        ),
    )
    late = np.exp(spread * rng.standard_normal(n))
    begin = first_day * late
    per_lot = 2.5 * np.exp(0.25 * rng.standard_normal(n))
    lots = np.arange(1, 21)
    installed_at = (begin[:, None] + per_lot[:, None] * lots[None, :]) * DAY_S
    grid_at = (first_day + 150 * np.exp(0.2 * rng.standard_normal(n))) * DAY_S
    per_w = 1.3 * NODE.provisioned_peak_per_accelerator_w
    first_limit = 50e6 + 2.5e6 * rng.integers(13, 20, n)
    times = np.concatenate([np.zeros((n, 1)), installed_at, grid_at[:, None]], axis=1)
    base = np.concatenate([[0.0], count / 20 * lots, [0.0]])[None, :] * np.ones((n, 1))
    limit = np.where(times < grid_at[:, None], first_limit[:, None], 185e6)
    limit[:, 0] = 8e6
    order = np.argsort(times, axis=1, kind="stable")
    base = np.take_along_axis(
        np.maximum.accumulate(np.take_along_axis(base, order, 1), axis=1), np.argsort(order, axis=1), 1
    )
    line = _timeline(name, count, times, base, np.minimum(base, limit / per_w), limit)
    all_installed = installed_at[:, -1]
    all_powered = np.maximum(all_installed, grid_at)
    zero = np.zeros(n)
    cooling = begin * DAY_S
    milestones = {
        "hall shell": (zero - 60 * DAY_S, zero),
        "cooling hall A": (zero, cooling),
        "delivery of the first lot": (cooling - 5 * DAY_S, cooling),
        "hall A": (cooling, installed_at[:, 4]),
        "hall B": (installed_at[:, 4], installed_at[:, 9]),
        "hall C": (installed_at[:, 9], installed_at[:, 14]),
        "hall D": (installed_at[:, 14], all_installed),
        "grid 150 MW": (zero, grid_at),
    }
    supply = SupplyResult(
        timeline=line,
        first_usable_s=installed_at[:, 0],
        all_installed_s=all_installed,
        all_powered_s=all_powered,
        milestones=milestones,
        criticality={"cooling hall A": 0.42, "hall A": 0.4, "hall D": 0.38, "grid 150 MW": 0.93, "hall shell": 0.02},
        pue=1.2 + 0.2 * rng.random(n),
    )
    levels = (25_000, 50_000, 100_000)
    return spec, PoolResult(supply=supply, levels=levels, searches=tuple(_search(level) for level in levels))


def _run(
    pools: list[PoolResult],
    flop: FloatArray,
    ready_s: FloatArray,
    after_s: FloatArray,
    rng: np.random.Generator,
    move_s: float,
) -> CampaignResult:
    """A day-by-day run on the larger pool, with a ledger whose lines add up to the wall time."""
    n = len(flop)
    times = np.arange(0.0, HORIZON_S, 2 * DAY_S)
    capacity = [pool.supply.timeline.at(pool.supply.timeline.usable, times) for pool in pools]
    used = np.maximum.reduce(capacity) * 0.8 * (times[None, :] >= ready_s[:, None])
    goodput = 0.93 - 0.06 * rng.random(n)
    speed = used * 989.4e12 * 0.37 * goodput[:, None]
    work = np.cumsum(speed * 2 * DAY_S, axis=1)
    done = work >= flop[:, None]
    ever = done.any(axis=1)
    end = np.where(ever, times[np.argmax(done, axis=1)] + (move_s if len(pools) > 1 else 0.0), np.inf)
    release = np.where(end + after_s <= HORIZON_S, end + after_s, np.inf)
    running = used > 0
    first = np.where(running.any(axis=1), times[np.argmax(running, axis=1)], np.inf)
    wall = np.where(np.isfinite(release), release, HORIZON_S)
    first_wall, end_wall = np.minimum(first, wall), np.minimum(end, wall)
    active = end_wall - first_wall
    zero = np.zeros(n)
    moved = np.minimum(np.full(n, move_s if len(pools) > 1 else 0.0), active)
    active = active - moved
    losses = {"checkpoint": 0.12, "detection": 0.18, "restart": 0.4, "lost_work": 0.25, "repair_wait": 0.05}
    ledger = dict.fromkeys(LEDGER, zero)
    ledger.update({line: active * (1 - goodput) * part for line, part in losses.items()})
    ledger["restarted_work"] = active * goodput * 0.05
    ledger["productive"] = active * goodput * 0.95
    ledger["reconfiguration"] = moved
    ledger["wait_recipe"] = np.minimum(ready_s, first_wall)
    ledger["wait_capacity"] = first_wall - ledger["wait_recipe"]
    ledger["calendar_stage"] = wall - end_wall
    power = ledger["productive"] * 0.28
    delay = {
        "training": ledger["productive"] - power,
        "power": power,
        "delivery": ledger["wait_capacity"],
        "recipe": ledger["wait_recipe"],
        "failures": sum((ledger[line] for line in losses), zero) + ledger["reconfiguration"],
        "restarted_work": ledger["restarted_work"],
        "calendar_stage": ledger["calendar_stage"],
    }
    held = np.sum(used * (times[None, :] < wall[:, None]), axis=1) * 2 * DAY_S
    return CampaignResult(
        horizon_s=HORIZON_S,
        first_training_s=first,
        stage_end_s={"pretraining": end, "post-training": release},
        ledger=ledger,
        delay_s=delay,
        pretraining_s=np.where(end <= HORIZON_S, end, np.inf),
        release_s=release,
        goodput=np.where(np.isfinite(first), goodput, np.nan),
        interruptions=np.round(held / (50_700 * HOUR_S)),
        accelerator_s=held,
        productive_accelerator_s=held * goodput,
        pool_accelerator_s={pool.supply.timeline.pool: held / len(pools) for pool in pools},
        progress_times_s=times,
        progress=np.minimum(work / flop[:, None], 1.0),
        used=np.where(times[None, :] < wall[:, None], used, 0.0),
        checkpoint_interval_s=np.full(n, 1800.0),
    )


def _costs(pools: list[PoolResult], campaign: CampaignResult, kind: str, rng: np.random.Generator) -> CostResult:
    n = len(campaign.release_s)
    hours = campaign.accelerator_s / HOUR_S
    months = int(np.ceil(HORIZON_S / MONTH_S))
    it_j = campaign.accelerator_s * NODE.mean_training_per_accelerator_w
    pue = pools[-1].supply.pue
    target = pools[-1].supply.timeline.target
    if kind == "build" or kind == "mix":
        compute = target * (33e3 + 8e3 * rng.random(n))
        construction = target * 1387 * (9.3 + 5.7 * rng.random(n))
        capex = {"compute": compute, "construction": construction, "substation": np.full(n, 24e6)}
        lines = {
            "compute_depreciation": hours / 43_830 * compute / target,
            "construction_depreciation": hours / 122_700 * construction / target,
            "energy": it_j * pue / 3.6e9 * 62,
            "staff": np.full(n, 21e6),
            "maintenance": hours * 0.12,
        }
        if kind == "mix":
            lines = {"rent": np.full(n, 310e6), **lines}
    else:
        capex = {}
        price = 2.0 + 1.5 * rng.random(n)
        lines = {"rent": hours * price, "unused_commitment": hours * price * 0.12}
    capital = sum(capex.values(), np.zeros(n))
    cost = sum(lines.values(), np.zeros(n))
    committed = (
        capital
        + (target * 2.6 * 8766 * (3 if target > 50_000 else 1) if kind == "rent" else 0)
        + (525e6 if kind == "mix" else 0)
    )
    flow = np.zeros((n, months))
    flow[:, :10] = (np.maximum(committed, cost) / 14)[:, None]
    flow[:, 10:18] = (np.maximum(committed, cost) / 28)[:, None]
    peak = np.full(n, target * NODE.provisioned_peak_per_accelerator_w)
    return CostResult(
        cost_of_model_usd=cost,
        cost_of_model=lines,
        committed_usd=committed,
        capex_usd=capital,
        capex=capex,
        residual_usd=capital * 0.85,
        energy_j=it_j * pue,
        it_energy_j=it_j,
        peak_power_w=peak * pue,
        it_peak_power_w=peak,
        carbon_kg=it_j * pue / 3.6e6 * 0.38,
        cash_flow_usd=flow,
    )


def _option(name, kind, parts, flop, ready, after, seed, observed=(), reasons=(), note="") -> OptionResult:
    rng = np.random.default_rng(seed)
    specs, pools = [part[0] for part in parts], [part[1] for part in parts]
    campaign = _run(pools, flop, ready, after, rng, 10 * DAY_S)
    search = pools[-1].searches[-1]
    wall = np.where(np.isfinite(campaign.release_s), campaign.release_s, HORIZON_S)
    return OptionResult(
        option=OptionSpec(
            name=name,
            kind=kind,
            pools=tuple(specs),
            observed=tuple(observed),
            note=note,
            move=MoveSpec() if len(specs) > 1 else None,
        ),
        feasible=bool(np.isfinite(campaign.release_s).any()),
        reasons=tuple(reasons),
        pools=tuple(pools),
        campaign=campaign,
        costs=_costs(pools, campaign, kind, rng),
        shown=None if reasons else _shown(search),
        best=search
        if not reasons
        else SearchResult(
            best=None,
            top=(),
            pareto=(),
            num_layouts=812,
            num_feasible=0,
            infeasible={LayoutStatus.OUT_OF_MEMORY: 812},
            nearest=(Layout(tp=8), 3.1e9),
        ),
        limited_by={cause: float(np.mean(delay / wall)) for cause, delay in campaign.delay_s.items()},
    )


def _day(iso: str) -> float:
    return (dt.date.fromisoformat(iso) - AS_OF).days * DAY_S


def _scenario(n: int, options: tuple[OptionSpec, ...], deadline: str | None) -> Scenario:
    moe = MoeSpec(num_experts=8, top_k=2, expert_ffn=16384, dense_residual_ffn=32768)
    model = ModelSpec(
        name="grok-3-stand-in",
        num_layers=64,
        hidden=12288,
        num_heads=96,
        num_kv_heads=8,
        head_dim=128,
        ffn_hidden=32768,
        vocab=131072,
        moe=moe,
    )
    step = StepConfig(global_batch=4096, seq_len=8192, precision="bf16")
    facts = tuple(
        Fact(
            path=path,
            text=text,
            kind=kind,
            source=source,
            why=why,
            how=how,
            low=low,
            high=high,
            known_on=day,
            file=file,
            line=line,
        )
        for path, text, kind, source, why, how, low, high, day, file, line in (
            (
                "options.Stay at Oracle.price",
                "2.50 USD/h",
                Kind.ASSUMED,
                None,
                "the contract is not public",
                "",
                "2.00 USD/h",
                "4.70 USD/h",
                AS_OF,
                "memphis.yaml",
                61,
            ),
            (
                "run.restarted_work",
                "5 %",
                Kind.ASSUMED,
                None,
                "teams repeat attempts; no record is public",
                "",
                "0 %",
                "25 %",
                AS_OF,
                "memphis.yaml",
                36,
            ),
            (
                "run.ready",
                "2024-07-22",
                Kind.QUOTED,
                SOURCES[0],
                "",
                "'training later this month'",
                "2024-07-15",
                "2024-08-20",
                dt.date(2024, 7, 10),
                "memphis.yaml",
                35,
            ),
            (
                "sites.memphis.grid",
                "8 MW",
                Kind.PUBLISHED,
                SOURCES[1],
                "",
                "",
                "",
                "",
                dt.date(2024, 6, 5),
                "memphis.yaml",
                98,
            ),
            (
                "hostile",
                HOSTILE,
                Kind.DERIVED,
                SOURCES[3],
                HOSTILE,
                "half of the printed figure",
                "",
                "",
                dt.date(2024, 1, 1),
                "",
                None,
            ),
            *(
                (
                    f"accelerators.h100-sxm.fact-{i}",
                    f"{i} GB/s",
                    Kind.DATASHEET,
                    SOURCES[1],
                    "",
                    "",
                    "",
                    "",
                    dt.date(2023, 3, 1),
                    "accelerators/h100-sxm.yaml",
                    i,
                )
                for i in range(60)
            ),
        )
    )
    ranged = Triangular(name="run.stages.pretraining.flop", low=2.85e26, mode=3.6e26, high=4.64e26)
    training = TrainingSpec(
        stages=(
            StageSpec(name="pretraining", kind="compute", step=step, flop=ranged),
            StageSpec(
                name="post-training",
                kind="calendar",
                duration_s=Triangular(name="post", low=30 * DAY_S, mode=42 * DAY_S, high=75 * DAY_S),
                share_used=0.3,
            ),
        ),
        ready_s=Triangular(name="run.ready", low=5 * DAY_S, mode=12 * DAY_S, high=41 * DAY_S),
        run_share=(ShareStep(from_s=0.0, share=Fixed(value=0.8)),),
        restarted_work=Fixed(value=0.05),
        execution=Fixed(value=0.95),
    )
    profile = FrameworkProfile(
        name="megatron-2024", gemm_slowdown=1.1, attention_slowdown=1.1, attention_backward_ratio=2.2, elementwise_slowdown=1.3, cast_slowdown=1.2, moe_slowdown=1.2,
        host_overhead_s=1e-4, tp_exposed=0.5, cp_exposed=0.3, ep_exposed=0.6, pp_exposed=0.5, dp_exposed=0.2, fsdp_exposed=0.3, jitter_per_doubling=0.004, residual_sigma=0.08,
    )  # fmt: skip
    return Scenario(
        name="Memphis, July 2024",
        question="Rent 24,000 or 100,000 H100 from Oracle, build 100,000 in Memphis, build new, or start rented and move?",
        as_of=AS_OF,
        deadline_s=None if deadline is None else _day(deadline),
        horizon_s=HORIZON_S,
        seed=0,
        num_replicates=n,
        price_year=2024,
        models=(ModelChoice(model=model, weight=3.0), ModelChoice(model=replace(model, name="grok-3-stand-in-large"), weight=1.0)),
        training=training,
        framework=profile,
        constraints=SearchConstraints(),
        failures=FailureSpec(per_accelerator_s=Fixed(value=5.5e-9), per_job_s=Fixed(value=1e-6)),
        recovery=RecoverySpec(detection_s=Fixed(value=300), restart_s=Fixed(value=600), restart_per_doubling_s=30, spread=0.5, spare_fraction=0.02, repair_s=Fixed(value=3 * DAY_S)),
        checkpoints=CheckpointSpec(interval_s=None, blocking_s=Fixed(value=20), save_s=Fixed(value=300)),
        options=options,
        observed=(ObservedSpec(what="note", text="Power for all 100,000 came on 1 May 2025.", at_s=_day("2025-05-01"), source="chamber"),),
        facts=facts,
        sources=SOURCES,
        rules=(
            RuleUsed(path="checkpoints.interval", value="the optimum of each size", rule="Daly's formula"),
            RuleUsed(path="recovery.spare_fraction", value="2 %", rule="catalog default"),
        ),
        path="examples/memphis-2024.yaml",
        text="makespan: 1\nname: Memphis, July 2024\n",
    )  # fmt: skip


def memphis_plan(
    n: int = 200, *, deadline: str | None = "2025-03-01", hostile: bool = False, version: str = "0.1.0"
) -> Plan:
    """The plan. `hostile` puts markup into every name and text that a scenario may hold."""
    rng = np.random.default_rng(7)
    flop = rng.triangular(2.85e26, 3.6e26, 4.64e26, n)
    ready, after = rng.triangular(5, 12, 41, n) * DAY_S, rng.triangular(30, 42, 75, n) * DAY_S
    common = (flop, ready, after)
    seen = (
        ObservedSpec(what="all_installed", text="100k training cluster online", at_s=_day("2024-09-02"), source="post"),
        ObservedSpec(
            what="powered",
            text="43 MW on 22 July, by satellite and permits",
            at_s=_day("2024-07-22"),
            value=27_000,
            source="chamber",
        ),
        ObservedSpec(what="all_powered", text="150 MW of grid power", at_s=_day("2025-05-01"), source="chamber"),
        ObservedSpec(what="pretraining", text="Pre-training finished", at_s=_day("2025-01-03"), source="release"),
        ObservedSpec(what="release", text="Grok 3 beta", at_s=_day("2025-02-17"), source="release"),
        ObservedSpec(what="note", text="200M GPU-hours, says the developer", source="release"),
    )
    oracle = _rent("oracle-24k", 24_000, 0, 0, rng, n)
    memphis = _build("memphis", "Memphis, Tennessee", 22, rng, n, 0.25)
    big = _rent("oracle-100k", 100_000, 240, 150, rng, n, odds=0.62)
    new = _build("greenfield", "A new site", 640, rng, n, 0.16)
    options = [
        _option("Stay at Oracle", "rent", [oracle], *common, 1, note="No decision needed."),
        _option("Rent 100,000 from Oracle", "rent", [big], *common, 2),
        _option(HOSTILE if hostile else "Build in Memphis", "build", [memphis], *common, 3, observed=seen),
        _option("Build new", "build", [new], *common, 4),
        _option("Start at Oracle, move to Memphis", "mix", [oracle, memphis], *common, 5),
        _option(
            "Two racks in the office",
            "rent",
            [_rent("office", 128, 30, 5, rng, n)],
            *common,
            6,
            reasons=("Office: none of 812 layouts fits (812 out_of_memory)",),
        ),
    ]
    main = options[2].option.name
    levers = tuple(
        Lever(option=main, name=name, low=low, high=high, early_s=early * DAY_S, late_s=late * DAY_S)
        for name, low, high, early, late in (
            ("run.stages.pretraining.flop", 3.02e26, 4.35e26, 292, 352),
            ("run.share", 0.67, 0.9, 340, 299),
            ("sites.memphis.power.grid.from", 110 * DAY_S, 190 * DAY_S, 305, 334),
            ("run.stages.post-training.duration", 35 * DAY_S, 66 * DAY_S, 307, 331),
            ("sites.memphis.install_rate", 1400 / DAY_S, 2900 / DAY_S, 322, 312),
        )
    )
    changes = (
        Change(option=main, text=f"{HOSTILE if hostile else 'Give the run'} 95 % of the cluster", probability=0.81, gained_probability=0.2, gained_s=21 * DAY_S, extra_cost_usd=35e6),
        Change(option=main, text="150 MW of grid power two months earlier", probability=0.74, gained_probability=0.13, gained_s=12 * DAY_S, extra_cost_usd=60e6),
        Change(option="Stay at Oracle", text="Rent 8,000 more", probability=0.01, gained_probability=0.0, gained_s=140 * DAY_S, extra_cost_usd=170e6),
    )  # fmt: skip
    scenario = _scenario(n, tuple(option.option for option in options), deadline)
    if hostile:
        scenario = replace(scenario, name=HOSTILE, question=HOSTILE, text=HOSTILE)
    return Plan(
        scenario=scenario,
        options=tuple(options),
        draws={"run.ready": ready},
        facts=scenario.facts,
        weakest=Kind.ASSUMED,
        levers=levers,
        changes=changes,
        version=version,
        timings_s={"supply": 0.8, "search": 1.1},
    )
