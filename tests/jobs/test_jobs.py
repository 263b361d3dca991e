"""Many prompts from a file: nothing lost, nothing twice, and the same results however often a run is interrupted."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from outrider import AdaptiveSpeculator, InputError, SamplingParams, SettingError, SuffixDrafter, TableModel
from outrider.cli.app import run as command_line
from outrider.cli.jobs import speed
from outrider.jobs import (
    Common,
    Defaults,
    Jobs,
    Preparation,
    Progress,
    PromptFile,
    ResultFile,
    ResultStream,
    parse_prompts,
    run,
)
from outrider.jobs.fingerprint import derived_seed, differing, fingerprint

SOURCE = "prompts.jsonl"
WORDS = "abcdefgh"


class Letters:
    """A tokenizer of one token a letter."""

    fingerprint = "letters"

    def encode(self, text):
        return [WORDS.index(letter) for letter in text]

    def decode(self, tokens):
        return "".join(WORDS[token] for token in tokens)

    def encode_chat(self, messages):
        return [token for message in messages for token in self.encode(message["content"])]


def table(tokenizer=True, **settings):
    """Logits far enough apart, so that batches of other shapes round to the same choices."""
    made = TableModel.random(len(WORDS), 2, spread=1.5, seed=3)
    words = Letters() if tokenizer else None
    return TableModel(made.table, name="letters", tokenizer=words, context_length=40, **settings)


TARGET = table()
LINES = [
    {"prompt": "abc"},
    {"messages": [{"role": "user", "content": "bd"}, {"role": "assistant", "content": "c"}], "max_tokens": 3},
    {"tokens": [7, 6, 5], "id": "mine"},
    {"turns": ["hgf", "e"], "category": "writing", "temperature": 0},
    {"prompt": "ab", "id": 70, "seed": 5, "top_k": 3},
    {"prompt": "aa" * 30, "id": "too long"},
    {"prompt": "cab", "id": "stops", "stop": ["d", "ee"], "temperature": 1.5},
]
DEFAULTS = Defaults(6, SamplingParams())
COMMON = Common("letters", rule="coupled", seed=11)


def text_of(lines):
    return "\n".join(json.dumps(line) for line in lines)


def jobs_of(lines=LINES, defaults=DEFAULTS, **settings):
    return Jobs(parse_prompts(text_of(lines), SOURCE, defaults), replace(COMMON, **settings))


def decode(path, jobs, target=TARGET, drafter=None, overwrite=False, **settings):
    with ResultFile(path, overwrite=overwrite) as results:
        return run(jobs, results, lambda: (target, drafter), **{"rule": "coupled", "lookahead": 2, **settings})


def read(path):
    """Results by id; refuses one that is there twice."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    results = {line["id"]: line for line in lines}
    assert len(results) == len(lines)
    return results


def contents(path):
    """What must not depend on the run: all but counts and times."""
    return {id: {name: line[name] for name in line if name != "stats"} for id, line in read(path).items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "results.jsonl"
    decode(path, jobs_of(), max_rows=1)
    return contents(path)


def test_every_prompt_has_its_result(tmp_path):
    progress = decode(tmp_path / "r", jobs_of())
    results = read(tmp_path / "r")
    assert set(results) == {1, 2, "mine", 4, 70, "too long", "stops"}
    assert (progress.total, progress.done, progress.failed) == (7, 7, 1)
    for id, result in results.items():
        if id == "too long":
            assert "shorten it to 39" in result["error"]
            continue
        assert len(result["tokens"]) == result["stats"]["emitted"] <= (3 if id == 2 else 6)
        if id != "stops":
            assert result["text"] == TARGET.tokenizer.decode(result["tokens"])
    assert "d" not in results["stops"]["text"]
    assert results[4]["seed"] is None
    assert results[70]["seed"] == 5
    assert progress.emitted == sum(result["stats"]["emitted"] for result in results.values() if "stats" in result)


@pytest.mark.parametrize("max_rows", [2, 3, 50])
@pytest.mark.parametrize("lookahead", [None, 0, 4, AdaptiveSpeculator()], ids=["goodput", "plain", "4", "adaptive"])
def test_results_do_not_depend_on_rows_or_lookahead(tmp_path, expected, max_rows, lookahead):
    decode(tmp_path / "r", jobs_of(), drafter=SuffixDrafter(), max_rows=max_rows, lookahead=lookahead)
    assert contents(tmp_path / "r") == expected


@pytest.mark.parametrize("rule", ["token", "block"])
@pytest.mark.parametrize("lookahead", [3, AdaptiveSpeculator(2)], ids=["fixed", "adaptive"])
def test_under_other_rules_a_lookahead_that_knows_no_time_gives_the_same(tmp_path, rule, lookahead):
    jobs = jobs_of(rule=rule)
    found = []
    for rows in (1, 4):
        path = tmp_path / str(rows)
        decode(path, jobs, drafter=SuffixDrafter(), rule=rule, lookahead=lookahead, max_rows=rows)
        found.append(contents(path))
    assert found[0] == found[1]
    assert any(line.get("stats", {}).get("accepted") for line in read(path).values())


def test_order_does_not_matter_where_ids_are_given(tmp_path):
    lines = [{**line, "id": line.get("id", number)} for number, line in enumerate(LINES, start=1)]
    decode(tmp_path / "forward", jobs_of(lines))
    decode(tmp_path / "backward", jobs_of(lines[::-1]), max_rows=2)
    assert contents(tmp_path / "forward") == contents(tmp_path / "backward")


def test_prompts_draw_differently(tmp_path):
    jobs = jobs_of([{"prompt": "abc"}] * 5)
    decode(tmp_path / "r", jobs)
    assert len({line["text"] for line in read(tmp_path / "r").values()}) > 1
    assert derived_seed(1, "a") != derived_seed(1, "b") != derived_seed(2, "b")


def test_a_result_is_there_as_soon_as_it_is_finished(tmp_path):
    lines = [{"prompt": "ab", "max_tokens": 2}, {"prompt": "ab", "max_tokens": 20}, {"prompt": "ab", "max_tokens": 9}]
    seen = []

    def report(progress):
        seen.append((tmp_path / "r").read_bytes().count(b"\n"))
        assert seen[-1] == progress.done

    decode(tmp_path / "r", jobs_of(lines), max_rows=2, lookahead=0, report=report)
    assert [line["id"] for line in map(json.loads, (tmp_path / "r").read_text().splitlines())] == [1, 3, 2]
    assert seen[0] == 0
    assert {1, 2} <= set(seen)


def test_a_run_that_was_cut_off_at_any_byte_goes_on(tmp_path):
    """Lines are appended one after the other, so that a killed run leaves a beginning of the file."""
    jobs = jobs_of([{**line, "max_tokens": 2} for line in (LINES[0], LINES[3], LINES[5])])
    path = tmp_path / "r"
    decode(path, jobs, max_rows=3)
    whole, expected = path.read_bytes(), contents(path)
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    near = {place + off for place in (0, *ends) for off in range(-2, 90) if 0 <= place + off <= len(whole)}
    for length in sorted(near | set(range(0, len(whole), 7))):  # id and fingerprint whole, of what follows a seventh
        path.write_bytes(whole[:length])
        progress = decode(path, jobs, max_rows=3)
        assert progress.before == whole[:length].count(b"\n")
        assert contents(path) == expected
        assert path.read_bytes().startswith(whole[: whole.rfind(b"\n", 0, length) + 1])


def test_interrupted_after_every_round(tmp_path, expected):
    class Stop(Exception):
        pass

    path = tmp_path / "r"
    runs = 0
    while not path.exists() or len(path.read_bytes().splitlines()) < len(LINES):
        runs += 1
        assert runs < 50
        before = path.read_bytes().count(b"\n") if path.exists() else 0

        def report(progress, before=before):
            if progress.done > before:
                raise Stop

        with suppress(Stop):
            decode(path, jobs_of(), max_rows=2, report=report)
    assert runs > 3
    assert contents(path) == expected


CHILD = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import test_jobs as t
most = int(sys.argv[4]) + 30  # results; then it waits for its end, however late that comes
held = lambda progress: progress.done < most or time.sleep(3600)
t.decode(sys.argv[3], t.jobs_of(t.KILLED), max_rows=3, lookahead=0, report=held)
"""
KILLED = [{"prompt": WORDS[place % 8] + WORDS[place // 8 % 8], "max_tokens": 20} for place in range(200)]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_again_and_again(tmp_path):
    path = tmp_path / "r"
    tests = Path(__file__).parent
    source = tests.parents[1] / "src"
    command = [sys.executable, "-c", CHILD, str(tests), str(source), str(path)]
    for more in (1, 7, 30):
        goal = (path.read_bytes().count(b"\n") if path.exists() else 0) + more
        child = subprocess.Popen([*command, str(goal)], env=os.environ)
        while child.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < goal):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    jobs = jobs_of(KILLED)
    progress = decode(path, jobs, max_rows=5)
    assert 38 <= progress.before < 200
    decode(tmp_path / "whole", jobs, max_rows=8)
    assert contents(path) == contents(tmp_path / "whole")


def test_a_finished_run_has_nothing_to_do(tmp_path):
    decode(tmp_path / "r", jobs_of())
    before = (tmp_path / "r").read_bytes()
    progress = decode(tmp_path / "r", jobs_of())
    assert (progress.before, progress.finished, progress.failed) == (7, 0, 1)
    assert (tmp_path / "r").read_bytes() == before


def test_each_result_is_synchronised_with_the_disk(tmp_path, monkeypatch):
    synchronised = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synchronised.append((tmp_path / "r").read_bytes()))
    decode(tmp_path / "r", jobs_of())
    assert [whole.count(b"\n") for whole in synchronised] == [1, 2, 3, 4, 5, 6, 7]


def test_rounds_may_be_observed(tmp_path):
    records = []
    progress = decode(tmp_path / "r", jobs_of(), observer=records.append)
    assert sum(len(part.tokens) for record in records for part in record.sequences) == progress.emitted > 0


def test_more_prompts_may_be_added(tmp_path):
    decode(tmp_path / "r", jobs_of(LINES[:3]))
    assert decode(tmp_path / "r", jobs_of()).before == 3
    assert len(read(tmp_path / "r")) == len(LINES)


CHANGES = {
    "model": (jobs_of(model="other"), "not have the model of"),
    "system prompt": (jobs_of(system_prompt="a"), "not have the prompt of"),
    "prompts": (jobs_of([{"prompt": "cab"}, *LINES[1:]]), "not have the prompt of"),
    "seed": (jobs_of(seed=12), "not have the settings of"),
    "no seed": (jobs_of(seed=None), "not have the settings of"),
    "rule": (jobs_of(rule="token"), "not have the settings of"),
    "log probabilities": (jobs_of(logprobs=True), "not have the settings of"),
    "log probabilities of more tokens": (jobs_of(logprobs=1), "not have the settings of"),
    "length": (jobs_of(defaults=replace(DEFAULTS, max_tokens=7)), "not have the settings of"),
    "sampling": (jobs_of(defaults=replace(DEFAULTS, sampling=SamplingParams(top_p=0.9))), "not have the settings of"),
    "stop": (jobs_of(defaults=replace(DEFAULTS, stop=("h",))), "not have the settings of"),
    "fewer prompts": (jobs_of(LINES[1:]), "line 1 of .*, of prompt 1, does not have the prompt and settings of"),
    "one prompt": (jobs_of(LINES[:1]), "line 2 of .* not among those given, 2"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_results_of_another_run_are_refused_and_stay(tmp_path, name):
    path = tmp_path / "r"
    jobs, message = CHANGES[name]
    decode(path, jobs_of(), max_rows=1)
    before = path.read_bytes()
    with pytest.raises(InputError, match=message) as caught:
        decode(path, jobs)
    assert "--overwrite" in str(caught.value)
    assert path.read_bytes() == before
    decode(path, jobs, overwrite=True, rule="token")
    assert set(read(path)) == {job.id for job in jobs}


@pytest.mark.parametrize("torn", [b"x", b'{"prompt": "a', b'{"id": 1, "fingerprint": "0', b"x\0\0"])
def test_an_end_that_is_no_beginning_of_a_result_is_not_cut_off(tmp_path, torn):
    path = tmp_path / "r"
    decode(path, jobs_of(LINES[:2]))
    path.write_bytes(path.read_bytes() + torn)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"line 3 of .* neither whole nor the beginning"):
        decode(path, jobs_of())
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["seven", "[]", "{}", '{"id": 1}', '{"id": [1], "fingerprint": "x"}', "\0"])
def test_a_file_of_something_else_is_refused(tmp_path, line):
    path = tmp_path / "r"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=r"line 1 of .*--overwrite") as caught:
        decode(path, jobs_of())
    assert "take that line out" in str(caught.value) or "not among those given" in str(caught.value)
    assert path.read_text() == line + "\n"


@pytest.mark.parametrize("end", [b"\n", b"  \n\n", b"\0" * 9, b'{"id": \0\0\0', b"\n\0"])
def test_empty_lines_and_nuls_at_the_end_are_no_results(tmp_path, end):
    """What an editor leaves there, and a power cut on some file systems."""
    path = tmp_path / "r"
    decode(path, jobs_of(LINES[:2]))
    whole = path.read_bytes()
    path.write_bytes(whole + end)
    decode(path, jobs_of())
    assert set(read(path)) == {job.id for job in jobs_of()}
    assert path.read_bytes().startswith(whole)


def test_a_result_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "r"
    decode(path, jobs_of(LINES[:1]))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match=r"line 2 of .* repeats the result of prompt 1"):
        decode(path, jobs_of())


def test_nothing_is_overwritten_before_the_engine_is_open(tmp_path):
    path = tmp_path / "r"
    decode(path, jobs_of())
    before = path.read_bytes()
    with pytest.raises(SettingError, match="rule"):
        decode(path, jobs_of(), overwrite=True, rule="none of these")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name, message", [("", "Is a directory"), ("no/such", "No such file"), ("pipe", "plain file")])
def test_a_place_that_holds_no_results_is_refused(tmp_path, name, message):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=message):
        ResultFile(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    with ResultFile(tmp_path / "r") as results:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, results._descriptor)
        os.close(full)
        with pytest.raises(InputError, match=r"No space left.*without --overwrite"):
            results.write(1, "f", {})


def test_a_stream_takes_results_and_remembers_none():
    stream = io.StringIO()
    progress = run(jobs_of(), ResultStream(stream), lambda: (TARGET, None), rule="coupled")
    assert (progress.done, progress.failed) == (7, 1)
    assert len(stream.getvalue().splitlines()) == 7


def test_rows_are_as_long_as_the_longest_request_needs(tmp_path):
    opened = []

    class Watched(TableModel):
        def open(self, rows, capacity):
            opened.append((rows, capacity))
            return super().open(rows, capacity)

    target = Watched(TARGET.table, context_length=40, tokenizer=Letters())
    lines = [{"prompt": "abc", "max_tokens": 9}, {"prompt": "abcdef", "max_tokens": 2}]
    decode(tmp_path / "short", jobs_of(lines), target)
    decode(tmp_path / "long", jobs_of([*lines, {"prompt": "a", "max_tokens": 1000}]), target, max_rows=2)
    assert opened == [(2, 12), (2, 40)]
    assert len(read(tmp_path / "long")[3]["tokens"]) == 39


def test_texts_on_which_the_target_fails_end_alone(tmp_path):
    logits = TARGET.table.copy()
    logits[0, 1] = float("nan")
    target = TableModel(logits, name="letters", tokenizer=Letters(), context_length=40)
    lines = [{"prompt": "ccc", "max_tokens": 1}, {"prompt": "ab"}, {"prompt": "ddd", "max_tokens": 1}]
    progress = decode(tmp_path / "r", jobs_of(lines), target)
    results = read(tmp_path / "r")
    assert progress.failed == 1
    assert "logit of nan" in results[2]["error"]
    assert results[2]["finish_reason"] == "error"
    assert results[1]["tokens"]
    assert results[3]["tokens"]


class Broken(Letters):
    """Its chat template divides by the number of letters but three."""

    def encode_chat(self, messages):
        assert 1 / (len(messages[0]["content"]) - 3)
        return super().encode_chat(messages)


def test_a_chat_template_that_fails_on_a_prompt_is_an_error_of_it_alone(tmp_path):
    target = TableModel(TARGET.table, name="letters", tokenizer=Broken(), context_length=40)
    decode(tmp_path / "r", jobs_of([{"prompt": "ab"}, {"prompt": "abc"}, {"prompt": "abcd"}]), target)
    results = read(tmp_path / "r")
    assert "chat template of letters refuses the prompt (ZeroDivisionError: " in results[2]["error"]
    assert results[1]["text"]
    assert results[3]["text"]


def test_log_probabilities_on_demand(tmp_path):
    decode(tmp_path / "r", jobs_of(LINES[:1], logprobs=True))
    result = read(tmp_path / "r")[1]
    assert len(result["logprobs"]) == len(result["tokens"])
    assert all(logprob <= 0 for logprob in result["logprobs"])
    assert "top_logprobs" not in result


def test_log_probabilities_of_the_most_probable_tokens(tmp_path):
    decode(tmp_path / "r", jobs_of(LINES[:1], logprobs=2))
    result = read(tmp_path / "r")[1]
    assert [len(top) for top in result["top_logprobs"]] == [2] * len(result["tokens"])
    decode(tmp_path / "all", jobs_of(LINES[:1], logprobs=len(WORDS)), table(stop_token_ids=frozenset()))
    assert json.dumps(read(tmp_path / "all")[1], allow_nan=False)


def test_a_token_outside_the_vocabulary_is_an_error_of_its_prompt(tmp_path):
    decode(tmp_path / "r", jobs_of([{"tokens": [8]}, {"tokens": [1]}]))
    assert "vocabulary of 8" in read(tmp_path / "r")[1]["error"]
    assert read(tmp_path / "r")[2]["tokens"]


def request_of(line, target=TARGET, **settings):
    (job,) = jobs_of([line], **settings)
    return Preparation(target, replace(COMMON, **settings)).request(job)


def test_a_line_overrides_what_holds_for_all():
    line = {
        "prompt": "a",
        "max_tokens": 2,
        "temperature": 0.5,
        "top_k": 1,
        "top_p": 0.25,
        "min_p": 0.125,
        "seed": 9,
        "stop": "b",
        "presence_penalty": None,
    }
    request = request_of(line)
    assert request.sampling == SamplingParams(temperature=0.5, top_k=1, top_p=0.25, min_p=0.125, seed=9)
    assert (request.max_tokens, request.stop) == (2, ("b",))
    assert request_of({"prompt": "a"}).sampling == SamplingParams(seed=derived_seed(11, 1))
    assert request_of({"prompt": "a", "stop": ["b", "c"]}).stop == ("b", "c")


def test_the_seed_of_a_run_is_none_of_its_lines():
    seeded = Defaults(6, SamplingParams(seed=11))
    assert [job.seed for job in jobs_of([LINES[0]] * 3, defaults=seeded)] == [derived_seed(11, id) for id in (1, 2, 3)]


def test_a_system_prompt_comes_first_where_there_is_none():
    assert request_of({"prompt": "ab"}, system_prompt="hh").prompt == (7, 7, 0, 1)
    assert request_of({"tokens": [0, 1]}, system_prompt="hh").prompt == (0, 1)
    own = {"messages": [{"role": "system", "content": "g"}, {"role": "user", "content": "a"}]}
    assert request_of(own, system_prompt="hh").prompt == (6, 0)


@pytest.mark.parametrize(
    "line, target, settings, message",
    [
        ({"prompt": "a"}, table(tokenizer=False), {}, f"line 1 of {SOURCE} is text and .* no tokenizer"),
        ({"tokens": [1], "stop": "a"}, table(tokenizer=False), {}, "stop strings need a tokenizer"),
        ({"tokens": [1]}, table(tokenizer=False), {"predicted": "a"}, "expected text needs a tokenizer"),
        ({"prompt": "a"}, TARGET, {"use_chat_template": False, "system_prompt": "b"}, "chat template is ignored"),
        (
            LINES[1],
            TARGET,
            {"use_chat_template": False},
            f"line 1 of {SOURCE} cannot be decoded: the prompt is a conversation",
        ),
    ],
)
def test_what_no_prompt_can_have_is_refused(line, target, settings, message):
    with pytest.raises(SettingError, match=message):
        request_of(line, target, **settings)


def test_fingerprints_say_what_differs():
    one = fingerprint("m", [1, 2], {"top_k": 1})
    assert differing(one, fingerprint("m", [1, 2], {"top_k": 1})) == []
    assert differing(one, fingerprint("m", [12], {"top_k": 2})) == ["prompt", "settings"]
    assert differing(one, "something") == ["model", "prompt", "settings"]


def endless(prompts_wanted):
    """Prompts as a file has them; the list says how many were read."""

    class Endless:
        def __len__(self):
            return 10**4

        def __iter__(self):
            for number in range(10**4):
                prompts_wanted.append(number)
                (prompt,) = parse_prompts(json.dumps({"prompt": "ab", "id": number}), SOURCE, DEFAULTS)
                yield prompt

    return Jobs(Endless(), COMMON)


def test_prompts_are_read_as_they_are_needed(tmp_path):
    class Enough(Exception):
        pass

    wanted = []

    def report(progress):
        assert len(wanted) <= 4 * 2 + progress.done + 1
        if progress.done > 20:
            raise Enough

    with pytest.raises(Enough):
        decode(tmp_path / "r", endless(wanted), max_rows=2, report=report)
    assert len(read(tmp_path / "r")) > 20


def test_a_bad_line_far_behind_ends_a_run_after_the_texts_before_it(tmp_path):
    file = tmp_path / "prompts.jsonl"
    sound = [json.dumps({"prompt": "ab", "max_tokens": 2}) for _ in range(30)]
    file.write_text("\n".join([*sound, "{", *sound]))
    jobs = Jobs(PromptFile(file, DEFAULTS), COMMON)
    for _ in range(2):
        with pytest.raises(InputError, match=r"line 31 of .* no JSON"):
            decode(tmp_path / "r", jobs, max_rows=2)
        assert set(read(tmp_path / "r")) == set(range(1, 31))
    file.write_text("\n".join([*sound, sound[0], *sound]))
    decode(tmp_path / "r", jobs, max_rows=2)
    assert set(read(tmp_path / "r")) == set(range(1, 62))


def test_rows_grow_where_a_later_prompt_needs_it(tmp_path):
    opened = []

    class Watched(TableModel):
        def open(self, rows, capacity):
            opened.append((rows, capacity))
            return super().open(rows, capacity)

    target = Watched(TARGET.table, context_length=40, tokenizer=Letters())
    short, long = {"prompt": "abc", "max_tokens": 2}, {"prompt": "abc", "max_tokens": 8}
    lines = [*[short] * 9, long, *[short] * 3, {**long, "max_tokens": 1000}, long]
    decode(tmp_path / "r", jobs_of(lines), target, max_rows=2, lookahead=0)
    assert opened == [(2, 5), (2, 11), (2, 40)]
    alone = tmp_path / "alone"
    decode(alone, jobs_of(lines), max_rows=50, lookahead=0)
    assert contents(alone) == contents(tmp_path / "r")


def test_nothing_is_opened_where_nothing_is_left(tmp_path):
    decode(tmp_path / "r", jobs_of())

    def opened():
        raise AssertionError("the model was opened")

    with ResultFile(tmp_path / "r") as results:
        assert run(jobs_of(), results, opened).done == len(LINES)


def test_what_stands_beside_the_bar():
    assert speed(Progress(10, 2)) == ""
    assert speed(Progress(10, 2, emitted=60, seconds=30)) == "2.0 tokens/s"
    assert speed(Progress(10, 2, finished=4, decoded=2, emitted=60, seconds=30)) == "2.0 tokens/s, 1:00 left"
    assert speed(Progress(1002, 1, finished=1, decoded=1, emitted=60, seconds=4)) == "15.0 tokens/s, 1:06:40 left"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny import model as tiny_model

    return tiny_model.save(tmp_path_factory.mktemp("target"))


@pytest.fixture
def generate(capsys):
    """Runs `outrider generate`; returns (status, stdout, stderr)."""

    def call(*arguments):
        status = command_line(["generate", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


SENTENCES = ["the cat sat", "the mat ran away and", "cat", "the the the the", "far away the cat ran", "on"]
DECODING = ("-n", 12, "--dtype", "float32", "--temp", 1, "--rule", "coupled", "--seed", 3)


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(text_of([{"prompt": sentence} for sentence in SENTENCES]))
    return file


def test_on_the_command_line_each_result_is_what_the_prompt_gives_alone(generate, folder, prompts, tmp_path):
    output = tmp_path / "results.jsonl"
    status, out, err = generate("--input", prompts, "--output", output, "-m", folder, *DECODING, "--max-rows", 4)
    assert (status, out) == (0, ""), err
    assert err.startswith("6 prompts · ")
    assert len(err.splitlines()) == 1
    results = read(output)
    for number, sentence in enumerate(SENTENCES, start=1):
        own = results[number]
        alone = json.loads(
            generate(sentence, "-m", folder, *DECODING[:-1], own["seed"], "--drafter", "none", "--json")[1]
        )
        assert {name: own[name] for name in ("text", "tokens", "finish_reason")} == {
            name: alone[name] for name in ("text", "tokens", "finish_reason")
        }
    _, out, _ = generate("--input", prompts, "--output", "-", "-m", folder, *DECODING, "--max-rows", 2)
    printed = {line["id"]: line["text"] for line in map(json.loads, out.splitlines())}
    assert printed == {id: result["text"] for id, result in results.items()}


@pytest.fixture
def heeds_interrupts():
    """A job in the background of a shell starts with SIGINT ignored."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize(("number", "end"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_goes_on_after_an_interrupt(generate, folder, prompts, tmp_path, monkeypatch, number, end):
    output = tmp_path / "results.jsonl"
    arguments = ("--input", prompts, "--output", output, "-m", folder, *DECODING, "--max-rows", 2)
    whole = ResultFile.write

    def write(self, id, *result):
        whole(self, id, *result)
        if self._written == 1:
            signal.raise_signal(number)
        self._written += 1

    monkeypatch.setattr(ResultFile, "_written", 0, raising=False)
    monkeypatch.setattr(ResultFile, "write", write)
    status, out, err = generate(*arguments, "--overwrite")
    assert (status, out) == (end, "")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert err == f"stopped · 1 of 6 prompts are in {output}; the same command without --overwrite goes on from there\n"
    monkeypatch.setattr(ResultFile, "write", whole)
    status, _, err = generate(*arguments)
    assert status == 0
    assert err.startswith("6 prompts, 2 of them there before · ")
    interrupted = contents(output)
    assert generate(*arguments)[2] == "6 prompts, all of them there before\n"
    assert generate(*arguments, "--overwrite")[0] == 0
    assert contents(output) == interrupted


def test_a_model_is_not_opened_where_nothing_is_left(generate, folder, prompts, tmp_path, monkeypatch):
    arguments = ("--input", prompts, "--output", tmp_path / "results.jsonl", "-m", folder, *DECODING)
    assert generate(*arguments)[0] == 0
    monkeypatch.setattr("outrider.load", None)
    assert generate(*arguments) == (0, "", "6 prompts, all of them there before\n")


def test_results_of_other_files_of_the_model_are_refused(generate, folder, prompts, tmp_path):
    """A tokenizer, a chat template or a stop token that was changed in place."""
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    arguments = ("--input", prompts, "--output", tmp_path / "results.jsonl", "-m", other, *DECODING)
    assert generate(*arguments)[0] == 0
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "config.json"):
        file = other / name
        before = file.read_bytes() if file.exists() else None
        file.write_bytes((before or b"{}") + b" ")
        status, _, err = generate(*arguments)
        assert (status, "not have the model of" in err) == (2, True), err
        file.unlink() if before is None else file.write_bytes(before)
    assert generate(*arguments)[0] == 0


def test_a_bad_line_far_behind_is_named_after_what_is_there(generate, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("outrider.jobs.jobs.BEGINNING", 3)
    file, output = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    file.write_text("\n".join([json.dumps({"prompt": "cat"})] * 40 + ['{"prompt": 7}']))
    status, _, err = generate("--input", file, "--output", output, "-m", folder, "-n", 1, "--drafter", "none")
    assert status == 2
    assert err.splitlines() == [
        f"stopped · 40 of 41 prompts are in {output}; the same command goes on from there",
        f"error: line 41 of {file} cannot be used: prompt is 7: it must be a text",
    ]


def test_a_prompt_that_cannot_be_decoded_shows_in_the_exit_status(generate, folder, prompts, tmp_path):
    with prompts.open("a") as file:
        file.write("\n" + json.dumps({"prompt": "cat " * 300, "id": "long"}))
    output = tmp_path / "results.jsonl"
    for _ in range(2):
        status, _, err = generate("--input", prompts, "--output", output, "-m", folder, "-n", 2)
        assert status == 1
        assert '1 with an "error"' in err
    assert "shorten it to 255" in read(output)["long"]["error"]


def test_a_bad_line_is_refused_before_a_model_is_opened(generate, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": ""}\n')
    status, out, err = generate("--input", file, "--output", tmp_path / "r", "-m", "/no/such/model")
    assert (status, out) == (2, "")
    assert err == f"error: line 2 of {file} cannot be used: the prompt is empty: give at least one word\n"
    assert not (tmp_path / "r").exists()


REFUSED = {
    "prompt": (["a prompt", "--input", "i", "--output", "o"], "PROMPT is for a single prompt"),
    "file": (["--file", "f", "--input", "i", "--output", "o"], "--file is for a single prompt"),
    "colours": (["--show", "--input", "i", "--output", "o"], "--show is for a single prompt"),
    "comparison": (["--compare", "--input", "i", "--output", "o"], "--compare is for a single prompt"),
    "one object": (["--json", "--input", "i", "--output", "o"], "--json is for a single prompt"),
    "no output": (["--input", "i"], "--output - to print them"),
    "no input": (["a", "--output", "o"], "--output is for many prompts"),
    "rows of nothing": (["a", "--max-rows", "2"], "--max-rows is for many prompts"),
    "nothing to overwrite": (["a", "--overwrite"], "--overwrite is for many prompts"),
    "no rows": (["--input", "i", "--output", "o", "--max-rows", "0"], "--max-rows is 0"),
    "overwritten terminal": (["--input", "i", "--output", "-", "--overwrite"], "--overwrite is for a file"),
    "missing input": (["--input", "/no/such/file", "--output", "-"], "does not exist"),
    "no tokens": (["--input", "i", "--output", "o", "-n", "0"], "--max-tokens is 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_together_is_refused(generate, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i").write_text('{"prompt": "a"}')
    arguments, message = REFUSED[name]
    status, out, err = generate(*arguments, "-m", "/no/such/model")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ["i"]


def test_the_input_is_never_the_output(generate, prompts):
    before = prompts.read_text()
    status, _, err = generate("--input", prompts, "--output", prompts.parent / "." / prompts.name, "--overwrite")
    assert status == 2
    assert "are the same file" in err
    assert prompts.read_text() == before


def test_prompts_come_from_standard_input(generate, folder, prompts, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(prompts.read_text()))
    status, out, _ = generate("--input", "-", "--output", "-", "-m", folder, "-n", 2)
    assert status == 0
    assert len(out.splitlines()) == 6
    monkeypatch.setattr(sys, "stdin", io.StringIO("{"))
    assert "line 1 of standard input" in generate("--input", "-", "--output", "-")[2]
