"""`python -m benchmarks.gpu`: the machine, and then the sections one after the other."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

import benchmarks.gpu
from benchmarks.gpu.first import check_first
from benchmarks.gpu.greedy import check_greedy
from benchmarks.gpu.on_device import check_tests
from benchmarks.gpu.passes import time_passes
from benchmarks.gpu.rounds import profile_rounds, time_rounds
from benchmarks.gpu.rules import check_rules
from benchmarks.gpu.run import Recorder, Run, last_lines
from benchmarks.gpu.sessions import check_sessions
from benchmarks.gpu.speed import time_speed
from benchmarks.gpu.table import count_rounds, time_table

DRY = 0.1  # of the time of a section
ROOT = Path(__file__).resolve().parents[2]


def describe(run: Run) -> None:
    """The card and its limits, and what small steps cost."""
    finding: dict[str, Any] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": str(run.device),
    }
    if run.device.type == "cuda":
        properties = torch.cuda.get_device_properties(run.device)
        finding |= {
            "card": properties.name,
            "gigabytes": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "driver": driver(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
        source = torch.empty(2**30, dtype=torch.int8, device=run.device).random_()
        target = torch.empty_like(source)
        copied = min(run.seconds_of(lambda: target.copy_(source)))
        finding["copy_gigabytes_per_second"] = 2 * source.nbytes / copied / 1e9
        del source, target
        run.free()
    one = torch.ones(1, device=run.device)
    host = torch.ones(8)
    small = {
        "launch": lambda: [one.add_(1) for _ in range(1000)],
        "read_by_host": lambda: [one.item() for _ in range(1000)],
        "copy_from_host": lambda: [host.to(run.device) for _ in range(1000)],
        "tensor_from_list": lambda: [torch.tensor([1, 2, 3], device=run.device) for _ in range(1000)],
    }
    for what, work in small.items():
        finding[f"{what}_microseconds"] = 1000 * min(run.seconds_of(work, 0.1))
    run.record(**finding)


def driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


SECTIONS: dict[str, Callable[[Run], None]] = {
    "first": check_first,
    "sessions": check_sessions,
    "rules": check_rules,
    "greedy": check_greedy,
    "table": time_table,
    "tests": check_tests,
    "speed": time_speed,
    "rounds": time_rounds,
    "passes": time_passes,
    "counts": count_rounds,
    "profile": profile_rounds,
}
SECONDS = {  # 275 in all
    "first": 50,
    "sessions": 20,
    "rules": 20,
    "greedy": 15,
    "table": 95,
    "tests": 15,
    "speed": 15,
    "rounds": 15,
    "passes": 10,
    "counts": 10,
    "profile": 10,
}
LONGEST = 290  # seconds, of all sections


def main(arguments: list[str]) -> int:
    """Run the sections; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", help=f"default all: {', '.join(SECTIONS)}")
    parser.add_argument("--section", action="append", default=[], help="one of them; may be given several times")
    parser.add_argument("--out", type=Path, help="a file of JSON lines, appended to")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="8b,1b,135m")
    parser.add_argument("--seconds", type=float, default=LONGEST, help="for all sections together")
    parser.add_argument("--patience", type=float, default=1.0, help="how many times as long a section may take")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests", help="the repository's tests")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the script itself")
    parser.add_argument("--dry", action="store_true", help="the same without a GPU, in less than a minute")
    given = parser.parse_args(arguments)
    if given.dry:
        given.tiny, given.device, given.patience = True, "cpu", min(given.patience, DRY)
    # The tests have a run of their own where there is no GPU.
    asked = [*given.sections, *given.section]
    sections = asked or [section for section in SECTIONS if not (given.dry and section == "tests")]
    unknown = [section for section in sections if section not in SECTIONS]
    if unknown:
        parser.error(f"section {unknown[0]} is unknown: choose from {', '.join(SECTIONS)}")
    shapes = ["tiny"] if given.tiny else given.shapes.split(",")
    run = Run(Recorder(given.out), torch.device(given.device), shapes, given.tiny, given.tests)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    started = time.perf_counter()
    describe(run)
    for section in sections:
        left = given.seconds - (time.perf_counter() - started)
        if left <= 0:
            break
        run.record.begin(section)
        begun = time.perf_counter()
        run.ends = begun + min(left, given.patience * SECONDS[section])
        try:
            SECTIONS[section](run)
        except Exception as error:
            run.record(right=False, error=last_lines(error))
        run.record(seconds=time.perf_counter() - begun, over=run.over)
    sum_up(run, given.out)
    return 0


def sum_up(run: Run, out: Path | None) -> None:
    """What was wrong, and what to do with the findings."""
    wrong = run.record.wrong
    print(f"\n{len(wrong)} wrong" + ("" if wrong else ": all that was checked is right"))
    for finding in wrong:
        print("  " + finding[:300])
    where = "they were not kept: give --out FILE" if out is None else f"they are in {out}"
    print(f"Findings: {where}. Figures go to docs/benchmarks.md with the card's name, what was checked to docs/gpu.md.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
