"""Every public name of the specs is in the one list."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import makespan.specs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "nomenclature.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"`([A-Za-z_0-9]+)`", PAGE))
MODULES = [module.name for module in pkgutil.iter_modules(makespan.specs.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_every_field_of_a_spec_is_listed(module):
    loaded = importlib.import_module(f"makespan.specs.{module}")
    fields = {
        field.name
        for value in vars(loaded).values()
        if dataclasses.is_dataclass(value) and value.__module__ == loaded.__name__
        for field in dataclasses.fields(value)
    }

    assert fields - LISTED == set()
