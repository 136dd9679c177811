"""The README's tables say what the code declares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
README = Path(__file__).parents[1] / "README.md"


def rows(record: type) -> list[str]:
    """A table row per parameter: name, default, range or choices, when it can change, meaning."""
    from metrabs_ros.parameter_set import declared

    lines = []
    for parameter in declared(record):
        rule = parameter.setting
        allowed = ", ".join(rule.choices)
        if rule.between:
            allowed = f"{rule.between[0]:g} to {rule.between[1]:g}"
        default = json.dumps(parameter.default)
        lines.append(f"| `{parameter.name}` | `{default}` | {allowed} | {rule.change} | {rule.description} |")
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
