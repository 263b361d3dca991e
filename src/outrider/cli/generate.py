"""`outrider generate`: one prompt, one answer, as it comes; many prompts go on to cli/many.py."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from outrider.api.decoder import Generation, SpeculativeDecoder
from outrider.cli import many, options
from outrider.cli.comparison import Comparison, compare_with_plain
from outrider.cli.options import OUTPUT, PROMPT, SAMPLING, SPECULATION, option
from outrider.cli.render import OriginWriter, PlainWriter, print_json, summary
from outrider.cli.terminal import messages, working
from outrider.engine.request import TokenEvent
from outrider.errors import InputError, OutriderError, SettingError
from outrider.jobs import Common, Defaults
from outrider.jobs.encoding import chat_tokens
from outrider.lookahead import AdaptiveSpeculator
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model
from outrider.trace import TraceWriter

SEED_HELP = (
    "Makes sampling reproducible: with --rule coupled whatever drafts; with the other rules under the same drafter and "
    "--num-draft-tokens N."
)
Writer = PlainWriter | OriginWriter


def command(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - or nothing reads standard input.")] = None,
    file: Annotated[Path | None, option(PROMPT, "--file -f", "FILE", "Read the prompt from a file.")] = None,
    system_prompt: Annotated[str | None, option(PROMPT, "--system-prompt", "TEXT", "What the model shall be.")] = None,
    ignore_chat_template: Annotated[
        bool, option(PROMPT, "--ignore-chat-template", None, "Continue the prompt as bare text.")
    ] = False,
    max_tokens: Annotated[int, option(PROMPT, "--max-tokens -n --n-predict", "N", "The most tokens to emit.")] = 256,
    stop: Annotated[list[str] | None, option(PROMPT, "--stop", "TEXT", "End before this string. Repeatable.")] = None,
    model: options.ModelOption = "smollm2",
    draft_model: options.DraftModelOption = None,
    backend: options.BackendOption = options.Backend.AUTO,
    draft_backend: options.DraftBackendOption = options.Backend.AUTO,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    cache_type: options.CacheTypeOption = None,
    ctx_size: options.ContextOption = None,
    drafter: options.DrafterOption = None,
    tree: options.TreeOption = None,
    num_draft_tokens: Annotated[
        int | None,
        option(
            SPECULATION,
            options.LOOKAHEAD_FLAGS,
            "N",
            "Fix the lookahead, in tokens. Default: in every round what promises most tokens per second, from measured "
            "times and observed acceptance.",
        ),
    ] = None,
    adaptive: Annotated[
        bool,
        option(
            SPECULATION,
            "--adaptive",
            None,
            "Let the rolling acceptance rate drive the lookahead, from --num-draft-tokens on "
            f"(default {options.MODEL_LOOKAHEAD} for a model, {options.SUFFIX_LOOKAHEAD} for suffix and for trees).",
        ),
    ] = False,
    rule: options.RuleOption = options.Rule.TOKEN,
    predict: Annotated[
        str | None,
        option(SPECULATION, "--predict", "TEXT", "Text that you expect in the answer, for the suffix drafter."),
    ] = None,
    predict_file: Annotated[
        Path | None, option(SPECULATION, "--predict-file", "FILE", "The same, from a file.")
    ] = None,
    temp: Annotated[float, option(SAMPLING, "--temp --temperature", "X", "0 is greedy.")] = 0.0,
    top_k: Annotated[int, option(SAMPLING, "--top-k", "N", "Keep the N most probable tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, option(SAMPLING, "--top-p", "X", "Keep the most probable tokens up to this mass.")] = 1.0,
    min_p: Annotated[float, option(SAMPLING, "--min-p", "X", "Drop tokens below this share of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[
        float, option(SAMPLING, "--repetition-penalty --repeat-penalty", "X", "Above 1 discourages repetition.")
    ] = 1.0,
    presence_penalty: Annotated[
        float, option(SAMPLING, "--presence-penalty", "X", "Taken off the logits of tokens already emitted.")
    ] = 0.0,
    frequency_penalty: Annotated[
        float, option(SAMPLING, "--frequency-penalty", "X", "The same, once per occurrence.")
    ] = 0.0,
    logit_bias: Annotated[
        list[str] | None, option(SAMPLING, "--logit-bias", "TOKEN=X", "Added to the logit of a token id. Repeatable.")
    ] = None,
    seed: Annotated[int | None, option(SAMPLING, "--seed", "N", SEED_HELP)] = None,
    show: Annotated[
        bool,
        option(
            OUTPUT,
            "--show",
            None,
            "Colour each token by where it came from: drafted, correction (after a rejection), bonus (after full "
            "acceptance) or plain (nothing was drafted).",
        ),
    ] = False,
    colour: Annotated[
        options.Colour,
        option(
            OUTPUT,
            "--color",
            "WHEN",
            "Colours of --show: auto, always or never; without, drafted runs stand in brackets.",
        ),
    ] = options.Colour.AUTO,
    compare: Annotated[bool, option(OUTPUT, "--compare", None, "Also decode plainly, and say the ratio.")] = False,
    logprobs: Annotated[bool, option(OUTPUT, "--logprobs", None, "With --json or --input: log probabilities.")] = False,
    trace: Annotated[
        Path | None,
        option(OUTPUT, "--trace", "FILE", "Write what happens in every round; outrider trace shows and draws it."),
    ] = None,
    as_json: options.JsonOption = False,
    input: many.InputOption = None,
    output: many.OutputOption = None,
    max_rows: many.RowsOption = None,
    overwrite: many.OverwriteOption = False,
    verbose: options.VerboseOption = False,
) -> int:
    """Continue a prompt, or many from a file, decoded speculatively."""
    files = many.files(input, output, max_rows, overwrite)
    sampling = SamplingParams(
        temperature=temp,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=_parse_bias(logit_bias or []),
        seed=seed,
    )
    runtime = options.Runtime(backend, dtype, device, threads, cache_type, ctx_size, draft_backend)
    kind = options.resolve_drafter(drafter, draft_model)
    shape = options.resolve_tree(tree, kind, rule)
    lookahead = _lookahead(kind, num_draft_tokens, adaptive)
    stops = tuple(stop or ())
    if files is not None:
        given = {"PROMPT": prompt is not None, "--file": file is not None}
        many.refuse_beside_input(given | {"--show": show, "--compare": compare, "--json": as_json})
    _check_cheap_settings(max_tokens, stops, kind, adaptive, compare, logprobs, as_json or files is not None, show)
    predicted = _predicted(predict, predict_file, kind)
    if files is not None:
        with _tracing(trace, model, kind, draft_model, rule) as observer:
            return many.decode(
                files,
                Defaults(max_tokens, sampling, stops),
                Common(
                    model=_identity(model, runtime),
                    rule=rule,
                    seed=seed,
                    system_prompt=system_prompt,
                    use_chat_template=not ignore_chat_template,
                    predicted=predicted,
                    logprobs=logprobs,
                ),
                many.Opening(model, draft_model, kind, shape, runtime),
                lookahead,
                observer,
            )
    text = options.read_prompt(prompt, file)
    if seed is not None and not sampling.greedy:
        options.say_whether_reproducible(rule, lookahead)

    # A comparison decodes again: the trace ends with what is shown.
    with _tracing(trace, model, kind, draft_model, rule) as observer:
        target = options.open_model(model, runtime)
        decoder = SpeculativeDecoder(
            options.open_drafter(kind, draft_model, target, runtime, shape),
            target,
            lookahead,
            rule=rule,
            observer=observer,
        )
        tokens = encode_prompt(target, text, system_prompt, ignore_chat_template)
        settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "stop": stops,
            "predicted": predicted,
            "logprobs": logprobs,
        }
        generation = _stream(decoder, tokens, sampling, settings, _writer(as_json, show, colour))
    say = messages()
    if not as_json:
        say.print(summary(generation.stats, None if sampling.greedy else generation.seed), style="dim")
    comparison = compare_with_plain(decoder, target, tokens, sampling, settings, generation) if compare else None
    if as_json:
        print_json(_as_dict(generation, comparison))
    elif comparison is not None:
        say.print(comparison.sentence(dtype))
    return 0


def encode_prompt(target: Model, text: str, system_prompt: str | None, ignore_chat_template: bool) -> list[int]:
    """The prompt's tokens, through the model's chat template where it has one.

    Raises:
        InputError: the model has no tokenizer.
        SettingError: there is a system prompt and nothing to put it into.
    """
    if target.tokenizer is None:
        raise InputError(f"model {target.name} has no tokenizer beside it: give a model folder with tokenizer files")
    if not ignore_chat_template:
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        try:
            tokens = chat_tokens([*system, {"role": "user", "content": text}], target.tokenizer, target.name)
        except InputError as error:
            remedy = f"leave out {'--system-prompt' if system_prompt else 'it, with --ignore-chat-template'}"
            raise SettingError(f"{error}: {remedy}") from error
        if tokens is not None:
            return tokens
    if system_prompt:
        raise SettingError("--system-prompt needs a chat template: leave --ignore-chat-template out, or the prompt")
    return target.tokenizer.encode(text)


def _check_cheap_settings(
    max_tokens: int,
    stops: tuple[str, ...],
    kind: options.DrafterKind,
    adaptive: bool,
    compare: bool,
    logprobs: bool,
    as_json: bool,
    show: bool,
) -> None:
    """Refuse what can be refused before a model is opened.

    Raises:
        SettingError: a value out of its range, or a flag that would have no effect.
    """
    if max_tokens < 1:
        raise SettingError(f"--max-tokens is {max_tokens}: it must be at least 1")
    if "" in stops:
        raise SettingError("a --stop string is empty: give at least one character, or leave it out")
    if kind is options.DrafterKind.NONE and (adaptive or compare):
        flag = "--adaptive drives a drafter" if adaptive else "--compare compares a drafter with plain decoding"
        raise SettingError(f"{flag} and --drafter is none: leave one of them out")
    if logprobs and not as_json:
        raise SettingError("--logprobs are part of what --json prints: give --json as well")
    if show and as_json:
        raise SettingError("--show colours text and --json prints none: leave one of them out")


def _tracing(
    file: Path | None, model: str, kind: options.DrafterKind, draft_model: str | None, rule: str
) -> AbstractContextManager[TraceWriter | None]:
    """Opens the file before the model, so that one that cannot be written is refused at once."""
    if file is None:
        return nullcontext()
    drafter = "" if kind is options.DrafterKind.NONE else draft_model or str(kind)
    return TraceWriter(file, target=model, drafter=drafter, rule=rule)


def _writer(as_json: bool, show: bool, colour: options.Colour) -> Writer | None:
    if as_json:
        return None
    return OriginWriter(colour) if show else PlainWriter()


def _stream(
    decoder: SpeculativeDecoder,
    tokens: list[int],
    sampling: SamplingParams,
    settings: dict[str, Any],
    writer: Writer | None,
) -> Generation:
    """Decode, writing as it comes."""
    with working("reading the prompt"):
        stream = decoder.stream(tokens, sampling=sampling, **settings)
        events: list[TokenEvent] = [next(stream)]
    try:
        if writer is not None:
            writer.write(events[0])
        for event in stream:
            events.append(event)
            if writer is not None:
                writer.write(event)
    except (KeyboardInterrupt, OutriderError) as error:
        if writer is not None:
            writer.close()
        if isinstance(error, KeyboardInterrupt):
            seed = None if sampling.greedy else stream.seed
            messages().print(f"stopped · {summary(stream.stats, seed)}", style="dim")
        raise
    if writer is not None:
        writer.close()
    assert events[-1].finish_reason is not None
    return Generation(
        tokens=[event.token for event in events],
        text="".join(event.text for event in events),
        finish_reason=events[-1].finish_reason,
        stats=stream.stats,
        logprobs=[event.logprob for event in events if event.logprob is not None] if settings["logprobs"] else None,
        seed=stream.seed,
    )


def _as_dict(generation: Generation, comparison: Comparison | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "text": generation.text,
        "tokens": generation.tokens,
        "finish_reason": str(generation.finish_reason),
        "seed": generation.seed,
        "stats": generation.stats.as_dict(),
    }
    if generation.logprobs is not None:
        result["logprobs"] = generation.logprobs
    if comparison is not None:
        result["compare"] = asdict(comparison)
    return result


def _parse_bias(pairs: list[str]) -> dict[int, float]:
    bias = {}
    for pair in pairs:
        token, _, value = pair.partition("=")
        try:
            bias[int(token)] = float(value)
        except ValueError as error:
            raise SettingError(f"--logit-bias is {pair!r}: it must be TOKEN=BIAS, such as 42=-1.5") from error
    return bias


def _predicted(text: str | None, file: Path | None, kind: options.DrafterKind) -> str:
    if text is None and file is None:
        return ""
    if kind not in options.OF_SUFFIXES:
        raise SettingError(f"--predict is for the suffix drafter and --drafter is {kind}: leave one of them out")
    if text is not None and file is not None:
        raise SettingError("--predict and --predict-file are both given: leave one of them out")
    return text if text is not None else options.read_file(file) if file is not None else ""


def _lookahead(kind: options.DrafterKind, given: int | None, adaptive: bool) -> int | AdaptiveSpeculator | None:
    if not adaptive:
        return options.resolve_lookahead(kind, given)
    first = options.fixed_lookahead(kind, given)
    return AdaptiveSpeculator(max(first, 1), max_lookahead=max(first, 16))


def _identity(model: str, runtime: options.Runtime) -> str:
    """Tells models apart in files of results, from whatever folder the command is given."""
    path = Path(model).expanduser()
    how = [runtime.backend_of(model), runtime.dtype, runtime.cache_type]
    return " ".join([str(path.resolve() if path.exists() else model), *(str(part) for part in how if part is not None)])
