"""Importing released models: the directory's checks, hostile files, and parity of torch, ONNX and the runtime."""

from __future__ import annotations

import importlib.util
import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from released_for_tests import CONFIG, JOINTS, SKELETONS, TRANSFORM, write, write_all_but_weights
from skimage import data
from typer.testing import CliRunner

from metrabs_ros import crop, reconstruct
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.cli.engine import app
from metrabs_ros.errors import InputError
from metrabs_ros.iterated_camera import IteratedCamera
from metrabs_ros.model_spec import load_spec
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.released import conversion, directory, unpickling

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed: make training")
PICTURE = data.astronaut()
CAMERA = Camera(
    np.array([[600, 0, 250], [0, 615, 260.0], [0, 0, 1]]), np.array([-0.2, 0.05, 1e-3, -2e-3]), "plumb_bob", (512, 512)
)
STRONG = Camera(CAMERA.K, np.array([1.2, 0.35, 4e-4, -2e-4, 0.01, 1.55, 0.62, 0.07]), "rational_polynomial", (512, 512))
BOXES = [[120.0, 20, 250, 480], [-20, 100, 200, 300]]
# The middle of the upper side is nearly a focal length from the axis.
FAR_BOXES = [[120.0, 20, 250, 480], [60, -300, 400, 860]]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("released") / "metrabs_random")


@pytest.fixture(scope="module")
def imported(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversion.convert(released, tmp_path_factory.mktemp("imported"))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return write_all_but_weights(tmp_path / "model")


def refused(folder: Path, *words: str) -> None:
    """The command ends with exit code 2, one sentence that holds the words, and nothing written."""
    output = folder.parent / "output"
    with pytest.raises(InputError) as caught:
        conversion.convert(folder, output)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not output.exists() or not list(output.iterdir())


@needs_torch
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_torch_onnx_and_runtime_agree(released: Path, imported: Path, backend: str) -> None:
    import torch

    from metrabs_ros.released import checkpoint

    network = checkpoint.load(directory.read(released))
    crops = np.stack([PICTURE[:256, :256], PICTURE[200:456, 100:356]]).astype(np.float32) / 255
    with torch.inference_mode():
        coords2d, coords3d, spread2d, spread3d = (part.numpy() for part in network(torch.from_numpy(crops)))
    pipeline = PosePipeline.from_engine(imported, backend)
    found = pipeline.engine.infer(crops)
    pipeline.close()
    assert coords2d.std() > 2  # not all in the middle
    assert spread2d.min() > 2  # nor on single cells
    np.testing.assert_allclose(found.coords2d, coords2d, atol=0.02)
    np.testing.assert_allclose(found.coords3d_rel, coords3d, atol=1e-4)
    np.testing.assert_allclose(found.spread2d, spread2d, atol=0.05)
    np.testing.assert_allclose(found.spread3d, spread3d, atol=1e-3)


@needs_torch
def test_the_graph_is_one_that_tensorrt_takes(imported: Path) -> None:
    model = onnx.load(str(imported.with_suffix(".onnx")))
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    kinds = {value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]}
    assert kinds == {onnx.TensorProto.FLOAT}
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert len(softmaxes) == 2
    assert not {"NonZero", "Loop", "If", "Scan"} & {node.op_type for node in model.graph.node}


@needs_torch
@pytest.mark.parametrize("num_aug", [1, 5])
@pytest.mark.parametrize(
    ("camera", "boxes", "borders"),
    [(CAMERA, BOXES, (24, 24)), (STRONG, FAR_BOXES, (24, 24)), (CAMERA, BOXES, (8, 120))],
    ids=["moderate", "strong", "uneven borders"],
)
def test_whole_images_go_the_authors_way(
    imported: Path, camera: Camera, boxes: list[list[float]], borders: tuple[float, float], num_aug: int
) -> None:
    """From boxes to joints written down anew, formula by formula of the released code, over the same network.

    Older releases have borders that differ (8 and 40 px), and see them from the other side in mirrored views.
    """
    pipeline = PosePipeline.from_engine(imported, "onnxruntime", num_aug=num_aug)
    recipe = replace(pipeline.spec.reconstruction, border=borders[0], border_far=borders[1])
    pipeline.engine.spec = replace(pipeline.spec, reconstruction=recipe)
    poses = pipeline.estimate(PICTURE, camera, boxes)
    expected = np.zeros((2, len(JOINTS), 3))
    gammas = np.linspace(0.6, 1, num_aug) if num_aug > 1 else [0.8]
    views = AugmentedViews.of(num_aug)
    lens = IteratedCamera.of(camera)
    virtual, _ = crop.virtual_cameras(lens, boxes, 256, [0, -1, 0], focal="camera")
    K = virtual.K.repeat(num_aug, 0)
    K[:, [0, 1], [0, 1]] *= np.tile(views.scales, 2)[:, None]
    sine, cosine = np.sin(-views.angles), np.cos(-views.angles)
    zero, one = 0 * sine, 0 * sine + 1
    roll = np.array([[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]).transpose(2, 0, 1)
    flips = np.where(views.mirrored[:, None, None], np.diag([-1.0, 1, 1]), np.eye(3))
    R = np.concatenate([(flips @ roll) @ R_crop for R_crop in virtual.R_crop_cam])
    # A crop in a mirror is one seen by a camera of negative determinant.
    shown = crop.VirtualCameras(K, R, 256)
    output = pipeline.engine.infer(crop.warp(PICTURE, lens, shown, np.tile(gammas, 2), "pyramid"))
    inside = ((output.coords2d >= borders[0]) & (output.coords2d <= 256 - borders[1])).all(-1)
    absolute = lstsq_absolute(output.coords2d.astype(float), output.coords3d_rel.astype(float), K, inside)
    for i in range(2 * num_aug):
        joints = absolute[i][[0, 2, 1, 3]] if views.mirrored[i % num_aug] else absolute[i]
        expected[i // num_aug] += joints @ R[i] / num_aug
    expected = np.einsum("njc,jk->nkc", expected, TRANSFORM)
    found = np.stack([pose.joints3d for pose in poses])
    pipeline.close()
    assert found.shape == (2, 5, 3)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found[:, 4], (found[:, 1] + found[:, 2]) / 2, atol=1e-6)


def lstsq_absolute(coords2d: np.ndarray, metric: np.ndarray, K: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The released code's reconstruction by a general solver: rows scaled by RMS over the batch, ridge of 0.1."""
    homogeneous = np.concatenate([coords2d, np.ones_like(coords2d[..., :1])], -1)
    n = (homogeneous @ np.linalg.inv(K).transpose(0, 2, 1))[..., :2]
    right = n * metric[..., 2:] - metric[..., :2]
    rms_n, rms_right = np.sqrt((n**2).mean()), np.sqrt((right**2).mean())
    poses = []
    for i in range(len(n)):
        A = np.concatenate([np.tile(np.eye(2), (len(n[i]), 1)), -n[i].reshape(-1, 1) / rms_n], 1)
        weights = np.repeat(inside[i] + 1e-4, 2)[:, None]
        rows = np.concatenate([A * weights, 0.1 * np.eye(3)])
        values = np.concatenate([right[i].reshape(-1, 1) / rms_right * weights, np.zeros((3, 1))])
        x, y, z = np.linalg.lstsq(rows, values, rcond=None)[0][:, 0] * rms_right
        moved = metric[i] + [x, y, z / rms_n]
        back = np.concatenate([n[i], np.ones((len(n[i]), 1))], 1) * moved[:, 2:]
        poses.append(np.where(inside[i][:, None], (moved + back) / 2, moved))
    return np.stack(poses)


@pytest.mark.parametrize("coupled", [1, 3])
def test_the_ridge_is_that_of_a_general_solver(coupled: int) -> None:
    rng = np.random.default_rng(coupled)
    coords2d, metric = rng.uniform(0, 256, (3, 9, 2)), rng.uniform(0, 2, (3, 9, 3))
    K = np.tile(np.array([[700.0, 0, 128], [0, 710, 128], [0, 0, 1]]), (3, 1, 1))
    K[:, :2, :2] *= np.array([1, 2, 4])[:, None, None]
    inside = rng.random((3, 9)) < 0.7
    found = reconstruct.absolute(coords2d, metric, K, inside, None, "full", 0.5, 0.01, coupled)
    batches = [slice(0, 3)] if coupled == 3 else [slice(i, i + 1) for i in range(3)]
    expected = np.concatenate([lstsq_absolute(coords2d[b], metric[b], K[b], inside[b]) for b in batches])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@needs_torch
@pytest.mark.parametrize(("centred", "legacy", "first"), [(True, False, 16), (False, False, 0), (False, True, 16)])
def test_decoding_honours_both_flags(bare: Path, centred: bool, legacy: bool, first: int) -> None:
    """One sharp peak per joint: cell (x, y, z) is at pixel 32 x and y + first, and z / 7 of the box deep."""
    import torch

    from metrabs_ros.released.network import ReleasedNetwork

    write_all_but_weights(bare, centered_stride=centred, legacy_centered_stride_bug=legacy)
    network = ReleasedNetwork(directory.read(bare).config, 2)
    logits = torch.zeros(1, 2 * 9, 8, 8)
    logits[0, 1, 5, 3] = 1000  # 2D, joint 1: y 5, x 3
    logits[0, 2 + 2 * 6 + 0, 1, 7] = 1000  # volume, depth 6, joint 0: y 1, x 7
    coords2d, coords3d, spread2d, _ = network.decoded(logits)
    np.testing.assert_allclose(coords2d[0, 1], [32 * 3 + first, 32 * 5 + first], atol=1e-3)
    metres = 2.2 / 256
    np.testing.assert_allclose(
        coords3d[0, 0], [(32 * 7 + first) * metres, (32 + first) * metres, 6 / 7 * 2.2], atol=1e-5
    )
    assert spread2d[0, 1] < 1 < spread2d[0, 0]


@needs_torch
@pytest.mark.parametrize("centred", [True, False])
def test_the_last_strided_layer_keeps_the_right_sample(bare: Path, centred: bool) -> None:
    import torch

    from metrabs_ros.released.network import ReleasedNetwork

    write_all_but_weights(bare, centered_stride=centred)
    network = ReleasedNetwork(directory.read(bare).config, 1)
    depthwise = network.backbone[1][6][0].block[1][0]
    with torch.no_grad():
        depthwise.weight.zero_()
        depthwise.weight[:, :, 1, 1] = 1
        picture = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(1, depthwise.in_channels, 1, 1)
        seen = depthwise(picture)[0, 0].tolist()
    assert seen == ([[5, 7], [13, 15]] if centred else [[0, 2], [8, 10]])


@needs_torch
@pytest.mark.parametrize("size", ["m", "l"])
def test_larger_networks_have_the_published_shape(bare: Path, size: str) -> None:
    """Parameters of the features, counted by torchvision for EfficientNetV2-M and -L without the classifier."""
    import torch

    from metrabs_ros.released.network import FEATURES, ReleasedNetwork

    write_all_but_weights(bare, efficientnet_size=size, backbone=f"efficientnetv2-{size}", proc_side=384)
    with torch.device("meta"):
        network = ReleasedNetwork(directory.read(bare).config, 4)
        features = network.backbone(torch.zeros(1, 3, 384, 384))
    assert features.shape == (1, FEATURES, 12, 12)
    total = sum(parameter.numel() for parameter in network.backbone.parameters())
    assert total == {"m": 54_139_356, "l": 118_515_272}[size] - 1281 * 1000


@needs_torch
def test_the_spec_says_what_the_configuration_said(imported: Path) -> None:
    spec = load_spec(imported)
    assert spec.joints == ("pelvis", "left_hip", "right_hip", "head", "between")
    assert "non-commercial" in spec.licence
    assert spec.joint_transform is not None
    assert spec.joint_transform.mirror == (0, 2, 1, 3)
    np.testing.assert_array_equal(spec.joint_transform.weights, TRANSFORM)
    assert (spec.crop.focal, spec.crop.lens, spec.crop.resampling) == ("camera", "iterated", "pyramid")
    recipe = spec.reconstruction
    assert (recipe.perspective, recipe.border, recipe.border_far, recipe.mix_3d) == ("full", 24, 24, 0.5)


@needs_torch
def test_an_older_release_and_one_skeleton(
    released: Path, imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command's spec; the other test of both flags sees what the graph then holds."""
    monkeypatch.setattr(
        conversion, "write_onnx", lambda network, target: shutil.copy(imported.with_suffix(".onnx"), target)
    )
    old = shutil.copytree(released, tmp_path / "old")
    flags = {"centered_stride": False, "legacy_centered_stride_bug": True, "weak_perspective": True}
    (old / "config.yaml").write_text(yaml.safe_dump(CONFIG | flags | {"mix_3d_inside_fov": None}))
    result = CliRunner().invoke(app, ["import", str(old), "--output", str(tmp_path / "out"), "--skeleton", "few_2"])
    assert result.exit_code == 0, result.output
    assert "non-commercial" in result.output
    spec = load_spec(tmp_path / "out" / "old.yaml")
    assert spec.joints == ("between", "head")
    recipe = spec.reconstruction
    assert (recipe.perspective, recipe.border, recipe.border_far, recipe.mix_3d) == ("weak", 8, 40, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["old.onnx", "old.yaml"]


class Attack:
    """Pickled, it asks for the creation of a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.place,)


def test_a_pickle_that_runs_something_is_refused(bare: Path, tmp_path: Path) -> None:
    (bare / "skeleton_infos.pkl").write_bytes(pickle.dumps({"": Attack(tmp_path / "owned")}))
    refused(bare, "skeleton_infos.pkl asks for", "nothing was run")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("call", [b"cos\nsystem\n(S'touch owned'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"P1\n."])
def test_handwritten_pickles_are_refused(bare: Path, call: bytes) -> None:
    (bare / "skeleton_infos.pkl").write_bytes(call)
    refused(bare, "skeleton_infos.pkl asks for")


@needs_torch
def test_weights_that_run_something_are_refused(bare: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"backbone": Attack(tmp_path / "owned")}, bare / "ckpt.pt")
    refused(bare, "ckpt.pt cannot be read as plain weights", "nothing in it was run")
    assert not (tmp_path / "owned").exists()


def test_a_pickle_that_grows_without_end_is_refused_at_once(bare: Path) -> None:
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    infos = SKELETONS | {"few_2": {"indices": bomb, "names": bomb, "edges": bomb}}
    (bare / "skeleton_infos.pkl").write_bytes(pickle.dumps(infos))
    refused(bare, "indices must be whole numbers")


def test_an_array_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    claim = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L1000000000000L\ntS'b'\ntR."
    path.write_bytes(claim)
    assert unpickling.read(path).size == 0


@needs_torch
def test_weights_that_unpack_to_more_than_themselves_are_refused(bare: Path) -> None:
    with zipfile.ZipFile(bare / "ckpt.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(20_000_000))
    refused(bare, "unpacks to more than itself")


@pytest.mark.parametrize("name", ["config.yaml", "joint_info.npz", "joint_transform_matrix.npy", "skeleton_infos.pkl"])
def test_a_missing_or_truncated_file_is_named(bare: Path, name: str) -> None:
    whole = (bare / name).read_bytes()
    if name != "config.yaml":
        (bare / name).write_bytes(whole[: len(whole) // 2])
        refused(bare, name, "damaged")
    (bare / name).unlink()
    refused(bare, f"lacks {name}")


@needs_torch
def test_truncated_weights_and_those_of_another_network_are_refused(released: Path, tmp_path: Path) -> None:
    import torch

    model = write_all_but_weights(tmp_path / "model")
    refused(model, "ckpt.pt cannot be read as plain weights")
    whole = (released / "ckpt.pt").read_bytes()
    (model / "ckpt.pt").write_bytes(whole[: len(whole) // 2])
    refused(model, "ckpt.pt cannot be read as plain weights")
    state = torch.load(released / "ckpt.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if "conv_final.bias" not in name}, model / "ckpt.pt")
    refused(model, "lacks heatmap_heads.conv_final.bias")
    # One number in the place of many, as often as it takes.
    name = "heatmap_heads.conv_final.weight"
    torch.save(state | {name: torch.zeros(1).expand(10**6, 10**6)}, model / "ckpt.pt")
    refused(model, f"{name} must hold numbers of shape [36, 1280, 1, 1], got [1000000, 1000000]")
    torch.save(state | {name: state[name] * float("nan")}, model / "ckpt.pt")
    refused(model, "not finite")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("proc_side", 250, "proc_side must be a multiple of 32"),
        ("proc_side", "wide", "proc_side must be a whole number"),
        ("depth", 10**9, "depth must be a whole number"),
        ("efficientnet_size", "xl", "efficientnet_size must be s, m or l"),
        ("centered_stride", 1, "centered_stride must be true or false"),
        ("mix_3d_inside_fov", 7, "mix_3d_inside_fov must be a number from 0 to 1"),
        ("transform_coords", True, "latent points cannot be imported"),
    ],
)
def test_what_the_configuration_cannot_mean_is_refused(bare: Path, key: str, value: Any, word: str) -> None:
    write_all_but_weights(bare, **{key: value})
    refused(bare, word)


def test_files_of_different_models_are_refused(bare: Path) -> None:
    np.save(bare / "joint_transform_matrix.npy", np.eye(7))
    refused(bare, "must hold numbers of shape [4, joints]")
    np.save(bare / "joint_transform_matrix.npy", TRANSFORM)
    infos = SKELETONS | {"few_2": {"indices": [0, 9], "names": ["a", "b"], "edges": []}}
    (bare / "skeleton_infos.pkl").write_bytes(pickle.dumps(infos))
    refused(bare, "indices must be whole numbers from 0 to 4")
    (bare / "skeleton_infos.pkl").write_bytes(pickle.dumps(SKELETONS | {"few_2": {"indices": [0]}}))
    refused(bare, "must have indices, names and edges")


def test_an_npz_bomb_is_refused(bare: Path) -> None:
    with zipfile.ZipFile(bare / "joint_info.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joint_names.npy", bytes(140 << 20))
    refused(bare, "joint_info.npz unpacks to more than")


def test_names_that_need_unpickling_are_refused(bare: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, joint_names=np.array([Attack(tmp_path / "owned")], object), joint_edges=np.zeros((0, 2), int))
    (bare / "joint_info.npz").write_bytes(buffer.getvalue())
    refused(bare, "joint_info.npz is damaged")
    assert not (tmp_path / "owned").exists()


def test_the_command_ends_with_a_sentence(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["import", str(bare), "--output", str(tmp_path / "out")])
    assert isinstance(result.exception, InputError)
    assert "needs torch and onnx" in str(result.exception)
    with pytest.raises(InputError, match="no skeleton 'few2': did you mean 'few_2'"):
        conversion.convert(bare, tmp_path / "out", skeleton="few2")
    with pytest.raises(InputError, match="There is no model directory"):
        conversion.convert(tmp_path / "nowhere", tmp_path / "out")


@needs_torch
def test_a_folder_that_cannot_be_written_is_named(released: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write to"):
        conversion.convert(released, tmp_path / "file")


@pytest.mark.parametrize("matrix", ["?", "eJw=", "eJxjYAAAAAIAAQ=="])
def test_a_joint_transform_that_is_none_is_refused(matrix: str) -> None:
    from metrabs_ros.joint_transform import JointTransform

    with pytest.raises(InputError, match="joint_transform: matrix"):
        JointTransform((0, 1, 2), matrix)
