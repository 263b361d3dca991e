"""`python -m outrider.check.learner.child REQUEST`: load a file, observe one task, tell what was seen."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from pathlib import Path

from outrider.check.learner.child.adaptive import observe_adaptive
from outrider.check.learner.child.batch import observe_batch
from outrider.check.learner.child.channel import Channel, Halt, end_copies
from outrider.check.learner.child.drafting import observe_decoder
from outrider.check.learner.child.libraries import library
from outrider.check.learner.child.limits import limit
from outrider.check.learner.child.loading import Found, framework_of, load, seed_everything
from outrider.check.learner.child.verification import observe_verification

SPARE = 3.0  # seconds for what is not bounded by the clock
OBSERVERS = {1: observe_decoder, 2: observe_verification, 3: observe_adaptive, 4: observe_batch}


def main() -> None:
    request = json.loads(sys.argv[1])
    channel = Channel(request["pipe"], request["seconds"], request["dump"] - SPARE)
    limit(cpu_seconds=4 * int(request["limit"]))
    faulthandler.enable(request["pipe"])
    # Where a call does not come back, the parent hears at which line it is.
    faulthandler.dump_traceback_later(max(request["dump"] - time.monotonic(), 0.1), file=request["pipe"])
    try:
        _work(channel, request)
        channel.send("done")
    except Halt:
        channel.send("done")
    faulthandler.cancel_dump_traceback_later()
    # Without what the file has registered for the end, and without its threads.
    os._exit(0)


def _work(channel: Channel, request: dict[str, object]) -> None:
    path = Path(str(request["path"]))
    channel.stage("it is loaded")
    before = set(sys.modules)
    with channel.guarded(path):
        names = load(path)
    loaded = set(sys.modules) - before
    end_copies()
    found = Found(names, path)
    framework = str(request["framework"]) if request["framework"] else framework_of(names, loaded)
    channel.send("names", framework=framework, kinds=found.kinds(), others=found.others())
    if request["task"] is None:
        return
    with channel.guarded(path):
        arrays = library(framework)
    seed_everything(int(str(request["seed"])))
    channel.start()
    OBSERVERS[int(str(request["task"]))](channel, found, arrays)


main()
