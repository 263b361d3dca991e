"""What the systems are asked, and how they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.agent.script import END, turns
from outrider.api.decoder import SpeculativeDecoder
from outrider.bench.comparison import Answer, question_tokens
from outrider.bench.systems import Measurement
from outrider.prompts.files import FilePrompt
from outrider.prompts.tokens import Prompt
from outrider.runtimes.base import Model

PASSES = ("questions, first pass", "questions, second pass")
AGENT = ("agent, first attempts", "agent, later attempts")


@dataclass(frozen=True)
class Task:
    """One request.

    Attributes:
        category: under which it is summed up.
        stop: strings that end the answer.
    """

    category: str
    prompt: Prompt
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()


def agent_tasks(max_tokens: int, temperature: float) -> list[Task]:
    """The turns of the scripted agent."""
    return [
        Task(AGENT[turn.attempt > 0], turn.prompt, max_tokens, temperature, seed, (END,))
        for seed, turn in enumerate(turns())
    ]


def question_tasks(questions: Sequence[FilePrompt], target: Model, max_tokens: int, temperature: float) -> list[Task]:
    """All questions, and then all of them again with other seeds."""
    prompts = [question_tokens(question, target, max_tokens) for question in questions]
    return [
        Task(category, prompt, max_tokens, temperature, 1000 * number + seed)
        for number, category in enumerate(PASSES)
        for seed, prompt in enumerate(prompts)
    ]


def measure(
    tasks: Sequence[Task], systems: Mapping[str, SpeculativeDecoder], progress: Callable[[int, int], None]
) -> list[Answer]:
    """Every system on every task in their order; the systems take turns in going first."""
    answers = []
    names = list(systems)
    for number, task in enumerate(tasks):
        turned = names[number % len(names) :] + names[: number % len(names)]
        measured = {name: _answer(systems[name], task) for name in turned}
        answers.append(Answer(task.category, {name: measured[name] for name in names}))
        progress(number + 1, len(tasks))
    return answers


def _answer(decoder: SpeculativeDecoder, task: Task) -> Measurement:
    made = decoder.generate(
        task.prompt, max_tokens=task.max_tokens, temperature=task.temperature, seed=task.seed, stop=task.stop
    )
    return Measurement(made.tokens, made.stats.seconds_prefill, made.stats.seconds_decoding, made.stats)
