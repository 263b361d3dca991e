"""Whatever is given at a door: the right thing happens, or one line says what is wrong."""

import asyncio
import collections
import contextlib
import decimal
import fractions
import math
import warnings

import numpy as np
import pytest

import outrider
from api.test_doors import TABLE, Letters
from outrider import Engine, OutriderError, Request, SamplingParams, SpeculativeDecoder
from outrider.runtimes.table import TableModel

TARGET = TableModel(TABLE, name="letters", tokenizer=Letters(), context_length=64)
DRAFT = TableModel(TableModel.random(5, 1, seed=2).table, tokenizer=Letters())


class Unshowable:
    def __repr__(self):
        raise RuntimeError


class Undecided:
    def __bool__(self):
        raise RuntimeError


def nested():
    found = [1]
    found.append(found)
    return found


# Made for each call: some can be read only once.
ODD = {
    "nothing": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "negative": lambda: -1,
    "whole": lambda: 2,
    "half": lambda: 2.5,
    "endless": lambda: 10**400,
    "a word too long": lambda: 2**64,
    "nan": lambda: math.nan,
    "infinite": lambda: -math.inf,
    "complex": lambda: 1j,
    "fraction": lambda: fractions.Fraction(1, 2),
    "decimal": lambda: decimal.Decimal("sNaN"),
    "text": lambda: "abc",
    "no text": lambda: "",
    "half a character": lambda: "\ud800",
    "lines": lambda: "a\nb\x1b[31m",
    "bytes": lambda: b"ab",
    "no bytes": lambda: b"",
    "view": lambda: memoryview(b"ab"),
    "empty list": list,
    "list": lambda: [1, 2],
    "lists": lambda: [[1, 2], [3]],
    "list in itself": nested,
    "list of nothing": lambda: [None],
    "list of nan": lambda: [math.nan],
    "list of endless": lambda: [10**400],
    "message": lambda: [{"role": "user", "content": [1]}],
    "message among tokens": lambda: [{"role": "user", "content": "a"}, 1],
    "set": lambda: {1},
    "dictionary": lambda: {1: 1.0},
    "dictionary of nothing": lambda: {None: None},
    "endless range": lambda: range(10**12),
    "iterator": lambda: iter([1, 2]),
    "iterator that fails": lambda: (1 // 0 for _ in [1]),
    "scalar": lambda: np.int64(1),
    "real scalar": lambda: np.float32(0.5),
    "array without axes": lambda: np.array(1),
    "text without axes": lambda: np.array("abc"),
    "array": lambda: np.array([1, 2]),
    "square": lambda: np.array([[1, 2], [3, 4]]),
    "real array": lambda: np.array([1.5, 2.5]),
    "texts": lambda: np.array(["a", "b"]),
    "objects": lambda: np.array([1, None], dtype=object),
    "masked": lambda: np.ma.masked_array([1, 2], [0, 1]),
    "unshowable": Unshowable,
    "undecided": Undecided,
    "type": lambda: int,
    "function that fails": lambda: lambda *arguments, **settings: 1 // 0,
    "queue": lambda: collections.deque([1]),
}
with contextlib.suppress(ImportError):
    import torch

    ODD |= {
        "tensor without axes": lambda: torch.tensor(1),
        "tensor": lambda: torch.tensor([1, 2]),
        "tensor that learns": lambda: torch.tensor([1.0], requires_grad=True),
    }


def decoded(request, engine=None):
    engine = engine or Engine(TARGET, capacity=64)
    handle = engine.submit(request)
    while not engine.idle:
        engine.step()
    if handle.error is not None:
        raise handle.error
    return handle.tokens


def opened(**settings):
    return decoded(Request([0, 1], 3), Engine(TARGET, **{"capacity": 64} | settings))


def asked(value):
    """By an engine in a thread."""

    async def ask():
        async with outrider.AsyncEngine(Engine(TARGET, capacity=64)) as engine:
            return [event.token async for event in engine.stream(value)]

    return asyncio.run(ask())


class Proposing(outrider.Drafter):
    name = "proposing"

    def __init__(self, value):
        self.value = value

    def propose(self, sequences, budgets):
        return self.value


LOGITS = np.random.default_rng(0).normal(size=(3, 5))
DECODER = SpeculativeDecoder(DRAFT, TARGET, lookahead=2)


def generated(**settings):
    return DECODER.generate(settings.pop("prompt", [0, 1]), **{"max_tokens": 3} | settings)


def of_many(**settings):
    given = {"batch_prompts": [[0, 1]], "draft_model": DRAFT, "target_model": TARGET, "max_tokens": 3}
    return outrider.batched_speculative_decode(**given | settings)


def verified(**settings):
    given = {"draft_tokens": [1, 2], "target_logits": LOGITS, "draft_logits": LOGITS[:2]}
    return outrider.verify_speculation(**given | settings)


SAMPLING = list(SamplingParams.__dataclass_fields__)
SHORT = {"prompt": [0, 1], "max_tokens": 3}
REQUEST = list(Request.__dataclass_fields__)
DOORS = {
    **{f"SamplingParams({name})": lambda value, name=name: SamplingParams(**{name: value}) for name in SAMPLING},
    **{f"generate({name})": lambda value, name=name: generated(**{name: value}) for name in [*SAMPLING, "n", "prompt"]},
    **{
        f"Request({name})": lambda value, name=name: decoded(
            Request(**{"prompt": [0, 1], "max_tokens": 3, name: value})
        )
        for name in REQUEST
    },
    **{
        f"batched({name})": lambda value, name=name: of_many(**{name: value})
        for name in ("batch_prompts", "draft_model", "target_model", "max_tokens", "n", "sampling", "stop", "max_rows")
    },
    **{
        f"Engine({name})": lambda value, name=name: opened(**{name: value})
        for name in ("drafter", "lookahead", "rule", "max_rows", "max_waiting", "capacity", "memory_limit", "drafters")
    },
    **{
        f"verify({name})": lambda value, name=name: verified(**{name: value})
        for name in ("draft_tokens", "target_logits", "draft_logits", "temperature", "rule", "seed")
    },
    **{
        f"AdaptiveSpeculator({name})": lambda value, name=name: outrider.AdaptiveSpeculator(**{name: value})
        for name in ("initial_lookahead", "min_lookahead", "window", "raise_above", "lower_below", "patience")
    },
    **{
        f"load({name})": lambda value, name=name: outrider.load(**{"name_or_path": "./nosuch", name: value})
        for name in ("name_or_path", "backend", "dtype", "device", "threads", "cache_type", "context_length")
    },
    "acceptance rate": lambda value: outrider.AdaptiveSpeculator().update_lookahead(value),
    "draft_generation": lambda value: DECODER.draft_generation([0, 1], value),
    "submit": lambda value: decoded(value),
    "AsyncEngine.stream": asked,
    "a prompt among others": lambda value: of_many(batch_prompts=[[0, 1], value]),
    "a token among others": lambda value: generated(prompt=[0, value]),
    "settings among others": lambda value: of_many(sampling=[value]),
    "a stop string": lambda value: generated(stop=[value]),
    "a stop token": lambda value: generated(stop_token_ids=[value]),
    "a bias": lambda value: generated(logit_bias={1: value}),
    "content": lambda value: generated(prompt=[{"role": "user", "content": value}]),
    "a role": lambda value: generated(prompt=[{"role": value, "content": "ab"}]),
    "a drafter's answer": lambda value: opened(drafter=Proposing(value), lookahead=2),
    "a function's answer": lambda value: decoded(
        Request([0, 1], 3), Engine(outrider.FunctionModel(lambda tokens: value, vocab_size=5), capacity=64)
    ),
    "a processor's answer": lambda value: generated(logits_processors=(lambda output, logits: value,)),
}


@pytest.mark.parametrize("door", DOORS)
def test_odd_values_are_taken_or_refused_in_one_line(door):
    for name, make in ODD.items():
        value = make()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                DOORS[door](value)
        except OutriderError as error:
            message = str(error)
            assert len(message) < 600, name
            assert message.isprintable(), name
        except Exception as error:
            raise AssertionError(f"{name} at {door}") from error


@pytest.mark.parametrize("key", [1.5, None, "1", (1,), math.nan, b"1", frozenset(), np.float32(1), int])
def test_a_biased_token_is_a_whole_number(key):
    with pytest.raises(OutriderError, match=r"^logit_bias is [^\n]*$"):
        generated(logit_bias={key: 1.0})


def test_numbers_of_libraries_become_those_of_python():
    params = SamplingParams(
        temperature=np.float32(0.5), top_k=np.int32(3), seed=np.uint64(2**63), logit_bias={np.int64(2): np.float64(1)}
    )
    assert params == SamplingParams(temperature=0.5, top_k=3, seed=2**63, logit_bias={2: 1.0})
    found = [params.temperature, params.top_k, params.seed, *params.logit_bias]
    assert [type(each) for each in found] == [float, int, int, int]
    assert SamplingParams(temperature=fractions.Fraction(1, 2)).temperature == 0.5
    assert SamplingParams(top_k=2.0).top_k == 2
    generated(presence_penalty=2**64, frequency_penalty=2**64, top_k=2**64)


def test_the_tokens_of_an_iterator_end_a_text():
    stopped = decoded(Request([0, 1], 20, SamplingParams(temperature=0), stop_token_ids=iter(range(5))))
    assert len(stopped) == 1
