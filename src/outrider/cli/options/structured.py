"""What the answer may look like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from outrider.cli.options.files import read_text
from outrider.cli.options.group import option
from outrider.errors import SettingError
from outrider.structured import Grammar, choice, grammar, json_object, json_schema, regex

STRUCTURE = "Structured output"


@dataclass(frozen=True, slots=True)
class StructuredOptions:
    """One grammar at most, as flags: those of llama.cpp where it has them, else named as in vLLM's API."""

    json_schema: Annotated[
        str | None,
        option("--json-schema -j", "JSON|FILE", "Answer in JSON that this schema allows.", STRUCTURE),
    ] = None
    json_schema_file: Annotated[
        Path | None, option("--json-schema-file", "FILE", "The same, of a file.", STRUCTURE)
    ] = None
    json_object: Annotated[bool, option("--json-object", None, "Answer with a JSON object.", STRUCTURE)] = False
    grammar: Annotated[
        str | None, option("--grammar", "TEXT", "Answer by a grammar, in GBNF or Lark syntax.", STRUCTURE)
    ] = None
    grammar_file: Annotated[Path | None, option("--grammar-file", "FILE", "The same, of a file.", STRUCTURE)] = None
    regex: Annotated[str | None, option("--regex", "REGEX", "Answer with what matches.", STRUCTURE)] = None
    choice: Annotated[
        list[str] | None, option("--choice", "TEXT", "Answer with this text, or another --choice.", STRUCTURE)
    ] = None

    def wanted(self) -> Grammar | None:
        """The grammar; None where none is given.

        Raises:
            SettingError: several are given, or one cannot be read.
            InputError: a file cannot be read.
        """
        given = {
            "--json-schema": self.json_schema is not None,
            "--json-schema-file": self.json_schema_file is not None,
            "--json-object": self.json_object,
            "--grammar": self.grammar is not None,
            "--grammar-file": self.grammar_file is not None,
            "--regex": self.regex is not None,
            "--choice": bool(self.choice),
        }
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise SettingError(f"{' and '.join(names)} are both given: leave one of them out")
        if self.json_schema is not None:
            return json_schema(_schema_text(self.json_schema))
        if self.json_schema_file is not None:
            return json_schema(read_text(self.json_schema_file))
        if self.grammar is not None:
            return grammar(self.grammar)
        if self.grammar_file is not None:
            return grammar(read_text(self.grammar_file))
        if self.regex is not None:
            return regex(self.regex)
        if self.choice:
            return choice(self.choice)
        return json_object() if self.json_object else None


def _schema_text(given: str) -> str:
    """JSON as it is; anything else names a file."""
    return given if given.lstrip()[:1] in ("{", "") or given.strip() in ("true", "false") else read_text(Path(given))
