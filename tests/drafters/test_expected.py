"""The place of an output in the text that is expected of it."""

import random

import pytest

from drafters.replay import Replayed
from outrider import Budget, SuffixDrafter, SuffixTreeDrafter
from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.drafters.suffix.expected import Expectation
from outrider.maths.draft import ROOT
from outrider.maths.sampling import History


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
        (b"aa b\nzz\naa c", b"\naa d\naa"),  # a line was added
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


class Written(Replayed):
    """A sequence whose prompt is one token."""

    @property
    def history(self):
        found = History(self.tokens[:1])
        found.extend(self.tokens[1:])
        return found


LINE, EDITED = 8, 12  # tokens of a line, and every so many lines one differs


def rounds(drafter, expected, coming):
    """How many rounds of 16 draft tokens a text takes that is drafted with this expectation."""
    drafter.prepare(1, 4096, 100)
    sequence = Written(0, [99], predicted=tuple(expected))
    done = count = 0
    while done < len(coming):
        draft = drafter.propose([sequence], [Budget(16, 16)])[0]
        node = ROOT
        for token in coming[done:]:
            done += 1
            node = next((child for child in draft.children(node) if draft.tokens[child] == token), None)
            if node is None:
                break
        sequence.tokens = [99, *coming[:done]]
        count += 1
    return count


@pytest.mark.parametrize(
    "drafter", [SuffixDrafter(), SuffixTreeDrafter(), LookupDrafter()], ids=["chain", "tree", "lookups"]
)
def test_after_an_edited_line_the_next_one_is_drafted(drafter):
    draw = random.Random(1)
    # Few words, so that every beginning of a line stands in many places.
    lines = [[*(draw.randrange(1, 4) for _ in range(LINE - 1)), 0] for _ in range(120)]
    edited = [
        [50 + draw.randrange(40) for _ in range(5)] + [0] if place % EDITED == 6 else line
        for place, line in enumerate(lines)
    ]
    expected, coming = ([token for line in text for token in line] for text in (lines, edited))
    edits = len(range(6, len(lines), EDITED))
    # Nobody foresees the five new words and the end of their line, and with them the draft before goes to waste.
    assert rounds(drafter, expected, coming) < len(coming) / 17 + 6.5 * edits
