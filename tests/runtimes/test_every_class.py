"""Every causal language model class of transformers, built tiny: the text of its own `generate`, or a refusal."""

import functools

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks import classes

WAYS = {
    "LlamaForCausalLM": "shared passes",
    "AfmoeForCausalLM": "shared passes",
    "GptOssForCausalLM": "shared passes",
    "Gemma3ForCausalLM": "shared passes",
    "Phi3ForCausalLM": "shared passes",
    "Gemma2ForCausalLM": "replay",
    "MambaForCausalLM": "replay",
    "NemotronForCausalLM": "replay",
    "BambaForCausalLM": "replay",
    "BertLMHeadModel": "refused",
    "MoshiForCausalLM": "refused",
}
draft_model = functools.cache(classes.draft_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", classes.names())
def test_its_text_is_that_of_generate_or_it_is_refused(name):
    model = classes.build(*classes.classes_of(name))
    if model is None:
        pytest.skip("no tiny model of it was built")
    verdict = classes.judge(model, draft_model())
    assert verdict.wrong == ""
    assert verdict.way == WAYS.get(name, verdict.way)
    if verdict.way == "refused":
        assert len(verdict.reason.splitlines()) == 1
        assert "outrider.FunctionModel(model)" in verdict.reason
