"""The truth of a simulation: a machine, a drafter, and texts with chances of acceptance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outrider.maths.arrays import HostFloats, HostInts

LONGEST = 16  # the longest lookahead that a policy may choose

Seconds = Callable[[int, int], float]  # (rows, tokens of all rows together) -> seconds of a pass
Chances = Callable[[np.random.Generator, int], HostFloats]  # number of positions -> the chance of acceptance at each


@dataclass(frozen=True, slots=True)
class Drafting:
    """What drafting costs, in seconds, and where the drafter stops by itself.

    Attributes:
        call: per round in which anything is drafted.
        position: per pass of a draft model, which drafts for all sequences at once.
        token: per token of each draft.
        silence: the chance that the drafter has nothing to propose.
        stop: the chance that it ends its draft after a token.
        estimates: whether it estimates the chances of its own tokens, and stops by prices.
        sound: the share of its drafts with true estimates; all other drafts are wrong from the first token on.
    """

    call: float = 0.0
    position: float = 0.0
    token: float = 0.0
    silence: float = 0.0
    stop: float = 0.0
    estimates: bool = False
    sound: float = 1.0

    def seconds(self, longest: HostFloats, tokens: HostFloats) -> HostFloats:
        """Seconds of drafting, by the tokens of the longest draft and of all drafts together."""
        return np.where(longest > 0, self.call, 0.0) + self.position * longest + self.token * tokens

    @property
    def reach(self) -> HostFloats:
        """[LONGEST]: the chance that the drafter reaches each position, if its lookahead allows it."""
        return np.asarray((1 - self.silence) * (1 - self.stop) ** np.arange(LONGEST))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A machine, a drafter and texts.

    Attributes:
        seconds: the cost of a pass of the target.
        overhead: seconds of a round without passes and drafting.
        chances: of acceptance, by position in the text.
        rows: how many texts are decoded at once.
        texts, tokens: how many texts there are, and the length of each.
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
    """The texts of a scenario, with their progress; the same for every policy.

    The position alone decides whether a draft token is accepted there, so that all policies have the same luck.
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
        """[LONGEST]: the chance that a draft that starts here is right up to each position."""
        return self._share_sound * self.estimates(text)

    def estimates(self, text: int) -> HostFloats:
        """The same by the drafter's own estimates, which take all of its drafts for sound."""
        place = self.emitted[text]
        return np.asarray(np.cumprod(self._chances[text][place : place + LONGEST]))

    def draft(self, text: int, lookahead: int) -> tuple[int, int]:
        """The numbers of drafted and of accepted tokens."""
        place = self.emitted[text]
        drafted = min(lookahead, int(self._lengths[text][place]))
        if not self._sound[text, place]:
            return drafted, 0
        passed = self._passes[text][place : place + drafted]
        return drafted, int(passed.argmin()) if not passed.all() else drafted
