"""The tokenizer of a GGUF file beside llama.cpp's: whether their tokens are equal, and what a text takes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from outrider import load
from outrider.text import Tokenizer

LONG, SHORT = 100_000, 300  # characters of a text
SHORT_TEXTS = 200


def compare_tokenizers(file: Path, text: str, repeats: int) -> None:
    """Prints medians; raises SystemExit with the first text whose tokens, or whose text again, differ."""
    opened = {"native": load(file, backend="native").tokenizer, "llama.cpp": load(file, backend="llama").tokenizer}
    tokenizers = {name: tokenizer for name, tokenizer in opened.items() if tokenizer is not None}
    if len(tokenizers) < 2:
        raise SystemExit("the file has no tokenizer")
    if type(tokenizers["native"]) is type(tokenizers["llama.cpp"]):
        raise SystemExit("the native runtime has llama.cpp's tokenizer for this file")
    whole = (text * (LONG // max(len(text), 1) + 1))[:LONG]
    pieces = [whole[start : start + SHORT] for start in range(0, LONG, LONG // SHORT_TEXTS)]
    _require_equal(tokenizers["native"], tokenizers["llama.cpp"], [text, whole, *pieces])
    for title, texts in ((f"a text of {LONG:,} characters", [whole]), (f"one of {SHORT} characters", pieces)):
        taken: dict[str, list[float]] = {name: [] for name in tokenizers}
        for _ in range(repeats):
            for name, tokenizer in tokenizers.items():
                started = time.perf_counter()
                for each in texts:
                    tokenizer.encode(each)
                taken[name].append((time.perf_counter() - started) / len(texts))
        found = ", ".join(f"{name} {1000 * statistics.median(seconds):.2f} ms" for name, seconds in taken.items())
        print(f"{title}: {found}", flush=True)


def _require_equal(ours: Tokenizer, theirs: Tokenizer, texts: list[str]) -> None:
    if (ours.vocabulary, ours.special_tokens) != (theirs.vocabulary, theirs.special_tokens):
        raise SystemExit("the vocabularies differ")
    for text in texts:
        tokens = ours.encode(text)
        if tokens != theirs.encode(text) or ours.decode(tokens) != theirs.decode(tokens):
            raise SystemExit(f"the tokens of a text differ: {text[:200]!r}")
