"""What snapshot and replay costs: how many tokens are read, in how many passes."""

import random
from weakref import WeakSet

import numpy as np
import pytest

from outrider import TableModel
from outrider.runtimes.base import Pass, Traits
from outrider.runtimes.replay import FEW, ReplaySession, Snapshots

TABLE = TableModel.random(6, 2)


class Passes(list):
    """How many tokens each pass read, and the states that there are."""

    def __init__(self):
        super().__init__()
        self.states = WeakSet()

    def taken(self):
        found = self[:]
        self.clear()
        return found


class CountingState:
    def __init__(self, passes, text=()):
        self._passes = passes
        self._text = list(text)
        passes.states.add(self)

    def read(self, tokens, wanted):
        self._passes.append(len(tokens))
        self._text += tokens
        return TABLE.last_logits(self._text, wanted) if wanted else np.empty((0, 6))

    def copy(self):
        return CountingState(self._passes, self._text)


def opened(prompt, **settings):
    passes = Passes()
    session = ReplaySession(
        lambda: Snapshots(lambda: CountingState(passes), **settings), 1, 10_000, "counting", Traits(6, 10_000)
    )
    session.extend(Pass([0], [prompt], wanted=[0]))
    session.keep(0, range(len(prompt)))
    assert passes.taken() == [len(prompt)]
    return session, passes


def test_nothing_is_read_again_while_all_is_accepted():
    session, passes = opened([1, 2, 3])
    for _ in range(5):
        session.extend(Pass([0], [[4, 5, 0]]))
        session.keep(0, range(3))
    assert passes.taken() == [3] * 5


def test_accepted_tokens_are_read_again_with_the_next_draft():
    session, passes = opened([1, 2, 3])
    session.extend(Pass([0], [[4, 5, 0]]))
    session.keep(0, range(2))
    session.extend(Pass([0], [[4, 5, 0]]))
    assert passes.taken() == [3, 2 + 3]
    session.keep(0, range(3))
    session.extend(Pass([0], [[1]]))
    assert passes.taken() == [1]


def test_what_is_read_again_does_not_pile_up():
    session, passes = opened([1, 2, 3])
    for _ in range(40):
        session.extend(Pass([0], [[4, 5, 0, 1]]))
        session.keep(0, range(3))
    assert max(passes) <= FEW + 4
    assert len(passes) < 40 + 40 * 3 / FEW + 1


def test_the_way_to_a_branch_is_read_once():
    session, passes = opened([1, 2, 3])
    #  0 -- 1 -- 2
    #    \- 3 -- 4
    session.extend(Pass([0], [[1, 2, 3, 4, 5]], [[-1, 0, 1, 0, 3]]))
    assert passes.taken() == [1, 2, 2]


def test_a_stepwise_reader_reads_nothing_again():
    session, passes = opened([1, 2, 3], stepwise=True)
    choose = random.Random(0)
    for _ in range(20):
        session.extend(Pass([0], [[4, 5, 0, 1]]))
        session.keep(0, range(choose.randint(1, 4)))
    assert passes.taken() == [1] * 80


def test_a_pass_that_fails_leaves_no_trace(monkeypatch):
    session, _ = opened([1, 2, 3])
    session.extend(Pass([0], [[4, 5, 0]], wanted=[0]))
    session.truncate(0, 3)

    def interrupted(self, tokens, wanted):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CountingState, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.extend(Pass([0], [[2, 2, 2]]))
    session.truncate(0, 3)
    session.extend(Pass([0], [[4, 5, 0]], wanted=[0]))
    np.testing.assert_array_equal(session.extend(Pass([0], [[1]])).logits[0], TABLE.logits_after([0, 1]))


@pytest.mark.parametrize("settings", [{}, {"stepwise": True}])
def test_snapshots_do_not_pile_up(settings):
    session, passes = opened([1, 2, 3], **settings)
    for _ in range(50):
        session.extend(Pass([0], [[4, 5, 0, 1]]))
        session.keep(0, range(2))
    assert len(passes.states) <= 7  # the one that reads, and its snapshots
