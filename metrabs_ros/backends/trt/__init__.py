"""What tensorrt and tensorrt_rtx share: they have the same API under two module names, handed in as ``trt``.

TensorRT 8.6, 10 and 11: where they differ, the attribute that differs is asked for, not the version.
"""
