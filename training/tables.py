"""Tables as the paper prints them: rows of figures, mean ± std over seeds, published rows beside ours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class Column:
    """A heading and how its figures are printed: metres as mm, shares as %, or as they are."""

    name: str
    kind: str = "mm"
    decimals: int = 1

    def shown(self, values: Sequence[float]) -> str:
        """The mean of the values of several seeds, with ± their standard deviation where there are several."""
        found = np.asarray(values, np.float64) * {"mm": 1000.0, "%": 100.0, "": 1.0}[self.kind]
        found = found[np.isfinite(found)]
        if not found.size:
            return "–"
        text = f"{found.mean():.{self.decimals}f}"
        return f"{text}±{found.std():.{self.decimals}f}" if len(found) > 1 else text


@dataclass(frozen=True)
class Sheet:
    """A table's figures of one run: rows by label, each with a figure a column; published: rows as printed text."""

    title: str
    columns: tuple[Column, ...]
    rows: dict[str, list[float]]
    published: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cells(text: str) -> list[str]:
    """A published row, as printed."""
    return text.split()


def rendered(runs: Sequence[Sheet]) -> str:
    """One table, Markdown, of the same sheet from one or several runs (seeds). Raises InputError where they differ."""
    first = runs[0]
    for sheet in runs[1:]:
        if (sheet.title, sheet.columns) != (first.title, first.columns):
            raise InputError(f"Tables of different shape cannot be averaged: {first.title} and {sheet.title}.")
    labels = list(dict.fromkeys(label for sheet in runs for label in sheet.rows))
    lines = [["", *(column.name for column in first.columns)]]
    lines += [[f"{label} (paper)", *printed] for label, printed in first.published.items()]
    for label in labels:
        found = [sheet.rows[label] for sheet in runs if label in sheet.rows]
        lines.append([label, *(c.shown([row[i] for row in found]) for i, c in enumerate(first.columns))])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["| " + " | ".join(_padded(cell, w, i) for i, (cell, w) in enumerate(zip(line, widths, strict=True))) + " |"
            for line in lines]  # fmt: skip
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    seeds = [f"± is the standard deviation over {len(runs)} runs."] if len(runs) > 1 else []
    return "\n".join([f"### {first.title}", "", rows[0], rule, *rows[1:], "", *itertools.chain(first.notes, seeds)])


def _padded(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
