"""Frozen dataclasses shared by every room: SI units, no files, no formulas."""
