"""A real model behind another tokenizer: the first tokens of its own only, in the opposite order."""

import json
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from outrider import Model
from outrider.runtimes.base import Pass, Scored
from outrider.runtimes.ledger import LedgerSession
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer


class Renumbered:
    """A model that knows `count` of another's tokens; token t is the other's token count - 1 - t."""

    def __init__(self, model: Model, count: int) -> None:
        self._model = model
        self.name = f"{model.name} of {count} tokens"
        ends = frozenset(count - 1 - token for token in model.traits.stop_token_ids)
        self.traits = replace(model.traits, vocab_size=count, stop_token_ids=ends)
        self.tokenizer = _renumbered(model.tokenizer, count)

    def open(self, rows: int, capacity: int) -> "_Session":
        return _Session(self._model.open(rows, capacity), self.traits.vocab_size)

    def free_bytes(self) -> int | None:
        return self._model.free_bytes()


class _Session:
    def __init__(self, session: Any, count: int) -> None:
        self._session = session
        self._count = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def extend(self, work: Pass) -> Scored:
        own = [[self._count - 1 - token for token in new] for new in work.tokens]
        scored = self._session.extend(replace(work, tokens=own))
        return replace(scored, logits=scored.logits[:, : self._count].flip(-1))

    def rollout(self, rows, tokens, count, vocab_size):
        return LedgerSession.rollout(self, rows, tokens, count, vocab_size)


def _renumbered(tokenizer: Any, count: int) -> HuggingFaceTokenizer:
    """Merges of later tokens are left out, so that what they would make stays in pieces."""
    settings = json.loads(tokenizer.wrapped.backend_tokenizer.to_str())
    model = settings["model"]
    model["vocab"] = {name: count - 1 - token for name, token in model["vocab"].items() if token < count}
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    model["merges"] = [merge for merge in merges if {*merge, "".join(merge)} <= model["vocab"].keys()]
    for added in settings["added_tokens"]:
        added["id"] = count - 1 - added["id"]
    ends = {"eos_token": tokenizer.wrapped.eos_token}
    return HuggingFaceTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(settings)), **ends)
    )
