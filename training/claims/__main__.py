"""`python -m training.claims RUNS_FOLDER`: train what the claims still need; `--report`: print their tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from metrabs_ros.errors import InputError
from training.claims import results
from training.claims.lanes import train
from training.claims.report import check, report
from training.claims.runs import LONG, is_current, wanted

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    folder: Annotated[
        Path, typer.Argument(help="Where pictures, checkpoints and results lie; resumed where it exists.")
    ],
    claim: Annotated[int | None, typer.Option(help="Only this claim, 1 to 6.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 3,
    long: Annotated[bool, typer.Option("--long", help=f"Runs of {LONG} updates instead.")] = False,
    lanes: Annotated[int, typer.Option(min=1, help="Runs side by side, a thread each.")] = 2,
    only_report: Annotated[bool, typer.Option("--report", help="Print the tables of what is there.")] = False,
    store: Annotated[bool, typer.Option("--store", help="Put the results into training/claims/results.json.")] = False,
) -> None:
    """Runs whose result is in the repository or the folder are not trained again; others resume."""
    try:
        claims = check(claim)
        if not (only_report or store):
            train(folder, wanted(claims, seeds, long), lanes)
        found = results.known(folder / "results")
        if store:
            results.store(one for one in found.values() if is_current(one.variant, one.seed, one.key))
        print(report(found, claims, seeds, long))
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    app()
