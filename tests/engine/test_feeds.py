"""What each row reads of its prompt in a round, and when it drafts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import (
    Engine,
    ModelDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    TableModel,
)
from outrider.drafters.base import READING_BESIDE_A_DRAFT
from outrider.engine import feeds as feeds_module
from outrider.engine.pace import FEWEST, FIRST
from outrider.engine.scheduler import reading_shares
from outrider.lookahead import CostCurve, Goodput
from tiny.tables import TARGET

SEEDED = SamplingParams(seed=3)


def request(length: int = 3, max_tokens: int = 5) -> Request:
    return Request(tuple(place % 5 for place in range(length)), max_tokens, SEEDED)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=40), st.integers(1, 600))
def test_shares_are_fair(unread: list[int], budget: int) -> None:
    shares = reading_shares(unread, budget)
    assert all(1 <= share <= left for share, left in zip(shares, unread, strict=True))
    total = max(budget, 16 * len(unread))
    assert sum(shares) <= total
    if sum(unread) > total:
        assert sum(shares) > total - len(unread)  # but for rounding nothing is left unused
    # Whoever has to wait got as much as anybody, but for rounding.
    for share, left in zip(shares, unread, strict=True):
        assert share == left or share >= max(shares) - 1


def test_a_long_prompt_does_not_stall_the_others(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    engine = Engine(TARGET, max_rows=3, capacity=1024)
    quick = engine.submit(request(max_tokens=50))
    engine.step()
    long = engine.submit(request(length=500))
    for _ in range(10):
        before = len(quick.tokens)
        engine.step()
        assert len(quick.tokens) == before + 1
    assert not long.tokens
    short = engine.submit(request(length=10))
    for _ in range(2):
        engine.step()
    assert short.tokens  # though the long one came first
    assert not long.tokens
    while not engine.idle:
        engine.step()
    assert len(long.tokens) == 5


def test_reading_in_pieces_changes_nothing(monkeypatch) -> None:
    def decode() -> list[list[int]]:
        drafter = ModelDrafter(TableModel.random(5, 2, spread=1.5, seed=4))
        engine = Engine(TARGET, drafter, lookahead=3, rule="coupled", max_rows=3, capacity=256)
        sequences = [engine.submit(request(length=length, max_tokens=9)) for length in (3, 120, 40, 77, 1)]
        while not engine.idle:
            engine.step()
        assert all(sequence.stats.drafted for sequence in sequences)
        return [sequence.tokens for sequence in sequences]

    whole = decode()
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    assert decode() == whole


def test_a_draft_model_reads_along_with_the_target(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    drafter = ModelDrafter(TARGET)
    engine = Engine(TARGET, drafter, lookahead=3, max_rows=1, capacity=256)
    engine.submit(request(length=100))
    for rounds in range(1, 5):
        engine.step()
        assert drafter.cache.session.length(0) == 20 * rounds


def test_no_draft_stands_behind_a_long_piece_of_a_prompt() -> None:
    """It would change how the piece is rounded, and so the text behind it."""
    target = TableModel.random(6, 1, seed=3)
    for length, drafts in ((READING_BESIDE_A_DRAFT + 1, True), (feeds_module.READING_ALONE, False)):
        records: list[RoundRecord] = []
        engine = Engine(target, ModelDrafter(target), lookahead=2, max_rows=1, observer=records.append)
        engine.submit(Request((1,) * length, 8, SamplingParams(temperature=0, seed=0)))
        while not engine.idle:
            engine.step()
        assert [bool(record.sequences[0].drafted) for record in records][:2] == [drafts, True]


class Slow(TableModel):
    """A model whose prompts may be read in any pieces; each token of a pass takes a second on `clock`."""

    def __init__(self, of: TableModel, seconds: float = 1.0) -> None:
        super().__init__(of.table)
        self.traits = replace(self.traits, reads_in_any_pieces=True)
        self.seconds, self.now = seconds, 0.0
        self.fed: list[list[int]] = []

    def clock(self) -> float:
        return self.now

    def open(self, rows: int, capacity: int):
        session = super().open(rows, capacity)
        extend = session.extend

        def slowly(work):
            self.fed.append([len(new) for new in work.tokens])
            self.now += self.seconds * sum(map(len, work.tokens))
            return extend(work)

        session.extend = slowly
        return session


def test_a_slow_model_reads_as_much_as_a_second_lets_it() -> None:
    target = Slow(TARGET, 0.02)
    engine = Engine(target, max_rows=2, capacity=1024, clock=target.clock)
    engine.submit(request(length=300))
    for _ in range(3):
        engine.step()
    assert target.fed == [[FIRST], [50], [50]]  # 50 tokens of 20 ms
    quick = engine.submit(request(length=1, max_tokens=50))
    engine.step()
    assert target.fed[-1][0] == 25  # half a second, while another text waits for its tokens
    assert len(quick.tokens) == 1


def test_a_very_slow_model_still_reads_several_tokens_at_once_and_a_fast_one_many() -> None:
    for seconds, second in ((3.0, FEWEST), (0.0001, feeds_module.READING_ALONE)):
        target = Slow(TARGET, seconds)
        engine = Engine(target, max_rows=1, capacity=1024, clock=target.clock)
        engine.submit(request(length=900))
        engine.step()
        engine.step()
        assert target.fed == [[FIRST], [second]]


def test_the_first_piece_of_a_measured_model_lasts_a_second() -> None:
    target = Slow(TARGET, 0.02)
    policy = Goodput()
    policy.costs = CostCurve({(1, 1): 0.02, (1, 17): 0.34})
    engine = Engine(target, ModelDrafter(TARGET), lookahead=policy, max_rows=1, capacity=512, clock=target.clock)
    engine.submit(request(length=300))
    engine.step()
    assert target.fed == [[50]]


@pytest.mark.parametrize("rule", ["token", "block"])
def test_the_speed_of_the_moment_changes_no_text(rule: str) -> None:
    """A draft beside the last piece changes which noise is used: it must not depend on how long that piece is."""

    def decode(seconds: float, length: int) -> list[int]:
        target = Slow(TARGET, seconds)
        drafter = ModelDrafter(TableModel.random(5, 2, spread=1.5, seed=4))
        engine = Engine(target, drafter, lookahead=3, rule=rule, max_rows=1, capacity=256, clock=target.clock)
        text = engine.submit(request(length=length, max_tokens=12))
        while not engine.idle:
            engine.step()
        assert text.stats.drafted
        return text.tokens

    for length in (40, 70, 100, 150, 170):
        assert len({tuple(decode(seconds, length)) for seconds in (1e-6, 0.01, 0.019, 0.05, 3.0)}) == 1


def test_a_handle_tells_how_much_of_a_prompt_is_read(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    engine = Engine(TARGET, max_rows=1, capacity=256)
    text = engine.submit(request(length=50))
    seen = [text.prompt_read]
    for _ in range(3):
        engine.step()
        seen.append(text.prompt_read)
    assert (seen, text.prompt_length) == ([0, 20, 40, 50], 50)
