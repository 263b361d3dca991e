"""Random JSON schemas whose documents are short: every length has a bound but that of a number's digits.

A model that is no good with numbers writes digits without end. `with_last_digits` bounds them too, so that any model
comes to an end.
"""

from __future__ import annotations

from random import Random
from typing import Any

Schema = dict[str, Any]

NAMES = ("id", "name", "customer_identifier", "naïve", 'with "quotes"', "back\\slash", "東京", "a b", "x.y", "", "🙂")
WORDS = ("red", "green", "light blue", 'say "no"', "päuschen", "1", "null", "\\n", "a\nb")
PATTERNS = (
    "^[a-z]{2,4}$",
    "^[A-Z][a-z]{0,6}( [A-Z][a-z]{0,6})?$",
    "^(yes|no|maybe)$",
    "^\\d{3}-\\d{2}$",
    "^#[0-9a-f]{6}$",
)
FORMATS = ("uuid", "ipv4")  # which jsonschema checks by itself; a grammar of dates knows no leap years
DEEPEST = 3


def random_schema(random: Random) -> Schema:
    """A schema of a few levels; the same from a generator in the same state."""
    definitions: Schema = {}
    schema = _object(random, 0, definitions) if random.random() < 0.7 else _any(random, 0, definitions)
    return {**schema, "$defs": definitions} if definitions else schema


def with_last_digits(schema: Any) -> Any:
    """The same schema, whose numbers have three digits after the point at the most.

    They are multiples of an eighth, which is exact in floating point, so that validators agree.
    """
    if isinstance(schema, list):
        return [with_last_digits(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {name: with_last_digits(each) for name, each in schema.items()}
    return {**bounded, "multipleOf": 0.125} if schema.get("type") == "number" else bounded


def _any(random: Random, depth: int, definitions: Schema) -> Schema:
    leaves = (_string, _integer, _number, _constant, _options, _boolean, _null)
    nested = (_object, _array, _tuple, _either, _reference)
    kinds = leaves if depth >= DEEPEST or random.random() < 0.55 else nested
    return random.choice(kinds)(random, depth + 1, definitions)


def _object(random: Random, depth: int, definitions: Schema) -> Schema:
    names = random.sample(NAMES, random.randint(1, 4))
    schema: Schema = {
        "type": "object",
        "properties": {name: _any(random, depth, definitions) for name in names},
        "required": [name for name in names if random.random() < 0.7],
        "additionalProperties": False,
    }
    return schema


def _array(random: Random, depth: int, definitions: Schema) -> Schema:
    least = random.randint(0, 2)
    return {
        "type": "array",
        "items": _any(random, depth, definitions),
        "minItems": least,
        "maxItems": least + random.randint(0, 2),
    }


def _tuple(random: Random, depth: int, definitions: Schema) -> Schema:
    items = [_any(random, depth, definitions) for _ in range(random.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _either(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"anyOf": [_any(random, depth, definitions) for _ in range(random.randint(2, 3))]}


def _reference(random: Random, depth: int, definitions: Schema) -> Schema:
    name = f"part{len(definitions)}"
    definitions[name] = {}  # keeps the name while the definition is made
    definitions[name] = _any(random, depth, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _string(random: Random, depth: int, definitions: Schema) -> Schema:
    kind = random.randrange(3)
    if kind == 0:
        least = random.randint(0, 3)
        return {"type": "string", "minLength": least, "maxLength": least + random.randint(0, 8)}
    if kind == 1:
        return {"type": "string", "pattern": random.choice(PATTERNS)}
    return {"type": "string", "format": random.choice(FORMATS)}


def _integer(random: Random, depth: int, definitions: Schema) -> Schema:
    least = random.randint(-1000, 1000)
    names = random.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
    return {"type": "integer", names[0]: least, names[1]: least + random.randint(2, 5000)}


def _number(random: Random, depth: int, definitions: Schema) -> Schema:
    least = random.randint(-50, 50)
    return {"type": "number", "minimum": least, "maximum": least + random.randint(1, 100)}


def _constant(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"const": random.choice([*WORDS, 3, -1.5, True, None, [1, "two"], {"a": None}])}


def _options(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"enum": random.sample([*WORDS, 1, 2.5, False, None], random.randint(1, 4))}


def _boolean(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"type": random.choice(["boolean", ["boolean", "null"]])}


def _null(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"type": "null"}
