"""Lines on a terminal end between words, whatever the tokens are."""

import os
import random
import re
import shutil
import sys
import unicodedata
from typing import get_args

import pytest
from rich.cells import cell_len

from outrider.cli.options.output import Colour
from outrider.cli.render import OriginWriter, PlainWriter
from outrider.cli.wrapping import AsItComes, Wrapped
from outrider.engine.events import Origin, TokenEvent

PROSE = (
    "The sky is blue, they say: Rayleigh scattering — of sunlight by the atmosphere's molecules — is proportional to "
    'the inverse fourth power of the wavelength.\n\n  - an indented point, "quoted" (bracketed)\n'
    "\tand a tab; so it goes.\n"
)
FAMILY = "👩\N{ZERO WIDTH JOINER}👩\N{ZERO WIDTH JOINER}👧"
HEART = "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}"
CJK = "東京は日本の首都です。「人口」は約千四百万人で、世界でも大きな都市『まち』の一つだ。"
EMOJI = f"Good 👍🏽 morning {FAMILY} and {HEART} to 🇨🇭🇩🇪 e\N{COMBINING ACUTE ACCENT}t cetera " * 3


def shown(text, columns, sizes=lambda: 3):
    """What a terminal shows of a text that comes in parts of these sizes."""
    lines = Wrapped(columns)
    spans, begin = [], 0
    while begin < len(text):
        size = sizes()
        spans += lines.push(text[begin : begin + size], Origin.PLAIN)
        begin += size
    return "".join(piece for piece, _ in [*spans, *lines.finish()])


def words(text):
    return text.split()


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
@pytest.mark.parametrize("seed", range(4))
def test_no_word_is_broken_and_no_line_too_long_however_the_text_comes(columns, seed):
    generator = random.Random(seed)
    found = shown(PROSE, columns, lambda: generator.randint(1, 1 + 6 * seed))
    assert words(found) == words(PROSE)
    assert max(cell_len(line.expandtabs()) for line in found.split("\n")) < columns
    assert found.count("\n\n") == 1
    assert "\n  - an indented" in found
    assert "\n\tand a tab" in found


def test_lines_are_filled():
    lines = shown("word " * 100, 24).splitlines()
    assert {line.rstrip() for line in lines[:-1]} == {"word word word word"}


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_wide_characters_are_no_words_but_their_punctuation_stays_beside_them(columns):
    lines = shown(CJK * 3, columns, lambda: 1).split("\n")
    assert "".join(lines) == CJK * 3
    assert all(columns - 6 <= cell_len(line) < columns for line in lines[:-1])
    for line in lines[1:]:
        assert unicodedata.category(line[0]) not in ("Pe", "Po")
    for line in lines[:-1]:
        assert unicodedata.category(line[-1]) != "Ps"


@pytest.mark.parametrize("columns", [20, 30, 40])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_emoji_of_several_characters_stay_whole(columns, size):
    found = shown(EMOJI, columns, lambda: size)
    assert words(found) == words(EMOJI)
    packed = EMOJI.replace(" ", "")
    lines = shown(packed, columns, lambda: size).split("\n")
    assert "".join(lines) == packed
    for whole in (FAMILY, HEART, "👍🏽", "🇨🇭🇩🇪", "e\N{COMBINING ACUTE ACCENT}"):
        assert sum(line.count(whole) for line in lines) == packed.count(whole)


def test_a_word_far_from_the_edge_is_shown_as_it_comes_and_one_near_it_once_it_is_whole():
    lines = Wrapped(40)
    assert lines.push("At", Origin.PLAIN) == [("At", Origin.PLAIN)]
    assert lines.push(" the beginning of the", Origin.PLAIN) == [(" the beginning of the", Origin.PLAIN)]
    assert lines.push(" line", Origin.DRAFTED) == []
    assert lines.push("age", Origin.BONUS) == []
    assert lines.push(" of", Origin.PLAIN) == [(" line", Origin.DRAFTED), ("age", Origin.BONUS)]
    assert lines.push(" king", Origin.PLAIN) == [(" of", Origin.PLAIN)]
    assert lines.push("ships", Origin.DRAFTED) == [("\nking", Origin.PLAIN), ("ships", Origin.DRAFTED)]
    assert lines.finish() == []


def test_a_word_longer_than_a_line_is_shown_and_the_words_after_it_are_whole():
    address = "https://example.org/" + "a" * 70
    found = shown(f"See {address} for more about such long addresses of pages", 40)
    assert found.startswith(f"See {address} ")
    assert words(found)[2:] == words("for more about such long addresses of pages")
    rest = found[found.index(address) + len(address) :]
    first, *others = rest.split("\n")
    assert len(address) % 40 + len(first) <= 40
    assert all(len(line) < 40 for line in others)


def test_files_and_pipes_get_the_text_as_it_is():
    lines = AsItComes()
    assert lines.push(PROSE, Origin.BONUS) == [(PROSE, Origin.BONUS)]
    assert lines.push("", Origin.BONUS) == lines.finish() == []


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("colour", [None, *get_args(Colour)])
def test_text_on_a_terminal_has_whole_words_with_origins_and_without(monkeypatch, capsys, columns, colour):
    """Tokens are a few letters of any origin. Brackets that mark origins have their place in the lines."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    generator = random.Random(columns)
    writer = PlainWriter() if colour is None else OriginWriter(colour)
    text = " ".join(PROSE.split())
    while text:
        size = generator.randint(1, 6)
        writer.write(TokenEvent(0, 0, 0, text[:size], generator.choice(list(Origin))))
        text = text[size:]
    writer.close()
    found = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    found = found.partition("\n\n")[0]  # the legend
    assert all(len(line) < columns for line in found.split("\n"))
    bare = re.sub(r"[\[\]]", "", found) if colour == "never" else found
    assert words(bare) == words(PROSE)
