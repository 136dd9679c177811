"""The networks of training/: BlazePose's encoder in torch, striding surgery, decoding, the 2.5D baseline."""

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from torch import nn  # noqa: E402

from metrabs_ros.errors import InputError  # noqa: E402
from metrabs_ros.model_spec import find_spec, load_spec  # noqa: E402
from metrabs_ros.weights import find_weights, weight_folders  # noqa: E402
from training import heatmap  # noqa: E402
from training.heatmap import Grid  # noqa: E402
from training.model import backbones, baseline25d, blazepose_encoder, blazepose_tower, heads, metrabs, metro  # noqa: E402
from training.model.surgery import restride  # noqa: E402

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "metrabs_decode.npz"


@pytest.fixture(scope="module")
def blazepose() -> nn.Module:
    return blazepose_encoder.load().eval()


def test_encoder_equals_blazepose(blazepose: nn.Module) -> None:
    import openvino as ov

    spec = load_spec(find_spec("blazepose_full"))
    core = ov.Core()
    model = core.read_model(find_weights(spec.weights, spec.path))
    pool = next(op for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool")
    cut = ov.Model([pool.input_value(0)], model.get_parameters())
    original = core.compile_model(cut, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = np.random.default_rng(0).random((3, 256, 256, 3), np.float32)
    expected = np.concatenate([original(image[None])[0] for image in images])
    with torch.no_grad():
        got = blazepose(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert got.shape == (3, 288, 8, 8)
    assert expected.std() > 0.05
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_heavy_equals_blazepose() -> None:
    import openvino as ov

    variant = blazepose_encoder.HEAVY
    spec = load_spec(find_spec(variant.engine))
    path = next((folder / spec.weights.file for folder in weight_folders(spec.path)), None)
    if path is None or not path.is_file():
        pytest.skip("blazepose_heavy's weights are not there: metrabs-engine fetch blazepose_heavy")
    core = ov.Core()
    model = core.read_model(path)
    last = next(op for op in model.get_ordered_ops() if blazepose_encoder._is_last_of_encoder(op, variant))
    for _ in ("bias", "activation"):
        last = next(iter(last.output(0).get_target_inputs())).get_node()
    cut = ov.Model([last.output(0)], model.get_parameters())
    image = np.random.default_rng(0).random((1, 256, 256, 3), np.float32)
    expected = core.compile_model(cut, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    encoder = blazepose_encoder.load(variant).eval()
    with torch.no_grad():
        got = encoder(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_the_tower_equals_blazepose() -> None:
    import openvino as ov

    spec = load_spec(find_spec("blazepose_heavy"))
    path = next((folder / spec.weights.file for folder in weight_folders(spec.path)), None)
    if path is None or not path.is_file():
        pytest.skip("blazepose_heavy's weights are not there: metrabs-engine fetch blazepose_heavy")
    core = ov.Core()
    model = core.read_model(path)
    # The tower's maps are what is pooled on the way down.
    pooled = [op.input_value(0) for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool"]
    image = np.random.default_rng(0).random((1, 256, 256, 3), np.float32)
    cut = core.compile_model(ov.Model(pooled[2:4], model.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    early, deep = (cut(image)[i] for i in range(2))
    with torch.no_grad():
        got = blazepose_tower.load().eval()(torch.from_numpy(image).permute(0, 3, 1, 2))
    for own, expected in zip(got, (deep, early), strict=True):
        assert expected.std() > 0.05
        np.testing.assert_allclose(own, expected, atol=1e-3)


def test_a_stored_map_of_the_fixed_blocks_gives_the_same() -> None:
    encoder = blazepose_encoder.BlazePoseEncoder().eval()
    image = torch.rand(1, 3, 64, 64)
    encoder.fix_first_blocks(10)
    with torch.no_grad():
        stored = encoder.fixed_part(image)
        assert stored.shape == (1, 88, 4, 4)
        torch.testing.assert_close(encoder(stored), encoder(image))


def test_taps_lead_to_the_same_map(blazepose: nn.Module) -> None:
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        whole = blazepose(image)
        for stride, channels in ((8, 32), (16, 88)):
            deep, early = blazepose.with_tap(image, stride)
            assert early.shape == (1, channels, 256 // stride, 256 // stride)
            torch.testing.assert_close(deep, whole)


def linearised(network: nn.Module) -> nn.Module:
    """The same layers with one channel, equal weights and nothing nonlinear: gradients show receptive fields."""
    for name, module in list(network.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(torch.full((1, 1, *module.kernel_size), 1 / module.weight[0, 0].numel()))
            module.bias, module.groups = None, 1
        elif isinstance(module, nn.MaxPool2d):
            setattr(network.get_submodule(parent), own, MeanPool(module))
        elif any(word in type(module).__name__ for word in ("Norm", "SqueezeExcite", "ReLU", "SiLU", "wish")):
            setattr(network.get_submodule(parent), own, nn.Identity())
    return network.eval()


class MeanPool(nn.Module):
    """Max pooling's window, averaged: linear."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = torch.full((1, 1, self.pool.kernel_size, self.pool.kernel_size), 1 / self.pool.kernel_size**2)
        late = type(self.pool).__name__ == "LateMaxPool2d"
        padding = (0, 2, 0, 2) if late else (1, 1, 1, 1)
        return nn.functional.conv2d(nn.functional.pad(x, padding), kernel, None, self.pool.stride)


def receptive_center(network: nn.Module, cell: int, side: int) -> float:
    """Where on the image's diagonal the middle of a cell's receptive field lies, px."""
    image = torch.ones(1, 1, side, side, requires_grad=True)
    features = network.forward_features(image) if hasattr(network, "forward_features") else network(image)
    features[0, :, cell, cell].sum().backward()
    profile = image.grad[0].abs().sum((0, 1))
    return float((profile * torch.arange(side)).sum() / profile.sum())


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("stride", [32, 16, 8, 4])
@pytest.mark.parametrize("name", ["blazepose_random", "resnet18", "mobilenetv3_small"])
def test_receptive_fields_lie_where_the_formula_says(name: str, stride: int, centred: bool) -> None:
    side = 640
    network = backbones.build(name, stride, centred)
    network = linearised(network if name == "blazepose_random" else network.network)
    cell = side // stride // 2
    grid = Grid(side=side, stride=stride, centred=centred)
    first, last = grid.bounds()
    expected = first + cell * (last - first) / (side // stride - 1)
    assert receptive_center(network, cell, side) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("stride", [16, 8])
def test_dense_prediction_contains_the_coarse_one(stride: int) -> None:
    torch.manual_seed(0)
    coarse = blazepose_encoder.BlazePoseEncoder().eval()
    dense = restride(copy.deepcopy(coarse), stride, centred=False)
    image = torch.rand(1, 3, 512, 512)
    with torch.no_grad():
        expected, got = coarse(image), dense(image)[..., :: 32 // stride, :: 32 // stride]
    # Away from the border, whose padding reaches in differently.
    torch.testing.assert_close(got[..., 6:10, 6:10], expected[..., 6:10, 6:10], atol=1e-4, rtol=1e-3)


def test_centring_keeps_the_pixels_to_the_right_and_below() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Conv2d(1, 1, 3, 2, padding=1) for _ in range(5)])
    plain = copy.deepcopy(network)
    restride(network, 32, centred=True)
    image = torch.rand(1, 1, 256, 256)
    moved = torch.roll(image, (-16, -16), (2, 3))
    with torch.no_grad():
        torch.testing.assert_close(network(image)[..., 2:-2, 2:-2], plain(moved)[..., 2:-2, 2:-2])


def test_every_backbone_is_built() -> None:
    # The large ones share their code with the small ones: only their names are looked up.
    assert set(backbones.TIMM_NAMES) >= {"resnet34", "resnet101", "resnet152", "efficientnetv2_m", "efficientnetv2_l"}
    known = backbones._timm().list_models()
    assert not [name for name in backbones.TIMM_NAMES.values() if name not in known]
    for name in ("resnet50", "efficientnetv2_s", "mobilenetv3_large", "efficientnet_lite0"):
        network = backbones.build(name, 16, True).eval()
        with torch.no_grad():
            assert network(torch.rand(1, 3, 64, 64)).shape == (1, network.channels, 4, 4)


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(InputError, match="resnet18"):
        backbones.build("resnet19")


def test_impossible_stride_is_refused() -> None:
    with pytest.raises(InputError, match="output stride"):
        restride(blazepose_encoder.BlazePoseEncoder(), 24, centred=True)


def test_weights_are_loaded_by_order(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    path = tmp_path / "weights.pth"
    torch.save({f"features.{name}": value for name, value in source.state_dict().items()}, path)
    target = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    backbones.load_in_order(target, path)
    torch.testing.assert_close(target[0].weight, source[0].weight)
    with pytest.raises(InputError, match="another network"):
        backbones.load_in_order(nn.Sequential(nn.Conv2d(3, 8, 3)), path)
    with pytest.raises(InputError, match="no backbone weights"):
        backbones.load_in_order(target, tmp_path / "absent.pth")


@pytest.mark.skipif(not REFERENCE.is_file(), reason="needs the reference numbers beside the checkout")
def test_decoding_equals_the_authors() -> None:
    reference = np.load(REFERENCE)
    grid = Grid(side=256, stride=32, centred=True)
    planes, volume = heatmap.split_heads(torch.from_numpy(reference["logits"]), 24, 8)
    got = heads.decoded(planes, volume, grid)
    np.testing.assert_allclose(got.coords2d.numpy(), reference["coords2d"], atol=1e-3)
    np.testing.assert_allclose(got.coords3d_rel.numpy() * 1000, reference["coords3d_rel"], atol=1e-2)


def test_pixel_maps() -> None:
    assert Grid(stride=32, centred=True).bounds() == (16, 240)
    assert Grid(stride=32, centred=False).bounds() == (0, 224)
    assert Grid(stride=4, centred=True).bounds() == (2, 254)
    # "in-image bounds [8, 216]" of the older releases are those of the cells, a quarter stride inside.
    assert Grid(stride=32, centred=False, legacy_half_stride=True).bounds() == (16, 240)


def test_a_peak_is_decoded_to_its_cell_and_has_no_spread() -> None:
    grid = Grid()
    planes = torch.full((1, 1, 8, 8), -1e4)
    planes[0, 0, 2, 5] = 1e4
    volume = torch.full((1, 1, 8, 8, 8), -1e4)
    volume[0, 0, 7, 2, 5] = 1e4
    got = heads.decoded(planes, volume, grid)
    torch.testing.assert_close(got.coords2d[0, 0], torch.tensor([5 * 32 + 16.0, 2 * 32 + 16.0]))
    torch.testing.assert_close(got.coords3d_rel[0, 0], torch.tensor([176 * 2.2 / 256, 80 * 2.2 / 256, 2.2]))
    assert got.spread2d.item() < 1e-2
    assert got.spread3d.item() < 1e-4


def test_metrabs_with_every_head(blazepose: nn.Module) -> None:
    config = metrabs.MetrabsConfig(neck=(64, 64), confidence=True, person=True)
    network = metrabs.build(config, 27)
    got = network(torch.rand(2, 3, 256, 256))
    assert got.coords2d.shape == (2, 27, 2)
    assert got.coords3d_rel.shape == (2, 27, 3)
    assert got.confidence_logit.shape == (2, 27)
    assert got.person_logit.shape == (2,)


def test_fused_head_sees_stride_16(blazepose: nn.Module) -> None:
    config = metrabs.MetrabsConfig(grid=Grid(stride=16, centred=False), fuse=32)
    assert metrabs.build(config, 5)(torch.rand(1, 3, 256, 256)).coords2d.shape == (1, 5, 2)
    with pytest.raises(InputError, match="stride 16"):
        metrabs.build(metrabs.MetrabsConfig(fuse=32), 5)


def test_frozen_encoder_gets_no_gradients() -> None:
    network = metrabs.build(metrabs.MetrabsConfig(backbone="blazepose_random", grid=Grid(side=64)), 3)
    network.freeze_encoder(True)
    network(torch.rand(1, 3, 64, 64)).coords2d.sum().backward()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    network.freeze_encoder(False)
    network(torch.rand(1, 3, 64, 64)).coords2d.sum().backward()
    assert all(parameter.grad is not None for parameter in network.encoder.parameters())


def test_metro_and_the_baseline_give_poses() -> None:
    grid = Grid(side=64)
    image = torch.rand(2, 3, 64, 64)
    assert metro.Metro("blazepose_random", 5, grid)(image).shape == (2, 5, 3)
    predicted = baseline25d.Baseline25D("blazepose_random", 5, grid)(image)
    labels = predicted.detach().clone()
    everything = torch.ones(2, 5, dtype=torch.bool)
    assert baseline25d.loss_25d(predicted, labels[..., :2], labels[..., 2], everything, 0, grid).item() == 0
    a_box_off = baseline25d.loss_25d(predicted, labels[..., :2] + 64, labels[..., 2], everything, 0, grid)
    assert a_box_off.item() == pytest.approx(2.2 * 2 / 3)


def test_bone_lengths_give_the_distance() -> None:
    rng = np.random.default_rng(1)
    pose = rng.normal(0, 0.4, (8, 3)) + [0.2, -0.1, 6.5]
    bones = tuple((i, i + 1) for i in range(7))
    lengths = [np.linalg.norm(pose[a] - pose[b]) for a, b in bones]
    K = np.array([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]])
    pixels = (pose @ K.T)[:, :2] / pose[:, 2:]
    pose25d = np.concatenate([pixels, pose[:, 2:] - 3], -1)
    inside = np.ones(8, bool)
    depth = baseline25d.root_depth(pose25d, K, bones, lengths, inside, root=2)
    assert depth == pytest.approx(pose[2, 2], abs=1e-3)
    np.testing.assert_allclose(baseline25d.back_projected(pose25d, K, depth, 2), pose, atol=2e-3)
    assert np.isnan(baseline25d.root_depth(pose25d, K, bones, lengths, ~inside, root=2))


def test_strided_depthwise_convolutions_stay_exact_under_autocast() -> None:
    torch.manual_seed(0)
    layer = blazepose_encoder.StridedDepthwise(8, 8, 5, 2, padding=2, groups=8)
    pixels = torch.rand(2, 8, 16, 16)
    expected = layer(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(torch.nn.functional.conv2d(pixels, layer.weight, layer.bias, 2, 2, 1, 8), expected)
        assert torch.equal(layer(pixels), expected)
