"""One answer, shown as it comes."""

from __future__ import annotations

from outrider.api.decoder import SpeculativeDecoder
from outrider.api.stream import Generation
from outrider.cli.options.output import OutputOptions
from outrider.cli.render import OriginWriter, PlainWriter, summary
from outrider.cli.terminal import messages, working
from outrider.errors import OutriderError
from outrider.prompts.request import PreparedRequest

Writer = PlainWriter | OriginWriter


def writer_of(output: OutputOptions) -> Writer | None:
    """Shows tokens as the flags say; None shows none."""
    if output.json:
        return None
    return OriginWriter(output.color) if output.show else PlainWriter()


def stream(decoder: SpeculativeDecoder, request: PreparedRequest, writer: Writer | None) -> Generation:
    """Decode, writing as it comes. What there is when a key or an error ends it is summed up."""
    with working("reading the prompt") as say:
        tokens = decoder.start(request)
        for read, length in tokens.reading():
            say(f"reading the prompt: {read:,} of {length:,} tokens")
        first = next(tokens)
    try:
        if writer is not None:
            writer.write(first)
        for event in tokens:
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
    return tokens.generation()
