"""`outrider check`: is speculative output what plain decoding says, token for token?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outrider.api.decoder import SpeculativeDecoder
from outrider.bench.questions import read_questions
from outrider.check import (
    Answer,
    Decode,
    LogitsAfter,
    Outcome,
    compare,
    logits_of,
    outrider_greedy,
)
from outrider.check.against_plain import ENDED
from outrider.cli import options
from outrider.cli.generate import encode_prompt
from outrider.cli.options import MODELS, OUTPUT, PROMPT, option
from outrider.cli.render import print_json
from outrider.cli.terminal import bar, messages
from outrider.errors import InputError, SettingError
from outrider.runtimes.base import Model

BUILT_IN = (
    "Explain in three sentences why the sky is blue.",
    "Write a short story about a lighthouse keeper who collects clocks.",
    "List the planets of the solar system with one fact about each.",
    "Translate into French: The train leaves at seven, and nobody is late.",
    "Write a Python function that returns the n-th Fibonacci number, and explain it line by line.",
)
FAILED = 1
MARGIN = 1e-4
MARGIN_OF_LLAMA = 0.5  # quantised weights, activations in int8, keys and values in float16
SNIPPET = 24  # characters of a prompt, in the table


def command(
    against_plain: Annotated[
        bool, typer.Option("--against-plain", help="Compare greedy output with plain decoding (the default).")
    ] = True,
    prompts: Annotated[
        Path | None,
        option(PROMPT, "--prompts", "FILE", "Text with a prompt a line, JSON lines, or Spec-Bench questions."),
    ] = None,
    limit: Annotated[int, option(PROMPT, "--limit", "N", "The most prompts, spread evenly over the file.")] = 20,
    max_tokens: Annotated[int, option(PROMPT, "--max-tokens -n", "N", "Tokens per prompt.")] = 64,
    model: options.ModelOption = "smollm2",
    draft_model: options.DraftModelOption = None,
    backend: options.BackendOption = options.Backend.AUTO,
    draft_backend: options.DraftBackendOption = options.Backend.AUTO,
    dtype: Annotated[
        options.Dtype | None,
        option(MODELS, "--dtype", "TYPE", "Precision. Default: float32; in llama.cpp that of the file, or auto."),
    ] = None,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    cache_type: options.CacheTypeOption = None,
    drafter: options.DrafterOption = None,
    num_draft_tokens: options.LookaheadOption = None,
    rule: options.RuleOption = options.Rule.TOKEN,
    margin: Annotated[
        float | None,
        option(
            OUTPUT,
            "--margin",
            "X",
            f"Logit margins below this are rounding. Default: {MARGIN:g}, in llama.cpp {MARGIN_OF_LLAMA:g}.",
        ),
    ] = None,
    as_json: options.JsonOption = False,
    verbose: options.VerboseOption = False,
) -> int:
    """Compare greedy output, token for token, with plain decoding and with the runtime's own."""
    for name, value in (("--limit", limit), ("--max-tokens", max_tokens)):
        if value < 1:
            raise SettingError(f"{name} is {value}: it must be at least 1")
    if margin is not None and not margin >= 0:  # also a NaN
        raise SettingError(f"--margin is {margin}: it must be at least 0")
    runs_in = options.Runtime(backend).backend_of(model)
    in_llama = runs_in == options.Backend.LLAMA
    if dtype is None:
        dtype = options.Dtype.FLOAT32 if runs_in == options.Backend.TORCH else options.Dtype.AUTO
    if margin is None:
        margin = MARGIN_OF_LLAMA if in_llama else MARGIN
    runtime = options.Runtime(backend, dtype, device, threads, cache_type, draft_backend=draft_backend)
    kind = options.resolve_drafter(drafter, draft_model)
    options.resolve_tree(None, kind, rule)
    lookahead = options.fixed_lookahead(kind, num_draft_tokens)
    if kind is options.DrafterKind.NONE:
        raise SettingError("check compares a drafter with plain decoding and --drafter is none: give another")
    texts = evenly(BUILT_IN if prompts is None else read_prompts(prompts), limit)

    target = options.open_model(model, runtime)
    if max_tokens >= target.context_length:
        raise SettingError(
            f"--max-tokens is {max_tokens} and the context of {target.name} holds {target.context_length}: give less"
        )
    room = target.context_length - max_tokens
    encoded = [encode_prompt(target, text, None, False)[:room] for text in texts]
    speculative = SpeculativeDecoder(
        options.open_drafter(kind, draft_model, target, runtime), target, lookahead, rule=rule
    )
    peers: dict[str, Decode] = {}
    judge = logits_of(target)
    if in_llama:
        peers = _llama_cpp(target)
    elif runs_in == options.Backend.MLX:
        peers = _mlx_lm(target)
    elif runs_in == options.Backend.TORCH:
        peers, judge = _transformers(target, model, dtype, device)
    systems = {
        **peers,
        "outrider plain": outrider_greedy(SpeculativeDecoder(None, target, 0)),
        f"outrider {kind}": outrider_greedy(speculative),
    }
    outcomes: list[Outcome] = []
    with bar("checking") as progress:
        for number, found in enumerate(compare(encoded, systems, judge, max_tokens=max_tokens, margin=margin)):
            outcomes += found
            progress(number + 1, len(encoded))
    passed = all(outcome.passed for outcome in outcomes)
    if as_json:
        print_json({"passed": passed, "margin": margin, "outcomes": [asdict(outcome) for outcome in outcomes]})
        return 0 if passed else FAILED
    _show(outcomes, target, texts)
    drafted = sum(outcome.drafted for outcome in outcomes)
    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(
        _verdict(passed, len(texts), drafted, margin, dtype)
    )
    return 0 if passed else FAILED


def read_prompts(file: Path) -> list[str]:
    """One prompt per line of a .txt file; of anything else, the first turns of its questions.

    Raises:
        InputError: the file cannot be read, or holds no prompt.
    """
    if file.suffix != ".txt":
        return [question.text for question in read_questions(file)]
    lines = [line.strip() for line in options.read_file(file).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"file {file} holds no prompt: give one per line")
    return lines


def evenly(texts: Sequence[str], limit: int) -> list[str]:
    """At most `limit` of them, at even distances."""
    count = min(limit, len(texts))
    return [texts[index * len(texts) // count] for index in range(count)]


def _llama_cpp(target: Any) -> dict[str, Decode]:
    """llama.cpp's own greedy decoding."""
    from outrider.runtimes.llamacpp.reference import BareLoop

    loop = BareLoop(target)
    return {"llama.cpp": lambda prompt, max_tokens: Answer(list(loop.stream(prompt, max_tokens)))}


def _mlx_lm(target: Any) -> dict[str, Decode]:
    """mlx-lm's own greedy decoding."""
    from outrider.runtimes.mlx.loading import greedy_generate

    generate = greedy_generate(target)
    return {"mlx-lm": lambda prompt, max_tokens: Answer(generate(prompt, max_tokens))}


def _transformers(target: Model, name: str, dtype: options.Dtype, device: str) -> tuple[dict[str, Decode], LogitsAfter]:
    """transformers' own greedy `generate`, where it computes in the same precision; and its logits in float32."""
    from outrider.runtimes.torch.loading import greedy_generate, open_reference
    from outrider.runtimes.torch.model import TransformersModel

    same = dtype in (options.Dtype.FLOAT32, options.Dtype.BFLOAT16) or target.device.type != "cpu"  # type: ignore[attr-defined]
    reference = open_reference(name, dtype, device) if same else None

    @cache
    def judge() -> LogitsAfter:
        # Opened for the first difference only. Not the model that is checked: it may be what is wrong.
        in_float32 = reference if dtype is options.Dtype.FLOAT32 else open_reference(name, "float32", device)
        return logits_of(TransformersModel(in_float32, name=name))

    def logits_after(tokens: Sequence[int]) -> Any:
        return judge()(tokens)

    if reference is None:
        messages().print(f"transformers has no {dtype} like Outrider's: comparing with plain decoding only")
        return {}, logits_after
    generate = greedy_generate(reference, target.stop_token_ids)
    return {"transformers": lambda prompt, max_tokens: Answer(generate(prompt, max_tokens))}, logits_after


def _show(outcomes: Sequence[Outcome], target: Model, texts: Sequence[str]) -> None:
    console = Console(highlight=False)
    reference = outcomes[0].reference
    table = Table(f"against {reference}", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("prompts", "same", "rounding", "different", "tokens", "drafted", "accepted"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(outcome.other for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.other == name]
        same = sum(outcome.difference is None for outcome in mine)
        failed = sum(not outcome.passed for outcome in mine)
        drafted = sum(outcome.drafted for outcome in mine)
        table.add_row(
            name,
            str(len(mine)),
            f"[green]{same}[/green]" if same == len(mine) else str(same),
            str(len(mine) - same - failed),
            f"[red]{failed}[/red]" if failed else "0",
            str(sum(outcome.tokens for outcome in mine)),
            str(drafted) if drafted else "",
            str(sum(outcome.accepted for outcome in mine)) if drafted else "",
        )
    console.print(table)
    console.print()
    if all(outcome.difference is None for outcome in outcomes):
        return
    columns = ("where they differ", "system", "token", reference, "instead", "margin", "")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for outcome in outcomes:
        if (difference := outcome.difference) is not None:
            table.add_row(
                f"{outcome.prompt + 1} {escape(_snippet(texts[outcome.prompt]))}",
                outcome.other,
                str(difference.place + 1),
                escape(_say(target, difference.reference_token)),
                escape(_say(target, difference.other_token)),
                f"{difference.margin:.1e}",
                "[green]rounding[/green]" if outcome.passed else "[red]different[/red]",
            )
    console.print(table)
    console.print()


def _verdict(passed: bool, prompts: int, drafted: int, margin: float, dtype: options.Dtype) -> str:
    if passed and not drafted:
        return (
            f"[yellow]passed[/yellow], but nothing was drafted on these {prompts} prompts: give others, or more tokens"
        )
    if passed:
        return f"[green]passed[/green]: on {prompts} prompts every token is the same, or within {margin:g} in its logit"
    hint = ""
    if dtype is not options.Dtype.FLOAT32:
        hint = f"; {dtype} rounds more than float32, --margin says how much is allowed"
    return f"[red]failed[/red]: tokens differ by {margin:g} or more in their logits{hint}"


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"


def _say(target: Model, token: int) -> str:
    if token == ENDED:
        return "(end)"
    text = target.tokenizer.decode([token]) if target.tokenizer is not None else ""
    return repr(text) if text else f"token {token}"  # special tokens have no text
