"""The command line, as a user meets it: on a tiny random model that needs no weights."""

import io
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_model
from outrider.check import against_plain
from outrider.cli.app import run

PROMPT = "the cat sat on the mat and the cat"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def draft_folder(tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("draft"), seed=1)


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("other"), words=[*tiny_model.WORDS, "dog"])


@pytest.fixture
def outrider(capsys):
    """Runs a command; returns (status, stdout, stderr)."""

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def generated(outrider, folder, *arguments):
    """The JSON of a short generation."""
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 24, "--json", *arguments)
    assert status == 0, err
    return json.loads(out)


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


@pytest.mark.parametrize("arguments", [("--drafter", "suffix"), ("--rule", "coupled"), ("--num-draft-tokens", 1)])
def test_greedy_text_does_not_depend_on_how_it_is_drafted(outrider, folder, arguments):
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")
    assert generated(outrider, folder, "--dtype", "float32", *arguments)["tokens"] == plain["tokens"]


def test_a_draft_model_drafts(outrider, folder, draft_folder):
    result = generated(outrider, folder, "-md", draft_folder)
    assert result["stats"]["drafted"] > 0


def test_a_draft_model_that_is_the_target_is_always_accepted(outrider, folder):
    result = generated(outrider, folder, "-md", folder, "--temp", 1, "--seed", 3)
    assert result["stats"]["acceptance_rate"] == 1


def test_coupled_text_is_the_same_for_any_drafter(outrider, folder, draft_folder):
    common = ("--rule", "coupled", "--temp", 1.2, "--seed", 5, "--dtype", "float32")
    texts = {
        generated(outrider, folder, *common, *drafting)["text"]
        for drafting in (("--drafter", "none"), ("--drafter", "suffix"), ("-md", draft_folder), ("-md", folder))
    }
    assert len(texts) == 1


def test_a_seed_reproduces_a_sampled_text(outrider, folder):
    first = generated(outrider, folder, "--temp", 1)
    again = generated(outrider, folder, "--temp", 1, "--seed", first["seed"])
    assert again["tokens"] == first["tokens"]


def test_compare_reports_the_ratio_and_that_the_tokens_agree(outrider, folder):
    result = generated(outrider, folder, "--compare", "--dtype", "float32")
    assert result["compare"]["ratio"] > 0
    assert result["compare"]["comparable"]
    assert result["compare"]["first_difference"] is None


def test_show_marks_drafted_runs_where_there_are_no_colours(outrider, folder):
    status, out, _ = outrider("generate", PROMPT, "-m", folder, "-n", 40, "--show")
    assert status == 0
    assert "[" in out
    assert "drafted and accepted" in out


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
    helped = generated(outrider, folder, "--predict", text)
    assert helped["text"] == text
    assert helped["stats"]["rounds"] < generated(outrider, folder)["stats"]["rounds"]


def test_adaptive_lookahead_runs(outrider, folder, draft_folder):
    assert generated(outrider, folder, "-md", draft_folder, "--adaptive")["stats"]["drafted"] > 0


BAD = {
    "empty prompt": (["generate", ""], "prompt is empty"),
    "missing file": (["generate", "--file", "/no/such/file"], "does not exist"),
    "prompt twice": (["generate", "hello", "--file", "x"], "both given"),
    "missing model": (["generate", "x", "-m", "/no/such/model"], "does not exist"),
    "missing gguf": (["generate", "x", "-m", "./nothing.gguf"], "does not exist"),
    "unknown rule": (["generate", "x", "--rule", "fast"], "'fast'"),
    "unknown drafter": (["generate", "x", "--drafter", "oracle"], "'oracle'"),
    "unknown dtype": (["generate", "x", "--dtype", "float8"], "'float8'"),
    "unknown option": (["generate", "x", "--speed", "11"], "--speed"),
    "unknown command": (["speculate"], "speculate"),
    "negative temperature": (["generate", "x", "--temp", "-1"], "temperature is -1.0"),
    "top-p of 0": (["generate", "x", "--top-p", "0"], "top_p is 0.0"),
    "min-p above 1": (["generate", "x", "--min-p", "1.5"], "min_p is 1.5"),
    "negative top-k": (["generate", "x", "--top-k", "-3"], "top_k is -3"),
    "no tokens wanted": (["generate", "x", "-n", "0"], "--max-tokens is 0"),
    "negative lookahead": (["generate", "x", "--num-draft-tokens", "-1"], "--num-draft-tokens is -1"),
    "negative seed": (["generate", "x", "--seed", "-1"], "seed is -1"),
    "no number": (["generate", "x", "--temp", "warm"], "--temp"),
    "drafter without its model": (["generate", "x", "--drafter", "model"], "--draft-model"),
    "draft model beside another drafter": (["generate", "x", "-md", "y", "--drafter", "suffix"], "leave one"),
    "prediction without suffix": (["generate", "x", "--drafter", "none", "--predict", "y"], "suffix"),
    "bad bias": (["generate", "x", "--logit-bias", "seven"], "TOKEN=BIAS"),
    "unknown system": (["bench", "--questions", "q.jsonl", "--systems", "magic"], "magic"),
    "missing questions": (["bench", "--questions", "/no/such/questions"], "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line_and_status_2(outrider, name):
    arguments, message = BAD[name]
    status, out, err = outrider(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert message in err


def refusal(outrider, *arguments):
    status, _, err = outrider("generate", *arguments)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    return err


def test_a_prompt_longer_than_the_context_is_refused(outrider, folder):
    assert "holds 256: shorten it to 255" in refusal(outrider, "cat " * 300, "-m", folder)


def test_a_draft_of_another_vocabulary_is_refused(outrider, folder, other_folder):
    message = refusal(outrider, PROMPT, "-m", folder, "-md", other_folder)
    assert "vocabulary of 16" in message
    assert "one of 15" in message


def test_a_model_that_cannot_roll_back_is_refused(outrider, folder, tmp_path):
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=15, hidden_size=8, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert "cannot be rolled back" in refusal(outrider, PROMPT, "-m", tmp_path)


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_logit_that_is_not_a_number_is_reported(outrider, folder, tmp_path, temperature):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    message = refusal(outrider, PROMPT, "-m", tmp_path, "--temp", temperature, "--dtype", "float32")
    assert "a logit of nan" in message


def test_an_empty_stop_string_is_refused(outrider, folder):
    assert "stop string is empty" in refusal(outrider, PROMPT, "-m", folder, "--stop", "")


def test_an_unusable_device_is_refused(outrider, folder):
    assert "device 'nonsense'" in refusal(outrider, PROMPT, "-m", folder, "--device", "nonsense")


def test_a_folder_without_a_model_is_refused(outrider, tmp_path):
    assert "no config.json" in refusal(outrider, PROMPT, "-m", tmp_path)


def test_a_closed_pipe_ends_quietly(folder):
    command = [sys.executable, "-m", "outrider.cli", "generate", PROMPT, "-m", str(folder), "-n", "200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait()


def test_check_passes_where_the_tokens_agree(outrider, folder):
    status, out, err = outrider("check", "--against-plain", "-m", folder, "-n", 16, "--limit", 3)
    assert status == 0, err
    assert "outrider suffix against transformers: 3 of 3" in " ".join(out.split())


def test_check_fails_where_they_do_not(outrider, folder, monkeypatch):
    honest = against_plain.outrider_greedy

    def dishonest(decoder):
        decode = honest(decoder)
        if decoder.drafter is None:
            return decode
        return lambda prompt, max_tokens: [*(tokens := decode(prompt, max_tokens))[:-1], (tokens[-1] + 1) % 15]

    monkeypatch.setattr("outrider.cli.check.outrider_greedy", dishonest)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 2, "--json")
    result = json.loads(out)
    assert status == 1
    assert not result["passed"]
    wrong = [outcome for outcome in result["outcomes"] if not outcome["passed"]]
    assert {outcome["difference"]["place"] for outcome in wrong} == {15}
    assert all(outcome["difference"]["margin"] > 1e-4 for outcome in wrong)


def test_bench_reports_every_system_and_category(outrider, folder, tmp_path):
    questions = tmp_path / "questions.jsonl"
    lines = [{"category": "cats", "turns": [PROMPT]}, {"category": "mats", "turns": ["the mat and the mat"]}]
    questions.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ("bench", "--questions", questions, "-m", folder, "-n", 12, "--systems", "plain,suffix,transformers")
    status, out, err = outrider(*arguments, "--dtype", "float32", "--peer-dtype", "float32", "--json")
    assert status == 0, err
    rows = json.loads(out)
    assert {(row["category"], row["system"]) for row in rows} == {
        (category, system) for category in ("cats", "mats", "all") for system in ("plain", "suffix", "transformers")
    }
    assert all(row["same_tokens"] == 1 for row in rows)


def test_doctor_reports_and_measures(outrider, folder):
    status, out, err = outrider("doctor", "-m", folder, "--context", 16, "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["packages"]["torch"]
    assert [cost["tokens"] for cost in report["curve"]["costs"]] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert report["curve"]["costs"][0]["relative"] == 1


def test_help_is_quick_to_load():
    code = "import sys, outrider.cli; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'mlx')))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
