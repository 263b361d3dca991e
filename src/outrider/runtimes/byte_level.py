"""How byte-level tokenizers write bytes."""

from __future__ import annotations


def byte_alphabet() -> dict[str, bytes]:
    """The characters by which byte-level tokenizers (GPT-2) write bytes: printable ones as they are, the others from
    U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): bytes([byte]) for byte in printable} | {
        chr(0x100 + place): bytes([byte]) for place, byte in enumerate(others)
    }
