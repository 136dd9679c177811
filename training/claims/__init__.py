"""The paper's claims in miniature: small networks on synthetic people, its ablations beside its numbers.

`python -m training.claims RUNS_FOLDER` trains what is missing, `--report` prints the tables.
"""
