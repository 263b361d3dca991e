"""`outrider train`: a newcomer trains a head for a tiny model, on what the model writes itself."""

import json
import random
import re

import pytest

from outrider import SamplingParams, SpeculativeDecoder, head_drafter, load
from outrider.cli import train
from outrider.drafters.heads.loading import is_head
from outrider.training import synthesis
from tiny import model as tiny_model

pytest.importorskip("torch")
WORDS = [*tiny_model.WORDS, "Aa", "Zz"]  # the words by which the place of the user's turn is found
SECONDS = 75


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setattr(synthesis, "SHORTEST_QUESTION", 1)  # the words of the tiny model are short
    monkeypatch.setattr(train, "OPENINGS", ("",))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    pytest.importorskip("transformers")
    return tiny_model.save(tmp_path_factory.mktemp("target"), words=WORDS, context=512)


@pytest.mark.slow
def test_acceptance_rises_from_chance_to_most_drafts(outrider, target, tmp_path):
    out, prompts = tmp_path / "head", tmp_path / "prompts.jsonl"
    chooser = random.Random(0)
    asked = [" ".join(chooser.choices(WORDS[6:], k=6)) for _ in range(100)]
    prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in asked))
    flags = ("--minutes", SECONDS / 60, "--backend", "torch", "--dtype", "float32", "--input", prompts)
    status, _, err = outrider("train", target, "--out", out, *flags)
    assert status == 0, err
    shares = re.search(r"in (\d+)%.*\((\d+)% at first\)", err.replace("\n", " "))
    assert int(shares[1]) > 50
    assert int(shares[2]) <= 12  # one of 17 words
    assert is_head(out)
    card = (out / "README.md").read_text()
    assert "outrider train" in card
    assert "| 1 |" in card
    assert json.loads((out / "config.json").read_text())["speculators_model_type"] == "eagle3"
    model = load(target, backend="torch", dtype="float32")
    greedy = SamplingParams(temperature=0)
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": "the cat"}])
    drafter = head_drafter(out, model)
    found = SpeculativeDecoder(drafter, model, 4).generate(prompt, max_tokens=40, sampling=greedy)
    plain = SpeculativeDecoder(None, model).generate(prompt, max_tokens=40, sampling=greedy)
    assert found.tokens == plain.tokens


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--minutes", 0), "--minutes"),
        (("--objective", "tv"), "--objective"),
        (("--vocabulary", 0), "--vocabulary"),
    ],
)
def test_flags_out_of_their_range_are_refused(outrider, target, tmp_path, flags, words):
    status, _, err = outrider("train", target, "--out", tmp_path / "head", *flags)
    assert status != 0
    assert words in err
