"""Many clients against one server, a third of them hostile: `python -m benchmarks.soak --minutes 60`.

It starts `outrider serve`, asks each question once without speculation, and then lets clients ask them at once, in
every dialect, streamed and whole, with and without speculation, greedily and with seeds (rule coupled). Each answer
must be the plain one. Hostile clients leave, stall, send halves of requests and nonsense. At the end: how many answers
came, how many differed, how many requests were refused, and what memory did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

SUBJECTS = (
    "rivers",
    "bread",
    "the moon",
    "prime numbers",
    "snow",
    "Rome",
    "bees",
    "salt",
    "chess",
    "rain",
    "iron",
    "tea",
)
QUESTIONS = [f"Say something about {each}." for each in SUBJECTS]
CHAT = "/v1/chat/completions"
KEY = "soak"
HEADERS = {"authorization": f"Bearer {KEY}"}
HOSTILE = 3  # every so many clients one is hostile
PAUSE = 10.0  # seconds between two looks at memory
Key = tuple[str, int, int | None]  # question, tokens, seed


@dataclass(slots=True)
class Score:
    """What happened so far."""

    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def body_of(key: Key, **more: Any) -> dict[str, Any]:
    """A chat request."""
    question, tokens, seed = key
    sampling = {"temperature": 0} if seed is None else {"temperature": 0.8, "seed": seed}
    return {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, **sampling, **more}


def keys() -> list[Key]:
    """All questions with their settings."""
    return [(question, 6 + 5 * (place % 4), None if place % 2 else place) for place, question in enumerate(QUESTIONS)]


async def whole_chat(http: httpx.AsyncClient, key: Key, draw: random.Random) -> str:
    more: dict[str, Any] = draw.choice(
        [{}, {"speculative": False}, {"speculative": {"num_draft_tokens": 2}}, {"logprobs": True}]
    )
    reply = await http.post(CHAT, json=body_of(key, **more))
    reply.raise_for_status()
    return str(reply.json()["choices"][0]["message"]["content"])


async def streamed_chat(http: httpx.AsyncClient, key: Key, draw: random.Random) -> str:
    more = draw.choice(
        [{}, {"outrider": {"tokens": True, "rounds": True}}, {"stream_options": {"include_usage": True}}]
    )
    found = ""
    async with http.stream("POST", CHAT, json=body_of(key, stream=True, **more)) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    found += choice["delta"].get("content") or ""
    return found


async def message(http: httpx.AsyncClient, key: Key, draw: random.Random) -> str:
    body = body_of(key)
    reply = await http.post("/v1/messages", json=body)
    reply.raise_for_status()
    return str(reply.json()["content"][0]["text"])


async def response(http: httpx.AsyncClient, key: Key, draw: random.Random) -> str:
    body = body_of(key)
    body["input"] = body.pop("messages")
    body["max_output_tokens"] = body.pop("max_tokens")
    reply = await http.post("/v1/responses", json=body)
    reply.raise_for_status()
    return str(reply.json()["output"][0]["content"][0]["text"])


ASKING = (whole_chat, streamed_chat, message, response)


async def honest(address: str, number: int, plain: dict[Key, str], score: Score, until: float) -> None:
    """Asks, compares, asks again."""
    draw = random.Random(number)
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=600) as http:
        while time.monotonic() < until:
            key, ask = draw.choice(list(plain)), draw.choice(ASKING)
            try:
                found = await ask(http, key, draw)
            except httpx.TransportError as error:
                score.wrong.append(f"{ask.__name__} {key}: {error!r}")
                await asyncio.sleep(1)
                continue
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                score.seen[f"status {status}"] += 1
                if status != 429:
                    score.wrong.append(f"{ask.__name__} {key}: status {status}")
                await asyncio.sleep(float(error.response.headers.get("retry-after", 1)))
                continue
            score.seen["answers"] += 1
            if found != plain[key]:
                score.wrong.append(f"{ask.__name__} {key}: {found!r} and plainly {plain[key]!r}")


async def hostile(address: str, number: int, score: Score, until: float) -> None:
    """Leaves, stalls, and sends halves and nonsense."""
    draw = random.Random(-number)
    host, port = address.removeprefix("http://").split(":")
    while time.monotonic() < until:
        act = draw.choice((_leave, _stall, _half, _garbage, _huge, _wrong_key))
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                await asyncio.wait_for(act(reader, writer, draw), 60)
            finally:
                writer.transport.abort()
        except (OSError, TimeoutError):
            score.seen["connections that broke"] += 1
        score.seen[act.__name__.strip("_")] += 1
        await asyncio.sleep(draw.uniform(0.1, 2))


def _request(body: bytes, key: str = KEY, length: int | None = None) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def _endless(draw: random.Random) -> bytes:
    key = (draw.choice(QUESTIONS), 60, None)
    return json.dumps(body_of(key, stream=True, n=draw.choice((1, 2)), ignore_eos=True)).encode()


async def _leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    writer.write(_request(_endless(draw)))
    await reader.read(draw.choice((1, 200, 1000)))
    await asyncio.sleep(draw.uniform(0, 1))


async def _stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    writer.write(_request(_endless(draw)))
    await asyncio.sleep(draw.uniform(1, 10))


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    whole = _request(_endless(draw))
    writer.write(whole[: draw.randrange(1, len(whole))])
    await asyncio.sleep(draw.uniform(0, 5))


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    noise = draw.randbytes(draw.choice((10, 1000, 100_000)))
    writer.write(draw.choice((noise, _request(noise), _request(b"[" * 50_000), _request(b'{"messages": NaN}'))))
    await reader.read(1000)


async def _huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    size = draw.choice((1, 8, 12)) * 2**20
    content = json.dumps({"messages": [{"role": "user", "content": "a " * (size // 2)}]}).encode()
    writer.write(_request(content))
    await reader.read(1000)


async def _wrong_key(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    writer.write(_request(_endless(draw), key="wrong"))
    await reader.read(1000)


async def watch(pid: int, score: Score, until: float) -> None:
    """Looks at the memory of the server."""
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        score.megabytes.append(int(found[1]) / 1024 if found else 0.0)
        await asyncio.sleep(PAUSE)


async def plain_answers(address: str) -> dict[Key, str]:
    """Each question, asked alone and without speculation."""
    found = {}
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=600) as http:
        for key in keys():
            reply = await http.post(CHAT, json=body_of(key, speculative=False))
            reply.raise_for_status()
            found[key] = str(reply.json()["choices"][0]["message"]["content"])
    return found


async def soak(address: str, pid: int, clients: int, minutes: float) -> Score:
    score = Score()
    plain = await plain_answers(address)
    until = time.monotonic() + 60 * minutes
    tasks: list[Any] = [watch(pid, score, until)]
    for number in range(clients):
        if number % HOSTILE == 0:
            tasks.append(hostile(address, number, score, until))
        else:
            tasks.append(honest(address, number, plain, score, until))
    await asyncio.gather(*tasks)
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=60) as http:
        for _ in range(300):  # hostile clients have left: their rows must be free
            numbers = (await http.get("/metrics")).text
            busy = re.findall(r"^outrider:num_requests_(?:running|waiting)\S* (\S+)", numbers, re.MULTILINE)
            if not any(map(float, busy)):
                break
            await asyncio.sleep(0.1)
        else:
            score.wrong.append("texts of clients that left are still decoded after 30 seconds")
        assert (await http.get("/health")).status_code == 200
    return score


def serving(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A server of its own, and its address."""
    command = [sys.executable, "-m", "outrider.cli", "serve", "--port", "0", "--api-key", KEY, "--rule", "coupled"]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://[\d.]+:\d+", line):
            threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
            return process, found[0]
        print(line, end="", file=sys.stderr)
    raise SystemExit("the server did not start")


def _pass_on(lines: Iterable[str]) -> None:
    """Show what the server says, so that it never waits for a reader."""
    for line in lines:
        print(line, end="", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("server", nargs="*", help="what `outrider serve` is given besides, after --")
    given = parser.parse_args()
    process, address = serving(given.server)
    try:
        score = asyncio.run(soak(address, process.pid, given.clients, given.minutes))
    finally:
        process.terminate()
        process.wait(60)
    report(score, print)
    return 1 if score.wrong else 0


def report(score: Score, say: Callable[[str], object]) -> None:
    say(f"{score.seen['answers']} answers, {len(score.wrong)} wrong")
    say(", ".join(f"{name} {count}" for name, count in sorted(score.seen.items()) if name != "answers"))
    quarter = max(len(score.megabytes) // 4, 1)
    early = statistics.median(score.megabytes[quarter : 2 * quarter] or score.megabytes)
    late = statistics.median(score.megabytes[-quarter:])
    say(f"memory: {score.megabytes[0]:.0f} MB at the start, {early:.0f} in the second quarter, {late:.0f} in the last")
    for line in score.wrong[:10]:
        say(line)


if __name__ == "__main__":
    sys.exit(main())
