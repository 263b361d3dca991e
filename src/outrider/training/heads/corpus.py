"""What a head learns from: texts that the target wrote, its hidden states over them, and what it expected."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from outrider.drafters.heads.opening import tensor_of
from outrider.runtimes.base import Features, Model, Pass
from outrider.training.shards import Text

EXPECTED = 32  # of the target's most probable tokens, within the draft vocabulary


def frequent_tokens(texts: Sequence[Text], count: int, vocab_size: int) -> torch.Tensor:
    """The ids that occur most often in the answers, rising, int64 [count]; the lowest ids fill what is left."""
    seen = Counter(token for text in texts for token in text.tokens[text.prompt :])
    chosen = [token for token, _ in seen.most_common(count)]
    known = set(chosen)
    rest = (token for token in range(vocab_size) if token not in known)
    chosen += [token for token, _ in zip(rest, range(count - len(chosen)), strict=False)]
    return torch.tensor(sorted(chosen))


@dataclass(frozen=True, slots=True)
class Lesson:
    """One text, and what the target made of it.

    Attributes:
        tokens: int64 [tokens].
        first: the first position whose expectation counts: the last token before what the target wrote.
        hidden: [tokens, states of all layers that the student reads].
        likely: int32 [tokens - first, EXPECTED], places in the draft vocabulary of the most probable tokens after each
            position from `first` on.
        chances: float16, their probabilities; they sum to less than 1.
        best: int32 [tokens - first], the place of the most probable token of all, -1 where the head cannot draft it.
    """

    tokens: torch.Tensor
    first: int
    hidden: torch.Tensor
    likely: torch.Tensor
    chances: torch.Tensor
    best: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Lesson]) -> Lesson:
        """Parts of one text that follow one another; after the first place that counts all do."""
        tokens, best = torch.cat([part.tokens for part in parts]), torch.cat([part.best for part in parts])
        return cls(
            tokens,
            len(tokens) - len(best),
            torch.cat([part.hidden for part in parts]),
            torch.cat([part.likely for part in parts]),
            torch.cat([part.chances for part in parts]),
            best,
        )

    @property
    def bytes(self) -> int:
        held = (self.tokens, self.hidden, self.likely, self.chances, self.best)
        return sum(tensor.numel() * tensor.element_size() for tensor in held)


class Reader:
    """Has the target read texts.

    Args:
        ids: of the draft vocabulary.
        layers: whose states the student reads; none for a model.
        longest: tokens; what is longer is cut.
    """

    def __init__(self, target: Model, ids: torch.Tensor, layers: Sequence[int], longest: int) -> None:
        self._session = target.open(1, longest)
        self._layers = tuple(layers)
        self._longest = longest
        self._ids = ids
        self._place = torch.full((target.traits.vocab_size,), -1)
        self._place[ids] = torch.arange(len(ids))

    @property
    def draft_vocab(self) -> int:
        """How many tokens the student can draft."""
        return len(self._ids)

    @torch.inference_mode()
    def read(self, text: Text, written_from: int) -> Lesson:
        """What the target makes of a text.

        Args:
            written_from: the place of the first token that the target wrote.
        """
        tokens = list(text.tokens[: self._longest])
        lesson = self._lesson(tokens, min(written_from, len(tokens)) - 1)
        self._session.release(0)
        return lesson

    @torch.inference_mode()
    def read_on(self, tokens: Sequence[int], first: int) -> Lesson:
        """The next tokens of a text, whose earlier ones were read; `release` ends the text.

        Args:
            first: of these tokens, the first one whose expectation counts.
        """
        lesson = self._lesson(list(tokens), first)
        self._session.keep(0, range(len(tokens)))
        return lesson

    def release(self) -> None:
        """The next tokens are those of another text."""
        self._session.release(0)

    def _lesson(self, tokens: list[int], first: int) -> Lesson:
        work = Pass([0], [tokens], wanted=[len(tokens) - first], features=Features(hidden=self._layers))
        scored = self._session.extend(work)
        scored.wait()
        logits = tensor_of(scored.logits).float()  # where the target computes; lessons lie in the host's memory
        probabilities = torch.softmax(logits, dim=-1)
        drafted = probabilities[:, self._ids.to(logits.device)]
        chances, likely = drafted.topk(min(EXPECTED, len(self._ids)), dim=-1)
        states = [tensor_of(layer).to(torch.bfloat16) for layer in scored.hidden]
        hidden = torch.cat(states, dim=-1) if states else torch.zeros(len(tokens), 0, dtype=torch.bfloat16)
        return Lesson(
            torch.tensor(tokens),
            first,
            hidden.clone().cpu(),
            likely.to(torch.int32).cpu(),
            chances.to(torch.float16).cpu(),
            self._place[logits.argmax(dim=-1).cpu()].to(torch.int32),
        )


class Lessons:
    """The lessons of many texts. They are kept as long as there is room, and made once more otherwise.

    Args:
        room: bytes.
        opening: how a conversation begins, up to the user's first word. What follows was written by the target too, so
            that it is learned from. Empty learns from answers alone.
    """

    def __init__(self, texts: Sequence[Text], reader: Reader, room: int, opening: Sequence[int] = ()) -> None:
        self.texts = list(texts)
        self._reader = reader
        self._left = room
        self._opening = tuple(opening)
        self._kept: dict[int, Lesson] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> Lesson:
        if number in self._kept:
            return self._kept[number]
        text = self.texts[number]
        lesson = self._reader.read(text, self._written_from(text))
        if lesson.bytes <= self._left:
            self._left -= lesson.bytes
            self._kept[number] = lesson
        return lesson

    @property
    def tokens(self) -> int:
        """How many tokens are learned from."""
        return sum(len(text.tokens) - self._written_from(text) for text in self.texts)

    def add(self, texts: Sequence[Text]) -> None:
        """Further texts, from the next epoch on."""
        self.texts.extend(texts)

    def batches(self, tokens: int, chooser: random.Random | None) -> Iterator[list[Lesson]]:
        """All lessons once, in batches of texts of similar length.

        Args:
            tokens: of a batch, padding included.
            chooser: shuffles; None takes them by length.
        """
        order = sorted(range(len(self.texts)), key=lambda number: self._length(number, chooser))
        groups: list[list[int]] = [[]]
        for number in order:
            longest = max([len(self.texts[each].tokens) for each in [*groups[-1], number]])
            if groups[-1] and longest * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(number)
        if chooser is not None:
            chooser.shuffle(groups)
        for group in groups:
            yield [self[number] for number in group]

    def _written_from(self, text: Text) -> int:
        opening = self._opening
        return len(opening) if opening and text.tokens[: len(opening)] == opening else text.prompt

    def _length(self, number: int, chooser: random.Random | None) -> float:
        length = len(self.texts[number].tokens)
        return length if chooser is None else length * chooser.uniform(0.8, 1.25)  # other neighbours in each epoch
