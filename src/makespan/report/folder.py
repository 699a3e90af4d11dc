"""The run folder: written beside its place, then renamed, so that it appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from makespan.errors import Problem, ScenarioError
from makespan.report.data import result
from makespan.report.page import html
from makespan.report.resolved import plain_data
from makespan.specs.plan import Plan

MANIFEST = "manifest.json"
FILES = ("scenario.yaml", "resolved.json", "result.json", "report.html", MANIFEST)
FORMAT = "makespan run"
_NUMBERS = re.compile(r"\[\n([\s\d.,eE+nul-]*)\]")
"""A list that holds numbers and nulls only; JSON texts hold no line break, so none is hit."""


def write_run(plan: Plan, folder: Path, data: dict[str, Any] | None = None) -> Path:
    """A complete run folder; its path is returned.

    Parameters
    ----------
    folder : made with its parents. A run folder of ours is replaced whole; an empty folder is used.
    data : what `result(plan)` gave, where it is at hand.

    Raises
    ------
    ScenarioError : the place is a file, holds something that is not ours, or cannot be written.

    Notes
    -----
    `result.json` depends on scenario, seed and version alone; the clock shows in `manifest.json` only.
    """
    folder = Path(folder)
    check_place(folder)
    start = time.perf_counter()
    data = result(plan) if data is None else data
    contents = {
        "scenario.yaml": plan.scenario.text,
        "resolved.json": to_json(plain_data(plan.scenario, leave_out=("facts", "sources", "text", "path"))),
        "result.json": to_json(data),
        "report.html": html(plan, data),
    }
    spent_s = {**plan.timings_s, "report": time.perf_counter() - start}
    contents[MANIFEST] = to_json(_manifest(plan, data, contents, spent_s))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name in FILES:
                (temporary / name).write_text(contents[name], encoding="utf-8", newline="\n")
            os.chmod(temporary, 0o777 & ~_umask())
            _replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _problem(
            folder, f"{error.strerror or error}", "a place that can be written", "choose another folder with -o"
        ) from error
    return folder


def to_json(data: Any) -> str:
    """JSON text as the run folder holds it: readable, one newline at the end, no `NaN`."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def check_place(folder: Path) -> None:
    """Refuse a place that is not ours to replace. Raises ScenarioError."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        kind = "a link" if folder.is_symlink() else "a file"
        raise _problem(folder, kind, "a folder, or nothing", "choose another folder with -o")
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return
    foreign = sorted(names - set(FILES))
    if foreign or not _is_ours(folder):
        found = f"a folder that holds {', '.join(foreign[:3])}" if foreign else "a folder that is no run of makespan"
        raise _problem(
            folder, found, "an empty folder or an earlier run", "choose another folder with -o, or move its files away"
        )


def _is_ours(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _replace(temporary: Path, folder: Path) -> None:
    """Put the new folder in place of the old; the old one comes back if that fails."""
    if not folder.exists():
        os.rename(temporary, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    os.rename(folder, old / folder.name)
    try:
        os.rename(temporary, folder)
    except OSError:
        os.rename(old / folder.name, folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _manifest(
    plan: Plan, data: Mapping[str, Any], contents: Mapping[str, str], spent_s: Mapping[str, float]
) -> dict[str, Any]:
    scenario = plan.scenario
    return {
        "format": FORMAT,
        "makespan_version": plan.version,
        "scenario": scenario.path,
        "seed": scenario.seed,
        "num_replicates": scenario.num_replicates,
        "deadline": data["scenario"]["deadline"],
        "inputs_sha256": {
            "scenario.yaml": digest(contents["scenario.yaml"]),
            "resolved.json": digest(contents["resolved.json"]),
            "facts": digest(to_json(data["facts"])),
        },
        "outputs_sha256": {name: digest(contents[name]) for name in ("result.json", "report.html")},
        "facts_used": [
            {
                "path": fact["path"],
                "text": fact["text"],
                "kind": fact["kind"],
                "source": (fact["source"] or {}).get("key"),
            }
            for fact in data["facts"]
        ],
        "timings_s": {name: round(seconds, 6) for name, seconds in spent_s.items()},
    }


def digest(text: str) -> str:
    """SHA-256 of the text as it is written."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _problem(folder: Path, found: str, expected: str, fix: str) -> ScenarioError:
    return ScenarioError(
        str(folder), [Problem(code="MS901", where="run folder", found=found, expected=expected, fix=fix)]
    )
