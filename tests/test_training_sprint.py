"""A sprint: a growing pool of crops, rates by the clock, averages in few calls, weights that travel in parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
pytest.importorskip("numba", reason="the synthetic people need numba: see requirements/training.txt")

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import CONFIG, SIDE, fake_background, fake_person  # noqa: E402
from training import export, sprint  # noqa: E402
from training.checkpoint import averaged, begin_with  # noqa: E402
from training.ema import Ema, FastEma  # noqa: E402
from training.examples import collate  # noqa: E402
from training.model.blazepose_tower import BlazePoseTower  # noqa: E402
from training.pool import Pool, held_out  # noqa: E402
from training.recolour import recoloured  # noqa: E402
from training.render_pool import streams, write  # noqa: E402
from training.skeleton import JOINT_NAMES  # noqa: E402
from training.sprint import Sprint  # noqa: E402
from training.train import _train  # noqa: E402
from training.trainer import Trainer  # noqa: E402
from training.watched import Watched  # noqa: E402

CPU = torch.device("cpu")


def filled(folder: Path, parts: int = 2) -> Path:
    rng = np.random.default_rng(0)
    for name in [f"part-{n:06d}" for n in range(parts)] + ["held-out-000000"]:
        write(folder, name, collate([*(fake_person(rng) for _ in range(3)), fake_background(rng)]))
    return folder


def test_a_pool_takes_in_what_is_new_and_mirrors_half(tmp_path: Path) -> None:
    pool = Pool(filled(tmp_path), CPU, 100, SIDE)
    assert pool.read(1) == 1
    assert pool.count == 4
    assert pool.read() == 1
    assert pool.read() == 0
    filled(tmp_path, parts=3)
    assert pool.read() == 1
    assert pool.count == 12
    batch = pool.drawn(64, np.random.default_rng(0))
    assert 4 < int(batch.background.sum()) < 32
    # A label goes with its picture, mirrored or not: discs stand where the joints are.
    joints = batch.joints2d[batch.visible].round().long()
    rows = torch.nonzero(batch.visible)[:, 0]
    assert (batch.image[rows, joints[:, 1], joints[:, 0]] != 128).any(1).float().mean() > 0.99
    people = batch.person
    hips = [JOINT_NAMES.index(name) for name in ("left_hip", "right_hip")]
    assert len({round(float(value), 3) for value in batch.joints3d[people][:, hips, 0].abs().ravel()}) <= 4 * 9
    assert len(next(held_out(tmp_path))) == 4


def test_what_is_rendered_is_what_a_config_asks_for(tmp_path: Path) -> None:
    training, held_out = streams("heavy_tower_rooms")
    assert training.room == held_out.room == 0.5
    assert held_out.held_out
    assert not training.held_out
    (tmp_path / "other.py").write_text("from tests.training_fakes import CONFIG\n", encoding="utf-8")
    with pytest.raises(InputError, match="only SyntheticPeople are rendered"):
        streams(str(tmp_path / "other.py"))
    assert streams(None)[1].held_out


def test_a_full_pool_reads_no_more_and_an_empty_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    pool = Pool(filled(tmp_path / "full"), CPU, 5, SIDE)
    pool.read()
    assert pool.count == 4
    monkeypatch.setattr("training.pool._read", lambda path: pytest.fail(f"{path} was read for nothing"))
    assert pool.read() == 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is training\.render_pool running"):
        Pool(tmp_path / "empty", CPU, 5, SIDE).wait_for(1, 0.0)


def test_the_fast_average_is_the_average() -> None:
    network = torch.nn.Linear(3, 2)
    slow, fast = Ema(network, 0.9), FastEma(network, 0.9)
    for step in range(5):
        with torch.no_grad():
            network.weight.add_(torch.randn_like(network.weight))
        slow.update(network, step)
        fast.update(step)
    own = network.weight.detach().clone()
    for name, value in slow.state.items():
        assert torch.allclose(fast.state[name], value, atol=1e-6)
    with fast.instead():
        assert torch.equal(network.weight, slow.state["weight"])
    assert torch.equal(network.weight, own)


def test_colours_change_and_nothing_else() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 3, 5, 5)
    changed = recoloured(images)
    assert changed.shape == images.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert not torch.allclose(changed, images, atol=1e-2)
    grey = recoloured(torch.full((4, 3, 2, 2), 0.5))
    assert torch.allclose(grey, grey[..., :1, :1].expand_as(grey), atol=1e-6)


@pytest.mark.parametrize(("encoder_rate", "fixed"), [(0.0, 0), (1e-3, 0), (1e-3, 14)])
def test_only_what_shall_be_trained_is(encoder_rate: float, fixed: int) -> None:
    one = Sprint(CONFIG, CPU, 1e-3, encoder_rate, fixed)
    one.begin()
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    batch = next(CONFIG.data.batches(4, 0, 0, 0))
    losses = [float(one.update(batch, step / 6)[0]) for step in range(6)]
    assert np.isfinite(losses).all()
    changed = {name for name, value in one.model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("head.") for name in changed)
    stem = {name for name in changed if name.startswith("encoder.stem")}
    tail = {name for name in changed if name.startswith("encoder.tail")}
    assert bool(stem) == (encoder_rate > 0 and fixed == 0)
    assert bool(tail) == (encoder_rate > 0)


def test_steps_without_a_finite_gradient_are_left_out_and_too_many_end_the_run() -> None:
    one = Sprint(replace(CONFIG, bad_steps=2), CPU, 1e-3, 1e-3)
    one.begin()
    batch = next(CONFIG.data.batches(4, 0, 0, 0))
    one.update(batch, 0.0)
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    poisoned = replace(batch, joints3d=batch.joints3d * torch.nan)
    one.update(poisoned, 0.1)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    one.check()
    one.update(poisoned, 0.2)
    with pytest.raises(InputError, match="last 2 updates had no finite loss or gradient"):
        one.check()
    one.update(batch, 0.3)
    one.check()
    assert any(not torch.equal(value, before[name]) for name, value in one.model.state_dict().items())


def test_weights_travel_in_parts_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprint, "_LARGEST_FILE", 1_500_000)
    one = Sprint(CONFIG, CPU, 1e-3, 1e-4)
    one.begin()
    sprint.save(one, tmp_path, "whole")
    files = sorted(tmp_path.glob("whole-*.safetensors"))
    assert len(files) > 1
    assert all(path.stat().st_size < 1_600_000 for path in files)
    other = Sprint(replace(CONFIG, seed=5), CPU, 1e-3, 1e-4)
    for path in files:
        begin_with(other.model, path)
    for name, value in one.model.state_dict().items():
        assert torch.allclose(other.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="Nothing in"):
        begin_with(torch.nn.Linear(2, 2), files[0])
    _train(CONFIG, tmp_path / "run", until=0, start_from=files)
    network, _, facts = export.restored(tmp_path / "run" / "step-0000000")
    assert facts["joints"] == list(JOINT_NAMES)
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_an_engine_gives_its_weights_back(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, CPU)
    # Equal tensors, as the biases of a network that has seen nothing, would be stored once.
    for value in trainer.ema.state.values():
        value.add_(torch.rand_like(value))
    trainer.save(tmp_path / "run", {})
    network, config, facts = export.restored(tmp_path / "run" / "step-0000000")
    export.export(network, config, facts, tmp_path / "tiny.onnx", export.Recipe())
    found = averaged(tmp_path / "tiny.onnx")
    for name, value in network.state_dict().items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-4), name
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="cannot be read"):
        averaged(tmp_path / "broken.onnx")


def test_stored_maps_of_the_tower_are_its_maps() -> None:
    tower = BlazePoseTower().eval()
    with torch.no_grad():
        image = torch.rand(2, 3, 64, 64)
        stored = tower.stored(image)
        for seen, again in zip(tower(image), tower(stored), strict=True):
            assert torch.equal(seen, again)
    assert stored.shape == (2, 1056, 2, 2)


def test_a_network_is_watched(tmp_path: Path) -> None:
    """A network that says what the other one says agrees with it fully; one of twice the size has longer bones."""
    rng = np.random.default_rng(0)
    count, joints = 24, len(JOINT_NAMES)
    flat, metric = rng.uniform(0, SIDE, (count, joints, 2)), rng.normal(0, 0.5, (count, joints, 3))
    np.savez(
        tmp_path / "watched.npz",
        images=np.zeros((count, SIDE, SIDE, 3), np.uint8),
        joints2d=flat,
        joints3d=metric,
        confidence=np.ones((count, joints)),
        own=np.arange(joints),
        steady=np.ones(count, bool),
        person=np.zeros(count, int),
    )

    class Echo(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, images: torch.Tensor) -> sprint.losses.Prediction:
            nothing = torch.zeros(len(images), joints)
            return sprint.losses.Prediction(
                torch.from_numpy(flat), torch.from_numpy(metric) * self.scale, nothing, nothing
            )

    seen = Watched(tmp_path / "watched.npz").seen_by(Echo())
    assert seen["px"] == pytest.approx(0, abs=1e-3)
    assert seen["p_mpjpe"] == pytest.approx(0, abs=1e-3)
    assert seen["longer"] == pytest.approx(2, abs=1e-3)
