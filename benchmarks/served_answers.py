"""What speculation and the prefix cache bring through HTTP: `python -m benchmarks.served_answers`.

Two questions to one server: how soon a second turn of a long chat begins, beside its first turn; and how fast a file of
300 lines is written again, with `prediction` and plainly. Times of one machine, in turn. `--only files --pairs 1` takes
about a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx

import outrider
from benchmarks.http_overhead import Serving
from outrider.engine.engine import Engine
from outrider.server import Service, ServiceSettings

CHAT = "/v1/chat/completions"
LINES = 300
EDITED = 30  # every so many lines one is edited
LONGEST_LINE = 32  # characters
WORDS = (
    "red",
    "green",
    "blue",
    "salt",
    "iron",
    "rain",
    "snow",
    "chess",
    "bread",
    "river",
    "moon",
    "tea",
    "gold",
    "fire",
)
Messages = list[dict[str, str]]


def first_token(http: httpx.Client, messages: Messages) -> tuple[float, str, int]:
    """Seconds to the first token, the answer, and how many prompt tokens were read."""
    body = {"messages": messages, "max_tokens": 16, "temperature": 0, "stream": True}
    started, first, answer, read = time.perf_counter(), 0.0, "", 0
    with http.stream("POST", CHAT, json=body) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            text = chunk["choices"][0]["delta"].get("content") or ""
            if text:
                first = first or time.perf_counter() - started
            answer += text
            read = chunk.get("timings", {}).get("prompt_n", read)
    return first, answer, read


def two_turns(http: httpx.Client, number: int) -> tuple[float, float]:
    """Seconds to the first token of a chat's first turn of some 2,000 tokens, and of its second."""
    notes = " ".join(f"Boat {place + 1000 * number} carries {place} boxes of salt." for place in range(200))
    messages = [{"role": "user", "content": f"{notes} How many boxes does the last boat carry?"}]
    first, answer, read = first_token(http, messages)
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And the one before it?"}]
    second, _, read_again = first_token(http, messages)
    times = f"first turn {first * 1e3:.0f} ms ({read} tokens read), second {second * 1e3:.0f} ms ({read_again})"
    print(times, flush=True)
    return first, second


def edited(http: httpx.Client, number: int, lines: int) -> tuple[float, float]:
    """Tokens per second of a file that is written again: plainly, and with a prediction in which some lines differ.

    A small model does not follow instructions, so the file is what the model itself writes, line by line under a
    grammar, and its edited self has other lines in the place of every thirtieth one: the prediction is as far from the
    answer as a file is from its edited self. Another file of as many lines stands in the prompt, as a file to be edited
    does. The texts are sampled, since greedy ones of small models repeat themselves; under rule coupled a seed gives
    the same text whatever drafts.
    """
    file = "\n".join(f"x{place} = {WORDS[(place * place + number) % len(WORDS)]}" for place in range(lines))
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"```python\n{file}\n```\nWrite such a file, of {lines} lines."}],
        "temperature": 0.8,
        "seed": number,
        "structured_outputs": {"grammar": f"start: line{{{lines}}}\nline: /[^\\n]{{1,{LONGEST_LINE}}}\\n/"},
    }
    plain, answer = rate(http, "plain", body | {"speculative": False})
    assert answer.count("\n") == lines
    _, same = rate(http, "without a prediction", body)
    written = answer.split("\n")
    written[::EDITED] = [f"edited_{place} = None" for place in range(len(written[::EDITED]))]
    prediction = {"type": "content", "content": "\n".join(written)}
    predicted, again = rate(http, "with a prediction", body | {"prediction": prediction})
    assert same == again == answer, "speculation changed a text"
    return plain, predicted


def rate(http: httpx.Client, name: str, body: dict[str, Any]) -> tuple[float, str]:
    """Tokens per second after the prompt, and the answer."""
    reply = http.post(CHAT, json=body | {"outrider": {"metrics": True, "rounds": True}})
    reply.raise_for_status()
    found = reply.json()
    rate, answer = found["timings"]["predicted_per_second"], found["choices"][0]["message"]["content"]
    print(f"{name}: {answer.count(chr(10))} lines, {rate:.0f} tokens/s; {told(found)}", flush=True)
    return rate, str(answer)


def told(reply: dict[str, Any]) -> str:
    """What bounds it: how many tokens were drafted and accepted, how many in a round, and how long a pass took."""
    rounds = reply["choices"][0]["outrider"]["rounds"]
    tokens = reply["usage"]["completion_tokens"]
    passes = statistics.median(each["seconds"]["verification"] for each in rounds)
    pieces = [f"{tokens / len(rounds):.1f} tokens a round, a pass {passes * 1e3:.0f} ms"]
    widths = sorted(len(each["drafted"]) for each in rounds)
    if widths[-1]:
        quarters = [widths[len(widths) * part // 4] for part in (1, 2, 3)]
        pieces.append(f"{sum(widths)} drafted, a round {quarters} in its quartiles")
    details = reply["usage"]["completion_tokens_details"]
    accepted, rejected = details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]
    if accepted or rejected:
        pieces.append(f"{accepted} of the prediction appeared, {rejected} did not")
    return ", ".join(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--only", choices=["turns", "files"])
    parser.add_argument("--drafter", choices=["lookup", "suffix"], default="lookup", help="of the server")
    given = parser.parse_args()
    target = outrider.load(given.model, threads=given.threads)
    drafter = outrider.SuffixDrafter() if given.drafter == "suffix" else given.drafter
    service = Service(
        lambda observer: Engine(target, drafter, rule="coupled", max_rows=2, observer=observer),
        ServiceSettings((given.model,), rule="coupled"),
    )
    with httpx.Client(base_url=Serving(service).address, timeout=600) as http:
        if given.only != "files":
            turns = [two_turns(http, number) for number in range(given.pairs)]
            report("second turn / first turn", turns, lambda pair: pair[1] / pair[0])
        if given.only != "turns":
            files = [edited(http, number, given.lines) for number in range(given.pairs)]
            report("prediction / plain decoding", files, lambda pair: pair[1] / pair[0])


def report(what: str, pairs: list[tuple[float, float]], ratio: Callable[[tuple[float, float]], float]) -> None:
    print(f"{what}: median {statistics.median(map(ratio, pairs)):.3f}", flush=True)


if __name__ == "__main__":
    main()
