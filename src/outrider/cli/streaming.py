"""One answer, shown as it comes."""

from __future__ import annotations

from outrider.api.decoder import Generation, SpeculativeDecoder
from outrider.cli.options.output import OutputOptions
from outrider.cli.render import OriginWriter, PlainWriter, summary
from outrider.cli.terminal import messages, working
from outrider.engine.request import TokenEvent
from outrider.errors import OutriderError
from outrider.prompts.request import Request

Writer = PlainWriter | OriginWriter


def writer_of(output: OutputOptions) -> Writer | None:
    """Shows tokens as the flags say; None shows none."""
    if output.json:
        return None
    return OriginWriter(output.color) if output.show else PlainWriter()


def stream(decoder: SpeculativeDecoder, request: Request, writer: Writer | None) -> Generation:
    """Decode, writing as it comes. What there is when a key or an error ends it is summed up."""
    with working("reading the prompt"):
        tokens = decoder.stream(
            request.prompt,
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            stop=request.stop,
            predicted=request.predicted,
            logprobs=bool(request.logprobs),
        )
        events: list[TokenEvent] = [next(tokens)]
    try:
        if writer is not None:
            writer.write(events[0])
        for event in tokens:
            events.append(event)
            if writer is not None:
                writer.write(event)
    except (KeyboardInterrupt, OutriderError) as error:
        if writer is not None:
            writer.close()
        if isinstance(error, KeyboardInterrupt):
            seed = None if request.sampling.greedy else tokens.seed
            messages().print(f"stopped · {summary(tokens.stats, seed)}", style="dim")
        raise
    if writer is not None:
        writer.close()
    assert events[-1].finish_reason is not None
    return Generation(
        tokens=[event.token for event in events],
        text="".join(event.text for event in events),
        finish_reason=events[-1].finish_reason,
        stats=tokens.stats,
        logprobs=[event.logprob for event in events if event.logprob is not None] if request.logprobs else None,
        seed=tokens.seed,
    )
