"""Learning while nothing is asked: a head is distilled on what its engine decoded, a short step at a time.

Texts and what the target makes of them stay in the memory of this process, in bounds. One text in five measures. What
was learned drafts from then on where more of it is accepted on these texts, and never otherwise; the output has the
target's distribution in any case.
"""

from __future__ import annotations

import logging
import random
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from outrider.drafters.experience import experience_with
from outrider.drafters.heads.layout import fill, read_weights, target_ids, write_head
from outrider.drafters.heads.loading import Dtype, eagle3_config, folder_of, network_of, require_eagle3
from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.names import EMBEDDING
from outrider.drafters.heads.network import HeadNetwork
from outrider.drafters.heads.opening import embedding_of
from outrider.errors import first_line
from outrider.runtimes.base import Embeds, Model
from outrider.training.heads.corpus import Lesson, Reader
from outrider.training.heads.descent import Descent, DescentSettings, Tally, expected_tokens
from outrider.training.heads.making import rate_for, require_trainable
from outrider.training.heads.rollout import HeadStudent

logger = logging.getLogger("outrider")

ONE_IN, MEASURES = 5, 2  # of so many texts the one with this number measures
KNOWN_PROMPTS = 4096
LONGEST = 1024  # tokens of a text, its newest
LESSON = 96  # tokens
FIRST_PIECE, SMALLEST_PIECE, LARGEST_PIECE = 16, 4, 128  # tokens that the target reads in one step
MEASURING = 0.25  # of the room, for texts that measure
OF_A_NEW_HEAD = 0.2  # of the rate at which a new head learns
WARM_UP = 10  # steps
GAIN = 1.01  # times the expected accepted tokens: less may be chance


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """How much is kept, and how it is learned.

    Attributes:
        waiting: the most tokens of texts that were not read yet.
        room: bytes of what the target made of texts.
        batch: lessons of a step.
        steps: between two measurements.
        fewest: lessons to learn from, and places to measure with, before anything is learned.
        patience: measurements without a gain, after which learning rests until texts come.
        seconds: that a step may take, where a shorter one can be taken.
        descent: objective and rate; None is a fifth of the rate for a new head.
        seed: of the order of the lessons.
    """

    waiting: int = 65_536
    room: int = 256 << 20
    batch: int = 8
    steps: int = 24
    fewest: tuple[int, int] = (8, 64)
    patience: int = 3
    seconds: float = 0.2
    descent: DescentSettings | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A text that ended.

    Attributes:
        prompt: how many of its tokens are the prompt.
        measures: whether it measures; others are learned from.
    """

    tokens: Sequence[int]
    prompt: int
    measures: bool


@dataclass(slots=True)
class _Kept:
    """Lessons, the newest at the end, as many as there is room for.

    Attributes:
        room: bytes.
    """

    room: int
    lessons: deque[Lesson] = field(default_factory=deque)
    bytes: int = 0

    def add(self, lesson: Lesson) -> None:
        self.lessons.append(lesson)
        self.bytes += lesson.bytes
        while self.bytes > self.room and len(self.lessons) > 1:
            self.bytes -= self.lessons.popleft().bytes

    @property
    def places(self) -> int:
        """Whose expectations count."""
        return sum(max(len(lesson.best) - 1, 0) for lesson in self.lessons)


class IdleLearner:
    """A Learner (drafters/heads/learner.py): `head_drafter(head, target, learner=IdleLearner(head, target))`.

    `Engine.rest` lets it take a step; a server and a chat call that while nobody asks.

    Args:
        head: an EAGLE-3 head, as for `head_drafter`.
        target: as for `head_drafter`.
        dtype: of what drafts, as for `head_drafter`.
        told: called with a line whenever another head drafts.
        clock: seconds.

    Raises:
        ModelError: the head is of another kind or of another target, or the target shows no states.
    """

    def __init__(
        self,
        head: str | Path,
        target: Model,
        *,
        dtype: Dtype = "auto",
        settings: IdleSettings | None = None,
        told: Callable[[str], object] = logger.info,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        require_eagle3(head)
        require_trainable(target)
        assert isinstance(target, Embeds)
        self._settings = IdleSettings() if settings is None else settings
        self._told, self._clock = told, clock
        folder = folder_of(str(head))
        self._config = eagle3_config(head, folder, target)
        weights = read_weights(folder)
        self._has_embedding = EMBEDDING in weights
        self._embedding = embedding_of(weights, self._config, target, str(folder))
        self._ids = target_ids(weights, self._config, str(folder))
        self._head = Eagle3(self._config)
        fill(self._head, weights, str(folder))
        self._head.to(self._embedding.device)
        self._target, self._dtype, self._folder = target, dtype, folder
        self._longest = min(LONGEST, target.traits.context_length)
        self._reader = Reader(target, self._ids, self._config.layers, self._longest)
        self._descend()
        self._own = self._used = self._descent.weights()
        self._chooser = random.Random(self._settings.seed)
        self._waiting: deque[_Ended] = deque()
        self._prompts: OrderedDict[bytes, bool] = OrderedDict()
        room = self._settings.room
        self._measured = _Kept(int(MEASURING * room))
        self._learned = _Kept(room - self._measured.room)
        self._experience, self._given = 0, 0
        self._piece = FIRST_PIECE
        self._without_gain = 0
        self._work: Iterator[None] | None = None
        self._new: HeadNetwork | None = None
        self._failed = False

    @property
    def experience(self) -> tuple[int, ...]:
        return (self._experience,) if self._given else ()

    def remember(self, tokens: Sequence[int], prompt: int) -> None:
        self._experience = experience_with(self._experience, array("q", tokens))
        self._given += 1
        key = blake2b(array("q", tokens[:prompt]).tobytes(), digest_size=16).digest()
        if key in self._prompts or self._failed:
            return  # of two answers to one prompt the first is learned from
        measures = len(self._prompts) % ONE_IN == MEASURES
        self._prompts[key] = measures
        if len(self._prompts) > KNOWN_PROMPTS:
            self._prompts.popitem(last=False)
        cut = max(len(tokens) - self._longest, 0)
        self._waiting.append(_Ended(list(tokens[cut:]), max(prompt - cut, 1), measures))
        while sum(len(each.tokens) for each in self._waiting) > self._settings.waiting:
            self._waiting.popleft()

    def step(self) -> bool:
        if self._failed:
            return False
        if self._work is None:
            self._work = self._learning()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            return False
        except Exception as error:
            # What drafts is as good as before.
            self._failed, self._work = True, None
            logger.warning("learning failed and ends: %s", first_line(error), exc_info=error)
            return False
        return True

    def take(self) -> HeadNetwork | None:
        new, self._new = self._new, None
        return new

    def _learning(self) -> Iterator[None]:
        """All that there is to do now, a short step at a time."""
        yield from self._read()
        lessons, places = self._settings.fewest
        while (
            len(self._learned.lessons) >= lessons
            and self._measured.places >= places
            and self._without_gain < self._settings.patience
        ):
            yield from self._train()
            yield from self._judge()
            yield from self._read()

    def _read(self) -> Iterator[None]:
        """Have the target read the texts that wait."""
        while self._waiting:
            text = self._waiting.popleft()
            self._without_gain = 0
            parts: list[Lesson] = []
            place = 0
            try:
                while place < len(text.tokens):
                    piece = text.tokens[place : place + self._piece]
                    started = self._clock()
                    parts.append(self._reader.read_on(piece, min(max(text.prompt - 1 - place, 0), len(piece))))
                    place += len(piece)
                    self._pace(self._clock() - started)
                    parts = self._kept_of(parts, text.measures, ended=place == len(text.tokens))
                    yield
            finally:
                self._reader.release()

    def _kept_of(self, parts: list[Lesson], measures: bool, ended: bool) -> list[Lesson]:
        """Make a lesson of parts where they suffice; what is left of them."""
        if not ended and sum(len(part.tokens) for part in parts) < LESSON:
            return parts
        lesson = Lesson.joined(parts)
        if len(lesson.best) < 2:
            return parts[-1:]  # of a prompt; its end stands before the answer
        (self._measured if measures else self._learned).add(lesson)
        return []

    def _pace(self, seconds: float) -> None:
        """Read as much in one step as a short step allows."""
        if seconds > self._settings.seconds:
            self._piece = max(self._piece // 2, SMALLEST_PIECE)
        elif seconds < self._settings.seconds / 3:
            self._piece = min(2 * self._piece, LARGEST_PIECE)

    def _train(self) -> Iterator[None]:
        for _ in range(self._settings.steps):
            lessons = list(self._learned.lessons)
            batch = self._chooser.sample(lessons, min(self._settings.batch, len(lessons)))
            for lesson in batch:
                self._descent.backward([lesson], 1 / len(batch))
                yield
            self._steps += 1
            self._descent.step(min(1.0, self._steps / WARM_UP))
            yield

    def _judge(self) -> Iterator[None]:
        """Draft with what is worth most: what was learned, what drafts now, or the head as it came."""
        learned = self._descent.weights()
        used = yield from self._worth(self._used)
        own = used if self._used is self._own else (yield from self._worth(self._own))
        new = yield from self._worth(learned)
        if new > GAIN * max(used, own):
            self._without_gain = 0
            self._draft_with(learned, new, used)
            return
        self._without_gain += 1
        if own > used:
            self._draft_with(self._own, own, used)
        if self._without_gain == self._settings.patience:
            self._head.load_state_dict(self._used)
            self._descend()
        yield

    def _worth(self, weights: dict[str, torch.Tensor]) -> Generator[None, None, float]:
        """Expected accepted tokens of a drawn chain, on the texts that measure; the head has these weights then."""
        self._head.load_state_dict(weights)
        tally = Tally(self._descent.depth)
        for lesson in list(self._measured.lessons):
            self._descent.count([lesson], tally)
            yield
        return expected_tokens(tally.acceptance)

    def _draft_with(self, weights: dict[str, torch.Tensor], worth: float, before: float) -> None:
        self._used = weights
        self._new = self._opened(weights)
        what = "as it came" if weights is self._own else f"from {self._given} texts"
        self._told(f"the head drafts {what}: {before:.2f} -> {worth:.2f} accepted tokens on texts held out")

    def _opened(self, weights: dict[str, torch.Tensor]) -> HeadNetwork:
        if weights is self._own:
            return network_of(self._folder, self._config, self._target, self._dtype)
        about = {"name_or_path": self._target.name, "architectures": []}
        embedding = self._embedding if self._has_embedding else None
        with TemporaryDirectory(prefix="outrider-head-") as folder:
            write_head(Path(folder), self._head, self._ids, about, torch.bfloat16, embedding)
            return network_of(Path(folder), self._config, self._target, self._dtype)

    def _descend(self) -> None:
        """Begin to learn from the weights that the head has."""
        width = self._config.hidden_size
        descent = self._settings.descent or DescentSettings(depth=3, rate=OF_A_NEW_HEAD * rate_for(width))
        self._descent = Descent(HeadStudent(self._head, self._embedding), descent)
        self._steps = 0
