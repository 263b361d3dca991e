"""Bad input ends with status 2 and one line that names the value and the remedy."""

import io
import sys

import pytest
from calls import PROMPT, refusal

from outrider.errors import ModelError

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize("arguments", [("-",), ("--file", "-"), ()])
@pytest.mark.parametrize("content, message", [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "as text")])
def test_standard_input_without_a_prompt_is_refused(outrider, monkeypatch, arguments, content, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    assert message in refusal(outrider, *arguments)


def test_a_terminal_without_a_prompt_is_refused(outrider, monkeypatch):
    terminal = io.StringIO("never read")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "there is no prompt" in refusal(outrider)


def test_an_empty_file_is_refused(outrider, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    assert "prompt is empty" in refusal(outrider, "--file", tmp_path / "empty.txt")


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
    "trees under block": (["generate", "x", "--drafter", "suffix-tree", "--rule", "block"], "judges chains"),
    "a shape of nothing": (["generate", "x", "--drafter", "lookup", "--tree", "3,2"], "--drafter is lookup"),
    "a shape of letters": (
        ["generate", "x", "--drafter", "model-tree", "-md", "y", "--tree", "3,b"],
        "level by level, such as 3,2,1",
    ),
    "merged without a model": (["generate", "x", "--drafter", "merged"], "--draft-model"),
    "strings without a model": (["generate", "x", "--drafter", "string"], "--draft-model"),
    "draft model beside another drafter": (["generate", "x", "-md", "y", "--drafter", "suffix"], "leave one"),
    "prediction without suffix": (["generate", "x", "--drafter", "none", "--predict", "y"], "suffix"),
    "prediction twice": (["generate", "x", "--predict", "y", "--predict-file", "z"], "both given"),
    "missing prediction": (["generate", "x", "--predict-file", "/no/such/file"], "does not exist"),
    "prompt and standard input": (["generate", "-", "--file", "x"], "both given"),
    "directory as file": (["generate", "--file", "/"], "cannot be read"),
    "lookahead of nothing": (["generate", "x", "--drafter", "none", "--num-draft-tokens", "3"], "leave one"),
    "adaptive nothing": (["generate", "x", "--drafter", "none", "--adaptive"], "leave one"),
    "compare nothing": (["generate", "x", "--drafter", "none", "--compare"], "leave one"),
    "log probabilities of text": (["generate", "x", "--logprobs"], "--json"),
    "colours in JSON": (["generate", "x", "--show", "--json"], "leave one"),
    "unknown colour": (["generate", "x", "--show", "--color", "red"], "'red'"),
    "empty stop string": (["generate", "x", "--stop", ""], "--stop string is empty"),
    "no threads": (["generate", "x", "-t", "0"], "--threads is 0"),
    "temperature that is no number": (["generate", "x", "--temp", "nan"], "temperature is nan"),
    "penalty of 0": (["generate", "x", "--repeat-penalty", "0"], "repetition_penalty is 0.0"),
    "check without a drafter": (["check", "--drafter", "none"], "--drafter is none"),
    "check of no tokens": (["check", "-n", "0"], "--max-tokens is 0"),
    "check of no prompts": (["check", "--limit", "0"], "--limit is 0"),
    "negative margin": (["check", "--margin", "-1"], "--margin is -1.0"),
    "missing prompts": (["check", "--prompts", "/no/such/file.txt"], "does not exist"),
    "doctor without context": (["doctor", "--context", "0"], "--context is 0"),
    "doctor of nothing": (["doctor", "-m", "x", "--no-curve"], "leave one"),
    "bad bias": (["generate", "x", "--logit-bias", "seven"], "TOKEN=BIAS"),
    "trace of nothing": (["trace", "/no/such/file"], "cannot be read"),
    "trace of something else": (["trace", __file__], "is not a trace"),
    "picture of an unknown kind": (["trace", "x", "--output", "x.gif"], "end it in .svg or .png"),
    "trace without a folder": (["generate", "x", "--trace", "/no/such/folder/x"], "a trace cannot be written"),
    "trace over another file": (["generate", "x", "--trace", __file__], "exists and is not a trace"),
    "unknown system": (["bench", "questions", "q.jsonl", "--systems", "magic"], "magic"),
    "a lookahead that is no number": (["bench", "rows", "q.jsonl", "--systems", "suffix@all"], "such as suffix@4"),
    "a lookahead of nothing": (["bench", "questions", "q.jsonl", "--systems", "plain@4"], "plain@4"),
    "drafting system without its model": (["bench", "questions", "q", "--systems", "plain,model"], "--draft-model"),
    "bench without a command": (["bench", "--temp", "1"], "--temp"),
    "missing questions": (["bench", "questions", "/no/such/questions"], "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line_and_status_2(outrider, name, monkeypatch):
    def opened(*arguments, **settings):
        raise ModelError("opened: folder does not exist")

    if "model" not in name and "gguf" not in name:  # what a model is not needed for is refused before one is opened
        monkeypatch.setattr("outrider.load", opened)
    arguments, message = BAD[name]
    status, out, err = outrider(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_a_prompt_longer_than_the_context_is_refused(outrider, folder):
    assert "holds 256: shorten it to 255" in refusal(outrider, "cat " * 300, "-m", folder)


def test_a_draft_of_another_vocabulary_is_refused(outrider, folder, other_folder):
    message = refusal(outrider, PROMPT, "-m", folder, "-md", other_folder)
    assert "vocabulary of 16" in message
    assert "one of 15" in message


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


def test_an_unusable_device_is_refused(outrider, folder):
    assert "device 'nonsense'" in refusal(outrider, PROMPT, "-m", folder, "--device", "nonsense")


def test_a_folder_without_a_model_is_refused(outrider, tmp_path):
    assert "no config.json" in refusal(outrider, PROMPT, "-m", tmp_path)


def test_an_error_is_wrapped_between_words_on_a_terminal_and_one_line_elsewhere(outrider, monkeypatch):
    unknown = ("generate", "x", "--rule", " ".join(["unknown"] * 30))
    _, _, line = outrider(*unknown)
    assert line.count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    _, _, wrapped = outrider(*unknown)
    assert wrapped.count("\n") > 3
    assert wrapped.split() == line.split()
    assert all(len(each) <= 60 for each in wrapped.splitlines())
