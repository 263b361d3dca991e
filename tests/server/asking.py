"""What several tests ask, and what plain decoding answers without a server."""

from outrider import SamplingParams, SpeculativeDecoder
from tiny import spoken

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {  # the arguments of a tool, in the words of every dialect
    "type": "object",
    "properties": {"town": {"enum": ["Bern", "Rome"]}},
    "required": ["town"],
    "additionalProperties": False,
}


def plain(prompt, max_tokens=12, **sampling):
    decoder = SpeculativeDecoder(None, spoken.model(), rule="coupled")
    return decoder.generate(prompt, max_tokens=max_tokens, sampling=SamplingParams(**{"seed": 1} | sampling)).text
