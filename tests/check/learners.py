"""Learners' files observed and judged in this process: the child's own code, without a child."""

import json
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from outrider.check.learner.chapter import task_of
from outrider.check.learner.check import JUDGES
from outrider.check.learner.child.adaptive import observe_adaptive
from outrider.check.learner.child.batch import observe_batch
from outrider.check.learner.child.channel import Channel, Halt
from outrider.check.learner.child.drafting import observe_decoder
from outrider.check.learner.child.libraries import library
from outrider.check.learner.child.loading import Found, framework_of, load
from outrider.check.learner.child.verification import observe_verification
from outrider.check.learner.judges.failures import add_failures
from outrider.check.learner.process import Observed
from outrider.check.learner.verdicts import Verdict

SOLUTIONS = Path(__file__).parent / "solutions"
OBSERVERS = {1: observe_decoder, 2: observe_verification, 3: observe_adaptive, 4: observe_batch}


class Recorder(Channel):
    """Keeps what would go to the parent, as it would arrive there."""

    def __init__(self, seconds):
        super().__init__(-1, seconds)
        self.messages = []

    def send(self, kind, **values):
        self.messages.append(json.loads(json.dumps({"kind": kind, **values})))


@contextmanager
def loaded(path):
    """What a file defines; the interpreter is afterwards as before."""
    before = sys.argv, list(sys.path), sys.dont_write_bytecode
    try:
        yield Found(load(path), path)
    finally:
        sys.argv, sys.path[:], sys.dont_write_bytecode = before
        for name in ("solution", "right_numpy"):
            sys.modules.pop(name, None)


def verdict_on(path, task, seconds):
    """The verdict on one task of a file."""
    with loaded(path) as found:
        channel = Recorder(seconds)
        with suppress(Halt):
            OBSERVERS[task](channel, found, library(framework_of(found.names)))
    verdict = Verdict(task_of(task))
    observed = Observed(channel.messages, "done")
    add_failures(verdict, observed)
    JUDGES[task](verdict, observed)
    return verdict
