"""Specs: what is shipped loads, and anything that does not fit is refused in a sentence that helps."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import yaml
from networks_for_tests import JOINTS, SPEC, spec_with, write_spec

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, known_specs, load_spec

DETECTOR = yaml.safe_load(find_spec("blazepose_detector").read_text())


def refusal(tmp_path: Path, spec: dict[str, Any]) -> str:
    path = write_spec(tmp_path, spec)
    with pytest.raises(InputError) as caught:
        load_spec(path)
    text = str(caught.value)
    assert text.startswith(f"Engine spec {path}")
    assert text.endswith((".", "?")) or "known are" in text
    return text


@pytest.mark.parametrize("name", sorted(known_specs()))
def test_shipped_specs_load(name: str) -> None:
    spec = load_spec(find_spec(name))
    assert spec.name == name == spec.path.stem
    assert spec.licence
    if spec.kind == "pose":
        assert len(spec.skeleton.edges) == len(spec.edges) > 0
        assert spec.detector is None or load_spec(find_spec(spec.detector)).kind == "detector"


def test_both_blazepose_specs_are_there() -> None:
    assert {"blazepose_full", "blazepose_detector"} <= set(known_specs())


def test_a_spec_is_what_its_file_says(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, spec_with(input__std=[0.5, 1, 2], reconstruction={"border": 24})))
    assert spec.joints == JOINTS
    assert spec.input.std == (0.5, 1.0, 2.0)
    assert spec.input.dynamic_batch
    assert spec.outputs["coords2d"].take == (0, 1)
    assert spec.reconstruction.border == 24.0
    assert spec.reconstruction.perspective == "full"
    assert (spec.calibration.heatmap, spec.calibration.views, spec.calibration.distance) == (1.0, 1.0, 0.0)
    assert spec.skeleton.edges[0] == (0, 1)
    with pytest.raises(FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"license": "MIT"}, "unknown key 'license': did you mean 'licence'?"),
        ({"input__sise": 256}, "input has the unknown key 'sise': did you mean 'size'?"),
        ({"outputs__coord2d": {"tensor": "t"}}, "outputs has the unknown key 'coord2d': did you mean 'coords2d'?"),
        ({"outputs__coords2d__units": "px"}, "outputs: coords2d has the unknown key 'units': did you mean 'unit'?"),
        ({"weights__xyz": 1}, "weights has the unknown key 'xyz': known are file, sha256, source"),
        ({"weights__source": {"wheel": "a==1", "members": "b"}}, "unknown key 'members': did you mean 'member'?"),
        ({"path": "/etc/passwd"}, "unknown key 'path'"),
        ({"name": None}, "lacks the key 'name'"),
        ({"licence": None, "kind": None}, "lacks the key 'kind', 'licence'"),
        ({"weights": None}, "lacks the key 'weights'"),
        ({"weights__sha256": None}, "weights lacks the key 'sha256'"),
        ({"input__layout": None}, "input lacks the key 'layout'"),
        ({"outputs__coords3d_rel": None}, "needs coords3d_rel"),
        ({"outputs__spread2d": {"tensor": "t"}}, "spread2d and spread3d go together: name both or neither"),
        ({"reconstruction": {"weights": "spread"}}, "weights by spread need the outputs spread2d and spread3d"),
        ({"reconstruction": {"weights": "area"}}, "weights must be one of confidence, spread, got 'area'"),
        ({"calibration": {"view": 2}}, "calibration has the unknown key 'view': did you mean 'views'?"),
        ({"calibration": {"heatmap": -1}}, "calibration: heatmap must not be negative, got -1.0"),
        ({"input__max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"outputs": None}, "needs coords2d, coords3d_rel"),
        ({"joints": None, "edges": None}, "needs joints"),
        ({"input__size": "256"}, "input: size must be of type int, got str '256'"),
        ({"input__size": 256.5}, "input: size must be of type int, got float"),
        ({"input__size": True}, "input: size must be of type int, got bool"),
        ({"input__dynamic_batch": 1}, "dynamic_batch must be of type bool, got int"),
        ({"input__mean": [0.5, 0.5]}, "mean must have 3 entries, got 2"),
        ({"input__mean": 0.5}, "mean must be a list, got float"),
        ({"input__mean": [0.5, "a", 0.5]}, r"mean[1] must be of type float, got str"),
        ({"input__mean": [0.5, float("nan"), 0.5]}, "mean[1] must be a finite number"),
        ({"input": ["image"]}, "input must be a mapping of keys to values, got list"),
        ({"outputs": ["coords2d"]}, "outputs must be of type dict, got list"),
        ({"outputs__coords2d": "landmarks"}, "outputs: coords2d must be a mapping"),
        ({"joints": "head"}, "joints must be a list, got str"),
        ({"joints": [1, 2]}, "joints[0] must be of type str, got int"),
        ({"edges": [["head"]]}, "edges[0] must have 2 entries, got 1"),
        ({"name": 7}, "name must be of type str, got int 7"),
        ({"kind": "poze"}, "kind must be one of pose, detector, got 'poze'"),
        ({"kind": "detector"}, "needs the key 'detection'"),
        ({"input__layout": "CHWN"}, "layout must be one of NHWC, NCHW, got 'CHWN'"),
        ({"input__size": 4}, "size must be at least 8 px, got 4"),
        ({"input__std": [1, 0, 1]}, "std must be positive"),
        ({"crop": {"upright": "sideways"}}, "upright must be one of world, body, got 'sideways'"),
        ({"crop": {"lens": "ignored"}}, "lens must be one of inverted, iterated, got 'ignored'"),
        ({"crop": {"box_scale": 0}}, "box_scale must be positive, got 0"),
        ({"crop": {"pose_scale": -1}}, "pose_scale must be positive, got -1"),
        ({"outputs__coords2d__unit": "cm"}, "unit must be one of m, mm, px, 1, got 'cm'"),
        ({"outputs__coords2d__activation": "tanh"}, "activation must be one of none, sigmoid, got 'tanh'"),
        ({"outputs__coords2d__take": [0, 4]}, "take must name columns below 4, got [0, 4]"),
        ({"outputs__coords2d__take": [-1, 0]}, "take must name columns below 4"),
        ({"outputs__coords2d__take": []}, "take must name columns"),
        ({"outputs__coords2d__take": [0, 1, 2]}, "coords2d takes 2 columns"),
        ({"reconstruction": {"perspective": "strong"}}, "perspective must be one of full, weak, got 'strong'"),
        ({"reconstruction": {"mix_3d": 1.5}}, "mix_3d must lie in 0..1, got 1.5"),
        ({"joints": ["head", "head"], "edges": []}, "these repeat: head"),
        ({"edges": [["head", "tail"]]}, "lacks: tail"),
        ({"second_look": {"zoom": 0.9, "min_score": 0.5}, "outputs__person_score": None}, "needs the output person_sc"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, spec_with(**change))


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "sha256:" + "0" * 57, "0" * 64 + "\n"])
def test_what_is_no_hash_is_refused(tmp_path: Path, sha256: str) -> None:
    assert "sha256 must be 64 hexadecimal digits" in refusal(tmp_path, spec_with(weights__sha256=sha256))


@pytest.mark.parametrize("file", ["../small.onnx", "/etc/passwd", "a/b.onnx", "..", ".", "", "small.onnx/", "./x.onnx"])
def test_weights_lie_in_no_other_folder(tmp_path: Path, file: str) -> None:
    assert "file must be a plain file name without folders" in refusal(tmp_path, spec_with(weights__file=file))


def test_the_detector_needs_what_decoding_needs(tmp_path: Path) -> None:
    spec = copy.deepcopy(DETECTOR)
    del spec["detection"]["anchors"]["strides"]
    assert "detection: anchors lacks the key 'strides'" in refusal(tmp_path, spec)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("detection", "center_keypoint", 4),
        ("detection", "radius_keypoint", -1),
        ("detection", "score_threshold", 1.0),
        ("detection", "score_threshold", 0.0),
        ("detection", "doubtful_threshold", 0.67),
        ("detection", "doubtful_threshold", 0.0),
        ("detection", "faint_threshold", 0.51),
        ("detection", "faint_threshold", 0.0),
        ("anchors", "per_cell", [2, 2]),
        ("anchors", "strides", [8, 0, 32]),
    ],
)
def test_a_detector_that_cannot_decode_is_refused(tmp_path: Path, section: str, key: str, value: object) -> None:
    spec = copy.deepcopy(DETECTOR)
    place = spec["detection"] if section == "detection" else spec["detection"]["anchors"]
    place[key] = value
    assert key in refusal(tmp_path, spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("a: [1", "is not valid YAML"),
        ("7", "must be a mapping"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the engine spec"):
        load_spec(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x81")
    with pytest.raises(InputError, match="is not valid YAML"):
        load_spec(tmp_path / "binary.yaml")


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no engine named 'blazepose_ful': did you mean 'blazepose_full'"):
        find_spec("blazepose_ful")
    with pytest.raises(InputError, match=r"no engine named 'zzz': known are .*blazepose_full"):
        find_spec("zzz")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_spec(tmp_path, copy.deepcopy(SPEC))
    assert find_spec(path) == path
    with pytest.raises(InputError, match="There is no engine spec at"):
        find_spec(tmp_path / "other.yaml")


def test_an_installed_engine_is_found_but_the_checkouts_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "share" / "metrabs_ros" / "engines"
    folder.mkdir(parents=True)
    write_spec(folder, copy.deepcopy(SPEC))
    (folder / "blazepose_full.yaml").write_text("another")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_spec("small") == folder / "small.yaml"
    assert find_spec("blazepose_full").parent == Path(__file__).resolve().parents[1] / "engines"
