"""`outrider check`: is speculative output what plain decoding says, token for token?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from outrider.bench.questions import Question, read_questions, spread
from outrider.check.against_plain import Decode, Outcome, compare, outrider_greedy
from outrider.cli import options
from outrider.cli.generate import encode_prompt
from outrider.cli.terminal import bar, messages
from outrider.decoder import SpeculativeDecoder
from outrider.errors import SettingError
from outrider.models.base import Model

BUILT_IN = (
    "Explain in three sentences why the sky is blue.",
    "Write a short story about a lighthouse keeper who collects clocks.",
    "List the planets of the solar system with one fact about each.",
    "Translate into French: The train leaves at seven, and nobody is late.",
    "Write a Python function that returns the n-th Fibonacci number, and explain it line by line.",
)
FAILED = 1


def command(
    against_plain: Annotated[
        bool, typer.Option("--against-plain", help="Compare greedy output with plain decoding (the default).")
    ] = True,
    model: options.ModelOption = "smollm2",
    draft_model: options.DraftModelOption = None,
    drafter: options.DrafterOption = None,
    num_draft_tokens: options.LookaheadOption = None,
    rule: options.RuleOption = options.Rule.TOKEN,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="JSON lines with a prompt, or Spec-Bench questions.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="The most prompts.", min=1)] = 20,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens per prompt.", min=1)] = 64,
    margin: Annotated[float, typer.Option("--margin", help="Logit margins below this are rounding.", min=0)] = 1e-4,
    dtype: options.DtypeOption = options.Dtype.FLOAT32,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: options.JsonOption = False,
    verbose: options.VerboseOption = False,
) -> int:
    """Compare greedy output, token for token, with plain decoding and with the runtime's own."""
    kind = options.resolve_drafter(drafter, draft_model)
    lookahead = options.resolve_lookahead(kind, num_draft_tokens)
    if kind is options.DrafterKind.NONE:
        raise SettingError("check compares a drafter with plain decoding and --drafter is none: give another")
    questions = [Question("built-in", text) for text in BUILT_IN] if prompts is None else read_questions(prompts)
    target = options.open_model(model, dtype, device, threads)
    encoded = [
        encode_prompt(target, question.text, None, False)[: target.context_length - max_tokens]
        for question in spread(questions, None)[:limit]
    ]
    systems = _systems(target, model, dtype, device)
    spec = SpeculativeDecoder(
        options.open_drafter(kind, draft_model, target, dtype, device), target, lookahead, rule=rule
    )
    systems[f"outrider {kind}"] = outrider_greedy(spec)

    outcomes: list[Outcome] = []
    with bar("checking") as progress:
        for number, found in enumerate(compare(encoded, systems, target, max_tokens=max_tokens, margin=margin)):
            outcomes += found
            progress(number + 1, len(encoded))
    passed = all(outcome.passed for outcome in outcomes)
    if as_json:
        print(json.dumps({"passed": passed, "margin": margin, "outcomes": [asdict(outcome) for outcome in outcomes]}))
    else:
        _show(outcomes, target, list(systems), len(encoded), margin)
    return 0 if passed else FAILED


def _systems(target: Model, name: str, dtype: options.Dtype, device: str) -> dict[str, Decode]:
    """The references: transformers' own `generate` where it can be had, and Outrider's plain decoding."""
    systems: dict[str, Decode] = {}
    if dtype in (options.Dtype.FLOAT32, options.Dtype.BFLOAT16) or "cuda" in device:
        from outrider.models.transformers_loading import reference_generate

        systems["transformers"] = reference_generate(name, dtype, target.stop_token_ids)
    else:
        messages().print(f"transformers does not compute {dtype} as Outrider does: comparing with plain decoding only")
    systems["outrider plain"] = outrider_greedy(SpeculativeDecoder(None, target, 0))
    return systems


def _show(outcomes: Sequence[Outcome], target: Model, systems: Sequence[str], prompts: int, margin: float) -> None:
    console = Console(highlight=False)
    differing = [outcome for outcome in outcomes if outcome.difference is not None]
    if differing:
        table = Table("prompt", "system", "token", systems[0], "instead", "logit margin", "", box=None)
        for outcome in differing:
            difference = outcome.difference
            assert difference is not None
            table.add_row(
                str(outcome.prompt + 1),
                outcome.other,
                str(difference.place + 1),
                _say(target, difference.reference_token),
                _say(target, difference.other_token),
                f"{difference.margin:.2e}",
                "[green]rounding[/green]" if outcome.passed else "[red]differs[/red]",
            )
        console.print(table)
    for name in systems[1:]:
        mine = [outcome for outcome in outcomes if outcome.other == name]
        same = sum(outcome.difference is None for outcome in mine)
        failed = sum(not outcome.passed for outcome in mine)
        verdict = "[green]passed[/green]" if not failed else f"[red]{failed} failed[/red]"
        tokens = sum(outcome.tokens for outcome in mine)
        console.print(
            f"{name} against {systems[0]}: {same} of {prompts} prompts the same in all tokens ({tokens} in sum), "
            f"{len(mine) - same - failed} within a margin of {margin:g}: {verdict}"
        )


def _say(target: Model, token: int) -> Any:
    if token < 0:
        return "(end)"
    return repr(target.tokenizer.decode([token])) if target.tokenizer is not None else str(token)
