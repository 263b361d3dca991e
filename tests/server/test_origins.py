"""The field `outrider`: each token with its origin, each round with its draft."""

import json

import httpx
import pytest

from server.asking import plain
from server.conftest import PATIENCE, running, service

EVERYTHING = {"tokens": True, "rounds": True, "metrics": True}


def chunks_of(http, **fields):
    body = {"messages": [{"role": "user", "content": "abcabcabcabc"}], "max_tokens": 60, "temperature": 0} | fields
    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture(scope="module")
def chunks(http):
    return chunks_of(http, outrider=EVERYTHING)


def test_the_texts_of_all_tokens_are_the_answer(chunks):
    content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    tokens = [token for chunk in chunks for token in chunk.get("outrider", {}).get("tokens", [])]
    assert "".join(token["text"] for token in tokens) == content
    assert len(tokens) == 60
    assert all(token["logprob"] <= 0 for token in tokens)
    assert {"drafted"} < {token["origin"] for token in tokens} <= {"drafted", "correction", "bonus", "plain"}
    assert {token["source"] for token in tokens} == {"suffix", ""}


def test_rounds_tell_the_draft_and_what_became_of_it(chunks):
    rounds = [each for chunk in chunks for each in chunk.get("outrider", {}).get("rounds", [])]
    tokens = [token for chunk in chunks for token in chunk.get("outrider", {}).get("tokens", [])]
    assert [token for each in rounds for token in each["emitted"]] == [token["id"] for token in tokens]
    assert sum(each["accepted"] for each in rounds) >= 10
    for each in rounds:
        own = [token for token in tokens if token["round"] == each["round"]]
        assert [token["id"] for token in own] == each["emitted"]
        accepted = [node["id"] for node in each["drafted"] if node["accepted"]]
        assert each["emitted"] == (accepted + each["emitted"][len(accepted) :])
        assert len(accepted) == each["accepted"]
        assert [node["parent"] for node in each["drafted"]] == list(range(-1, len(each["drafted"]) - 1))
        assert each["seconds"]["verification"] > 0


def test_a_whole_reply_has_the_same_lists(http, chunks):
    body = {"messages": [{"role": "user", "content": "abcabcabcabc"}], "max_tokens": 60, "temperature": 0}
    reply = http.post("/v1/chat/completions", json=body | {"outrider": EVERYTHING}).json()
    tokens = [token["id"] for chunk in chunks for token in chunk.get("outrider", {}).get("tokens", [])]
    assert [token["id"] for token in reply["choices"][0]["outrider"]["tokens"]] == tokens


def test_the_last_chunk_has_the_numbers_of_llama_cpp_and_vllm(chunks):
    timings, numbers = chunks[-1]["timings"], chunks[-1]["metrics"]["speculative_decoding"]
    assert timings["predicted_n"] == 60
    assert timings["draft_n"] == numbers["num_draft_tokens"] >= timings["draft_n_accepted"] > 10
    histogram = numbers["acceptance_histogram"]
    assert sum(histogram) == numbers["num_spec_steps"]
    accepted = sum(place * count for place, count in enumerate(histogram))
    assert accepted == numbers["num_accepted_draft_tokens"] == timings["draft_n_accepted"]
    assert numbers["mean_acceptance_length"] == pytest.approx(1 + accepted / sum(histogram))


def test_speculation_is_off_where_a_request_says_so(http, chunks):
    found = chunks_of(http, outrider=EVERYTHING, speculative=False)
    tokens = [token for chunk in found for token in chunk.get("outrider", {}).get("tokens", [])]
    assert {token["origin"] for token in tokens} == {"plain"}
    drafted = [token for chunk in chunks for token in chunk.get("outrider", {}).get("tokens", [])]
    assert [token["id"] for token in tokens] == [token["id"] for token in drafted]
    assert "draft_n" not in found[-1]["timings"]


def test_drafts_are_as_long_as_a_request_allows(http):
    found = chunks_of(http, outrider=EVERYTHING, speculative={"num_draft_tokens": 2})
    lengths = [len(each["drafted"]) for chunk in found for each in chunk.get("outrider", {}).get("rounds", [])]
    assert max(lengths) == 2


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"drafter": "eagle"}, "speculative.drafter is 'eagle': this server has suffix and none"),
        ({"rule": "greedy"}, "speculative.rule is 'greedy': this server has token, block and coupled"),
        ({"num_draft_tokens": -1}, "num_draft_tokens is -1: it must be a whole number, at least 0 (0 decodes plainly)"),
        ({"speed": 3}, "speed"),
    ],
)
def test_another_drafter_or_rule_is_refused(chat, asked, message):
    status, body = chat(speculative=asked)
    assert status == 400
    assert message in body["error"]["message"]


def test_the_page_is_there(address):
    reply = httpx.get(f"{address}/")
    assert reply.status_code == 200
    assert "Outrider" in reply.text


def test_a_seed_gives_one_text_whatever_drafts():
    asked = ({}, {"speculative": False}, {"speculative": {"num_draft_tokens": 2}}, {"speculative": {"rule": "token"}})
    with (
        running(service({"rule": "token"}, rule="token")) as address,
        httpx.Client(base_url=address, timeout=PATIENCE) as http,
    ):
        replies = [chunks_of(http, temperature=1, seed=3, outrider=EVERYTHING, **each) for each in asked]
    texts = ["".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) for chunks in replies]
    assert texts[:3] == [plain([{"role": "user", "content": "abcabcabcabc"}], 60, seed=3, temperature=1)] * 3
    assert texts[3] != texts[0]  # of another rule, which was named
    assert any(each["drafted"] for chunk in replies[0] for each in chunk.get("outrider", {}).get("rounds", []))
