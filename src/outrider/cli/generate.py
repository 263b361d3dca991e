"""`outrider generate`: one prompt, one answer, as it comes."""

from __future__ import annotations

import json
import statistics as statistics_of
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from outrider.cli import options
from outrider.cli.render import OriginWriter, PlainWriter, summary
from outrider.cli.terminal import messages, working
from outrider.decoder import Generation, SpeculativeDecoder
from outrider.engine.request import TokenEvent
from outrider.errors import InputError, SettingError
from outrider.lookahead import AdaptiveSpeculator
from outrider.models.base import Model
from outrider.sampling import SamplingParams

COMPARED_RUNS = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Speculative and plain decoding of one prompt.

    Attributes:
        plain_tokens_per_second, speculative_tokens_per_second: medians, decoding alone.
        ratio: of the two.
        first_difference: the index of the first token that differs; None if all are the same, or need not be.
        comparable: whether the same tokens are to be expected (greedy, or the rule coupled).
    """

    plain_tokens_per_second: float
    speculative_tokens_per_second: float
    ratio: float
    first_difference: int | None
    comparable: bool


def command(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - or nothing reads standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the prompt from a file.")] = None,
    model: options.ModelOption = "smollm2",
    draft_model: options.DraftModelOption = None,
    drafter: options.DrafterOption = None,
    num_draft_tokens: options.LookaheadOption = None,
    adaptive: Annotated[bool, typer.Option("--adaptive", help="Let the acceptance rate drive the lookahead.")] = False,
    rule: options.RuleOption = options.Rule.TOKEN,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", "--n-predict", help="The most tokens to emit.")
    ] = 256,
    temp: Annotated[float, typer.Option("--temp", "--temperature", help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Keep the k most probable tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="Keep the most probable tokens up to this mass.")] = 1.0,
    min_p: Annotated[float, typer.Option("--min-p", help="Drop tokens below this share of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option("--repetition-penalty", "--repeat-penalty", help="Above 1 discourages repetition.")
    ] = 1.0,
    presence_penalty: Annotated[float, typer.Option("--presence-penalty")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option("--frequency-penalty")] = 0.0,
    logit_bias: Annotated[
        list[str] | None, typer.Option("--logit-bias", metavar="TOKEN=BIAS", help="Repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling reproducible.")] = None,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="End before this string. Repeatable.")] = None,
    predict: Annotated[str | None, typer.Option("--predict", help="Text that you expect in the answer.")] = None,
    predict_file: Annotated[Path | None, typer.Option("--predict-file", help="The same, from a file.")] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt", help="What the model shall be.")] = None,
    ignore_chat_template: Annotated[
        bool, typer.Option("--ignore-chat-template", help="Continue the prompt as bare text.")
    ] = False,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="With --json: log probabilities.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Colour each token by where it came from.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Also decode plainly, and say the ratio.")] = False,
    as_json: options.JsonOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Continue a prompt, decoded speculatively."""
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
    if max_tokens < 1:
        raise SettingError(f"--max-tokens is {max_tokens}: it must be at least 1")
    kind = options.resolve_drafter(drafter, draft_model)
    lookahead = options.resolve_lookahead(kind, num_draft_tokens)
    predicted = _predicted(predict, predict_file, kind)
    text = options.read_prompt(prompt, file)

    target = options.open_model(model, dtype, device, threads)
    decoder = SpeculativeDecoder(
        options.open_drafter(kind, draft_model, target, dtype, device),
        target,
        _adaptive(lookahead) if adaptive else lookahead,
        rule=rule,
    )
    tokens = encode_prompt(target, text, system_prompt, ignore_chat_template)
    settings: dict[str, Any] = {
        "max_tokens": max_tokens,
        "stop": tuple(stop or ()),
        "predicted": predicted,
        "logprobs": logprobs,
    }
    generation = _stream(decoder, tokens, sampling, settings, None if as_json else show)
    comparison = _compare(decoder, target, tokens, sampling, settings, generation) if compare else None
    if as_json:
        print(json.dumps(_as_dict(generation, comparison)))
        return
    say = messages()
    say.print(summary(generation.stats, None if sampling.greedy else generation.seed), style="dim")
    if comparison is not None:
        say.print(_sentence(comparison, generation, dtype))


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
        tokens = target.tokenizer.encode_chat([*system, {"role": "user", "content": text}])
        if tokens is not None:
            return tokens
    if system_prompt:
        raise SettingError("--system-prompt needs a chat template: leave --ignore-chat-template out, or the prompt")
    return target.tokenizer.encode(text)


def _stream(
    decoder: SpeculativeDecoder,
    tokens: list[int],
    sampling: SamplingParams,
    settings: dict[str, Any],
    show: bool | None,
) -> Generation:
    """Decode, writing as it comes; `show` None writes nothing."""
    writer = None if show is None else OriginWriter() if show else PlainWriter()
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
    except KeyboardInterrupt:
        if writer is not None:
            writer.close()
        messages().print(f"stopped · {summary(stream.stats, stream.seed)}", style="dim")
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


def _compare(
    decoder: SpeculativeDecoder,
    target: Model,
    tokens: list[int],
    sampling: SamplingParams,
    settings: dict[str, Any],
    streamed: Generation,
) -> Comparison:
    """Decode plainly and speculatively in turns; the streamed run has warmed both up."""
    plain_decoder = SpeculativeDecoder(None, target, 0, rule=decoder.rule)
    same_seed = replace(sampling, seed=streamed.seed)
    plain: list[Generation] = []
    speculative: list[Generation] = []
    with working("decoding plainly, and again speculatively, to compare") as say:
        for turn in range(COMPARED_RUNS):
            say(f"comparing, turn {turn + 1} of {COMPARED_RUNS}: plainly")
            plain.append(plain_decoder.generate(tokens, sampling=same_seed, **settings))
            say(f"comparing, turn {turn + 1} of {COMPARED_RUNS}: speculatively")
            speculative.append(decoder.generate(tokens, sampling=same_seed, **settings))
    speeds = [statistics_of.median(run.stats.tokens_per_second for run in runs) for runs in (plain, speculative)]
    comparable = sampling.greedy or decoder.rule == "coupled"
    pairs = enumerate(zip(plain[0].tokens, streamed.tokens, strict=False))
    difference = next((index for index, (one, other) in pairs if one != other), None)
    return Comparison(speeds[0], speeds[1], speeds[1] / speeds[0], difference if comparable else None, comparable)


def _sentence(comparison: Comparison, generation: Generation, dtype: str) -> str:
    ratio = (
        f"[bold]{comparison.ratio:.2f} times[/bold] as fast as plain decoding "
        f"({comparison.speculative_tokens_per_second:.1f} against {comparison.plain_tokens_per_second:.1f} tokens/s)"
    )
    if not comparison.comparable:
        return f"{ratio}; same distribution, another draw (--rule coupled gives the same text)"
    if comparison.first_difference is None:
        return f"{ratio}; the same {len(generation.tokens)} tokens"
    return (
        f"{ratio}; the same tokens up to number {comparison.first_difference + 1}, where rounding decided otherwise "
        "(outrider check says by how much; --dtype float32 rounds least)"
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
        result["compare"] = {name: getattr(comparison, name) for name in Comparison.__slots__}
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
    if kind is not options.DrafterKind.SUFFIX:
        raise SettingError(f"--predict is for the suffix drafter and --drafter is {kind}: leave one of them out")
    if text is not None and file is not None:
        raise SettingError("--predict and --predict-file are both given: leave one of them out")
    return text if text is not None else options.read_file(file) if file is not None else ""


def _adaptive(lookahead: int) -> AdaptiveSpeculator:
    return AdaptiveSpeculator(max(lookahead, 1), max_lookahead=max(lookahead, 16))
