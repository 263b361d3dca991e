"""What the engine asks of a drafter, and what a drafter may know of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from outrider.maths.budget import Budget
from outrider.maths.draft import Draft, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History, SamplingParams


class DraftedSequence(Protocol):
    """A sequence as a drafter sees it. All of it is read-only to drafters.

    Attributes:
        id: tells sequences apart.
        tokens: prompt and output so far; the last one is pending.
        predicted: tokens that the caller expects in the output; may be empty.
        sampling: the settings that q must be made with.
        history: for the penalties.
        noise: the random numbers of the coming round.
    """

    @property
    def id(self) -> int: ...

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def predicted(self) -> Sequence[int]: ...

    @property
    def sampling(self) -> SamplingParams: ...

    @property
    def history(self) -> History: ...

    @property
    def noise(self) -> RoundNoise: ...


class Drafter(ABC):
    """Proposes tokens. A drafter that only overrides `propose` is complete.

    Attributes:
        name: what its tokens are attributed to.
        bytes_per_token: of memory that it holds for every token of every row.
        trees: whether it may propose trees, so that rule block cannot be used.
        estimates: whether its drafts say how likely each token is accepted, and end where the prices in the budget say
            that more does not pay.
    """

    name = "drafter"
    bytes_per_token = 0
    trees = False
    estimates = False

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:  # noqa: B027 (a choice, not a duty)
        """Called once before the first round, and again when an engine needs more room.

        Args:
            rows: how many sequences there may be at once.
            capacity: the most tokens that one of them may reach.
            vocab_size: of the target; q must be as wide, and tokens below it.
        """

    def read(self, sequences: Sequence[DraftedSequence], counts: Sequence[int]) -> None:  # noqa: B027
        """The target reads the next `counts` tokens of long prompts in this round: a drafter may read along.

        One that does not has to read the whole prompt in its first `propose`, and the others wait for it.
        """

    @abstractmethod
    def propose(self, sequences: Sequence[DraftedSequence], lookahead: Sequence[int]) -> list[Draft]:
        """A draft for each sequence, of at most its lookahead in tokens; an empty one is always allowed.

        The last token of each sequence is the newest one emitted. Rounds may have passed without a call.
        """

    def propose_trees(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        """The same, as a tree within each budget, its tokens in the order in which they joined it: with a smaller
        budget it would have been a beginning of itself.

        What may be drawn next may depend on all tokens drawn before; none that was drawn may be left out.
        """
        return self.propose(sequences, [budget.longest for budget in budgets])

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:  # noqa: B027
        """What became of the draft. `sequence.tokens` already holds the outcome."""

    def forget(self, sequence: DraftedSequence) -> None:  # noqa: B027
        """The sequence has ended."""
