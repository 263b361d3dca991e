"""Names of byte-level tokens and their bytes."""

from outrider.runtimes.tokenizers.byte_level import byte_alphabet, bytes_of_names, decoded

ALPHABET = byte_alphabet()
CODES = [*range(0x500), 0x2581, 0xFFFF, 0x1F600]
NAMES = [name for code in CODES for name in (chr(code), f"a{chr(code)}Ġ", "", f"{chr(code)}é")]


def beside(name):
    """Character by character."""
    return b"".join(ALPHABET.get(each, each.encode()) for each in name)


def test_every_character_becomes_its_byte_or_stays_itself() -> None:
    for name in NAMES:
        assert bytes_of_names([name]) == [beside(name)], name
    assert bytes_of_names(NAMES) == [beside(name) for name in NAMES]


def test_names_of_bytes_alone_are_cut_where_they_end() -> None:
    names = [name for name in NAMES if all(each in ALPHABET for each in name)]
    assert len(names) > 700
    assert bytes_of_names(names) == [beside(name) for name in names]
    assert bytes_of_names([]) == []


def test_all_bytes_in_one_name() -> None:
    (found,) = bytes_of_names(["".join(ALPHABET)])
    assert sorted(found) == list(range(256))


def test_lines_are_decoded_as_each_by_itself() -> None:
    lines = ["aé".encode(), b"", b"\xe2\x96", b"\x96\xff", "\u2581".encode(), b"\xf0\x9f\x98"]
    for some in (lines, [*lines, b"two\nlines"], [*lines, b"a\rb\x85\x1c"], [b""], []):
        assert decoded(some) == [line.decode(errors="replace") for line in some]
