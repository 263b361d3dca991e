"""MTP layers and DFlash heads: every draft is what transformers' own classes say of the whole text."""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pytest

from drafters.witness import TOLERANCE, course, state_of_table
from outrider import (
    Fixed,
    Merged,
    ModelError,
    SamplingParams,
    SpeculativeDecoder,
    TableModel,
    head_drafter,
    load,
    lookup_drafter,
)
from outrider.runtimes.loading import as_model
from tiny import heads as tiny_heads

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from outrider.drafters.heads.dflash import DFlashHead  # noqa: E402 (they need PyTorch)
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.drafters.heads.mtp import MtpHead, MtpRow  # noqa: E402
from tiny import transformers_heads as tiny  # noqa: E402

VOCABULARY = 9
LAST = 4  # of a ShownTable: where MTP layers read


def table(order=2):
    return tiny_heads.ShownTable(TableModel.random(VOCABULARY, order, spread=1.2, seed=0).table)


class MtpReference:
    """From the start of the text: each layer over all positions, then the last one over what it makes itself."""

    def __init__(self, model):
        self.model = model

    @torch.inference_mode()
    def logits_after(self, text, states, drafted=()):
        from transformers.cache_utils import MtpCache

        cache = MtpCache(config=self.model.config)
        made = torch.tensor(np.array(states))
        depth, tokens = len(self.model.layers), [*text, *drafted]
        for step in range(len(drafted) + 1):
            layer = min(step, depth - 1)
            if step < depth:
                ids = tokens[1 + step : 1 + step + len(states)]
                places = range(1 + step, 1 + step + len(states))
            else:
                made, ids, places = made[-1:], tokens[len(text) + step - 1 :][:1], [len(states) + step]
            made = self.model.forward_layer(
                layer, made[None], torch.tensor([list(places)]), cache, input_ids=torch.tensor([ids])
            )[0]
        return self.model.shared_head(made[-1]).numpy()


class DFlashReference:
    def __init__(self, model, embedding, output):
        self.model, self.embedding, self.output = model, embedding, output

    @torch.inference_mode()
    def logits_after(self, text, states, drafted=()):
        made = tiny.dflash_states(self.model, text, np.array(states), self.embedding)
        return self.output(made[len(drafted)]).numpy()


def dflash(target, layers=(0, 2)):
    model = tiny.dflash_model(layers, mask=1)
    embedding = torch.from_numpy(target.embedding())
    output = torch.nn.Linear(tiny.SIZE, VOCABULARY, bias=False).requires_grad_(False)
    return DFlashHead(model, embedding, output, VOCABULARY), DFlashReference(model, embedding, output)


def chains(network, **settings):
    return HeadDrafter(network, trees=False, deepest=network.deepest, **settings)


@pytest.mark.parametrize("temperature", [0.8, 0])
@pytest.mark.parametrize("mtp_layers", [1, 3])
def test_mtp_layers_draft_what_the_reference_says(mtp_layers, temperature):
    target, model = table(), tiny.mtp_model(tiny.glm(VOCABULARY, mtp_layers), mtp_layers)
    drafter = chains(MtpHead(model, LAST, VOCABULARY))
    state_of = state_of_table(target, (LAST,))
    found = course(drafter, target, MtpReference(model), state_of=state_of, temperature=temperature)
    assert found.worst < TOLERANCE


def test_the_reference_of_mtp_layers_is_their_own_forward_pass():
    target, model = table(), tiny.mtp_model(tiny.glm(VOCABULARY, 3), 3)
    text = [3, 1, 2, 0, 4, 8, 1]
    states = [target.state(LAST, text[: end + 1]) for end in range(len(text) - 1)]
    logits, drafted = tiny.mtp_logits(model, text, np.array(states)), []
    for expected in logits:
        assert np.abs(MtpReference(model).logits_after(text, states, drafted) - expected).max() < TOLERANCE
        drafted.append(int(expected.argmax()))


def tokens_of_the_layer_below():
    """Later layers are fed the tokens of the first."""
    run = MtpRow._run

    def fed(self, layer, states, tokens):
        first = self._cached[layer]
        return run(self, layer, states, (self._tokens + self._drafted)[first : first + len(tokens)])

    return patch.object(MtpRow, "_run", fed)


@pytest.mark.parametrize("mistake", [tokens_of_the_layer_below, nullcontext])
def test_a_mistake_in_what_mtp_layers_read_is_found(mistake):
    target, model = table(), tiny.mtp_model(tiny.glm(VOCABULARY, 3), 3)
    with mistake():
        drafter = chains(MtpHead(model, LAST, VOCABULARY))
        worst = course(drafter, target, MtpReference(model), state_of=state_of_table(target, (LAST,))).worst
    assert (worst > 100 * TOLERANCE) == (mistake is not nullcontext)


@pytest.mark.parametrize("temperature", [0.8, 0])
def test_dflash_drafts_what_the_reference_says(temperature):
    target = table()
    network, reference = dflash(target)
    state_of = state_of_table(target, network.layers)
    drafter = chains(network)
    assert course(drafter, target, reference, state_of=state_of, temperature=temperature).worst < TOLERANCE


def test_a_block_is_as_long_as_the_head_says():
    target = table()
    network, _ = dflash(target)
    decoder = SpeculativeDecoder(chains(network), target, Fixed(12))
    found = decoder.generate([3, 1, 2], max_tokens=12, temperature=1.0, seed=0)
    assert found.stats.drafted <= found.stats.rounds * (tiny.DFLASH["block_size"] - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.with_mtp(tmp_path_factory.mktemp("glm") / "target", VOCABULARY, mtp_layers=2)


def same_text(drafter, target):
    greedy = SamplingParams(temperature=0)
    found = SpeculativeDecoder(drafter, target, 3).generate([3, 1, 2], max_tokens=20, sampling=greedy)
    plain = SpeculativeDecoder(None, target).generate([3, 1, 2], max_tokens=20, sampling=greedy)
    assert found.tokens == plain.tokens
    return found.stats


def test_mtp_layers_are_read_from_the_folder_of_the_model(folder):
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
        before = {name: weight.clone() for name, weight in target.module.state_dict().items()}
        drafter = head_drafter("mtp", target)
    assert same_text(drafter, target).drafted > 20
    assert all(torch.equal(weight, before[name]) for name, weight in target.module.state_dict().items())


def test_the_first_draft_is_that_of_transformers_after_its_own_hidden_states(folder):
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
        drafter = head_drafter("mtp", target)
    propose, seen = drafter.propose, []

    def watched(sequences, budgets):
        drafts = propose(sequences, budgets)
        seen.extend((list(sequence.tokens), draft) for sequence, draft in zip(sequences, drafts, strict=True))
        return drafts

    drafter.propose = watched
    SpeculativeDecoder(drafter, target, 2).generate([3, 1, 2, 0, 4], max_tokens=12, temperature=0)
    assert len(seen) > 3
    for text, draft in seen:
        with torch.inference_mode():
            hidden = target.module(torch.tensor([text[:-1]]), output_hidden_states=True).hidden_states
        expected = tiny.mtp_logits(drafter.network.model, text, hidden[-1][0]).argmax(axis=1).tolist()
        assert list(draft.tokens) == expected[: len(draft)]


@pytest.mark.parametrize("authors", [False, True], ids=["transformers", "authors"])
def test_dflash_heads_are_read_in_both_kinds_of_files(folder, tmp_path, authors):
    model = tiny.write_dflash(tmp_path / "head", authors=authors)
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
    drafter = head_drafter(tmp_path / "head", target)
    assert same_text(drafter, target).drafted > 20
    found = drafter.network.model.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in model.state_dict().items())
    assert drafter.network.model.config.rope_parameters["rope_theta"] == 1000.0


def test_they_share_a_tree_with_lookups(folder):
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
        mtp = head_drafter("mtp", target, greedy=True)
    same_text(Merged([lookup_drafter(target), mtp], rests=False), target)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"block_size": 1}, "block_size is 1"),
        ({"mask_token_id": -1}, "mask_token_id"),
        ({"target_layer_ids": [0, 3]}, "layer 3"),
        ({"target_layer_ids": []}, "target_layer_ids"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": 20}, "states of 20"),
        ({"num_hidden_layers": 3}, "cannot be read"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"architectures": ["DFlash2DraftModel"]}, "DFlash 2"),
        ({"architectures": ["Gemma4AssistantForCausalLM"]}, "key-value cache"),
    ],
)
def test_what_dflash_files_ask_for_and_is_not_computed_is_refused_by_name(folder, tmp_path, changes, words):
    tiny.write_dflash(tmp_path / "head", **changes)
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
    with pytest.raises(ModelError, match=words):
        head_drafter(tmp_path / "head", target)


def test_a_sliding_window_of_the_authors_is_refused(folder, tmp_path):
    tiny.write_dflash(tmp_path / "head", authors=True, layer_types=["sliding_attention"] * 2)
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
    with pytest.raises(ModelError, match="sliding_attention"):
        head_drafter(tmp_path / "head", target)


def test_a_model_without_mtp_layers_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="backend torch"):
        head_drafter("mtp", table())
    with tiny.mtp_names():
        target = load(folder, backend="torch", dtype="float32")
    (folder / "model.safetensors").rename(tmp_path / "away")
    try:
        with pytest.raises(ModelError, match="cannot be read"), tiny.mtp_names():
            head_drafter("mtp", target)
    finally:
        (tmp_path / "away").rename(folder / "model.safetensors")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    with pytest.raises(ModelError, match="num_mtp_layers"):
        head_drafter("mtp", as_model(transformers.LlamaForCausalLM(config)))
