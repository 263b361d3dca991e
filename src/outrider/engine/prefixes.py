"""The prefix cache: which row a new text gets, and how much of its prompt it need not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outrider.engine.feeds import READING_ALONE
from outrider.engine.sequence import ActiveSequence
from outrider.engine.speculation import Speculations
from outrider.runtimes.base import Session, Traits
from outrider.runtimes.prefixes import FEWEST, NO_PREFIX, Owned, Prefixes, common_length


class PrefixCache:
    """Gives rows to texts. A new text adopts the longest prefix that a row holds, of a text that has ended or goes on.

    Args:
        traits: of the target.
    """

    def __init__(self, session: Session, speculations: Speculations, traits: Traits) -> None:
        self._session = session
        self._speculations = speculations
        self._crops = traits.crops
        self._prefixes = Prefixes(session, traits)

    @property
    def kept(self) -> Mapping[int, Owned]:
        """What the rows hold whose texts have ended."""
        return self._prefixes.kept

    def place(self, sequence: ActiveSequence, free: Sequence[int], active: Sequence[ActiveSequence]) -> int | None:
        """The row of a new text; None where it is better to wait until another has read what both begin with."""
        prefix = NO_PREFIX
        if len(sequence.tokens) > FEWEST:  # a shorter text has nothing to adopt, and waits for none
            text = _owned(sequence)
            prefix = self._prefixes.longest(text, {other.row: _owned(other) for other in active})
            if any(self._is_sooner(text, prefix.length, other) for other in active):
                return None
        most = self._speculations.adopt(sequence, prefix.length) if prefix.length else 0
        row, held = self._prefixes.place(prefix, most, free)
        sequence.statistics.cached_tokens = held
        return row

    def keep(self, sequence: ActiveSequence) -> None:
        """A text has ended: its row stays for others, until it is needed."""
        if sequence.error is not None:
            self._prefixes.distrust()
        self._prefixes.keep(sequence.row, _owned(sequence))

    def trust(self) -> None:
        """No text is active."""
        self._prefixes.trust()

    def _is_sooner(self, text: Owned, held: int, other: ActiveSequence) -> bool:
        """Whether a text is read sooner if it waits for another to read their common beginning.

        Prompts that are prefilled at the same time share the tokens of each round equally. So without waiting this one
        is complete after `own` + min(`own`, `unread`) tokens of both.

        Args:
            held: tokens of the text that a row holds already.
        """
        if not self._crops or text.isolation is None or text.isolation != other.isolation:
            return False
        done = self._session.length(other.row)
        unread, own = len(other.tokens) - 1 - done, len(text.tokens) - 1 - held
        if unread <= 0 or own < FEWEST:
            return False
        shared = min(common_length(text.tokens[:-1], other.tokens), len(other.tokens) - 1)
        if shared - held < FEWEST or shared <= done:
            return False
        rounds = -(-(shared - done) // READING_ALONE)
        wait = min(unread, rounds * READING_ALONE)
        return wait - (shared - held) < min(own, unread)


def _owned(sequence: ActiveSequence) -> Owned:
    return Owned(sequence.tokens, sequence.isolation)
