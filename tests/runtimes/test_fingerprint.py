"""A model's files are told apart from others under the same path."""

from outrider.runtimes.files.fingerprint import PIECE, weights_fingerprint


def test_other_weights_under_the_same_path(tmp_path):
    file = tmp_path / "model.gguf"
    assert weights_fingerprint(file) is None
    seen = set()
    for content in (b"one", b"two", b"x" * 5 * PIECE, b"x" * (5 * PIECE - 1) + b"y", b"y" * 5 * PIECE):
        file.write_bytes(content)
        assert weights_fingerprint(file) == weights_fingerprint(file)
        seen.add(weights_fingerprint(file))
    middle = bytearray(b"x" * 5 * PIECE)
    middle[2 * PIECE : 3 * PIECE] = b"z" * PIECE
    file.write_bytes(middle)
    seen.add(weights_fingerprint(file))
    assert len(seen) == 6


def test_every_file_that_a_text_depends_on_counts(tmp_path):
    assert weights_fingerprint(tmp_path) is None
    seen = set()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (tmp_path / name).write_text(name)
        seen.add(weights_fingerprint(tmp_path))
    (tmp_path / "README.md").write_text("words about it")
    seen.add(weights_fingerprint(tmp_path))
    assert len(seen) == 4
