"""OpenVINO on the CPU: reads .onnx, .tflite and .xml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec

SUFFIXES = (".onnx", ".tflite", ".xml")


class OpenVinoNetwork:
    """A compiled network in float32; only what the named outputs need is computed."""

    backend_name = "openvino"
    device = "CPU"

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str]) -> None:
        core = ov.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise InputError(
                f"OpenVINO cannot read {path}: {_first_line(error)} Fetch or export the file again."
            ) from error
        model = _pruned(model, outputs, path)
        if spec.dynamic_batch:
            model.reshape([-1, *(dimension.get_length() for dimension in list(model.inputs[0].partial_shape)[1:])])
        # f32 is asked for because OpenVINO otherwise takes bf16 where the CPU has it, which moves joints.
        compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
        self.input_names = [name for port in model.inputs for name in port.get_names()]
        self.input_shape = [
            -1 if dimension.is_dynamic else dimension.get_length() for dimension in model.inputs[0].partial_shape
        ]
        self._request = compiled.create_infer_request()
        self._outputs = list(outputs)

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """One forward pass; the arrays returned are the caller's own."""
        result = self._request.infer(batch, share_inputs=True)
        return {name: np.array(result[i]) for i, name in enumerate(self._outputs)}

    def close(self) -> None:
        del self._request


def _pruned(model: ov.Model, outputs: Sequence[str], path: Path) -> ov.Model:
    by_name = {name: port for port in model.outputs for name in port.get_names()}
    missing = [name for name in outputs if name not in by_name]
    if missing:
        raise InputError(
            f"{path} has no output named {', '.join(missing)}: it has {', '.join(sorted(by_name))}; "
            "correct the spec's outputs."
        )
    if len(model.inputs) != 1:
        raise InputError(f"{path} has {len(model.inputs)} inputs, expected one image input.")
    return ov.Model([by_name[name] for name in outputs], model.get_parameters())


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
