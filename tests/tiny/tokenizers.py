"""Tokenizers of a few tokens each, of the kinds that real ones are, made with the tokenizers library."""

from collections.abc import Sequence
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors  # noqa: E402

from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer  # noqa: E402


def byte_level(pieces: list[str], *, end: str | None = "</s>", added: Sequence[str] = ()) -> HuggingFaceTokenizer:
    """BPE as GPT-2 has it: pieces of several characters are merged from the two that a longest first one leaves.

    Args:
        pieces: in the notation of byte-level tokenizers, where a space is Ġ.
        added: text that is looked for before all else, and is not special.
    """
    tokenizer = Tokenizer(models.BPE(vocab=_numbered([*pieces, *([end] if end else [])]), merges=_merges(pieces)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added))
    return _wrapped(tokenizer, end)


def sentencepiece(
    pieces: list[str], *, end: str | None = "</s>", legacy: bool = True, bos: str | None = None, lower: bool = False
) -> HuggingFaceTokenizer:
    """A unigram model as SentencePiece has it: a space is ▁, and a text begins with one that is not there.

    Args:
        legacy: put ▁ before every text, as Llama's first tokenizers do; otherwise only where there is none.
        bos: a special token that every text begins with.
        lower: fold to lower case.
    """
    names = ["<unk>", *([end] if end else []), *([bos] if bos else []), *pieces]
    scores = [(name, -1.0 / len(name)) for name in names]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    folding = [normalizers.Lowercase()] if lower else []
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([*folding, normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.normalizer = normalizers.Sequence(folding)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, names.index(bos))]
        )
    return _wrapped(tokenizer, end, unk_token="<unk>", **({"bos_token": bos} if bos else {}))


def wordpiece(pieces: list[str], *, end: str | None = "[SEP]") -> HuggingFaceTokenizer:
    """As BERT has it: lower case, words, and what goes on without a space marked with ##; [CLS] and [SEP] around."""
    names = ["[UNK]", "[CLS]", *([end] if end else []), *pieces]
    tokenizer = Tokenizer(models.WordPiece(_numbered(names), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    if end:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"[CLS] $A {end}", special_tokens=[("[CLS]", 1), (end, 2)]
        )
    return _wrapped(tokenizer, end, unk_token="[UNK]", cls_token="[CLS]")


def _wrapped(tokenizer: Tokenizer, end: str | None, **settings: Any) -> HuggingFaceTokenizer:
    ends = {"eos_token": end} if end else {}
    return HuggingFaceTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends, **settings))


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _merges(pieces: list[str]) -> list[tuple[str, str]]:
    """How each longer piece comes about from two shorter ones."""
    merges = []
    for piece in sorted(pieces, key=len):
        cuts = [(piece[:cut], piece[cut:]) for cut in range(len(piece) - 1, 0, -1)]
        merges += [cut for cut in cuts if set(cut) <= set(pieces)][:1]
    return merges
