"""The peers of llama.cpp: its bare loop, and llama-cpp-python with and without its prompt lookup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import llama_cpp
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from benchmarks.peers.timing import timed
from outrider.bench.systems import System
from outrider.runtimes.llamacpp.context import TOKENS_OF_A_PASS, available_threads
from outrider.runtimes.llamacpp.model import LlamaCppModel
from outrider.runtimes.llamacpp.reference import BareLoop


def bare_loop_system(model: LlamaCppModel) -> System:
    """llama_decode and argmax in a loop, as llama-bench measures it, with the same weights and settings."""
    return timed(BareLoop(model).stream)


def llama_cpp_python_system(file: Path, target: LlamaCppModel, lookup_tokens: int | None = None) -> System:
    """llama-cpp-python's own greedy generation.

    Args:
        lookup_tokens: how many tokens its LlamaPromptLookupDecoding drafts; None decodes plainly.
    """
    threads = target.settings.threads or available_threads()
    draft_model = None if lookup_tokens is None else LlamaPromptLookupDecoding(num_pred_tokens=lookup_tokens)
    llama = llama_cpp.Llama(
        str(file),
        n_ctx=target.traits.context_length,
        n_batch=TOKENS_OF_A_PASS,
        n_threads=threads,
        n_threads_batch=threads,
        flash_attn=True,
        draft_model=draft_model,
        logits_all=draft_model is not None,  # llama-cpp-python needs them for a draft, and allocates none by default
        verbose=False,
    )

    def stream(prompt: Sequence[int], max_tokens: int) -> Iterator[int]:
        llama.reset()
        for token in islice(llama.generate(list(prompt), temp=0.0), max_tokens):
            yield token
            if token in target.traits.stop_token_ids:
                return

    return timed(stream)
