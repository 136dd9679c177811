"""Building with TensorRT 8.6, where precision is told by flags and layers. The library is a fake that notes what it is
told: 8.6 needs a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from metrabs_ros.backends.trt.builder import build
from metrabs_ros.built_engines import BuildOptions
from metrabs_ros.errors import InputError

LAYERS = ("stem", "softmax", "mean")


class Fake86:
    """The module tensorrt of 8.6 as far as building takes it; ``told`` is what its config and layers were told."""

    __version__ = "8.6.1.fake"
    float32 = "float32"
    NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere+")
    BuilderFlag = SimpleNamespace(
        **{flag: flag for flag in ("TF32", "FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE")}
    )

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "E", "F", "W"

    def __init__(self) -> None:
        self.layers = [SimpleNamespace(name=name, precision=None) for name in LAYERS]
        self.flags: set[str] = {"TF32"}
        self.told: dict[str, Any] = {}
        self.config: Any = None
        self.shapes: tuple[Any, ...] = ()

    def Builder(self, logger: Any) -> Any:
        trt = self

        class Config:
            builder_optimization_level = hardware_compatibility_level = None

            def set_flag(self, flag: str) -> None:
                trt.flags.add(flag)

            def clear_flag(self, flag: str) -> None:
                trt.flags.discard(flag)

            def set_memory_pool_limit(self, pool: str, nbytes: int) -> None:
                trt.told[pool] = nbytes

            def add_optimization_profile(self, profile: Any) -> None:
                trt.told["profile"] = profile

            def create_timing_cache(self, content: bytes) -> Any:
                trt.told["timing"] = content
                return SimpleNamespace(serialize=lambda: content + b"+")

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                assert not ignore_mismatch
                return trt.told["timing"] != b"of another version"

        class Builder:
            def create_network(self, flags: int) -> Any:
                assert flags == 1 << trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
                return SimpleNamespace(
                    num_outputs=1,
                    num_inputs=1,
                    num_layers=len(trt.layers),
                    get_layer=lambda i: trt.layers[i],
                    get_input=lambda i: SimpleNamespace(name="image", shape=(-1, 16, 16, 3)),
                )

            def create_builder_config(self) -> Config:
                trt.config = Config()
                return trt.config

            def create_optimization_profile(self) -> Any:
                def set_shape(*shapes: Any) -> None:
                    trt.shapes = shapes

                return SimpleNamespace(set_shape=set_shape)

            def build_serialized_network(self, network: Any, config: Any) -> bytes:
                return b"engine"

        return Builder()

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return SimpleNamespace(parse=lambda content: True, num_errors=0)


def built(options: BuildOptions, timing: bytes | None = None) -> tuple[Fake86, bytes]:
    trt = Fake86()
    content, after = build(
        trt, b"onnx", options, lambda phase, part: True, lambda names, shape: None, timing, ["softmax", "mean"]
    )
    assert content == b"engine"
    return trt, after


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        ("fp32", set()),
        ("tf32", {"TF32"}),
        ("fp16", {"FP16", "OBEY_PRECISION_CONSTRAINTS"}),
        ("int8", {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"}),
    ],
)
def test_flags_tell_the_precision_and_decoding_stays_float32(precision: str, flags: set[str]) -> None:
    trt, _ = built(BuildOptions(precision))
    assert trt.flags == flags
    lowered = precision in ("fp16", "int8")
    assert [layer.precision for layer in trt.layers] == [None, *(["float32", "float32"] if lowered else [None, None])]


def test_what_else_is_told() -> None:
    trt, _ = built(BuildOptions("fp16", (1, 2, 8), workspace_mib=3, version_compatible=True, hardware_compatible=True))
    assert trt.shapes == ("image", (1, 16, 16, 3), (2, 16, 16, 3), (8, 16, 16, 3))
    assert trt.told["workspace"] == 3 << 20
    assert "VERSION_COMPATIBLE" in trt.flags
    assert trt.config.hardware_compatibility_level == "ampere+"
    assert "timing" not in trt.told


def test_the_timing_cache_goes_on_or_begins_anew() -> None:
    assert built(BuildOptions("fp32"), b"")[1] == b"+"
    assert built(BuildOptions("fp32"), b"earlier")[1] == b"earlier+"
    assert built(BuildOptions("fp32"), b"of another version")[1] == b"+"


def test_what_this_version_cannot_do_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"TensorRT 8\.6\.1\.fake knows no BF16: choose another precision\."):
        built(BuildOptions("bf16"))
    with pytest.raises(InputError, match="builds for the GPU of this machine only"):
        built(BuildOptions("fp32", compute_capabilities=("8.6",)))
