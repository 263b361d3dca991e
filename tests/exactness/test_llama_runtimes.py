"""Draft and target in different runtimes, and trees in llama.cpp: the same distribution."""

from functools import cached_property

import numpy as np
import pytest

from exactness.drafters import TreeDrafter
from exactness.draws import Draws, p_of_output
from exactness.statistics import THRESHOLD, joint_distribution
from outrider import ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from tiny import gguf as tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

VOCABULARY = 6
DRAWS_ACROSS = 300  # tiny models of transformers are slow
DRAWS = 1_000
PROMPT = (0, 3, 1)
SAMPLING = SamplingParams(temperature=1.5, top_p=0.95)


class Pair:
    """A qwen3 model and one that agrees with it in part, each in both runtimes."""

    def __init__(self, folder):
        self.folder = folder
        self.weights = {"target": tiny_gguf.weights("qwen3", VOCABULARY, seed=1)}
        noise = tiny_gguf.weights("qwen3", VOCABULARY, seed=2)
        self.weights["draft"] = {
            name: tensor if tensor.ndim == 1 else tensor + 0.15 * noise[name]
            for name, tensor in self.weights["target"].items()
        }

    def in_llama(self, which):
        from outrider.runtimes.llamacpp.context import Settings
        from outrider.runtimes.llamacpp.loading import open_file
        from outrider.runtimes.llamacpp.model import LlamaCppModel

        file = tiny_gguf.save(self.folder / f"{which}.gguf", "qwen3", tensors=self.weights[which])
        return LlamaCppModel(open_file(file), which, Settings(threads=1, cache_type="float32"))

    def in_torch(self, which):
        from outrider.runtimes.torch.fused_llama import take_over
        from outrider.runtimes.torch.model import TransformersModel

        module = tiny_gguf.as_transformers(self.weights[which])
        return TransformersModel(module, name=which, fused=take_over(module, "float32"))

    @cached_property
    def truth(self):
        """The target as a table of what follows every text of the prompt and up to two tokens more."""
        return Enumerated(self.in_torch("target"))


class Enumerated:
    """A model that is asked for one distribution at a time, each from a fresh session."""

    def __init__(self, model):
        self.model = model
        self.traits = model.traits
        self.known = {}

    def logits_after(self, tokens):
        key = tuple(tokens)
        if key not in self.known:
            logits = self.model.open(1, 64).extend(Pass([0], [list(key)], wanted=[1])).logits
            self.known[key] = to_numpy(logits)[0].astype(np.float64)
        return self.known[key]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("pair"))


def passes(pair, target, drafter, rule, lookahead, length, draws):
    decoder = SpeculativeDecoder(drafter, target, lookahead, rule=rule)
    drawing = Draws(decoder, PROMPT, length, SAMPLING, max_tokens=length + 3)
    p = p_of_output(drawing, joint_distribution(pair.truth, PROMPT, length, SAMPLING), draws)
    assert 0.1 * drawing.sample.drafted < drawing.sample.accepted < 0.9 * drawing.sample.drafted
    return p > THRESHOLD


def test_a_draft_in_llama_cpp_for_a_target_in_torch(pair):
    assert passes(pair, pair.in_torch("target"), ModelDrafter(pair.in_llama("draft")), "token", 2, 2, DRAWS_ACROSS)


def test_a_draft_in_torch_for_a_target_in_llama_cpp(pair):
    assert passes(pair, pair.in_llama("target"), ModelDrafter(pair.in_torch("draft")), "block", 2, 2, DRAWS_ACROSS)


def tree_drafter(pair):
    drafter = TreeDrafter(TableModel.random(VOCABULARY, 1, spread=1.0, seed=5), 2)
    drafter.model = Enumerated(pair.in_torch("draft"))
    drafter.model.logits_after = lambda tokens, ask=drafter.model.logits_after: ask(tokens).astype(np.float32)
    return drafter


@pytest.mark.parametrize("rule", ["token", "coupled"])
def test_trees_for_a_target_in_llama_cpp(pair, rule):
    assert passes(pair, pair.in_llama("target"), tree_drafter(pair), rule, 6, 3, DRAWS)


def test_a_branch_that_is_mistaken_for_another_is_caught(pair, monkeypatch):
    def always_main(self, row, node):
        return self._rows[row].main

    monkeypatch.setattr("outrider.runtimes.llamacpp.session.LlamaCppSession._holder", always_main)
    assert not passes(pair, pair.in_llama("target"), tree_drafter(pair), "token", 6, 3, DRAWS)


@pytest.mark.parametrize("there", ["llama", "torch"])
def test_greedy_text_is_the_targets_own_across_runtimes(pair, there):
    makers = {"llama": pair.in_llama, "torch": pair.in_torch}
    here = "torch" if there == "llama" else "llama"
    target, greedy = makers[here]("target"), SamplingParams(temperature=0)
    plain = SpeculativeDecoder(None, target, 0).generate(PROMPT, max_tokens=60, sampling=greedy)
    decoder = SpeculativeDecoder(ModelDrafter(makers[there]("draft")), target, 4)
    generation = decoder.generate(PROMPT, max_tokens=60, sampling=greedy)
    assert generation.tokens == plain.tokens
    assert 0 < generation.stats.accepted < generation.stats.drafted
