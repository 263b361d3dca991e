"""Tests look at what the package does, not at its private members; one that has to is named here, with the reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
THEIR_OWN = {"self", "cls"}  # a class of the tests may keep what it likes
FAULT = "a fault or a mistake that is planted there on purpose"
CACHE = "what a cache holds is compared with a fresh prefill after every step, tentative tokens included"
ALLOWED = {
    ("drafters/test_translation.py", "_agreeing"): FAULT,
    ("drafters/test_suffix_memory.py", "_remembered"): "what is remembered of a text that ended shows nowhere else",
    ("drafters/test_transformers_heads.py", "_run"): FAULT,
    ("engine/test_engine_properties.py", "_keys"): FAULT,
    ("engine/test_engine_properties.py", "_ledger"): CACHE,
    ("engine/test_engine_properties.py", "_prefixes"): CACHE,
    ("engine/test_engine_properties.py", "_scheduler"): CACHE,
    ("engine/test_engine_properties.py", "_tentative"): CACHE,
    ("jobs/test_jobs.py", "_descriptor"): FAULT,
    ("runtimes/test_native.py", "_exit"): "of the module os",
    (
        "runtimes/test_torch_sessions.py",
        "_readers",
    ): "both ways of reading give the same logits",
    ("runtimes/test_user_models.py", "_attn_implementation"): "of transformers: a user's model is as it was",
    ("runtimes/test_user_models.py", "_runs"): "that the twin shares the weights, and not the config",
    ("tiny/standing.py", "_C"): "of PyTorch: it has no public name for calls that no mode sees",
    ("trace/test_trace.py", "_file"): FAULT,
}


def private_members(source: str) -> Iterator[tuple[str, int]]:
    """(name, line) of every private attribute that is asked of anything but `self`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in THEIR_OWN):
                yield node.attr, node.lineno


def found() -> dict[tuple[str, str], list[int]]:
    lines: dict[tuple[str, str], list[int]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        if path.name == "mutations.py":  # planted mistakes change what they have to
            continue
        for name, line in private_members(path.read_text("utf-8")):
            lines.setdefault((path.relative_to(TESTS).as_posix(), name), []).append(line)
    return lines


def test_tests_ask_for_no_private_member() -> None:
    assert {at: lines for at, lines in found().items() if at not in ALLOWED} == {}


def test_what_is_allowed_is_needed() -> None:
    assert set(ALLOWED) - set(found()) == set()


def test_a_private_member_is_found() -> None:
    source = "def test(self, engine):\n    self._mine = engine._session\n    assert engine.rows.__len__()\n"
    assert list(private_members(source)) == [("_session", 2)]
