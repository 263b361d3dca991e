"""Where converted models are kept."""

import sys
from pathlib import Path

import pytest

from outrider.runtimes.files.smollm2 import cache_folder


def test_the_users_own_choice_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_on_linux_it_is_where_it_always_was(monkeypatch):
    monkeypatch.delenv("OUTRIDER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/outrider")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "outrider"
