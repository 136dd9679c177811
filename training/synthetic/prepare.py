"""Builds what synthetic scenes need, once a checkout: `python -m training.synthetic.prepare` (about three minutes)."""

from __future__ import annotations

import sys

from metrabs_ros.errors import InputError
from training.synthetic import backgrounds, synthetic_ready
from training.synthetic.body_data import body_data


def main() -> None:
    if synthetic_ready():
        return
    print("Extracting the body model (two minutes) ...", flush=True)
    body_data()
    print("Fetching and sorting backgrounds (a minute) ...", flush=True)
    try:
        backgrounds.build()
    except InputError as error:
        sys.exit(f"Synthetic people lack their backgrounds: {error}")


if __name__ == "__main__":
    main()
