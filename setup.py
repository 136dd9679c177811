"""The ament_python package metrabs_ros: `colcon build` on a robot, `pip install .` anywhere."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "metrabs_ros"
SHARE = f"share/{PACKAGE}"
SHARED_FILES = {
    "launch": ["*.py", "*.yaml", "*.xml"],
    "rviz": ["*.rviz"],
    "config": ["*"],
    # Engines built on this machine (*.engine) are caches and stay out.
    "engines": ["*.yaml", "*.onnx", "*.tflite", "*.jpg", "README*"],
}


def shared_files():
    """(folder, files) for each folder of the checkout that is there and goes below share/."""
    for folder, patterns in SHARED_FILES.items():
        files = sorted({file for pattern in patterns for file in glob(f"{folder}/{pattern}") if Path(file).is_file()})
        if files:
            yield f"{SHARE}/{folder}", files


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Absolute, metric 3D human poses from one calibrated RGB camera, for ROS 2.",
    maintainer="metrabs_ros developers",
    maintainer_email="metrabs_ros@example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={f"{PACKAGE}.backends.trt": ["*.cu"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE, ["package.xml"]),
        *shared_files(),
    ],
    zip_safe=False,
    # Lower bounds only: requirements/ holds the pins. A robot has these from apt by the rosdep keys in package.xml.
    install_requires=[
        "numpy>=1.21",
        "scipy>=1.8",
        "opencv-python-headless>=4.5,<5",
        "PyYAML>=5.4",
        "typer>=0.9",
        "rich>=12",
    ],
    extras_require={
        "cpu": ["onnxruntime>=1.17", "openvino>=2024.0"],
        "tensorrt": ["cuda-python>=12", "onnx>=1.14", "onnxruntime>=1.17"],
        "tensorrt_rtx": [
            "tensorrt-rtx-cu13>=1.7",
            "cuda-python>=13",
            "nvidia-cuda-nvrtc>=13",
            "onnx>=1.14",
            "onnxruntime>=1.17",
        ],
        "onnxruntime": ["onnxruntime>=1.17"],
        "openvino": ["openvino>=2024.0"],
        "video": ["av>=12"],
        # From 0.23 on it demands numpy 2, with which ROS 2's message packages do not work.
        "rerun": ["rerun-sdk>=0.22,<0.23"],
        "test": ["pytest", "pytest-timeout", "hypothesis", "scikit-image"],
    },
    entry_points={
        "console_scripts": [
            f"pose_node = {PACKAGE}.node:main",
            f"video_source = {PACKAGE}.video_source:main",
            f"metrabs-pose = {PACKAGE}.cli.pose:main",
            f"metrabs-engine = {PACKAGE}.cli.engine:main",
            f"metrabs-bench = {PACKAGE}.cli.bench:main",
        ],
    },
)
