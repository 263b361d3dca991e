"""Outrider's proposer inside vLLM beside vLLM's own decoding: run it with the Python of vLLM's environment.

    python -m benchmarks.vllm_host MODEL QUESTIONS.jsonl [--systems plain,ngram,outrider] [--rows 1,8] [--agent]

--agent adds the turns of a scripted agent that edits a file (benchmarks/agent/script.py). Each system is a vLLM of its
own, in a process of its own; the systems take turns over portions of the questions, so that a machine that slows down
favours none. Greedy: every system's text is compared with plain vLLM's.

--systems plain,eagle3 has vLLM itself draft with a head that `outrider train` wrote (--head), and prints how many
tokens a step emits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.agent.script import END, turns

SPECULATION: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "ngram": {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2},
    "outrider": {"method": "custom_class", "model": "outrider.hosts.vllm.Proposer", "num_speculative_tokens": 8},
    "eagle3": {"method": "eagle3", "num_speculative_tokens": 3},
}
SHIPPED = Path(__file__).parents[1] / "src" / "outrider" / "drafters" / "heads" / "smollm2"
SPECULATION["outrider-lookup"] = SPECULATION["outrider"]
ENVIRONMENT = {"outrider-lookup": {"OUTRIDER_VLLM_DRAFTER": "lookup"}}
READY = "ready"
STEPS, ACCEPTED = "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_accepted_tokens"


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

    ask(["Hello"], None)
    print(READY, file=channel, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        found = ask(asked["texts"], asked["stop"])
        seconds = time.perf_counter() - begun
        answers = [list(each.outputs[0].token_ids) for each in found]
        drafts = {each.name: each.value for each in engine.get_metrics() if each.name in (STEPS, ACCEPTED)}
        print(json.dumps({"seconds": seconds, "tokens": answers, "drafts": drafts}), file=channel, flush=True)


class Worker:
    """A system in its process."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.vllm_host", arguments.model, arguments.questions, "--serve", name]
        command += ["--tokens", str(arguments.tokens), "--dtype", arguments.dtype]
        command += ["--head", str(arguments.head), *(["--eager"] if arguments.eager else [])]
        self.drafts: dict[str, int] = {}
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
        self.drafts = answer["drafts"]
        return answer

    @property
    def mean_acceptance_length(self) -> float | None:
        """Tokens that a step of drafting and verifying emitted so far; None where nothing was drafted."""
        steps = self.drafts.get(STEPS, 0)
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
    parser.add_argument("--limit", type=int, default=26)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("--agent", action="store_true", help="the agent's turns besides")
    parser.add_argument("--eager", action="store_true", help="compile nothing: slower, and sooner ready")
    parser.add_argument("--head", type=Path, default=SHIPPED, help="for eagle3")
    parser.add_argument("--same", action="store_true", help="fail where a text of Outrider's is not the first system's")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments)
        return
    lines = [json.loads(line) for line in Path(arguments.questions).read_text(encoding="utf-8").splitlines()]
    chosen = [lines[number * len(lines) // arguments.limit] for number in range(min(arguments.limit, len(lines)))]
    agent = [
        {"category": f"agent, {'first' if not turn.attempt else 'later'}", "turns": [turn.prompt], "stop": END}
        for turn in (turns() if arguments.agent else [])
    ]
    names = arguments.systems.split(",")
    workers = {}
    for name in names:
        workers[name] = Worker(name, arguments)
        workers[name].wait()  # one after the other: each takes all cores to start
    differ = False
    for rows in map(int, arguments.rows.split(",")):
        print(f"\n{rows} at a time")
        seconds, answers = measure(workers, names, chosen, rows)
        in_turn, edits = measure(workers, names, agent, rows)
        for name in names:
            seconds[name] += in_turn[name]
            answers[name] += edits[name]
        report(names, chosen + agent, seconds, answers)
        differ |= any(answers[name] != answers[names[0]] for name in names[1:] if name != "ngram")
    for name, worker in workers.items():
        if (length := worker.mean_acceptance_length) is not None:
            print(f"{name:16} {length:.2f} tokens per step: the mean acceptance length", flush=True)
    for worker in workers.values():
        worker.close()
    if arguments.same and differ:
        raise SystemExit("error: greedy texts differ")


def measure(workers: dict[str, Worker], names: list[str], chosen: list[dict[str, Any]], rows: int) -> tuple[Any, Any]:
    """Seconds and answers of every system for every question, `rows` questions at a time."""
    seconds: dict[str, list[float]] = defaultdict(list)
    answers: dict[str, list[list[int]]] = defaultdict(list)
    for turn, start in enumerate(range(0, len(chosen), rows)):
        portion = [line["turns"][0] for line in chosen[start : start + rows]]
        order = names if turn % 2 == 0 else names[::-1]
        for name in order:
            found = workers[name].ask(portion, chosen[start].get("stop"))
            seconds[name] += [found["seconds"] / len(portion)] * len(portion)
            answers[name] += found["tokens"]
    return seconds, answers


def report(names: list[str], chosen: list[dict[str, Any]], seconds: Any, answers: Any) -> None:
    """Tokens per second over all, the ratio to plain decoding by category, and how many texts are plain's."""
    categories = list(dict.fromkeys(line.get("category", "all") for line in chosen))
    speed = {
        name: [len(tokens) / taken for tokens, taken in zip(answers[name], seconds[name], strict=True)]
        for name in names
    }
    for name in names:
        emitted, taken = sum(map(len, answers[name])), sum(seconds[name])
        same = sum(mine == plain for mine, plain in zip(answers[name], answers[names[0]], strict=True))
        print(f"{name:16} {emitted / taken:7.1f} tokens/s  {same} of {len(chosen)} texts as {names[0]}")
    for category in categories:
        places = [place for place, line in enumerate(chosen) if line.get("category", "all") == category]
        ratios = [median([speed[name][place] / speed[names[0]][place] for place in places]) for name in names[1:]]
        print(f"  {category:16}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
