"""For every test."""

import gc
import os
import shutil

import pytest
from hypothesis import settings

# Tiny arrays on several threads are slower than on one, and pytest-xdist already keeps every core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Progress bars of transformers, where a test saves a model, would mix with what the command line prints.
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# What passes cost is measured in each test: none reads or writes the user's cache folder for it.
os.environ["OUTRIDER_COSTS"] = "off"

# The same examples in every run, however slow the machine.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# While tests are collected nothing becomes garbage: to look for it would take a sixth of the time.
gc.disable()


def pytest_addoption(parser):
    parser.addoption(
        "--runtime",
        metavar="MODULE:FUNCTION",
        help="tests/runtimes/test_sessions.py: test the model that this function makes, and no other",
    )


def pytest_collection_finish():
    """Half a million objects of libraries and of the tests themselves stay to the end: they are not searched again.

    What tests make is searched less often than Python would by itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture
def cached_model(tmp_path, monkeypatch):
    """Puts a model folder into a cache of the hub, for a machine that is offline; returns the model's name."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def cache(folder, name="model", *, commit="c" * 40):
        repository = tmp_path / "hub" / f"models--some--{name}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        return f"some/{name}"

    return cache
