"""Figures of a table, by row and column."""

from __future__ import annotations

from training.tables import Sheet


def cell(sheet: Sheet, row: str, column: str) -> float:
    return sheet.rows[row][[c.name for c in sheet.columns].index(column)]
