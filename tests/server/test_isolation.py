"""A second turn reads only what is new, and no key finds what another's texts left in the cache."""

import httpx
import pytest

from server.conftest import PATIENCE, running, service

LONG = [{"role": "user", "content": "abcdefgh" * 40}]
KEYS = ("one", "two")


@pytest.fixture
def ask():
    with running(service(api_keys=KEYS)) as address, httpx.Client(base_url=address, timeout=PATIENCE) as http:

        def post(key, **fields):
            body = {"messages": LONG, "max_tokens": 4, "temperature": 0} | fields
            reply = http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
            assert reply.status_code == 200, reply.text
            return reply.json()

        yield post


def cached(reply):
    found = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert reply["timings"]["cache_n"] == found
    assert reply["timings"]["prompt_n"] == reply["usage"]["prompt_tokens"] - found
    return found


def test_a_key_finds_its_own_prefix_alone(ask):
    first = ask("one")
    assert cached(first) == 0
    again = ask("one")
    assert cached(again) > 300
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    other = ask("two")
    assert cached(other) == 0
    assert other["choices"][0]["message"] == first["choices"][0]["message"]


def test_a_salt_keeps_texts_of_one_key_apart(ask):
    ask("one", cache_salt="a")
    assert cached(ask("one", cache_salt="b")) == 0
    assert cached(ask("one", cache_salt="a")) > 300


def test_a_second_turn_reads_what_is_new_alone(ask):
    first = ask("one", messages=[{"role": "user", "content": "abcdefgh" * 250}])
    said = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    second = ask(
        "one", messages=[{"role": "user", "content": "abcdefgh" * 250}, said, {"role": "user", "content": "and"}]
    )
    new = second["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens"]
    assert first["timings"]["prompt_n"] >= 2000
    assert second["timings"]["prompt_n"] <= new + 1  # the answer's last token was never read
