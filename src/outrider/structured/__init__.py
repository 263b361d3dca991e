"""Structured output and tools: answers that follow a grammar, and answers read apart as they come.

    from outrider.structured import json_schema

    decoder.generate(prompt, structured=json_schema({"type": "object", "properties": {"name": {"type": "string"}}}))

**Grammars.**

- `Grammar`: what an answer may look like, plain data. `json_schema`, `json_object`, `regex`, `choice` and `grammar`
  make one. A Request takes it as `structured=`.
- `GrammarConstraint(grammar, tokenizer, vocab_size, stop_token_ids)`: it in the terms of a tokenizer, a logits
  processor. `prepare_request` makes it. Drafter and target ask it about positions of chains and trees, in any order.

The engine needs nothing else: masks reach the target's distributions and the drafter's q through the settings, tokens
that are forced are drafted for nothing, and a text ends where its grammar does. All matching is done by llguidance
(extra `structured`), which is imported when a grammar is used.

**Reasoning.** `reasons(chat_template)` says whether a model may think first, `opened_tag(prompt, tokenizer)` whether a
prompt has opened its thoughts already. `after_reasoning(grammar, tokenizer, opened)` lets a grammar begin behind them.

**Tools** (`outrider.structured.tools`). A Request takes `tools=`, for the chat template. `tool_format(chat_template)`
says how the model writes calls, `calls_grammar` makes it write one, and an `AnswerReader` tells content, reasoning and
calls apart, token by token.
"""

from outrider.structured.constraint import GrammarConstraint
from outrider.structured.grammars import Grammar, choice, grammar, json_object, json_schema, regex
from outrider.structured.reasoning import after_reasoning, opened_tag, reasons

__all__ = [
    "Grammar",
    "GrammarConstraint",
    "after_reasoning",
    "choice",
    "grammar",
    "json_object",
    "json_schema",
    "opened_tag",
    "reasons",
    "regex",
]
