"""`outrider warm`: from a model's own answers to a file that its drafter starts from."""

import json
import re

import numpy as np
import pytest
from calls import PROMPT, generated
from rich.progress import Progress

import outrider as library
from outrider.cli import warm
from outrider.drafters.lookup.loading import lookup_drafter, warm_file
from outrider.drafters.recycling.state import load_state
from outrider.training import synthesis
from outrider.training.shards import read_shards
from tiny import model as tiny_model

SECOND = 1 / 60
WORDS = [*tiny_model.WORDS, "Aa", "Zz"]  # the words by which the place of the user's turn is found
FEW = ("--max-rows", 8, "--dtype", "float32")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(synthesis, "SHORTEST_QUESTION", 1)  # the words of the tiny model are short
    monkeypatch.setattr(warm, "OPENINGS", ("",))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A model whose chat template begins with words of its own, and which often ends its turn."""
    pytest.importorskip("transformers")
    folder = tiny_model.save(tmp_path_factory.mktemp("talker"), words=WORDS, context=512)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    if (folder / "chat_template.jinja").exists():
        (folder / "chat_template.jinja").write_text(tiny_model.CHAT_TEMPLATE)
    settings["chat_template"] = tiny_model.CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """A model without a chat template."""
    pytest.importorskip("transformers")
    folder = tiny_model.save(tmp_path_factory.mktemp("silent"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tokens_of(err: str) -> int:
    return int(re.search(r"from ([\d,]+) tokens of answers", err)[1].replace(",", ""))


def test_a_model_writes_and_its_drafter_finds_what_was_learned(outrider, talker, tmp_path) -> None:
    status, out, err = outrider("warm", talker, "--minutes", SECOND, "--data", tmp_path / "texts", *FEW)
    assert (status, out) == (0, "")
    assert tokens_of(err) > 0
    target = library.load(str(talker), dtype="float32")
    assert str(warm_file(target)) in err.replace("\n", "")
    texts = list(read_shards(tmp_path / "texts", target.tokenizer.fingerprint))
    assert sum(len(text.tokens) - text.prompt for text in texts) == tokens_of(err)
    for text in texts[:20]:  # what was written down is what the target expects
        pass_ = library.SpeculativeDecoder(None, target)
        greedy = pass_.generate(text.tokens[: text.prompt], max_tokens=1, temperature=0).tokens
        assert text.top[0, 0] == greedy[0]
    state = load_state(warm_file(target))
    assert len(state.single) == target.traits.vocab_size
    memory = lookup_drafter(target).sources[-1].memory
    assert memory.find([3, 4]) == (state.pairs.find(3 << 32 | 4), state.single.find(4))


def test_texts_of_earlier_runs_are_learned_as_well(outrider, talker, tmp_path) -> None:
    texts = ("--data", tmp_path / "texts", "--output", tmp_path / "state.npz", *FEW)
    _, _, first = outrider("warm", talker, "--minutes", SECOND / 2, *texts)
    _, _, second = outrider("warm", talker, "--minutes", SECOND / 2, *texts)
    assert tokens_of(second) > tokens_of(first) > 0
    _, _, third = outrider("warm", talker, "--minutes", 0, *texts)
    assert tokens_of(third) == tokens_of(second)
    assert len({path.name for path in (tmp_path / "texts").iterdir()}) == 2


def test_the_vocabulary_alone_takes_no_time(outrider, folder, tmp_path) -> None:
    status, _, err = outrider("warm", folder, "--minutes", 0, "--output", tmp_path / "state.npz", *FEW)
    assert status == 0
    assert "DrafterState(15 tokens, 0 pairs" in err


def test_a_model_without_a_chat_template_is_told_what_to_do(outrider, silent, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(warm, "expectations", lambda *args: pytest.fail("the vocabulary was read first"))
    status, _, err = outrider("warm", silent, "--output", tmp_path / "state.npz")
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert "has no chat template" in err
    assert "--input FILE" in err
    assert "--minutes 0" in err


def test_prompts_of_ones_own_are_answered(outrider, silent, tmp_path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "the cat sat"}, {"tokens": [6, 7, 8, 9]}, {"prompt": "the mat ran", "id": "x"}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("--input", prompts, "--data", tmp_path / "texts", "--output", tmp_path / "state.npz", *FEW)
    status, _, err = outrider("warm", silent, *arguments)
    assert status == 0
    assert tokens_of(err) > 0
    texts = list(read_shards(tmp_path / "texts"))
    assert sorted(text.tokens[: text.prompt] for text in texts) == [(6, 7, 8), (6, 7, 8, 9), (6, 10, 12)]
    assert load_state(tmp_path / "state.npz").pairs.find(7 << 32 | 8) is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "holds no prompt"), ("nonsense", "line 1"), ('{"tokens": [99]}', "line 1 of"), (None, "does not exist")],
)
def test_prompts_that_cannot_be_used_are_refused(outrider, silent, tmp_path, content, said) -> None:
    prompts = tmp_path / "prompts.jsonl"
    if content is not None:
        prompts.write_text(content)
    status, _, err = outrider("warm", silent, "--input", prompts, "--output", tmp_path / "state.npz")
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert said in err
    assert not (tmp_path / "state.npz").exists()


def test_an_interrupted_run_saves_what_it_has(outrider, talker, tmp_path, monkeypatch) -> None:
    write = warm.self_written

    def interrupted(*args):
        seen = 0
        for texts in write(*args):
            yield texts
            seen += len(texts)
            if seen >= 5:
                raise KeyboardInterrupt

    monkeypatch.setattr(warm, "self_written", interrupted)
    arguments = ("--data", tmp_path / "texts", "--output", tmp_path / "state.npz", *FEW)
    status, _, err = outrider("warm", talker, *arguments)
    assert status == 130
    assert "stopped: DrafterState" in err
    assert len(list(read_shards(tmp_path / "texts"))) >= 5
    assert len(load_state(tmp_path / "state.npz").pairs) > 0


def test_a_model_that_never_ends_its_questions_ends_in_time(outrider, talker, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(synthesis, "SHORTEST_QUESTION", 10**6)
    status, _, err = outrider("warm", talker, "--minutes", SECOND / 2, "--output", tmp_path / "state.npz", *FEW)
    assert (status, tokens_of(err)) == (0, 0)


def test_progress_is_shown_where_somebody_looks(outrider, talker, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, step: shown.append(step))
    outrider("warm", talker, "--minutes", SECOND / 4, "--output", tmp_path / "state.npz", *FEW)
    assert shown[0] == len(WORDS)
    assert sum(shown[1:]) >= 60 * SECOND / 4


def test_a_damaged_text_or_one_of_another_model_is_refused(outrider, talker, other_folder, tmp_path) -> None:
    texts = tmp_path / "texts"
    outrider("warm", talker, "--minutes", SECOND / 2, "--data", texts, "--output", tmp_path / "state.npz", *FEW)
    status, _, err = outrider("warm", other_folder, "--minutes", 0, "--data", texts, *FEW)
    assert status == 2
    assert "of another tokenizer" in err
    (texts / "texts-00001.npz").write_bytes(b"hello")
    status, _, err = outrider("warm", talker, "--minutes", 0, "--data", texts, *FEW)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert "texts-00001.npz are damaged or none" in err


@pytest.mark.parametrize(
    "arguments", [("--minutes", -1), ("--minutes", "nan"), ("--pairs", -1), ("--max-rows", 0)], ids=str
)
def test_numbers_out_of_range_are_refused(outrider, folder, arguments) -> None:
    assert outrider("warm", folder, *arguments)[0] == 2


def test_a_place_that_cannot_be_written_is_told_first(outrider, folder, tmp_path) -> None:
    (tmp_path / "file").touch()
    for flag in ("--output", "--data"):
        status, _, err = outrider("warm", folder, flag, tmp_path / "file" / "state" / "npz", *FEW)
        assert status == 2
        assert "choose another place" in err


def test_a_model_without_a_tokenizer_needs_a_place(outrider, folder, tmp_path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    status, _, err = outrider("warm", bare, "--minutes", 0, *FEW)
    assert status == 2
    assert "has no tokenizer" in err
    status, _, err = outrider("warm", bare, "--minutes", 0, "--output", tmp_path / "state.npz", *FEW)
    assert status == 0, err
    target = library.load(str(bare), dtype="float32")
    assert len(lookup_drafter(target, tmp_path / "state.npz").sources[-1].memory.everything()[0]) == 15


# --drafter-state


def test_generate_goes_on_from_a_file_and_writes_it(outrider, folder, tmp_path) -> None:
    state = tmp_path / "state.npz"
    arguments = ("--drafter-state", state, "--dtype", "float32", "--num-draft-tokens", 4)
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")["tokens"]
    first = generated(outrider, folder, *arguments)
    known = load_state(state)
    assert len(known.pairs) > 0
    second = generated(outrider, folder, *arguments)
    assert plain == first["tokens"] == second["tokens"]
    assert second["stats"]["accepted"] > first["stats"]["accepted"]
    assert len(load_state(state).pairs) >= len(known.pairs)


def test_recycled_successors_alone_go_on_from_a_file_and_leave_its_texts(outrider, folder, tmp_path) -> None:
    state = tmp_path / "state.npz"
    arguments = ("--drafter-state", state, "--dtype", "float32", "--num-draft-tokens", 4)
    generated(outrider, folder, *arguments)  # lookups, which remember the text
    known = load_state(state)
    assert known.documents
    plain = generated(outrider, folder, "--drafter", "none", "--dtype", "float32")["tokens"]
    own = generated(outrider, folder, *arguments, "--drafter", "recycling")
    assert own["tokens"] == plain
    assert own["stats"]["accepted"] > 0
    assert load_state(state).documents == known.documents
    assert len(load_state(state).pairs) >= len(known.pairs)
    fresh = tmp_path / "fresh.npz"
    generated(outrider, folder, "--drafter-state", fresh, "--drafter", "recycling", "--rule", "block")
    assert len(load_state(fresh).pairs) > 0


def test_jobs_go_on_from_a_file_and_write_it(outrider, folder, tmp_path) -> None:
    prompts, state = tmp_path / "prompts.txt", tmp_path / "state.npz"
    prompts.write_text("the cat sat on\nthe mat and the\n")
    arguments = ("--input", prompts, "-m", folder, "--temp", 0, "-n", 12, "--drafter-state", state)
    assert outrider("generate", *arguments, "--output", tmp_path / "one.jsonl")[0] == 0
    before = load_state(state)
    assert len(before.pairs) > 0
    assert outrider("generate", *arguments, "--output", tmp_path / "two.jsonl")[0] == 0
    texts = [
        [json.loads(line)["text"] for line in sorted((tmp_path / name).read_text().splitlines())]
        for name in ("one.jsonl", "two.jsonl")
    ]
    assert texts[0] == texts[1]
    assert sum(known.times for known in load_state(state).pairs.everything().values()) > sum(
        known.times for known in before.pairs.everything().values()
    )


@pytest.mark.parametrize("drafter", ["suffix", "none"])
def test_a_drafter_that_keeps_nothing_takes_no_state(outrider, folder, tmp_path, drafter) -> None:
    status, _, err = outrider(
        "generate", PROMPT, "-m", folder, "--drafter", drafter, "--drafter-state", tmp_path / "state.npz"
    )
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert f"for the drafters lookup and recycling and --drafter is {drafter}" in err


def test_states_that_cannot_be_used_or_written_end_in_one_line(outrider, folder, other_folder, tmp_path) -> None:
    state = tmp_path / "state.npz"
    state.write_bytes(b"hello")
    cases = [(folder, state, "damaged or none"), (folder, tmp_path, "cannot be read")]
    generated(outrider, other_folder, "--drafter-state", tmp_path / "other.npz")
    cases.append((folder, tmp_path / "other.npz", "of another tokenizer"))
    cases.append((folder, tmp_path / "none" / "state.npz", "choose another place"))
    for model, file, said in cases:
        status, _, err = outrider("generate", PROMPT, "-m", model, "-n", 4, "--drafter-state", file)
        assert status == 2
        assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
        assert said in err


def test_a_damaged_file_in_the_cache_is_passed_over(outrider, folder) -> None:
    target = library.load(str(folder), dtype="float32")
    warm_file(target).parent.mkdir(parents=True)
    warm_file(target).write_bytes(b"hello")
    assert len(lookup_drafter(target).sources[-1].memory.everything()[0]) == 0
    assert np.isfinite(generated(outrider, folder)["stats"]["emitted"])
