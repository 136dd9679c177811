"""The README's tables say what the code declares."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
README = Path(__file__).parents[1] / "README.md"


def rows(record: type) -> list[str]:
    """A table row per parameter: name, default, range or choices, when it can change, meaning."""
    lines = []
    for field in dataclasses.fields(record):
        declared = field.metadata["setting"]
        default = json.dumps(field.default)
        allowed = ", ".join(declared.choices)
        if declared.between:
            allowed = f"{declared.between[0]:g} to {declared.between[1]:g}"
        lines.append(f"| `{field.name}` | `{default}` | {allowed} | {declared.change} | {declared.description} |")
    return lines


def records() -> dict[str, type]:
    from metrabs_ros.params import NodeParams
    from metrabs_ros.video_source import SourceParams

    return {"pose_node": NodeParams, "video_source": SourceParams}


@pytest.mark.parametrize("node", ["pose_node", "video_source"])
def test_readme_lists_every_parameter_as_declared(node: str) -> None:
    text = README.read_text(encoding="utf-8")
    missing = [row for row in rows(records()[node]) if row not in text]
    assert not missing, "README.md lacks these rows:\n" + "\n".join(missing)
