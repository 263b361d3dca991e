"""Models of llama.cpp: a GGUF file behind the Model protocol."""

from __future__ import annotations

import ctypes

import llama_cpp

from outrider.errors import InputError, ModelError
from outrider.runtimes.base import Named, Session, Traits
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.llamacpp.chat_template import NAMED_TOKENS
from outrider.runtimes.llamacpp.context import CACHE_TYPES, Context, Settings, Weights
from outrider.runtimes.llamacpp.session import LlamaCppSession, Texts
from outrider.runtimes.llamacpp.tokenizer import LlamaTokenizer
from outrider.runtimes.replay import ReplaySession, Snapshots
from outrider.text import Tokenizer

DEFAULTS = Settings()
MOST_SEQUENCES = 256  # llama.cpp's limit
LEAVES_OF_A_ROW = 16  # leaves of trees for which sequences are reserved
FEWEST_LEAVES = 64  # in all rows together
SNAPSHOTS_OF_A_ROW = 16  # of a recurrent state
LONGEST_NUMBER = 32  # bytes


class LlamaCppModel(Named):
    """A GGUF model in llama.cpp.

    Args:
        pointer: of the model, from llama_model_load_from_file; freed with the last session.
        name: for messages.

    Raises:
        ModelError: the model does not decode token by token.
    """

    def __init__(self, pointer: int, name: str, settings: Settings = DEFAULTS) -> None:
        self.weights = Weights(pointer)
        self.settings = settings
        self.name = name
        _refuse_unsupported(pointer, name)
        self._recurs = llama_cpp.llama_model_is_recurrent(pointer) or llama_cpp.llama_model_is_hybrid(pointer)
        vocabulary = llama_cpp.llama_model_get_vocab(pointer)
        vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self.traits = Traits(
            vocab_size,
            int(llama_cpp.llama_model_n_ctx_train(pointer)),
            frozenset(token for token in range(vocab_size) if llama_cpp.llama_vocab_is_eog(vocabulary, token)),
            bytes_per_token=_bytes_per_token(pointer, settings.cache_type),
            reads_branches=self._recurs,
            crops=not self._recurs,
            attends_over_rows=not self._recurs,
        )
        self.tokenizer: Tokenizer | None = None
        if llama_cpp.llama_vocab_type(vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            template = llama_cpp.llama_model_chat_template(pointer, None)
            self.tokenizer = LlamaTokenizer(
                vocabulary,
                self.weights,
                None if template is None else template.decode(errors="replace"),
                _named_tokens(pointer, vocab_size),
            )
        self._has_windows = llama_cpp.llama_model_n_swa(pointer) > 0

    def free_bytes(self) -> int | None:
        return free_host_bytes()

    def open(self, rows: int, capacity: int) -> Session:
        return self._open_replaying(rows, capacity) if self._recurs else self._open_sharing(rows, capacity)

    def _open_replaying(self, rows: int, capacity: int) -> ReplaySession:
        """For states that cannot be rolled back: a snapshot is a sequence."""
        sequences = min(SNAPSHOTS_OF_A_ROW * rows, MOST_SEQUENCES)
        # During a replay a text is held twice: by the snapshot and by what is read again.
        texts = Texts(self._new_context(2 * rows * capacity, sequences), sequences)
        return ReplaySession(lambda: Snapshots(texts.new), rows, capacity, self.name, self.traits)

    def _open_sharing(self, rows: int, capacity: int) -> LlamaCppSession:
        # llama.cpp may overwrite a cell that has left its sequence's sliding window, and a rollback would need it.
        # It spares cells that two sequences hold: so every sequence of a windowed model has a twin.
        twins = 2 if self._has_windows else 1
        sequences = min(rows + max(FEWEST_LEAVES, LEAVES_OF_A_ROW * rows), MOST_SEQUENCES // twins)
        if sequences < rows:
            raise InputError(
                f"{rows} rows are more than the {sequences} sequences of llama.cpp: open {sequences} or fewer"
            )
        context = self._new_context(rows * capacity, sequences * twins)
        sharing = [sequences * twin for twin in range(twins)]
        return LlamaCppSession(context, rows, capacity, sharing, self.name, self.traits)

    def _new_context(self, tokens: int, sequences: int) -> Context:
        return Context(self.weights, self.settings, self.name, self.traits.vocab_size, tokens, sequences)


def _refuse_unsupported(pointer: int, name: str) -> None:
    if llama_cpp.llama_model_has_encoder(pointer) or llama_cpp.llama_model_is_diffusion(pointer):
        raise ModelError(f"model {name} does not decode token by token: use a decoder-only causal language model")


def _bytes_per_token(pointer: int, cache_type: str) -> int:
    """Bytes of keys and values of all layers, per token."""
    heads = llama_cpp.llama_model_n_head(pointer)
    if not heads:  # Mamba: its state does not grow
        return 0
    size = llama_cpp.llama_model_n_embd(pointer) // heads
    numbers = 2 * llama_cpp.llama_model_n_layer(pointer) * llama_cpp.llama_model_n_head_kv(pointer) * size
    return int(numbers * CACHE_TYPES[cache_type].bytes)


def _named_tokens(pointer: int, vocab_size: int) -> dict[str, int]:
    """Those that the file names: llama.cpp has defaults for the others, which are not the model's."""
    found = {}
    for name, key in NAMED_TOKENS.items():
        text = ctypes.create_string_buffer(LONGEST_NUMBER)
        length = llama_cpp.llama_model_meta_val_str(
            pointer, f"tokenizer.ggml.{key}_token_id".encode(), text, LONGEST_NUMBER
        )
        if 0 < length < LONGEST_NUMBER and text.value.isdigit() and int(text.value) < vocab_size:
            found[name] = int(text.value)
    return found
