"""For every test."""

import os

# Tiny arrays on several threads are slower than on one, and pytest-xdist already keeps every core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
