"""Tiny models in the native runtime."""

import tempfile
from pathlib import Path

import pytest

WITHOUT = "the native runtime is not built: pip install ./native"


def library():
    return pytest.importorskip("outrider_native", reason=WITHOUT)


def open_folder(folder, dtype="auto", threads=1, **settings):
    library()
    from outrider import load

    return load(folder, backend="native", dtype=dtype, threads=threads, **settings)


def of_transformers(model, dtype="auto", threads=1, **settings):
    """A model of transformers, saved and opened."""
    library()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return open_folder(Path(folder), dtype, threads, **settings)
