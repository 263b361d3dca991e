"""What objects say of themselves, and what the logger says."""

import asyncio
import logging

import pytest

import outrider
from outrider import (
    Adaptive,
    AdaptiveSpeculator,
    AsyncEngine,
    Chained,
    Drafter,
    Engine,
    Fixed,
    FunctionModel,
    Goodput,
    LookaheadPolicy,
    Merged,
    ModelDrafter,
    ModelError,
    ModelTreeDrafter,
    Request,
    SettingError,
    SpeculativeDecoder,
    SuffixDrafter,
    SuffixTreeDrafter,
    TableModel,
)
from tiny.tables import TARGET

PLAIN = TableModel(TARGET.table)


class Mine(Drafter):
    def propose(self, sequences, budgets):
        raise RuntimeError("out of cheese")


class Planned(LookaheadPolicy):
    def plan(self, sequences):
        return [2] * len(sequences)


REPRS = {
    "TableModel(table)": PLAIN,
    "FunctionModel(echo)": FunctionModel(lambda tokens: tokens, vocab_size=5, name="echo"),
    "SuffixDrafter()": SuffixDrafter(),
    "SuffixTreeDrafter()": SuffixTreeDrafter(),
    "ModelDrafter(table)": ModelDrafter(PLAIN),
    "ModelTreeDrafter(table)": ModelTreeDrafter(PLAIN),
    "Merged([SuffixDrafter(), ModelTreeDrafter(table)])": Merged([SuffixDrafter(), ModelTreeDrafter(PLAIN)]),
    "Chained([SuffixDrafter()])": Chained([SuffixDrafter()]),
    "Mine()": Mine(),
    "Planned()": Planned(),
    "Fixed(4)": Fixed(4),
    "Goodput()": Goodput(),
    "AdaptiveSpeculator(3)": AdaptiveSpeculator(3),
    "Adaptive(AdaptiveSpeculator(4))": Adaptive(),
    "Engine(TableModel(table), SuffixDrafter(), Fixed(4), rule block, max_rows 3)": Engine(
        PLAIN, SuffixDrafter(), lookahead=4, rule="block", max_rows=3, capacity=64
    ),
    "Engine(TableModel(table), None, Goodput(), rule token, max_rows 8)": Engine(PLAIN, capacity=64),
    "SpeculativeDecoder(None, TableModel(table), Fixed(4), rule token)": SpeculativeDecoder(None, PLAIN),
}


@pytest.mark.parametrize("expected", REPRS)
def test_a_repr_is_short_and_says_what_matters(expected):
    assert repr(REPRS[expected]) == expected


def test_nothing_that_is_exported_has_the_repr_of_object():
    bare = [
        name
        for name in outrider.__all__
        if isinstance(kind := getattr(outrider, name), type)
        and kind.__repr__ is object.__repr__
        and not getattr(kind, "_is_protocol", False)
    ]
    assert bare == []


def test_an_engine_that_opens_is_told_to_those_who_debug(caplog):
    with caplog.at_level(logging.DEBUG, logger="outrider"):
        Engine(PLAIN, lookahead=0, capacity=64)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "opened Engine(TableModel(table), None" in record.message
    assert "64 tokens" in record.message


def test_a_drafter_that_is_dropped_is_logged(caplog):
    with pytest.warns(RuntimeWarning, match="dropped"):
        SpeculativeDecoder(Mine(), PLAIN).generate([1], max_tokens=3)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("outrider", logging.WARNING)
    assert "out of cheese" in record.message
    assert record.exc_info is not None


def test_an_engine_that_dies_in_its_thread_is_logged(caplog):
    def die(record):
        raise MemoryError("no more")

    async def ask():
        async with AsyncEngine(Engine(PLAIN, observer=die, capacity=64)) as running:
            assert repr(running).endswith(", running)")
            with pytest.raises(ModelError, match="the engine failed and is closed"):
                async for _ in running.stream(Request([1], 3)):
                    pass
            return repr(running)

    assert asyncio.run(ask()).endswith(", closed)")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "died: MemoryError('no more')" in record.message


def test_the_logger_is_silent_until_it_is_asked():
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("outrider").handlers)


def test_an_async_engine_runs_an_engine():
    with pytest.raises(SettingError, match="a TableModel is no engine"):
        AsyncEngine(PLAIN)
