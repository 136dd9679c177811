"""Absolute, metric 3D human skeletons from one calibrated RGB camera, for ROS 2."""

__version__ = "0.1.0"
