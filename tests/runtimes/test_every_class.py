"""Every causal language model class of transformers, built tiny: the text of its own `generate`, or a refusal."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import outrider
from benchmarks import classes
from outrider.runtimes.torch.model import TransformersModel

WAYS = {
    "LlamaForCausalLM": "shared passes",
    "AfmoeForCausalLM": "shared passes",
    "GptOssForCausalLM": "shared passes",
    "Gemma3ForCausalLM": "shared passes",
    "Phi3ForCausalLM": "shared passes",
    "Gemma2ForCausalLM": "replay",
    "MambaForCausalLM": "replay",
    "NemotronForCausalLM": "replay",  # the plan does not reach its attention
    "StableLmForCausalLM": "replay",  # the same
    "BambaForCausalLM": "replay",
    "MiniMaxForCausalLM": "replay",
    "PhimoeForCausalLM": "shared passes",
    "BertLMHeadModel": "refused",
    "BertLMHeadModel, is_decoder": "shared passes",
    "Gemma3ForConditionalGeneration": "shared passes",
    "Llama4ForCausalLM": "replay",
    "MoshiForCausalLM": "refused",
}
CAUSES = {
    "HrmTextForCausalLM": "rounds too much to be read token by token: one rounding of its input moves logits by",
    "NemotronHForCausalLM": "reads a single token otherwise than several at once",
    "BertLMHeadModel": "gives other logits when a text is read token by token",
    "RobertaForCausalLM, is_decoder": "gives other logits when it is told its positions, as its generate tells them",
    "OpenAIGPTLMHeadModel": "takes no cache that Outrider knows",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", classes.names())
def test_its_text_is_that_of_generate_or_it_is_refused(name):
    model = classes.build(*classes.classes_of(name))
    if model is None:
        pytest.skip("no tiny model of it was built")
    verdict = classes.judge(model)
    assert verdict.wrong == ""
    assert verdict.way == WAYS.get(name, verdict.way)
    if verdict.way == "refused":
        assert len(verdict.reason.splitlines()) == 1
        assert "outrider.FunctionModel(model)" in verdict.reason


@pytest.mark.parametrize("name", CAUSES)
def test_a_refusal_names_its_cause(name):
    model = classes.build(*classes.classes_of(name))
    with classes.quiet(), pytest.raises(outrider.ModelError, match=CAUSES[name]):
        TransformersModel(model)


@pytest.mark.parametrize("name", ["HrmTextForCausalLM", "MiniMaxForCausalLM", "PhimoeForCausalLM"])
def test_what_rounds_less_or_is_told_its_window_or_keeps_its_own_cache_is_read(name):
    model = classes.build(*classes.classes_of(name))
    verdict = classes.judge(model.double() if name == "HrmTextForCausalLM" else model)
    assert (verdict.reason, verdict.wrong) == ("", "")


def test_a_hybrid_whose_time_steps_meet_no_limit_is_replayed(monkeypatch):
    monkeypatch.setitem(classes.OF_KIND, "nemotron_h", {"time_step_min": 1e-12})
    model = classes.build(*classes.classes_of("NemotronHForCausalLM"))
    assert classes.judge(model) == classes.Verdict("replay")
