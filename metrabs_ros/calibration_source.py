"""Where an image's camera comes from: camera_info, a calibration file by URL, or a field of view."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import yaml
from sensor_msgs.msg import CameraInfo

from metrabs_ros.camera import Camera, CameraError
from metrabs_ros.errors import InputError
from metrabs_ros.messages import camera_from_msg
from metrabs_ros.params import CameraParams


class CalibrationSource:
    """The camera of each image. Raises InputError where the file of camera_info_url cannot be used."""

    def __init__(self, params: CameraParams) -> None:
        self._params = params
        self._from_file = _camera_from_file(params) if params.camera_info_url else None
        self._last: tuple[tuple[object, ...], Camera] | None = None

    @property
    def needs_info(self) -> bool:
        """Whether a camera_info must come with each image."""
        return self._from_file is None and not self._params.fov_deg

    @property
    def name(self) -> str:
        """What is used instead of camera_info, for a sentence; empty where nothing is."""
        if self._from_file is not None:
            return f"the calibration {self._params.camera_info_url}"
        return f"a field of view of {self._params.fov_deg:g} degrees" if self._params.fov_deg else ""

    def camera(self, info: CameraInfo | None, size: tuple[int, int]) -> Camera:
        """The camera of an image of (width, height) that came with ``info``. Raises CameraError."""
        if self._from_file is not None:
            return self._from_file
        if self._params.fov_deg:
            key: tuple[object, ...] = size
            return self._kept(key) or self._keep(key, Camera.from_fov(self._params.fov_deg, size))
        assert info is not None
        key = _content(info)
        return self._kept(key) or self._keep(key, camera_from_msg(info, self._params.rectified))

    def _kept(self, key: tuple[object, ...]) -> Camera | None:
        # Cameras seldom change, and finding a lens's limit takes longer than comparing.
        return self._last[1] if self._last is not None and self._last[0] == key else None

    def _keep(self, key: tuple[object, ...], camera: Camera) -> Camera:
        self._last = (key, camera)
        return camera


def path_of_url(url: str) -> Path:
    """The file of a URL as camera_info_manager takes them: file:///DIR/FILE, package://PACKAGE/FILE; ${NAME} in it
    stands for an environment variable. Raises InputError."""
    lacking = [name for name in re.findall(r"\$\{(\w+)\}", url) if name not in os.environ]
    if lacking:
        raise InputError(f"The environment variable {lacking[0]} in camera_info_url {url!r} is not set.")
    full = re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], url)
    parts = urlsplit(full)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    if parts.scheme == "package" and parts.netloc and parts.path.strip("/"):
        return _share_of(parts.netloc) / unquote(parts.path).lstrip("/")
    raise InputError(
        f"camera_info_url must be file:///DIR/FILE.yaml or package://PACKAGE/FILE.yaml, got {url!r}: correct it."
    )


def _share_of(package: str) -> Path:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        return Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError, OSError) as error:
        # OSError: no workspace is sourced at all.
        raise InputError(
            f"The package {package} of camera_info_url is not installed: source its workspace, or give a file:/// URL."
        ) from error


def _camera_from_file(params: CameraParams) -> Camera:
    path = path_of_url(params.camera_info_url)
    camera = Camera.from_yaml(path)
    if not params.rectified:
        return camera
    try:
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))["projection_matrix"]
        P = np.array(entry["data"] if isinstance(entry, dict) else entry, np.float64).reshape(3, 4)
    except (KeyError, TypeError, ValueError) as error:
        raise CameraError(
            f"{path} has no projection_matrix of 3x4, which a rectified image needs: calibrate with "
            "camera_calibration, or set rectified to false and use the image as it is."
        ) from error
    return Camera(P[:, :3], np.zeros(0), "plumb_bob", camera.size)


def _content(info: CameraInfo) -> tuple[object, ...]:
    """All of a camera_info but its header."""
    roi = info.roi
    return (
        info.width, info.height, info.distortion_model, bytes(info.d), info.k.tobytes(), info.p.tobytes(),
        info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height,
    )  # fmt: skip
