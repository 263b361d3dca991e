"""What the engine asks of a drafter, and what a drafter may know of a sequence and of the target's passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from outrider.maths.arrays import Array
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft, Verdict
from outrider.maths.lessons import Lessons
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History, SamplingParams
from outrider.runtimes.base import NOTHING, Features, Top

# A row whose pass reads more prompt tokens than this does not draft in the same round. Attention over many tokens is
# not cut at every block of keys (SHORT in runtimes/torch/ragged_cache.py): the draft after it would change how the
# prompt itself is rounded.
READING_BESIDE_A_DRAFT = 64


class DraftedSequence(Protocol):
    """A sequence as a drafter sees it. All of it is read-only to drafters.

    Attributes:
        id: tells sequences apart.
        tokens: prompt and output so far; the last one is pending.
        predicted: tokens that the caller expects in the output; may be empty.
        sampling: the settings that q must be made with.
        history: for the penalties.
        noise: the random numbers of the coming round.
        isolation: only texts of equal keys may see by their timing what this one taught a cache; None shares nothing.
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

    @property
    def isolation(self) -> Hashable | None: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass of the target fed of one sequence, and what it told.

    The arrays may be the runtime's own memory, valid only until `Drafter.read` returns. Copy what you keep.

    Attributes:
        start: the position in the text of the first token that was fed.
        tokens: those fed: what the cache lacked, then the nodes of the draft.
        draft: None while the prompt is not read to its end. Where several drafters share a round, the draft of all.
        hidden: for each layer of `wants.hidden`, [tokens fed, hidden size].
        top: of the scored tokens, which are the last one before the draft and every node of it; None where nothing was
            wanted or scored, or the lookahead was 0 in every row.
    """

    start: int
    tokens: Sequence[int]
    draft: Draft | None
    hidden: tuple[Array, ...] = ()
    top: Top | None = None

    @property
    def prefilled(self) -> int:
        """How many prompt tokens the pass read in a round in which the sequence could not draft; 0 in other rounds.

        The pending token is not counted.
        """
        if self.draft is None:
            return len(self.tokens)
        read = len(self.tokens) - len(self.draft) - 1
        return read if read > READING_BESIDE_A_DRAFT else 0


class Drafter(ABC):
    """Proposes tokens. A drafter that only overrides `propose` is complete.

    Attributes:
        name: what its tokens are attributed to.
        wants: what it reads of the target's passes besides the tokens. A drafter that wants hidden
            states is asked for a draft only once the target has read the whole prompt. A small vocabulary has fewer
            top tokens, and a round in which the lookahead is 0 in every row has none.
        bytes_per_token: of memory that it holds for every token of every row.
        trees: whether it may propose trees, so that rule block cannot be used.
        estimates: whether its drafts say how likely each token is accepted, and end where the prices in the budget say
            that more does not pay.
    """

    name = "drafter"
    wants: Features = NOTHING
    bytes_per_token = 0
    trees = False
    estimates = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def learns(self) -> bool:
        """Whether what became of one text's drafts (`observe`) may change the drafts of another.

        Where it may, texts of one seed have other noise each (`lessons`). True for a drafter that overrides `observe`.
        What it learns from the texts themselves is `Draft.experience`.
        """
        return type(self).observe is not Drafter.observe

    @cached_property
    def lessons(self) -> Lessons:
        """Which seeds the texts had from which it learned; the engine fills it in."""
        return Lessons()

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:  # noqa: B027 (a choice, not a duty)
        """Called once before the first round, and again when an engine needs more room.

        Args:
            rows: how many sequences there may be at once.
            capacity: the most tokens that one of them may reach.
            vocab_size: of the target; q must be as wide, and tokens below it.
        """

    @abstractmethod
    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft for each sequence, within its budget; an empty one is always allowed.

        The last token of each sequence is the newest one emitted. Rounds may have passed without a call.

        A chain has at most `budget.longest` tokens. The tokens of a tree stand in the order in which they joined it:
        with a smaller budget it would have been a beginning of itself. What is drawn next may depend on all tokens
        drawn before; no drawn token may be left out.
        """

    def adopt(self, sequence: DraftedSequence, length: int) -> int:
        """A row of the target's cache holds the first `length` tokens of a new sequence: they need not be read again.

        What the target does not read, `read` does not tell. So a drafter that needs the target's hidden states of the
        whole prompt has it read in full, unless it holds those of an earlier text.

        Returns:
            how many of these tokens need not be told. `read` begins there, or earlier.
        """
        return 0 if self.wants.hidden else length

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:  # noqa: B027
        """Called after each pass of the target, before anything is accepted, for all sequences that took part.

        A drafter with a cache of its own may read prompts along (`Reading.prefilled`). One that does not has to read
        the whole prompt in its first `propose`, and the other sequences wait for it.
        """

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:  # noqa: B027
        """What became of the draft. `sequence.tokens` already holds the outcome.

        Rounds in which a grammar left no choice pass without a call. Where it cut the draft, the verdict is on the
        draft as it was made.
        """

    def forget(self, sequence: DraftedSequence) -> None:  # noqa: B027
        """The sequence has ended."""

    def rest(self) -> bool:
        """Called between rounds while no text is open: one short step of work of its own, such as learning.

        Returns:
            whether more is to be done.
        """
        return False
