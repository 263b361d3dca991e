"""Tiny models in folders, and a way to run commands."""

import pytest

from outrider.cli.app import run
from tiny import model as tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return tiny_model.save(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def bytes_folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return tiny_model.save_bytes(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="session")
def draft_folder(folder, tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("draft"), seed=1)


@pytest.fixture(scope="session")
def other_folder(folder, tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("other"), words=[*tiny_model.WORDS, "dog"])


@pytest.fixture
def outrider(capsys):
    """Runs a command; returns (status, stdout, stderr)."""

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
