"""Structured output: answers that follow a JSON schema, a regular expression, a list of choices or a grammar.

    from outrider.structured import json_schema

    decoder.generate(prompt, structured=json_schema({"type": "object", "properties": {"name": {"type": "string"}}}))

Two values:

- `Grammar`: what an answer may look like, plain data. `json_schema`, `json_object`, `regex`, `choice` and `grammar`
  make one. A Request takes it as `structured=`.
- `GrammarConstraint(grammar, tokenizer, vocab_size, stop_token_ids)`: it in the terms of a tokenizer, a logits
  processor. `prepare_request` makes it. Drafter and target ask it about positions of chains and trees, in any order.

The engine needs nothing else: masks reach the target's distributions and the drafter's q through the settings, tokens
that are forced are drafted for nothing, and a text ends where its grammar does.

All matching is done by llguidance (extra `structured`), which is imported when a grammar is used.
"""

from outrider.structured.constraint import GrammarConstraint
from outrider.structured.grammars import Grammar, choice, grammar, json_object, json_schema, regex

__all__ = ["Grammar", "GrammarConstraint", "choice", "grammar", "json_object", "json_schema", "regex"]
