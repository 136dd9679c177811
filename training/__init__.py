"""MeTRo and MeTRAbs from data to engine. Runs from the checkout and imports the runtime; never the other way."""

import os

# Waiting threads of torch would take the cores from the processes that render; must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
