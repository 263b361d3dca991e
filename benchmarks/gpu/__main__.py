"""`python -m benchmarks.gpu`: the machine, and then the sections one after the other."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import benchmarks.gpu
from benchmarks.gpu.apart import BROKEN, MARK, supervise
from benchmarks.gpu.first import STEPS, check_first
from benchmarks.gpu.greedy import check_greedy
from benchmarks.gpu.models import TRANSFORMERS
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
        "transformers": version_of("transformers"),
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


def version_of(library: str) -> str:
    try:
        return importlib.metadata.version(library) if importlib.util.find_spec(library) else "not installed"
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def quiet() -> None:
    """No progress bars and no warnings of transformers."""
    if TRANSFORMERS:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()


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
STUCK = 120  # seconds beyond its time after which a section is killed
LONGEST_STEP = 90  # of `first`
LATE = 30  # seconds that a part may go on when the time of all is over


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
    parser.add_argument("--patience", type=float, help="how many times as long a section may take (dry: 0.1)")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests", help="the repository's tests")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the script itself")
    parser.add_argument("--together", action="store_true", help="no process beside this one, which may be killed")
    parser.add_argument("--undescribed", action="store_true", help=argparse.SUPPRESS)  # a process that replaces one
    parser.add_argument("--unsummed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="the same without a GPU, in less than a minute")
    given = parser.parse_args(arguments)
    if given.dry:
        given.tiny, given.device = True, "cpu"
    if given.patience is None:
        given.patience = DRY if given.dry else 1.0
    # The tests have a run of their own where there is no GPU.
    asked = [*given.sections, *given.section]
    sections = asked or [section for section in SECTIONS if not (given.dry and section == "tests")]
    unknown = [section for section in sections if section.partition("/")[0] not in SECTIONS]
    if unknown:
        parser.error(f"section {unknown[0]} is unknown: choose from {', '.join(SECTIONS)}")
    if not (given.together or given.dry):
        return run_apart(sections, given)
    shapes = ["tiny"] if given.tiny else given.shapes.split(",")
    run = Run(Recorder(given.out), torch.device(given.device), shapes, given.tiny, given.tests)
    quiet()
    started = time.perf_counter()
    if not given.undescribed:
        describe(run)
    for part in sections:
        left = given.seconds - (time.perf_counter() - started)
        if left <= 0:
            break
        print(MARK + part, flush=True)
        section, _, run.step = part.partition("/")
        run.record.begin(section)
        begun = time.perf_counter()
        run.ends = begun + min(left, given.patience * SECONDS[section] / (2 if run.step else 1))
        try:
            SECTIONS[section](run)
        except Exception as error:
            run.record(right=False, error=last_lines(error))
        if run.is_broken():
            return BROKEN
        run.record(seconds=time.perf_counter() - begun, over=run.over)
    if not given.unsummed:
        sum_up(run.record.wrong, given.out)
    return 0


def run_apart(sections: list[str], given: argparse.Namespace) -> int:
    """All sections in processes beside this one; each step of `first` may end its process alone."""
    parts = [
        part
        for section in sections
        for part in ([f"first/{step}" for step in STEPS] if section == "first" else [section])
    ]
    options = ["--device", given.device, "--shapes", given.shapes, "--tests", str(given.tests)]
    options += ["--patience", str(given.patience), *(["--tiny"] if given.tiny else [])]
    options += [] if given.out is None else ["--out", str(given.out)]
    wrong, ends = list[str](), time.perf_counter() + float(given.seconds)

    def command(left: Sequence[str], first: bool) -> list[str]:
        seconds = ["--seconds", str(max(ends - time.perf_counter(), 1))]
        alone = ["--together", "--unsummed", *([] if first else ["--undescribed"])]
        return [sys.executable, "-u", "-m", "benchmarks.gpu", *left, *options, *seconds, *alone]

    def say(line: str) -> None:
        print(line, flush=True)
        if " right=False" in line:
            wrong.append(line)

    def limit(part: str) -> float:
        section, _, step = part.partition("/")
        own = float(LONGEST_STEP if step else STUCK + given.patience * SECONDS[section])
        left: float = ends - time.perf_counter()
        return min(own, max(left, 0.0) + LATE)

    wrong += supervise(parts, command, limit, say)
    sum_up(wrong, given.out)
    return 0


def sum_up(wrong: list[str], out: Path | None) -> None:
    """What was wrong, and what to do with the findings."""
    print(f"\n{len(wrong)} wrong" + ("" if wrong else ": all that was checked is right"))
    for finding in wrong:
        print("  " + finding[:300])
    where = "they were not kept: give --out FILE" if out is None else f"they are in {out}"
    print(f"Findings: {where}. Figures go to docs/benchmarks.md with the card's name, what was checked to docs/gpu.md.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
