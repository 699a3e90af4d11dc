"""What a search is told to keep, held against the model, the cluster and itself, before anything is searched.

Only what no choice of the open dimensions could mend is reported. Each rule is one small generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from makespan.errors import Problem
from makespan.scenario._layout_words import fixed_words, layout_value
from makespan.specs.layout import ContextKind, Offload, Schedule, Sharding

if TYPE_CHECKING:
    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.search import SearchConstraints
    from makespan.specs.training import StepConfig

Finding = tuple[str, str, str]
"""What was found, what was expected, the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """fixed : values of the fixed fields of `Layout`.   words : the same as the user writes them."""

    model: ModelSpec
    config: StepConfig
    cluster: ClusterSpec
    profile: FrameworkProfile
    fixed: dict[str, Any]
    words: dict[str, str]

    def size(self, key: str) -> int:
        """A fixed size; 1, the least, where it is open."""
        return int(self.fixed.get(key, 1))

    def said(self, *keys: str) -> str:
        """The fixed ones of these keys, as the user wrote them."""
        return ",".join(f"{key}={self.words[key]}" for key in keys if key in self.words)


def contradictions(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    *,
    where: str = "--fix",
) -> tuple[Problem, ...]:
    """Fixed dimensions that cannot hold, alone or together, whatever the open ones are.

    Parameters
    ----------
    where : the option or section that fixed them.

    Returns
    -------
    Empty where the search has something to look at; then it may still find that nothing fits.
    """
    words = fixed_words(constraints)
    fixed = {key: layout_value(key, getattr(constraints, key)) for key in words}
    case = _Case(model=model, config=config, cluster=cluster, profile=profile, fixed=fixed, words=words)
    found = (finding for rule in _RULES for finding in rule(case))
    return tuple(
        Problem(code="MS210", where=where, found=what, expected=expected, fix=fix) for what, expected, fix in found
    )


def _divisors(number: int, most: int) -> str:
    """The divisors of a number, as a choice."""
    found = [d for d in range(1, min(number, most) + 1) if number % d == 0]
    return ", ".join(map(str, found[:16])) + (", ..." if len(found) > 16 else "")


def _domain(case: _Case) -> int:
    return int(min(case.cluster.accelerator.scale_up_domain_size, case.cluster.fabric.tiers[0].size))


def _tensor(case: _Case) -> Iterator[Finding]:
    tp, model, domain = case.size("tp"), case.model, _domain(case)
    if tp > domain:
        expected = f"tp inside the scale-up domain of {case.cluster.accelerator.name}, {domain} accelerators"
        yield case.said("tp"), expected, f"choose tp from 1 to {domain}"
    elif model.num_heads % tp:
        expected = f"a tp that divides the {model.num_heads} query heads of {model.name}"
        yield case.said("tp"), expected, f"choose from: {_divisors(model.num_heads, domain)}"
    elif model.num_kv_heads % tp and tp % model.num_kv_heads:
        expected = f"a tp that divides the {model.num_kv_heads} KV heads of {model.name}, or is a multiple of them"
        yield case.said("tp"), expected, f"choose from: {_divisors(model.num_kv_heads, domain)}"


def _context(case: _Case) -> Iterator[Finding]:
    tp, cp, length = case.size("tp"), case.size("cp"), case.config.seq_len
    if case.model.num_heads % tp:
        tp = 1  # reported as such
    if (cp > 1 and length % (2 * cp)) or length % (cp * tp):
        expected = f"sizes that cut {length:,} tokens evenly: by 2 * cp (where cp > 1) and by tp * cp"
        yield case.said("tp", "cp"), expected, "choose sizes that divide the sequence, or change --seq-len"
    elif case.fixed.get("cp_kind") is ContextKind.ALL_TO_ALL and cp > 1 and case.model.num_heads % (tp * cp):
        expected = f"a tp * cp that divides the {case.model.num_heads} query heads, as all-to-all needs"
        yield case.said("tp", "cp", "cp_kind"), expected, "lower tp or cp, or write cp_kind=ring"


def _experts(case: _Case) -> Iterator[Finding]:
    moe, ep, etp = case.model.moe, case.size("ep"), case.size("etp")
    overlaps = bool(case.fixed.get("ep_overlap"))
    if moe is None:
        if ep > 1 or etp > 1 or overlaps:
            wrong = [key for key in ("ep", "etp") if case.size(key) > 1] + (["ep_overlap"] if overlaps else [])
            yield case.said(*wrong), f"no expert parallelism: {case.model.name} has no experts", "leave it out"
        return
    if moe.num_experts % ep:
        expected = f"an ep that divides the {moe.num_experts} experts of {case.model.name}"
        yield case.said("ep"), expected, f"choose from: {_divisors(moe.num_experts, moe.num_experts)}"
    if moe.expert_ffn % etp:
        expected = f"an etp that divides the experts' width of {moe.expert_ffn}"
        yield case.said("etp"), expected, f"choose from: {_divisors(moe.expert_ffn, _domain(case))}"
    if overlaps and case.fixed.get("ep") == 1:
        yield case.said("ep", "ep_overlap"), "ep above 1, where there is an all-to-all to overlap", "leave out one"
    ranks = case.size("tp") * case.size("cp") * case.size("dp")
    if {"tp", "cp", "dp"} <= case.fixed.keys() and ranks % (ep * etp):
        expected = f"an ep * etp that divides tp * cp * dp = {ranks:,}"
        yield case.said("tp", "cp", "dp", "ep", "etp"), expected, "change ep, etp or dp, or leave dp open"
    elif ep * etp * case.size("pp") > case.cluster.num_accelerators:
        expected = f"ep * etp * pp of at most the {case.cluster.num_accelerators:,} accelerators"
        yield case.said("pp", "ep", "etp"), expected, "lower one of the sizes"


def _pipeline(case: _Case) -> Iterator[Finding]:
    from makespan.step.legality import END_SLOTS

    pp, vpp, layers = case.size("pp"), case.size("vpp"), case.model.num_layers
    if pp * vpp > layers + END_SLOTS:
        expected = f"pp * vpp of at most the {layers} layers of {case.model.name} and {END_SLOTS} (embedding and head)"
        yield case.said("pp", "vpp"), expected, f"choose pp * vpp up to {layers + END_SLOTS}"
    if vpp > 1 and case.fixed.get("pp") == 1:
        yield case.said("pp", "vpp"), "a pipeline to interleave: pp above 1", "leave vpp out, or raise pp"
    schedule = case.fixed.get("schedule", Schedule.ONE_F_ONE_B)
    if schedule is not Schedule.ONE_F_ONE_B:
        if vpp > 1:
            expected = f"one chunk a stage (vpp=1), as {case.words['schedule']} takes"
            yield case.said("vpp", "schedule"), expected, "leave vpp out, or write schedule=1f1b"
        if case.fixed.get("pp") == 1:
            yield case.said("pp", "schedule"), "a pipeline (pp above 1) for that schedule", "leave out one of them"
        elif schedule is Schedule.DUALPIPE and pp > 1 and pp % 2:
            yield case.said("pp", "schedule"), "an even pp, as dualpipe takes", "change pp, or write schedule=1f1b"
    if vpp > 1 and {"dp", "micro_batch", "pp"} <= case.fixed.keys():
        count = -(-case.config.global_batch // (case.size("dp") * case.size("micro_batch")))
        if pp > 1 and count < pp:
            expected = f"at least pp micro-batches to interleave; these sizes leave {count}"
            yield case.said("pp", "vpp", "dp", "micro_batch"), expected, "lower dp or micro_batch, or leave vpp out"
    if schedule is Schedule.DUALPIPE and {"dp", "micro_batch", "pp"} <= case.fixed.keys():
        count = -(-case.config.global_batch // (case.size("dp") * case.size("micro_batch")))
        if pp > 1 and pp % 2 == 0 and (count % 2 or count < 2 * pp):
            expected = f"an even number of micro-batches, 2 pp or more, as dualpipe takes; these sizes leave {count}"
            yield case.said("pp", "schedule", "dp", "micro_batch"), expected, "change dp or micro_batch"


def _accelerators(case: _Case) -> Iterator[Finding]:
    keys = [key for key in ("tp", "cp", "pp", "dp") if case.size(key) > 1]
    product, most = 1, case.cluster.num_accelerators
    for key in keys:
        product *= case.size(key)
    if product > most:
        expected = f"at most the {most:,} accelerators of the cluster, not {product:,}"
        yield case.said(*keys), expected, "lower one of the fixed sizes, or take a larger cluster"


def _batch(case: _Case) -> Iterator[Finding]:
    batch, work = case.config.global_batch, case.size("dp") * case.size("micro_batch")
    if work > batch:
        expected = f"dp * micro_batch of at most the {batch:,} sequences of a step, not {work:,}"
        yield case.said("dp", "micro_batch"), expected, "lower dp or micro_batch, or raise --global-batch"


def _sharding(case: _Case) -> Iterator[Finding]:
    size = int(case.fixed.get("shard_size", 0))
    if size == 0:
        return
    if case.fixed.get("sharding", Sharding.ZERO3) is not Sharding.ZERO3:
        expected = "sharding=zero3, the only one that shards over a group"
        yield case.said("sharding", "shard_size"), expected, "write sharding=zero3, or leave shard_size out"
    ranks = case.size("cp") * case.size("dp")
    if {"cp", "dp"} <= case.fixed.keys() and ranks % size:
        expected = f"a shard_size that divides cp * dp = {ranks:,}"
        yield case.said("cp", "dp", "shard_size"), expected, "change shard_size or dp"


def _host(case: _Case) -> Iterator[Finding]:
    if case.fixed.get("offload", Offload.NONE) and case.cluster.accelerator.host_bytes_per_s <= 0:
        name = case.cluster.accelerator.name
        yield case.said("offload"), f"no offload: the rate of {name}'s link to host memory is not known", "leave it out"


def _software(case: _Case) -> Iterator[Finding]:
    from makespan.step.features import FEATURES

    profile = case.profile
    for name, supported in profile.supports.items():
        if supported or name not in FEATURES or not _uses(name, case.fixed):
            continue
        alone = [key for key, value in case.fixed.items() if _uses(name, {key: value})] or list(case.words)
        expected = f"what {profile.name} can do; it has no {name.replace('_', ' ')}"
        yield case.said(*alone), expected, "leave it out, or choose another --framework"


def _uses(feature: str, fixed: dict[str, Any]) -> bool:
    """Whether these fields alone make a layout use a feature of the software."""
    from makespan.step.arrays import LayoutArrays
    from makespan.step.features import FEATURES

    row = LayoutArrays.build(**{"sharding": int(Sharding.NONE)} | {key: int(value) for key, value in fixed.items()})
    return bool(FEATURES[feature](row)[0])


_RULES = (_tensor, _context, _experts, _pipeline, _accelerators, _batch, _sharding, _host, _software)
