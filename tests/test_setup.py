"""The set-up: what it asks of the machine, when a step is due, what it does about a half-finished one, what it made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import bootstrap
import pytest
import setup_install
import setup_interfaces
import setup_packages
import setup_tools
from setup_common import House, SetupError
from setup_stamps import Stamps, hash_inputs

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(root=tmp_path, ros_distro=None)


class Recorder:
    """Steps that write one file each into a venv of the test's own and say that they ran; `failing` raise instead."""

    def __init__(self, house: House, failing: tuple[str, ...] = ()) -> None:
        self.house, self.failing, self.ran = house, failing, []

    def step(self, name: str, files: list[Path], spoils: bool = False) -> bootstrap.Step:
        def work(house: House) -> list[Path]:
            self.ran.append(name)
            made = house.venv / f"made_by_{name}"
            made.write_text("half")
            if name in self.failing:
                raise SetupError("as the test wants")
            made.write_text("whole")
            return [made]

        return bootstrap.Step(name, name, work, files, half_done_spoils_venv=spoils)

    def steps(self) -> list[bootstrap.Step]:
        pins, messages = self.house.root / "pins.txt", self.house.root / "Some.msg"
        for file in (pins, messages):
            if not file.exists():
                file.write_text(file.name)
        return [
            self.step("venv", [], spoils=True),
            self.step("packages", [pins], spoils=True),
            self.step("interfaces", [pins, messages]),
            self.step("package", []),
        ]

    def set_up(self, failing: tuple[str, ...] = ()) -> list[str]:
        """Names of the steps that one set-up runs."""
        self.ran, self.failing = [], failing
        bootstrap.set_up(self.house, self.steps())
        return self.ran


@pytest.fixture
def recorder(house: House, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(bootstrap, "_check_tools", lambda house, due: None)
    return Recorder(house)


ALL_STEPS = ["venv", "packages", "interfaces", "package"]


def test_first_run_does_every_step_and_second_none(recorder: Recorder) -> None:
    assert recorder.set_up() == ALL_STEPS
    assert recorder.set_up() == []


def test_changed_input_makes_its_steps_due(recorder: Recorder) -> None:
    recorder.set_up()
    (recorder.house.root / "Some.msg").write_text("float64 z")
    assert recorder.set_up() == ["interfaces"]
    (recorder.house.root / "pins.txt").write_text("numpy==9")
    assert recorder.set_up() == ["packages", "interfaces"]


def test_deleted_or_truncated_product_makes_its_step_due(recorder: Recorder) -> None:
    recorder.set_up()
    (recorder.house.venv / "made_by_package").unlink()
    assert recorder.set_up() == ["package"]
    (recorder.house.venv / "made_by_interfaces").write_text("wh")
    assert recorder.set_up() == ["interfaces"]


def test_sourcing_another_ros_makes_the_venv_anew(recorder: Recorder) -> None:
    recorder.set_up()
    recorder.house = replace(recorder.house, ros_distro="jazzy")
    assert recorder.set_up() == ALL_STEPS


def test_moved_checkout_makes_the_venv_anew(recorder: Recorder, tmp_path: Path) -> None:
    recorder.set_up()
    moved = tmp_path / "moved"
    moved.mkdir()
    recorder.house.venv.rename(moved / ".venv")
    recorder.house = replace(recorder.house, root=moved)
    assert recorder.set_up() == ALL_STEPS


def test_failed_step_and_those_after_it_are_done_by_the_next_run(recorder: Recorder) -> None:
    with pytest.raises(SetupError):
        recorder.set_up(failing=("interfaces",))
    assert recorder.set_up() == ["interfaces", "package"]
    assert (recorder.house.venv / "made_by_interfaces").read_text() == "whole"


@pytest.mark.parametrize("step", ["venv", "packages"])
def test_half_made_venv_is_thrown_away(recorder: Recorder, step: str) -> None:
    with pytest.raises(SetupError):
        recorder.set_up(failing=(step,))
    left_over = recorder.house.venv / "half_a_package"
    left_over.touch()
    assert recorder.set_up() == ALL_STEPS
    assert not left_over.exists()


def test_packages_killed_while_brought_up_to_date_make_the_venv_anew(recorder: Recorder) -> None:
    recorder.set_up()
    Stamps(recorder.house.state_dir).begin("packages")
    assert recorder.set_up() == ALL_STEPS


def test_a_venv_of_somebody_else_is_left_alone(house: House) -> None:
    precious = house.venv / "bin" / "python"
    precious.parent.mkdir(parents=True)
    precious.touch()
    with pytest.raises(SetupError, match="not made by this set-up"):
        setup_packages.remove_venv(house)
    assert precious.exists()


def test_garbled_stamp_counts_as_none(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    stamps.begin("step")
    stamps.finish("step", "inputs", [])
    assert stamps.is_valid("step", "inputs")
    for garbage in ("", "{", "[]", '{"inputs": "inputs"}', '{"inputs": "inputs", "made": 3}'):
        (stamps.folder / "step.json").write_text(garbage)
        assert not stamps.is_valid("step", "inputs")


def test_hash_tells_names_from_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = hash_inputs(["fact"], [first, second], tmp_path)
    assert before == hash_inputs(["fact"], [second, first], tmp_path)
    first.write_text("2")
    second.write_text("1")
    assert before != hash_inputs(["fact"], [first, second], tmp_path)


def test_missing_tools_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SetupError, match=r"cmake and ninja or make and g\+\+.*apt-get install cmake ninja-build g\+\+"):
        setup_tools.require(setup_tools.missing_for_interfaces())


def test_missing_ensurepip_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_tools.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(SetupError, match=r"ensurepip.*apt-get install python3-venv") as caught:
        setup_tools.require(setup_tools.missing_for_venv())
    assert caught.value.exit_code == 2


def test_set_up_without_tools_stops_before_it_touches_the_venv(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(setup_tools, "require_machine_of_the_wheels", lambda: None)
    recorder = Recorder(house)
    with pytest.raises(SetupError, match="cmake"):
        recorder.set_up()
    assert recorder.ran == []
    assert not house.venv.exists()


def test_missing_or_old_python_is_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3.6"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.6.9\nexit 1\n')
    old.chmod(0o755)
    for python, expected in (("no-such-python", "there is no no-such-python"), (str(old), "is Python 3.6.9")):
        result = subprocess.run(
            ["make", "-C", ROOT, "setup", f"PYTHON={python}"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert expected in result.stderr
        assert "apt-get install" in result.stderr


def test_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import bootstrap\n"
        "with bootstrap.locked(pathlib.Path(sys.argv[2])): print('has the lock', flush=True)"
    )
    with bootstrap.locked(tmp_path):
        second = subprocess.Popen(
            [sys.executable, "-c", code, ROOT / "scripts", tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert f"process {os.getpid()}" in second.stdout.readline()
    rest, _ = second.communicate(timeout=10)
    assert rest == "has the lock\n"


def test_lock_is_held_until_the_last_child_of_a_killed_set_up_ends(tmp_path: Path) -> None:
    """Otherwise the pip of a killed set-up would write into the venv that the next one makes."""
    with bootstrap.locked(tmp_path) as lock_fd:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock_fd,))
    try:
        with (tmp_path / bootstrap.LOCK_NAME).open() as lock, pytest.raises(BlockingIOError):
            bootstrap.fcntl.flock(lock, bootstrap.fcntl.LOCK_EX | bootstrap.fcntl.LOCK_NB)
    finally:
        child.kill()
        child.wait()


def test_failed_command_shows_the_end_of_its_log(house: House) -> None:
    with pytest.raises(SetupError, match=r"Trying it failed.*status 3.*(?s:.*)the reason"):
        house.run(["sh", "-c", "echo the reason; exit 3"], "Trying it")


def test_build_host_paths_are_rewritten() -> None:
    folders = {"numpy": "/v/np", "purelib": "/v/lib", "include": "/py/include", "prefix": "/v"}
    prefix = "/opt/python/cp311-cp311"
    text = (
        f'"{prefix}/include/python3.11;{prefix}/lib/python3.11/site-packages/numpy/_core/include" '
        f"{prefix}/lib/python3.11/site-packages/x {prefix}/share /opt/python-other"
    )
    expected = '"/py/include;/v/np" /v/lib/x /v/share /opt/python-other'
    assert setup_interfaces.rewritten_build_host_paths(text, folders) == expected


@pytest.fixture
def generated(house: House) -> House:
    """A venv with made-up descriptions of all the types, their hashes as they should be."""
    (house.root / "interfaces").symlink_to(ROOT / "interfaces")
    for type_name, beginning in setup_interfaces.expected_type_hashes(ROOT).items():
        file = setup_interfaces.type_description(house, type_name)
        file.parent.mkdir(parents=True, exist_ok=True)
        full_name = type_name.replace("/", "/msg/")
        file.write_text(
            f'{{"type_hashes": [{{"type_name": "{full_name}", "hash_string": "RIHS01_{beginning}{"0" * 48}"}}]}}'
        )
    return house


def test_wrong_type_hash_stops_the_set_up(generated: House) -> None:
    setup_interfaces.check_type_hashes(generated)
    file = setup_interfaces.type_description(generated, "vision_msgs/Pose2D")
    file.write_text(file.read_text().replace("RIHS01_b0b5", "RIHS01_b0b6"))
    with pytest.raises(SetupError, match="vision_msgs/Pose2D should begin with b0b5d1d7b4c20dd4"):
        setup_interfaces.check_type_hashes(generated)


def test_ungenerated_type_stops_the_set_up(generated: House) -> None:
    setup_interfaces.type_description(generated, "hri_msgs/IdsList").unlink()
    with pytest.raises(SetupError, match="hri_msgs/IdsList"):
        setup_interfaces.check_type_hashes(generated)


def test_every_msg_file_is_listed_for_cmake_and_has_a_hash() -> None:
    expected = setup_interfaces.expected_type_hashes(ROOT)
    found = {f"{file.parent.parent.name}/{file.stem}" for file in (ROOT / "interfaces").glob("*/msg/*.msg")}
    assert found == expected.keys()
    for type_name in found:
        package, name = type_name.split("/")
        assert f'"msg/{name}.msg"' in (ROOT / "interfaces" / package / "CMakeLists.txt").read_text()


@pytest.mark.ros
def test_generated_types_are_those_that_robots_run() -> None:
    house = House(root=ROOT, ros_distro=None)
    if os.environ.get("ROS_DISTRO"):
        pytest.skip("a ROS 2 is sourced: its own message packages are used, none is generated")
    setup_interfaces.check_type_hashes(house)


@pytest.mark.ros
def test_present_venv_has_the_package_where_ros2_run_looks() -> None:
    prefix = Path(sys.prefix)
    assert (prefix / "share/ament_index/resource_index/packages/metrabs_ros").is_file()
    assert (prefix / "share/metrabs_ros/package.xml").is_file()
    for script in setup_install.CONSOLE_SCRIPTS:
        assert os.access(prefix / "lib/metrabs_ros" / script, os.X_OK)


def dependencies_of_package_xml() -> set[str]:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    return {element.text for element in package if element.tag in ("depend", "exec_depend")}


def test_package_xml_names_what_the_set_up_checks() -> None:
    assert setup_packages.SOURCED_ROS_PACKAGES.keys() <= dependencies_of_package_xml()


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    optional = {"hri_msgs"}
    generated_or_released = {
        "ament_index_python", "builtin_interfaces", "cv_bridge", "diagnostic_msgs", "geometry_msgs", "hri_msgs",
        "lifecycle_msgs", "rcl_interfaces", "rclpy", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros",
        "tf_transformations", "vision_msgs", "visualization_msgs",
    }  # fmt: skip
    imported = set()
    for file in (ROOT / "metrabs_ros").rglob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                imported.add(words[1].split(".")[0])
    assert (imported & generated_or_released) - optional <= dependencies_of_package_xml()


def test_setup_py_ships_what_is_there() -> None:
    script = (
        "import json, setuptools, sys\n"
        "got = {}\n"
        "setuptools.setup = lambda **arguments: got.update(arguments)\n"
        "exec(compile(open('setup.py').read(), 'setup.py', 'exec'))\n"
        "json.dump([got['data_files'], got['entry_points'], got['packages']], sys.stdout)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    data_files, entry_points, packages = json.loads(result.stdout)
    by_folder = dict(data_files)
    assert all((ROOT / file).is_file() for files in by_folder.values() for file in files)
    assert by_folder["share/ament_index/resource_index/packages"] == ["resource/metrabs_ros"]
    assert {f"engines/{file.name}" for file in (ROOT / "engines").glob("*.yaml")} <= set(
        by_folder.get("share/metrabs_ros/engines", [])
    )
    assert {line.split(" = ")[0] for line in entry_points["console_scripts"]} == set(setup_install.CONSOLE_SCRIPTS)
    assert {package.split(".")[0] for package in packages} == {"metrabs_ros"}
