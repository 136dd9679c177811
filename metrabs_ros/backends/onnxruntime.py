"""ONNX Runtime on an NVIDIA GPU where its build has one's provider, else on the CPU: reads .onnx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec

SUFFIXES = (".onnx",)


class OnnxRuntimeNetwork:
    """A session; ``device`` is where it runs. Only the named outputs are fetched."""

    backend_name = "onnxruntime"
    # In this order. TensorRT's, which builds an engine for minutes, is onnxruntime_tensorrt's.
    preferred: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider")

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str]) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Spinning threads between calls would take the cores from the rest of the robot.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        offered = ort.get_available_providers()
        providers = [(provider, self._settings(provider, spec)) for provider in self.preferred if provider in offered]
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exception types have no public common base
            raise InputError(
                f"ONNX Runtime cannot read {path}: {_first_line(error)} Fetch or export it again."
            ) from error
        # Of the providers asked for those that could start: a build for CUDA runs on the CPU where there is no GPU.
        self.device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        known = [output.name for output in self._session.get_outputs()]
        missing = [name for name in outputs if name not in known]
        if missing:
            raise InputError(
                f"{path} has no output named {', '.join(missing)}: it has {', '.join(known)}; "
                "correct the spec's outputs."
            )
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise InputError(f"{path} has {len(inputs)} inputs, expected one image input.")
        self.input_names = [inputs[0].name]
        self.input_shape = [size if isinstance(size, int) else -1 for size in inputs[0].shape]
        self._outputs = list(outputs)

    def _settings(self, provider: str, spec: InputSpec) -> dict[str, Any]:
        """What a provider is told beyond its name."""
        return {}

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """One forward pass; the arrays returned are the caller's own."""
        values = self._session.run(self._outputs, {self.input_names[0]: batch})
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        del self._session


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
