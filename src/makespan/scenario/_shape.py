"""The shape of a scenario file: every key, its type, its unit and its limits, once.

pydantic checks unknown keys, missing keys and plain types from here and writes the JSON Schema from here; the
resolver reads unit and limits of a field from the same line (`Quantity` in its annotation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import core_schema

from makespan.scenario._limits import FIRST_YEAR, LAST_YEAR, MOST, MOST_ACCELERATORS, MOST_LAYERS
from makespan.units import HOUR_S, QUANTITIES, YEAR_S

OPTION_KINDS = ("rent", "build", "mix")
DATE = "date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a field that holds a number or a date may be.

    kind : a key of `units.QUANTITIES`, or `date`.   or_kind : a second kind that is understood as well.
    low, high : plausible limits in SI, ends included; `positive` excludes 0.
    plain : one number without a range (the formulas take a plain number).   whole : a whole number.
    decision : the planner's own choice, so `strict` scenarios need no source for it.   never : the word is allowed.
    expect : the limits in words, where the SI figures are hard to read.
    """

    kind: str
    or_kind: str = ""
    low: float | None = None
    high: float | None = None
    positive: bool = False
    plain: bool = False
    whole: bool = False
    decision: bool = False
    never: bool = False
    expect: str = ""

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.expect:
            return self.expect
        if self.high is not None:
            return f"between {self.low if self.low is not None else 0:,g} and {self.high:,g}"
        return "more than 0" if self.positive else f"{self.low:,g} or more"

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        name = f"{'plain' if self.plain else 'sourced'}_{self.kind}"
        return {"x-ref": name if not self.or_kind else f"{name}_or_{self.or_kind}"}


def absent(**extra: Any) -> Any:
    """A field that may be left out. (An empty one, `price:`, is reported.)"""
    return Field(None, **extra)


Q = Quantity
Text = Annotated[str, Field(min_length=1)]
Names = list[Text]
Share = Annotated[Any, Q(kind="fraction", low=0.0, high=1.0)]
PlainShare = Annotated[Any, Q(kind="fraction", low=0.0, high=1.0, plain=True)]
OwnShare = Annotated[Any, Q(kind="fraction", low=0.0, high=1.0, plain=True, decision=True)]
Headroom = Annotated[Any, Q(kind="fraction", low=0.0, high=0.9, plain=True, decision=True)]
Duration = Annotated[Any, Q(kind="time", low=0.0)]
PlainDuration = Annotated[Any, Q(kind="time", low=0.0, plain=True)]
Life = Annotated[Any, Q(kind="time", positive=True, plain=True)]
Interval = Annotated[Any, Q(kind="time", positive=True, plain=True, decision=True)]
Horizon = Annotated[
    Any, Q(kind="time", positive=True, high=100 * YEAR_S, plain=True, decision=True, expect="up to 100 years")
]
_ACCELERATORS = f"between 1 and {MOST_ACCELERATORS:,}"
_MANY = f"at most {MOST:,}"
OwnCount = Annotated[Any, Q(kind="count", low=1, high=MOST_ACCELERATORS, decision=True, expect=_ACCELERATORS)]
Count = Annotated[Any, Q(kind="count", low=1, high=MOST_ACCELERATORS, plain=True, whole=True, expect=_ACCELERATORS)]
OwnWholeCount = Annotated[
    Any, Q(kind="count", low=1, high=MOST_ACCELERATORS, plain=True, whole=True, decision=True, expect=_ACCELERATORS)
]
Layers = Annotated[
    Any, Q(kind="count", low=1, high=MOST_LAYERS, plain=True, whole=True, decision=True, expect=f"1 to {MOST_LAYERS:,}")
]
Whole = Annotated[Any, Q(kind="count", low=1, high=MOST, plain=True, whole=True, expect=f"1 or more, {_MANY}")]
WholeOrNone = Annotated[Any, Q(kind="count", low=0, high=MOST, plain=True, whole=True, expect=f"0 or more, {_MANY}")]
OwnWhole = Annotated[
    Any, Q(kind="count", low=1, high=MOST, plain=True, whole=True, decision=True, expect=f"1 or more, {_MANY}")
]
Size = Annotated[
    Any, Q(kind="count", low=0, high=MOST, plain=True, whole=True, decision=True, expect=f"0 or more, {_MANY}")
]
Weight = Annotated[Any, Q(kind="factor", low=0.0, plain=True, decision=True)]
Gain = Annotated[Any, Q(kind="factor", low=1.0, high=100.0, plain=True, decision=True)]
Execution = Annotated[Any, Q(kind="factor", positive=True, high=1.5, expect="more than 0, at most 1.5")]
Spread = Annotated[Any, Q(kind="factor", low=0.0, high=10.0, plain=True)]
Pue = Annotated[Any, Q(kind="factor", low=1.0, high=5.0)]
Tokens = Annotated[Any, Q(kind="tokens", positive=True)]
Compute = Annotated[Any, Q(kind="flop", positive=True)]
Date = Annotated[Any, Q(kind=DATE)]
DateOrNever = Annotated[Any, Q(kind=DATE, never=True)]
OwnDate = Annotated[Any, Q(kind=DATE, decision=True)]
PlainDate = Annotated[Any, Q(kind=DATE, plain=True, decision=True)]
Money = Annotated[Any, Q(kind="money", low=0.0)]
PlainMoney = Annotated[Any, Q(kind="money", low=0.0, plain=True)]
MoneyRate = Annotated[Any, Q(kind="money_rate", low=0.0)]
Price = Annotated[Any, Q(kind="money_rate", low=0.0, high=1000 / HOUR_S, expect="between 0 and 1000 USD/h")]
FixedPrice = Annotated[Any, Q(kind="money_rate", or_kind="power_rent", low=0.0)]
EnergyPrice = Annotated[Any, Q(kind="energy_price", low=0.0)]
PowerPrice = Annotated[Any, Q(kind="power_price", low=0.0)]
Power = Annotated[Any, Q(kind="power", positive=True, high=1e11, expect="more than 0, at most 100 GW")]
Carbon = Annotated[Any, Q(kind="carbon_intensity", low=0.0, plain=True)]
Rate = Annotated[Any, Q(kind="rate", low=0.0)]
PositiveRate = Annotated[Any, Q(kind="rate", positive=True)]
PlainRate = Annotated[Any, Q(kind="rate", low=0.0, plain=True)]
FactKind = Literal["measured", "datasheet", "published", "derived", "quoted"]
Precision = Literal["bf16", "fp16", "fp8", "mxfp8", "nvfp4"]
PowerKind = Literal["grid", "turbine", "battery", "fuel_cell", "solar"]
Recomputing = Literal[
    "none", "selective", "full", "norm", "activation", "core_attention", "up_projection", "mlp", "experts"
]
ShardingStage = Literal["none", "zero1", "zero2", "zero3"]
PipelineSchedule = Literal["1f1b", "gpipe", "zero_bubble", "dualpipe"]
ContextExchange = Literal["ring", "all_to_all"]
RanksInOrder = Literal["tp-cp-dp-pp", "tp-cp-pp-dp", "tp-dp-cp-pp"]
Offloading = Literal["none", "optimizer", "activations"]
RecordedGraphs = Literal["none", "partial", "full"]
Cause = Literal[
    "contract", "permit", "construction", "cooling", "network", "delivery", "installation", "commissioning", "power"
]


class Shape(BaseModel):
    """Base: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    note: str = Field("", description="Free text for the reader; not used.")


class Provenance(Shape):
    """Where the numbers beside these keys come from, unless a number says so itself."""

    source: Text = Field("", description="A key of `sources`.")
    assumed: Text = Field("", description="Why this is assumed; no source was found.")
    decision: Text = Field("", description="The planner's own choice, and why.")
    how: Text = Field("", description="How the value follows from the source.")
    where: Text = Field("", description="Where in the source it stands.")
    known_on: PlainDate = absent(description="First day on which it could be known; default: the source's date.")


class ValueKeys(Provenance):
    """A number with its uncertainty and its source, beside other keys."""

    value: Any = absent(description="The value, or the mode where there is a range.")
    range: list[Any] = absent(min_length=2, max_length=2, description="[lowest, highest].")
    p10: Any = absent(description="One in ten is below.")
    p50: Any = absent(description="The median.")
    p90: Any = absent(description="One in ten is above.")
    values: list[Any] = absent(min_length=1, description="One of these values.")
    weights: list[Any] = absent(min_length=1, description="Weights of `values`; equal if left out.")
    kind: FactKind = absent(description="Kind of fact.")


class SourceShape(Shape):
    title: Text
    publisher: Text
    date: PlainDate
    url: str = ""
    accessed: PlainDate = absent()
    kind: FactKind = Field("published", description="Kind of the facts from here, unless a fact says otherwise.")


class MlaShape(Shape):
    kv_lora_rank: OwnWhole
    q_lora_rank: OwnWhole
    qk_nope_head_dim: OwnWhole
    qk_rope_head_dim: OwnWhole
    v_head_dim: OwnWhole


class MoeShape(Shape):
    num_experts: OwnWhole
    top_k: OwnWhole
    expert_ffn: OwnWhole
    shared_ffn: Size = 0
    num_dense_first_layers: Size = 0
    dense_residual_ffn: Size = 0
    latent: Size = 0
    every: OwnWhole = 1


class MambaShape(Shape):
    num_heads: OwnWhole
    head_dim: OwnWhole
    state: OwnWhole
    groups: OwnWhole
    conv: OwnWhole = 4


class ModelShape(Provenance):
    """A model: a name of the catalog, a Hugging Face config.json, or its sizes."""

    name: Text = Field("", description="A name of the catalog; with sizes, a name of your own.")
    hf: Text = Field("", description="Path of a Hugging Face config.json, relative to this file.")
    num_layers: Layers = absent()
    hidden: OwnWhole = absent()
    num_heads: OwnWhole = absent()
    num_kv_heads: OwnWhole = absent()
    head_dim: OwnWhole = absent()
    ffn_hidden: Size = absent()
    vocab: OwnWhole = absent()
    gated: bool = True
    tied_embeddings: bool = False
    mla: MlaShape = absent()
    moe: MoeShape = absent()
    window: OwnWhole = absent()
    global_every: OwnWhole = absent()
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    attention_sinks: bool = False
    router_bias: bool = False
    norm_parameters: OwnWhole = absent()
    norms_per_layer: OwnWhole = absent()
    learned_positions: Size = absent()
    mtp_layers: Size = absent()
    mtp_pattern: Text = Field("", description="Letters of one multi-token-prediction layer of a hybrid.")
    mtp_shared: bool = False
    pattern: Text = Field("", description="One letter a layer: M Mamba-2, * attention, - feed-forward, E mixture.")
    mamba: MambaShape = absent()


class CandidateShape(ModelShape):
    weight: Weight = Field(1, description="Odds against the other candidates.")


class CandidatesShape(Provenance):
    candidates: list[CandidateShape] = Field(min_length=1, description="One replicate trains one of them.")


def _text_or_mapping(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<mapping>" if isinstance(value, dict) else None


def _model_form(value: Any) -> str | None:
    if isinstance(value, dict) and "candidates" in value:
        return "<candidates>"
    return _text_or_mapping(value)


ModelField = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[ModelShape, Tag("<mapping>")]
    | Annotated[CandidatesShape, Tag("<candidates>")],
    Discriminator(_model_form),
]


class StageShape(Provenance):
    """One stage of the run: a budget (`tokens` or `compute`) or a `duration`."""

    name: Text
    tokens: Tokens = absent()
    compute: Compute = absent()
    duration: Duration = absent()
    seq_len: OwnWhole = absent()
    global_batch: Any = absent(description='"2048 sequences" or "16M tokens".')
    precision: Precision = absent()
    share_used: PlainShare = absent(description="Of the run's accelerators, in a stage with a duration.")


class ShareShape(ValueKeys):
    from_: OwnDate = absent(alias="from", description="Default: as_of.")
    share: Share = absent(description="Instead of `value`.")


def _list_or_value(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<value>"


class RunShape(Provenance):
    """The run: when it may start, how much of the accelerators it gets, and its stages."""

    ready: OwnDate = absent(description="Data and recipe are ready.")
    restarted_work: Share = absent(description="Share of pre-training spent again in attempts thrown away.")
    share: Annotated[
        Annotated[list[ShareShape], Tag("<list>")] | Annotated[Share, Tag("<value>")], Discriminator(_list_or_value)
    ] = absent(description="Share of the usable accelerators the run gets; a list with `from` for shares by date.")
    execution: Execution = absent(description="Productive speed over the tuned prediction.")
    min_accelerators: OwnWhole = absent(description="The run does not start on fewer.")
    stages: list[StageShape] = absent(min_length=1)
    tokens: Tokens = absent()
    compute: Compute = absent()
    seq_len: OwnWhole = absent()
    global_batch: Any = absent()
    precision: Precision = absent()


class RampShape(Provenance):
    date: Date
    count: OwnCount


class ObservedShape(Provenance):
    """What then happened: printed beside the forecast, never an input."""

    what: Text
    option: Text = Field("", description="Name of an option; left out: the whole scenario.")
    text: Text = ""
    date: PlainDate = absent()
    value: Any = absent()
    identity: bool = Field(False, description="Derived from the outcome: not a forecast to be scored.")


class PoolKeys(Provenance):
    """Rented accelerators, whether as an option, a pool of a mix, or the short form `cluster`."""

    offer: Text = Field("", description="An offer of the catalog.")
    place: Text = ""
    accelerator: Text = ""
    node: Text = ""
    fabric: Text = ""
    count: OwnCount = absent()
    from_: OwnDate = absent(alias="from", description="All `count` are there; for steps use `ramp`.")
    ramp: list[RampShape] = absent(min_length=1, description="How many in all, from when.")
    price: Price = absent(description="Per accelerator and time, such as 2.50 USD/h.")
    largest_cluster: Count = absent(description="Accelerators that one job may use.")
    term: PlainDuration = absent(description="Shortest contract, from the first capacity.")
    take_or_pay: PlainShare = absent(description="Share of the price due for capacity that is not used.")
    commitment: PlainMoney = absent(description="Floor under the whole contract.")
    available: Share = absent(description="Share of the accelerators that is healthy at a time.")
    delivery_probability: PlainShare = absent(description="Odds that the offer is delivered at all.")
    pue: Pue = absent()
    carbon: Carbon = absent()


class ClusterShape(PoolKeys):
    name: Text = ""


class MixPoolShape(PoolKeys):
    name: Text = ""
    option: Text = Field("", description="Name of a rent or build option: its pool.")
    site: Text = Field("", description="A key of `sites`.")


class MoveShape(Provenance):
    gain: Gain = absent(description="Times the speed the next pool must give.")
    duration: Duration = absent()
    cost: Money = absent()


class OptionKeys(Shape):
    name: Text
    observed: list[ObservedShape] = absent()


class RentShape(OptionKeys, PoolKeys):
    kind: Literal["rent"]


class ActivityShape(Provenance):
    name: Text
    duration: Duration = absent()
    done: Date = absent(description="It ended (or is promised) on this date; instead of `duration`.")
    after: Names = absent(description="Activities that must have ended.")
    lag: PlainDuration = absent()
    not_before: Date = absent()
    cause: Cause = absent(description="How a wait for it is reported.")


class HallShape(Provenance):
    name: Text
    count: Count
    after: Names = absent()


class DeliveryShape(Provenance):
    date: Date
    count: Count


class PowerShape(Provenance):
    name: Text
    kind: PowerKind
    capacity: Power = Field(description="Of the source (grid) or of one unit.")
    from_: Date = absent(alias="from", description="Default: as_of.")
    until: DateOrNever = absent()
    after: Names = absent()
    units: Whole = absent()
    spare_units: WholeOrNone = absent()
    availability: PlainShare = absent()
    energy_price: EnergyPrice = absent()
    fixed: FixedPrice = absent(
        description='Per installed capacity and time, "46 kUSD/MW/month", or in all, "40 MUSD/year".'
    )
    carbon: Carbon = absent()
    firm: bool = absent(description="Capacity may rest on it; default: all but batteries.")


class CostsShape(Provenance):
    compute_per_accelerator: Money = absent(description="Servers, network, storage, installed.")
    construction_per_it_power: PowerPrice = absent()
    extra: dict[str, Money] = absent()
    staff: MoneyRate = absent()
    maintenance: Rate = absent(description="Share of compute capital a year: 3 %/year.")
    compute_life: Life = absent()
    construction_life: Life = absent()
    residual: PlainShare = absent()
    discount_rate: PlainRate = absent()


class SiteShape(Provenance):
    """A site of one's own."""

    place: Text = ""
    accelerator: Text
    count: OwnWholeCount
    node: Text = ""
    fabric: Text = ""
    starts: OwnDate = absent(description="Work may begin; default: as_of. Dates before as_of are history.")
    activities: list[ActivityShape] = absent()
    halls: list[HallShape] = absent(min_length=1)
    deliveries: list[DeliveryShape] = Field(min_length=1)
    install_rate: PositiveRate = absent(description="Accelerators a day over the whole site: 2000/d.")
    pod: OwnWhole = absent(description="Accelerators handed over together.")
    burn_in: Duration = absent()
    first_pass_yield: Share = absent()
    repair: Duration = absent()
    pue: Pue = absent()
    largest_cluster: Count = absent()
    power: list[PowerShape] = Field(min_length=1)
    energy_price: EnergyPrice = absent(description="Of sources that name none.")
    carbon: Carbon = absent(description="Of sources that name none.")
    costs: CostsShape = absent()


class BuildShape(OptionKeys, Provenance):
    kind: Literal["build"]
    site: Text = Field(description="A key of `sites`.")


class MixShape(OptionKeys, Provenance):
    kind: Literal["mix"]
    pools: list[MixPoolShape] = Field(min_length=2, description="In the order they are used.")
    move: MoveShape = absent()


class AnyOptionShape(OptionKeys):
    """An option whose kind is missing or unknown: only that is reported."""

    model_config = ConfigDict(extra="ignore", strict=True, defer_build=True)
    kind: Literal["rent", "build", "mix"]


def _option_form(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("kind")
    return f"<{kind}>" if kind in OPTION_KINDS else "<option>"


OptionField = Annotated[
    Annotated[RentShape, Tag("<rent>")]
    | Annotated[BuildShape, Tag("<build>")]
    | Annotated[MixShape, Tag("<mix>")]
    | Annotated[AnyOptionShape, Tag("<option>")],
    Discriminator(_option_form),
]


class FailuresShape(Provenance):
    per_accelerator: Rate = absent(description="Failures of one accelerator and its share of the rest: 1.2e-4/d.")
    per_job: Rate = absent(description="Failures that do not grow with size.")


class RecoveryShape(Provenance):
    detection: Duration = absent()
    restart: Duration = absent()
    restart_per_doubling: PlainDuration = absent()
    spread: Spread = absent()
    spare_fraction: PlainShare = absent()
    repair: Duration = absent()


class CheckpointsShape(Provenance):
    interval: Interval = absent(description='A duration, or "optimal".')
    blocking: Duration = absent()
    save: Duration = absent()


class LayoutShape(Shape):
    """What the search of layouts may not change."""

    tp: OwnWhole = absent()
    pp: OwnWhole = absent()
    cp: OwnWhole = absent()
    ep: OwnWhole = absent()
    etp: OwnWhole = absent(description="Tensor parallelism inside an expert.")
    vpp: OwnWhole = absent()
    dp: OwnWhole = absent()
    micro_batch: OwnWhole = absent()
    recompute: Recomputing = absent()
    sharding: ShardingStage = absent()
    shard_size: Size = absent(description="Ranks that zero3 shards over; 0 for all.")
    schedule: PipelineSchedule = absent()
    cp_kind: ContextExchange = absent()
    order: RanksInOrder = absent(description="Of the ranks on the fabric, innermost first.")
    offload: Offloading = absent()
    cuda_graphs: RecordedGraphs = absent()
    ep_overlap: bool = absent()
    min_used_fraction: OwnShare = absent()
    memory_headroom: Headroom = absent()


class ScenarioShape(Shape):
    """A makespan scenario: when will the model be trained, and what does each way of getting the compute cost?"""

    makespan: int = Field(description="Version of this format: 1.")
    name: Text = ""
    question: Text = ""
    as_of: PlainDate = Field(description="The day the plan is made: nothing learnt later may go in.")
    horizon: Horizon = absent(description="Runs not done by then never finish.")
    deadline: PlainDate = absent(description="The date that is asked about.")
    price_year: int = absent(ge=FIRST_YEAR, le=LAST_YEAR)
    seed: int = absent(ge=0, lt=2**63)
    replicates: int = absent(ge=1, le=1_000_000)
    strict: bool = Field(False, description="Every number needs a source, or to be marked as assumed or as a decision.")
    sources: dict[str, SourceShape] = absent()
    model: ModelField
    run: RunShape = absent()
    tokens: Tokens = absent(description="Short for run: {tokens: ...}.")
    compute: Compute = absent(description="Short for run: {compute: ...}.")
    framework: Text = ""
    cluster: ClusterShape = absent(description="Short for one rented option.")
    options: list[OptionField] = absent(min_length=1)
    sites: dict[str, SiteShape] = absent()
    failures: FailuresShape = absent()
    recovery: RecoveryShape = absent()
    checkpoints: CheckpointsShape = absent()
    layout: LayoutShape = absent()
    observed: list[ObservedShape] = absent()


@cache
def fields_of(shape: type[BaseModel]) -> dict[str, Quantity | None]:
    """Key as written in the file -> its quantity; None for keys that hold text, lists or mappings."""
    found: dict[str, Quantity | None] = {}
    for name, info in shape.model_fields.items():
        metadata = [*info.metadata, *(m for form in get_args(info.annotation) for m in get_args(form)[1:])]
        quantity = next((m for m in metadata if isinstance(m, Quantity)), None)
        found[info.alias or name] = quantity
    return found


def quantity_noun(quantity: Quantity) -> tuple[str, str]:
    """What is expected, and an example of it."""
    if quantity.kind == DATE:
        return "an ISO date" + (' or "never"' if quantity.never else ""), "2027-03-01"
    kind = QUANTITIES[quantity.kind]
    return kind.noun, kind.example
