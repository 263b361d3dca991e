"""The official client of OpenAI against the server: chat, completions, streams and errors."""

import pytest

openai = pytest.importorskip("openai")

from server.asking import HELLO, plain  # noqa: E402


def test_a_chat_is_what_plain_decoding_says(client):
    reply = client.chat.completions.create(model="spoken", messages=HELLO, max_tokens=12, seed=1)
    assert reply.choices[0].message.content == plain(HELLO)
    assert reply.choices[0].finish_reason == "length"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, 12)


def test_a_stream_says_the_same_and_ends_with_usage(client):
    stream = client.chat.completions.create(
        model="spoken", messages=HELLO, max_tokens=40, seed=1, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == plain(HELLO, 40)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 40


def test_several_texts_have_seeds_that_follow_one_another(client):
    reply = client.chat.completions.create(model="spoken", messages=HELLO, max_tokens=12, seed=1, n=3)
    assert [choice.message.content for choice in reply.choices] == [plain(HELLO, seed=1 + place) for place in range(3)]
    assert reply.usage.prompt_tokens == 7
    assert reply.usage.completion_tokens == 36


def test_several_texts_stream_side_by_side(client):
    texts = ["", ""]
    for chunk in client.chat.completions.create(
        model="spoken", messages=HELLO, max_tokens=12, seed=1, n=2, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [plain(HELLO), plain(HELLO, seed=2)]


def test_completions_take_several_prompts(client):
    reply = client.completions.create(model="spoken", prompt=["ab", "cd"], max_tokens=8, seed=1, logprobs=2)
    assert [choice.text for choice in reply.choices] == [plain("ab", 8), plain("cd", 8)]
    logprobs = reply.choices[0].logprobs
    assert "".join(logprobs.tokens) == plain("ab", 8)
    assert logprobs.text_offset == list(range(8))
    assert all(len(top) == 2 for top in logprobs.top_logprobs)


def test_logprobs_of_a_chat(client):
    reply = client.chat.completions.create(
        model="spoken", messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    content = reply.choices[0].logprobs.content
    assert "".join(each.token for each in content) == plain(HELLO, 5, temperature=0)
    for each in content:
        assert each.top_logprobs[0].token == each.token
        assert each.top_logprobs[0].logprob == each.logprob <= 0
        assert bytes(each.bytes).decode() == each.token


def test_a_text_ends_before_a_stop_string(client):
    whole = plain(HELLO, 30)
    reply = client.chat.completions.create(model="spoken", messages=HELLO, max_tokens=30, seed=1, stop=[whole[9:12]])
    assert reply.choices[0].message.content == whole[: whole.index(whole[9:12])]
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "fields, sampling",
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"presence_penalty": 1.5, "frequency_penalty": 0.5}, {"presence_penalty": 1.5, "frequency_penalty": 0.5}),
        ({"logit_bias": {"97": -100}}, {"logit_bias": {97: -100.0}}),
        ({"extra_body": {"top_k": 3}}, {"top_k": 3}),
        ({"extra_body": {"top_k": -1}}, {}),
        ({"extra_body": {"min_p": 0.1, "repetition_penalty": 1.3}}, {"min_p": 0.1, "repetition_penalty": 1.3}),
    ],
)
def test_settings_reach_the_engine(client, fields, sampling):
    given = {"temperature": 1} | fields
    reply = client.chat.completions.create(model="spoken", messages=HELLO, max_tokens=12, seed=1, **given)
    assert reply.choices[0].message.content == plain(HELLO, **sampling)


def test_errors_are_those_of_the_client(client):
    with pytest.raises(openai.NotFoundError, match="model 'gpt' is not served here: ask for spoken, other"):
        client.chat.completions.create(model="gpt", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature is -1: it must be") as caught:
        client.chat.completions.create(model="spoken", messages=HELLO, temperature=-1)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="the context of spoken holds 4096: shorten it"):
        client.chat.completions.create(model="spoken", messages=[{"role": "user", "content": "a" * 5000}])


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["spoken", "other"]
    assert client.models.retrieve("other").id == "other"
