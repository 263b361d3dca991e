"""What is true in a simulation: a machine, a drafter, and texts with chances of acceptance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outrider.maths.arrays import HostFloats, HostInts

LONGEST = 16  # lookahead that any policy may choose

Seconds = Callable[[int, int], float]  # (rows, tokens of all rows together) -> seconds of a pass
Chances = Callable[[np.random.Generator, int], HostFloats]  # how many places -> the chance of acceptance at each


@dataclass(frozen=True, slots=True)
class Drafting:
    """What drafting costs, in seconds, and how far the drafter goes by itself.

    Attributes:
        call: for a round in which anything is drafted.
        position: for each pass of a draft model, which drafts for all sequences at once.
        token: for each token of each draft.
        silence: the chance that the drafter finds nothing to propose.
        stop: the chance that it ends its draft, after each token.
        estimates: whether it knows the chances of its own tokens, and heeds prices.
        sound: the share of its drafts of which that is true; all others are wrong from the first token.
    """

    call: float = 0.0
    position: float = 0.0
    token: float = 0.0
    silence: float = 0.0
    stop: float = 0.0
    estimates: bool = False
    sound: float = 1.0

    def seconds(self, longest: HostFloats, tokens: HostFloats) -> HostFloats:
        """Of a round whose longest draft and all of whose drafts together have so many tokens."""
        return np.where(longest > 0, self.call, 0.0) + self.position * longest + self.token * tokens

    @property
    def reach(self) -> HostFloats:
        """[LONGEST]: the chance that the drafter, if it may, goes on to each position."""
        return np.asarray((1 - self.silence) * (1 - self.stop) ** np.arange(LONGEST))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A machine, a drafter and texts.

    Attributes:
        seconds: of a pass of the target.
        overhead: seconds of a round besides passes and drafting.
        chances: of acceptance, by place in the text.
        rows: how many texts are decoded at once.
        texts, tokens: how many there are, and how long each becomes.
    """

    name: str
    seconds: Seconds
    chances: Chances
    drafting: Drafting = Drafting()
    overhead: float = 0.0005
    rows: int = 1
    texts: int = 16
    tokens: int = 512


class Texts:
    """The texts of a scenario: what is true of them, and how far they have come. The same for every policy.

    Whether a draft token is accepted is settled by its place: a policy that comes by meets the luck of all others.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        generator = np.random.default_rng(seed)
        places = scenario.tokens + LONGEST
        self.emitted = [0] * scenario.texts
        self._chances = [scenario.chances(generator, places) for _ in range(scenario.texts)]
        self._passes = [generator.random(places) < chances for chances in self._chances]
        silent = generator.random((scenario.texts, places)) < scenario.drafting.silence
        stop = scenario.drafting.stop
        lengths: HostInts = generator.geometric(stop, silent.shape) if stop else np.full(silent.shape, LONGEST)
        self._lengths = np.where(silent, 0, lengths)
        self._share_sound = scenario.drafting.sound
        self._sound = generator.random(silent.shape) < self._share_sound

    def survival(self, text: int) -> HostFloats:
        """[LONGEST]: the chance that a draft made now is right up to each position."""
        return self._share_sound * self.estimates(text)

    def estimates(self, text: int) -> HostFloats:
        """The same, as a drafter sees it that believes in all of its drafts."""
        place = self.emitted[text]
        return np.asarray(np.cumprod(self._chances[text][place : place + LONGEST]))

    def draft(self, text: int, lookahead: int) -> tuple[int, int]:
        """How many tokens are drafted, and how many of these accepted."""
        place = self.emitted[text]
        drafted = min(lookahead, int(self._lengths[text][place]))
        if not self._sound[text, place]:
            return drafted, 0
        passed = self._passes[text][place : place + drafted]
        return drafted, int(passed.argmin()) if not passed.all() else drafted
