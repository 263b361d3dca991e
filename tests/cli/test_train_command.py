"""`outrider train`: a newcomer trains a drafter for a tiny model, on what the model writes itself."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest

from outrider import SamplingParams, SpeculativeDecoder, head_drafter, load
from outrider.cli import train, writing
from outrider.cli.app import run
from outrider.drafters.heads.loading import is_head
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from outrider.training import synthesis
from outrider.training.shards import read_shards
from tiny import gguf as tiny_gguf
from tiny import plain

torch = pytest.importorskip("torch")
from outrider.training.heads import making  # noqa: E402
from outrider.training.heads.trainer import Trainer  # noqa: E402

GREEDY = SamplingParams(temperature=0)
ON_TORCH = ("--backend", "torch", "--dtype", "float32", "--threads", 1)
A_ROUND, A_BATCH = 0.04, 0.1  # seconds, by the clock of these tests


class Work:
    """A clock that goes on with the work: how much is done in so many minutes is the same on any machine."""

    def __init__(self):
        self.now = 0.0

    def of(self, seconds):
        """A clock that goes on by so much at each look."""

        def look():
            self.now += seconds
            return self.now

        return look


@contextmanager
def timed_by_work():
    work, patches = Work(), pytest.MonkeyPatch()
    patches.setattr(train, "time", SimpleNamespace(monotonic=work.of(0.0)))
    patches.setattr(writing, "time", SimpleNamespace(monotonic=work.of(A_ROUND)))
    patches.setattr(making, "Trainer", partial(Trainer, clock=work.of(A_BATCH)))
    try:
        yield
    finally:
        patches.undo()


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setattr(synthesis, "SHORTEST_QUESTION", 1)  # the words of the tiny model are short
    monkeypatch.setattr(train, "OPENINGS", ("", "the ", "w3 w4 "))
    with timed_by_work():
        yield


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    pytest.importorskip("transformers")
    return plain.save(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    chooser = random.Random(0)
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    asked = [" ".join(chooser.choices(plain.WORDS[6:], k=6)) for _ in range(200)]
    file.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in asked))
    return file


def agreement(err):
    """Of the first draft token, in the end and at the beginning."""
    shares = re.search(r"in (\d+)%.*\(([\d.]+)% at first\)", err.replace("\n", " "))
    return float(shares[1]) / 100, float(shares[2]) / 100


def accepted(drafter, model):
    """The share of first draft tokens that are accepted, in texts that no training saw; the text is the target's.

    A greedy text of a tiny target soon repeats itself, so the share varies much; by chance it is 0.02.
    """
    chooser = random.Random(5)
    drafted = kept = 0
    for _ in range(8):
        asked = " ".join(chooser.choices(plain.WORDS[6:], k=6))
        prompt = model.tokenizer.encode_chat([{"role": "user", "content": asked}])
        found = SpeculativeDecoder(drafter, model, 1).generate(
            prompt, max_tokens=24, sampling=GREEDY, stop_token_ids=[]
        )
        plainly = SpeculativeDecoder(None, model).generate(prompt, max_tokens=24, sampling=GREEDY, stop_token_ids=[])
        assert found.tokens == plainly.tokens
        drafted, kept = drafted + found.stats.drafted, kept + found.stats.accepted
    return kept / drafted


@pytest.mark.slow
def test_acceptance_rises_from_chance_to_most_drafts(outrider, target, prompts, tmp_path):
    out = tmp_path / "head"
    flags = ("--minutes", 0.3, "--ttt-steps", 2, "--input", prompts, *ON_TORCH)
    status, _, err = outrider("train", target, "--out", out, *flags)
    assert status == 0, err
    last, first = agreement(err)
    assert first < 0.1, err
    assert last > 0.5
    assert is_head(out)
    card = (out / "README.md").read_text()
    assert "--ttt-steps 2" in card
    assert "| 1 |" in card
    assert json.loads((out / "config.json").read_text())["speculators_model_type"] == "eagle3"
    model = load(target, backend="torch", dtype="float32")
    assert accepted(head_drafter(out, model), model) > 0.2


@pytest.fixture(scope="module")
def small_model(target, prompts, tmp_path_factory):
    """What was said of its training, and its folder."""
    out, errors = tmp_path_factory.mktemp("model"), StringIO()
    words = tiny_gguf.save(tmp_path_factory.mktemp("words") / "words.gguf", vocabulary=len(plain.WORDS))
    flags = ("--drafter", "model", "--minutes", 0.15, "--gguf", words, "--input", prompts, *ON_TORCH)
    with redirect_stderr(errors), timed_by_work():
        status = run([str(word) for word in ("train", target, "--out", out, *flags)])
    assert status == 0, errors.getvalue()
    return errors.getvalue(), out


@pytest.mark.slow
def test_a_small_model_learns_what_the_target_says(target, small_model):
    err, out = small_model
    last, first = agreement(err)
    assert first < 0.1
    assert last > 0.5
    assert "small language model" in (out / "README.md").read_text()
    model = load(target, backend="torch", dtype="float32")
    assert accepted(out, model) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("backend, module", [("native", "outrider_native"), ("llama", "llama_cpp")])
def test_a_small_model_says_the_same_in_other_runtimes(small_model, backend, module):
    pytest.importorskip(module)
    _, out = small_model
    file, dtype = (out / "model.gguf", "auto") if backend == "llama" else (out, "float32")
    text = [7, 20, 33, 41, 12]
    one, other = (
        logits_after(load(name, backend=where, dtype=how), text)
        for name, where, how in ((out, "torch", "float32"), (file, backend, dtype))
    )
    assert np.allclose(one, other, atol=0.02 * np.abs(one).max())


def logits_after(model, tokens):
    scored = model.open(1, 32).extend(Pass([0], [tokens], wanted=[1]))
    scored.wait()
    return to_numpy(scored.logits)[-1]


@pytest.mark.slow
def test_a_target_of_llama_cpp_gets_a_small_model_too(outrider, tmp_path):
    """It shows no hidden states, and this one has no tokenizer either."""
    pytest.importorskip("llama_cpp")
    file, prompts, out = tiny_gguf.save(tmp_path / "target.gguf"), tmp_path / "prompts.jsonl", tmp_path / "model"
    chooser = random.Random(0)
    asked = [{"tokens": [chooser.randrange(3, 48) for _ in range(244)]} for _ in range(16)]  # which leave little room
    prompts.write_text("".join(json.dumps(each) + "\n" for each in asked))
    flags = ("--minutes", 0.06, "--backend", "llama", "--threads", 1, "--max-rows", 4, "--input", prompts)
    status, _, err = outrider("train", file, "--out", out, *flags)
    assert status == 2
    assert "hidden states" in err
    status, _, err = outrider("train", file, "--out", out, "--drafter", "model", *flags)
    assert status == 0, err
    target, draft = (load(each, backend="llama") for each in (file, out / "model.gguf"))
    found, plainly = (
        SpeculativeDecoder(each, target, 2).generate([5, 6], max_tokens=12, sampling=GREEDY) for each in (draft, None)
    )
    assert found.tokens == plainly.tokens
    assert found.stats.drafted > 0


@contextmanager
def running(*arguments):
    """The command in a process of its own, which is killed in the end, at whatever it is at."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: sys.exit(run([str(argument) for argument in arguments])))
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()


def wait_for(process, condition):
    end = time.monotonic() + 600
    while not condition():
        assert process.is_alive(), "the command ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
def test_a_run_that_is_killed_in_each_phase_goes_on(outrider, target, tmp_path, monkeypatch):
    out = tmp_path / "head"
    monkeypatch.setattr(writing, "SECONDS_OF_A_SHARD", 0.3)
    flags = ("--minutes", 0.22, "--write-minutes", 0.05, "--ttt-steps", 2, "--max-rows", 16, *ON_TORCH)
    command = ("train", target, "--out", out, *flags)
    shards = []
    for count in (1, 3):  # while it writes
        with running(*command) as process:
            wait_for(process, lambda count=count: len(shards_in(out)) >= count)
        assert not (out / "checkpoint.pt").exists()
        texts = list(read_shards(out / "texts"))  # none is damaged
        assert [text.tokens for text in texts[: len(shards)]] == [text.tokens for text in shards]  # nor lost
        shards = texts
    with running(*command) as process:  # while it trains
        wait_for(process, lambda: (out / "checkpoint.pt").exists())
    before = progress(out)
    assert before["steps"] > 0
    written = len(shards_in(out))
    status, _, err = outrider(*command)
    assert status == 0, err
    after = progress(out)
    assert after["steps"] > before["steps"]
    assert len(after["curve"]) > len(before["curve"])
    assert len(shards_in(out)) == written  # the time for writing was over
    prompts = [text.tokens[: text.prompt] for text in read_shards(out / "texts")]
    assert len(prompts) == len(set(prompts))
    assert is_head(out)
    more = ("train", target, "--out", out, "--minutes", 0.26, *flags[2:])
    status, _, err = outrider(*more)
    assert status == 0, err
    assert progress(out)["steps"] > after["steps"]


def test_a_checkpoint_of_another_drafter_or_a_damaged_one_is_refused(outrider, target, small_model, prompts, tmp_path):
    _, out = small_model
    for name in ("texts", "checkpoint.pt"):
        (shutil.copytree if name == "texts" else shutil.copy)(out / name, tmp_path / name)
    command = ("train", target, "--out", tmp_path, "--minutes", 0.15, "--input", prompts, *ON_TORCH)
    status, _, err = outrider(*command)
    assert status == 2
    assert "not of a head" in err
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    status, _, err = outrider(*command)
    assert status == 2
    assert "delete it" in err
    assert len(err.strip().splitlines()) == 1


def shards_in(out):
    return list((out / "texts").glob("texts-*.npz")) if (out / "texts").is_dir() else []


def progress(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)["progress"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--minutes", 0), "--minutes"),
        (("--objective", "tv"), "--objective"),
        (("--draft-vocab-size", 0), "--draft-vocab-size"),
        (("--drafter", "mtp"), "--drafter"),
        (("--hidden-size", 32), "--hidden-size"),
        (("--drafter", "model", "--vocabulary", 9), "--draft-vocab-size"),
        (("--minutes", 1, "--write-minutes", 2), "--write-minutes"),
        (("--data", "nowhere"), "--data"),
    ],
)
def test_flags_out_of_their_range_are_refused(outrider, target, tmp_path, flags, words):
    status, _, err = outrider("train", target, "--out", tmp_path / "head", *flags)
    assert status != 0
    assert words in err


def test_measurements_stand_above_the_bar_and_the_first_one_has_no_loss(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    curve = []
    with train.progress_told(60.0) as tell:
        for step, loss in enumerate((float("nan"), 17.25)):
            curve.append(SimpleNamespace(seconds=6.0 * step, agreement=[0.5, 0.25], loss=loss))
            tell(SimpleNamespace(seconds=6.0 * step, steps=step, curve=curve))
            time.sleep(0.2)  # the bar is drawn ten times a second
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert "right" in shown
    assert not re.search(r"right\s*0", shown.replace("\r", ""))
    assert "0.0 minutes, step 0: 50.0%, 25.0% of the target's tokens\n" in shown
    assert "0.1 minutes, step 1: 50.0%, 25.0% of the target's tokens, loss 17.25\n" in shown
