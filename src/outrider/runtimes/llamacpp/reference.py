"""llama.cpp's own greedy decoding, without our session: the reference for checks and benchmarks."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence

import llama_cpp
import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.llamacpp.context import TOKENS_OF_A_PASS, context_parameters, free_context
from outrider.runtimes.llamacpp.model import LlamaCppModel


class BareLoop:
    """llama_decode and argmax, one token after the other."""

    def __init__(self, model: LlamaCppModel) -> None:
        self._model = model
        parameters = context_parameters(model.settings, model.traits.context_length)
        self._context = llama_cpp.llama_init_from_model(model.weights.pointer, parameters)
        if self._context is None:
            raise ModelError(f"model {model.name} cannot be opened for {model.traits.context_length} tokens")
        weakref.finalize(self, free_context, self._context, model.weights)

    def stream(self, prompt: Sequence[int], max_tokens: int) -> Iterator[int]:
        """The new tokens, up to a stop token."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        fed = list(prompt)
        for _ in range(max_tokens):
            for start in range(0, len(fed), TOKENS_OF_A_PASS):
                self._feed(fed[start : start + TOKENS_OF_A_PASS])
            logits = llama_cpp.llama_get_logits_ith(self._context, -1)
            token = int(np.ctypeslib.as_array(logits, (self._model.traits.vocab_size,)).argmax())
            yield token
            if token in self._model.traits.stop_token_ids:
                return
            fed = [token]

    def _feed(self, tokens: Sequence[int]) -> None:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise ModelError(f"model {self._model.name} failed in llama.cpp")
