"""`outrider bench`: systems side by side on the same questions, interleaved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from outrider.api.decoder import SpeculativeDecoder
from outrider.bench.batches import BatchRow, run_batches
from outrider.bench.comparison import Row, question_tokens, run_comparison, summarise
from outrider.bench.overhead import LOOKAHEAD, VOCABULARY, Overhead, measure_overheads
from outrider.bench.questions import read_questions, spread
from outrider.bench.systems import System, outrider_system, transformers_system
from outrider.cli import options
from outrider.cli.simulation import run_simulation
from outrider.cli.terminal import bar
from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine, Observer
from outrider.errors import InputError, SettingError
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model

DRAFTING = tuple(kind.value for kind in options.DrafterKind if kind is not options.DrafterKind.NONE)
LLAMA_PEERS = ("llama-cpp-loop", "llama-cpp-python", "llama-cpp-lookup")
KNOWN = ("plain", *DRAFTING, "transformers", *LLAMA_PEERS)
LOOKUP_TOKENS = 10  # LlamaPromptLookupDecoding's own default


def command(
    questions: Annotated[
        Path | None,
        typer.Option("--questions", help="JSON lines with a prompt, or Spec-Bench questions.", show_default=False),
    ] = None,
    model: options.ModelOption = "smollm2",
    draft_model: options.DraftModelOption = None,
    systems: Annotated[
        str,
        typer.Option(
            "--systems",
            help=f"What to measure, of {', '.join(KNOWN)}; the first is the baseline. suffix@4 drafts 4 tokens in "
            "every round, suffix alone what promises most tokens per second; llama-cpp-lookup@2 is llama-cpp-python's "
            "prompt lookup with 2.",
        ),
    ] = "plain,suffix",
    num_draft_tokens: options.LookaheadOption = None,
    rule: options.RuleOption = options.Rule.TOKEN,
    temp: Annotated[float, typer.Option("--temp", "--temperature", help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    categories: Annotated[str | None, typer.Option("--categories", help="Only these, separated by commas.")] = None,
    per_category: Annotated[
        int | None, typer.Option("--per-category", help="The most questions of each category.", min=1)
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens per answer.", min=1)] = 128,
    batch: Annotated[
        int | None,
        typer.Option("--batch", help="Instead: so many questions at once against one after the other.", min=2),
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate", help="Instead: lookahead policies in simulated rounds, against the best that could be done."
        ),
    ] = False,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Instead: what a round costs besides the passes of the models.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw what --simulate found: picture.svg or picture.png."),
    ] = None,
    backend: options.BackendOption = options.Backend.AUTO,
    draft_backend: options.DraftBackendOption = options.Backend.AUTO,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    peer_dtype: Annotated[
        options.Dtype, typer.Option("--peer-dtype", help="Precision of the peers, which know no packed weights.")
    ] = options.Dtype.BFLOAT16,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    cache_type: options.CacheTypeOption = None,
    as_json: options.JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Measure systems side by side, interleaved question by question."""
    if plot is not None and not simulate:
        raise SettingError("--plot draws what --simulate finds: give both")
    if simulate or overhead:
        if questions is not None or batch is not None or (simulate and overhead):
            flag = "--simulate" if simulate else "--overhead"
            raise SettingError(f"{flag} asks no questions and runs no model: leave --questions and the like out")
    elif questions is None:
        raise SettingError("there is nothing to measure: give --questions FILE, --simulate or --overhead")
    if simulate:
        run_simulation(seed, plot, as_json, markdown)
        return
    if overhead:
        with bar("measuring") as progress:
            _show_overheads(measure_overheads(progress), as_json, markdown)
        return
    assert questions is not None
    names = [name.strip() for name in systems.split(",") if name.strip()]
    if not names or not all(_is_known(name) for name in names):
        raise SettingError(
            f"--systems is {systems!r}: choose from {', '.join(KNOWN)}, and after a drafter or llama-cpp-lookup a "
            "lookahead, like @4"
        )
    with_model = next((name for name in names if name.partition("@")[0] in options.MODEL_DRAFTERS), None)
    if with_model is not None and draft_model is None:
        raise SettingError(f"--systems has {with_model} and there is no --draft-model: give one")
    sampling = SamplingParams(temperature=temp, seed=seed)
    asked = read_questions(questions)
    if categories is not None:
        wanted = {name.strip() for name in categories.split(",")}
        asked = [question for question in asked if question.category in wanted]
        if not asked:
            raise InputError(f"--categories is {categories!r}: {questions} has no question of these")
    runtime = options.Runtime(backend, dtype, device, threads, cache_type, draft_backend=draft_backend)
    peers = [name for name in names if _kind(name) in LLAMA_PEERS]
    if peers and runtime.backend_of(model) != options.Backend.LLAMA:
        raise SettingError(f"--systems has {peers[0]}, which runs GGUF files: give --backend llama, or leave it out")
    target = options.open_model(model, runtime)
    if target.tokenizer is None:
        raise InputError(f"model {model} has no tokenizer beside it: give a model folder with tokenizer files")
    if batch is not None:
        if foreign := [name for name in names if name == "transformers" or name in peers]:
            raise SettingError(f"--batch compares Outrider with itself: leave {foreign[0]} out of --systems")
        makers = {name: _engines(name, target, draft_model, num_draft_tokens, rule, runtime) for name in names}
        prompts = [question_tokens(question, target, max_tokens) for question in spread(asked, per_category)]
        with bar("measuring") as progress:
            found = run_batches(prompts, makers, batch, max_tokens, target.stop_token_ids, sampling, progress)
        _show_batches(found, as_json, markdown)
        return
    built = {
        name: _system(name, target, model, draft_model, num_draft_tokens, rule, sampling, runtime, peer_dtype)
        for name in names
    }
    for system in built.values():
        system(target.tokenizer.encode("Once upon a time"), 4)  # the first pass allocates; it is not counted
    with bar("measuring") as progress:
        answers = run_comparison(
            spread(asked, per_category),
            built,
            target,
            max_tokens,
            progress,
        )
    rows = summarise(answers, names[0])
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    elif markdown:
        print(_markdown(rows, names[0]))
    else:
        _show(rows, names[0])


def _system(
    name: str,
    target: Model,
    model: str,
    draft_model: str | None,
    num_draft_tokens: int | None,
    rule: options.Rule,
    sampling: SamplingParams,
    runtime: options.Runtime,
    peer_dtype: options.Dtype,
) -> System:
    if name == "transformers":
        from outrider.runtimes.torch.loading import open_reference

        return transformers_system(open_reference(model, peer_dtype), sorted(target.stop_token_ids))
    if _kind(name) in LLAMA_PEERS:
        return _llama_peer(name, target, model, runtime)
    drafter, lookahead = _drafting(name, target, draft_model, num_draft_tokens, runtime)
    return outrider_system(SpeculativeDecoder(drafter, target, lookahead, rule=rule), sampling)


def _llama_peer(name: str, target: Any, model: str, runtime: options.Runtime) -> System:
    from outrider.bench.llamacpp import bare_loop_system, llama_cpp_python_system
    from outrider.runtimes.llamacpp.loading import find_file

    kind, _, chosen = name.partition("@")
    if kind == "llama-cpp-loop":
        return bare_loop_system(target)
    file = find_file(model, runtime.dtype, lambda message: None)
    lookup = int(chosen or LOOKUP_TOKENS) if kind == "llama-cpp-lookup" else None
    return llama_cpp_python_system(file, target, lookup)


def _drafting(
    name: str, target: Model, draft_model: str | None, num_draft_tokens: int | None, runtime: options.Runtime
) -> tuple[Drafter | None, int | None]:
    """Drafter and lookahead of a system such as suffix@4."""
    drafting, _, chosen = name.partition("@")
    kind = options.DrafterKind.NONE if drafting == "plain" else options.DrafterKind(drafting)
    drafter = options.open_drafter(kind, draft_model, target, runtime)
    return drafter, int(chosen) if chosen else options.resolve_lookahead(kind, num_draft_tokens)


def _engines(
    name: str,
    target: Model,
    draft_model: str | None,
    num_draft_tokens: int | None,
    rule: options.Rule,
    runtime: options.Runtime,
) -> Callable[[int, int, Observer], Engine]:
    """From rows, capacity and an observer to an engine of a system."""

    def make(rows: int, capacity: int, observer: Observer) -> Engine:
        drafter, lookahead = _drafting(name, target, draft_model, num_draft_tokens, runtime)
        return Engine(
            target, drafter, lookahead=lookahead, rule=rule, max_rows=rows, capacity=capacity, observer=observer
        )

    return make


def _show_batches(rows: list[BatchRow], as_json: bool, markdown: bool) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    rates = ("alone", "together", "speed-up")
    headings = ("system", "rows", "questions", *rates, *(f"{rate}, with prompts" for rate in rates))
    cells = [
        (
            r.system,
            str(r.rows),
            str(r.prompts),
            f"{r.alone:.1f}",
            f"{r.together:.1f}",
            f"{r.speedup:.2f}",
            f"{r.alone_with_prompts:.1f}",
            f"{r.together_with_prompts:.1f}",
            f"{r.speedup_with_prompts:.2f}",
        )
        for r in rows
    ]
    _show_table(headings, cells, markdown, "tokens per second of decoding, and with the time of reading the prompts")


def _show_overheads(overheads: list[Overhead], as_json: bool, markdown: bool) -> None:
    if as_json:
        print(json.dumps([asdict(overhead) for overhead in overheads]))
        return
    headings = ("arrays", "sampling", "rows", "ms per round", "of it code")
    cells = [
        (each.library, each.sampling, str(each.rows), f"{each.milliseconds:.2f}", f"{each.milliseconds_of_code:.2f}")
        for each in overheads
    ]
    remark = f"a vocabulary of {VOCABULARY}, drafts of {LOOKAHEAD}; the code without the arithmetic over the vocabulary"
    _show_table(headings, cells, markdown, remark)


def _show_table(headings: Sequence[str], cells: Sequence[Sequence[str]], markdown: bool, remark: str) -> None:
    if markdown:
        print("\n".join(["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]))
        print("\n".join("| " + " | ".join(line) + " |" for line in cells))
        return
    table = Table(*headings, box=None)
    for line in cells:
        table.add_row(*line)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"[dim]{remark}[/dim]")


def _is_known(name: str) -> bool:
    drafting, at, chosen = name.partition("@")
    if not at:
        return name in KNOWN
    return drafting in (*DRAFTING, "llama-cpp-lookup") and chosen.isdecimal()


def _kind(name: str) -> str:
    """The system without its lookahead."""
    return name.partition("@")[0]


HEADINGS = ("category", "system", "questions", "tokens/s", "speed-up", "median", "tokens/round", "overhead", "same")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.category,
        row.system,
        str(row.questions),
        f"{row.tokens_per_second:.1f}",
        f"{row.speedup:.2f}",
        f"{row.median_speedup:.2f}",
        "" if row.mean_tokens_per_round is None else f"{row.mean_tokens_per_round:.2f}",
        "" if row.overhead is None else f"{row.overhead:.1%}",
        f"{row.same_tokens:.0%}",
    )


def _show(rows: list[Row], baseline: str) -> None:
    console = Console(highlight=False)
    table = Table(*HEADINGS, box=None)
    for row in rows:
        table.add_row(*_cells(row), style="dim" if row.system == baseline else None)
    console.print(table)
    console.print(f"[dim]decoding alone, without the prompt; speed-up over {baseline}[/dim]")


def _markdown(rows: list[Row], baseline: str) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", f"Decoding alone, without the prompt; speed-up over {baseline}."])
