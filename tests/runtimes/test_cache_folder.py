"""Where converted models are kept."""

import sys
from pathlib import Path

import pytest

from outrider import ModelError
from outrider.runtimes.files.smollm2 import cache_folder, unfinished


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


def made_in(model, error=None):
    with unfinished(model) as place:
        (place / "half").write_text("half")
        if error is not None:
            raise error


def test_a_cache_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"model cannot be written \(.*\): set OUTRIDER_CACHE to a folder"):
        made_in(tmp_path / "file" / "model")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("No space left on device")])
def test_a_disk_that_is_full_meanwhile_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(ModelError, match=r"model cannot be written \(No space left on device\)"):
        made_in(tmp_path / "model", error)
    assert list(tmp_path.iterdir()) == []
