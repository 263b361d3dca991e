"""Every door takes models, drafters and prompts in the same forms, and refuses all else in one line."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import outrider
from outrider import (
    AsyncEngine,
    Chained,
    Engine,
    FunctionModel,
    IntersectionDrafter,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    OutriderError,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    StringDrafter,
    SuffixDrafter,
    TableModel,
    VocabularyError,
    batched_speculative_decode,
)
from outrider.cli.options.drafters import DRAFTERS as KINDS
from outrider.runtimes import loading

WORDS = "abcde"
GREEDY = SamplingParams(temperature=0)


class Letters:
    """A tokenizer of one token a letter, whose chat template adds a header."""

    fingerprint = "letters"
    vocabulary = tuple(letter.encode() for letter in WORDS)
    special_tokens = frozenset()

    def encode(self, text):
        return [WORDS.index(letter) for letter in text if letter in WORDS]

    def decode(self, tokens):
        return "".join(WORDS[token] for token in tokens)

    def encode_chat(self, messages):
        return [0, *self.encode("".join(message["content"] for message in messages)), 4]


TABLE = TableModel.random(5, 2, spread=1.5, seed=1).table
TARGET = TableModel(TABLE, name="letters", tokenizer=Letters())


@pytest.fixture
def shelf(monkeypatch):
    """Models by name, without files."""
    monkeypatch.setattr(loading, "load", lambda name: {"letters": TARGET}[Path(name).name])


def function(tokens):
    return np.stack([TARGET.logits_after(tokens[0, : end + 1].tolist()) for end in range(tokens.shape[1])])


MODELS = {
    "a name": "letters",
    "a path": Path("/folder/letters"),
    "a Model": TARGET,
    "a function": FunctionModel(function, vocab_size=5, tokenizer=Letters()),
}
DRAFTERS = {
    "ModelDrafter": lambda model: ModelDrafter(model),
    "ModelTreeDrafter": lambda model: ModelTreeDrafter(model),
    "IntersectionDrafter": lambda model: IntersectionDrafter(model, model),
    "StringDrafter": lambda model: StringDrafter(model, model),
    "Merged": lambda model: Merged([SuffixDrafter(), model]),
    "Chained": lambda model: Chained([model, SuffixDrafter()]),
    "a model": lambda model: model,
}


def tokens_of(engine, prompt="abc"):
    handle = engine.submit(Request(prompt, 8, GREEDY))
    while not engine.idle:
        engine.step()
    return handle.tokens


EXPECTED = SpeculativeDecoder(None, TARGET).generate("abc", max_tokens=8, sampling=GREEDY).tokens


@pytest.mark.parametrize("model", MODELS)
def test_an_engine_takes_a_model_in_any_form(shelf, model):
    assert tokens_of(Engine(MODELS[model], capacity=64)) == EXPECTED
    assert tokens_of(Engine(MODELS[model], MODELS[model], lookahead=2, capacity=64)) == EXPECTED


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_drafter_takes_a_model_in_any_form(shelf, drafter, model):
    engine = Engine(TARGET, DRAFTERS[drafter](MODELS[model]), lookahead=3, capacity=64)
    assert tokens_of(engine) == EXPECTED
    assert engine.drafter is not None


@pytest.mark.parametrize("name", [kind.name for kind in KINDS.values() if kind.make is not None])
def test_a_drafter_of_the_command_line_that_needs_no_model_has_its_name_at_every_door(name):
    kind = type(KINDS[name].make(TARGET))
    engine = Engine(TARGET, name, lookahead=3, capacity=64)
    decoder = SpeculativeDecoder(name, TARGET)
    assert type(engine.drafter) is type(decoder.drafter) is kind
    assert tokens_of(engine) == decoder.generate("abc", max_tokens=8, sampling=GREEDY).tokens == EXPECTED
    assert batched_speculative_decode(["abc"], name, TARGET, 8, sampling=GREEDY) == [EXPECTED]


def test_a_plain_function_and_a_tokenizer_are_enough():
    engine = Engine(function, tokenizer=Letters(), capacity=64)
    assert tokens_of(engine) == EXPECTED
    assert engine.tokenizer.decode([0]) == "a"


def test_a_plain_function_is_enough_where_transformers_came_without_pytorch(monkeypatch):
    """As mlx-lm brings it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    assert tokens_of(Engine(function, tokenizer=Letters(), capacity=64)) == EXPECTED


def shown(thing) -> str:
    """Without its address, which differs between the processes that share the tests."""
    return repr(thing).partition(" at 0x")[0]


WRONG = [None, 7, object(), 3.5, SuffixDrafter(), TableModel, b"letters", ["letters"]]


@pytest.mark.parametrize("model", WRONG, ids=shown)
@pytest.mark.parametrize(
    "door",
    [
        lambda model: Engine(model),
        lambda model: ModelDrafter(model),
        lambda model: Merged([7 if isinstance(model, SuffixDrafter) else model]),
        lambda model: Chained(model),
        lambda model: ModelTreeDrafter(model),
        lambda model: IntersectionDrafter(model, TARGET),
        lambda model: StringDrafter(TARGET, model),
        lambda model: SpeculativeDecoder(None, model),
        lambda model: batched_speculative_decode(["a"], None, model),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(door, model):
    with pytest.raises(OutriderError) as caught:
        door(model)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("drafter", [7, object(), SuffixDrafter, ModelDrafter, [SuffixDrafter()]], ids=shown)
@pytest.mark.parametrize(
    "door", [lambda drafter: Engine(TARGET, drafter), lambda drafter: SpeculativeDecoder(drafter, TARGET)]
)
def test_what_is_no_drafter_is_refused_in_one_line(door, drafter):
    with pytest.raises(OutriderError) as caught:
        door(drafter)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("lookahead", ["4", 2.5, [4]])
def test_what_is_no_lookahead_is_refused(lookahead):
    with pytest.raises(SettingError, match="lookahead is"):
        Engine(TARGET, lookahead=lookahead)


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(OutriderError, match="cannot encode with a int"):
        Engine(TARGET, tokenizer=7)


def test_a_draft_model_of_another_vocabulary_is_refused_at_every_door():
    other = TableModel.random(4, 1, seed=0)
    for door in (Engine(TARGET).__class__, lambda target, draft: SpeculativeDecoder(draft, target)):
        with pytest.raises(VocabularyError):
            door(TARGET, other)


GENERATE = SpeculativeDecoder(None, TARGET).generate
BATCHED = batched_speculative_decode
NONSENSE = {
    "rule": lambda: Engine(TARGET, rule=["token"]),
    "rows of text": lambda: Engine(TARGET, max_rows="8"),
    "half a row": lambda: Engine(TARGET, max_rows=1.5),
    "capacity of text": lambda: Engine(TARGET, capacity="64"),
    "half a token of capacity": lambda: Engine(TARGET, capacity=32.5),
    "no queue": lambda: Engine(TARGET, max_waiting=None),
    "memory of text": lambda: Engine(TARGET, memory_limit="2 GB"),
    "max_tokens of text": lambda: GENERATE([1], max_tokens="5"),
    "hot": lambda: GENERATE([1], temperature="hot"),
    "stop": lambda: GENERATE([1], stop=5),
    "stop token": lambda: GENERATE([1], stop_token_ids=5),
    "stop tokens of text": lambda: GENERATE([1], stop_token_ids="ab"),
    "prediction": lambda: GENERATE([1], predicted=5),
    "sampling": lambda: GENERATE([1], sampling={"temperature": 0}),
    "one prompt as many": lambda: BATCHED("abc", None, TARGET),
    "no prompts": lambda: BATCHED(5, None, TARGET),
    "no rows": lambda: BATCHED([[1]], None, TARGET, max_rows=0),
    "sampling of many": lambda: BATCHED([[1]], None, TARGET, sampling=5),
    "sampling of each": lambda: BATCHED([[1]], None, TARGET, sampling=[5]),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_settings_of_the_wrong_type_are_refused_in_one_line(name):
    with pytest.raises(OutriderError) as caught:
        NONSENSE[name]()
    assert len(str(caught.value).splitlines()) == 1


def test_whole_numbers_may_come_from_numpy():
    assert len(GENERATE([1], max_tokens=np.int64(3)).tokens) == 3
    assert Engine(TARGET, max_rows=np.int32(2), capacity=np.int64(64), lookahead=0).max_rows == 2


# Prompts

PROMPTS = {
    "text": "abc",
    "a list": [0, 1, 2],
    "a tuple": (0, 1, 2),
    "an array": np.array([0, 1, 2]),
    "an array of a row": np.array([[0, 1, 2]]),
}
MESSAGES = [{"role": "user", "content": "abc"}]
CONVERSATION = (0, 0, 1, 2, 4)


async def awaited(prompt):
    async with AsyncEngine(Engine(TARGET, capacity=64)) as running:
        return [event.token async for event in running.stream(Request(prompt, 8, GREEDY))]


DOORS = {
    "generate": lambda prompt: SpeculativeDecoder(None, TARGET).generate(prompt, max_tokens=8, sampling=GREEDY).tokens,
    "stream": lambda prompt: [
        event.token for event in SpeculativeDecoder(None, TARGET).stream(prompt, max_tokens=8, sampling=GREEDY)
    ],
    "batched": lambda prompt: batched_speculative_decode([prompt], None, TARGET, 8, sampling=GREEDY)[0],
    "submit": lambda prompt: tokens_of(Engine(TARGET, capacity=64), prompt),
    "async": lambda prompt: asyncio.run(awaited(prompt)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_has_the_same_forms_at_every_door(door, prompt):
    assert DOORS[door](PROMPTS[prompt]) == EXPECTED


@pytest.mark.parametrize("door", DOORS)
def test_a_conversation_goes_through_the_chat_template_at_every_door(door):
    assert DOORS[door](MESSAGES) == DOORS[door](CONVERSATION)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("prompt", [None, 7, [], "", [[0, 1], [2]], [99], {"role": "user"}, object()], ids=shown)
def test_what_is_no_prompt_is_refused_in_one_line_at_every_door(door, prompt):
    with pytest.raises(OutriderError) as caught:
        DOORS[door](prompt)
    assert len(str(caught.value).splitlines()) == 1


def test_an_engine_is_asked_with_requests():
    with pytest.raises(OutriderError, match="a str cannot be decoded: give a Request"):
        Engine(TARGET).submit("abc")


def test_what_is_exported_is_listed_in_order():
    assert outrider.__all__ == sorted(outrider.__all__)
    assert all(getattr(outrider, name) is not None for name in outrider.__all__)
