"""The training loop: exact resumption, several processes, lost shards, NaNs and exhausted memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import CONFIG, FakePeopleStream, fake_person  # noqa: E402
from training import checkpoint  # noqa: E402
from training.config import load_config  # noqa: E402
from training.examples import Batch, collate  # noqa: E402
from training.losses import TeacherPose  # noqa: E402
from training.schedule import PAPER, RELEASED, Schedule  # noqa: E402
from training.train import _train  # noqa: E402
from training.trainer import Trainer  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "training_fakes.py"
CPU = torch.device("cpu")


def run_training(*arguments: str, launcher: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *launcher, "training.train", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=110)


def newest(run: Path) -> checkpoint.Checkpoint:
    place = checkpoint.latest(run)
    assert place is not None
    return checkpoint.load(place)


def test_a_killed_run_resumes_exactly(tmp_path: Path) -> None:
    whole = run_training(str(FAKES), str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    killed = run_training(str(FAKES), str(tmp_path / "killed"), FAKE_STREAM_KILLS_AT="14")
    assert killed.returncode == -9
    assert newest(tmp_path / "killed").step == 10
    resumed = run_training(str(FAKES), str(tmp_path / "killed"))
    assert resumed.returncode == 0, resumed.stderr
    expected, got = newest(tmp_path / "whole"), newest(tmp_path / "killed")
    assert got.step == expected.step == 20
    for part in ("model", "ema", "optimizer", "rng"):
        wanted = getattr(expected, part)
        assert wanted.keys() == getattr(got, part).keys()
        for name, value in wanted.items():
            assert torch.equal(value, getattr(got, part)[name]), f"{part} {name}"
    assert got.facts["errors"] == expected.facts["errors"]
    assert "step 20, held-out people" in resumed.stdout


def test_a_terminated_run_leaves_a_checkpoint(tmp_path: Path) -> None:
    stopped = run_training(str(FAKES), str(tmp_path), FAKE_STREAM_TERMINATES_AT="3")
    assert stopped.returncode == 0, stopped.stderr
    assert newest(tmp_path).step == 4
    assert "Stopped at step 4" in stopped.stdout


def test_two_processes_make_the_update_of_both_batches(tmp_path: Path) -> None:
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    pair = run_training(str(FAKES), str(tmp_path), "--until", "7", launcher=launcher)
    assert pair.returncode == 0, pair.stderr
    alone = Trainer(replace(CONFIG, data=FakePeopleStream(as_ranks=2)), CPU)
    # Means over labelled joints are each process's own.
    alone.parts = 2
    stream = alone.config.data.batches(CONFIG.batch_size, CONFIG.seed, 0, 0)
    for _ in range(7):
        alone.update(next(stream))
    saved = newest(tmp_path)
    assert saved.step == 7
    assert {key.partition("/")[0] for key in saved.rng} == {"0", "1"}
    begun = Trainer(CONFIG, CPU).model.state_dict()
    for part in ("encoder", "head"):
        names = [name for name in begun if name.startswith(part)]
        wanted = torch.cat([(alone.model.state_dict()[name] - begun[name]).ravel() for name in names])
        got = torch.cat([(saved.model[name] - begun[name]).ravel() for name in names])
        assert wanted.norm() > 0
        # Adam's first updates turn rounding of tiny gradients into whole steps.
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def test_the_encoder_waits_and_then_learns() -> None:
    trainer = Trainer(CONFIG, CPU)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    stream = CONFIG.data.batches(2, 0, 0, 0)
    for _ in range(CONFIG.frozen_encoder_steps):
        trainer.update(next(stream))
    now = trainer.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], now[name])}
    assert moved
    assert all(name.startswith("head") for name in moved)
    trainer.update(next(stream))
    now = trainer.model.state_dict()
    assert any(name.startswith("encoder") and not torch.equal(before[name], now[name]) for name in before)


def test_fixed_blocks_stay_and_the_rest_learns() -> None:
    trainer = Trainer(replace(CONFIG, frozen_encoder_steps=2, fixed_blocks=4), CPU)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    stream = CONFIG.data.batches(2, 0, 0, 0)
    for _ in range(4):
        trainer.update(next(stream))
    now = trainer.model.state_dict()
    for name, value in before.items():
        fixed = name.startswith(("encoder.stem", *(f"encoder.blocks.{i}." for i in range(4))))
        if fixed or name.endswith("weight"):
            assert torch.equal(value, now[name]) == fixed, name
    with pytest.raises(InputError, match="0 to 15"):
        Trainer(replace(CONFIG, fixed_blocks=16), CPU)


def test_convolutions_of_single_channels_can_stay() -> None:
    trainer = Trainer(replace(CONFIG, frozen_encoder_steps=0, fixed_depthwise=True, precision="bfloat16"), CPU)
    single = {
        f"{name}.weight"
        for name, module in trainer.model.encoder.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1
    }
    assert single
    before = {name: value.clone() for name, value in trainer.model.encoder.state_dict().items()}
    trainer.update(next(CONFIG.data.batches(2, 0, 0, 0)))
    for name, value in trainer.model.encoder.state_dict().items():
        if name.endswith("weight"):
            assert torch.equal(before[name], value) == (name in single), name


def test_colours_are_changed_where_the_config_says_so() -> None:
    batch = next(CONFIG.data.batches(2, 0, 0, 0))
    plain, recoloured = (Trainer(replace(CONFIG, recolour=choice), CPU) for choice in (False, True))
    assert plain.update(batch)["loss"] != recoloured.update(batch)["loss"]


def test_steps_by_size_change_every_tensor_alike() -> None:
    settings = {"frozen_encoder_steps": 0, "encoder_rate": 2.0, "encoder_rate_by_size": True, "weight_decay": 0.0}
    trainer = Trainer(replace(CONFIG, **settings), CPU)
    before = {name: value.clone() for name, value in trainer.model.encoder.named_parameters()}
    rate = trainer.update(next(CONFIG.data.batches(2, 0, 0, 0)))["rate"]
    for name, value in trainer.model.encoder.named_parameters():
        size = float(before[name].square().mean().sqrt())
        # Adam's first step is as long as the learning rate wherever there is a gradient.
        longest = float((value - before[name]).abs().max())
        assert longest <= 2.01 * rate * (size or 1e-3), name
        if name.endswith("weight"):
            assert longest > 0.5 * rate * size, name


def test_a_new_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    first = Trainer(CONFIG, CPU)
    first.update(next(CONFIG.data.batches(2, 0, 0, 0)))
    first.save(tmp_path, {})
    place = checkpoint.latest(tmp_path)
    wider = Trainer(replace(CONFIG, seed=5, model=replace(CONFIG.model, neck=(16,))), CPU)
    wider.begin_with(place)
    assert wider.step == 0
    for name, value in wider.model.encoder.state_dict().items():
        assert torch.equal(value, first.ema.state[f"encoder.{name}"])
        assert torch.equal(value, wider.ema.state[f"encoder.{name}"])


def test_weights_in_one_file_are_half_as_large_and_enough_to_begin_with(tmp_path: Path) -> None:
    first = Trainer(CONFIG, CPU)
    first.update(next(CONFIG.data.batches(2, 0, 0, 0)))
    first.save(tmp_path, {})
    target = tmp_path / "start.safetensors"
    checkpoint.save_averaged(checkpoint.latest(tmp_path), target)
    second = Trainer(replace(CONFIG, seed=5), CPU)
    second.begin_with(target)
    for name, value in second.model.state_dict().items():
        torch.testing.assert_close(value, first.ema.state[name], rtol=1e-3, atol=1e-6)
    target.write_bytes(target.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        second.begin_with(target)


def test_batch_norm_keeps_its_statistics_at_the_end_and_while_frozen() -> None:
    model = replace(CONFIG.model, backbone="mobilenetv3_small")
    config = replace(CONFIG, model=model, steps=4, frozen_encoder_steps=1, frozen_norm_steps=2)
    trainer = Trainer(config, CPU)
    stream = CONFIG.data.batches(2, 0, 0, 0)
    moved = []
    for _ in range(4):
        before = trainer.model.state_dict()["encoder.network.bn1.running_mean"].clone()
        trainer.update(next(stream))
        moved.append(not torch.equal(before, trainer.model.state_dict()["encoder.network.bn1.running_mean"]))
    assert moved == [False, True, False, False]


def test_ghost_batches_have_statistics_of_their_own() -> None:
    model = replace(CONFIG.model, backbone="mobilenetv3_small")
    config = replace(CONFIG, model=model, batch_size=4, frozen_encoder_steps=0)
    whole, ghost, half = (Trainer(replace(config, ghost_batch=size), CPU) for size in (0, 2, 0))
    batch = next(CONFIG.data.batches(4, 0, 0, 0))
    whole.update(batch)
    ghost.update(batch)
    # Every other example alone, then the rest: what batch norm sees of them is what ghost batches show it.
    half._gradients(batch[slice(0, None, 2)])
    half._gradients(batch[slice(1, None, 2)])
    name = "encoder.network.bn1.running_mean"
    assert torch.allclose(ghost.model.state_dict()[name], half.model.state_dict()[name], atol=1e-6)
    assert not torch.allclose(ghost.model.state_dict()[name], whole.model.state_dict()[name], atol=1e-4)


def test_parts_of_a_batch_weigh_its_labels_as_the_whole_does() -> None:
    config = replace(CONFIG, batch_size=4, frozen_encoder_steps=0, loss=replace(CONFIG.loss, absolute=0.0))
    whole, parted = Trainer(config, CPU), Trainer(replace(config, ghost_batch=2), CPU)
    rng = np.random.default_rng(3)
    # As ShardedPeople has them: those known in 3D first.
    batch = collate([fake_person(rng, labels3d=labels3d) for labels3d in (True, True, False, False)])
    wanted, got = whole._gradients(batch), parted._gradients(batch)
    for name in ("head3d", "weak3d", "weak2d"):
        assert got[name] == pytest.approx(wanted[name], rel=0.02), name
    for name, parameter in whole.model.named_parameters():
        if parameter.grad is not None and "volumes" in name:
            torch.testing.assert_close(
                dict(parted.model.named_parameters())[name].grad, parameter.grad, rtol=0.05, atol=1e-3
            )


def test_a_teacher_joins_the_loss() -> None:
    loss = replace(CONFIG.loss, teacher=0.5)
    trainer = Trainer(replace(CONFIG, teacher="blazepose_full", loss=loss), CPU)
    trainer.teacher = FakeTeacher()
    assert trainer.update(next(CONFIG.data.batches(2, 0, 0, 0)))["teacher"] > 0


class FakeTeacher:
    """Takes 256 px crops in reality: here it says that two joints are in the corner."""

    def __call__(self, batch: Batch) -> TeacherPose:
        count = len(batch)
        return TeacherPose(torch.zeros(count, 2, 2), torch.zeros(count, 2, 3), torch.ones(count, 2), (3, 4))


def test_the_loss_falls() -> None:
    trainer = Trainer(replace(CONFIG, batch_size=4, frozen_encoder_steps=0), CPU)
    batch = next(CONFIG.data.batches(4, 0, 0, 0))
    found = [trainer.update(batch)["head2d"] for _ in range(40)]
    assert found[-1] < 0.8 * found[0]


@dataclass(frozen=True)
class FakeVanishingStream(FakePeopleStream):
    """Batch 1 cannot be read; from ``gone_from`` on nothing can."""

    gone_from: int = 10**9

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        for number, batch in enumerate(super().batches(batch_size, seed, skip, rank), skip):
            if number == 1 or number >= self.gone_from:
                raise FileNotFoundError(f"shard-{number}.tar")
            yield batch


def test_a_vanished_shard_costs_its_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _train(replace(CONFIG, data=FakeVanishingStream()), tmp_path, until=3, start_from=None)
    assert newest(tmp_path).batches == 4
    assert "shard-1.tar" in capsys.readouterr().out


def test_a_vanished_data_set_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read any more"):
        _train(replace(CONFIG, data=FakeVanishingStream(gone_from=2)), tmp_path, until=3, start_from=None)


def test_one_nan_changes_nothing_and_many_end_the_run() -> None:
    trainer = Trainer(replace(CONFIG, bad_steps=3, frozen_encoder_steps=0), CPU)
    batch = next(CONFIG.data.batches(2, 0, 0, 0))
    poisoned = replace(batch, joints3d=batch.joints3d * torch.nan)
    trainer.update(batch)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.update(poisoned)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    trainer.update(poisoned)
    with pytest.raises(InputError, match="finite loss"):
        trainer.update(poisoned)


def test_exhausted_memory_halves_the_batch() -> None:
    whole, limited = (Trainer(replace(CONFIG, frozen_encoder_steps=0), CPU) for _ in range(2))
    batch = next(CONFIG.data.batches(4, 0, 0, 0))
    roomy = limited.model.forward

    def fake_forward(image: torch.Tensor) -> object:
        if len(image) > 2:
            raise torch.OutOfMemoryError("fake")
        return roomy(image)

    limited.model.forward = fake_forward
    expected, got = whole.update(batch), limited.update(batch)
    assert limited.parts == 2
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-2)
    assert got["gradient"] == pytest.approx(expected["gradient"], rel=0.1)


def test_memory_for_not_even_one_ends_with_a_sentence() -> None:
    trainer = Trainer(CONFIG, CPU)

    def fake_forward(image: torch.Tensor) -> object:
        raise torch.OutOfMemoryError("fake")

    trainer.model.forward = fake_forward
    with pytest.raises(InputError, match="lower batch_size"):
        trainer.update(next(CONFIG.data.batches(2, 0, 0, 0)))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, CPU)
    trainer.save(tmp_path, {})
    other = replace(CONFIG, model=replace(CONFIG.model, neck=(16,)))
    with pytest.raises(InputError, match="another network"):
        Trainer(other, CPU).resume(checkpoint.latest(tmp_path))
    (tmp_path / "step-0000000" / "ema.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="cannot be read"):
        Trainer(CONFIG, CPU).resume(checkpoint.latest(tmp_path))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, CPU)
    for step in (1, 2, 3):
        trainer.step = step
        trainer.save(tmp_path, {})
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-0000002", "step-0000003"]


def test_schedules() -> None:
    assert PAPER.rate(0, 27000) == pytest.approx(1e-4)
    assert PAPER.rate(24999, 27000) == pytest.approx(1e-4 / 3, rel=1e-3)
    assert PAPER.rate(25001, 27000) == pytest.approx(3.33e-6, rel=1e-2)
    assert PAPER.rate(27000, 27000) == pytest.approx(1e-6)
    assert RELEASED.rate(100_000, 100_000) == pytest.approx(2.121e-4 / 30 * 0.3)
    assert Schedule(warm_up=10).rate(0, 1000) == pytest.approx(1e-5, rel=1e-2)


def test_configs_are_found_by_name_and_by_file() -> None:
    assert load_config(str(FAKES)).steps == 20
    with pytest.raises(InputError, match="no config named"):
        load_config("nonesuch")
    with pytest.raises(InputError, match=r"existing \.py"):
        load_config("absent.py")


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "configs").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_config_says_how_to_run_it(path: Path) -> None:
    if path.stem.startswith("paper_"):
        with pytest.raises(InputError, match=r"index\.json is missing: write shards there with python -m training"):
            load_config(str(path))
    else:
        load_config(path.stem)
    text = path.read_text(encoding="utf-8")
    for word in (f"python -m training.train {path.stem}", "Duration:", "Expected:"):
        assert word in text
