"""Words of a search's scaling options: budget, sizes, ramp, law of the critical batch; and rules for what is left out."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass

from makespan import catalog
from makespan.scenario._context import suggestion
from makespan.scenario._limits import MOST_ACCELERATORS
from makespan.scenario._run import SEQ_LEN, SEQ_LEN_RULE, sequences, usual_batch_sentence
from makespan.scenario._run import usual_batch as batch_by_flop
from makespan.scenario._words import LARGEST_BATCH_TOKENS, _wrong, parse_batch
from makespan.specs.model import ModelSpec
from makespan.specs.search import CriticalBatchLaw, RampStage
from makespan.units import UnitError, parse

BATCH_LAW = "bergsma-2025"
"""Law of the critical batch that is used where none is named; why: docs/explain/scaling.md."""

MOST_SIZES = 200
MOST_TOKENS = 1e18
_SIZES = re.compile(r"\s*([\d.,_]+[kKM]?)\s*\.\.\s*([\d.,_]+[kKM]?)\s*(?::\s*(\d{1,9}))?\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A value that nobody gave: the rule's answer, and the sentence that a report prints beside it."""

    value: int
    sentence: str


def usual_seq_len(model: ModelSpec) -> Ruled:
    """Tokens of a sequence where none are given: 8,192, or a learned position table's length where that is shorter.

    Examples
    --------
    >>> usual_seq_len(catalog.model("llama3.1-8b").spec).value, usual_seq_len(catalog.model("gpt3-175b").spec).value
    (8192, 2048)
    """
    if 0 < model.learned_positions < SEQ_LEN:
        text = f"{model.learned_positions:,} tokens, the length of {model.name}'s learned position table"
        return Ruled(value=model.learned_positions, sentence=f"sequence length: {text}")
    return Ruled(value=SEQ_LEN, sentence=f"sequence length: {SEQ_LEN_RULE}")


def _rule(name: str, as_of: dt.date | None) -> catalog.Default:
    try:
        return catalog.defaults(as_of).spec[name]
    except catalog.NotYetKnown as error:
        raise _wrong(
            "--as-of",
            f"{as_of}, before {error.what} was known",
            "a day on which the catalog has a rule for what is left out",
            "give a later day, or the value itself",
            "MS505",
        ) from None


def usual_tokens(as_of: dt.date | None = None) -> Ruled:
    """Budget of a run where none is given: what the largest public runs of the time were trained on.

    Raises
    ------
    ScenarioError : no such run was known by `as_of`.
    """
    rule = _rule("search_tokens", as_of)
    source = rule.fact.source
    where = f" ({source.title}, {source.date.year})" if source is not None else ""
    tokens = round(rule.value.central)
    return Ruled(value=tokens, sentence=f"budget: {tokens / 1e12:.3g}T tokens, {rule.rule}{where}")


def usual_batch(
    model: ModelSpec, *, seq_len: int, tokens: float, as_of: dt.date | None = None, max_batch: int | None = None
) -> Ruled:
    """Sequences of a step where none are given: the batch that DeepSeek LLM fitted to compute, as in a scenario.

    Parameters
    ----------
    tokens : budget of the run. [-]   max_batch : sequences that must not be exceeded.

    Notes
    -----
    0.2920 C^0.3271 tokens, C the model FLOP of the run; no more than large runs have published; rounded down to a power of
    two of sequences. A maximal batch below that is taken as it is.

    References
    ----------
    DeepSeek-AI, arXiv:2401.02954, section 3.1.

    Examples
    --------
    >>> usual_batch(catalog.model("llama3.1-405b").spec, seq_len=8192, tokens=15.6e12).value
    4096
    """
    from makespan.workload import model_flop_per_token

    flop = float(model_flop_per_token(model, seq_len)) * tokens
    coefficient, exponent, most = (
        _rule(name, as_of) for name in ("batch_coefficient", "batch_exponent", "batch_most_tokens")
    )
    batch = batch_by_flop(flop, seq_len, coefficient.value.central, exponent.value.central, most.value.central)
    sentence = usual_batch_sentence(coefficient.rule, flop, most.value.central)
    if max_batch is not None and batch > max_batch:
        batch, sentence = max_batch, f"{sentence}, and no more than the maximal batch"
    return Ruled(
        value=batch,
        sentence=f"global batch: {batch:,} sequences ({batch * seq_len / 1e6:.3g}M tokens), {sentence} (arXiv:2401.02954)",
    )


def parse_budget(text: str, model: ModelSpec, *, seq_len: int) -> float:
    """Tokens of a budget written as "14.8T", "14.8T tokens" or "3.8e25 FLOP". [-]

    Raises
    ------
    ScenarioError : neither, nothing, or more than a million million million tokens.

    Examples
    --------
    >>> parse_budget("14.8T", catalog.model("llama3.1-8b").spec, seq_len=8192)
    14800000000000.0
    """
    from makespan.workload import model_flop_per_token

    try:
        if re.search(r"FLOPs?\s*\Z", text):
            tokens = parse(text, "flop") / float(model_flop_per_token(model, seq_len))
        else:
            tokens = parse(re.sub(r"\s*tokens?\s*\Z", "", text), "count")
    except UnitError:
        tokens = math.nan
    if not 1 <= tokens <= MOST_TOKENS:
        raise _wrong(
            "--tokens",
            f"'{text}'",
            "a budget of tokens or of model FLOP",
            'write "14.8T" or "3.8e25 FLOP"',
        )
    return tokens


def parse_sizes(text: str, *, per_node: int = 1) -> tuple[int, ...]:
    """Sizes of a cluster of "8..1000000:30": so many, evenly spaced in their logarithm, in whole nodes; both ends as given.

    "8..4096" without a number doubles from the first to the last. Where sizes fall together the next node is taken, so
    there are fewer only where there are not as many nodes. Ends need not be whole nodes.

    Raises
    ------
    ScenarioError : not of that form, an end out of order or too large, or too many sizes.

    Examples
    --------
    >>> parse_sizes("8..1000:4", per_node=8), parse_sizes("8..40")
    ((8, 40, 200, 1000), (8, 16, 32, 40))
    """
    example = 'write "8..1000000:30": from, to, how many'
    match = _SIZES.match(text)
    if match is None:
        raise _wrong("--scale", f"'{text}'", "from..to:number", example)
    try:
        ends = [parse(match[i], "count") for i in (1, 2)]
    except UnitError:
        raise _wrong("--scale", f"'{text}'", "whole numbers of accelerators", example) from None
    first, last = ends
    if any(end != int(end) or not 1 <= end <= MOST_ACCELERATORS for end in ends) or first > last:
        expected = f"whole numbers in ascending order, between 1 and {MOST_ACCELERATORS:,}"
        raise _wrong("--scale", f"'{text}'", expected, example)
    if match[3] is None:
        doublings = [int(first) << power for power in range(math.floor(math.log2(last / first)) + 1)]
        return tuple(dict.fromkeys([*doublings, int(last)]))
    count = int(match[3])
    if not 2 <= count <= MOST_SIZES:
        raise _wrong("--scale", f"{count:,} sizes", f"2 to {MOST_SIZES} of them", example)
    sizes = [int(first)]
    for place in range(1, count - 1):
        nodes = round(first * (last / first) ** (place / (count - 1)) / per_node)
        sizes.append(max(nodes, sizes[-1] // per_node + 1) * per_node)
    return (*(size for size in sizes if size < last), int(last))


def _ramp_batch(text: str, seq_len: int) -> int:
    """Sequences of "4M" or "4M tokens" (tokens) or "2048 sequences"."""
    if re.search(r"(sequences?|samples?|seqs?)\s*\Z", text):
        return sequences(text, seq_len)
    return sequences(re.sub(r"\s*tokens?\s*\Z", "", text) + " tokens", seq_len)


def parse_ramp(text: str, *, seq_len: int, max_batch: int | None = None) -> tuple[RampStage, ...]:
    """Batches of "4M@0,16M@1T": each from so many trained tokens on. A batch without a unit is in tokens.

    Raises
    ------
    ScenarioError : not of that form, not from 0 on, tokens not in ascending order, or a batch above the maximal one.

    Examples
    --------
    >>> [(stage.from_tokens, stage.global_batch) for stage in parse_ramp("4M@0, 2048 sequences@1T", seq_len=8192)]
    [(0.0, 488), (1000000000000.0, 2048)]
    """
    example = 'write "4M@0,16M@1T": 4M tokens a step from the start, 16M from a trillion trained tokens on'
    stages: list[RampStage] = []
    for part in text.split(","):
        batch_text, sign, from_text = part.strip().partition("@")
        if not sign:
            raise _wrong("--ramp", f"'{part.strip()}'", "batch@tokens", example)
        try:
            batch = _ramp_batch(batch_text.strip(), seq_len)
            start = parse(re.sub(r"\s*tokens?\s*\Z", "", from_text.strip()), "count")
        except UnitError as error:
            raise _wrong("--ramp", f"'{part.strip()}' ({str(error).split(';')[0]})", "batch@tokens", example) from None
        if batch * seq_len > LARGEST_BATCH_TOKENS:
            raise _wrong("--ramp", f"'{batch_text.strip()}'", "a batch of at most 2 billion tokens", example)
        if max_batch is not None and batch > max_batch:
            raise _wrong(
                "--ramp",
                f"'{batch_text.strip()}' ({batch:,} sequences)",
                f"no more than the maximal batch of {max_batch:,} sequences",
                "lower it, or raise --max-batch",
            )
        if (start == 0) != (not stages) or (stages and start <= stages[-1].from_tokens) or start > MOST_TOKENS:
            raise _wrong("--ramp", f"'{part.strip()}'", "stages from 0 on, in ascending order of tokens", example)
        stages.append(RampStage(from_tokens=start, global_batch=batch))
    return tuple(stages)


def parse_max_batch(text: str, *, seq_len: int, global_batch: int | None = None) -> int:
    """Sequences of the maximal batch, written as a batch is.

    Raises
    ------
    ScenarioError : no batch, or below the `global_batch` that was given.
    """
    most = parse_batch(text, seq_len=seq_len)
    if global_batch is not None and most < global_batch:
        raise _wrong(
            "--max-batch",
            f"'{text}' ({most:,} sequences)",
            f"at least the global batch of {global_batch:,} sequences",
            "raise it, or lower --global-batch",
        )
    return most


def parse_batch_law(text: str | None, as_of: dt.date | None = None) -> CriticalBatchLaw | None:
    """A law of the critical batch by its name in the catalog; `none` for no extra tokens; the default where it is None.

    Before the default was published, the newest law known by then.

    Raises
    ------
    ScenarioError : a name the catalog does not know (by `as_of`), or no law as old as that.
    """
    if text is not None and text.strip().lower() == "none":
        return None
    names = catalog.names("batch_law")
    known = {}
    for name in names:
        try:
            known[name] = catalog.batch_law(name, as_of=as_of)
        except catalog.NotYetKnown:
            continue
    by_then = f" known on {as_of}" if as_of is not None else ""
    choice = f"choose from: {', '.join(known)}, none" if known else "write --batch-law none, or give a later --as-of"
    if text is None:
        newest = max(known.values(), key=lambda entry: (str(entry.known_on), entry.name), default=None)
        chosen = known.get(BATCH_LAW, newest)
    else:
        chosen = known.get(text)
    if chosen is not None:
        return chosen.spec
    if text is None:
        raise _wrong("--batch-law", f"none named, and none{by_then}", "a law of the critical batch", choice, "MS505")
    if text in names:
        raise _wrong("--batch-law", f"'{text}'", f"a law of the critical batch{by_then}", choice, "MS505")
    fix = suggestion(text, [*known, "none"])
    raise _wrong("--batch-law", f"'{text}'", f"a law of the critical batch{by_then}, or none", fix, "MS301")


def parse_power_limit(text: str) -> float:
    """IT power written as "150 MW". [W]

    Raises
    ------
    ScenarioError : no power, or not above 0.

    Examples
    --------
    >>> parse_power_limit("150 MW")
    150000000.0
    """
    try:
        watts = parse(text, "power")
    except UnitError:
        watts = 0.0
    if not 0 < watts < math.inf:
        raise _wrong("--power-limit", f"'{text}'", "a power with its unit, above 0", 'write "150 MW"')
    return watts
