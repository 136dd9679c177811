"""What only a machine with an NVIDIA GPU can tell, in one run: builds metrabs_base in fp32 and fp16, compares both with
float32 on the CPU, times batches of 1, 8 and 32 and both ways to make crops, then runs the tests marked gpu.

    python scripts/gpu_check.py [--backend tensorrt_rtx] [--seconds 70]

Needs numpy, OpenCV, scipy, PyYAML, typer, rich, onnx, onnxruntime, pytest, cuda-python or pycuda, and the backend's
library; no ROS, nothing installed of this package. Each part reports its own fault and the next one goes on; the exit
code is 1 where any failed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from metrabs_ros import crop  # noqa: E402
from metrabs_ros.backends.trt.crop_warper import CropWarper  # noqa: E402
from metrabs_ros.backends.trt.device import Device, open_device  # noqa: E402
from metrabs_ros.backends.trt.network import TensorRtNetwork  # noqa: E402
from metrabs_ros.benchmark import crowd  # noqa: E402
from metrabs_ros.build_engine import Reports, build_engine, open_in_precision  # noqa: E402
from metrabs_ros.built_engines import BuildOptions  # noqa: E402
from metrabs_ros.camera import Camera  # noqa: E402
from metrabs_ros.crop_plan import CropPlan  # noqa: E402
from metrabs_ros.engine import REFERENCE, Engine, open_engine  # noqa: E402
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec  # noqa: E402
from metrabs_ros.parity import BOUNDS_MM, check, differences  # noqa: E402
from metrabs_ros.reference_people import crops_for_measuring  # noqa: E402

BATCHES = (1, 8, 32)
RUNS = 60
PEOPLE = (1, 4, 16)
SIZE = (1920, 1080)
CAMERAS = {
    "pinhole": Camera.from_fov(60, SIZE),
    "bent lens": Camera(Camera.from_fov(60, SIZE).K, np.array([-0.3, 0.1, 0, 0, 0]), "plumb_bob", SIZE),
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--backend", default="tensorrt_rtx")
    arguments.add_argument("--seconds", type=float, default=70.0, help="no new part begins after so many")
    given = arguments.parse_args()
    started = time.monotonic()
    failed = []

    def part(name: str, work: Callable[[], None]) -> None:
        if time.monotonic() - started > given.seconds:
            print(f"-- {name}: NOT RUN, {given.seconds:.0f} s are over", flush=True)
            failed.append(name)
            return
        begun = time.monotonic()
        try:
            work()
            print(f"-- {name}: done, {time.monotonic() - begun:.1f} s", flush=True)
        except Exception:
            failed.append(name)
            lines = traceback.format_exc().splitlines()
            print(f"-- {name}: FAILED, {time.monotonic() - begun:.1f} s", *lines[-5:], sep="\n", flush=True)

    with tempfile.TemporaryDirectory(prefix="metrabs_ros-gpu-") as cache:
        os.environ["METRABS_ROS_CACHE"] = cache
        part("machine", lambda: machine(given.backend))
        part("crops alone", crops_alone)
        for precision in ("fp32", "fp16"):
            for work in (build, measure):
                part(f"{work.__name__} {precision}", functools.partial(work, given.backend, precision))
        for work in (build, measure):
            part(f"{work.__name__} fp16 for this GPU only", functools.partial(work, given.backend, "fp16", "current"))
        part("where crops are made", lambda: warping(given.backend))
        part("start-up of a second engine", lambda: start_up(given.backend))
    part("tests marked gpu", lambda: run_tests(max(15.0, given.seconds - (time.monotonic() - started))))
    print(f"{'FAILED: ' + ', '.join(failed) if failed else 'all passed'} ({time.monotonic() - started:.1f} s)")
    return 1 if failed else 0


def machine(backend: str) -> None:
    device = open_device()
    module = importlib.import_module(f"metrabs_ros.backends.{backend}")
    versions = f"{backend} {module.library.__version__}, Python {sys.version.split()[0]}"
    print(f"{device.gpu} through {type(device).__name__}, {versions}")
    device.close()


def crops_alone() -> None:
    """How long crops take to be made on the CPU and to go up, and to be made on the GPU, and how many of their pixels
    differ by more than 0.02. Needs no engine."""
    spec = load_spec(find_spec("metrabs_base"))
    device = open_device()
    print(f"| {SIZE[0]} x {SIZE[1]}, crops alone | people | CPU, median (best) ms | GPU | GPU over CPU | differ |")
    with device.current():
        warper = CropWarper(device, replace(spec.input, layout="NHWC"))
        for scene in scenes(spec):
            crops_of(scene, device, warper)
        warper.release()
    device.close()


def crops_of(scene: Scene, device: Device, warper: CropWarper) -> None:
    side = scene.planned().side
    made, back = (device.pinned((scene.count, side, side, 3), np.float32) for _ in range(2))
    address = device.allocated(made.nbytes)

    def on_cpu() -> None:
        made[:] = crop.made(scene.image, scene.planned())
        device.upload(address, made)
        device.synchronize()

    def on_gpu() -> None:
        warper.show(scene.image, scene.planned())
        warper.put(slice(0, scene.count), address)
        device.synchronize()

    row = timed_in_turn(scene, on_cpu, on_gpu, RUNS)
    device.download(back, address)
    device.synchronize()
    print(f"{row} {100 * (np.abs(back - made).max(-1) > 0.02).mean():.3f} % |", flush=True)
    device.free(address)
    device.free_pinned(made)
    device.free_pinned(back)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with ``count`` people before a lens; ``planned()`` is the plan of their crops."""

    lens: str
    count: int
    image: np.ndarray
    planned: Callable[[], CropPlan]


def scenes(spec: ModelSpec) -> Iterator[Scene]:
    people = [np.rint(255 * each).astype(np.uint8) for each in crops_for_measuring(spec.input.size)]
    for lens, camera in CAMERAS.items():
        for count in PEOPLE:
            scene = crowd(people, count, SIZE)
            virtual, _ = crop.virtual_cameras(camera, scene.boxes, spec.input.size, (0, -1, 0), spec.crop.box_scale)
            yield Scene(lens, count, scene.image, functools.partial(crop.planned, camera, virtual))


def timed_in_turn(scene: Scene, on_cpu: Callable[[], None], on_gpu: Callable[[], None], runs: int) -> str:
    """A table's row, without the first runs of both; the GPU's was the last one."""
    took: list[list[float]] = []
    for _ in range(runs):
        begun = time.perf_counter()
        on_cpu()
        between = time.perf_counter()
        on_gpu()
        took.append([between - begun, time.perf_counter() - between])
    cpu, gpu = 1e3 * np.array(took[RUNS // 6 :]).T
    return (
        f"| {scene.lens} | {scene.count} | {np.median(cpu):.2f} ({cpu.min():.2f}) | {np.median(gpu):.2f} "
        f"({gpu.min():.2f}) | {np.median(gpu) / np.median(cpu):.2f} |"
    )


def build(backend: str, precision: str, *capabilities: str) -> None:
    spec = load_spec(find_spec("metrabs_base"))
    options = BuildOptions(precision, compute_capabilities=capabilities)
    record = build_engine(spec, "metrabs_base", backend, options, Reports())[0].record
    print(f"{precision}: built in {record.build_seconds:.1f} s, {record.engine_bytes / 1e6:.1f} MB, {record.options}")


def measure(backend: str, precision: str, *capabilities: str) -> None:
    """Parity, and how long whole calls take: crops on the host in, decoded joints on the host out."""
    spec = load_spec(find_spec("metrabs_base"))
    crops = crops_for_measuring(spec.input.size)
    reference = open_engine(spec, REFERENCE)
    expected = reference.infer(crops)
    reference.close()
    begun = time.monotonic()
    engine = open_in_precision(spec, backend, precision)
    opened = time.monotonic()
    output = engine.infer(crops)
    print(
        f"{precision}: opened in {opened - begun:.2f} s, first {len(crops)} crops in {time.monotonic() - opened:.2f} s"
    )
    found = differences(expected, output)
    print(f"| {precision} | mean | largest | unit |")
    for each in found:
        print(f"| {each.output} | {each.mean:.4f} | {each.largest:.4f} | {each.unit} |")
    time_batches(engine, np.concatenate([crops, crops]), precision)
    engine.close()
    check(found, precision, f"metrabs_base in {precision}")
    print(f"joints within {BOUNDS_MM[precision]:g} mm on average")


def time_batches(engine: Engine, crops: np.ndarray, precision: str) -> None:
    network = engine.network
    assert isinstance(network, TensorRtNetwork)
    print(f"| {precision}, batch | graphs | median ms | best ms | crops/s |")
    for use_graphs in (True, False):
        network.use_graphs = use_graphs
        for batch in BATCHES:
            part = np.ascontiguousarray(crops[:batch])
            for _ in range(10):
                engine.infer(part)
            took = []
            for _ in range(RUNS):
                begun = time.perf_counter()
                engine.infer(part)
                took.append(time.perf_counter() - begun)
            median, graph = float(np.median(took)), use_graphs and batch in network.graph_sizes
            print(
                f"| {batch} | {graph} | {1e3 * median:.2f} | {1e3 * min(took):.2f} | {batch / median:.0f} |", flush=True
            )
    print(f"graphs refused: {network.graphs_refused or 'no'}")


def warping(backend: str) -> None:
    """How long a frame's crops and the network take with crops of the CPU and of the GPU, turn by turn."""
    spec = load_spec(find_spec("metrabs_base"))
    engine = open_in_precision(spec, backend, "fp16")
    print(f"| {SIZE[0]} x {SIZE[1]}, fp16 | people | CPU, median (best) ms | GPU | GPU over CPU |")
    for scene in scenes(spec):
        print(frames_of(scene, engine), flush=True)
    engine.close()


def frames_of(scene: Scene, engine: Engine) -> str:
    def on_cpu() -> None:
        engine.infer(crop.made(scene.image, scene.planned()))

    def on_gpu() -> None:
        if engine.infer_warped(scene.image, scene.planned()) is None:
            raise RuntimeError("the GPU made no crops: the warning above says why")

    return timed_in_turn(scene, on_cpu, on_gpu, RUNS // 2)


def start_up(backend: str) -> None:
    spec = load_spec(find_spec("metrabs_base"))
    begun = time.monotonic()
    engine = open_engine(spec, backend)
    print(f"open_engine with its first crop: {time.monotonic() - begun:.2f} s on {engine.device}")
    engine.close()


def run_tests(seconds: float) -> None:
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-v", "--tb=short"]
    environment = os.environ | {"METRABS_ROS_GPU": "demanded"}
    done = subprocess.run(
        [*command, "-m", "gpu", "tests/test_gpu.py"], cwd=ROOT, check=False, timeout=seconds, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
