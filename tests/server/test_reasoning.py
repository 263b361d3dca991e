"""Models that think before they answer: the thoughts apart, and how many tokens they took, in every dialect."""

import numpy as np
import pytest

from outrider import FunctionModel
from server.conftest import running, service
from tiny import spoken

openai = pytest.importorskip("openai")

THOUGHT, ANSWER = "<think>\nhm, no 🤔\n</think>", "\n\nyes"
SAID = {"role": "user", "content": "why?"}
SIZE = spoken.BYTES + len(spoken.SPECIAL)


class ThinkingTokenizer(spoken.ByteTokenizer):
    """Each byte is a token, so that a tag takes several.

    Args:
        opens: whether the template ends with the tag.
    """

    chat_template = "messages <think>"

    def __init__(self, opens):
        self._opens = opens

    def encode_chat(self, messages, tools=()):
        return [*super().encode_chat(messages, tools), *(b"<think>" if self._opens else b"")]


def thinker(text, *, opens=False):
    """A model that says this after whatever it is asked, and then ends."""
    script = [*(b"<think>" if opens else b""), *text.encode(), spoken.END]

    def says(tokens):
        tokens = tokens.ravel().tolist()
        begun = tokens.index(spoken.ASSISTANT) + 1 if spoken.ASSISTANT in tokens else len(tokens)
        logits = np.full((len(tokens), SIZE), -30.0, np.float32)
        for place in range(begun - 1, len(tokens)):
            logits[place, script[min(place + 1 - begun, len(script) - 1)]] = 30.0
        return logits

    return FunctionModel(
        says,
        make_array=np.array,
        vocab_size=SIZE,
        context_length=512,
        stop_token_ids=frozenset([spoken.END]),
        tokenizer=ThinkingTokenizer(opens),
        name="thinker",
    )


@pytest.fixture(scope="module")
def address():
    with running(service({"target": thinker(THOUGHT + ANSWER), "capacity": 256}, models=("thinker",))) as found:
        yield found


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as found:
        yield found


THOUGHTS = len(THOUGHT.encode())  # in tokens, tags included
ALL = THOUGHTS + len(ANSWER.encode()) + 1  # and the end


def test_a_chat_counts_the_tokens_of_its_thoughts(client):
    reply = client.chat.completions.create(model="thinker", messages=[SAID], n=2)
    message, usage = reply.choices[0].message, reply.usage
    assert (message.content, message.reasoning_content) == ("yes", "hm, no 🤔")
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (2 * ALL, 2 * THOUGHTS)


def test_a_chat_that_streams_counts_them_as_they_come(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = client.chat.completions.create(model="thinker", messages=[SAID], stream=True, stream_options=options)
    chunks = list(stream)
    counts = [chunk.usage.completion_tokens_details.reasoning_tokens for chunk in chunks if chunk.usage]
    assert counts == sorted(counts)
    assert any(0 < count < THOUGHTS for count in counts)
    assert counts[-1] == THOUGHTS
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "yes"


@pytest.mark.parametrize("most", [THOUGHTS - 12, THOUGHTS, THOUGHTS + 3, ALL])
def test_a_response_counts_them_wherever_it_ends(client, most):
    reply = client.responses.create(model="thinker", input="why?", max_output_tokens=most)
    usage = reply.usage
    assert (usage.output_tokens, usage.output_tokens_details.reasoning_tokens) == (most, min(most, THOUGHTS))
    assert [item.type for item in reply.output] == ["reasoning", "message"][: 1 + (most > THOUGHTS + 2)]


def test_a_response_that_streams_counts_them(client):
    with client.responses.stream(model="thinker", input="why?") as stream:
        events = list(stream)
    final = events[-1].response
    assert "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == "hm, no 🤔"
    assert (final.output_text, final.usage.output_tokens_details.reasoning_tokens) == ("yes", THOUGHTS)


def test_a_message_counts_them(address):
    anthropic = pytest.importorskip("anthropic")
    given = {"model": "thinker", "max_tokens": 99, "messages": [SAID]}
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as client:
        reply = client.messages.create(**given)
        with client.messages.stream(**given) as stream:
            streamed = stream.get_final_message()
    assert [block.type for block in reply.content] == ["thinking", "text"]
    for usage in (reply.usage, streamed.usage):
        assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (ALL, THOUGHTS)


def test_text_that_only_goes_on_with_a_prompt_has_no_thoughts(client):
    reply = client.completions.create(model="thinker", prompt=[spoken.ASSISTANT], max_tokens=99)
    assert reply.choices[0].text == THOUGHT + ANSWER
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0


def test_thoughts_that_the_template_opens_count_from_the_first_token_on():
    served = service({"target": thinker("hm</think>yes", opens=True), "capacity": 256}, models=("thinker",))
    with running(served) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        reply = client.responses.create(model="thinker", input="why?")
    assert (reply.output_text, reply.usage.output_tokens_details.reasoning_tokens) == ("yes", len("hm</think>"))
    assert reply.usage.output_tokens == len("hm</think>yes") + 1
