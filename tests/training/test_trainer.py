"""The trainer by a clock that ticks at each look: a table learns what a table says."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from outrider import InputError, TableModel
from outrider.training.shards import Text

torch = pytest.importorskip("torch")

from outrider.training.heads.batch import Step  # noqa: E402
from outrider.training.heads.checkpoint import read_checkpoint  # noqa: E402
from outrider.training.heads.corpus import Lessons, Reader  # noqa: E402
from outrider.training.heads.trainer import PATIENCE, Trainer, TrainingSettings  # noqa: E402

VOCABULARY = 12
TARGET = TableModel.random(VOCABULARY, 1, seed=3)


class Table:
    """A student that knows the last token alone, as its target does."""

    def __init__(self, size=VOCABULARY):
        torch.manual_seed(0)
        self.module = torch.nn.Embedding(size, size)

    def steps(self, batch, depth):
        counts = batch.counts
        said = self.module(batch.tokens[counts])
        yield Step(said, batch.likely[counts].long(), batch.chances[counts].float(), batch.best[counts].long())


class Counting(Reader):
    def __init__(self):
        super().__init__(TARGET, torch.arange(VOCABULARY), (), 64)
        self.read_from = []

    def read(self, text, written_from):
        self.read_from.append(written_from)
        return super().read(text, written_from)


def texts(count, seed=0):
    generator = np.random.default_rng(seed)
    nothing = np.zeros((9, 1))
    return [Text(tuple(generator.integers(0, VOCABULARY, 12).tolist()), 3, nothing, nothing) for _ in range(count)]


def trainer(folder=None, seconds=60.0, student=None, **more):
    reader = Counting()
    settings = TrainingSettings(rate=0.1, depth=1, tokens=96, seconds=seconds, measured=10.0)
    learned, held_out = Lessons(texts(16), reader, 1 << 20), Lessons(texts(6, seed=1), reader, 1 << 20)
    ticks = itertools.count()
    settings = replace(settings, objective=more.pop("objective", "kl"))
    student = student or Table()
    return Trainer(student, learned, held_out, settings, folder, clock=lambda: float(next(ticks)), **more)


@pytest.mark.parametrize("objective", ["kl", "accept", "hybrid"])
def test_every_objective_raises_what_is_accepted(objective):
    curve = trainer(seconds=100.0, objective=objective).run()
    assert curve[0].acceptance[0] < 0.5
    assert curve[-1].acceptance[0] > 0.9


def test_the_best_weights_stay():
    student = Table()
    made = trainer(student=student)
    best = max(measured.worth for measured in made.run())
    assert sum(made.measure()[0]) == pytest.approx(best)


def test_texts_that_come_meanwhile_are_learned_in_the_next_epoch():
    came = iter([[], texts(5, seed=7)])
    learner = trainer(further=lambda: next(came, []))
    seen = []
    learner.run(lambda progress: seen.append(progress.epochs))
    # Of 16 texts of 12 tokens 8 fit a batch; of 21 it takes 3.
    assert [seen.count(epoch) for epoch in range(3)] == [2, 3, 3]


def test_a_run_with_more_time_goes_on_and_does_not_end_at_once(tmp_path):
    first = trainer(tmp_path, seconds=600.0)
    first.run()
    ended = first.progress
    assert ended.seconds < 600.0  # nothing was gained any more
    found = read_checkpoint(tmp_path)
    second = trainer(tmp_path, seconds=ended.seconds + 200.0)
    second.resume(found)
    assert second.progress.steps == ended.steps
    second.run()
    further = [measured for measured in second.progress.curve if measured.seconds >= ended.seconds]
    assert len(further) > PATIENCE
    assert second.progress.seconds >= ended.seconds + 100.0


def test_a_checkpoint_of_another_student_is_refused(tmp_path):
    trainer(tmp_path, seconds=20.0).run()
    with pytest.raises(InputError, match="delete it"):
        trainer(tmp_path, student=Table(VOCABULARY + 1)).resume(read_checkpoint(tmp_path))


def test_lessons_are_kept_as_long_as_there_is_room():
    reader, some = Counting(), texts(4)
    size = reader.read(some[0], 3).bytes
    for room, reads in ((0, 8), (2 * size, 6), (4 * size, 4)):
        reader.read_from.clear()
        lessons = Lessons(some, reader, room)
        for number in (0, 1, 2, 3, 0, 1, 2, 3):
            assert lessons[number].first == 2
        assert len(reader.read_from) == reads


def test_what_follows_the_opening_of_a_conversation_is_learned_too():
    reader, (one, other) = Counting(), texts(2)
    lessons = Lessons([one, other], reader, 1 << 20, opening=one.tokens[:2])
    assert [lessons[number].first for number in range(2)] == [1, 2]  # the other one does not begin so
    assert lessons.tokens == 10 + 9
