"""A poses.jsonl of metrabs-pose beside a data set: which recording it is of, and whose pose each of its people is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metrabs_ros.errors import InputError
from training.protocols.poses import Poses, taken
from training.protocols.threedpw import nearest


def of_recording(labels: Poses, name: str | None, first_frame: int) -> Poses:
    """The labels of one recording of a data set, their images named as metrabs-pose counts them: from 0.

    name: the sequence (TS1), or subject and sequence where several subjects have one of that name (S9/Walking
    1/55011271). Raises InputError that names recordings there are.
    """
    subjects, sequences = labels.group("subject"), labels.group("sequence")
    full = np.char.add(np.char.add(subjects, "/"), sequences)
    is_wanted = (sequences == name) | (full == name)
    if not is_wanted.any():
        known = ", ".join(list(dict.fromkeys(sequences.tolist()))[:8])
        raise InputError(
            f"A poses.jsonl is of one recording: name it with --recording, such as {known}"
            + (f"; there is no {name!r}." if name else ".")
        )
    chosen = labels[is_wanted]
    if len(set(zip(chosen.group("frame"), chosen.people, strict=True))) < len(chosen):
        choices = ", ".join(sorted(set(full[is_wanted].tolist())))
        raise InputError(f"Several subjects have a recording {name!r}: name one of {choices}.")
    return replace(chosen, images=(chosen.group("frame").astype(int) - first_frame).astype(str))


def by_place(labels: Poses, predictions: Poses) -> Poses:
    """The predictions as of the people of the labels, each of whom takes the nearest of their image (threedpw.nearest):
    track ids say nothing of who is meant."""
    found = taken(predictions, nearest(labels, predictions), labels)
    return found[np.isfinite(found.joints3d).any((1, 2))]
