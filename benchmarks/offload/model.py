"""A made-up model of 1.2 billion parameters: the shapes of Llama-3.2-1B, random weights in bfloat16."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from outrider.runtimes.base import Model, Named, Pass, Scored, Session
from outrider.runtimes.ledger import Ledger

CONFIG = LlamaConfig(
    architectures=["LlamaForCausalLM"],
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
    dtype=torch.bfloat16,
    eos_token_id=None,
)
DEVIATION = 0.02
IMPOSED = 1000.0  # added to the logit of the token that comes next


def write(folder: Path) -> None:
    """The folder, layer by layer, so that memory stays small; nothing where it is there already."""
    last = folder / "config.json"
    if last.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    for name, tensors in _files():
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    CONFIG.save_pretrained(folder)


def files(folder: Path) -> list[Path]:
    """Those that hold weights."""
    return sorted(folder.glob("*.safetensors"))


def drop_pages(paths: list[Path]) -> None:
    """Have the operating system forget what it holds of these files, as far as no process has it mapped."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read() -> int:
    """What this process has had the disk read."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


class Imposed(Named):
    """The model with a text imposed on it: its passes are what they are, and the next token depends on the place alone.

    So a drafter can be right as often as it is told to be. Near ties of random logits, which round otherwise in wider
    passes, do not matter.

    Args:
        text: the token at each place.
        cold: files whose pages are dropped before each pass.
    """

    def __init__(self, model: Model, text: list[int], cold: list[Path]) -> None:
        self._model, self._text, self._cold = model, text, cold
        self.name, self.traits, self.tokenizer = model.name, model.traits, model.tokenizer

    def free_bytes(self) -> int | None:
        return self._model.free_bytes()

    def open(self, rows: int, capacity: int) -> Session:
        return _Session(self._model.open(rows, capacity), self._text, self._cold, rows, capacity)


class _Session:
    def __init__(self, session: Session, text: list[int], cold: list[Path], rows: int, capacity: int) -> None:
        self._session, self._text, self._cold = session, text, cold
        self._ledger = Ledger(rows, capacity)
        self.rows, self.capacity = rows, capacity
        self.length, self.rollout = session.length, session.rollout

    @torch.inference_mode()
    def extend(self, work: Pass) -> Scored:
        drop_pages(self._cold)
        first = {row: self._ledger.end(row) - self._ledger.length(row) for row in work.rows}
        self._ledger.extend(work.rows, work.tokens, work.parents)
        scored = self._session.extend(work)
        place = 0
        for row, new, wanted in zip(work.rows, work.tokens, work.wanted_counts, strict=True):
            for node in range(first[row] + len(new) - wanted, first[row] + len(new)):
                position = self._ledger.length(row) + len(self._ledger.ancestors(row, node))
                scored.logits[place, self._text[position]] += IMPOSED
                place += 1
        return scored

    def keep(self, row: int, path: Sequence[int]) -> None:
        self._session.keep(row, path)
        self._ledger.keep(row, path)

    def truncate(self, row: int, length: int) -> None:
        self._session.truncate(row, length)
        self._ledger.truncate(row, length)

    def adopt(self, row: int, source: int, length: int) -> None:
        self._session.adopt(row, source, length)
        self._ledger.adopt(row, source, length)

    def release(self, row: int) -> None:
        self._session.release(row)
        self._ledger.truncate(row, 0)


def _files() -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, DEVIATION, generator=generator)

    hidden, inner, values = CONFIG.hidden_size, CONFIG.intermediate_size, 64 * CONFIG.num_key_value_heads
    ones = torch.ones(hidden, dtype=torch.bfloat16)
    yield "embedding.safetensors", {"model.embed_tokens.weight": random(CONFIG.vocab_size, hidden)}
    for layer in range(CONFIG.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        yield (
            f"layer-{layer:02}.safetensors",
            {
                f"{prefix}self_attn.q_proj.weight": random(hidden, hidden),
                f"{prefix}self_attn.k_proj.weight": random(values, hidden),
                f"{prefix}self_attn.v_proj.weight": random(values, hidden),
                f"{prefix}self_attn.o_proj.weight": random(hidden, hidden),
                f"{prefix}mlp.gate_proj.weight": random(inner, hidden),
                f"{prefix}mlp.up_proj.weight": random(inner, hidden),
                f"{prefix}mlp.down_proj.weight": random(hidden, inner),
                f"{prefix}input_layernorm.weight": ones.clone(),
                f"{prefix}post_attention_layernorm.weight": ones.clone(),
            },
        )
    yield "norm.safetensors", {"model.norm.weight": ones.clone()}
