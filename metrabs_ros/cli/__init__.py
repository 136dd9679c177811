"""The commands without ROS, one file each, and how they all end."""

from __future__ import annotations

import logging
import sys

import typer

from metrabs_ros.engine import Engine
from metrabs_ros.errors import InputError


def new_app(help_text: str) -> typer.Typer:
    """A command in the style of the others: plain messages, tracebacks only for faults of ours."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )


def run(app: typer.Typer, name: str) -> None:
    """Runs a command line and exits: what cannot be used costs one sentence on stderr and exit code 2."""
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.WARNING)
    try:
        app(prog_name=name)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)


def say_why(engine: Engine, name: str) -> None:
    """On stderr, in the name of a command: why the engine runs where it runs, and what went wrong in finding out."""
    for sentence in filter(None, (engine.reason, engine.warning)):
        print(f"{name}: {sentence}", file=sys.stderr)
