"""Static buffers for what passes return, at addresses that graphs know."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outrider.runtimes.torch.cuda.forward import SlotForward
from outrider.runtimes.torch.cuda.verdicts.layout import padded

MOST_DRAFTED = 128  # tokens of a rollout


class Outputs:
    """Logits, hidden states and the tokens of rollouts.

    Args:
        tokens: the most tokens of a pass that is replayed.
        rows: the most rows.

    Attributes:
        tokens: as given.
        logits: [tokens, vocab].
        drafted: int64 [MOST_DRAFTED, rows], the tokens that a rollout chose.
    """

    def __init__(self, model: SlotForward, tokens: int, rows: int) -> None:
        self.tokens = tokens
        self._model = model
        self._hidden: dict[int, torch.Tensor] = {}
        self._drawn: dict[tuple[int, int, int], torch.Tensor] = {}
        self.logits = self._buffer(model.vocab_size)
        self.drafted = torch.zeros(MOST_DRAFTED, rows, dtype=torch.int64, device=model.device.place)

    def hidden(self, layers: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """The buffers [tokens, hidden size] of these layers; each is made when it is first asked for."""
        for layer in layers:
            if layer not in self._hidden:
                self._hidden[layer] = self._buffer(self._model.hidden_size)
        return tuple(self._hidden[layer] for layer in layers)

    def drawn(self, count: int, rows: int, vocab_size: int) -> torch.Tensor:
        """float32 [at least `count`, rows, vocab_size]: the distributions that the tokens of a rollout are drawn from.

        It is made when it is first asked for.
        """
        shape = (padded(count), rows, vocab_size)
        if shape not in self._drawn:
            self._drawn[shape] = torch.zeros(shape, device=self.logits.device)
        return self._drawn[shape]

    def _buffer(self, size: int) -> torch.Tensor:
        return torch.zeros(self.tokens, size, dtype=self._model.dtype, device=self._model.device.place)
