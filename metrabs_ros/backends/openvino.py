"""OpenVINO on the CPU in float32, and what its other kinds share: reads .onnx, .tflite and .xml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec

SUFFIXES = (".onnx", ".tflite", ".xml")
# OpenVINO's names of a precision: as it is asked for, and as a device says that it has instructions for it.
_CAPABILITIES = {"f16": "FP16", "bf16": "BF16"}


class OpenVinoNetwork:
    """A compiled network; only what the named outputs need is computed.

    target and precision are OpenVINO's names for where and in what.
    """

    backend_name = "openvino"
    target = "CPU"
    precision = "f32"

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str]) -> None:
        core = ov.Core()
        self._check_device(core)
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise InputError(
                f"OpenVINO cannot read {path}: {_first_line(error)} Fetch or export the file again."
            ) from error
        model = _pruned(model, outputs, path)
        if spec.dynamic_batch:
            model.reshape([-1, *(dimension.get_length() for dimension in list(model.inputs[0].partial_shape)[1:])])
        # The precision is named because OpenVINO otherwise takes bf16 where the CPU has it, which moves joints.
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.precision}
        try:
            compiled = core.compile_model(model, self.target, options)
        except RuntimeError as error:
            raise InputError(
                f"OpenVINO cannot compile {path} for this {self.target}: {_first_line(error)} Take another backend, or "
                "update the device's driver."
            ) from error
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

    @property
    def device(self) -> str:
        return self.target if self.precision == "f32" else f"{self.target}, {self.precision}"

    def release_memory(self) -> None:
        self._request.get_compiled_model().release_memory()

    def close(self) -> None:
        del self._request

    def _check_device(self, core: ov.Core) -> None:
        """Raises InputError where the device is not here, or cannot compute in this precision."""
        # Looking for devices takes 60 ms, and the CPU is always there.
        if self.target != "CPU":
            found = core.available_devices
            if not any(device.partition(".")[0] == self.target for device in found):
                raise InputError(
                    f"OpenVINO finds no {self.target} here, only {', '.join(found)}: install its driver "
                    "(intel-opencl-icd), or take the backend openvino."
                )
        if self.precision == "f32":
            return
        known = core.get_property(self.target, "OPTIMIZATION_CAPABILITIES")
        if _CAPABILITIES[self.precision] not in known:
            raise InputError(
                f"This {self.target} has no instructions for {self.precision}, only for {', '.join(known)}: take the "
                "backend openvino."
            )


def devices() -> list[str]:
    """What OpenVINO can run on here, such as CPU and GPU, with their full names."""
    core = ov.Core()
    return [f"{device} {core.get_property(device, 'FULL_DEVICE_NAME')}" for device in core.available_devices]


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
