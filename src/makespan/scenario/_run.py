"""`run:` to a `TrainingSpec`: stages, batches, share, start."""

from __future__ import annotations

import math
import re

from makespan.scenario._names import default_rule
from makespan.scenario._section import Rule, Section, fixed
from makespan.scenario._values import form_value
from makespan.specs.model import ModelSpec
from makespan.specs.training import ShareStep, StageSpec, StepConfig, TrainingSpec
from makespan.uncertainty import Distribution, Fixed
from makespan.units import UnitError, parse

SEQ_LEN = 8192
SEQ_LEN_RULE = "8,192 tokens, the length most large runs since Llama 3 were pre-trained at"
PRECISION_RULE = "bf16: works for every model; FP8 has to be chosen"
_BUDGETS = ("tokens", "compute")


def read_training(top: Section, models: tuple[ModelSpec, ...]) -> TrainingSpec | None:
    """The run with every field filled; None where a stage is too wrong to say what it is."""
    from makespan.scenario._shape import RunShape

    run = top.sub_or_empty("run", RunShape)
    stages = _stages(top, run, models)
    ready = run.dist("ready", fixed(0.0, str(top.ctx.origin), "data and recipe are ready on as_of"))
    restarted = run.dist("restarted_work", default_rule(top.ctx, "restarted_work"))
    execution = run.dist("execution", default_rule(top.ctx, "execution"))
    smallest = run.whole(
        "min_accelerators", fixed(1, "1", "the run starts on the first accelerators that hold the model")
    )
    share = _share(run)
    if stages is None or not share or ready is None or restarted is None or execution is None or smallest is None:
        return None
    return TrainingSpec(
        stages=stages,
        ready_s=ready,
        run_share=share,
        restarted_work=restarted,
        execution=execution,
        min_accelerators=smallest,
    )


def _share(run: Section) -> tuple[ShareStep, ...]:
    from makespan.scenario._shape import ShareShape

    node = run.child("share")
    if node is None or node.items is None:
        value = run.dist("share", default_rule(run.ctx, "run_share"))
        return (ShareStep(from_s=0.0, share=value),) if value is not None else ()
    steps: list[ShareStep] = []
    for item in run.each("share", ShareShape):
        day = item.day("from") if item.has("from") else run.ctx.origin
        if item.has("share") and any(item.has(key) for key in ("value", "range", "p50", "values")):
            item.report("MS114", "share", found="'share' beside 'value'", expected="one of them", fix="delete one")
            continue
        if item.has("share"):
            value = item.dist("share")
        else:
            quantity = item.quantity("share")
            value = form_value(run.ctx, item.node, quantity, item.path, item.origin, item.path)
        if day is None or value is None:
            continue
        from_s = run.ctx.seconds(day)
        if steps and from_s <= steps[-1].from_s:
            item.report(
                "MS205",
                "from",
                found=f"{day}, not after the step before",
                expected="dates in order",
                fix="sort the steps by date",
            )
            continue
        steps.append(ShareStep(from_s=from_s, share=value))
    if steps and steps[0].from_s > 0:
        # Before the first step the run gets nothing: said, not hidden.
        run.ctx.rule(run.at("share"), "0 %", "no share before the first step's date")
        steps.insert(0, ShareStep(from_s=0.0, share=Fixed(value=0.0)))
    return tuple(steps)


def _stages(top: Section, run: Section, models: tuple[ModelSpec, ...]) -> tuple[StageSpec, ...] | None:
    from makespan.scenario._shape import StageShape

    short = [(section, key) for section in (top, run) for key in _BUDGETS if section.has(key)]
    if run.has("stages"):
        for section, key in short:
            section.report(
                "MS114",
                key,
                found=f"'{key}' beside run.stages",
                expected="the budget in one place",
                fix="put it into the stage",
            )
        found = [_stage(run, item, models) for item in run.each("stages", StageShape)]
        names = [item.text("name") for item in run.each("stages", StageShape)]
        for item in run.each("stages", StageShape):
            if names.count(item.text("name")) > 1 and item.text("name"):
                item.report(
                    "MS304",
                    "name",
                    found=f"'{item.text('name')}' for more than one stage",
                    expected="a name of its own",
                    fix="rename one",
                )
                return None
        stages = [stage for stage in found if stage is not None]
        if run.failed("stages") or not found or len(stages) < len(found):
            return None
        if not any(stage.kind == "compute" for stage in stages):
            run.report(
                "MS612",
                "stages",
                found="no stage with tokens or compute",
                expected="at least one stage that trains",
                fix="give a stage 'tokens: 15T' or 'compute: 3.8e25 FLOP'",
            )
            return None
        return tuple(stages)
    if run.failed("stages"):
        return None
    if len(short) > 1:
        where = " and ".join(section.at(key) for section, key in short)
        short[1][0].report("MS114", short[1][1], found=where, expected="one budget", fix="delete one of them")
        return None
    if not short:
        if not any(top.failed(key) or run.failed(key) for key in _BUDGETS) and not top.failed("run"):
            top.report(
                "MS612",
                "run" if top.has("run") else "",
                found="no budget",
                expected="'tokens: 15T', or run.stages with tokens or compute",
                fix="add 'tokens: ...'",
            )
        return None
    section, key = short[0]
    budget = section.dist(key)
    step = _step(run, models, budget, is_tokens=key == "tokens")
    if budget is None or step is None:
        return None
    run.ctx.rule(
        run.at("stages"), "pretraining only", "no post-training is named: the release is the end of pre-training"
    )
    return (_compute_stage("pretraining", step, budget, is_tokens=key == "tokens"),)


def _compute_stage(name: str, step: StepConfig, budget: Distribution, *, is_tokens: bool) -> StageSpec:
    if is_tokens:
        return StageSpec(name=name, kind="compute", step=step, tokens=budget)
    return StageSpec(name=name, kind="compute", step=step, flop=budget)


def _stage(run: Section, item: Section, models: tuple[ModelSpec, ...]) -> StageSpec | None:
    """One stage; its step is filled by rules here, and from the stage before in `_inherit`."""
    keys = [key for key in ("tokens", "compute", "duration") if item.has(key)]
    if len(keys) != 1:
        if not keys:
            item.report(
                "MS612",
                "",
                found="a stage without budget or duration",
                expected="tokens, compute or duration",
                fix="add one of them",
            )
        else:
            item.report(
                "MS114",
                keys[1],
                found=" and ".join(keys),
                expected="one of tokens, compute and duration",
                fix="keep one",
            )
        return None
    value = item.dist(keys[0])
    if keys[0] == "duration":
        for key in ("seq_len", "global_batch", "precision"):
            if item.has(key):
                item.report(
                    "MS114",
                    key,
                    found=f"'{key}' in a stage with a duration",
                    expected="'share_used' only",
                    fix="delete it, or give the stage tokens",
                )
        share = item.number(
            "share_used", fixed(1.0, "100 %", "a stage with a duration keeps all the run's accelerators")
        )
        if value is None or share is None:
            return None
        return StageSpec(name=item.text("name", item.path), kind="calendar", duration_s=value, share_used=share)
    if item.has("share_used"):
        item.report(
            "MS114",
            "share_used",
            found="'share_used' in a stage with a budget",
            expected="it in stages with a duration",
            fix="use run.share",
        )
    step = _step(item, models, value, is_tokens=keys[0] == "tokens", parent=run)
    if value is None or step is None:
        return None
    return _compute_stage(item.text("name", item.path), step, value, is_tokens=keys[0] == "tokens")


def _step(
    section: Section,
    models: tuple[ModelSpec, ...],
    budget: Distribution | None,
    *,
    is_tokens: bool,
    parent: Section | None = None,
) -> StepConfig | None:
    """Sequence length, batch and precision of a stage: its own, the run's, or by rule."""

    def holder(key: str) -> Section:
        return section if section.has(key) or parent is None or not parent.has(key) else parent

    seq_len = holder("seq_len").whole("seq_len", fixed(SEQ_LEN, f"{SEQ_LEN}", SEQ_LEN_RULE))
    where = holder("precision")
    precision = where.text("precision")
    if where.failed("precision"):
        precision = "bf16"
    elif not precision:
        precision = "bf16"
        section.ctx.rule(section.at("precision"), precision, PRECISION_RULE)
    if seq_len is None:
        return None
    where = holder("global_batch")
    node = where.child("global_batch")
    if node is not None:
        try:
            batch = sequences(node.value if node.is_scalar and not isinstance(node.value, bool) else None, seq_len)
        except UnitError as error:
            where.report(
                "MS201",
                "global_batch",
                found=f"{node.describe()} ({error})",
                expected="a number of sequences or of tokens",
                fix='write "2048 sequences" or "16M tokens"',
            )
            return None
    elif where.failed("global_batch") or not models or budget is None:
        return None
    else:
        rule = batch_rule(section, models[0], budget, seq_len, is_tokens=is_tokens)
        section.ctx.rule(section.at("global_batch"), rule.text, rule.sentence)
        batch = round(rule.value.central)
    return StepConfig(global_batch=batch, seq_len=seq_len, precision=precision)


def sequences(value: object, seq_len: int) -> int:
    """Sequences in a batch written as "2048", "2048 sequences" or "16M tokens".  Raises `UnitError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        text = value.strip()
        match = re.match(r"(.*?)\s*(sequences?|samples?|seqs?|tokens?)?\Z", text, re.DOTALL)
        assert match is not None
        number = parse(match[1], "count")
        if (match[2] or "").startswith("token"):
            number /= seq_len
            if number < 1:
                raise UnitError(f"less than one sequence of {seq_len} tokens")
            number = float(round(number))
    else:
        raise UnitError("no number")
    if not math.isfinite(number) or number < 1 or number != math.floor(number):
        raise UnitError("not a whole number of sequences")
    if number > 1e9:
        raise UnitError("more than a thousand million sequences")
    return int(number)


def batch_rule(section: Section, model: ModelSpec, budget: Distribution, seq_len: int, *, is_tokens: bool) -> Rule:
    """The batch of a run that names none, by its compute: largest power of two of sequences under the catalog's fit."""
    from makespan.workload import model_flop_per_token

    per_token = float(model_flop_per_token(model, seq_len))
    flop = budget.central * per_token if is_tokens else budget.central
    coefficient, exponent, most = (
        _needed_rule(section, name) for name in ("batch_coefficient", "batch_exponent", "batch_most_tokens")
    )
    batch = usual_batch(flop, seq_len, coefficient.value.central, exponent.value.central, most.value.central)
    section.ctx.keep([rule.fact for rule in (coefficient, exponent, most) if rule.fact is not None])
    sentence = usual_batch_sentence(coefficient.sentence, flop, most.value.central)
    text = f"{batch} sequences ({batch * seq_len / 1e6:.1f}M tokens)"
    return Rule(value=Fixed(value=float(batch)), text=text, sentence=sentence)


def usual_batch(flop: float, seq_len: int, coefficient: float, exponent: float, most_tokens: float) -> int:
    """Sequences: the largest power of two within `coefficient` flop^`exponent` tokens and `most_tokens`, at least 1.

    >>> usual_batch(1e21, 4096, 0.292, 0.3271, 63e6)
    512
    """
    tokens = min(coefficient * flop**exponent, most_tokens)
    return int(2 ** max(math.floor(math.log2(max(tokens / seq_len, 1.0))), 0))


def usual_batch_sentence(rule: str, flop: float, most_tokens: float) -> str:
    """`usual_batch` in words."""
    return (
        f"{rule} {flop:.2g} FLOP, at most {most_tokens / 1e6:.3g}M tokens, rounded down to a power of two of sequences"
    )


def _needed_rule(section: Section, name: str) -> Rule:
    rule = default_rule(section.ctx, name)
    assert rule is not None, f"the catalog has no default '{name}'"
    return rule
