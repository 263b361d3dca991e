"""Names of byte-level tokens and their bytes."""

from outrider.runtimes.tokenizers.byte_level import byte_alphabet, bytes_of_names


def test_every_character_becomes_its_byte_or_stays_itself() -> None:
    alphabet, bytes_of = byte_alphabet(), bytes_of_names()
    for code in [*range(0x500), 0x2581, 0xFFFF, 0x1F600]:
        character = chr(code)
        expected = alphabet.get(character, character.encode())
        for name in (character, f"a{character}Ġ", f"{character}é"):
            beside = [alphabet.get(each, each.encode()) for each in name]
            assert bytes_of(name) == b"".join(beside), name
        assert bytes_of(character) == expected


def test_all_bytes_in_one_name() -> None:
    name = "".join(byte_alphabet())
    assert sorted(bytes_of_names()(name)) == list(range(256))
