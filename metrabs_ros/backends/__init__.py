"""Runtimes that execute networks. Each module imports its runtime, and nobody else does.

Every module offers a class with the Network interface of engine.py and the file SUFFIXES it reads.
"""
