"""Random JSON schemas: a few of those that `python -m benchmarks schemas` runs by the hundred."""

import json
from random import Random
from unittest.mock import patch

import pytest

pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

import jsonschema

from benchmarks.schemas.generator import random_schema
from benchmarks.schemas.run import DRAFTERS, count_valid, schemas_of, why_invalid
from outrider.structured import GrammarConstraint
from tiny.pieces import bytes_and_words, json_table

TOKENIZER = bytes_and_words()
TARGET, DRAFT = json_table(TOKENIZER, 1), json_table(TOKENIZER, 2)
SCHEMAS = 8


def test_documents_are_valid_whatever_drafts():
    counts = list(count_valid(TARGET, DRAFT, schemas_of(range(1000, 1000 + SCHEMAS), ending=False)))
    assert {count.drafter for count in counts} == set(DRAFTERS)
    assert [wrong for count in counts for wrong in count.wrong] == []
    assert [count.valid for count in counts] == [SCHEMAS] * len(counts)
    greedy = {count.tokens for count in counts if count.temperature == 0}
    assert len(greedy) == 1  # the same documents


def test_without_a_mask_they_are_not():
    with patch.object(GrammarConstraint, "__call__", lambda self, output, logits: logits):
        count = next(count_valid(TARGET, DRAFT, schemas_of(range(4), ending=False)))
    assert count.valid == 0
    assert count.wrong or count.unfinished


def test_schemas_are_schemas_and_differ():
    schemas = [random_schema(Random(number)) for number in range(60)]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    assert len({json.dumps(schema) for schema in schemas}) > 55
    assert random_schema(Random(7)) == random_schema(Random(7))


def test_numbers_have_a_last_digit_where_that_is_asked_for():
    plain, ending = (json.dumps(schemas_of(range(60), ending)) for ending in (False, True))
    assert plain.count('"type": "number"') == ending.count('"multipleOf": 0.125') > 5
    assert ending.replace(', "multipleOf": 0.125', "") == plain


def test_what_is_wrong_is_said():
    assert why_invalid('{"a": 1}', {"type": "object"}) is None
    assert "is not of type" in why_invalid("[]", {"type": "object"})
    assert why_invalid("{", {}) is not None
    assert "is not a 'date'" in why_invalid('"2024-13-01"', {"format": "date"})
