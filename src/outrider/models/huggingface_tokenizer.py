"""A Hugging Face tokenizer behind the Tokenizer protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any


class HuggingFaceTokenizer:
    """Wraps a tokenizer of transformers (PreTrainedTokenizerBase), or one that mlx-lm wrapped already."""

    def __init__(self, tokenizer: Any) -> None:
        self.wrapped = tokenizer

    @cached_property
    def fingerprint(self) -> str:
        vocabulary = sorted(self.wrapped.get_vocab().items())
        special = sorted(self.wrapped.all_special_ids)
        return hashlib.sha256(json.dumps([vocabulary, special]).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self.wrapped.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.wrapped.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None:
        if not getattr(self.wrapped, "chat_template", None):
            return None
        text = self.wrapped.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return [int(token) for token in self.wrapped.encode(text, add_special_tokens=False)]
