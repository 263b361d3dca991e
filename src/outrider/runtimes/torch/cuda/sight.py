"""What the new tokens of a pass see of a slotted cache, made on the device: masks never come from the host.

A slot holds a text in order: places below its *base* are committed, and every new token sees them. The tentative
tokens of this pass and of those before it lie at base, base + 1, ... in the order in which they were fed. A token's
*ancestors* are bits: bit n % 64 of word n // 64 is set where the token sees the place base + n, its own included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

WORD = 64  # bits


def bits_of(ancestors: torch.Tensor) -> torch.Tensor:
    """The bits one by one, bool [rows, width, 64 words]; ancestors int64 [rows, width, words]."""
    shifts = torch.arange(WORD, device=ancestors.device)
    return ((ancestors[..., None] >> shifts) & 1).flatten(-2).bool()


def words_of(bits: torch.Tensor) -> torch.Tensor:
    """What `bits_of` takes apart: int64 [rows, width, words] of bool [rows, width, 64 words]."""
    shifts = torch.arange(WORD, device=bits.device)
    whole = bits.view(*bits.shape[:-1], -1, WORD)
    found: torch.Tensor = (whole.long() << shifts).sum(dim=-1)
    return found


def windowed(bases: torch.Tensor, ancestors: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is left to see where a token sees `window` positions, its own included: once a pass, for all layers.

    Ancestors lie in the cache in the order of their positions, so that the distance to one of them is how many come
    after it. No positions are needed.

    Args:
        bases: int64 [rows].
        ancestors: int64 [rows, width, words].
        window: positions, at least 1.

    Returns:
        (oldest, ancestors): the first committed place that each token sees, int64 [rows, width]; and the bits that
        are left.
    """
    bits = bits_of(ancestors)
    after = bits.flip(-1).cumsum(-1).flip(-1)  # how many ancestors from this one on: 1 for the token itself
    depth = after[..., 0]
    oldest = (bases[:, None] + depth - window).clamp(min=0)
    return torch.minimum(oldest, bases[:, None]), words_of(bits & (after <= window))


@dataclass(frozen=True, slots=True)
class Sight:
    """What the tokens of a pass see in the layers of one window; as the arguments of `TreeAttention`.

    Attributes:
        oldest: None where there is no window.
    """

    slots: torch.Tensor
    bases: torch.Tensor
    ancestors: torch.Tensor
    oldest: torch.Tensor | None = None

    def within(self, window: int | None) -> Sight:
        """The same, cut to a window."""
        if window is None:
            return self
        oldest, ancestors = windowed(self.bases, self.ancestors, window)
        return Sight(self.slots, self.bases, ancestors, oldest)


def seen_places(
    bases: torch.Tensor, ancestors: torch.Tensor, capacity: int, oldest: torch.Tensor | None = None
) -> torch.Tensor:
    """The attention mask, bool [rows, width, capacity]: whether a token sees a place of its row's slot."""
    places = torch.arange(capacity, device=bases.device)
    beyond = places - bases[:, None]  # [rows, capacity]
    committed = (beyond < 0)[:, None, :].expand(-1, ancestors.shape[1], -1)
    if oldest is not None:
        committed = committed & (places >= oldest[..., None])
    bits = bits_of(ancestors)
    known = (beyond >= 0) & (beyond < bits.shape[-1])
    index = beyond.clamp(0, bits.shape[-1] - 1)[:, None, :].expand(-1, ancestors.shape[1], -1)
    return committed | (bits.gather(-1, index) & known[:, None, :])
