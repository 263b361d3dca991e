"""Refuses GGUF files over which llama.cpp would end the whole process: each limit is an assertion of its own."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from outrider.errors import ModelError
from outrider.runtimes.files.gguf_parts import part_of
from outrider.runtimes.llamacpp.header import STRING, TOKENS, Damaged, Entries, Header, read_header, texts

MOST_LAYERS = 512
MOST_EXPERTS = 512
LONGEST_CONTEXT = 2**30  # tokens
FLOAT32 = 0
WHOLE_AND_DOUBLE = range(24, 29)  # ggml's types of 8 to 64 bits, which it does not multiply
MULTIPLIED = re.compile(r"(token_embd|output|attn_\w+|ffn_(gate|up|down))\.weight$")
NORM = re.compile(r"norm\.weight$")
ROPE_SCALINGS = (b"none", b"linear", b"yarn", b"longrope")
SENTENCEPIECE = b"llama"
OF_ENCODERS = (b"bert",)
# Architectures for which llama.cpp insists that whole heads are turned, and that some layer has the window.
TURN_WHOLE_HEADS = ("qwen2", "qwen2moe", "qwen3", "qwen3moe", "olmo2", "olmoe", "granite", "granitemoe", "smollm3")
WITH_WINDOWS = ("gemma2", "gemma3", "olmo2")


def check_file(file: Path) -> Header:
    """Look through the header, and return it; of a divided file that of the first part.

    Raises:
        ModelError: the file is damaged, or what it says of itself cannot be true; or it is another part.
    """
    number, count = part_of(file.name)
    if number != 1:
        first = f"NAME-00001-of-{count:05}.gguf"
        raise ModelError(f"model file {file} is part {number} of {count}: give the first, {first}")
    try:
        header = read_header(file)
        architecture = header.values.get("general.architecture")
        if not isinstance(architecture, bytes):
            raise Damaged("it does not name its architecture")
        sizes = _Sizes(header, architecture.decode(errors="replace"))
        _check_sizes(sizes)
        _check_rotation(sizes)
        _check_tokenizer(header)
        _check_tensors(header)
        return header
    except (Damaged, OSError, ValueError) as error:
        raise ModelError(f"model file {file} cannot be opened: {error}; download it again") from error


def require_different_tokens(file: Path, header: Header) -> None:
    """Raises ModelError where two tokens have one name, over which llama.cpp ends the process.

    Not part of `check_file`: to read all names takes as long as a pass, and the native runtime needs no such thing.
    """
    entries = header.values.get(TOKENS)
    if entries is None:
        return
    seen: set[bytes] = set()
    for place, text in enumerate(texts(file, entries)):
        name = text.partition(b"\0")[0] or b"[EMPTY_%d]" % place  # as llama.cpp reads and names them
        if name in seen:
            raise ModelError(
                f"model file {file} cannot be opened: it has two tokens {name.decode(errors='replace')!r}; download it "
                "again"
            )
        seen.add(name)


class _Sizes:
    """The settings that belong to the architecture."""

    def __init__(self, header: Header, architecture: str) -> None:
        self._values = header.values
        self.architecture = architecture

    def name(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def find(self, key: str) -> Any:
        return self._values.get(self.name(key))

    def number(self, key: str) -> int | None:
        """Raises Damaged where it is there and no whole number; None where it is missing, or one for each layer."""
        value = self.find(key)
        if value is None or isinstance(value, Entries):
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise Damaged(f"{self.name(key)} is {value!r}, and no whole number")
        return value

    @property
    def recurs(self) -> bool:
        return any(key.startswith(self.name("ssm.")) for key in self._values)


def _check_sizes(sizes: _Sizes) -> None:
    for key, least, most in (("block_count", 1, MOST_LAYERS), ("context_length", 2, LONGEST_CONTEXT)):
        value = sizes.number(key)
        if value is not None and not least <= value <= most:
            raise Damaged(f"{sizes.name(key)} is {value}: it must lie within {least} to {most}")
    experts, used = sizes.number("expert_count") or 0, sizes.number("expert_used_count") or 0
    if not used <= experts <= MOST_EXPERTS:
        raise Damaged(f"it uses {used} of {experts} experts: at most {MOST_EXPERTS} are possible")
    if sizes.find("expert_group_count") and not experts:
        raise Damaged("it has groups of experts and no experts")
    named = sizes.find("attention.sliding_window") or sizes.architecture == "gemma2"
    if named and sizes.find("attention.sliding_window_pattern") == 1 and sizes.architecture in WITH_WINDOWS:
        raise Damaged("none of its layers has the window that it names")
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        value = sizes.find(key)
        if value is not None and not (isinstance(value, float) and math.isfinite(value) and value >= 0):
            raise Damaged(f"{sizes.name(key)} is {value}: it must be 0 or more")


def _check_rotation(sizes: _Sizes) -> None:
    scaling = sizes.find("rope.scaling.type")
    if scaling is not None and scaling not in ROPE_SCALINGS:
        raise Damaged(f"{sizes.name('rope.scaling.type')} is {scaling!r}, which is unknown")
    rotated = sizes.number("rope.dimension_count")
    if rotated is None or (rotated == 0 and sizes.recurs):
        return
    heads, width = sizes.number("attention.head_count"), sizes.number("embedding_length")
    lengths = [sizes.number("attention.key_length"), sizes.number("attention.key_length_swa")]
    lengths.append(width // heads if heads and width else None)
    longest = max((length for length in lengths if length is not None), default=LONGEST_CONTEXT)
    if rotated % 2 or not 2 <= rotated <= longest:
        raise Damaged(
            f"{sizes.name('rope.dimension_count')} is {rotated}: it must be even and lie within 2 to {longest}"
        )
    if sizes.architecture in TURN_WHOLE_HEADS and rotated != (lengths[0] or lengths[-1] or rotated):
        raise Damaged(f"it turns {rotated} dimensions of heads of {lengths[0] or lengths[-1]}")


def _check_tokenizer(header: Header) -> None:
    tokens, kind = header.values.get(TOKENS), header.values.get("tokenizer.ggml.model")
    if kind in OF_ENCODERS:
        raise Damaged("its tokenizer is one of encoders")
    if tokens is None:
        return
    if not isinstance(tokens, Entries) or tokens.kind != STRING:
        raise Damaged(f"{TOKENS} is no list of texts")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        beside = header.values.get(key)
        if beside is not None and not (isinstance(beside, Entries) and beside.count == tokens.count):
            raise Damaged(f"{key} does not have one entry for each of {tokens.count} tokens")
    if kind == SENTENCEPIECE and header.lacks_bytes:
        raise Damaged("its tokenizer has no tokens for single bytes, without which llama.cpp cannot read every text")


def _check_tensors(header: Header) -> None:
    for name, tensor in header.tensors.items():
        if tensor.kind in WHOLE_AND_DOUBLE and MULTIPLIED.search(name):
            raise Damaged(f"{name} holds whole numbers or doubles, which llama.cpp does not multiply")
        if tensor.kind != FLOAT32 and len(tensor.shape) == 1 and NORM.search(name):
            raise Damaged(f"{name} is not in float32")
