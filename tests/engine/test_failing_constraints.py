"""A constraint of the caller's that fails, whatever it is asked, ends its own text, and nothing else."""

import asyncio
import math
from collections.abc import Callable

import numpy as np
import pytest

from engine.test_failing_processors import DRAFTERS, beside
from outrider import AsyncEngine, Engine, Handle, InputError, ModelDrafter, Request, SamplingParams
from outrider.maths.processors import Constraint
from tiny.tables import DRAFT, TARGET

WHEN = 6  # tokens of output


class Open(Constraint):
    """Allows every text."""

    def __call__(self, output, logits):
        return logits

    def admits(self, output):
        return True

    def forced(self, output):
        return []

    def ended(self, output):
        return False


class Failing(Open):
    """Fails where it is asked this question about a text of six tokens or more."""

    def __init__(self, question: str, answer: Callable[[], object]) -> None:
        self._question, self._answer = question, answer

    def __call__(self, output, logits):
        return self._asked("__call__", output, logits)

    def admits(self, output):
        return self._asked("admits", output, True)

    def forced(self, output):
        return self._asked("forced", output, [])

    def ended(self, output):
        return self._asked("ended", output, False)

    def _asked(self, question, output, otherwise):
        return self._answer() if question == self._question and len(output) >= WHEN else otherwise


def raising(error: Exception) -> Callable[[], object]:
    def answer():
        raise error

    return answer


def constrained(*processors, temperature=1.0) -> Request:
    # A prompt that repeats itself makes drafters copy, so that there is something to be cut.
    return Request((0, 1, 0, 1, 0, 1, 0), 20, SamplingParams(temperature, seed=1, logits_processors=processors))


def ended(drafter: str, constraint: Constraint, temperature: float) -> Handle:
    """The text with this constraint; one without any is decoded in the same rounds."""
    return beside(drafter, constrained(constraint, temperature=temperature))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("question", ["forced", "ended", "__call__"])
@pytest.mark.parametrize("error", [KeyError("gone"), InputError("gone"), MemoryError("gone")])
def test_other_texts_go_on_and_go_on_being_drafted(question, drafter, error, temperature) -> None:
    failed = ended(drafter, Failing(question, raising(error)), temperature)
    assert isinstance(failed.error, InputError)
    assert "gone" in str(failed.error)
    assert len(failed.tokens) <= WHEN + 3  # of the round before


@pytest.mark.parametrize("drafter", ["suffix", "lookup"])
def test_so_they_do_where_it_fails_over_a_draft(drafter) -> None:
    failed = ended(drafter, Failing("admits", raising(KeyError("gone"))), 0)
    assert str(failed.error) == "a constraint failed (KeyError: 'gone')"


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("forced", "shown"), [([0, 5], "5"), ([-1], "-1"), (["a"], "'a'"), ([True], "True"), ([1.0], "1.0")]
)
def test_what_is_forced_and_is_no_token_is_refused(forced, shown, temperature) -> None:
    failed = ended("suffix", Failing("forced", lambda: forced), temperature)
    assert str(failed.error) == f"a constraint forces {shown}: this model has the tokens 0 to 4"


def test_what_is_forced_may_be_an_array() -> None:
    one_token = np.where(np.arange(5) == 3, 0, -math.inf)

    class Threes(Open):
        def __call__(self, output, logits):
            return logits + one_token.astype(np.float32)

        def forced(self, output):
            return np.array([3, 3])

    handle = ended("none", Threes(), 1)
    assert (handle.error, handle.tokens) == (None, [3] * 20)
    assert {type(token) for token in handle.tokens} == {int}


@pytest.mark.parametrize("answer", [None, 3, object()])
def test_an_answer_of_a_wrong_kind_ends_the_text(answer) -> None:
    assert "a constraint failed (TypeError" in str(ended("suffix", Failing("forced", lambda: answer), 1).error)


@pytest.mark.parametrize("question", ["forced", "ended"])
def test_an_asynchronous_engine_goes_on(question) -> None:
    async def decoded():
        async with AsyncEngine(Engine(TARGET, ModelDrafter(DRAFT), lookahead=3, max_rows=2, capacity=64)) as engine:
            with pytest.raises(InputError, match=r"a constraint failed \(KeyError: 'gone'\)"):
                [event async for event in engine.stream(constrained(Failing(question, raising(KeyError("gone")))))]
            return [event async for event in engine.stream(constrained())]

    assert len(asyncio.run(decoded())) == 20
