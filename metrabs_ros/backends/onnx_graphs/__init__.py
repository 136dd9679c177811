"""ONNX networks in less precision, made by ONNX Runtime's tools; needs the package onnx."""
