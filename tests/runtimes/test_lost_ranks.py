"""A rank that dies, stops or does something else ends the run on all of them, in seconds, with one line."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

# One process imports PyTorch, and forks two ranks for each case. A pass adds up over the ranks, so that each waits for
# the other as the layers of a divided model do.
SCRIPT = """
import json, os, signal, sys, tempfile, time
import numpy as np, torch, torch.distributed as dist
import outrider
from outrider.errors import InputError
from outrider.runtimes.table import TableModel
from outrider.runtimes.torch.parallel import spread

TABLE = TableModel.random(8, 2, seed=1)

class Summing:
    def __init__(self, session, case):
        self.session, self.case, self.passes = session, case, 0
        self.rows, self.capacity = session.rows, session.capacity
        self.length, self.truncate = session.length, session.truncate
        self.adopt, self.release, self.rollout = session.adopt, session.release, session.rollout

    def extend(self, work):
        self.passes += 1
        rank = dist.get_rank()
        if self.passes == 5:
            if self.case == f"dies {rank}":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.case == f"stops {rank}":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.case == f"raises {rank}":
                raise RuntimeError("no memory left\\nat all")
            if self.case == f"refuses {rank}":
                raise InputError("too many")
            if self.case == "interrupted" and rank == 0:
                raise KeyboardInterrupt
        if self.case == "all refuse" and self.passes % 5 == 0:
            raise InputError("too many")
        scored = self.session.extend(work)
        dist.all_reduce(torch.ones(4))
        return scored

    def keep(self, row, path):
        if not (self.case == f"skips {dist.get_rank()}" and self.passes == 5):
            self.session.keep(row, path)

class Model:
    def __init__(self, case):
        self.case, self.name, self.traits, self.tokenizer = case, "table", TABLE.traits, None

    def free_bytes(self):
        return None

    def open(self, rows, capacity):
        return Summing(TABLE.open(rows, capacity), self.case)

def rank(case, number, store, told):
    os.dup2(told, 2)
    dist.init_process_group("gloo", rank=number, world_size=2, init_method="file://" + store)
    with spread(Model(case)) as target:
        if target is not None:
            decoder = outrider.SpeculativeDecoder(None, target)
            for _ in range(3):
                try:
                    print(len(decoder.generate([1, 2, 3], max_tokens=20, temperature=0).tokens), file=sys.stderr)
                except outrider.OutriderError as error:
                    print(error, file=sys.stderr)
    dist.destroy_process_group()

def run(case, folder):
    files, ranks = [open(f"{folder}/{number}", "w+") for number in range(2)], []
    for number, file in enumerate(files):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            status = 1
            try:
                rank(case, number, folder + "/store", file.fileno())
                status = 0
            except KeyboardInterrupt:
                status = 130
            finally:
                os._exit(status)
    began, statuses = time.monotonic(), [None, None]
    while None in statuses and time.monotonic() < began + 30:
        for number, process in enumerate(ranks):
            if statuses[number] is None and os.waitpid(process, os.WNOHANG)[0]:
                statuses[number] = True
            if None in statuses and True in statuses and case.startswith("stops"):
                os.kill(ranks[statuses.index(None)], signal.SIGKILL)
        time.sleep(0.02)
    seconds = time.monotonic() - began
    for process, status in zip(ranks, statuses):
        if status is None:
            os.kill(process, signal.SIGKILL)
    return {"seconds": seconds, "ended": None not in statuses, "said": [open(file.name).read() for file in files]}

found = {}
for case in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        found[case] = run(case, folder)
json.dump(found, sys.stdout)
"""
AT_ONCE = ["dies 0", "dies 1", "skips 1", "raises 0", "raises 1", "interrupted", "all refuse", "none"]
WAITING = ["stops 0", "stops 1", "refuses 0", "refuses 1"]  # seconds, by design


def found(cases):
    ran = subprocess.run([sys.executable, "-c", SCRIPT, *cases], capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def line(reason):
    return f"error: {reason}: the run ends here, start it again\n"


def test_all_ranks_end_with_a_line_where_one_is_lost():
    ran = found(AT_ONCE)
    assert all(case["ended"] and case["seconds"] < 10 for case in ran.values()), ran
    said = {name: case["said"] for name, case in ran.items()}
    assert said["dies 0"][1] == line("rank 0 of 2 is gone")
    assert said["dies 1"][0] == line("rank 1 of 2 is gone")
    reason = "the rows of rank 1 of 2 hold [6] tokens and those of rank 0 [7]"
    assert said["skips 1"] == [line(reason)] * 2
    assert said["raises 0"] == [line("rank 0 of 2 failed: no memory left")] * 2
    assert said["raises 1"] == [line("rank 1 of 2 failed: no memory left")] * 2
    assert said["interrupted"] == ["", line("a pass of rank 0 was interrupted")]
    # What all ranks refuse alike is an error of that text alone, and what goes well needs no line.
    assert said["all refuse"] == ["too many\n" * 3, ""]
    assert said["none"] == ["20\n" * 3, ""]


@pytest.mark.processes
def test_a_rank_that_stops_answering_is_waited_for_some_seconds():
    ran = found(WAITING)
    assert all(case["ended"] and case["seconds"] < 12 for case in ran.values()), ran
    said = {name: case["said"] for name, case in ran.items()}
    assert said["stops 0"][1] == line("rank 0 of 2 gave no sign of life for 8 seconds")
    assert said["stops 1"][0] == line("rank 1 of 2 gave no sign of life for 8 seconds")
    for number in range(2):
        reason = line(f"rank {number} of 2 refused what others did not (too many)")
        assert said[f"refuses {number}"] == [reason] * 2
