"""What each row reads of its prompt in a round, and when it drafts."""

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
from outrider.engine.scheduler import reading_shares
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
