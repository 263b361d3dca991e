"""A server for the clients that people have: OpenAI's and others' (docs/serving.md), and a page.

    service = Service(lambda observer: Engine(target, drafter, observer=observer), ServiceSettings(("smollm2",)))
    app = create_app(service)  # for uvicorn

One road: a dialect (`dialects/`) turns the body of a request into an `Asked`, `Service.open` prepares it (`prompts/`)
and submits it to the one engine, and the dialect turns the `Step`s of the `Answers` into a reply. A step is what a
round of the engine brought one text. A stream has one chunk for each step.

## What our own page asks for

POST /v1/chat/completions with `"stream": true` and `"outrider": {"tokens": true, "rounds": true}`. Each chunk then has

    "outrider": {
      "tokens": [{
        "index": 12,            # its place in the answer
        "id": 260, "text": " the", "origin": "drafted", "source": "suffix", "logprob": -0.1, "round": 7
      }],
      "rounds": [{
        "round": 7,             # of the engine, counted from 0
        "started": 1.25,        # seconds since the engine was opened
        "rows": 2,              # texts that took part in the round
        "planned": 4,           # the lookahead; null where the drafter was given prices and chose by itself
        "read": 0,              # prompt tokens that were read in it besides
        "source": "suffix",     # the drafter; "" where nothing was drafted
        "drafted": [{"id": 260, "text": " the", "parent": -1, "source": "suffix", "chance": 0.8, "accepted": true}],
        "accepted": 1,          # draft tokens
        "emitted": [260, 338],  # the accepted ones, then a correction or a bonus; fewer where the text ended
        "seconds": {"drafting": 0.0001, "verification": 0.012, "elsewhere": 0.0002},
        "plain_seconds": 0.011  # of a plain round of as many rows, as measured; null where that is not known
      }]
    }

`origin` is drafted, correction, bonus or plain. `source` is the drafter of a drafted token ("grammar" where a grammar
leaves no choice), otherwise "". `text` of a token is what it adds to the answer: the texts of all tokens are the
answer. `parent` is the place in `drafted` of the token before it, -1 for the first of a branch; a chain is -1, 0, 1 and
so on. `chance` is the drafter's own estimate that the token is accepted, or null. `logprob` is of the target before any
sampling setting. A reply that does not stream has the same lists, of the whole text, in its choice.
`"speculative": false` in the request decodes the same prompt plainly, for a race.

GET /v1/models says what is served: `data[0].outrider` has the target, the drafter, the rule and the number of rows.
The chunk with `finish_reason` (or with `usage`) also has llama.cpp's `timings`; `"outrider": {"metrics": true}` adds
vLLM's `metrics`.
"""

from outrider.server.app import create_app
from outrider.server.limits import Limits
from outrider.server.service import Service, ServiceSettings

__all__ = ["Limits", "Service", "ServiceSettings", "create_app"]
