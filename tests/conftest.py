"""Settings for the whole suite; they must stand before anything imports torch."""

from __future__ import annotations

import os

# Test models are tiny: a team of threads for each small operation only makes them slower, and on a busy machine very
# much slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test may reach a hub; those that test downloads name a server of their own.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
