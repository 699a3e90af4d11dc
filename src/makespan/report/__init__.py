"""Plan -> result dict, terminal tables, one self-contained HTML file, run folder; a step or a search as text.

Each name is imported when it is first used, so that a short command does not pay for the long ones.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makespan.report.console import terminal
    from makespan.report.data import result
    from makespan.report.folder import write_run
    from makespan.report.page import html
    from makespan.report.refusal import why_not
    from makespan.report.scaling import how_far_text, scaling_data, scaling_table, train_time_data, train_time_table
    from makespan.report.scaling_plot import scaling_svg
    from makespan.report.schema import result_schema
    from makespan.report.search_answer import SearchAnswer, search_data
    from makespan.report.search_rows import search_columns, search_csv, search_frame
    from makespan.report.search_text import search_summary, search_table, why_nothing_fits
    from makespan.report.step_text import step_data, step_table
    from makespan.report.step_trace import step_trace

_PLACES = {
    "SearchAnswer": "search_answer",
    "how_far_text": "scaling",
    "html": "page",
    "result": "data",
    "result_schema": "schema",
    "scaling_data": "scaling",
    "scaling_svg": "scaling_plot",
    "scaling_table": "scaling",
    "search_columns": "search_rows",
    "search_csv": "search_rows",
    "search_data": "search_answer",
    "search_frame": "search_rows",
    "search_summary": "search_text",
    "search_table": "search_text",
    "step_data": "step_text",
    "step_table": "step_text",
    "step_trace": "step_trace",
    "terminal": "console",
    "train_time_data": "scaling",
    "train_time_table": "scaling",
    "why_not": "refusal",
    "why_nothing_fits": "search_text",
    "write_run": "folder",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(f"makespan.report.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'makespan.report' has no attribute '{name}'")


__all__ = [
    "SearchAnswer",
    "how_far_text",
    "html",
    "result",
    "result_schema",
    "scaling_data",
    "scaling_svg",
    "scaling_table",
    "search_columns",
    "search_csv",
    "search_data",
    "search_frame",
    "search_summary",
    "search_table",
    "step_data",
    "step_table",
    "step_trace",
    "terminal",
    "train_time_data",
    "train_time_table",
    "why_not",
    "why_nothing_fits",
    "write_run",
]
