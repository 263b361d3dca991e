"""Learners' files observed and judged in this process: the child's own code, without a child."""

import json
import math
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np

from outrider.check.learner.chapter import task_of
from outrider.check.learner.check import JUDGES
from outrider.check.learner.child import batch, drafting, verification
from outrider.check.learner.child.adaptive import observe_adaptive
from outrider.check.learner.child.batch import observe_batch
from outrider.check.learner.child.channel import Channel, Halt
from outrider.check.learner.child.drafting import observe_decoder
from outrider.check.learner.child.libraries import library
from outrider.check.learner.child.loading import Found, framework_of, load, seed_everything
from outrider.check.learner.child.verification import observe_verification
from outrider.check.learner.judges.failures import add_failures
from outrider.check.learner.process import Observed
from outrider.check.learner.verdicts import Verdict

SOLUTIONS = Path(__file__).parent / "solutions"
SEED = 0
MOST = (
    (drafting, "MOST_DRAFTS"),
    (drafting, "MOST_TEXTS"),
    (verification, "CALLS_PER_DRAFT"),
    (batch, "MOST_TEXTS"),
)
OBSERVERS = {1: observe_decoder, 2: observe_verification, 3: observe_adaptive, 4: observe_batch}


class Recorder(Channel):
    """Keeps what would go to the parent, as it would arrive there. It is in no hurry: numbers of trials are fixed."""

    def __init__(self):
        super().__init__(-1, 1)
        self.messages = []

    def until(self, share):
        return math.inf

    def send(self, kind, **values):
        self.messages.append(json.loads(json.dumps({"kind": kind, **values})))


@contextmanager
def loaded(path):
    """What a file defines; the interpreter is afterwards as before."""
    before = sys.argv, list(sys.path), sys.dont_write_bytecode
    fresh = np.random.default_rng
    try:
        with patch("numpy.random.default_rng", lambda seed=None: fresh(SEED if seed is None else seed)):
            found = Found(load(path), path)
        seed_everything(SEED)
        yield found
    finally:
        sys.argv, sys.path[:], sys.dont_write_bytecode = before
        for name in ("solution", "right_numpy"):
            sys.modules.pop(name, None)


def verdict_on(path, task, trials):
    """The verdict on one task of a file, after as many texts, or calls for each draft."""
    channel = Recorder()
    with loaded(path) as found, ExitStack() as stack:
        for module, name in MOST:
            stack.enter_context(patch.object(module, name, trials))
        framework = framework_of(found.names, ())  # whatever this process has loaded
        if framework == "torch":  # the child switches gradients off for good, in its own process
            import torch

            stack.enter_context(torch.set_grad_enabled(False))
        with suppress(Halt):
            OBSERVERS[task](channel, found, library(framework))
    verdict = Verdict(task_of(task))
    observed = Observed(channel.messages, "done")
    add_failures(verdict, observed)
    JUDGES[task](verdict, observed)
    return verdict
