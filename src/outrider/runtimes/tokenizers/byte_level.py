"""How byte-level tokenizers write bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

NO_BYTE = 0xFFFF  # is none of Latin-1


def byte_alphabet() -> dict[str, bytes]:
    """The characters by which byte-level tokenizers (GPT-2) write bytes: printable ones as they are, the others from
    U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): bytes([byte]) for byte in printable} | {
        chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)
    }


def bytes_of_names(names: Sequence[str]) -> list[bytes]:
    """The bytes of tokens in this notation. A character that stands for no byte is itself.

    A tokenizer's whole vocabulary is asked for while somebody waits for the first token: all go through in one piece.
    """
    alphabet = byte_alphabet()
    elsewhere = {byte: NO_BYTE for byte in range(0x80, 0x100) if chr(byte) not in alphabet}
    to_byte = elsewhere | {ord(name): byte[0] for name, byte in alphabet.items()}

    try:  # each character is one byte
        joined = "".join(names).translate(to_byte).encode("latin-1")
        return [joined[start:end] for start, end in pairwise(accumulate(map(len, names), initial=0))]
    except UnicodeEncodeError:
        return [b"".join([alphabet.get(character, character.encode()) for character in name]) for name in names]


def decoded(lines: Sequence[bytes]) -> list[str]:
    """Each of them as text, what is no UTF-8 replaced."""
    found = b"\n".join(lines).decode(errors="replace").split("\n")
    return found if len(found) == len(lines) else [line.decode(errors="replace") for line in lines]
