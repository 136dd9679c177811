"""Runs: a module each, whose docstring gives the command, how long it takes and what to expect."""
