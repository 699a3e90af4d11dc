"""Array supply against a plain one: one replicate, one pod, one moment at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from makespan.specs.hardware import AcceleratorSpec, AttentionEfficiency, FabricSpec, KernelSpec, NodeSpec
from makespan.specs.supply import (
    CAUSES,
    ActivitySpec,
    BuildCosts,
    BuildSpec,
    DeliveryLot,
    HallSpec,
    PowerSource,
    RampStep,
    RentSpec,
)
from makespan.supply import supply
from makespan.supply.install import handover_groups, pods_of
from makespan.uncertainty import Discrete, Distribution, Fixed, Streams, Triangular, Uniform

DAY_S = 86400.0
ACCELERATOR = AcceleratorSpec(
    name="a",
    family="f",
    vendor="v",
    peak_flop_per_s={"bf16": 1e15},
    hbm_bytes=8e10,
    hbm_bytes_per_s=3e12,
    scale_up_domain_size=8,
    scale_up_bytes_per_s=4.5e11,
    scale_out_bytes_per_s=5e10,
    idle_w=70.0,
    tdp_w=700.0,
    kernels=KernelSpec(gemm={}, attention=AttentionEfficiency(flop_utilisation=0.5), elementwise_hbm_utilisation=0.8),
)
NODE = NodeSpec(
    name="n",
    accelerator="a",
    accelerators_per_node=8,
    nameplate_w=14e3,
    provisioned_peak_w=9.6e3,
    mean_training_w=8e3,
    idle_w=2e3,
    network_storage_w=0.8e3,
)
FABRIC = FabricSpec(name="f", tiers=())
COSTS = BuildCosts(
    compute_usd_per_accelerator=Fixed(value=1.0),
    construction_usd_per_it_w=Fixed(value=1.0),
    compute_life_s=1.0,
    construction_life_s=1.0,
)


# --- the plain version -------------------------------------------------------------------------------------------


@dataclass
class Draws:
    """One replicate's view of the streams, under the names that `docs/explain/supply.md` lists."""

    site: str
    streams: Streams
    replicate: int

    def __call__(self, distribution: Distribution, name: str) -> float:
        return float(self.streams.draw(distribution, f"supply/{self.site}/{name}")[self.replicate])


@dataclass
class Site:
    """A built site in one replicate, with a question for every column of the timeline."""

    build: BuildSpec
    draw: Draws
    start: dict[str, float] = field(default_factory=dict)
    end: dict[str, float] = field(default_factory=dict)
    driver: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.owner = self.draw(self.build.starts_s, "site/starts")
        for activity in self.build.activities:
            self.plan(activity)
        self.lots = sorted(
            (self.draw(lot.at_s, f"delivery/{n + 1}"), n, lot.num_accelerators)
            for n, lot in enumerate(self.build.deliveries)
        )
        self.install()
        self.pue = self.draw(self.build.pue, "site/pue")
        self.sources = []
        for source in self.build.power:
            begin = self.draw(source.from_s, f"power/{source.name}/from")
            begin = max([begin, *(self.end[name] for name in source.after)])
            until = math.inf if source.until_s is None else self.draw(source.until_s, f"power/{source.name}/until")
            capacity = self.draw(source.capacity_w, f"power/{source.name}/capacity")
            if not source.firm:
                capacity = 0.0
            elif source.kind != "grid":
                running = source.num_units * source.availability
                capacity *= min(running, source.num_units - source.num_redundant)
            self.sources.append((begin, until, capacity))

    def plan(self, activity: ActivitySpec) -> None:
        if activity.name in self.end:
            return
        by_name = {other.name: other for other in self.build.activities}
        for name in activity.after:
            self.plan(by_name[name])
        begin, driver = self.owner, None
        for name in activity.after:
            if self.end[name] + activity.lag_s > begin:
                begin, driver = self.end[name] + activity.lag_s, name
        date = activity.not_before_s
        if date is not None and self.draw(date, f"{activity.name}/not before") > begin:
            begin, driver = self.draw(date, f"{activity.name}/not before"), None
        finish = begin + self.draw(activity.duration_s, activity.name)
        if isinstance(date, Fixed) and date.value < 0 and activity.duration_s == Fixed(value=0.0):
            begin, finish, driver = date.value, date.value, None
        self.start[activity.name], self.end[activity.name], self.driver[activity.name] = begin, finish, driver

    def arrival(self, needed: int) -> tuple[float, int | None]:
        if not self.lots:
            return -math.inf, None
        count = 0
        for date, lot, size in self.lots:
            count += size
            if count >= needed:
                return date, lot
        return math.inf, None

    def install(self) -> None:
        build = self.build
        rate = self.draw(build.install_per_s, "site/install rate")
        burn_in = self.draw(build.burn_in_s, "site/burn-in")
        share = self.draw(build.first_pass_yield, "site/first-pass yield")
        repair = self.draw(build.repair_s, "site/repair")
        self.pods: list[dict] = []
        standing, room, needed, crew = build.initial_accelerators, build.num_accelerators, 0, -math.inf
        for hall in build.halls:
            space = min(hall.num_accelerators, room)
            room -= space
            present = min(standing, space)
            standing -= present
            space -= present
            ready_hall = max((self.end[name] for name in hall.after), default=-math.inf)
            while space > 0:
                size = min(build.pod_size, space)
                space -= size
                needed += size
                arrival, lot = self.arrival(needed)
                ready = max(ready_hall, arrival, self.owner)
                start = max(crew, ready)
                idle, crew = crew < ready, start + size / rate
                good = math.floor(size * share + 1e-9)
                accepted = [(crew + burn_in, good), (crew + burn_in + repair, size - good)]
                self.pods.append(
                    {"hall": hall, "ready_hall": ready_hall, "arrival": arrival, "lot": lot, "start": start}
                    | {"finish": crew, "idle": idle, "accepted": accepted, "size": size}
                )
        self.room_for_all = sum(pod["size"] for pod in self.pods) + build.initial_accelerators >= build.num_accelerators

    def installed(self, t: float) -> int:
        return self.build.initial_accelerators + sum(n for pod in self.pods for date, n in pod["accepted"] if date <= t)

    def firm_w(self, t: float) -> float:
        return sum(w for begin, until, w in self.sources if begin <= t < until)

    def powered(self, t: float) -> int:
        per_accelerator = self.pue * (NODE.provisioned_peak_w + NODE.network_storage_w) / 8
        return min(self.installed(t), math.floor(self.firm_w(t) / per_accelerator + 1e-6))

    def usable(self, t: float) -> int:
        return min(self.powered(t), self.build.largest_cluster or self.build.num_accelerators)

    def cause(self, t: float) -> str:
        if self.usable(t) >= self.build.num_accelerators:
            return "none"
        if self.build.largest_cluster and self.powered(t) >= self.build.largest_cluster:
            return "cluster_size"
        if self.powered(t) < self.installed(t):
            return "power"
        for pod in self.pods:
            if pod["accepted"][0][0] > t:
                return self.wait(pod, t)
        last = [date for date, n in self.pods[-1]["accepted"] if n > 0] if self.pods else []
        return "commissioning" if any(date > t for date in last) else "construction"

    def wait(self, pod: dict, t: float) -> str:
        if not pod["idle"] or pod["start"] <= t < pod["finish"]:
            return "installation"
        if t >= pod["finish"]:
            return "commissioning"
        if pod["ready_hall"] >= max(pod["arrival"], self.owner):
            name = max(pod["hall"].after, key=lambda name: (self.end[name], -self.place(name)))
            while self.driver[name] is not None and t < self.end[self.driver[name]]:
                name = self.driver[name]
            return {activity.name: activity.cause for activity in self.build.activities}[name]
        return "delivery" if pod["arrival"] >= self.owner else "contract"

    def place(self, name: str) -> int:
        return [activity.name for activity in self.build.activities].index(name)

    def dates(self) -> set[float]:
        dates = {0.0, *self.end.values(), self.owner, *(date for date, _, _ in self.lots)}
        dates |= {date for begin, until, _ in self.sources for date in (begin, until)}
        for pod in self.pods:
            dates |= {pod["start"], pod["finish"], *(date for date, _ in pod["accepted"])}
        return {date for date in dates if 0 <= date < math.inf}

    def first(self, reached) -> float:
        return next((date for date in sorted(self.dates()) if reached(date)), math.inf)

    def three_dates(self, horizon_s: float) -> list[float]:
        """First usable, all installed, all powered; never, if not before the horizon."""
        target = self.build.num_accelerators
        pod = min(self.build.pod_size, target, self.build.largest_cluster or target)
        dates = [
            self.first(lambda t: self.usable(t) >= pod),
            self.first(lambda t: self.installed(t) >= target),
            self.first(lambda t: self.powered(t) >= target),
        ]
        return [date if date < horizon_s else math.inf for date in dates]

    def path(self, horizon_s: float) -> set[str]:
        """Names of what the last accelerator waited for."""
        _, installed, powered = self.three_dates(horizon_s)
        on_path: set[str] = set()
        if powered > installed:
            for source, (begin, _, firm) in zip(self.build.power, self.sources, strict=True):
                if firm > 0 and (begin == powered if powered < math.inf else begin >= horizon_s):
                    on_path.add(f"power: {source.name}")
                    if source.after and max(self.end[name] for name in source.after) == begin:
                        on_path |= self.chain(source.after)
        elif self.pods and self.room_for_all:
            first = max(n for n, pod in enumerate(self.pods) if pod["idle"])
            pod = self.pods[first]
            if self.pods[-1]["finish"] < math.inf:
                on_path |= {f"hall {later['hall'].name}: installation" for later in self.pods[first:]}
                on_path.add(f"hall {self.pods[-1]['hall'].name}: commissioning")
            if pod["ready_hall"] >= max(pod["arrival"], self.owner):
                on_path |= self.chain(pod["hall"].after)
            elif pod["arrival"] >= self.owner and pod["lot"] is not None:
                size = self.build.deliveries[pod["lot"]].num_accelerators
                on_path.add(f"delivery {pod['lot'] + 1}: {size:,}")
        return on_path

    def chain(self, after: tuple[str, ...]) -> set[str]:
        if not after:
            return set()
        name: str | None = max(after, key=lambda name: (self.end[name], -self.place(name)))
        names = set()
        while name is not None:
            names.add(name)
            name = self.driver[name]
        return names


# --- random sites ------------------------------------------------------------------------------------------------


def random_site(seed: int) -> BuildSpec:
    """A small site with every feature somewhere: history, lags, fixed dates, overtaking lots, too little of things."""
    rng = np.random.default_rng(seed)

    def time(low: float, high: float) -> Distribution:
        a, b, c = sorted(rng.uniform(low, high, 3) * DAY_S)
        kind = rng.integers(0, 3)
        if kind == 0:
            return Fixed(value=float(b))
        return (
            Uniform(low=float(a), high=float(c))
            if kind == 1
            else Triangular(low=float(a), mode=float(b), high=float(c))
        )

    causes = CAUSES[1:7]
    activities: list[ActivitySpec] = [
        ActivitySpec(name="bought", duration_s=Fixed(value=0.0), not_before_s=Fixed(value=-5 * DAY_S))
    ]
    for index in range(rng.integers(1, 8)):
        earlier = [activity.name for activity in activities]
        after = tuple(rng.choice(earlier, size=min(len(earlier), rng.integers(0, 3)), replace=False).tolist())
        never = Discrete(values=(20 * DAY_S, math.inf), weights=(0.9, 0.1))
        activities.append(
            ActivitySpec(
                name=f"work {index}",
                duration_s=never if rng.random() < 0.03 else time(1, 15),
                after=after,
                lag_s=float(rng.choice([0.0, 2 * DAY_S])),
                not_before_s=time(-5, 20) if rng.random() < 0.3 else None,
                cause=str(rng.choice(causes)),
            )
        )
    names = [activity.name for activity in activities]

    def some(most: int) -> tuple[str, ...]:
        return tuple(rng.choice(names, size=min(len(names), rng.integers(0, most + 1)), replace=False).tolist())

    num = int(rng.integers(600, 3000))
    num_halls = int(rng.integers(1, 5))
    sizes = np.diff([0, *sorted(rng.choice(np.arange(1, num), num_halls - 1, replace=False)), num])
    if rng.random() < 0.1:
        sizes[-1] = max(sizes[-1] - 50, 1)
    lots = np.diff(
        [0, *sorted(rng.choice(np.arange(1, num), 3, replace=False)), num + (-20 if rng.random() < 0.1 else 5)]
    )
    watts = num * 1300 * 1.3
    order = rng.permutation(len(activities))
    return BuildSpec(
        name=f"site {seed}",
        place="x",
        accelerator=ACCELERATOR,
        node=NODE,
        fabric=FABRIC,
        num_accelerators=num,
        activities=tuple(activities[index] for index in (sorted(order) if seed % 2 else order)),
        halls=tuple(HallSpec(name=f"H{n}", num_accelerators=int(size), after=some(2)) for n, size in enumerate(sizes)),
        deliveries=()
        if rng.random() < 0.1
        else tuple(DeliveryLot(at_s=time(-3, 60), num_accelerators=int(size)) for size in lots),
        power=(
            PowerSource(name="feeder", kind="grid", capacity_w=Fixed(value=watts * 0.3), from_s=Fixed(value=0.0))
            if rng.random() < 0.5
            else PowerSource(
                name="feeder",
                kind="grid",
                capacity_w=Uniform(low=watts * 0.2, high=watts * 0.4),
                from_s=time(-10, 10),
                until_s=time(15, 60),
            ),
            PowerSource(
                name="turbines",
                kind="turbine",
                capacity_w=Fixed(value=watts * 0.1),
                from_s=time(0, 40),
                after=some(1),
                num_units=6,
                num_redundant=int(rng.integers(0, 3)),
                availability=float(rng.choice([1.0, 0.9])),
            ),
            PowerSource(
                name="new line", kind="grid", capacity_w=Fixed(value=watts), from_s=time(5, 120), after=some(2)
            ),
            PowerSource(name="packs", kind="battery", capacity_w=Fixed(value=watts), from_s=time(0, 5), firm=False),
        ),
        install_per_s=Uniform(low=40 / DAY_S, high=200 / DAY_S),
        pod_size=int(rng.choice([64, 100, 250])),
        burn_in_s=Fixed(value=0.0) if rng.random() < 0.2 else time(1, 6),
        first_pass_yield=Fixed(value=1.0) if rng.random() < 0.2 else Uniform(low=0.7, high=1.0),
        repair_s=time(2, 12),
        pue=Uniform(low=1.2, high=1.4),
        costs=COSTS,
        largest_cluster=None if rng.random() < 0.7 else num // 2,
        starts_s=Fixed(value=-20 * DAY_S) if rng.random() < 0.5 else time(-2, 8),
        initial_accelerators=int(rng.choice([0, 0, 130])),
    )


NUM_REPLICATES = 8
HORIZON_S = 150 * DAY_S


@pytest.mark.parametrize("seed", range(60))
def test_every_moment_of_a_random_site_equals_the_plain_version(seed):
    """Counts, power and cause between any two dates, the three dates, and the path to the last accelerator."""
    build = random_site(seed)
    streams = Streams(seed=seed, num_replicates=NUM_REPLICATES)
    answer = supply(build, streams, horizon_s=HORIZON_S)
    line = answer.timeline
    shares = dict.fromkeys(answer.criticality, 0)
    for r in range(NUM_REPLICATES):
        site = Site(build=build, draw=Draws(build.name, streams, r))
        dates = np.array(sorted(date for date in site.dates() if date < HORIZON_S))
        gaps = np.diff(np.append(dates, HORIZON_S))
        moments = (dates + gaps / 2)[gaps > 1.0]
        found = {
            name: line.at(getattr(line, name), moments)[r] for name in ("installed", "powered", "usable", "binding")
        }
        assert found["installed"].tolist() == [site.installed(t) for t in moments]
        assert found["powered"].tolist() == [site.powered(t) for t in moments]
        assert found["usable"].tolist() == [site.usable(t) for t in moments]
        assert [CAUSES[code] for code in found["binding"]] == [site.cause(t) for t in moments]
        assert_allclose(line.at(line.power_limit_w, moments)[r], [site.firm_w(t) for t in moments], rtol=1e-12)

        found_dates = [answer.first_usable_s[r], answer.all_installed_s[r], answer.all_powered_s[r]]
        assert_allclose(found_dates, site.three_dates(HORIZON_S), rtol=1e-9, atol=1e-3)
        for name in site.path(HORIZON_S):
            shares[name] += 1
        for name in site.end:
            assert answer.milestones[name][0][r] == pytest.approx(site.start[name])
            assert answer.milestones[name][1][r] == pytest.approx(site.end[name])
    assert answer.criticality == pytest.approx({name: n / NUM_REPLICATES for name, n in shares.items()})


def test_the_random_sites_reach_every_cause_and_every_kind_of_item():
    """The comparison above is worth something only if its sites differ enough."""
    causes, critical, never = set(), set(), 0
    for seed in range(60):
        answer = supply(random_site(seed), Streams(seed=seed, num_replicates=NUM_REPLICATES), horizon_s=HORIZON_S)
        live = np.isfinite(answer.timeline.start_s)
        causes |= {CAUSES[code] for code in np.unique(answer.timeline.binding[live])}
        critical |= {name.split(" ")[0] for name, share in answer.criticality.items() if share > 0}
        never += int(np.isinf(answer.all_powered_s).sum())

    assert causes == set(CAUSES)
    assert {"power:", "hall", "delivery", "work"} <= critical
    assert never > 0


def test_groups_of_pods_are_late_by_less_than_their_own_installation():
    """With more pods than handovers, counts lag the pod-by-pod ones by a bounded time and end equal."""
    build = replace(
        random_site(3), num_accelerators=3000, pod_size=10, initial_accelerators=0, first_pass_yield=Fixed(value=1.0)
    )
    build = replace(
        build,
        halls=(HallSpec(name="A", num_accelerators=1700), HallSpec(name="B", num_accelerators=1300)),
        deliveries=(DeliveryLot(at_s=Fixed(value=3 * DAY_S), num_accelerators=3000),),
    )
    streams = Streams(seed=1, num_replicates=4)
    line = supply(build, streams, horizon_s=HORIZON_S).timeline
    pods = pods_of(build)
    groups = handover_groups(pods, 100)
    per_group = int(np.max(np.diff(groups)))
    assert (len(pods.size), per_group) == (300, 3)
    for r in range(4):
        site = Site(build=build, draw=Draws(build.name, streams, r))
        late_s = (per_group - 1) * build.pod_size / site.draw(build.install_per_s, "site/install rate")
        moments = np.linspace(0, 100 * DAY_S, 400)
        found = line.at(line.installed, moments)[r]
        assert all(n <= site.installed(t + 1e-3) for n, t in zip(found, moments, strict=True))
        assert all(n >= site.installed(t - late_s - 1e-3) for n, t in zip(found, moments, strict=True))
        assert found[-1] == 3000


@pytest.mark.parametrize("seed", range(20))
def test_rented_capacity_equals_the_plain_version(seed):
    rng = np.random.default_rng(seed)
    offer = RentSpec(
        name="o",
        place="x",
        accelerator=ACCELERATOR,
        node=NODE,
        fabric=FABRIC,
        ramp=tuple(
            RampStep(
                from_s=Uniform(low=-DAY_S, high=float(rng.uniform(1, 60)) * DAY_S),
                num_accelerators=Triangular(low=500.0 * n, mode=900.0 * n, high=1000.0 * n),
            )
            for n in range(1, 4)
        ),
        price_usd_per_accelerator_s=Fixed(value=1.0),
        largest_cluster=int(rng.choice([1500, 10_000])),
        available_fraction=Uniform(low=0.9, high=1.0),
        delivery_probability=0.7,
    )
    streams = Streams(seed=seed, num_replicates=20)
    answer = supply(offer, streams, horizon_s=HORIZON_S)
    delivered = streams.draw(Discrete(values=(1.0, 0.0), weights=(0.7, 0.3)), "supply/o/delivered")
    moments = np.linspace(0, 70 * DAY_S, 300)
    found = {name: answer.timeline.at(getattr(answer.timeline, name), moments) for name in ("installed", "usable")}
    for r in range(20):
        draw = Draws("o", streams, r)
        steps = [
            (draw(step.from_s, f"ramp/{n}/date"), math.floor(draw(step.num_accelerators, f"ramp/{n}/count")))
            for n, step in enumerate(offer.ramp, start=1)
        ]
        healthy = draw(offer.available_fraction, "site/available fraction")
        for index, t in enumerate(moments):
            held = max((count for date, count in steps if date <= t and delivered[r]), default=0)
            assert found["installed"][r, index] == held
            assert found["usable"][r, index] == min(math.ceil(held * healthy - 1e-9), offer.largest_cluster)
        most = max(count for _, count in steps)
        complete = max(min(date for date, count in steps if count == most), 0.0) if delivered[r] else math.inf
        assert answer.all_powered_s[r] == complete
