"""A checkpoint of the detector as an engine: `python -m training.detector.export RUN engines/person_detector.onnx`.

Only the anchors that training asks are kept, each with the columns that the runtime decodes. The spec is put beside.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import onnx
import torch
import yaml
from torch import nn

from metrabs_ros.errors import InputError
from metrabs_ros.weights import file_hash
from training import checkpoint
from training.detector import network
from training.detector.network import COLUMNS, STRIDES, PersonDetector
from training.detector.targets import ANSWERS
from training.export import OPSET, store_in_half

# The upper body's box, hips and rim.
_KEPT = 8
_SCORE_THRESHOLD = 0.65
_DOUBTFUL_THRESHOLD = 0.5
_FAINT_THRESHOLD = 0.3
_NMS_IOU = 0.4


class Deployed(nn.Module):
    """[N,S,S,3] float32 RGB in -1..1 -> boxes [N,A,8] and scores [N,A] of one anchor a cell of strides 8 and 16."""

    def __init__(self, trained: PersonDetector) -> None:
        super().__init__()
        self.network = trained
        self.scores, self.boxes = nn.ModuleList(), nn.ModuleList()
        for stride, which, *_ in ANSWERS:
            level = STRIDES.index(stride)
            self.scores.append(trained.scores[level].taken(slice(which, which + 1)))
            self.boxes.append(trained.boxes[level].taken(slice(which * COLUMNS, which * COLUMNS + _KEPT)))
        self._levels = [STRIDES.index(stride) for stride, *_ in ANSWERS]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.network.pyramid(self.network.early(image.permute(0, 3, 1, 2)))
        maps = [maps[level] for level in self._levels]
        boxes = [network.rows(head(features), _KEPT) for head, features in zip(self.boxes, maps, strict=True)]
        scores = [network.rows(head(features), 1) for head, features in zip(self.scores, maps, strict=True)]
        return torch.cat(boxes, 1), torch.cat(scores, 1)[..., 0]


def restored(place: Path, kept: float = 0.0) -> PersonDetector:
    """The averaged network of a checkpoint, ``kept`` of the way back to BlazePose's own weights: what these know of
    real people is part of the mixture."""
    trained = PersonDetector()
    averaged = checkpoint.averaged(place)
    if kept:
        averaged = checkpoint.between(averaged, network.load().state_dict(), kept)
    trained.load_state_dict(averaged)
    return trained.eval()


def export(trained: PersonDetector, target: Path, size: int, threshold: float = _SCORE_THRESHOLD) -> Path:
    """Write target (NAME.onnx) for views of ``size`` px, and its spec; returns the spec's path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Tracing warns about every shape it takes as constant: all but the batch are.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deployed(trained).eval(),
            (torch.zeros(1, size, size, 3),),
            str(target),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=["boxes", "scores"],
            dynamic_axes={name: {0: "batch"} for name in ("image", "boxes", "scores")},
        )
    model = onnx.load(str(target))
    store_in_half(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))
    spec = target.with_suffix(".yaml")
    described = {
        "name": target.stem,
        "kind": "detector",
        "description": (
            "BlazePose's person detector, trained on from stride 8 on whole synthetic pictures by training/detector of "
            "this package: the circle around the body and the axis from hips to head."
        ),
        "licence": "Apache-2.0",
        "weights": {"file": target.name, "sha256": file_hash(target)},
        "input": {"tensor": "image", "size": size, "layout": "NHWC", "mean": [0.5] * 3, "std": [0.5] * 3},
        "detection": {
            "boxes": "boxes",
            "scores": "scores",
            "anchors": {"strides": [stride for stride, *_ in ANSWERS], "per_cell": [1] * len(ANSWERS)},
            "keypoints": 2,
            "center_keypoint": 0,
            "radius_keypoint": 1,
            "score_threshold": threshold,
            "doubtful_threshold": min(threshold, _DOUBTFUL_THRESHOLD),
            "faint_threshold": min(threshold, _FAINT_THRESHOLD),
            "nms_iou": _NMS_IOU,
        },
    }
    spec.write_text(yaml.safe_dump(described, sort_keys=False, default_flow_style=None, width=118), encoding="utf-8")
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a checkpoint's folder, or a run's: its latest then")
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", type=int, default=224, help="side of the views, px; 32 must divide it")
    parser.add_argument("--threshold", type=float, default=_SCORE_THRESHOLD)
    parser.add_argument("--kept", type=float, default=0.3, help="how far back to BlazePose's own weights, 0..1")
    options = parser.parse_args()
    try:
        place = checkpoint.found(options.run)
        if options.size % 32:
            raise InputError(f"The views' side must be a multiple of 32 px, got {options.size}.")
        spec = export(restored(place, options.kept), options.target, options.size, options.threshold)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"{spec}: {options.target.stat().st_size / 1e6:.1f} MB from {place}")


if __name__ == "__main__":
    main()
