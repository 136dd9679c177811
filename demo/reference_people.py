"""Makes engines/reference_people.jpg: people of the demo's clip and of skimage's astronaut, as a network sees them.

`python -m demo.reference_people`. The pictures' licences: engines/README.md.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.clip import FOV_DEG, ROOT, clip_path
from metrabs_ros import crop
from metrabs_ros.camera import Camera
from metrabs_ros.frames import open_frames
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.reference_people import COLUMNS, FILE, SIDE

Image = NDArray[np.uint8]

EVERY = 9
OF_ASTRONAUT = 8


def views_of(pipeline: PosePipeline, image_rgb: Image, most: int) -> list[NDArray[np.float32]]:
    """Crops [SIDE,SIDE,3] of the people that the pipeline finds, the image's up on top."""
    camera = Camera.from_fov(FOV_DEG, (image_rgb.shape[1], image_rgb.shape[0]))
    boxes = np.array([pose.box for pose in pipeline.estimate(image_rgb, camera)[:most]], np.float64).reshape(-1, 4)
    up = np.tile([0.0, -1.0, 0.0], (len(boxes), 1))
    virtual, _ = crop.virtual_cameras(camera, boxes, SIDE, up, pipeline.spec.crop.box_scale)
    return list(crop.warp(image_rgb, camera, virtual))


def truncated(image_rgb: Image, i: int) -> Image:
    """The astronaut cut off more and more, from the bottom and from one side."""
    height, width = image_rgb.shape[:2]
    return np.ascontiguousarray(image_rgb[: height - i * height // 12, i * width // 24 :])


def main() -> int:
    from skimage.data import astronaut

    pipeline = PosePipeline.from_engine("metrabs_base")
    crops = []
    for frame in open_frames(clip_path()):
        if frame.index % EVERY == 0:
            crops += views_of(pipeline, frame.image_rgb, 2)
    for i in range(OF_ASTRONAUT):
        crops += views_of(pipeline, truncated(astronaut(), i), 1)
    pipeline.close()
    crops = crops[len(crops) % COLUMNS :]
    rows = len(crops) // COLUMNS
    cells = np.stack(crops).reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    sheet = np.round(cells.reshape(rows * SIDE, COLUMNS * SIDE, 3) * 255).astype(np.uint8)
    path = ROOT / "engines" / FILE
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(f"{path}: {len(crops)} crops")
    return 0


if __name__ == "__main__":
    sys.exit(main())
