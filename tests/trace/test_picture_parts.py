"""What the picture of a trace is made of: speed, and the text with the origin of each piece."""

import math
from dataclasses import replace

import pytest

from outrider import Engine, ModelDrafter, Origin, Request, SamplingParams
from outrider.engine.record import RoundRecord, SequenceRound
from outrider.trace.coloured import first_text, laid_out, printable
from outrider.trace.lines import record_as_dict, record_of
from outrider.trace.pace import pace
from outrider.trace.picture import counted
from tiny.tables import DRAFT, TARGET


def part(sequence, *texts, origin=Origin.DRAFTED):
    tokens = tuple(range(len(texts)))
    return SequenceRound(sequence, 0, 3, len(texts), 0, tokens, (origin,) * len(texts), "x", None, (), texts)


def record(number, *parts, seconds=0.5):
    return RoundRecord(number, float(number), 1, seconds, seconds, 0.0, parts)


def test_speed_is_tokens_of_all_texts_by_seconds():
    records = [record(0, part(0, "a"), part(1, "b", "c")), record(1, part(0, "d")), record(2), record(3, seconds=0.0)]
    found = pace(records, most_values=10)
    assert found.tokens_per_second == [3.0, 1.0, 0.0, 0.0]
    assert found.active == [2, 1, 0, 0]
    halved = pace(records, most_values=2)
    assert halved.rounds_per_value == 2
    assert halved.tokens_per_second == [2.0, 0.0]
    assert halved.active == [1.5, 0]


def test_the_text_is_that_of_the_first_text():
    records = [record(0, part(3, "a", "b"), part(4, "x")), record(1, part(3, "c", origin=Origin.BONUS))]
    assert first_text(records) == [("a", Origin.DRAFTED), ("b", Origin.DRAFTED), ("c", Origin.BONUS)]
    assert first_text([record(0, replace(part(3, "a"), texts=()))]) == []


def test_a_text_is_laid_out_in_lines():
    pieces, goes_on = laid_out(
        [("abc", Origin.PLAIN), ("de\nf", Origin.BONUS), ("猫猫\x1b", Origin.PLAIN)], columns=4, lines=9
    )
    assert [(piece.line, piece.column, piece.text) for piece in pieces] == [
        (0, 0, "abc"),
        (0, 3, "d"),
        (1, 0, "e⏎"),
        (2, 0, "f"),
        (2, 1, "猫"),
        (3, 0, "猫·"),
    ]
    assert [piece.origin for piece in pieces][3:5] == [Origin.BONUS, Origin.PLAIN]
    assert not goes_on
    cut, goes_on = laid_out([("abcdefghij", Origin.PLAIN)], columns=4, lines=2)
    assert [piece.text for piece in cut] == ["abcd", "efgh"]
    assert goes_on


def test_what_has_no_picture_is_a_dot():
    assert printable("a\x1b]0;\x07b\n\0c é猫") == "a·]0;·b··c é猫"


def test_records_hold_texts_and_older_traces_do_not():
    one = record(0, part(0, "a", "é\x1b"))
    assert record_of(record_as_dict(one)) == one
    entry = record_as_dict(one)
    del entry["sequences"][0]["texts"]
    assert record_of(entry).sequences[0].texts == ()
    for wrong in ([1, 2], ["a"], "ab"):
        entry["sequences"][0]["texts"] = wrong
        with pytest.raises(ValueError, match="text"):
            record_of(entry)


def test_an_engine_records_no_texts_where_there_is_no_tokenizer():
    seen = []
    engine = Engine(TARGET, ModelDrafter(DRAFT), lookahead=3, capacity=32, observer=seen.append)
    engine.submit(Request([1], 9, SamplingParams(seed=1)))
    while not engine.idle:
        engine.step()
    assert {part.texts for each in seen for part in each.sequences} == {()}
    assert all(math.isfinite(speed) for speed in pace(seen, most_values=5).tokens_per_second)


def test_one_is_singular():
    assert [counted(count, "token") for count in (0, 1, 2)] == ["0 tokens", "1 token", "2 tokens"]
