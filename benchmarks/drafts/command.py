"""`python -m benchmarks drafts`: which source proposed what, and what was accepted, by category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.drafts.measurement import Sources, by_category
from benchmarks.drafts.picture import draw
from outrider.cli.options.drafters import drafter_named
from outrider.cli.options.group import option
from outrider.cli.options.models import RuntimeOptions
from outrider.cli.terminal import bar
from outrider.errors import InputError
from outrider.maths.sampling import SamplingParams
from outrider.prompts.chat import Chat, encode


def command(
    questions: Annotated[Path, typer.Argument(metavar="FILE", help="Spec-Bench questions: JSON lines.")],
    runtime: RuntimeOptions,
    model: Annotated[str, option("--model -m", "NAME", "The target.")] = "smollm2",
    drafter: Annotated[str, option("--drafter", "KIND", "What drafts.")] = "lookup",
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
    target = runtime.open(model)
    asked = _questions(questions)[::every]
    prompts = [(category, encode(text, target.tokenizer, model, Chat())) for category, text in asked]
    fitting = [pair for pair in prompts if len(pair[1]) + max_tokens < target.traits.context_length]
    with bar("decoding") as progress:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            progress(done, len(fitting))

        found = by_category(
            target,
            drafter_named(drafter).open(lambda: target, target),  # type: ignore[arg-type]
            fitting,
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
        draw(found, f"{model}, {drafter}, {nodes}, {len(fitting)} answers of up to {max_tokens} tokens", picture)


def _questions(file: Path) -> list[tuple[str, str]]:
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        return [(line["category"], line["turns"][0]) for line in lines]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} holds no Spec-Bench questions ({error}): give JSON lines with turns") from error


def _line(name: str, each: Sources) -> str:
    rounds = max(each.rounds, 1)
    parts = [
        f"{source} {each.accepted[source] / rounds:.2f} of {each.proposed[source] / rounds:.1f}"
        for source in sorted(each.proposed)
    ]
    return f"{name:15} {each.tokens_per_round:5.2f} tokens per round; accepted of proposed: {', '.join(parts)}"
