"""The tokens of a GGUF file as llama.cpp takes them: it knows the use of some by their names (llama-vocab.cpp)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from outrider.runtimes.llamacpp.header import STRING, TOKENS, Entries, Header, numbers, texts
from outrider.runtimes.native.description import Unknown

# What a token may be, all of it at once: llama.cpp's bits, and the numbers by which files say so.
UNKNOWN, UNUSED, NORMAL, CONTROL, USER, BYTE = 1, 2, 4, 8, 16, 32
ATTRIBUTES = {1: NORMAL, 2: UNKNOWN, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
SPECIAL = UNKNOWN | CONTROL | USER  # they are cut out of a text, and no pieces of it
SILENT = UNKNOWN | CONTROL  # they have no text

# Where a file does not name them: its begin, end and unknown token, by the kind of its tokenizer.
DEFAULTS = {b"llama": (1, 2, 0), b"gpt2": (11, 11, None), b"t5": (None, 1, 2), b"plamo2": (1, 2, 0)}
KEYS = {
    "bos": ("bos",),
    "eos": ("eos",),
    "eot": ("eot",),
    "eom": ("eom",),
    "unk": ("unknown",),
    "fim_pre": ("fim_pre", "prefix"),
    "fim_suf": ("fim_suf", "suffix"),
    "fim_mid": ("fim_mid", "middle"),
    "fim_pad": ("fim_pad",),
    "fim_rep": ("fim_rep",),
    "fim_sep": ("fim_sep",),
}
BAR = "\N{FULLWIDTH VERTICAL LINE}"  # DeepSeek's
# Tokens that fill in the middle of a text; where the file names none, one of these names is taken.
FILLING = {
    "fim_pre": f"<|fim_prefix|> <fim-prefix> <fim_prefix> <{BAR}fim▁begin{BAR}> "
    "<PRE> ▁<PRE> <|code_prefix|> <|prefix|>",
    "fim_suf": f"<|fim_suffix|> <fim-suffix> <fim_suffix> <{BAR}fim▁hole{BAR}> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>",
    "fim_mid": f"<|fim_middle|> <fim-middle> <fim_middle> <{BAR}fim▁end{BAR}> <MID> ▁<MID> <|code_middle|> <|middle|>",
    "fim_pad": "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "fim_rep": "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "fim_sep": "<|file_sep|>",
}
FILLING_ENDS = ("fim_pad", "fim_rep", "fim_sep")
ENDS = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> "
    "<|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> "
    f"<{BAR}end▁of▁sentence{BAR}> [e~["
)
SHOWN = "<|channel|> <|message|> <|start|> <|constrain|>"  # of gpt-oss
# With these among the ends another one is none: (one of each group, and what ends nothing, and is this instead).
EXCEPTIONS = (
    (("<|return|>",), ("<|call|>", "<|calls|>"), "<|end|>", USER),
    (("<|flush|>",), ("<|call|>", "<|calls|>"), "<|end|>", USER),
    (("<|tool_response>", "<|plamo:eos|>"), "</s>", NORMAL),
)
KNOWN = frozenset(" ".join([*FILLING.values(), ENDS, SHOWN, "<|plamo:eos|>"]).encode().split(b" "))


@dataclass(frozen=True)
class GgufTokens:
    """The tokens of a file.

    Attributes:
        names: as the file spells them.
        attributes: what each is, in bits.
        named: tokens by their use, "bos" or "eot" for example; those that the file does not name have defaults.
        ends: tokens that end a text.
    """

    names: list[bytes]
    attributes: list[int]
    named: Mapping[str, int]
    ends: frozenset[int]

    @cached_property
    def special(self) -> list[int]:
        return [token for token, attributes in enumerate(self.attributes) if attributes & SPECIAL]


def ends_of(header: Header, file: Path) -> frozenset[int]:
    """The tokens that end a text; of a file without tokens those that it names all the same.

    Raises:
        Unknown: which they are in llama.cpp is chance.
    """
    if TOKENS in header.values:
        return read_tokens(header, file).ends
    return frozenset(_numbers_of(header, ("eos", "eot", "eom")))


def read_tokens(header: Header, file: Path) -> GgufTokens:
    """The tokens, and what llama.cpp makes of their names.

    Raises:
        Unknown: there are none, or what llama.cpp makes of them is chance.
    """
    if header.tokens is None:
        header.tokens = _tokens_of(header, file)
    found: GgufTokens = header.tokens
    return found


def _tokens_of(header: Header, file: Path) -> GgufTokens:
    entries = header.values.get(TOKENS)
    if not isinstance(entries, Entries) or entries.kind != STRING:
        raise Unknown(f"it has no {TOKENS}")
    names = texts(file, entries)
    if not all(names) or b"\0" in b"".join(names):
        names = [_as_read(name, token) for token, name in enumerate(names)]
    attributes = _attributes(header, file, len(names))
    named = _named(header, len(names))
    tokens = {name.decode(): token for token, name in enumerate(names) if name in KNOWN}
    ends = set()
    for use, words in FILLING.items():
        if use not in named:
            named |= _filling(use, [tokens[word] for word in words.split(" ") if word in tokens], attributes)
        if use in FILLING_ENDS and use in named:
            ends.add(named[use])
    for token, bits in enumerate(attributes):
        if bits & CONTROL and b"unused" in names[token]:
            attributes[token] |= UNUSED
    for word in ENDS.split(" "):
        if word in tokens:
            ends.add(tokens[word])
            attributes[tokens[word]] |= CONTROL
    for word in SHOWN.split(" "):
        if word in tokens:
            attributes[tokens[word]] = USER
    ends |= {named[use] for use in ("eos", "eot", "eom") if use in named}
    for *groups, word, instead in EXCEPTIONS:
        if tokens.get(word) in ends and all(any(tokens.get(other) in ends for other in group) for group in groups):
            ends.remove(tokens[word])
            attributes[tokens[word]] = instead
    return GgufTokens(names, attributes, named, frozenset(ends))


def _as_read(name: bytes, token: int) -> bytes:
    """A name ends at a zero, and is never empty."""
    return name.partition(b"\0")[0] or b"[EMPTY_%d]" % token


def _attributes(header: Header, file: Path, count: int) -> list[int]:
    kinds = header.values.get("tokenizer.ggml.token_type")
    if kinds is None:
        return [NORMAL] * count
    if not isinstance(kinds, Entries) or kinds.kind == STRING or kinds.count != count:
        raise Unknown("its types of tokens are not one for each")
    return [ATTRIBUTES.get(kind, 0) for kind in numbers(file, kinds)]


def _named(header: Header, count: int) -> dict[str, int]:
    """Tokens by their use: what the file says, and before that llama.cpp's defaults."""
    defaults = DEFAULTS.get(header.values.get("tokenizer.ggml.model", b""), (None, None, None))
    found = {use: token for use, token in zip(("bos", "eos", "unk"), defaults, strict=True) if token is not None}
    for use, keys in KEYS.items():
        for token in _numbers_of(header, keys):
            if token < count:
                found[use] = token
    return {use: token for use, token in found.items() if token < count}


def _numbers_of(header: Header, keys: tuple[str, ...]) -> Iterator[int]:
    for key in keys:
        token = header.values.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(token, int) and not isinstance(token, bool) and token >= 0:
            yield token


def _filling(use: str, tokens: list[int], attributes: list[int]) -> dict[str, int]:
    """The token that is taken for a use, which makes it a control token.

    Raises:
        Unknown: llama.cpp takes the first that its hash table holds, and it would show which.
    """
    if len(tokens) > 1 and (use in FILLING_ENDS or not all(attributes[token] & CONTROL for token in tokens)):
        raise Unknown(f"{len(tokens)} of its tokens may be its {use}")
    for token in tokens[:1]:
        attributes[token] |= CONTROL
    return {use: tokens[0]} if tokens else {}
