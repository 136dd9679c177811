"""A float32 ONNX with convolutions in INT8, as pairs of QuantizeLinear and DequantizeLinear that TensorRT reads."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from metrabs_ros.backends.onnx_graphs.lowered import decoding_nodes, folded

_QUANTIZED = ["Conv", "ConvTranspose"]


class Quantizer:
    """A network and the ranges its tensors have on ``batch``, an array as the network's input takes it."""

    def __init__(self, path: Path, batch: NDArray[np.float32]) -> None:
        """Raises InputError for what is no ONNX."""
        self._model = folded(path)
        decoding = decoding_nodes(self._model)
        self.layers = [
            node.name for node in self._model.graph.node if node.op_type in _QUANTIZED and node.name not in decoding
        ]
        self._ranges = _ranges(self._model, batch)

    def quantized(self, layers: Collection[str]) -> bytes:
        """The network with these of its ``layers`` in INT8, symmetric, weights per channel; all else as it was."""
        if not layers:
            return self._model.SerializeToString()
        quantizer = QDQQuantizer(
            copy.deepcopy(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=sorted(layers),
            nodes_to_exclude=[],
            op_types_to_quantize=_QUANTIZED,
            # What TensorRT demands: no zero points, weights with their own pair, biases in float.
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                # Before the clipping that follows it, an output reaches far beyond what is kept of it.
                "OpTypesToExcludeOutputQuantization": _QUANTIZED,
            },
        )
        quantizer.quantize_model()
        model: onnx.ModelProto = quantizer.model.model
        return model.SerializeToString()


class _Crops(CalibrationDataReader):
    """Crops one at a time, as ONNX Runtime asks for them."""

    def __init__(self, tensor: str, batch: NDArray[np.float32]) -> None:
        self._feeds = iter([{tensor: batch[i : i + 1]} for i in range(len(batch))])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _ranges(model: onnx.ModelProto, batch: NDArray[np.float32]) -> TensorsData:
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as folder:
        path = Path(folder) / "folded.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            op_types_to_calibrate=_QUANTIZED,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"symmetric": True},
        )
        calibrator.collect_data(_Crops(model.graph.input[0].name, batch))
        ranges: TensorsData = calibrator.compute_data()
        return ranges
