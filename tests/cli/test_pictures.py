"""What others wrote cannot steer the terminal on which it is shown."""

import logging
import sys
import warnings
from types import SimpleNamespace

import pytest

from outrider.cli.bench import tables
from outrider.cli.render import OriginWriter, PlainWriter
from outrider.cli.terminal import SafeFormatter, counting_bar, messages, working
from outrider.engine.events import Origin, TokenEvent
from outrider.errors import ModelError
from outrider.pictures import pictures

HOSTILE = "\x1b]0;title\x07\x1b[31mred\r\x7f\x9b2J\x00"
SHOWN = "␛]0;title␇␛[31mred␍␡␛[2J␀"


def test_every_control_character_but_tabs_and_line_ends_is_a_picture():
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    shown = pictures("".join(map(chr, controls)))
    assert [letter for letter in shown if ord(letter) in controls] == ["\t", "\n"]
    assert pictures("plain é 猫 \N{ZERO WIDTH JOINER}") == "plain é 猫 \N{ZERO WIDTH JOINER}"
    assert pictures(HOSTILE) == SHOWN


@pytest.mark.parametrize("writer", [PlainWriter, lambda: OriginWriter("never"), lambda: OriginWriter("always")])
def test_a_models_text_is_raw_in_pipes_and_harmless_on_terminals(monkeypatch, capsys, writer):
    event = TokenEvent(0, 0, 0, HOSTILE, Origin.PLAIN)
    writer().write(event)
    assert HOSTILE[:-6] in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    writer().write(event)
    assert SHOWN in capsys.readouterr().out


def test_errors_and_warnings_are_harmless(outrider, folder, monkeypatch, capsys):
    def broken(*arguments, **settings):
        warnings.simplefilter("always")
        warnings.warn(f"careful {HOSTILE}", RuntimeWarning, stacklevel=1)
        raise ModelError(f"bad {HOSTILE}")

    monkeypatch.setattr("outrider.load", broken)
    for arguments in ((), ("--verbose",)):
        with warnings.catch_warnings():
            _, _, err = outrider("generate", "x", "-m", folder, *arguments)
        assert "careful ␛]0;title␇" in err
        assert "bad ␛]0;title␇" in err
        assert not {"\x1b", "\x07", "\x9b"} & set(err)


def test_what_nobody_foresaw_is_harmless(outrider, folder, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError(f"odd {HOSTILE}")

    monkeypatch.setattr("outrider.load", broken)
    status, _, err = outrider("generate", "x", "-m", folder)
    assert status == 1
    assert "odd ␛]0;title␇" in err
    assert not {"\x1b", "\x07", "\x9b"} & set(err)


def test_what_the_console_says_is_harmless(capsys):
    messages().print(f"opening {HOSTILE}")
    assert SHOWN in capsys.readouterr().err.replace("\n", "")


MARKUP = "[/b] [red] {done} :x:"  # all of which steers rich, or its columns


@pytest.mark.parametrize("shown", [working, counting_bar])
def test_names_of_others_are_text_beside_a_spinner_and_a_bar(monkeypatch, capsys, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    with shown(f"opening {MARKUP} {HOSTILE}") as say:
        if shown is working:
            say(f"still opening {MARKUP} {HOSTILE}")
        else:
            say(1, 2)
    err = capsys.readouterr().err
    assert f"opening {MARKUP} {SHOWN}" in err
    assert not {"\x1b]", "\x07", "\x9b", "\x00"} & {err[at : at + size] for at in range(len(err)) for size in (1, 2)}


def test_names_of_others_are_text_in_messages(capsys):
    messages().print(f"rounded: {MARKUP}")
    assert MARKUP in capsys.readouterr().err


def test_what_is_logged_is_harmless():
    record = logging.LogRecord("outrider", logging.ERROR, "", 0, "failed: %s", (HOSTILE,), None)
    assert SafeFormatter().format(record) == f"failed: {SHOWN}"


@pytest.mark.parametrize("markdown", [False, True])
def test_categories_of_a_file_are_text_in_tables(monkeypatch, capsys, markdown):
    flags = SimpleNamespace(json=False, markdown=markdown)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    tables.show([], ["category"], [[MARKUP], [HOSTILE]], "remark", flags)
    out = capsys.readouterr().out
    assert MARKUP in out
    assert SHOWN in out
