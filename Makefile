# The whole set-up, tests and demonstration; scripts/bootstrap.py says what a set-up is.
#   make PYTHON=python3.12        chooses the interpreter
#   make demo SOURCE=video.mp4    the demonstration on a video, an image folder or a camera (/dev/video0)
PYTHON ?= python3
VENV := .venv/bin
PYTHON_CHECK := import sys; sys.exit(sys.version_info < (3, 10))

.PHONY: setup training demo test bench fuzz soak lint clean help python
.DEFAULT_GOAL := setup

setup: python
	@$(PYTHON) scripts/bootstrap.py

training: python
	@$(PYTHON) scripts/bootstrap.py --training
	@$(VENV)/python -m training.synthetic.prepare

demo: setup
	@$(VENV)/python -m demo.run $(if $(SOURCE),--source "$(SOURCE)")

# Where the backgrounds cannot be had (no Debian packages), the tests of synthetic people are skipped and say so.
test: python
	@$(PYTHON) scripts/bootstrap.py --training
	-@$(VENV)/python -m training.synthetic.prepare
	@$(MAKE) --no-print-directory lint
	$(VENV)/python -m pytest

bench: setup
	@$(VENV)/metrabs-bench "$$($(VENV)/python -m demo.clip)"

# Malformed input at full rate for so many seconds; the tests do it for a few.
fuzz: setup
	METRABS_FUZZ_S=$(or $(SECONDS),60) $(VENV)/python -m pytest -s tests/test_node_fuzz.py

# The node on a video for so many seconds: memory, handles, latency.
soak: setup
	@$(VENV)/python -m demo.soak --seconds $(or $(SECONDS),600) $(if $(SOURCE),--source "$(SOURCE)")

lint: setup
	$(VENV)/python -m ruff check .
	$(VENV)/python -m ruff format --check .
	$(VENV)/python -m mypy

clean:
	rm -rf .venv .setup.lock out build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

help:
	@echo "make setup   (default) .venv with all that is needed, a ROS 2 where none is sourced, and the weights"
	@echo "make training  the same and torch, numba and a body model, for python -m training.train and the like"
	@echo "make demo    the demonstration; SOURCE=video.mp4 or another source instead of its own"
	@echo "make test    set-up, ruff, mypy, pytest"
	@echo "make lint    set-up, ruff, mypy"
	@echo "make bench   set-up, then how fast and how well the engines run on this machine"
	@echo "make fuzz    malformed input at full rate; SECONDS=60"
	@echo "make soak    the node on a video, printing memory, handles and latency; SECONDS=600 SOURCE=video.mp4"
	@echo "make clean   removes all that the others made, the fetched weights excepted"
	@echo "PYTHON=python3.12 chooses the interpreter"

# Before bootstrap.py is read: an old Python would stumble over its syntax.
python:
	@command -v "$(PYTHON)" >/dev/null || { echo "make: the set-up needs Python 3.10 or newer, but there is no $(PYTHON); install one (sudo apt-get install python3 python3-venv) or name it: make PYTHON=python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c "$(PYTHON_CHECK)" || { echo "make: the set-up needs Python 3.10 or newer, but $(PYTHON) is $$("$(PYTHON)" -V 2>&1); install a newer one (sudo apt-get install python3.11 python3.11-venv) and name it: make PYTHON=python3.11" >&2; exit 2; }
