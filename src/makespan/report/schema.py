"""The published shape of `result.json`, as JSON Schema 2020-12. `makespan schema result` prints it."""

from __future__ import annotations

from typing import Any

from makespan.report.data import SCHEMA_VERSION

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
MAYBE_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
MAYBE_PROBABILITY: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
DATE: Schema = {"type": "string", "format": "date"}
MAYBE_DATE: Schema = {"type": ["string", "null"], "format": "date"}
VERDICTS = ("inside", "earlier", "later", "lower", "higher", None)
KINDS = ("assumed", "decision", "quoted", "derived", "published", "datasheet", "measured")


def _object(properties: Schema, description: str = "", optional: tuple[str, ...] = ()) -> Schema:
    """An object with exactly these fields."""
    required = [key for key in properties if key not in optional]
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return {"description": description, **schema} if description else schema


def _list(items: Schema, description: str = "") -> Schema:
    return (
        {"description": description, "type": "array", "items": items}
        if description
        else {"type": "array", "items": items}
    )


def _map(values: Schema, description: str = "") -> Schema:
    return {"description": description, "type": "object", "additionalProperties": values}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str, description: str = "") -> Schema:
    return {"description": description, "$ref": f"#/$defs/{name}"} if description else {"$ref": f"#/$defs/{name}"}


def result_schema() -> Schema:
    """JSON Schema of `result.json`. Every field is required unless it says otherwise; none beyond these appear."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "makespan result",
        "description": (
            "Completion dates, costs, energy and power of every option of a scenario. SI units; money in USD of the "
            "price year; dates ISO, UTC. p10, p50, p90 are order statistics over the replicates; null means never "
            "(later than every date) or not defined."
        ),
        "$defs": _definitions(),
        **_object(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "makespan_version": TEXT,
                "scenario": _ref("scenario"),
                "answers": _list(TEXT, "The answer in sentences, most important first."),
                "options": {"type": "array", "items": _ref("option"), "minItems": 1},
                "pipelines": _list(_ref("pipeline"), "Schedules to draw; the step of an option says which is its own."),
                "times_s": _list(NUMBER, "Times of every curve, seconds after as_of."),
                "levers": _list(_ref("lever"), "How much one uncertain input moves a release date."),
                "changes": _list(_ref("change"), "Changes re-run on the same draws."),
                "observed": _list(_ref("observed"), "What then happened, for the scenario as a whole."),
                "weakest_fact": {"enum": list(KINDS)},
                "facts": _list(_ref("fact"), "Every fact used, weakest kind first."),
                "rules": _list(_object({"path": TEXT, "value": TEXT, "rule": TEXT}), "Fields the scenario left out."),
                "not_modelled": _list(TEXT),
            }
        ),
    }


def _definitions() -> Schema:
    return {
        "band": _object({"p10": MAYBE_NUMBER, "p50": MAYBE_NUMBER, "p90": MAYBE_NUMBER}),
        "date_band": _object(
            {"p10": MAYBE_DATE, "p50": MAYBE_DATE, "p90": MAYBE_DATE, "probability_complete": PROBABILITY},
            "Dates; probability_complete is the share of replicates that get there before the horizon.",
        ),
        "curve": _object({key: _list(MAYBE_NUMBER) for key in ("p10", "p50", "p90")}),
        "range": _object({"low": MAYBE_NUMBER, "central": MAYBE_NUMBER, "high": MAYBE_NUMBER}),
        "scenario": _scenario(),
        "option": _option(),
        "layout": _layout(),
        "step": _step(),
        "pipeline": _pipeline(),
        "pool": _pool(),
        "observed": _observed(),
        "lever": _lever(),
        "change": _object(
            {
                "option": TEXT,
                "text": TEXT,
                "probability": MAYBE_PROBABILITY,
                "gained_probability": MAYBE_NUMBER,
                "gained_s": MAYBE_NUMBER,
                "extra_cost_usd": MAYBE_NUMBER,
            }
        ),
        "fact": _fact(),
    }


def _scenario() -> Schema:
    stage = _object(
        {
            "name": TEXT,
            "kind": {"enum": ["compute", "calendar"]},
            "tokens": _maybe(_ref("range")),
            "flop": _maybe(_ref("range")),
            "duration_s": _maybe(_ref("range")),
            "seq_len": MAYBE_COUNT,
            "global_batch": MAYBE_COUNT,
            "precision": {"type": ["string", "null"]},
        }
    )
    return _object(
        {
            "name": TEXT,
            "question": TEXT,
            "file": TEXT,
            "as_of": DATE,
            "deadline": MAYBE_DATE,
            "horizon": MAYBE_DATE,
            "horizon_s": NUMBER,
            "seed": COUNT,
            "num_replicates": {"type": "integer", "minimum": 1},
            "price_year": {"type": "integer"},
            "framework": TEXT,
            "models": _list(_object({"name": TEXT, "weight": PROBABILITY})),
            "stages": _list(stage),
        }
    )


def _option() -> Schema:
    def lines(key: str, value: str) -> Schema:
        row = _object({key: TEXT, value: MAYBE_NUMBER, "share": MAYBE_NUMBER})
        return _list(row, "Means over replicates; the lines add up to the total.")

    meter = _object({"facility": _ref("band"), "it": _ref("band")})
    return _object(
        {
            "name": TEXT,
            "kind": TEXT,
            "note": TEXT,
            "feasible": FLAG,
            "reasons": _list(TEXT),
            "first_training": _ref("date_band", "First productive second of the run."),
            "all_installed": _ref("date_band", "Last accelerator racked and accepted."),
            "all_powered": _ref("date_band", "Last accelerator with provisioned peak power behind it."),
            "completion": _object({"pretraining": _ref("date_band"), "release": _ref("date_band")}),
            "release_quantiles": _list(_object({"probability": PROBABILITY, "date": MAYBE_DATE})),
            "probability_by_deadline": {**MAYBE_PROBABILITY, "description": "null where no deadline was asked about."},
            "probability_first": {
                **PROBABILITY,
                "description": "Share of replicates in which this option releases first.",
            },
            "cost_of_model_usd": _ref("band", "What this run is charged, unused commitment included."),
            "committed_usd": _ref("band", "What the option obliges to pay in all."),
            "capex_usd": _ref("band"),
            "residual_usd": _ref("band", "Book value of the own site at the release."),
            "cost_lines": lines("line", "mean_usd"),
            "capex_lines": lines("line", "mean_usd"),
            "cash_flow": _object(
                {"times_s": _list(NUMBER), **{key: _list(MAYBE_NUMBER) for key in ("p10", "p50", "p90")}},
                "Money paid since as_of by the end of each month.",
            ),
            "energy_j": {**meter, "description": "Held by the run until the release."},
            "peak_power_w": {**meter, "description": "Provisioned peak until the release."},
            "carbon_kg": _ref("band"),
            "goodput": _ref(
                "band", "Productive over wall seconds between first training and the end of the compute stages."
            ),
            "interruptions": _ref("band"),
            "accelerator_s": _ref("band", "Accelerator-seconds held by the run."),
            "checkpoint_interval_s": _ref("band"),
            "limited_by": _list(
                _object({"cause": TEXT, "share": MAYBE_NUMBER}), "Causes with their share of the time to release."
            ),
            "ledger": lines("line", "mean_s"),
            "delays": lines("cause", "mean_s"),
            "layout": _maybe(_ref("layout")),
            "step": _maybe(_ref("step")),
            "pools": _list(_ref("pool")),
            "curves": _object(
                {
                    **{key: _ref("curve") for key in ("installed", "powered", "usable", "used", "power_w", "progress")},
                    "power_limit_w": _maybe(_ref("curve")),
                },
                "Percentiles at the times of times_s.",
            ),
            "observed": _list(_ref("observed")),
        }
    )


def _layout() -> Schema:
    sizes = ("num_accelerators", "tp", "pp", "vpp", "cp", "dp", "ep", "etp", "micro_batch")
    return _object(
        {
            "text": TEXT,
            **{key: {"type": "integer", "minimum": 1} for key in sizes},
            **dict.fromkeys(("schedule", "recompute", "sharding"), TEXT),
            "sequence_parallel": FLAG,
        }
    )


def _step() -> Schema:
    seconds = dict.fromkeys(("time_s", "lower_s", "upper_s", "p10_s", "p90_s"), MAYBE_NUMBER)
    return _object(
        {
            **seconds,
            "breakdown_s": _map(MAYBE_NUMBER, "Exposed seconds by cause; they add up to time_s."),
            "hidden_s": _map(MAYBE_NUMBER, "Communication that runs behind compute."),
            "memory_bytes": _map(MAYBE_NUMBER, "On the fullest accelerator."),
            "memory_total_bytes": MAYBE_NUMBER,
            "memory_limit_bytes": MAYBE_NUMBER,
            "mfu": {**MAYBE_NUMBER, "description": "Causal half of attention counted, against the dense bf16 peak."},
            "mfu_full_attention": {**MAYBE_NUMBER, "description": "The whole attention matrix counted."},
            "hfu": MAYBE_NUMBER,
            "model_flop": MAYBE_NUMBER,
            "tokens_per_step": MAYBE_NUMBER,
            "tokens_per_s": MAYBE_NUMBER,
            "num_accelerators": COUNT,
            "num_idle": COUNT,
            "weakest_fact": {"enum": list(KINDS)},
            "notes": _list(TEXT),
            "memory_stage": {**COUNT, "description": "The fullest pipeline stage, counted from 0."},
            "memory_by_stage": _list(
                _object({"group": TEXT, "total_bytes": MAYBE_NUMBER, "memory_bytes": _map(MAYBE_NUMBER)}),
                "Pipeline stages that differ: first, middle, before last, last, as far as there are such.",
            ),
            "changes": _list(
                _object(
                    {
                        **dict.fromkeys(("dimension", "before", "after", "layout"), TEXT),
                        **dict.fromkeys(("time_s", "saved_fraction", "memory_bytes"), MAYBE_NUMBER),
                    }
                ),
                "Changes of one dimension of the layout that would shorten the step most.",
            ),
            "pipeline": {**MAYBE_COUNT, "description": "Place in `pipelines`; null where there is one stage."},
            "num_layouts": {**COUNT, "description": "Legal layouts that were worked out one by one."},
            "num_legal": {**COUNT, "description": "Legal layouts: worked out, or excluded by proof."},
            "num_feasible": COUNT,
            "infeasible": _map(COUNT, "Layouts by the first rule they break."),
            "runner_up": _maybe(_object({"text": TEXT, "time_s": MAYBE_NUMBER})),
        }
    )


def _pipeline() -> Schema:
    seconds = dict.fromkeys(("forward_s", "input_grad_s", "weight_grad_s"), NUMBER)
    counts = _list(COUNT)
    return _object(
        {
            "num_micro_batches": {**COUNT, "description": "Through each pipeline in a step."},
            "num_drawn": {
                **COUNT,
                "description": "Micro-batches of the batch that was played out; the step may have more.",
            },
            "span_s": {**NUMBER, "description": "From the first pass to the end of the last."},
            "tick_s": {**NUMBER, "description": "Unit of `start`."},
            "stages": _list(
                _object({"num_layers": COUNT, **seconds}, "Seconds of one micro-batch."),
                "In the order of the model: chunk c of rank r is stage c pp + r; under dualpipe r (0) or pp - 1 - r (1).",
            ),
            "ranks": _list(
                _object(
                    {
                        "rank": COUNT,
                        "idle_s": NUMBER,
                        "passes": {
                            "type": "string",
                            "pattern": "^[FBIW]*$",
                            "description": "F forward, B backward with both gradients, I of inputs alone, W of weights alone.",
                        },
                        "start": {**counts, "description": "Of each pass, in ticks. It lasts as its stage says."},
                        "micro_batch": counts,
                        "chunk": counts,
                    }
                ),
                "Pipeline ranks that are drawn.",
            ),
        },
        "One pipeline of a layout, its schedule played out pass by pass.",
    )


def _pool() -> Schema:
    dates = _object(dict.fromkeys(("p10", "p50", "p90"), MAYBE_DATE))
    level = _object(
        {
            "num_accelerators": COUNT,
            "layout": {"type": ["string", "null"]},
            "time_s": MAYBE_NUMBER,
            "tokens_per_s": MAYBE_NUMBER,
            "mfu": MAYBE_NUMBER,
        }
    )
    return _object(
        {
            "name": TEXT,
            "place": TEXT,
            "accelerator": TEXT,
            "node": TEXT,
            "num_accelerators": COUNT,
            "first_usable": _ref("date_band"),
            "all_installed": _ref("date_band"),
            "all_powered": _ref("date_band"),
            "pue": _ref("band"),
            "milestones": _list(
                _object({"name": TEXT, "start": dates, "end": dates, "criticality": MAYBE_PROBABILITY}),
                "Activities, deliveries, halls; criticality is how often each was on the path to the last accelerator.",
            ),
            "levels": _list(level, "Best layout at each searched number of accelerators."),
        }
    )


def _observed() -> Schema:
    return _object(
        {
            "what": TEXT,
            "label": TEXT,
            "text": TEXT,
            "date": MAYBE_DATE,
            "value": MAYBE_NUMBER,
            "identity": {**FLAG, "description": "A figure derived from the outcome: no prediction."},
            "source": TEXT,
            "source_title": TEXT,
            "source_url": TEXT,
            "forecast": {"anyOf": [_ref("date_band"), _ref("band"), {"type": "null"}]},
            "verdict": {"enum": list(VERDICTS)},
            "off_edge": {
                **MAYBE_NUMBER,
                "description": "Observed minus the nearest of P10, P90; seconds or SI; 0 inside.",
            },
            "off_median": {**MAYBE_NUMBER, "description": "Observed minus P50; seconds or SI."},
            "rank": MAYBE_PROBABILITY,
        }
    )


def _lever() -> Schema:
    return _object(
        {
            "option": TEXT,
            "name": TEXT,
            "label": TEXT,
            "low": MAYBE_NUMBER,
            "high": MAYBE_NUMBER,
            "low_text": {**TEXT, "description": "The same with its unit."},
            "high_text": TEXT,
            "release_at_low": MAYBE_DATE,
            "release_at_high": MAYBE_DATE,
            "swing_s": MAYBE_NUMBER,
        },
        "Median release among replicates with the lowest and the highest fifth of an input.",
    )


def _fact() -> Schema:
    source = _object({"key": TEXT, "title": TEXT, "publisher": TEXT, "date": DATE, "url": TEXT})
    return _object(
        {
            **dict.fromkeys(("path", "text"), TEXT),
            "kind": {"enum": list(KINDS)},
            **dict.fromkeys(("low", "high", "where", "how", "why"), TEXT),
            "known_on": MAYBE_DATE,
            "file": TEXT,
            "line": MAYBE_COUNT,
            "source": _maybe(source),
        }
    )
