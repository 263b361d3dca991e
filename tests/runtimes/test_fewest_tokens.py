"""A text that is far too long is refused before it is encoded, and one that fits never is."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import InputError, Request, TableModel
from outrider.errors import TooLongError
from outrider.prompts.request import prepare_request
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer
from outrider.text import limited
from tiny import tokenizers as tiny

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers  # noqa: E402


def bpe(names, merges=(), **settings):
    return Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, list(merges), **settings))


def wrapped(tokenizer):
    return HuggingFaceTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def byte_level(normalizer=None, added=(), split=None, letters=256):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:letters]
    tokenizer = bpe([*alphabet, "ab", "abab"], [("a", "b"), ("ab", "ab")])
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = level if split is None else pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.add_tokens(list(added))
    return wrapped(tokenizer)


def with_fallback(letters="ab ▁"):
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "ab", "▁ab"]
    merges = [("a", "b"), ("▁", "ab")]
    tokenizer = bpe(names, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return wrapped(tokenizer)


BOUNDED = {
    "bytes": byte_level(),
    "bytes, composed": byte_level(normalizers.NFC()),
    "bytes, added tokens": byte_level(added=["<tool_call>", AddedToken("ä b", normalized=True)]),
    "bytes, digits": byte_level(split=pre_tokenizers.Digits(individual_digits=True)),
    "some bytes without a token": byte_level(letters=200),
    "byte fallback": with_fallback(),
}
UNBOUNDED = {
    "unknown words": tiny.wordpiece(["cat", "##s"]),
    "unknown pieces": tiny.sentencepiece(["▁", "a", "b"]),
    "folded": byte_level(normalizers.NFKD()),
    "stripped": byte_level(normalizers.Strip()),
    "swallowed spaces": byte_level(added=[AddedToken("<mask>", lstrip=True)]),
    "removed by a split": byte_level(split=pre_tokenizers.Split(" ", "removed")),
}
TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab ▁ä\u0301\u0344각\u1100\u1161\u11a8\u1fef\u2126"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=60,
)


@pytest.mark.parametrize("name", [*BOUNDED, *UNBOUNDED])
def test_what_fits_is_never_refused(name):
    tokenizer = {**BOUNDED, **UNBOUNDED}[name]

    @settings(max_examples=60, deadline=None)
    @given(TEXTS, st.integers(0, 3))
    def holds(text, more):
        for given_text in (text, unicodedata.normalize("NFD", text), text * 3, text + " " * 40 + "<mask>"):
            tokens = tokenizer.encode(given_text)
            assert tokenizer.within(len(tokens) + 1 + more).encode(given_text) == tokens

    holds()


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("text", ["ab " * 7_000_000, "äb" * 7_000_000], ids=["ascii", "umlauts"])
def test_what_is_far_too_long_is_refused_at_once(name, text):
    tokenizer = limited(BOUNDED[name], 500)
    started = time.process_time()
    with pytest.raises(TooLongError, match=r"at least \d+ tokens and the model's context holds 500: shorten it to 499"):
        tokenizer.encode(text)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("name", UNBOUNDED)
def test_without_a_bound_the_text_is_encoded(name):
    long = "ab " * 4000
    assert UNBOUNDED[name].within(3).encode(long) == UNBOUNDED[name].encode(long)


def test_a_chat_is_measured_behind_its_template():
    tokenizer = byte_level()
    tokenizer.wrapped.chat_template = "{{ messages[0]['content'] | trim }}"
    model = TableModel.random(258, 1, seed=1)
    model = TableModel(model.table, name="bytes", tokenizer=tokenizer, context_length=50)
    spaces = Request([{"role": "user", "content": " " * 1_000_000 + "ab"}])
    assert len(prepare_request(spaces, model, tokenizer).prompt) == 1
    with pytest.raises(InputError, match="at least 25"):
        prepare_request(Request([{"role": "user", "content": "ab" * 500_000}]), model, tokenizer)


def test_other_tokenizers_stay_as_they_are():
    class Own:
        def encode(self, text):
            return [1]

    own = Own()
    assert limited(own, 3) is own
    assert limited(None, 3) is None
