"""Sets the checkout up: .venv with pinned packages, a ROS 2 where none is sourced, the package itself, the weights.

Needs nothing but Python's standard library. Each step leaves a stamp (see setup_stamps.py), so a second run does only
what is due, and a run that was killed is finished by the next. `make setup` runs this; with --training it also installs
what training/ needs.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(
        "The set-up needs Python 3.10 or newer, but this is %d.%d; install python3.11 and run "
        "`make setup PYTHON=python3.11`." % sys.version_info[:2]
    )

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import setup_install
import setup_interfaces
import setup_packages
import setup_tools
from setup_common import House, SetupError
from setup_stamps import Stamps, hash_inputs

ROOT = Path(__file__).resolve().parent.parent
LOCK_NAME = ".setup.lock"


@dataclass(frozen=True)
class Step:
    """One step: what it says, does and depends on.

    `half_done_spoils_venv`: pip killed half-way can leave a package that looks installed and is not, so the venv is
    made anew.
    """

    name: str
    says: str
    work: Callable[[House], list[Path]]
    files: list[Path]
    facts: list[str] = field(default_factory=list)
    half_done_spoils_venv: bool = False


def steps_of(house: House, training: bool = False) -> list[Step]:
    """The steps in order, what ``training/`` needs only if asked for.

    Each is redone when its files or facts change, and all of them when the venv's facts do.
    """
    scripts, interfaces = house.root / "scripts", house.root / "interfaces"
    pins = setup_packages.requirement_files(house)
    steps = [
        Step(
            "venv",
            f"make .venv with Python {sys.version_info.major}.{sys.version_info.minor}",
            setup_packages.make_venv,
            [],
            half_done_spoils_venv=True,
        ),
        Step(
            "packages",
            "install the pinned Python packages" + ("" if house.ros_distro else " and ROS 2 Jazzy"),
            setup_packages.install_packages,
            [*pins, setup_packages.alone_file(house), scripts / "setup_packages.py"],
            half_done_spoils_venv=True,
        ),
    ]
    if house.ros_distro is None:
        sources = [file for file in interfaces.rglob("*") if file.is_file() and file.suffix != ".md"]
        steps.append(
            Step(
                "interfaces",
                f"generate {', '.join(setup_interfaces.PACKAGES)}",
                setup_interfaces.generate_interfaces,
                [*sources, pins[0], pins[2], scripts / "setup_interfaces.py"],
            )
        )
    else:
        says = f"check the sourced ROS 2 {house.ros_distro}"
        search_path = [os.environ.get(name, "") for name in ("AMENT_PREFIX_PATH", "PYTHONPATH")]
        steps.append(Step("ros", says, setup_packages.check_sourced_ros, [], search_path))
    build_files = [house.root / name for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml")]
    steps += [
        Step(
            "package",
            f"install {setup_install.PACKAGE} into it",
            setup_install.install_package,
            [*build_files, scripts / "setup_install.py"],
            facts=setup_install.shared_folders(house),
        ),
        Step(
            "weights",
            "fetch the weights",
            setup_install.fetch_weights,
            list((house.root / "engines").glob("*.yaml")),
        ),
    ]
    if training:
        steps.append(
            Step(
                "training",
                "install torch and what else training needs",
                setup_packages.install_training,
                [setup_packages.training_file(house)],
            )
        )
    return steps


def set_up(house: House, steps: list[Step]) -> int:
    """Runs the steps that are due, in order. Returns how many ran.

    Raises:
        SetupError: a step cannot be done; it and those after it are due again in the next run.
    """
    stamps = Stamps(house.state_dir)
    venv_facts = [sys.version, str(Path(sys.executable).resolve()), str(house.venv), house.ros_distro or "wheels"]
    hashes = {step.name: hash_inputs([*venv_facts, *step.facts], step.files, house.root) for step in steps}
    spoilt = any(step.half_done_spoils_venv and stamps.was_interrupted(step.name) for step in steps)
    if spoilt or not stamps.is_valid("venv", hashes["venv"]):
        due = steps
        _check_tools(house, due)
        setup_packages.remove_venv(house)
    else:
        due = [step for step in steps if not stamps.is_valid(step.name, hashes[step.name])]
        _check_tools(house, due)
    for step in due:
        stamps.begin(step.name)
        started = time.monotonic()
        print(f"setup: {step.says} ...", end=" ", flush=True)
        made = step.work(house)
        stamps.finish(step.name, hashes[step.name], made)
        print(f"{time.monotonic() - started:.1f} s", flush=True)
    return len(due)


def _check_tools(house: House, due: list[Step]) -> None:
    names = {step.name for step in due}
    if "venv" in names and house.ros_distro is None:
        setup_tools.require_machine_of_the_wheels()
    missing = setup_tools.missing_for_venv() if "venv" in names else []
    missing += setup_tools.missing_for_interfaces() if "interfaces" in names else []
    setup_tools.require(missing)


@contextmanager
def locked(root: Path) -> Iterator[int]:
    """Holds the lock of the checkout, waiting, with a message, for whoever has it. Yields its descriptor."""
    with (root / LOCK_NAME).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(
                f"setup: another set-up of {root} is under way (process {lock.read().strip() or 'unknown'}, or what it "
                "started); waiting for it to end.",
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def main() -> int:
    started = time.monotonic()
    house = House(root=ROOT, ros_distro=os.environ.get("ROS_DISTRO") or None)
    try:
        with locked(house.root) as lock_fd:
            locked_house = replace(house, lock_fd=lock_fd)
            count = set_up(locked_house, steps_of(locked_house, training="--training" in sys.argv[1:]))
    except SetupError as error:
        print(f"\nsetup: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nsetup: interrupted; run `make setup` again to finish it.", file=sys.stderr)
        return 130
    done = "done" if count else "nothing to do"
    print(f"setup: {done} ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
