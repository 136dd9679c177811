"""The parts of training/augment.py, one idea a file."""
