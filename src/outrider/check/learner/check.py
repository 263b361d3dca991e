"""Checks a learner's file: loads it, observes its tasks two at a time, and judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from difflib import get_close_matches
from pathlib import Path
from threading import Event

from outrider.check.learner.chapter import TASKS, THE_FILE, TITLES, Framework, Task, task_of
from outrider.check.learner.evidence import FALSE_ALARMS
from outrider.check.learner.judges.adaptive import judge_adaptive
from outrider.check.learner.judges.batch import judge_batch
from outrider.check.learner.judges.drafting import judge_decoder
from outrider.check.learner.judges.failures import add_failures
from outrider.check.learner.judges.verification import judge_verification
from outrider.check.learner.process import Observed, Request, observe
from outrider.check.learner.verdicts import Finding, Report, Verdict
from outrider.errors import InputError

LOADING = 15.0  # seconds
TASK = 21.0  # seconds, loading included; two tasks run beside each other
OBSERVING = 13.0  # seconds
WORKERS = 2
JUDGES: dict[int, Callable[[Verdict, Observed], None]] = {
    1: judge_decoder,
    2: judge_verification,
    3: judge_adaptive,
    4: judge_batch,
}
NAMES = ", ".join(task.name for task in TASKS)


def check_solution(
    path: Path,
    *,
    tasks: Sequence[int] = (),
    framework: Framework | None = None,
    seconds: float = OBSERVING,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check what a file defines of what the chapter asks for.

    The file runs in processes of its own, which are ended after a time. Right files are called wrong in less than
    `FALSE_ALARMS` of runs, whatever their own random numbers are.

    Args:
        tasks: numbers 1 to 4; empty for all that the file defines.
        framework: whose arrays it is given; None is what it imports.
        seconds: how long each task is observed at most.
        seed: of the global generators in the file's process.
        progress: told (steps done, all steps).

    Raises:
        InputError: the file does not exist, or defines none of what is asked for.
    """
    path = _existing(path)
    asked = [task_of(number) for number in tasks] or list(TASKS)
    progress(0, len(asked) + 1)
    survey = observe(Request(path, None, framework, LOADING, LOADING, seed))
    defined = _defined(survey)
    if defined is None:
        return Report(path, framework or "numpy", [_unloaded(survey)], FALSE_ALARMS, survey.printed)
    kinds, others, used = defined
    verdicts = {task.number: _first_look(task, kinds[task.name]) for task in asked}
    if all(verdict.state == "missing" for verdict in verdicts.values()):
        raise InputError(_nothing_found(path, asked, others))
    open_tasks = [task for task in asked if verdicts[task.number].state == "passed"]
    progress(1 + len(asked) - len(open_tasks), len(asked) + 1)
    printed = survey.printed
    stop = Event()
    with ThreadPoolExecutor(WORKERS) as workers:
        running = {
            workers.submit(observe, Request(path, task.number, used, seconds, TASK, seed), stop): task
            for task in open_tasks
        }
        try:
            for done, future in enumerate(as_completed(running), start=1):
                observed = future.result()
                printed += observed.printed
                _judge(verdicts[running[future].number], observed)
                progress(1 + len(asked) - len(open_tasks) + done, len(asked) + 1)
        except BaseException:  # an interrupt: nothing runs on in the background
            stop.set()
            workers.shutdown(cancel_futures=True)
            raise
    return Report(path, used, list(verdicts.values()), FALSE_ALARMS, printed)


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file of Python")
    if not path.is_file():
        raise InputError(f"{path} is not there: give a file of Python, or a model as --model {path}")
    return path.resolve()


def _defined(survey: Observed) -> tuple[dict[str, str], list[str], str] | None:
    """Of what kind each of the chapter's names is, other names of the file, and its framework."""
    try:
        told = survey.of("names")[0]
        kinds = {task.name: str(told["kinds"][task.name]) for task in TASKS}
        return kinds, [str(name) for name in told["others"]], str(TITLES[told["framework"]] and told["framework"])
    except (KeyError, TypeError, IndexError):
        return None


def _unloaded(survey: Observed) -> Verdict:
    """What is said of a file that cannot be loaded."""
    verdict = Verdict(THE_FILE)
    add_failures(verdict, survey)
    if not verdict.findings:
        verdict.add(Finding("nonsense"))
    return verdict


def _first_look(task: Task, kind: str) -> Verdict:
    if kind == "missing":
        return Verdict(task, "missing")
    verdict = Verdict(task)
    if kind != "right":
        verdict.add(Finding("wrong_kind", example=(f"{task.name} is {kind}: a {task.kind} is wanted",)))
    return verdict


def _nothing_found(path: Path, asked: Sequence[Task], others: Sequence[str]) -> str:
    names = [task.name for task in asked]
    close = [(other, match[0]) for other in others if (match := get_close_matches(other, names, n=1, cutoff=0.6))]
    hint = f"; is {close[0][0]} meant to be {close[0][1]}?" if close else ""
    wanted = names[0] if len(names) == 1 else f"none of {', '.join(names)}"
    return f"{path.name} does not define {wanted}{hint}" if len(names) == 1 else f"{path.name} defines {wanted}{hint}"


def _judge(verdict: Verdict, observed: Observed) -> None:
    try:
        add_failures(verdict, observed)
        JUDGES[verdict.task.number](verdict, observed)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        # The file has written to the pipe, or has changed the modules that observe it.
        verdict.add(Finding("nonsense"))


__all__ = ["NAMES", "check_solution"]
