"""The person detector's training: labels, views, targets and their decoding, parity, resuming, export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros.detector import Detector, anchor_centers, box_iou, decoded, open_detector  # noqa: E402
from metrabs_ros.detector_views import view_pixels  # noqa: E402
from metrabs_ros.errors import InputError  # noqa: E402
from metrabs_ros.model_spec import find_spec, load_spec  # noqa: E402
from metrabs_ros.network_input import run_network  # noqa: E402
from metrabs_ros.pose import Detections  # noqa: E402
from tests.training_fakes import fake_person  # noqa: E402
from training import checkpoint  # noqa: E402
from training.detector import evaluate, export, network, scenes, views  # noqa: E402
from training.detector.config import DetectorConfig  # noqa: E402
from training.detector.loss import HIPS, RIM, losses  # noqa: E402
from training.detector.targets import ANCHORS, ANSWERS, People, assigned, people_of  # noqa: E402
from training.detector.train import train  # noqa: E402
from training.detector.trainer import Trainer  # noqa: E402
from training.examples import collate  # noqa: E402
from training.skeleton import JOINT_NAMES  # noqa: E402

SIZE = 224
JOINTS = len(JOINT_NAMES)


def standing(hips: tuple[float, float], radius: float, shown: float = 1.0) -> People:
    """Somebody upright whose circle is known, of whom so many joints, as a part of all, are seen."""
    center = np.array(hips)
    seen = np.arange(JOINTS) < shown * JOINTS
    joints = np.tile(center, (1, JOINTS, 1))
    up = np.array([0, -radius])
    return People(center[None], (center + up)[None], (center + 0.55 * up)[None], joints, seen[None])


def picture_of(rng: np.random.Generator, width: int = 200, height: int = 120) -> scenes.Picture:
    """A white dot where the hips are, on black, and joints around it."""
    middle = np.array([rng.uniform(60, width - 60), rng.uniform(40, height - 40)])
    joints = np.tile(middle, (JOINTS, 1))
    for i, name in enumerate(JOINT_NAMES):
        side = {"left": -3.0, "right": 3.0}.get(name.partition("_")[0], 0.0)
        up = {"hip": 0, "shoulder": 14, "nose": 20, "top": 25, "ankle": -24}.get(name.rpartition("_")[2], 5)
        joints[i] += [side, -up]
    image = np.zeros((height, width, 3), np.uint8)
    x, y = np.round(middle).astype(int)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    box = np.array([[*joints.min(0), *np.ptp(joints, axis=0)]], np.float32)
    return scenes.Picture(image, box, joints[None].astype(np.float32), np.ones((1, JOINTS), bool))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectorConfig:
    """A run of four updates on eight pictures; photos of nobody are grey, and nothing is put before anybody."""
    rng = np.random.default_rng(0)
    for name in ("train", "check"):
        (tmp_path / name).mkdir()
        scenes.write_block(tmp_path / name / "block_00000.npz", [picture_of(rng) for _ in range(8)])
    nobody = fake_person(np.random.default_rng(1))
    monkeypatch.setattr(views, "negatives", lambda count, side, seed, held_out: collate([nobody] * count))
    nothing = np.zeros((64, 64), np.float32)
    monkeypatch.setattr(views.cutouts, "strewn", lambda image, rng, held_out: (image, nothing))
    return DetectorConfig(
        pictures=tmp_path / "train",
        check=tmp_path / "check",
        size=64,
        steps=4,
        batch_size=2,
        views=2,
        log_every=1,
        checkpoint_every=2,
        validate_every=4,
        threads=1,
    )


def tiny_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights instead of BlazePose's, the same ones each time."""

    def made() -> network.PersonDetector:
        torch.manual_seed(0)
        return network.PersonDetector()

    monkeypatch.setattr(network, "load", made)


def test_the_torch_twin_says_what_blazepose_says() -> None:
    detector = open_detector(load_spec(find_spec(network.ENGINE)))
    image = np.random.default_rng(0).random((SIZE, SIZE, 3), np.float32) * 2 - 1
    expected = detector.run_raw(image[None])
    with torch.no_grad():
        boxes, logits = network.load().eval()(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(boxes.numpy(), expected["Identity"].reshape(boxes.shape), atol=2e-3)
    np.testing.assert_allclose(logits.numpy(), expected["Identity_1"].reshape(logits.shape), atol=2e-3)
    detector.close()


def test_pictures_come_back_from_their_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        picture_of(rng),
        replace(picture_of(rng), **dict.fromkeys(("boxes", "joints2d", "visible"))),
    ]
    nobody = {"boxes": np.zeros((0, 4)), "joints2d": np.zeros((0, JOINTS, 2)), "visible": np.zeros((0, JOINTS), bool)}
    pictures[1] = replace(pictures[1], **nobody)
    path = tmp_path / "block_00000.npz"
    scenes.write_block(path, pictures)
    assert scenes.blocks(tmp_path) == [path]
    back = [stored.picture() for stored in scenes.read_block(path)]
    for before, after in zip(pictures, back, strict=True):
        assert np.abs(before.image.astype(int) - after.image).mean() < 2
        for name in nobody:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_a_damaged_block_says_so(tmp_path: Path) -> None:
    path = tmp_path / "block_00000.npz"
    path.write_bytes(b"no block")
    with pytest.raises(InputError, match="delete the file and render again"):
        scenes.read_block(path)
    with pytest.raises(InputError, match="render them with"):
        views.Pictures(tmp_path / "nowhere")


@pytest.mark.parametrize("part", [0.0, 1.0, 0.8])
def test_labels_move_with_the_view(part: float) -> None:
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(12):
        picture = picture_of(rng)
        view = views.cut(picture, views.placed(picture, part, rng), rng, 160)
        for hips, joints in zip(view.people.hips, view.people.joints, strict=True):
            if ((joints > 8) & (joints < 152)).all():
                lit = np.argwhere(view.image[..., 0] > 128)[:, ::-1]
                np.testing.assert_allclose(lit.mean(0) + 0.5, hips, atol=1.0)
                checked += 1
    assert checked > 2


def test_portraits_show_the_head_and_end_at_the_hips_or_above() -> None:
    rng = np.random.default_rng(4)
    small = picture_of(rng)
    assert not len(views.portrayable(small))
    large = replace(small, image=np.repeat(np.repeat(small.image, 4, 0), 4, 1), joints2d=4 * small.joints2d)
    assert views.portrayable(large).tolist() == [0]
    hidden = replace(large, visible=np.zeros_like(large.visible))
    assert not len(views.portrayable(hidden))
    upside_down = replace(large, joints2d=np.array([0, 480]) + np.array([1, -1]) * large.joints2d)
    assert not len(views.portrayable(upside_down))
    people = people_of(large)
    (head_x, head_y), hips_y = people.point[0], people.hips[0, 1]
    for _ in range(50):
        left, top, side = views.portrait(large, 0, rng)
        assert top < head_y < top + side <= hips_y + 0.1 * (hips_y - head_y) + 1e-6
        assert -0.1 * side < head_x - left < 1.1 * side
        view = views.cut(large, (left, top, side), rng, 160)
        assert np.isfinite(view.people.hips).all()


def test_those_beyond_the_view_are_not_in_it() -> None:
    inside, outside = standing((100, 100), 40), standing((400, 100), 40)
    assert len(People.joined([inside, outside]).within(SIZE).hips) == 1


def test_near_anchors_answer_and_weigh_one_a_stride() -> None:
    people = standing((100.0, 120.0), 60.0)
    targets = assigned(people, SIZE)
    centers = anchor_centers(ANCHORS, SIZE) * SIZE
    answering = targets.person == 0
    assert np.linalg.norm(centers[answering] - people.point, axis=1).max() < 16
    assert targets.weight[answering].sum() == pytest.approx(len(ANSWERS))
    assert (targets.person[np.linalg.norm(centers - people.point, axis=1) > 40] == -1).all()


@pytest.mark.parametrize(("radius", "shown"), [(5.0, 1.0), (60.0, 0.1)])
def test_the_tiny_and_the_hidden_are_neither_asked_for_nor_forbidden(radius: float, shown: float) -> None:
    targets = assigned(standing((100.0, 120.0), radius, shown), SIZE)
    assert set(targets.person) == {-1, -2}


def test_heads_beyond_the_border_are_told_at_it() -> None:
    people = standing((100.0, 20.0), 80.0)
    centers = anchor_centers(ANCHORS, SIZE) * SIZE
    answering = centers[assigned(people, SIZE).person == 0]
    assert len(answering)
    assert answering[:, 1].max() < 16


def perfect(people: People) -> tuple[np.ndarray, np.ndarray]:
    """What the network should say of a view: boxes [A,12] and logits [A]."""
    targets = assigned(people, SIZE)
    centers = anchor_centers(ANCHORS, SIZE) * SIZE
    boxes, who = np.zeros((len(centers), 12), np.float32), np.maximum(targets.person, 0)
    boxes[:, HIPS], boxes[:, RIM] = people.hips[who] - centers, people.rim[who] - centers
    return boxes, np.where(targets.person >= 0, 6.0, -6.0).astype(np.float32)


def test_the_runtime_decodes_what_is_asked_for() -> None:
    people = People.joined([standing((60.0, 120.0), 50.0), standing((170.0, 100.0), 20.0)])
    boxes, logits = perfect(people)
    spec = load_spec(find_spec(network.ENGINE)).detection
    found = decoded(boxes, logits, anchor_centers(ANCHORS, SIZE), spec, SIZE, (10, 20, 2 * SIZE))
    radius = people.radius[:, None]
    expected = np.concatenate([people.hips - radius, 2 * radius, 2 * radius], 1) * 2 + [9.5, 19.5, 0, 0]
    overlaps = box_iou(found.boxes, expected)
    assert overlaps.max(1).min() > 0.999
    assert set(overlaps.argmax(1)) == {0, 1}
    np.testing.assert_allclose(found.body_axes, np.tile([0, -1], (len(found), 1)), atol=1e-5)


def test_the_loss_is_least_where_all_is_said_rightly() -> None:
    people = standing((100.0, 120.0), 60.0)
    boxes, logits = (torch.from_numpy(array[None]) for array in perfect(people))

    def total(boxes: torch.Tensor, logits: torch.Tensor, those: People = people) -> float:
        return float(sum(losses(boxes, logits, [those], SIZE).values()))

    right = total(boxes, logits)
    assert right < 1e-3
    assert total(boxes + 6, logits) > right + 0.01
    assert total(boxes, -logits) > right + 1
    assert total(boxes, logits, People.nobody()) > right + 1


def test_a_resumed_run_is_the_run(folders: DetectorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run(monkeypatch)
    whole = train(folders, tmp_path / "whole")
    train(folders, tmp_path / "parts", until=2)
    resumed = train(folders, tmp_path / "parts")
    assert resumed.step == whole.step == 4
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
        assert torch.equal(whole.ema.state[name], resumed.ema.state[name]), name
    before = network.load().state_dict()
    assert torch.equal(before["stem.0.weight"], whole.network.state_dict()["stem.0.weight"])
    assert not torch.equal(before["to_16.0.expand.weight"], whole.network.state_dict()["to_16.0.expand.weight"])


def test_what_is_not_finite_changes_nothing(folders: DetectorConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run(monkeypatch)
    trainer = Trainer(replace(folders, bad_steps=2))
    with torch.no_grad():
        trainer.network.scores[0].convolved[1].bias.fill_(float("nan"))
    pictures = views.Pictures(folders.pictures)
    trainer.update(pictures)
    assert not any(torch.isnan(value).any() for value in trainer.ema.state.values())
    with pytest.raises(InputError, match="lower the learning rate"):
        trainer.update(pictures)


def test_export_says_the_same_in_every_runtime(
    folders: DetectorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_run(monkeypatch)
    Trainer(folders).save(tmp_path / "run", {})
    trained = export.restored(checkpoint.latest(tmp_path / "run"))
    spec = load_spec(export.export(trained, tmp_path / "tiny.onnx", 96))
    image = np.random.default_rng(0).random((3, 96, 96, 3), np.float32)
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in export.Deployed(trained).eval()(torch.from_numpy(image) * 2 - 1)]
        all_boxes, all_logits = trained((torch.from_numpy(image) * 2 - 1).permute(0, 3, 1, 2))
    first = 12 * 12 * 2
    np.testing.assert_allclose(expected[0][:, :144], all_boxes[:, 1:first:2, :8], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(expected[1][:, 144:], all_logits[:, first : first + 72 : 2], rtol=1e-4, atol=1e-4)
    for backend in ("onnxruntime", "openvino"):
        detector = open_detector(spec, backend)
        outputs = run_network(detector._network.run, spec, image)
        for name, value in zip(("boxes", "scores"), expected, strict=True):
            assert outputs[name].shape == value.shape
            scale = np.abs(value).max()
            np.testing.assert_allclose(outputs[name] / scale, value / scale, atol=5e-3)
        assert len(anchor_centers(spec.detection.anchors, 96)) == expected[1].shape[1]
        detector.detect(np.zeros((50, 80, 3), np.uint8))
        detector.close()


def test_who_is_found_is_counted_by_size() -> None:
    picture = picture_of(np.random.default_rng(0))
    people = people_of(picture)
    radius = people.radius[:, None]
    square = np.concatenate([people.hips - 0.5 - radius, 2 * radius, 2 * radius], 1)

    class Told(Detector):
        sure_score = 0.5

        def __init__(self, boxes: np.ndarray) -> None:
            self.boxes = boxes

        def detect(self, image: np.ndarray, max_views: int | None = None) -> Detections:
            return Detections.from_boxes(self.boxes)

    far = square + [3 * square[0, 2], 0, 0, 0]
    both = evaluate.seen(Told(np.concatenate([square, far])), picture)
    assert both.found.tolist() == [True]
    assert both.false_alarms == 1
    assert both.sizes[0] == pytest.approx(square[0, 2] / 200)
    row = evaluate.evaluate({"all": Told(square), "none": Told(square[:0])}, [picture]).rows
    assert row["all"][:2] == [1.0, 1.0]
    assert row["none"][:2] == [1.0, 0.0]


def test_views_are_pixels_of_the_runtime() -> None:
    """The whole picture as training cuts it, not turned, is what the runtime shows the network."""
    picture = picture_of(np.random.default_rng(0), 200, 200)

    class Straight:
        def uniform(self, low: float, high: float) -> float:
            return 1.0

        def random(self) -> float:
            return 0.99

    view = views.cut(picture, views.placed(picture, 0.0, Straight()), Straight(), 100)
    expected = view_pixels(picture.image, (0, 0, 200), 100) * 255
    assert np.abs(view.image - expected).max() < 2
