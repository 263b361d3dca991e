"""A rule of the caller's own that fails, or answers nonsense, ends its own text, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from outrider import Engine, InputError, ModelDrafter, Request, SamplingParams, SettingError
from outrider.maths.draft import Verdict
from outrider.maths.rules import RULES, Rule
from tiny.tables import DRAFT, TARGET


def own(judge) -> Rule:
    return Rule("own", judge, shares_noise=False, judges_trees=True)


def raises(draft, p, noise):
    raise KeyError("gone")


def refuses(draft, p, noise):
    raise SettingError("gone")


NONSENSE = {
    "nothing": None,
    "a tuple": ((), 1),
    "no token": Verdict((), None, False),
    "a text": Verdict((), "1", False),
    "a negative token": Verdict((), -1, False),
    "a token beyond the vocabulary": Verdict((), 10**6, False),
    "a node that is not there": Verdict((50,), 1, False),
    "a node without the one above it": Verdict((1,), 1, False),
}
FAILING = {"raises": raises, "refuses": refuses} | {
    name: lambda draft, p, noise, answer=answer: answer for name, answer in NONSENSE.items()
}


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("name", FAILING)
def test_the_text_beside_it_is_what_it_is_alone(name, temperature):
    asked = Request((0, 1, 2), 20, SamplingParams(temperature, seed=1), rule="token")
    found = []
    for beside in ([own(FAILING[name])], []):
        engine = Engine(TARGET, ModelDrafter(DRAFT), lookahead=3, max_rows=2, capacity=64)
        failed = [engine.submit(replace(asked, rule=rule)) for rule in beside]
        good = engine.submit(asked)
        while not engine.idle:
            engine.step()
        for each in failed:
            assert isinstance(each.error, InputError)
            assert str(each.error).startswith("rule own ")
        assert good.error is None
        found.append(good.tokens)
    assert found[0] == found[1]
    assert len(found[0]) == 20


def test_a_rule_of_ones_own_that_is_right_decodes():
    asked = Request((0, 1, 2), 20, SamplingParams(1.0, seed=1), rule="token")
    found = []
    for rule in ("token", own(RULES["token"].judge)):
        engine = Engine(TARGET, ModelDrafter(DRAFT), lookahead=3, capacity=64)
        handle = engine.submit(replace(asked, rule=rule))
        while not engine.idle:
            engine.step()
        assert handle.error is None
        found.append(handle.tokens)
    assert np.array_equal(*found)
