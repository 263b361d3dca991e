"""The proposer against a stand-in for vLLM: rows without names, texts that move, steps that take time."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from outrider import SettingError
from outrider.hosts.vllm import Proposer
from outrider.hosts.vllm.settings import Settings, read_settings

VOCABULARY = 50
LONGEST = 400


def config(most=6, rows=4, longest=LONGEST):
    return SimpleNamespace(
        speculative_config=SimpleNamespace(num_speculative_tokens=most),
        model_config=SimpleNamespace(max_model_len=longest, get_vocab_size=lambda: VOCABULARY),
        scheduler_config=SimpleNamespace(max_num_seqs=rows),
    )


def periodic(text):
    """A target that repeats what it said eight tokens ago."""
    return text[-8]


def fresh(text):
    """A target that never repeats itself for long."""
    return (text[-1] * 7 + len(text) * len(text) // 3 + text[-2] * 3) % VOCABULARY


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Host:
    """What vLLM does around a proposer: rows are condensed when a request ends, drafts are verified greedily."""

    def __init__(self, proposer, target, clock=None, seconds=lambda rows, tokens: 1.0, rows=4, longest=LONGEST):
        self.proposer, self.target, self.clock, self.seconds = proposer, target, clock, seconds
        self.tokens = np.zeros((rows, longest), dtype=np.int32)
        self.counts = np.zeros(rows, dtype=np.int32)
        self.active = []  # [text, prompt length, most tokens, draft]
        self.done = []
        self.drafted = self.accepted = self.steps = 0

    def add(self, prompt, most):
        self.active.append([list(prompt), len(prompt), most, []])

    def step(self, reading=()):
        """One forward pass; the rows in `reading` read a part of their prompt."""
        sampled = []
        for row, each in enumerate(self.active):
            text, _, _, draft = each
            if row in reading:
                sampled.append([])
                continue
            new = []
            for token in [*draft, None]:
                new.append(self.target([*text, *new]))
                if new[-1] != token:
                    break
            self.drafted += len(draft)
            self.accepted += len(new) - 1
            text.extend(new)
            sampled.append(new)
        if self.clock is not None:
            self.clock.now += self.seconds(len(self.active), sum(1 + len(each[3]) for each in self.active))
        self.steps += 1
        for row, each in enumerate(self.active):
            self.tokens[row, : len(each[0])] = each[0]
            self.counts[row] = len(each[0])
        drafts = self.proposer.propose(sampled, self.counts, self.tokens)
        assert len(drafts) == len(self.active)
        for row, (each, draft) in enumerate(zip(self.active, drafts, strict=True)):
            assert len(draft) <= 6
            assert row not in reading or not draft
            assert not draft or len(each[0]) + len(draft) < self.tokens.shape[1]
            each[3] = draft
        self.done += [each[0] for each in self.active if len(each[0]) - each[1] >= each[2]]
        # As vLLM: the last row moves into the place of one that ends.
        left = list(self.active)
        for row in reversed(range(len(left))):
            if len(left[row][0]) - left[row][1] >= left[row][2]:
                last = left.pop()
                if row < len(left):
                    left[row] = last
        self.active = left

    def run(self):
        while self.active:
            self.step()


def test_a_text_that_repeats_itself_is_drafted():
    clock = Clock()
    host = Host(Proposer(config(), Settings(), clock), periodic, clock)
    host.add(range(8), 100)
    host.run()
    assert host.accepted / host.drafted > 0.8
    assert host.steps < 40


def test_texts_keep_their_history_when_they_change_rows():
    """Each text repeats tokens of its own: a draft from another text's history would be rejected."""
    host = Host(Proposer(config(), Settings(memory_tokens=0, lookahead="fixed")), periodic)
    for number in range(4):
        host.add(range(10 * number, 10 * number + 8), 30 + 25 * number)
    host.run()
    assert host.accepted / host.drafted > 0.9
    assert all(text[8:] == [text[place - 8] for place in range(8, len(text))] for text in host.done)


@pytest.mark.parametrize("drafter", ["suffix", "lookup"])
def test_what_earlier_requests_said_is_drafted(drafter):
    def steps(memory):
        clock = Clock()
        host = Host(Proposer(config(), Settings(drafter=drafter, memory_tokens=memory), clock), fresh, clock)
        for _ in range(3):
            host.add([3, 4, 5], 60)
            host.run()
        return host.steps

    assert steps(100_000) < 100  # of 180 tokens, the first 60 of them new


def test_rows_that_read_their_prompt_get_no_draft_and_disturb_nobody():
    clock = Clock()
    host = Host(Proposer(config(), Settings(), clock), periodic, clock)
    host.add(range(8), 40)
    host.add(range(20, 28), 40)
    for _ in range(3):
        host.step(reading={1})
    host.run()
    assert host.accepted / host.drafted > 0.7


def test_dear_tokens_are_not_drafted():
    """Where each token costs as much as a step, no draft pays, and soon none is made."""
    clock = Clock()
    host = Host(Proposer(config(), Settings(log_seconds=0), clock), fresh, clock, lambda rows, tokens: float(tokens))
    for number in range(3):
        host.add([number, 9, 4, number], 120)
    host.run()
    assert host.drafted < 0.1 * 360


def test_drafts_end_where_the_context_does():
    host = Host(Proposer(config(longest=60), Settings(lookahead="fixed")), periodic, longest=60)
    host.add(range(8), 51)
    host.run()
    assert len(host.done[0]) >= 59


def test_a_drafter_that_fails_leaves_decoding_alone(caplog):
    proposer = Proposer(config(), Settings())
    with caplog.at_level(logging.ERROR, logger="outrider"):
        assert proposer.propose([[1]], None, None) == [[]]
        assert proposer.propose([[1], [2]], None, None) == [[], []]
    assert sum("goes on without drafts" in record.message for record in caplog.records) == 1


def test_acceptance_is_logged_now_and_then(caplog):
    clock = Clock()
    host = Host(Proposer(config(), Settings(log_seconds=10), clock), periodic, clock)
    host.add(range(8), 150)
    with caplog.at_level(logging.INFO, logger="outrider"):
        host.run()
    assert 1 <= len(caplog.records) <= host.steps // 10
    assert "drafted tokens accepted" in caplog.records[0].message


def test_settings_come_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"drafter": "lookup", "memory_tokens": 1000}')
    found = read_settings({"OUTRIDER_VLLM_CONFIG": str(file), "OUTRIDER_VLLM_MEMORY_TOKENS": "64"})
    assert (found.drafter, found.memory_tokens, found.lookahead) == ("lookup", 64, "auto")


@pytest.mark.parametrize(
    ("content", "environment", "said"),
    [
        (None, {"OUTRIDER_VLLM_DRAFTER": "magic"}, "drafter of the vLLM proposer is 'magic'"),
        (None, {"OUTRIDER_VLLM_MEMORY_TOKENS": "-1"}, "memory_tokens of the vLLM proposer is '-1'"),
        ('{"drafters": "suffix"}', {}, "known are drafter, memory_tokens"),
        ("[]", {}, "holds no JSON object"),
        ("{", {}, "cannot be read"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(tmp_path, content, environment, said):
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
        environment = environment | {"OUTRIDER_VLLM_CONFIG": str(tmp_path / "settings.json")}
    with pytest.raises(SettingError, match=said) as refused:
        read_settings(environment)
    assert "\n" not in str(refused.value)
