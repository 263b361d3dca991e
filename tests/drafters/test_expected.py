"""The place of an output in the text that is expected of it."""

import random

import pytest

from outrider.drafters.suffix.expected import Expectation


def ahead(expected, output, most=8):
    found = Expectation(expected)
    found.follow(output)
    return list(found.ahead(most)[0])


A_FILE = [*b"aa b\naa c\naa d\naa e\n"]


@pytest.mark.parametrize(
    "output, follows",
    [
        (b"", b"aa b\naa "),
        (b"aa b\naa ", b"c\naa d\na"),
        (b"aa b\naa x\n", b"aa d\naa "),  # a line was replaced: the next one follows, and not the first
        (b"aa b\naa x\naa ", b"d\naa e\n"),
        (b"aa b\naa x\naa y\naa ", b"e\n"),
        (b"aa b\naa d\n", b"aa e\n"),  # a line was left out
        (b"aa b\nzz\naa ", b"c\naa d\na"),  # a line was added
        (b"aa b\naa c\naa d\naa e\n", b""),
        (b"zz", b""),
    ],
)
def test_the_place_follows_edits(output, follows):
    assert bytes(ahead(A_FILE, output)) == follows


def test_it_does_not_matter_how_the_output_comes():
    draw = random.Random(0)
    for _ in range(20):
        expected = [draw.randrange(4) for _ in range(60)]
        output = [token if draw.random() < 0.9 else draw.randrange(4) for token in expected]
        found = Expectation(expected)
        for end in range(len(output) + 1):
            found.follow(output[:end])
        assert found.ahead(9) == _at_once(expected, output)


def _at_once(expected, output):
    found = Expectation(expected)
    found.follow(output)
    return found.ahead(9)


def test_chances_fall_along_a_draft_and_rise_where_the_expectation_comes_true():
    text = list(range(100))
    found = Expectation(text)
    begin = found.ahead(16)[1]
    assert begin == sorted(begin, reverse=True)
    assert 0 < begin[0] < 1
    found.follow(text[:80])
    assert found.ahead(16)[1][-1] > begin[-1]
    doubted = Expectation([0, 1] * 50)
    doubted.follow([0, 2] * 40)
    assert doubted.ahead(1)[1] == [] or doubted.ahead(1)[1][0] < begin[0]


def test_no_expectation_foresees_nothing():
    assert ahead([], [1, 2]) == []
