"""For every test."""

import os

from hypothesis import settings

# Tiny arrays on several threads are slower than on one, and pytest-xdist already keeps every core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Progress bars of transformers, where a test saves a model, would mix with what the command line prints.
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

# The same examples in every run, however slow the machine.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
