"""Traces: written round by round, read back, summed up, drawn."""

import errno
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from itertools import count, zip_longest
from math import isnan
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from exactness.drafters import similar
from outrider import (
    Engine,
    InputError,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    SequenceRound,
    SettingError,
    SpeculativeDecoder,
    StaticTree,
    Statistics,
    SuffixDrafter,
    TableModel,
    TraceWriter,
    read_trace,
)
from outrider.engine.events import FinishReason, Origin
from outrider.trace import draw, summarise
from outrider.trace.file import Trace
from outrider.trace.pace import pace
from outrider.trace.picture import COLOURS, headlines
from outrider.trace.summary import lookahead_courses

TARGET = TableModel.random(6, 2, spread=1.5, seed=1)
DRAFT = similar(TARGET, seed=2)
LONG_PROMPT = (0, 1, 2) * 200  # is read in two pieces
SVG = "{http://www.w3.org/2000/svg}"


def decode(observer, texts=1, prompt=(0, 1, 2), drafter=True, lookahead=3, rule="token", max_tokens=20, stops=()):
    """Decode through an engine with a clock that ticks; returns the statistics of each text."""
    ticks = count()
    engine = Engine(
        TARGET,
        ModelDrafter(DRAFT) if drafter else None,
        lookahead=lookahead,
        rule=rule,
        observer=observer,
        clock=lambda: 0.1 * next(ticks) ** 1.5,
    )
    requests = [
        Request(prompt, max_tokens + text, SamplingParams(seed=text), stop_token_ids=frozenset(stops))
        for text in range(texts)
    ]
    sequences = [engine.submit(request) for request in requests]
    while not engine.idle:
        engine.step()
    return [sequence.stats for sequence in sequences]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture
def written(path) -> Path:
    """A file with the trace of three texts."""
    with TraceWriter(path, target="table", drafter="small", rule="token") as writer:
        decode(writer, texts=3)
    return path


def trace_of(**settings) -> Trace:
    records: list[RoundRecord] = []
    decode(records.append, **settings)
    return Trace("table", "small", "token", tuple(records))


# Files


@pytest.mark.parametrize("prompt", [(0,), LONG_PROMPT], ids=["short prompt", "long prompt"])
def test_what_is_written_is_read_back(path, prompt) -> None:
    records: list[RoundRecord] = []
    with TraceWriter(path, target="a model", drafter="another", rule="block") as writer:

        def both(record: RoundRecord) -> None:
            records.append(record)
            writer(record)

        decode(both, texts=3, prompt=prompt, rule="block", stops=(4,))
    trace = read_trace(path)
    assert (trace.target, trace.drafter, trace.rule) == ("a model", "another", "block")
    assert list(trace) == records
    assert len(trace) == len(records) > 1
    assert {part.finish_reason for record in trace for part in record.sequences} >= {None, FinishReason.STOP}


def test_each_round_is_in_the_file_before_the_next_begins(path) -> None:
    writer = TraceWriter(path)
    lengths = []

    def watch(record: RoundRecord) -> None:
        writer(record)
        lengths.append(len(read_trace(path)))

    decode(watch)
    assert lengths == list(range(1, len(lengths) + 1))
    writer.close()


def test_a_file_that_ends_anywhere_in_its_last_line_is_read_up_to_there(written) -> None:
    whole = read_trace(written)
    content = written.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(content) - 1, 5):
        written.write_bytes(content[:end])
        assert list(read_trace(written)) == list(whole)[:-1]
    written.write_bytes(content[:-1])
    assert read_trace(written) == whole


def test_a_trace_without_rounds_is_read(path) -> None:
    TraceWriter(path, target="t").close()
    assert read_trace(path) == Trace("t", "", "", ())


def test_fields_that_a_later_version_adds_are_ignored(written) -> None:
    before = read_trace(written)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    for line in lines:
        line["novelty"] = 1
    lines[1]["sequences"][0]["novelty"] = 1
    written.write_text("\n".join(map(json.dumps, lines)))
    assert read_trace(written) == before


def changed(entry: dict, *keys, to) -> dict:
    """A JSON object with another value at a place."""
    copy = json.loads(json.dumps(entry))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return copy


DAMAGES = {
    "missing field": (("passes",), ..., "passes is missing"),
    "text for a number": (("round",), "three", "round is 'three'"),
    "truth for a number": (("round",), True, "round is True"),
    "negative count": (("sequences", 0, "planned"), -1, "planned is -1"),
    "endless time": (("seconds", "drafting"), float("inf"), "drafting is inf"),
    "enormous time": (("seconds", "drafting"), 10**400, "drafting is 1000"),
    "no phases": (("seconds",), [1, 2, 3], "seconds is not a JSON object"),
    "no list": (("sequences",), {}, "sequences is not a list"),
    "part that is none": (("sequences", 0), 7, "a sequence is not a JSON object"),
    "fraction of a token": (("sequences", 0, "tokens", 0), 0.5, "a token is 0.5"),
    "unknown origin": (("sequences", 0, "origins", 0), "dreamt", "an origin is 'dreamt'"),
    "origins missing": (("sequences", 0, "origins"), [], "tokens and 0 origins"),
    "unknown end": (("sequences", 0, "finish_reason"), {}, "finish_reason is {}"),
    "too many accepted": (("sequences", 0, "accepted"), 99, "99 accepted of"),
    "number for a name": (("sequences", 0, "drafter"), 5, "drafter is not a string"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("last", [False, True], ids=["inside", "last"])
def test_a_line_that_says_something_else_is_named(written, name, last) -> None:
    keys, value, message = DAMAGES[name]
    lines = written.read_text().splitlines()
    number = len(lines) if last else 3
    lines[number - 1] = json.dumps(changed(json.loads(lines[number - 1]), *keys, to=value))
    written.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"line {number} of .*{re.escape(message)}.*: remove the line"):
        read_trace(written)


def test_a_broken_line_that_is_not_the_last_is_named(written) -> None:
    lines = written.read_text().splitlines()
    lines[3] = lines[3][:40]
    written.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 4 of .*remove the line"):
        read_trace(written)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hello\n", b"\xff\xfe", b"[]", b'{"format": "gif", "version": 1}\n', b"[" * 100_000]
)
def test_what_is_no_trace_is_refused(path, content) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not a trace, its line 1 .*: outrider generate --trace"):
        read_trace(path)


def test_a_later_version_is_refused(written) -> None:
    written.write_text(written.read_text().replace('"version": 1', '"version": 2', 1))
    with pytest.raises(InputError, match=r"line 1 of .* says version 2 and this outrider reads 1"):
        read_trace(written)


def test_a_file_that_cannot_be_read_is_refused(tmp_path) -> None:
    for wrong in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_trace(wrong)


def test_a_file_that_cannot_be_written_is_refused(tmp_path) -> None:
    for wrong in (tmp_path / "no" / "such" / "folder", tmp_path):
        with pytest.raises(InputError, match="a trace cannot be written to"):
            TraceWriter(wrong)


def test_only_a_trace_is_replaced(written, tmp_path) -> None:
    TraceWriter(written).close()
    assert len(read_trace(written)) == 0
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear all,\n")
    with pytest.raises(InputError, match="exists and is not a trace"):
        TraceWriter(letter)
    assert letter.read_text() == "Dear all,\n"


def test_after_its_end_nothing_is_written(path) -> None:
    with TraceWriter(path) as writer:
        decode(writer)
    before = path.read_bytes()
    decode(writer)
    assert path.read_bytes() == before


def test_on_a_full_disk_decoding_goes_on(path, monkeypatch) -> None:
    class FullDisk:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.file.close()

    writer = TraceWriter(path)
    monkeypatch.setattr(writer, "_file", FullDisk(writer._file))
    with pytest.warns(RuntimeWarning, match=r"the trace .* ends here.*No space left") as caught:
        (statistics,) = decode(writer)
    assert len(caught) == 1
    assert statistics.emitted == 20
    assert len(read_trace(path)) == 0


# Numbers


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("prompt", [(0,), LONG_PROMPT], ids=["short prompt", "long prompt"])
@pytest.mark.parametrize("stops", [(), (3, 4)], ids=["to the limit", "stopped"])
@pytest.mark.parametrize("lookahead", [0, 3, None])
def test_the_summary_of_one_text_is_its_statistics(rule, prompt, stops, lookahead) -> None:
    records: list[RoundRecord] = []
    (statistics,) = decode(records.append, rule=rule, prompt=prompt, stops=stops, lookahead=lookahead, max_tokens=40)
    summary = summarise(records)
    assert summary.statistics == statistics
    assert (summary.texts, summary.rounds, summary.read) == (1, len(records), len(prompt) - 1)
    assert statistics.seconds_prefill > 0 or len(prompt) == 1


def test_the_summary_of_several_texts_is_the_sum_of_their_statistics() -> None:
    records: list[RoundRecord] = []
    each = decode(records.append, texts=12, max_tokens=30)
    summary = summarise(records)
    total = summary.statistics
    assert summary.texts == 12
    for name in ("rounds", "emitted", "drafted", "accepted"):
        assert getattr(total, name) == sum(getattr(one, name) for one in each) > 0
    assert total.origins == sum((one.origins for one in each), Counter())
    for name in ("drafted_at", "accepted_at"):
        columns = zip_longest(*(getattr(one, name) for one in each), fillvalue=0)
        assert getattr(total, name) == [sum(counts) for counts in columns]
    # Of the engine: a round that several texts share has taken its time once.
    phases = ("drafting", "verification", "elsewhere")
    spent = sum(getattr(record, f"seconds_{phase}") for record in records for phase in phases)
    assert total.seconds_prefill + total.seconds_decoding == pytest.approx(spent)
    assert spent < sum(one.seconds_prefill + one.seconds_decoding for one in each) / 2


def test_the_summary_of_nothing_is_empty() -> None:
    summary = summarise([])
    assert summary.statistics == Statistics()
    assert json.loads(json.dumps(summary.as_dict()))["texts"] == 0


def part(sequence: int, planned: int | None, drafted: int = 0, accepted: int = 0, reads: int = 0) -> SequenceRound:
    """A part as the engine writes it; one that reads only has no tokens."""
    tokens = () if reads else (7,) * (accepted + 1)
    next_origin = Origin.PLAIN if not drafted else Origin.BONUS if accepted == drafted else Origin.CORRECTION
    origins = () if reads else (Origin.DRAFTED,) * accepted + (next_origin,)
    return SequenceRound(sequence, reads, planned, drafted, accepted, tokens, origins, "x" if drafted else "", None)


def rounds(*sequences: tuple[SequenceRound, ...], numbers=None) -> list[RoundRecord]:
    numbers = range(len(sequences)) if numbers is None else numbers
    return [RoundRecord(n, 0.0, 1, 0.1, 0.2, 0.3, parts) for n, parts in zip(numbers, sequences, strict=True)]


def test_few_texts_have_a_course_each_and_many_a_mean() -> None:
    records = rounds((part(0, 4, 2, 1), part(1, 0, reads=9)), (part(0, 6, 4, 4), part(1, 2, 2, 0)))
    first, second = lookahead_courses(records, most_texts=2, most_values=10)
    assert (first.planned, first.drafted, first.accepted) == ([4, 6], [2, 4], [1, 4])
    assert isnan(second.planned[0])  # it read its prompt and could not draft
    assert second.planned[1] == 2
    (mean,) = lookahead_courses(records, most_texts=1, most_values=10)
    assert (mean.texts, mean.rounds_per_value) == (2, 1)
    assert (mean.planned, mean.drafted, mean.accepted) == ([4, 4], [2, 3], [1, 2])


def test_long_courses_are_averaged_over_rounds() -> None:
    records = rounds(*((part(0, k, k, 0),) for k in range(5)))
    (course,) = lookahead_courses(records, most_texts=1, most_values=3)
    assert course.rounds_per_value == 2
    assert course.planned == [0.5, 2.5, 4]


def test_where_the_drafter_chose_nothing_was_planned() -> None:
    records = rounds((part(0, None, 3, 1), part(1, 4, 2)), (part(0, None), part(1, 2, 2)))
    first, second = lookahead_courses(records, most_texts=2, most_values=10)
    assert all(map(isnan, first.planned))
    assert (first.drafted, second.planned) == ([3, 0], [4, 2])
    (mean,) = lookahead_courses(records, most_texts=1, most_values=10)
    assert (mean.planned, mean.drafted) == ([4, 2], [2.5, 1])


@pytest.mark.parametrize("lookahead, planned", [(None, {None, 0}), (3, {0, 1, 2, 3})])
def test_a_drafter_that_is_told_prices_has_no_lookahead_in_the_trace(path, lookahead, planned) -> None:
    model = TableModel(np.where(np.roll(np.eye(12), 1, axis=1) > 0, 9.0, 0.0))
    with TraceWriter(path) as writer:
        engine = Engine(model, SuffixDrafter(), lookahead=lookahead, observer=writer)
        engine.submit(Request((0, 1, 2, 3), 40, SamplingParams(temperature=0, seed=0)))
        while not engine.idle:
            engine.step()
    parts = [part for record in read_trace(path) for part in record.sequences]
    assert {part.planned for part in parts} <= planned
    assert any(part.drafted for part in parts)
    assert all(part.planned is None for part in parts if part.drafted and lookahead is None)  # 0 where it was not asked


def test_engines_that_follow_one_another_are_told_apart() -> None:
    records = rounds((part(0, 1),), (part(0, 2),), (part(0, 3),), numbers=(0, 1, 0))
    assert summarise(records).texts == 2
    first, second = lookahead_courses(records, most_texts=2, most_values=10)
    assert first.planned[:2] == [1, 2]
    assert second.planned[2] == 3


# The decoder


def test_a_decoder_shows_its_observer_every_round(path) -> None:
    with TraceWriter(path) as writer:
        decoder = SpeculativeDecoder(DRAFT, TARGET, 3, observer=writer)
        short = decoder.generate((0, 1), max_tokens=10)
        long = decoder.generate((0, 1), max_tokens=400)  # needs a larger engine
    trace = read_trace(path)
    assert summarise(trace).texts == 2
    tokens = [token for record in trace for part in record.sequences for token in part.tokens]
    assert tokens == short.tokens + long.tokens


def test_a_decoder_shows_its_observer_what_it_decodes_beside_a_stream() -> None:
    records: list[RoundRecord] = []
    decoder = SpeculativeDecoder(DRAFT, TARGET, 3, observer=records.append)
    stream = decoder.stream((0, 1), max_tokens=10)
    next(stream)
    before = len(records)
    beside = decoder.generate((0, 1), max_tokens=10)
    assert sum(len(part.tokens) for record in records[before:] for part in record.sequences) == len(beside.tokens)


# Pictures


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Draws a trace as SVG; returns the texts in it."""
    pytest.importorskip("matplotlib")
    places = (tmp_path_factory.mktemp("pictures") / f"{number}.svg" for number in count())

    def texts(trace: Trace) -> list[str]:
        place = next(places)
        draw(trace, place)
        return ["".join(text.itertext()) for text in ElementTree.parse(place).iter(f"{SVG}text")]

    return texts


def test_a_picture_says_what_the_summary_says(figures) -> None:
    trace = trace_of(max_tokens=60, prompt=LONG_PROMPT)
    statistics = summarise(trace).statistics
    texts = figures(trace)
    assert {"Speed", "tokens/s"} <= set(texts)
    assert {"Lookahead", "Acceptance by position in the draft", "Tokens by origin", "Time by phase"} <= set(texts)
    assert {"planned", "drafted", "accepted", "round", "position in the draft", "tokens", "seconds"} <= set(texts)
    assert "target table · drafter small · rule token" in texts
    assert any(f"60 tokens in {statistics.rounds} rounds" in text for text in texts)
    for number in statistics.origins.values():
        assert f"{number} ({number / 60:.0%})" in texts
    total = statistics.seconds_prefill + statistics.seconds_decoding
    for seconds in (statistics.seconds_prefill, statistics.seconds_drafting, statistics.seconds_verification):
        assert f"{seconds:.2f} s ({seconds / total:.0%})" in texts


def test_the_phases_of_a_short_run_are_in_milliseconds(figures) -> None:
    trace = trace_of(max_tokens=60, prompt=LONG_PROMPT)
    phases = ("seconds_drafting", "seconds_verification", "seconds_elsewhere")
    short = [replace(each, **{name: getattr(each, name) / 1000 for name in phases}) for each in trace.records]
    texts = figures(replace(trace, records=tuple(short)))
    assert "milliseconds" in texts
    assert "seconds" not in texts
    drafting = 1000 * summarise(tuple(short)).statistics.seconds_drafting
    assert any(text.startswith(f"{drafting:.1f} ms (") for text in texts)


def test_bars_are_as_high_as_the_numbers(monkeypatch, tmp_path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    save = figure.savefig
    monkeypatch.setattr(figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    parts = [part(0, 5, 4, 2), part(0, 3, 1, 1), part(0, 0), part(0, 6, 3, 0), part(0, 2)]
    trace = Trace("", "", "", tuple(rounds(*((one,) for one in parts))))
    statistics = summarise(trace).statistics
    draw(trace, tmp_path / "x.svg")
    lookahead, speed, rate, counts, origins, times = drawn[0].axes
    assert list(speed.patches[0].get_data().values) == pace(trace.records, most_values=9).tokens_per_second
    planned, drafted, accepted = lookahead.patches[0], *lookahead.containers
    assert list(planned.get_data().values) == [5, 3, 0, 6, 2]
    assert [bar.get_height() for bar in drafted] == [4, 1, 0, 3, 0]
    assert [bar.get_height() for bar in accepted] == [2, 1, 0, 0, 0]
    assert [bar.get_height() for bar in counts.patches] == [3, 2, 2, 1]
    assert [bar.get_height() for bar in rate.patches] == [2 / 3, 1 / 2, 0, 0]
    assert [bar.get_width() for bar in origins.patches] == [statistics.origins[origin] for origin in Origin]
    assert [bar.get_width() for bar in times.patches] == [
        statistics.seconds_prefill,
        statistics.seconds_drafting,
        statistics.seconds_verification,
        statistics.seconds_elsewhere,
    ]


def test_the_text_is_drawn_in_the_colours_of_its_origins(monkeypatch, tmp_path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    save = figure.savefig
    monkeypatch.setattr(figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    one = replace(part(0, 3, 2, 1), texts=("the", " cat")[: len(part(0, 3, 2, 1).tokens)])
    draw(Trace("", "", "", tuple(rounds((one,)))), tmp_path / "x.svg")
    shown = {text.get_text(): text.get_color() for axes in drawn[0].axes for text in axes.texts}
    for text, origin in zip(one.texts, one.origins, strict=True):
        assert shown[text] == COLOURS[origin]


def test_where_nothing_was_planned_the_picture_shows_what_was_drafted(figures) -> None:
    texts = figures(Trace("", "", "", tuple(rounds((part(0, None, 3, 1),), (part(0, None),)))))
    assert "drafted" in texts
    assert "planned" not in texts
    nothing = figures(Trace("", "", "", tuple(rounds((part(0, None),)))))
    assert "nothing was drafted in any round" in nothing


def test_few_texts_are_drawn_apart_and_many_together(figures) -> None:
    few = figures(trace_of(texts=3))
    assert sum(text.startswith("text ") for text in few) == 3
    assert {"all texts", "at once"} <= {line for text in few for line in text.splitlines()} | set(few)
    many = figures(trace_of(texts=8))
    assert "Lookahead, mean of 8 texts" in many
    assert not any(text.startswith("text ") for text in many)
    assert any(" tokens of 8 texts in " in text for text in many)


def test_a_long_trace_is_averaged(figures) -> None:
    records = rounds(*((part(0, 2, 2, 1),) for _ in range(400)))
    assert "Lookahead, mean of 3 rounds" in figures(Trace("", "", "", tuple(records)))


def test_without_drafts_the_picture_says_so(figures) -> None:
    texts = figures(trace_of(drafter=False, lookahead=0))
    assert "nothing was drafted" in texts
    assert "the lookahead was 0 in every round" in texts
    assert "20 (100%)" in texts


def test_rounds_that_only_read_can_be_drawn(figures) -> None:
    assert "nothing was drafted" in figures(Trace("", "", "", tuple(rounds((part(0, 0, reads=9),), ()))))


def test_names_are_not_taken_for_mathematics_and_long_ones_are_cut(figures) -> None:
    trace = replace(trace_of(), target="$x^2$\x1b\x00", drafter="/models/" + "long/" * 30 + "name")
    (run,) = (text for text in figures(trace) if text.startswith("target"))
    assert run.startswith("target $x^2$·· · drafter …")
    assert run.endswith("long/name · rule token")
    assert len(run) < 100


def test_a_trace_without_names_has_one_headline() -> None:
    trace = Trace("", "", "", tuple(rounds((part(0, 2, 2, 1),))))
    assert headlines(trace, summarise(trace)) == (
        "",
        "2 tokens in 1 round · 2.00 tokens per round · 50% of 2 drafted tokens accepted",
    )


def test_a_png_is_one_and_the_same_trace_gives_the_same_svg(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    trace = trace_of()
    draw(trace, tmp_path / "x.PNG")
    assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for name in ("a.svg", "b.svg"):
        draw(trace, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path, monkeypatch) -> None:
    trace = trace_of()
    with pytest.raises(SettingError, match=r"end it in \.svg or \.png"):
        draw(trace, tmp_path / "x.gif")
    if "matplotlib" in sys.modules:
        with pytest.raises(InputError, match="no rounds"):
            draw(replace(trace, records=()), tmp_path / "x.svg")
        with pytest.raises(InputError, match="cannot be written to"):
            draw(trace, tmp_path / "no" / "x.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingError, match=re.escape("pip install 'outrider[plot]'")):
        draw(trace, tmp_path / "x.svg")


def test_a_tree_is_summed_up_by_the_depths_of_its_nodes(path) -> None:
    target = TableModel.random(8, 1, seed=2)
    with TraceWriter(path) as writer:
        decoder = SpeculativeDecoder(ModelTreeDrafter(target, StaticTree((2, 2))), target, 6, observer=writer)
        stats = decoder.generate([1], max_tokens=20, sampling=SamplingParams(seed=1)).stats
    summed = summarise(read_trace(path).records).statistics
    assert max(map(len, (part.depths for record in read_trace(path) for part in record.sequences))) == 6
    assert (summed.drafted, summed.drafted_at, summed.accepted_at) == (
        stats.drafted,
        stats.drafted_at,
        stats.accepted_at,
    )
