"""The tables: each claim's figures, mean ± standard deviation over the seeds that are there, and the paper's beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrabs_ros.errors import InputError
from training.claims.results import Result
from training.claims.runs import wanted
from training.tables import Column, Sheet, rendered

NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """label; variant whose figures it shows; names of the figures, a column each ("" leaves one empty)."""

    label: str
    variant: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A claim's columns, rows and what the paper printed."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    paper: dict[str, list[str]]


_ABSOLUTE = ("a_mpjpe", "mpjpe", "a_pck", "pck")
_PERSPECTIVE = ("a_pck", "pck", "a_mpjpe", "near/a_mpjpe", "far/a_mpjpe")
_SCALE = ("pck", "auc", "mpjpe", "adults/mpjpe", "children/mpjpe", "scale")
_TRUNCATED = tuple(f"truncated/{name}" for name in ("all", "present", "absent", "0-0", "1-3", "4-6", "7-9", "10-16"))


def _of(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix + name for name in names)


TABLES: dict[int, Table] = {
    1: Table(
        "1. MPJPE by test stride (table 6)",
        (Column("32"), Column("16"), Column("8"), Column("4")),
        tuple(
            Row(label, variant, ("stride 32/mpjpe", "stride 16/mpjpe", "stride 8/mpjpe", "stride 4/mpjpe"))
            for label, variant in (("normal strides", "normal striding"), ("center-aligned", "base"))
        ),
        {"normal strides": ["53.1", "52.5", "52.7", "52.9"], "center-aligned": ["50.9", "50.2", "50.0", "49.3"]},
    ),
    2: Table(
        "2. The absolute loss (table 8)",
        (Column("A-MPJPE ↓"), Column("MPJPE ↓"), Column("A-PCK ↑", "%"), Column("PCK ↑", "%")),
        (
            Row("MeTRAbs", "base", _of("full/", _ABSOLUTE)),
            Row("w/o abs. loss", "without absolute loss", _of("full/", _ABSOLUTE)),
        ),
        {
            "MeTRAbs": ["248.2", "108.2", "40.2±1.9", "81.1±0.4"],
            "w/o abs. loss": ["328.8", "108.4", "36.7±3.2", "80.9±0.4"],
        },
    ),
    3: Table(
        "3. Full (F) and weak (W) perspective, training × test (table 9, all annotations)",
        (
            Column("A-PCK ↑", "%"),
            Column("PCK ↑", "%"),
            Column("A-MPJPE ↓"),
            Column("near people"),
            Column("far people"),
        ),
        tuple(
            Row(f"{letter} {test[0].upper()}", variant, _of(f"{test}/", _PERSPECTIVE))
            for letter, variant in (("F", "base"), ("W", "weak perspective"), ("–", "without absolute loss"))
            for test in ("full", "weak")
        ),
        {
            "F F": ["37.2±1.7", "76.2±0.5", "–", "–", "–"],
            "F W": ["39.4±1.6", "76.2±0.5", "–", "–", "–"],
            "W F": ["35.6±1.8", "77.1±0.4", "–", "–", "–"],
            "W W": ["38.1±1.8", "77.2±0.4", "–", "–", "–"],
            "– F": ["33.0±3.3", "77.0±0.4", "–", "–", "–"],
            "– W": ["34.8±3.1", "77.0±0.4", "–", "–", "–"],
        },
    ),
    4: Table(
        "4. Scale recovery on people of varied height (table 4, Human3.6M)",
        (
            Column("PCK ↑", "%"),
            Column("AUC ↑", "%"),
            Column("MPJPE ↓"),
            Column("of adults"),
            Column("of children"),
            Column("size error", "%"),
        ),
        (
            Row("2.5D GT root depth", "2.5d", _of("true depth/", _SCALE)),
            Row("2.5D GT bone length", "2.5d", _of("true bones/", _SCALE)),
            Row("2.5D avg train bones", "2.5d", _SCALE),
            Row("MeTRo", "metro", _SCALE),
        ),
        {
            "2.5D GT root depth": ["96.6", "68.8", "49.0", "–", "–", "–"],
            "2.5D GT bone length": ["96.4", "67.0", "51.9", "–", "–", "–"],
            "2.5D avg train bones": ["96.6", "68.1", "50.2", "–", "–", "–"],
            "MeTRo": ["97.0", "68.6", "49.3", "–", "–", "–"],
        },
    ),
    5: Table(
        "5. MPJPE under truncation, by how many of the 17 joints are cut (table 5, fig. 6)",
        tuple(Column(name) for name in ("all", "present", "truncated", "0", "1–3", "4–6", "7–9", "10–16")),
        (
            Row("trained without truncation", "base", _TRUNCATED),
            Row("trained with truncation", "truncated crops", _TRUNCATED),
        ),
        {
            "trained without truncation": ["124.7", "76.8", *["–"] * 6],
            "trained with truncation": ["77.8", "59.8", *["–"] * 6],
        },
    ),
    6: Table(
        "6. Augmentation (table 7)",
        (Column("MPJPE ↓"), Column("P-MPJPE ↓"), Column("training pictures")),
        tuple(
            Row(label, variant, ("mpjpe", "pa_mpjpe", "training/mpjpe"))
            for label, variant in (
                ("geometry", "geometry"),
                ("geometry, color", "geometry and colour"),
                ("geometry, color, occlusion", "base"),
            )
        ),
        {
            "geometry": ["58.0", "–", "–"],
            "geometry, color": ["52.8", "–", "–"],
            "geometry, color, occlusion": ["49.3", "–", "–"],
        },
    ),
}


def report(results: Mapping[str, Result], claims: tuple[int, ...], seeds: int, long: bool = False) -> str:
    """The claims' tables, Markdown, from the results (by key) of up to ``seeds`` seeds, of short or long runs."""
    figures = {
        (variant, config.seed): results[config.key].figures
        for variant, config in wanted(claims, seeds, long)
        if config.key in results
    }
    return "\n\n".join(_table(TABLES[claim], figures, seeds) for claim in claims)


def _table(table: Table, figures: Mapping[tuple[str, int], dict[str, float]], seeds: int) -> str:
    present = {row.variant: [s for s in range(seeds) if (row.variant, s) in figures] for row in table.rows}
    sheets = []
    for seed in range(seeds):
        rows = {
            row.label: [figures[row.variant, seed].get(name, NAN) for name in row.names]
            for row in table.rows
            if seed in present[row.variant]
        }
        sheets.append(Sheet(table.title, table.columns, rows, table.paper))
    missing = [f"{variant} {len(found)} of {seeds}" for variant, found in present.items() if len(found) < seeds]
    note = f"Seeds: {seeds} of each row." if not missing else f"Runs missing, seeds there: {', '.join(missing)}."
    return f"{_without_footer(rendered(sheets))}\n{note} Millimetres, mean ± standard deviation over seeds."


def _without_footer(text: str) -> str:
    """The table alone: how many seeds each row has is said more exactly here."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if line.startswith(("###", "|")) or not line)


def check(claim: int | None) -> tuple[int, ...]:
    """The claims asked for. Raises InputError for a number that is none."""
    if claim is not None and claim not in TABLES:
        raise InputError(f"There is no claim {claim}: give one of {', '.join(map(str, TABLES))}, or none for all.")
    return tuple(TABLES) if claim is None else (claim,)
