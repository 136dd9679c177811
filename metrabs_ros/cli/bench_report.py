"""The figures of metrabs-bench as tables and as a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metrabs_ros.errors import InputError

# The paper's cost of 16 people over that of one.
_PAPER_16_TO_1 = 128 / 41


def shown(console: Console, figures: dict[str, Any]) -> None:
    """Print the figures that follow the table of whole frames."""
    table = Table("batch", "crops/s", title="bare pose network", title_justify="left")
    for count, rate in figures["crops_per_s"].items():
        table.add_row(str(count), f"{rate:.1f}")
    console.print(table)
    for key, title in (("boxes_given", "boxes given"), ("people_found", "people found and followed")):
        table = Table(
            "people", "seen", "frames/s", "paper", "ms", "in networks", "crops", "rest", "over networks",
            title=f"whole pipeline, {figures['crowd_size']}, {title}", title_justify="left",
        )  # fmt: skip
        for cost in figures[key]:
            rest = cost["seconds"] - cost["networks"] - cost["crops"]
            table.add_row(
                str(cost["people"]),
                f"{cost['seen']:.0f}",
                f"{1 / cost['seconds']:.1f}",
                str(figures["paper_frames_per_s"][cost["people"]]),
                *(f"{part * 1e3:.1f}" for part in (cost["seconds"], cost["networks"], cost["crops"], rest)),
                f"{cost['overhead']:+.0%}",
            )
        console.print(table)
    console.print(f"cost of 16 people : 1 = {figures['cost_16_to_1']:.1f} (paper {_PAPER_16_TO_1:.1f}, RTX 2080 Ti)")
    on_gpu = f", on the GPU {figures['gpu_memory_mb']:.0f} MB" if figures["gpu_memory_mb"] is not None else ""
    console.print(f"start-up {figures['start_up_s']:.1f} s, peak memory {figures['peak_memory_mb']:.0f} MB{on_gpu}")


def write(figures: dict[str, Any], json_file: Path | None, plot: Path | None) -> None:
    """Raises InputError for a file that cannot be written, or a plot of a kind that matplotlib does not know."""
    for path, write_one in ((json_file, _write_json), (plot, _write_plot)):
        if path is None:
            continue
        try:
            write_one(path, figures)
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot write {path}: {error}.") from error


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _write_plot(path: Path, figures: dict[str, Any]) -> None:
    """Frames and crops per second, drawn by matplotlib into a file of its suffix's kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label in (("boxes_given", "boxes given"), ("people_found", "found and followed")):
        costs = figures[key]
        left.plot([cost["people"] for cost in costs], [1 / cost["seconds"] for cost in costs], "o-", label=label)
    left.set(xlabel="people", ylabel="frames/s", xscale="log", yscale="log", title=figures["engine"])
    left.plot(*zip(*figures["paper_frames_per_s"].items(), strict=True), "s--", label="paper, RTX 2080 Ti")
    left.legend()
    rates = figures["crops_per_s"]
    right.plot(list(rates), list(rates.values()), "o-")
    right.set(xlabel="batch", ylabel="crops/s", xscale="log", title=f"{figures['backend']} ({figures['device']})")
    figure.savefig(path)
