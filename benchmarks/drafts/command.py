"""`python -m benchmarks drafts`: which source proposed what, and what was accepted, by category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.drafts.measurement import Sources, by_category
from benchmarks.drafts.picture import draw
from outrider.bench.comparison import question_tokens
from outrider.cli.options.drafters import drafter_with
from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import counting_bar
from outrider.maths.sampling import SamplingParams
from outrider.prompts.files import read_prompts


def command(
    questions: Annotated[Path, typer.Argument(metavar="FILE", help="Spec-Bench questions: JSON lines.")],
    runtime: RuntimeOptions,
    model: Annotated[str, option("--model -m", "NAME", "The target.")] = "smollm2",
    drafter: Annotated[str, option("--drafter", "KIND", "What drafts.")] = "lookup",
    draft_model: Annotated[
        str | None, option("--draft-model -md", "HEAD", "A draft head, for the kinds head and merged.")
    ] = None,
    num_draft_tokens: Annotated[
        int | None, option("--num-draft-tokens", "N", "Nodes of every tree; 0 leaves it to measured times.")
    ] = 16,
    max_tokens: Annotated[int, option("--max-tokens -n", "N", "Of each answer.")] = 128,
    every: Annotated[int, option("--every", "N", "Take every N-th question.")] = 1,
    temp: Annotated[float, option("--temp", "T", "0 is greedy.")] = 0.0,
    picture: Annotated[Path | None, option("--picture", "FILE", "Draw it (.svg or .png).")] = None,
    json_file: Annotated[Path | None, option("--json", "FILE", "Write the counts.")] = None,
) -> None:
    """Which source proposed what, and what was accepted."""
    asked = read_prompts(questions)[::every]
    target = runtime.open(model)
    prompts = [(question.category, question_tokens(question, target, max_tokens)) for question in asked]
    with counting_bar("decoding") as progress:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            progress(done, len(prompts))

        found = by_category(
            target,
            drafter_with(drafter, draft_model).open(lambda: target, target),  # type: ignore[arg-type]
            prompts,
            num_draft_tokens or None,
            max_tokens,
            SamplingParams(temperature=temp, seed=0),
            step,
        )
    for name, each in found.items():
        print(_line(name, each))
    if json_file is not None:
        json_file.write_text(json.dumps({name: vars(each) for name, each in found.items()}, indent=1) + "\n")
    if picture is not None:
        nodes = f"{num_draft_tokens} nodes" if num_draft_tokens else "sizes by measured times"
        draw(found, f"{model}, {drafter}, {nodes}, {len(prompts)} answers of up to {max_tokens} tokens", picture)


def _line(name: str, each: Sources) -> str:
    rounds = max(each.rounds, 1)
    parts = [
        f"{source} {each.accepted[source] / rounds:.2f} of {each.proposed[source] / rounds:.1f}"
        for source in sorted(each.proposed)
    ]
    return f"{name:15} {each.tokens_per_round:5.2f} tokens per round; accepted of proposed: {', '.join(parts)}"
