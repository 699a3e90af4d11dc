"""A small valid scenario, and snippets laid over it key by key."""

from __future__ import annotations

import re

BASE = """\
makespan: 1
name: Base
as_of: 2026-11-01
sources:
  report-2026: {title: A report, publisher: Somebody, date: 2026-05-01}
  later-2027: {title: A later report, publisher: Somebody, date: 2027-02-01}
model: llama3.1-70b
run:
  share: 80 %
  stages:
    - {name: pretraining, tokens: 15T, seq_len: 8192, global_batch: 2048 sequences, precision: bf16}
options:
  - {name: Rent, kind: rent, accelerator: h100-sxm, count: 4096, from: 2026-12-01, price: 2.50 USD/h}
  - {name: Own, kind: build, site: hill}
sites:
  hill:
    accelerator: h100-sxm
    count: 1024
    deliveries: [{date: 2026-12-01, count: 1024}]
    power: [{name: grid, kind: grid, capacity: 5 MW}]
"""
_KEY = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)


def blocks(text: str) -> dict[str, str]:
    """Top-level keys of a text, each with its lines; a key that stands twice keeps both."""
    starts = [(match.group(1), match.start()) for match in _KEY.finditer(text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    found: dict[str, str] = {}
    for (key, start), end in zip(starts, ends, strict=True):
        found[key] = found.get(key, "") + text[start:end].rstrip("\n") + "\n"
    return found


def over_base(snippet: str) -> str:
    """The base with the snippet's top-level keys in place of its own.

    A `cluster` replaces the options and sites; a `strict` scenario drops the site, whose plain numbers have no source.
    """
    mine = blocks(snippet)
    base = blocks(BASE)
    dropped = {"cluster": ("options", "sites"), "strict": ("sites",)}
    for key in mine:
        for other in dropped.get(key, ()):
            if other not in mine:
                base.pop(other, None)
    return "".join({**base, **mine}.values())
