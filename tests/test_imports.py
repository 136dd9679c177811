"""Who may import whom, read from the sources: the arrows of the design, and where runtimes and ROS may appear."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "metrabs_ros"

# What each module may import of ours. Those that are not here are the edges of the house (node, commands, launch) and
# may import everything.
MAY_IMPORT = {
    "errors": set(),
    "closing": set(),
    "strict": {"errors"},
    "skeleton": {"errors"},
    "pose": set(),
    "distortion": set(),
    "camera": {"distortion", "errors"},
    "iterated_camera": {"camera", "distortion"},
    "area": set(),
    "pyramid": set(),
    "small_matrices": set(),
    "crop_plan": {"area"},
    "crop": {"area", "camera", "crop_plan", "pyramid", "small_matrices"},
    "reconstruct": {"small_matrices"},
    "regions": {"camera", "skeleton"},
    "plausibility": {"ranges"},
    "ranges": {"errors"},
    "motion_model": {"small_matrices"},
    "association": {"small_matrices"},
    "tracking": {"association", "errors", "motion_model", "pose", "ranges"},
    "smoothing": {"errors", "ranges"},
    "typical_body": {"skeleton"},
    "uncertainty": {"errors"},
    "conventions": {"errors", "skeleton"},
    "joint_transform": {"errors"},
    "weights_spec": {"errors"},
    "detection_spec": {"errors"},
    "model_spec": {
        "detection_spec", "errors", "joint_transform", "skeleton", "strict", "uncertainty", "weights_spec",
    },
    "weights": {"errors", "weights_spec"},
    "cache_files": {"errors"},
    "built_engines": {"cache_files", "errors", "model_spec", "strict", "weights"},
    "backends": {"built_engines", "closing", "crop_plan", "errors", "model_spec", "weights"},
    "network_input": {"model_spec"},
    "released": {"errors", "joint_transform", "model_spec", "skeleton", "strict", "weights"},
    "engine": {"backends", "closing", "crop_plan", "errors", "model_spec", "network_input", "strict", "weights"},
    "build_engine": {"backends", "built_engines", "cache_files", "engine", "errors", "model_spec", "weights"},
    "auto_build": {"build_engine", "model_spec"},
    "reference_people": {"errors", "model_spec"},
    "parity": {"engine", "errors"},
    "quantize": {
        "backends", "build_engine", "cache_files", "engine", "errors", "model_spec", "network_input", "parity",
        "reference_people",
    },
    "auto_backend": {
        "backends", "built_engines", "cache_files", "engine", "errors", "model_spec", "parity", "reference_people",
        "strict", "weights",
    },
    "detector_views": set(),
    "detector": {"detection_spec", "detector_views", "engine", "errors", "model_spec", "network_input", "pose"},
    "augmented_views": {"crop", "engine", "errors"},
    "heap": set(),
    "warp_choice": set(),
    "estimator": {"augmented_views", "camera", "crop", "engine", "reconstruct", "uncertainty", "warp_choice"},
    "floor": {"camera", "errors", "pose", "skeleton"},
    "finder": {
        "augmented_views", "camera", "crop", "detector", "engine", "errors", "estimator", "iterated_camera", "pose",
        "regions",
    },
    "selection": {
        "camera", "engine", "estimator", "plausibility", "pose", "regions", "typical_body",
    },
    "whereabouts": {"camera", "detector", "engine", "pose", "regions", "tracking"},
    "pipeline": {
        "augmented_views", "auto_backend", "camera", "closing", "conventions", "detector", "engine", "errors",
        "estimator", "finder", "floor", "model_spec", "plausibility", "pose", "regions", "selection", "skeleton",
        "smoothing", "tracking", "whereabouts",
    },
    "shared_networks": {"engine"},
    "camera_pipelines": {"conventions", "pipeline", "shared_networks"},
    "transform_buffer": set(),
    "body_landmarks": {"errors"},
    "body_frame": {"body_landmarks", "small_matrices"},
    "segment_lengths": {"body_frame", "body_landmarks", "errors"},
    "body_model": {"segment_lengths"},
    "body_limbs": {"body_frame", "body_model", "small_matrices"},
    "body_kinematics": {"body_frame", "body_landmarks", "body_limbs", "body_model", "errors", "segment_lengths"},
    "body_urdf": {"body_model", "errors", "segment_lengths"},
    "messages": {"camera", "errors", "pose", "skeleton"},
    "frames": {"errors"},
    "annotate": {"camera", "pose", "skeleton"},
    "video_writer": {"errors", "frames"},
    "rerun_log": {"annotate", "camera", "errors", "pose", "skeleton", "video_writer"},
}  # fmt: skip
ROS_MODULES = {
    "calibration_source", "camera_stream", "diagnostics", "frame_look", "frame_messages", "frame_result",
    "frame_slot", "frame_transforms", "frame_worker", "hri_body", "hri_messages", "hri_publishers",
    "image_messages", "joint_cloud", "launch_arguments", "marker_messages", "messages", "node", "parameter_set",
    "params", "people_messages", "publishers", "reports", "serialized", "spinning", "video_source",
}  # fmt: skip
ROS_PACKAGES = {"rclpy", "ament_index_python", "cv_bridge", "launch", "launch_ros", "tf2_ros", "tf_transformations"}
RUNTIMES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "tflite_runtime", "pycuda"}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """camera for camera.py, backends for everything in backends/."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Every module that a source imports anywhere, functions included, in full; importlib's by its constant start."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            if node.module in ("metrabs_ros", "metrabs_ros.backends"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) and node.args:
            first = next((part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)), "")
            found.add(str(first).rstrip("."))
    return found


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("metrabs_ros.")}


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)} - {"metrabs_ros"}


def is_ros(package: str) -> bool:
    return package in ROS_PACKAGES or package.endswith(("_msgs", "_interfaces", "_srvs"))


def test_the_reader_sees_imports_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(
        "import a.b as c\nfrom d.e import f\nfrom metrabs_ros import crop\n"
        "def g():\n    import h\n    importlib.import_module(f'metrabs_ros.backends.{name}')\n"
    )
    assert imports_of(path) == {"a.b", "d.e", "metrabs_ros", "metrabs_ros.crop", "h", "metrabs_ros.backends"}
    assert ours(path) == {"crop", "backends"}


@pytest.mark.parametrize(
    "path", [path for path in sources() if room_of(path) in MAY_IMPORT], ids=lambda path: path.stem
)
def test_arrows_point_one_way(path: Path) -> None:
    assert ours(path) - {room_of(path)} <= MAY_IMPORT[room_of(path)]


def test_nothing_imports_in_a_circle() -> None:
    imported_by = {path: ours(path) - {room_of(path)} for path in sources()}
    rooms: dict[str, set[str]] = {}
    for path, names in imported_by.items():
        rooms.setdefault(room_of(path), set()).update(names)
    rooms["backends"] -= {"errors"}
    while True:
        leaves = {room for room, names in rooms.items() if not names & set(rooms)}
        if not leaves:
            break
        rooms = {room: names for room, names in rooms.items() if room not in leaves}
    assert rooms == {}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_runtimes_and_ros_stay_in_their_rooms(path: Path) -> None:
    if room_of(path) != "backends":
        assert not foreign(path) & RUNTIMES
    if room_of(path) not in ROS_MODULES:
        assert not {package for package in foreign(path) if is_ros(package)}
    # A released model's weights are a file of torch's: whoever imports one has it, the robot need not.
    if room_of(path) != "released":
        assert "torch" not in foreign(path)
    assert not foreign(path) & {"torchvision", "training", "demo", "tests"}
    assert "rerun" not in foreign(path) or path.stem == "rerun_log", "rerun-sdk is optional"


def test_torch_is_only_imported_where_a_released_model_is() -> None:
    """The commands that live beside it must start without torch."""
    command = "import sys, metrabs_ros.cli.engine, metrabs_ros.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


def test_each_backend_imports_one_runtime() -> None:
    """Itself, or in the backend that it is a kind of."""
    paths = {path.stem: path for path in (PACKAGE / "backends").glob("[!_]*.py")}
    for path in paths.values():
        others = [paths[stem] for stem in paths if f"metrabs_ros.backends.{stem}" in imports_of(path)]
        assert len(set().union(*(foreign(each) for each in [path, *others])) & RUNTIMES) == 1


def test_what_runs_without_ros_imports_nothing_that_needs_it() -> None:
    """Through all it imports: the command must start on a machine without a ROS 2."""
    for start in ("pipeline", "cli", "frames", "annotate", "rerun_log"):
        reached, todo = set(), [start]
        while todo:
            room = todo.pop()
            reached.add(room)
            paths = [path for path in sources() if room_of(path) == room]
            todo += [name for path in paths for name in ours(path) if name not in reached]
        assert not reached & ROS_MODULES, f"{start} reaches {reached & ROS_MODULES}"


def test_training_needs_no_ros() -> None:
    for path in sorted((ROOT / "training").rglob("*.py")):
        assert not ours(path) & ROS_MODULES, path
        assert not {package for package in foreign(path) if is_ros(package)}, path
