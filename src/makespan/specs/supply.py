"""Getting the accelerators: rent, build, or a mix; and the answer, a `CapacityTimeline`. Times in seconds after `as_of`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from makespan.specs.hardware import AcceleratorSpec, FabricSpec, NodeSpec
from makespan.uncertainty import Distribution, Fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

NEVER_S = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """From `from_s` on the offer holds `num_accelerators` in all (cumulative, not added)."""

    from_s: Distribution
    num_accelerators: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class RentSpec:
    """An offer of somebody else's accelerators.

    ramp : when how many are there, cumulative.
    largest_cluster : accelerators in one fabric, so in one job; None for all. [-]
    price_usd_per_accelerator_s : what is paid for reserved capacity. [USD/s]
    term_s : minimum term, from the first capacity. [s]
    take_or_pay : share of the price due for reserved capacity that is not used. [-]
    commitment_usd : a floor under the whole contract, if it names one. [USD]
    available_fraction : of the reserved accelerators that are healthy at a time (provider repairs). [-]
    delivery_probability : odds that the offer is delivered at all; otherwise it never is. [-]
    carbon_kg_per_j : of the provider's electricity; 0 where it is not stated. [kg/J]
    """

    name: str
    place: str
    accelerator: AcceleratorSpec
    node: NodeSpec
    fabric: FabricSpec
    ramp: tuple[RampStep, ...]
    price_usd_per_accelerator_s: Distribution
    largest_cluster: int | None = None
    term_s: float = 0.0
    take_or_pay: float = 1.0
    commitment_usd: float = 0.0
    available_fraction: Distribution = Fixed(value=1.0)
    delivery_probability: float = 1.0
    pue: Distribution = Fixed(value=1.3)
    carbon_kg_per_j: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivitySpec:
    """One piece of work. It starts when all of `after` have ended (plus `lag_s`) and not before `not_before_s`.

    cause : how a wait for it is reported: `construction`, `power`, `delivery`, `cooling`, `network`, `permit`, `contract`.
    """

    name: str
    duration_s: Distribution
    after: tuple[str, ...] = ()
    lag_s: float = 0.0
    not_before_s: Distribution | None = None
    cause: str = "construction"


@dataclass(frozen=True, slots=True, kw_only=True)
class HallSpec:
    """A hall, or a pod: the unit that is fitted out, burnt in and handed over.

    after : activities that must have ended before racks go in.
    """

    name: str
    num_accelerators: int
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLot:
    """Accelerators that arrive on one date (in working servers, at the door)."""

    at_s: Distribution
    num_accelerators: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSource:
    """Power at the facility meter from one source.

    kind : `grid`, `turbine`, `battery`, `fuel_cell`, `solar`.
    from_s, until_s : when it is there; activities named in `after` must have ended as well.
    capacity_w : of the source (kind `grid`) or of one unit (others). [W]
    num_units, num_redundant : units installed, and how many of them are spare (N+1 is 1). [-]
    availability : share of the units that run at a time, before the spares step in. [-]
    energy_price_usd_per_j, fixed_usd_per_s : what its energy and its presence cost. [USD/J], [USD/s]
    carbon_kg_per_j : [kg/J]
    firm : False for a source that bridges seconds or hours only (batteries): no capacity rests on it.
    """

    name: str
    kind: str
    capacity_w: Distribution
    from_s: Distribution
    until_s: Distribution | None = None
    after: tuple[str, ...] = ()
    num_units: int = 1
    num_redundant: int = 0
    availability: float = 1.0
    energy_price_usd_per_j: Distribution = Fixed(value=0.0)
    fixed_usd_per_s: Distribution = Fixed(value=0.0)
    carbon_kg_per_j: float = 0.0
    firm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCosts:
    """Money for a site of one's own. Prices of the scenario's price year.

    compute_usd_per_accelerator : servers, network and storage, delivered and installed.
    construction_usd_per_it_w : building, power distribution and cooling, per watt of IT at full size. [USD/W]
    extra_capex_usd : named lump sums (a substation, say). [USD]
    staff_usd_per_s, maintenance_fraction_per_s : staff; upkeep as a share of compute capital a second. [USD/s], [1/s]
    compute_life_s, construction_life_s : straight-line life. [s]
    residual_fraction : of compute capital at the end of its life. [-]
    discount_rate_per_s : cost of capital. [1/s]
    """

    compute_usd_per_accelerator: Distribution
    construction_usd_per_it_w: Distribution
    extra_capex_usd: Mapping[str, Distribution] = field(default_factory=dict)
    staff_usd_per_s: Distribution = Fixed(value=0.0)
    maintenance_fraction_per_s: Distribution = Fixed(value=0.0)
    compute_life_s: float
    construction_life_s: float
    residual_fraction: float = 0.0
    discount_rate_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """A site of one's own.

    halls : in the order they are fitted out.
    install_per_s : accelerators racked, cabled and powered on a second, over the whole site. [1/s]
    pod_size : accelerators that are handed over together (capacity appears pod by pod). [-]
    burn_in_s : from a pod installed to accepted. [s]
    first_pass_yield : share of a pod that passes at the first try; the rest follows after `repair_s`. [-]
    pue : facility over IT power. [-]
    starts_s : when the owner may begin (`as_of` or a decision date). [s]
    initial_accelerators : already on the floor at `as_of`. [-]
    """

    name: str
    place: str
    accelerator: AcceleratorSpec
    node: NodeSpec
    fabric: FabricSpec
    num_accelerators: int
    activities: tuple[ActivitySpec, ...]
    halls: tuple[HallSpec, ...]
    deliveries: tuple[DeliveryLot, ...]
    power: tuple[PowerSource, ...]
    install_per_s: Distribution
    pod_size: int
    burn_in_s: Distribution
    first_pass_yield: Distribution
    repair_s: Distribution
    pue: Distribution
    costs: BuildCosts
    largest_cluster: int | None = None
    starts_s: Distribution = Fixed(value=0.0)
    initial_accelerators: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSpec:
    """Leave the first pool for the next one once the next gives the run more speed.

    gain : how many times the speed the next pool must give before the move pays. [-]
    duration_s : weights, data and software moved, first step taken. [s]
    cost_usd : what is paid for the move itself: egress, people, carriers. [USD]
    """

    gain: float = 1.2
    duration_s: Distribution = Fixed(value=0.0)
    cost_usd: Distribution = Fixed(value=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSpec:
    """What then happened; printed beside the forecast, never an input. Dates ISO, `what` as in `result.json`."""

    what: str
    text: str
    at_s: float | None = None
    value: float | None = None
    source: str = ""
    identity: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One way of getting the compute. `pools` in the order they are used; more than one needs `move`."""

    name: str
    kind: str
    pools: tuple[RentSpec | BuildSpec, ...]
    move: MoveSpec | None = None
    observed: tuple[ObservedSpec, ...] = ()
    note: str = ""


CAUSES = (
    "none",
    "contract",
    "permit",
    "construction",
    "cooling",
    "network",
    "delivery",
    "installation",
    "commissioning",
    "power",
    "cluster_size",
)
"""What keeps usable accelerators below the option's target; codes in `CapacityTimeline.binding` index this tuple."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CapacityTimeline:
    """Accelerators by date in one pool: piecewise constant, one sample a replicate.

    All arrays have shape (replicates, segments). A segment runs from `start_s` to the next one's; the first starts at 0
    and the last never ends; unused segments start at `inf` and repeat the values before them.

    installed : racked and accepted.  powered : of those, with provisioned peak power behind them.
    usable : of those, in one job (largest cluster, provider's healthy share).
    power_limit_w : firm power at the facility meter; `inf` where it is somebody else's. [W]
    binding : why `usable` is below the target, as an index of `CAUSES`; 0 when it is not.
    """

    pool: str
    target: int
    start_s: FloatArray
    installed: FloatArray
    powered: FloatArray
    usable: FloatArray
    power_limit_w: FloatArray
    binding: IntArray

    def at(self, values: FloatArray, times_s: FloatArray) -> FloatArray:
        """Sample one of the arrays at times of shape (T,): shape (replicates, T)."""
        import numpy as np

        index = np.sum(self.start_s[:, :, None] <= times_s[None, None, :], axis=1) - 1
        return np.take_along_axis(values, np.maximum(index, 0), axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SupplyResult:
    """One pool's answer. Times are shape (replicates,), `inf` for never.

    milestones : named dates (activities, deliveries, halls) for the Gantt chart: name -> (start, end).
    criticality : share of replicates in which an activity, lot or source was on the path to the last accelerator powered.
    """

    timeline: CapacityTimeline
    first_usable_s: FloatArray
    all_installed_s: FloatArray
    all_powered_s: FloatArray
    milestones: Mapping[str, tuple[FloatArray, FloatArray]]
    criticality: Mapping[str, float]
    pue: FloatArray
