"""pose_node builds the engine its backend lacks, for real; only the GPU is a fake (ros_auto_build_node)."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from networks_for_tests import pose_network, spec_with, write_spec
from pose_node_for_tests import real_node
from ros_support import NodeProcess, PosePeer

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("cache")]

PROGRAM = Path(__file__).with_name("ros_auto_build_node.py")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(tmp_path, spec_with(), pose_network())


def node_on_a_fake_gpu(domain: int, pipeline: str, spec: Path, *more: str) -> NodeProcess:
    parameters = [f"engine:={spec}", "backend:=tensorrt_rtx", "publish_hri:=false", *more]
    options = [word for parameter in parameters for word in ("-p", parameter)]
    return NodeProcess(domain, str(PROGRAM), pipeline, "--ros-args", *options)


def test_a_missing_engine_is_built_with_progress_in_log_and_diagnostics(domain: int, spec: Path, cache: Path) -> None:
    arguments = (domain, "fake", spec, "auto_build:=true", "autostart:=false")
    with node_on_a_fake_gpu(*arguments) as node, PosePeer(domain) as peer:
        said = peer.listen(DiagnosticArray, "/diagnostics")
        peer.wait_until(lambda: said, "diagnostics before configuring")
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        node.wait_for(r"Building small for tensorrt_rtx, which takes minutes on some machines: \d+ %\.")
        node.wait_for(r"Built small for tensorrt_rtx in fp16, \d+ s: .*small\.tensorrt_rtx\.fp16\.engine")
        messages = [status.message for _, array in said for status in array.status]
        assert any(message.startswith("Building small for tensorrt_rtx") for message in messages)
        peer.wait_until(lambda: said[-1][1].status[0].message == "Inactive.", "diagnostics after it")
    assert (cache / "engines" / "small.tensorrt_rtx.fp16.engine").is_file()

    with node_on_a_fake_gpu(*arguments) as node, PosePeer(domain) as peer:
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert node.count("Building|Built") == 0, "it is there"


def test_a_stale_engine_is_built_anew(domain: int, spec: Path, cache: Path, tmp_path: Path) -> None:
    with node_on_a_fake_gpu(domain, "fake", spec, "auto_build:=true") as node:
        node.wait_for("Built small")
    before = (cache / "engines" / "small.tensorrt_rtx.fp16.json").read_text()
    write_spec(tmp_path, spec_with(), pose_network("NCHW", batch="people"))
    with node_on_a_fake_gpu(domain, "fake", spec, "auto_build:=true") as node:
        node.wait_for("Built small")
    assert (cache / "engines" / "small.tensorrt_rtx.fp16.json").read_text() != before


def test_without_auto_build_the_command_is_named(domain: int, spec: Path) -> None:
    with node_on_a_fake_gpu(domain, "pipeline", spec) as node:
        node.wait_for(
            r"Cannot configure: There is no tensorrt_rtx engine of small in .*: run `metrabs-engine build "
            rf"{spec} --backend tensorrt_rtx` on this machine\."
        )


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_built(domain: int, spec: Path, cache: Path) -> None:
    options = ["-p", f"engine:={spec}", "-p", "backend:=tensorrt_rtx", "-p", "auto_build:=true"]
    with real_node(domain, *options) as node:
        node.wait_for(r"Cannot configure: There is no usable NVIDIA GPU \(cudaError")
    assert not list(cache.rglob("*.engine"))


def test_a_backend_that_needs_no_engine_builds_none(domain: int, spec: Path) -> None:
    options = ["-p", f"engine:={spec}", "-p", "backend:=onnxruntime", "-p", "auto_build:=true"]
    with real_node(domain, *options) as node:
        node.wait_for(r"Engine small \(Apache-2\.0\) runs on onnxruntime")
        assert node.count("Building") == 0
