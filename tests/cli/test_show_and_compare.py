"""`--show` and `--compare`: where tokens come from, and whether they are those of plain decoding."""

import os
import re
import shutil
import sys
from dataclasses import replace
from typing import get_args

import pytest
from calls import PROMPT, generated, other_last_token

from outrider.cli.comparison import TURNS, Comparison, compare_with_plain
from outrider.cli.options.output import Colour
from outrider.cli.render import OriginWriter
from outrider.engine.events import Origin, TokenEvent


def test_compare_reports_the_ratio_and_that_the_tokens_agree(outrider, folder):
    result = generated(outrider, folder, "--compare", "--dtype", "float32")
    assert result["compare"]["ratio"] > 0
    assert result["compare"]["comparable"]
    assert result["compare"]["first_difference"] is None


COMPARISON = Comparison(
    plain_tokens_per_second=10,
    speculative_tokens_per_second=20,
    plain_seconds_prefill=0.5,
    speculative_seconds_prefill=0.5,
    ratio=2,
    comparable=True,
    tokens=40,
    first_difference=None,
    margin=None,
)


@pytest.mark.parametrize(
    "found, dtype, words",
    [
        ({}, "float32", "the same 40 tokens"),
        ({"comparable": False}, "float32", "same distribution, another draw"),
        ({"first_difference": 6, "margin": 1e-5}, "float32", "from number 7 on"),
        ({"first_difference": 6, "margin": 1e-5}, "float32", "logits: rounding"),
        ({"first_difference": 6, "margin": -0.3}, "float32", "please report"),
        ({"first_difference": 6, "margin": 0.01}, "bfloat16", "--dtype float32 rounds least"),
        ({"first_difference": 6, "margin": 7.0}, "auto", "much for rounding"),
        ({"first_difference": 6}, "auto", "outrider check"),
    ],
)
def test_compare_says_honestly_what_it_found(found, dtype, words):
    assert words in replace(COMPARISON, **found).sentence(dtype)


def test_compare_favours_neither_side_where_speed_drifts():
    assert TURNS[::-1] == TURNS
    assert 2 * sum(TURNS) == len(TURNS)


def test_compare_finds_where_tokens_differ(folder):
    import outrider

    target = outrider.load(folder, dtype="float32")
    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), target)
    greedy = outrider.SamplingParams(temperature=0)
    generation = decoder.generate([6, 7, 8], max_tokens=8, sampling=greedy)
    wrong = replace(generation, tokens=other_last_token(generation.tokens))
    comparison = compare_with_plain(decoder, target, outrider.Request([6, 7, 8], 8, greedy), wrong)
    assert comparison.first_difference == len(generation.tokens) - 1
    assert comparison.margin > 0


def test_sampled_text_is_not_compared_token_by_token_unless_coupled(outrider, folder):
    sampled = generated(outrider, folder, "--compare", "--temp", 1)["compare"]
    assert not sampled["comparable"]
    coupled = generated(outrider, folder, "--compare", "--temp", 1, "--rule", "coupled", "--dtype", "float32")[
        "compare"
    ]
    assert coupled["comparable"]
    assert coupled["first_difference"] is None


def test_show_marks_drafted_runs_where_there_are_no_colours(outrider, folder):
    status, out, _ = outrider("generate", PROMPT, "-m", folder, "-n", 40, "--show", "--draft-max", 8)
    assert status == 0
    assert "[" in out
    assert "drafted and accepted" in out


def test_show_colours_where_it_is_told_to(outrider, folder):
    arguments = ("-n", 40, "--show", "--color", "always", "--draft-max", 8)
    status, out, _ = outrider("generate", PROMPT, "-m", folder, *arguments)
    assert status == 0
    assert "\x1b[32m" in out
    assert "[cat" not in out


def test_marks_and_colours_leave_the_text_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    texts = [
        (Origin.DRAFTED, "one\ttwo\n"),
        (Origin.BONUS, "\n  three [x]"),
        (Origin.DRAFTED, ""),
        (Origin.PLAIN, "\r\n"),
    ]
    for colour in get_args(Colour):
        writer = OriginWriter(colour)
        for origin, text in texts:
            writer.write(TokenEvent(0, 0, 0, text, origin))
        bare = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert bare == ("one\ttwo\n\n  three [x]\r\n" if colour == "always" else "[one\ttwo\n]\n  three [x]\r\n")
        writer.close()
        assert "2 drafted and accepted" in capsys.readouterr().out


@pytest.mark.parametrize("colour", get_args(Colour))
@pytest.mark.parametrize("columns", [30, 40, 60, 80])
def test_the_legend_breaks_lines_between_its_entries(monkeypatch, capsys, colour, columns):
    monkeypatch.setenv("TERM", "xterm")
    writer = OriginWriter(colour)
    for origin in Origin:
        for _ in range(100):
            writer.write(TokenEvent(0, 0, 0, "", origin))
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    writer.close()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).strip().split("\n")
    entries = [entry.strip("■[] ") for line in lines for entry in line.split("   ")]
    assert entries == ["100 drafted and accepted", "100 correction", "100 bonus", "100 plain"]
    assert max(map(len, lines)) <= columns
    assert (len(lines) == 1) is (columns == 80)
