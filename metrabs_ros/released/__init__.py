"""Models that the authors of MeTRAbs released for PyTorch, made into engines.

directory.py reads and checks what is no network, checkpoint.py and network.py the network (the only modules here that
need torch), conversion.py writes the engine.
"""
