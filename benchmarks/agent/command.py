"""`python -m benchmarks agent`: drafters with and without a memory of earlier requests, interleaved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.agent.systems import SYSTEMS, check_systems, open_system
from benchmarks.agent.tasks import Task, agent_tasks, measure, question_tasks
from outrider.bench.comparison import summarise
from outrider.bench.questions import spread
from outrider.cli.bench.questions import WARM_UP, WARM_UP_TOKENS, open_target, show
from outrider.cli.options.drafting import ChosenLookaheadOption
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import counting_bar
from outrider.prompts.files import read_prompts
from outrider.runtimes.base import Model


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What is asked, and of which systems."""

    file: Annotated[
        Path | None, typer.Argument(help="JSON lines with a prompt, or Spec-Bench questions, to be asked twice.")
    ] = None
    count: Annotated[int, typer.Option("--questions", help="The most questions, of all categories in turn.", min=1)] = (
        20
    )
    systems: Annotated[str, typer.Option("--systems", help=f"Of {', '.join(SYSTEMS)}; the first is the baseline.")] = (
        "suffix,suffix-memory,plain"
    )
    num_draft_tokens: ChosenLookaheadOption = None
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens per answer.", min=1)] = 128
    temp: Annotated[float, typer.Option("--temp", help="Of the answers to questions.")] = 0.7
    agent_temp: Annotated[float, typer.Option("--agent-temp", help="Of the answers to the agent.")] = 0.0

    def tasks(self, target: Model) -> list[Task]:
        """The questions twice, if there are any, and the turns of the agent.

        Raises:
            InputError: the file cannot be used.
        """
        agent = agent_tasks(self.max_tokens, self.agent_temp)
        if self.file is None:
            return agent
        questions = spread(read_prompts(self.file), None)[: self.count]
        return question_tasks(questions, target, self.max_tokens, self.temp) + agent


def command(asked: AgentOptions, models: ModelOptions, table: TableOptions) -> None:
    """Measure what a memory of earlier requests gains, in a scripted agent and in questions that are asked twice."""
    names = check_systems(asked.systems)
    target = open_target(models)
    tasks = asked.tasks(target)
    systems = {name: open_system(name, target, asked.num_draft_tokens) for name in names}
    for decoder in systems.values():
        decoder.generate(WARM_UP, max_tokens=WARM_UP_TOKENS)  # the first pass allocates; it is not counted
    with counting_bar("measuring") as progress:
        answers = measure(tasks, systems, progress)
    show(summarise(answers, names[0]), table)
