r"""Outrider's proposer inside vLLM beside vLLM's own decoding: run it with the Python of vLLM's environment.

    python -m benchmarks.vllm_host MODEL QUESTIONS.jsonl [--systems plain,ngram,outrider] [--rows 1,8] [--each N] \
        [--agent]

--agent adds the turns of a scripted agent that edits a file (benchmarks/agent/script.py). Each system is a vLLM of its
own, in a process of its own; the systems take turns over portions of the questions, so that a machine that slows down
favours none. A portion has questions of one category. Each number of rows begins with a new process of Outrider's,
which remembers no answers to the same questions. Greedy: every system's text is compared with plain vLLM's.

--systems plain,silent has vLLM ask a proposer that never drafts. --systems plain,eagle3 has vLLM itself draft with a
head that `outrider train` wrote (--head), and prints how many tokens a step emits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks.agent.script import END, turns

Line = dict[str, Any]  # a question, or an answer

SPECULATION: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "ngram": {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2},
    "outrider": {"method": "custom_class", "model": "outrider.hosts.vllm.Proposer", "num_speculative_tokens": 8},
    "eagle3": {"method": "eagle3", "num_speculative_tokens": 3},
    "silent": {"method": "custom_class", "model": "benchmarks.vllm_host.Silent", "num_speculative_tokens": 8},
}
SHIPPED = Path(__file__).parents[1] / "src" / "outrider" / "drafters" / "heads" / "smollm2"
SPECULATION["outrider-lookup"] = SPECULATION["outrider"]
ENVIRONMENT = {"outrider-lookup": {"OUTRIDER_VLLM_DRAFTER": "lookup"}}
READY = "ready"
REST = 1.2  # seconds after an answer: vLLM's worker spins for a second before it sleeps, and would disturb the next one
STEPS, ACCEPTED = "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_accepted_tokens"


class Silent:
    """A proposer that never drafts: what vLLM takes for being ready to verify."""

    def __init__(self, vllm_config: Any) -> None:
        """vLLM's own settings say nothing to it."""

    def load_model(self, *arguments: Any, **settings: Any) -> None:
        """There are no weights."""

    def propose(self, sampled_token_ids: Any, *arguments: Any, **settings: Any) -> list[list[int]]:
        return [[] for _ in sampled_token_ids]


def serve(name: str, arguments: argparse.Namespace) -> None:
    """One system: reads portions of prompts from standard input, and writes answers, seconds and what was drafted."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints on standard output
    from vllm import LLM, SamplingParams

    speculation = SPECULATION[name]
    if speculation is not None and name == "eagle3":
        speculation = speculation | {"model": str(arguments.head)}
    engine = LLM(
        arguments.model,
        dtype=arguments.dtype,
        max_model_len=4096,
        speculative_config=speculation,
        enable_prefix_caching=False,
        disable_log_stats=False,
        enforce_eager=arguments.eager,
    )

    def ask(texts: list[str], stop: str | None) -> Any:
        """Questions are put to the chat template; what has a stop string is continued as it is."""
        settings = SamplingParams(temperature=0, max_tokens=arguments.tokens, stop=stop)
        if stop is not None:
            return engine.generate(texts, settings, use_tqdm=False)
        return engine.chat([[{"role": "user", "content": text}] for text in texts], settings, use_tqdm=False)

    def counted() -> dict[str, int]:
        return {each.name: each.value for each in engine.get_metrics() if each.name in (STEPS, ACCEPTED)}

    ask(["Hello"] * max(map(int, arguments.rows.split(","))), None)
    before = Counter(counted())
    print(READY, file=channel, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        found = ask(asked["texts"], asked["stop"])
        seconds = time.perf_counter() - begun
        answers = [list(each.outputs[0].token_ids) for each in found]
        decoding = [each.metrics.last_token_ts - each.metrics.first_token_ts for each in found]
        now = Counter(counted())
        drafts, before = now - before, now
        answer = {"seconds": seconds, "decoding": decoding, "tokens": answers, "drafts": drafts}
        print(json.dumps(answer), file=channel, flush=True)


class Worker:
    """A system in its process."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.vllm_host", arguments.model, arguments.questions, "--serve", name]
        command += ["--rows", arguments.rows, "--tokens", str(arguments.tokens), "--dtype", arguments.dtype]
        command += ["--head", str(arguments.head), *(["--eager"] if arguments.eager else [])]
        self.drafts = Counter[str]()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=arguments.log.open("a"),
            text=True,
            env=os.environ | ENVIRONMENT.get(name, {}),
        )

    def wait(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            raise SystemExit("a vLLM did not start: see the log")

    def ask(self, prompts: list[str], stop: str | None) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"texts": prompts, "stop": stop}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.drafts.update(answer["drafts"])
        time.sleep(REST)
        return answer

    @property
    def mean_acceptance_length(self) -> float | None:
        """Tokens that a step of drafting and verifying emitted; None where nothing was drafted."""
        steps = self.drafts[STEPS]
        return 1 + self.drafts[ACCEPTED] / steps if steps else None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends by itself, and its own processes with it
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("questions")
    parser.add_argument("--systems", default="plain,ngram,outrider")
    parser.add_argument("--rows", default="1,8")
    parser.add_argument("--limit", type=int, default=26, help="so many questions, evenly from the file")
    parser.add_argument("--each", type=int, help="the first so many questions of each category, and no --limit")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("--agent", action="store_true", help="the agent's turns besides")
    parser.add_argument("--eager", action="store_true", help="compile nothing: slower, and sooner ready")
    parser.add_argument("--head", type=Path, default=SHIPPED, help="for eagle3")
    parser.add_argument("--same", action="store_true", help="fail where a text of Outrider's is not the first system's")
    parser.add_argument("--results", type=Path, help="a file for a line about each portion of each system")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments)
        return
    lines = [json.loads(line) for line in Path(arguments.questions).read_text(encoding="utf-8").splitlines()]
    chosen = chosen_questions(lines, arguments.each, arguments.limit)
    if arguments.agent:
        for turn in turns():
            category = f"agent, {'first' if not turn.attempt else 'later'}"
            chosen.append({"category": category, "turns": [turn.prompt], "stop": END})
    names = arguments.systems.split(",")
    differ, workers = False, dict[str, Worker]()
    for rows in map(int, arguments.rows.split(",")):
        for name in names:
            if name in workers and not name.startswith("outrider"):
                workers[name].drafts.clear()
                continue
            if name in workers:
                workers[name].close()
            print(f"starting vLLM: {name} (a minute, more while other programs run)", file=sys.stderr, flush=True)
            workers[name] = Worker(name, arguments)
            workers[name].wait()  # one after the other: each takes all cores to start
        print(f"\n{rows} at a time")
        answers = measure(workers, chosen, rows, arguments.results)
        report(names, chosen, answers, decoding=rows == 1)
        texts = {name: [answer["tokens"] for answer in answers[name]] for name in names}
        differ |= any(texts[name] != texts[names[0]] for name in names[1:] if name != "ngram")
        for name, worker in workers.items():
            if (length := worker.mean_acceptance_length) is not None:
                print(f"{name:16} {length:.2f} tokens per step: the mean acceptance length", flush=True)
    for worker in workers.values():
        worker.close()
    if arguments.same and differ:
        raise SystemExit("error: greedy texts differ")


def chosen_questions(lines: list[Line], each: int | None, limit: int) -> list[Line]:
    """`each` of every category; otherwise `limit` of all lines, evenly."""
    if each is None:
        return [lines[number * len(lines) // limit] for number in range(min(limit, len(lines)))]
    return [line for _, of_category in by_category(lines) for line in of_category[:each]]


def by_category(lines: list[Line]) -> list[tuple[str, list[Line]]]:
    """The lines of each category, in the order of the categories' first lines."""
    categories: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        categories[line.get("category", "all")].append(line)
    return list(categories.items())


def measure(workers: dict[str, Worker], chosen: list[Line], rows: int, results: Path | None) -> dict[str, list[Line]]:
    """The answer of every system to every question, `rows` questions of one category at a time."""
    answers: dict[str, dict[int, Line]] = {name: {} for name in workers}
    portions = [
        (category, lines[start : start + rows])
        for category, lines in by_category(chosen)
        for start in range(0, len(lines), rows)
    ]
    for turn, (category, portion) in enumerate(portions):
        order = list(workers) if turn % 2 == 0 else list(workers)[::-1]
        for name in order:
            found = workers[name].ask([line["turns"][0] for line in portion], portion[0].get("stop"))
            for line, tokens, decoding in zip(portion, found["tokens"], found["decoding"], strict=True):
                seconds = found["seconds"] / len(portion)
                answers[name][id(line)] = {"tokens": tokens, "seconds": seconds, "decoding": decoding}
            if results is not None:
                with results.open("a") as file:
                    print(json.dumps({"system": name, "rows": rows, "category": category, **found}), file=file)
    return {name: [answers[name][id(line)] for line in chosen] for name in workers}


def report(names: list[str], chosen: list[Line], answers: dict[str, list[Line]], decoding: bool) -> None:
    """Tokens per second, how many texts are the first system's, and by category the speed relative to that system.

    Args:
        decoding: whether to add the speed without the reading of prompts.
    """
    for name in names:
        emitted = sum(len(answer["tokens"]) for answer in answers[name])
        taken = sum(answer["seconds"] for answer in answers[name])
        same = sum(
            mine["tokens"] == first["tokens"] for mine, first in zip(answers[name], answers[names[0]], strict=True)
        )
        print(f"{name:16} {emitted / taken:7.1f} tokens/s  {same} of {len(chosen)} texts as {names[0]}")
    print(f"{'':18}" + "".join(f"{name:>10}" for name in names[1:]) + ("   without the prompts" if decoding else ""))
    for category, lines in [*by_category(chosen), ("all", chosen)]:
        members = {id(line) for line in lines}
        places = [place for place, line in enumerate(chosen) if id(line) in members]
        kinds = ("seconds", "decoding") if decoding else ("seconds",)
        ratios = [
            speed(answers[name], places, kind) / speed(answers[names[0]], places, kind)
            for kind in kinds
            for name in names[1:]
        ]
        print(f"  {category:16}" + "".join(f"{ratio:10.2f}" for ratio in ratios))


def speed(answers: list[Line], places: list[int], kind: str) -> float:
    """Tokens per second in these places."""
    chosen = [answers[place] for place in places]
    taken: float = sum(answer[kind] for answer in chosen)
    return sum(len(answer["tokens"]) for answer in chosen) / taken


if __name__ == "__main__":
    main()
