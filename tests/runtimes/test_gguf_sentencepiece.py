"""SentencePiece tokenizers of GGUF files are read as llama.cpp reads them, token for token and byte for byte."""

import itertools
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

import outrider
from outrider.errors import ModelError, TooLongError
from outrider.runtimes.native import tokenizer
from outrider.runtimes.native.description import Unknown
from outrider.runtimes.native.gguf_tokens import ENDS, FILLING, SHOWN
from outrider.runtimes.native.sentencepiece import SentencePieceTokenizer
from outrider.text import Detokenizer
from tiny import gguf as tiny_gguf
from tiny import native as tiny_native

pytest.importorskip("llama_cpp")
tiny_native.library()

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # the numbers of files
TEXTS = [
    "Hello world, it's 1234567 of 100%\r\n\r\nx**2  # squared\n",
    "the cat\tsat on   the mat.   \n\n\n The  end ",
    "naïve CAFÉ Straße 日本語の文 🙂👍🏽 नमस्ते ﷺ a\u0301e\u0301",
    "<s>user\nhi</s><start_of_turn>model\n<end_of_turn> ▁▁ <unk> <0x41>",
    "\x00\x01\x7f\u00a0\u2003",
    "",
    " ",
    "  ",
    "\n",
    "</s>",
    "</s> ",
]
ALPHABET = ["a", "b", "c", "ab", " ", "  ", "\n", "\t", "é", "日", "🙂", "\u0301", "▁", "1", "<", ">", "\x00"]
NAMES = [*ENDS.split(" "), *SHOWN.split(" "), "<|plamo:eos|>", "<unused7>", "plain", "[unused]"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass
class Words:
    """The tokenizer of a file."""

    names: list[Any]
    kinds: list[int] | None
    scores: list[Any] | None
    settings: dict[str, Any] = field(default_factory=dict)
    title: str = "tiny"
    template: str | None = None


def save(file, words, architecture="llama", rows=None):
    def add_tokenizer(writer, *_):
        writer.add_name(words.title)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(words.names)
        if words.scores is not None:
            writer.add_token_scores(words.scores)
        if words.kinds is not None:
            writer.add_token_types(words.kinds)
        for key, value in words.settings.items():
            (writer.add_bool if isinstance(value, bool) else writer.add_uint32)(f"tokenizer.ggml.{key}", value)
        if words.template is not None:
            writer.add_chat_template(words.template)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_gguf, "add_tokenizer", add_tokenizer)
        return tiny_gguf.save(file, architecture, vocabulary=rows or len(words.names))


def both(tmp_path, words):
    """The model in the native runtime and in llama.cpp, each with a tokenizer of its own."""
    file = save(tmp_path / "tiny.gguf", words)
    ours, theirs = (outrider.load(file, backend=backend) for backend in ("native", "llama"))
    assert isinstance(ours.tokenizer, SentencePieceTokenizer)
    assert not isinstance(theirs.tokenizer, SentencePieceTokenizer)
    return ours, theirs


def streamed(tokenizer, tokens, before=()):
    detokenizer = Detokenizer(tokenizer, before)
    return [*map(detokenizer.push, tokens), detokenizer.flush()]


def require_same(ours, theirs, texts, draw):
    assert ours.traits.stop_token_ids == theirs.traits.stop_token_ids
    one, other = ours.tokenizer, theirs.tokenizer
    assert one.vocabulary == other.vocabulary
    assert one.special_tokens == other.special_tokens
    assert one.fingerprint == other.fingerprint
    size = len(one.vocabulary)
    for text in texts:
        tokens = one.encode(text)
        assert tokens == other.encode(text), text
        chance = draw.choices(range(size), k=draw.randrange(1, 12))
        for said in (tokens, tokens[draw.randrange(len(tokens) + 1) :], chance):
            assert one.decode(said) == other.decode(said), said
            assert streamed(one, said) == streamed(other, said), said
        assert streamed(one, chance, tokens) == streamed(other, chance, tokens), (tokens, chance)


def pieces(draw, count):
    """Parts of texts, of any length: the halves of many are no tokens, and they cross every border of words."""
    text = "".join([*TEXTS, *draw.choices(ALPHABET, k=300)]).replace(" ", "▁").replace("\x00", "")
    found = set()
    while len(found) < count:
        start = draw.randrange(len(text) - 1)
        found.add(text[start : start + draw.choice([1, 1, 1, 2, 2, 2, 3, 3, 4, 6, 9])])
    return sorted(found - set(BYTES))


def made(draw):
    """A tokenizer of any kind."""
    begins = ["<unk>", "<s>", "</s>", "<|endoftext|>"]
    special = [
        "<start_of_turn>",
        "  ",
        "    ",
        "\n",
        "\n\n",
        "▁▁",
        "aaa",
        *("".join(p) for p in itertools.product("abc", repeat=2)),
    ]
    special += [b"\xe6\x97", b"\x97\xa5", "日本", "<|tool|>"]
    strange = ["", "kq\0b", "[unused]", "<unused1>"]
    names: list[Any] = [*begins, *special, *strange]
    names += [name for name in [*BYTES, *pieces(draw, 260)] if name not in names]
    kinds = [UNKNOWN, CONTROL, CONTROL, CONTROL]
    kinds += [draw.choice([USER, USER, USER, CONTROL, NORMAL]) for _ in special]
    kinds += [draw.choice([CONTROL, UNUSED, NORMAL, 0]) for _ in strange]
    kinds += [BYTE] * 256
    kinds += draw.choices([NORMAL, UNUSED, USER, CONTROL, 0], [60, 2, 1, 1, 1], k=len(names) - len(kinds))
    if draw.random() < 0.3:
        kinds[1] = draw.choice([NORMAL, UNKNOWN, USER])  # what begins texts
        kinds[2] = NORMAL
    scores = [draw.gauss(0, 9) for _ in names]
    if draw.random() < 0.6:
        scores = [float(draw.randrange(-3, 1)) for _ in names]
    if draw.random() < 0.2:
        scores = [round(score) for score in scores]
    settings = {
        key: draw.random() < 0.5
        for key in ("add_space_prefix", "add_bos_token", "add_eos_token", "remove_extra_whitespaces")
        if draw.random() < 0.7
    }
    for place, key in enumerate(("unknown", "bos", "eos")):
        if draw.random() < 0.6:
            settings[f"{key}_token_id"] = draw.choice([place, draw.randrange(len(names)), 10**6])
    title = "A Phi-3 of ours" if draw.random() < 0.2 else "tiny"
    return Words(
        names, kinds if draw.random() < 0.9 else None, scores if draw.random() < 0.9 else None, settings, title
    )


def made_texts(draw, words, count):
    spelled = [name if isinstance(name, str) else name.decode(errors="ignore") for name in words.names]
    parts = [*(part.replace("▁", " ") for part in spelled), *ALPHABET * 9]
    return ["".join(draw.choices(parts, k=draw.randrange(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(40))
def test_every_tokenizer_is_that_of_llama_cpp(tmp_path, seed):
    draw = random.Random(seed)
    words = made(draw)
    ours, theirs = both(tmp_path, words)
    require_same(ours, theirs, [*TEXTS, *made_texts(draw, words, 60)], draw)


@pytest.mark.parametrize("seed", range(12))
def test_tokens_that_are_known_by_their_names_are_those_of_llama_cpp(tmp_path, seed):
    """Ends above all, whatever the file says of them."""
    draw = random.Random(seed)
    names = draw.sample(NAMES, k=draw.randrange(3, len(NAMES)))
    names += [draw.choice(words.split(" ")) for words in FILLING.values() if draw.random() < 0.6]
    names = sorted({*names} - {"</s>"})
    kinds = draw.choices([NORMAL, CONTROL, USER, UNUSED, 0], k=len(names))
    settings = {
        f"{key}_token_id": draw.randrange(len(names) + 3)
        for key in ("eos", "eot", "eom", "fim_pre", "prefix", "fim_pad", "fim_rep", "fim_sep", "middle")
        if draw.random() < 0.3
    }
    words = Words(
        ["<unk>", "<s>", "</s>", *names, *BYTES],
        [UNKNOWN, CONTROL, draw.choice([CONTROL, NORMAL]), *kinds, *[BYTE] * 256],
        None,
        settings,
    )
    require_same(*both(tmp_path, words), ["".join(draw.sample(names, k=3)) for _ in range(9)], draw)


def letters(*pairs, **settings):
    """A few tokens with their scores, beside those that every file has."""
    names = ["<unk>", "<s>", "</s>", *BYTES, *(name for name, _ in pairs)]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pairs)]
    return Words(names, kinds, [0.0] * 259 + [score for _, score in pairs], {"add_bos_token": False} | settings)


def said(model, text):
    return [model.tokenizer.vocabulary[token] for token in model.tokenizer.encode(text)]


def test_of_equal_scores_the_leftmost_is_joined_first(tmp_path):
    words = letters(("a", -1.0), ("aa", -1.0), ("b", -1.0), ("ab", -1.0), add_space_prefix=False)
    for model in both(tmp_path, words):
        assert said(model, "aaaaab") == [b"aa", b"aa", b"ab"]


def test_a_token_is_joined_though_its_halves_are_none(tmp_path):
    words = letters(("xy", -1.0), ("日本", -2.0), add_space_prefix=False)
    for model in both(tmp_path, words):
        assert said(model, "xyx日本日") == [b"xy", b"x", "日本".encode(), *(bytes([byte]) for byte in "日".encode())]


def test_a_token_that_is_a_word_of_no_joins_stays_in_parts(tmp_path):
    words = letters(("a", -1.0), ("b", -1.0), ("c", -1.0), ("d", -1.0), ("abcd", 0.0), add_space_prefix=False)
    for model in both(tmp_path, words):
        assert said(model, "abcd") == [b"a", b"b", b"c", b"d"]


def test_a_long_text_is_read_as_fast_as_in_llama_cpp(tmp_path):
    draw = random.Random(1)
    words = Words(
        [*letters().names, *sorted({*pieces(draw, 400)} - {*letters().names})], None, None, {"bos_token_id": 1}
    )
    words.scores = [draw.gauss(0, 9) for _ in words.names]
    models = both(tmp_path, words)
    text = "".join(draw.choices([*ALPHABET, "the", " cat", "Hello"], k=40_000))
    assert len(text) > 60_000
    seconds, tokens = [[], []], []
    for _ in range(3):
        for place, model in enumerate(models):
            start = time.process_time()
            tokens.append(model.tokenizer.encode(text))
            seconds[place].append(time.process_time() - start)
    assert all(found == tokens[0] for found in tokens)
    assert min(seconds[0]) < 2 * min(seconds[1])  # it takes 0.7 of the time; others use this machine


def test_a_text_that_is_far_too_long_is_refused_before_it_is_read(tmp_path):
    ours, _ = both(tmp_path, letters(("a", -2.0), ("aa", -1.0), ("a" * 4, 0.0), ("bcdefghi", 0.0)))
    longest = 8  # bytes of the last one
    limited = ours.tokenizer.within(10)
    assert len(limited.encode("a" * 20)) == 3 + 5  # a space before the text, of three bytes
    with pytest.raises(TooLongError, match="at least 10 tokens"):
        limited.encode("a" * (longest * 9 + 1))
    assert ours.tokenizer.encode("a" * (longest * 9 + 1))


def phi(template=None):
    words = letters(*((name, -1.0) for name in ("<|endoftext|>", "<|end|>", "<|user|>", "▁", "a", "▁a")))
    words.title, words.template = "Phi-3-mini", template
    words.kinds[-6:-3] = [CONTROL] * 3
    return words


def test_white_space_after_control_tokens_is_dropped_in_phi_3_alone(tmp_path):
    words = phi()
    for model in both(tmp_path, words):
        assert said(model, "<|user|> \n a<s> a") == [b"<|user|>", b" a", b"<s>", b" ", b" a"]
        limited = getattr(model.tokenizer, "within")(10)  # noqa: B009
        assert len(limited.encode("<|user|>" + " " * 999)) == 1
    words.title = "another"
    for model in both(tmp_path, words):
        assert said(model, "<|user|> a") == [b"<|user|>", b" ", b" a"]


# What templates of these families write, in short.
TEMPLATES = {
    "gemma3": "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "phi3": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}<|assistant|>\n",
    "llama": "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
}
CONTROLS = {
    "gemma3": ["<start_of_turn>", "<end_of_turn>"],
    "phi3": ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
    "llama": ["[INST]", "[/INST]"],
}


def family(architecture):
    """A tokenizer as files of the family have it."""
    draw = random.Random(4)
    begins = ["<pad>", "<eos>", "<bos>", "<unk>"] if architecture == "gemma3" else ["<unk>", "<s>", "</s>"]
    control = [*begins, *CONTROLS[architecture]]
    user = ["\n", "\n\n", "  ", "   "] if architecture == "gemma3" else []
    others = [name for name in pieces(draw, 150) if name not in [*control, *user]]
    words = Words(
        [*control, *user, *BYTES, *others],
        [CONTROL] * len(control) + [USER] * len(user) + [BYTE] * 256 + [NORMAL] * len(others),
        [0.0] * (len(control) + len(user) + 256) + [-float(place) for place in range(len(others))],
        {f"{use}_token_id": begins.index(name) for use, name in
         (("bos", "<bos>"), ("eos", "<eos>"), ("unknown", "<unk>"), ("padding", "<pad>")) if name in begins},
        template=TEMPLATES[architecture],
    )  # fmt: skip
    words.kinds[begins.index("<unk>")] = UNKNOWN
    if architecture != "gemma3":
        words.settings |= {"bos_token_id": 1, "eos_token_id": 2}
    if architecture == "gemma3":
        words.settings["add_space_prefix"] = False
    if architecture == "phi3":
        words.settings["add_bos_token"] = False
        words.title = "Phi 3 mini, phi3"
    return words


CONVERSATIONS = [
    [{"role": "user", "content": "Hello the cat"}],
    [{"role": "system", "content": "<s>be"}, {"role": "user", "content": " </s><|end|> <end_of_turn>a[INST]\n"}],
]


@pytest.mark.parametrize("architecture", TEMPLATES)
def test_conversations_are_those_of_llama_cpp(tmp_path, architecture):
    ours, theirs = both(tmp_path, family(architecture))
    for conversation in CONVERSATIONS:
        tokens = ours.tokenizer.encode_chat(conversation)
        assert tokens == theirs.tokenizer.encode_chat(conversation)
        bos = {"gemma3": 2}.get(architecture, 1)
        assert tokens.count(bos) <= 2  # the template's own, and what the system says; none is added
        assert tokens[0] == bos or architecture == "phi3"
    require_same(ours, theirs, [*TEXTS, *made_texts(random.Random(2), family(architecture), 40)], random.Random(3))


WITHOUT_LLAMA = """
import sys
sys.modules["llama_cpp"] = None  # as if it were not installed
from outrider_command import main
main()
"""


@pytest.mark.parametrize("architecture", TEMPLATES)
def test_a_command_says_the_same_without_llama_cpp(tmp_path, monkeypatch, architecture):
    file = save(tmp_path / "tiny.gguf", family(architecture), architecture)
    command = ["generate", "Hello  the\ncat", "-m", str(file), "--temp", "0", "-n", "60", "--json"]
    ran = subprocess.run([sys.executable, "-c", WITHOUT_LLAMA, *command], capture_output=True, text=True, timeout=120)
    assert not ran.returncode, ran.stderr
    found = json.loads(ran.stdout)

    def unknown(header, path):
        raise Unknown("as it was")

    monkeypatch.setattr(tokenizer, "of_gguf", unknown)
    model = outrider.load(file, backend="native")
    assert not isinstance(model.tokenizer, SentencePieceTokenizer)
    decoder = outrider.SpeculativeDecoder(draft_model="lookup", target_model=model)
    answer = decoder.chat("Hello  the\ncat", temperature=0, max_tokens=60)
    assert (found["text"], found["tokens"], found["finish_reason"]) == (
        answer.text,
        answer.tokens,
        answer.finish_reason,
    )
    assert len(answer.tokens) > 4


def test_two_tokens_of_one_name(tmp_path):
    words = letters(("a", -1.0), ("a", -2.0))
    with pytest.raises(ModelError, match="two tokens 'a'"):
        outrider.load(save(tmp_path / "tiny.gguf", words), backend="native")


def test_fewer_or_more_tokens_than_the_model_has(tmp_path):
    words = letters(("a", -1.0))
    for rows in (len(words.names) - 1, len(words.names) + 1):
        file = save(tmp_path / "tiny.gguf", words, rows=rows)
        for backend in ("native", "llama"):
            with pytest.raises(ModelError, match="cannot be opened"):
                outrider.load(file, backend=backend)


UNKNOWN_HERE = {
    "a score of its tokens is no number": lambda words: words.scores.__setitem__(260, float("nan")),
    "it has a byte b'b'": lambda words: words.kinds.__setitem__(260, BYTE),
    "2 of its tokens may be its fim_pad": lambda words: words.names.__setitem__(slice(259, 261), ["<PAD>", "[PAD]"]),
    "lacks a token that Phi-3 has": lambda words: setattr(words, "title", "phi-3"),
    "that of an encoder": lambda words: setattr(words, "title", "Modern-BERT"),
}


@pytest.mark.parametrize("complaint", UNKNOWN_HERE)
def test_what_is_not_known_is_refused_by_name(tmp_path, monkeypatch, complaint):
    words = letters(("a", -1.0), ("b", -1.0))
    UNKNOWN_HERE[complaint](words)
    monkeypatch.setitem(sys.modules, "outrider.runtimes.llamacpp.loading", None)
    with pytest.raises(ModelError, match=complaint):
        outrider.load(save(tmp_path / "tiny.gguf", words), backend="native")
