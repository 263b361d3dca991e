"""A logits processor that fails ends its own text, and nothing else."""

import asyncio
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import outrider
from outrider import (
    AsyncEngine,
    Engine,
    Handle,
    InputError,
    LookupDrafter,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    SuffixDrafter,
)
from tiny.tables import DRAFT, TARGET

DRAFTERS = {
    "none": lambda: None,
    "model": lambda: ModelDrafter(DRAFT),
    "model-tree": lambda: ModelTreeDrafter(DRAFT),
    "suffix": SuffixDrafter,
    "lookup": LookupDrafter,
}


def failing(error: Exception):
    def processor(output, logits):
        if len(output) >= 6:
            raise error
        return logits

    return processor


def request(*processors, temperature=1.0) -> Request:
    return Request((0, 1, 2), 20, SamplingParams(temperature, seed=1, logits_processors=processors))


def beside(drafter: str, asked: Request) -> Handle:
    """This text, decoded beside one that is asked for in the same way and has no processor."""
    engine = Engine(TARGET, DRAFTERS[drafter](), lookahead=3, max_rows=2, capacity=64)
    failed = engine.submit(asked)
    other = engine.submit(replace(asked, sampling=replace(asked.sampling, logits_processors=())))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while not engine.idle:
            engine.step()
    assert (other.error, len(other.tokens)) == (None, 20)
    assert engine.drafter_failures == 0
    return failed


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("error", [KeyError("gone"), InputError("gone")], ids=["foreign", "own"])
def test_other_texts_go_on_and_go_on_being_drafted(drafter: str, error: Exception, temperature: float) -> None:
    failed = beside(drafter, request(failing(error), temperature=temperature))
    assert isinstance(failed.error, InputError)
    assert "gone" in str(failed.error)
    assert len(failed.tokens) <= 6


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_that_makes_no_numbers_costs_the_others_no_drafter(drafter: str, value: float, temperature: float) -> None:
    def processor(output, logits):
        return logits + np.float32(value if len(output) >= 6 else 0)

    failed = beside(drafter, request(processor, temperature=temperature))
    assert isinstance(failed.error, InputError)  # the model is not to blame
    assert f"logits into {value}" in str(failed.error)


def test_what_the_model_itself_makes_is_not_blamed_on_the_processor() -> None:
    model = outrider.FunctionModel(lambda ids: np.full((ids.shape[1], 5), math.nan, np.float32), vocab_size=5)
    engine = Engine(model, max_rows=1, capacity=64)
    handle = engine.submit(request(lambda output, logits: logits))
    engine.step()
    assert "the model produced a logit of nan" in str(handle.error)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("trouble", ["no token", "an error"])
def test_what_it_says_behind_a_rejected_token_ends_no_text(drafter: str, trouble: str, temperature: float) -> None:
    """Plain decoding does not come there. Drafters do: each proposes what the processor makes the target leave out."""

    def asked(*processors):
        return replace(request(*processors, temperature=temperature), rule="coupled")

    plain = beside("none", asked()).tokens

    def processor(output, logits):
        if list(output) == plain[: len(output)]:
            return logits
        if trouble == "an error":
            raise KeyError("gone")
        return np.full_like(logits, -math.inf)

    assert beside(drafter, asked(processor)).tokens == plain


@pytest.mark.parametrize("rule", ["token", "coupled"])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_what_it_says_behind_the_end_ends_no_text(drafter: str, temperature: float, rule: str) -> None:
    """Drafts go on behind a stop token, where plain decoding asks nothing."""
    asked = request(temperature=temperature)
    end = beside("none", replace(asked, rule="coupled")).tokens[7]

    def processor(output, logits):
        if end in output:
            raise KeyError("gone")
        return logits

    for seed in range(12):
        sampling = SamplingParams(temperature, seed=seed, logits_processors=(processor,))
        engine = Engine(TARGET, DRAFTERS[drafter](), lookahead=3, max_rows=1, capacity=64)
        text = engine.submit(replace(asked, sampling=sampling, rule=rule, stop_token_ids=[end]))
        while not engine.idle:
            engine.step()
        assert text.error is None


def test_an_asynchronous_engine_goes_on() -> None:
    async def decoded():
        async with AsyncEngine(Engine(TARGET, ModelDrafter(DRAFT), lookahead=3, max_rows=2, capacity=64)) as engine:
            with pytest.raises(InputError, match=r"a logits processor failed \(KeyError: 'gone'\)"):
                [event async for event in engine.stream(request(failing(KeyError("gone"))))]
            return [event async for event in engine.stream(request())]

    assert len(asyncio.run(decoded())) == 20


def test_a_processor_may_return_numbers_of_another_kind_and_library() -> None:
    torch = pytest.importorskip("torch")
    table = np.log(np.random.default_rng(3).dirichlet(np.ones(8), size=8)).astype(np.float32)

    def model(tokens):
        return torch.from_numpy(table[np.asarray(tokens).ravel()])

    def without_0(output, logits):
        if len(output) % 2:
            return logits
        numbers = np.asarray(logits, dtype=np.float64).copy()
        numbers[0] = -math.inf
        return numbers

    engine = Engine(model, SuffixDrafter(), lookahead=3, max_rows=1, capacity=64)
    for temperature in (0, 1):
        handle = engine.submit(request(without_0, temperature=temperature))
        while not engine.idle:
            engine.step()
        assert handle.error is None
        assert 0 not in handle.tokens[::2]
