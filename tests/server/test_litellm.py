"""LiteLLM against the server."""

import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it looks for prices in the network otherwise
litellm = pytest.importorskip("litellm")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydantic about its types

from server.asking import HELLO, plain  # noqa: E402


def ask(address, **fields):
    given = {"model": "openai/spoken", "api_base": f"{address}/v1", "messages": HELLO, "max_tokens": 12} | fields
    return litellm.completion(api_key="none", **given)


def test_a_chat(address):
    reply = ask(address, seed=1)
    assert reply.choices[0].message.content == plain(HELLO)
    assert reply.usage.completion_tokens == 12


def test_a_stream(address):
    chunks = list(ask(address, seed=1, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain(HELLO)


def test_anthropics_dialect(address):
    reply = ask(address, model="anthropic/spoken", temperature=0, api_base=address)
    assert reply.choices[0].message.content == plain(HELLO, temperature=0)
