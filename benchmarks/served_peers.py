"""Other servers with the same model and the same clients: `python -m benchmarks.served_peers --clients 1,4,16`.

Each server is a process of its own, and all are open from the start: `outrider serve`, llama-cpp-python's own server
with the same GGUF file, and any that runs already (`--running vllm=http://127.0.0.1:9000`). In turn each serves so many
streaming clients at once, with questions that none has seen before. Reported are the seconds to the first token and the
tokens of all answers per second, as medians of rounds, and the medians of the ratios to Outrider round by round.

llama-cpp-python's server needs its extra (`pip install 'llama-cpp-python[server]'`); `--peer-python` says where.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

import outrider
from outrider.text import Tokenizer

QUESTION = "Write a long story about river number {}, and about the people who live on its banks."
CHAT = "/v1/chat/completions"
OURS = "outrider"
LLAMA = "llama-cpp-python"
OPENING_SECONDS = 120
REST = 1.5  # seconds before each turn: vLLM's worker spins for a second after an answer, and would slow the next server


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        model: the name that it goes by there.
    """

    name: str
    address: str
    model: str


@dataclass(frozen=True)
class Round:
    """What one round of clients saw.

    Attributes:
        first: seconds to the first token, the median of the clients.
        rate: tokens of all answers per second.
    """

    first: float
    rate: float


def command_of(name: str, port: int, given: argparse.Namespace) -> list[str]:
    """What starts a server."""
    threads, rows = str(given.threads), max(given.clients)
    if name == OURS:
        flags = ["-m", given.model, "--threads", threads, "--port", str(port), "--max-rows", str(rows), "--temp", "0"]
        return [sys.executable, "-m", "outrider.cli", "serve", *flags, "--ctx-size", "1024"]
    flags = ["--model", given.model, "--n_ctx", "1024", "--n_threads", threads, "--n_threads_batch", threads]
    # Without this a request ends the one that runs.
    flags += ["--interrupt_requests", "False", "--port", str(port), "--verbose", "False"]
    return [given.peer_python, "-m", "llama_cpp.server", *flags]


@contextlib.contextmanager
def started(name: str, given: argparse.Namespace) -> Iterator[Server]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        command_of(name, port, given),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(given.threads)},
    )
    try:
        yield answering(name, f"http://127.0.0.1:{port}", lambda: process.poll() is None)
    finally:
        process.terminate()
        process.wait(30)


def answering(name: str, address: str, alive: Callable[[], bool]) -> Server:
    """The server, as soon as it says which model it has."""
    until = time.monotonic() + OPENING_SECONDS
    while alive() and time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            reply = httpx.get(f"{address}/v1/models", timeout=5)
            if reply.status_code == 200:
                return Server(name, address, reply.json()["data"][0]["id"])
        time.sleep(0.1)
    raise SystemExit(f"{name} does not answer at {address}: start it by hand to see why")


async def serve_clients(server: Server, questions: list[str], tokens: int, tokenizer: Tokenizer) -> Round:
    """One round: all clients ask at once."""

    async def ask(question: str) -> tuple[float, int]:
        body = {
            "model": server.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
        first, answer = 0.0, ""
        async with http.stream("POST", CHAT, json=body) as reply:
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    piece = json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content")
                    if piece:
                        first = first or time.perf_counter() - begun
                        answer += piece
        return first, len(tokenizer.encode(answer))

    async with httpx.AsyncClient(base_url=server.address, timeout=600) as http:
        await http.get("/v1/models")
        begun = time.perf_counter()
        found = await asyncio.gather(*(ask(question) for question in questions))
        seconds = time.perf_counter() - begun
    return Round(statistics.median(first for first, _ in found), sum(count for _, count in found) / seconds)


def measure(servers: list[Server], clients: int, given: argparse.Namespace, tokenizer: Tokenizer) -> None:
    """All servers in turn, with so many clients."""
    rounds: dict[str, list[Round]] = defaultdict(list)
    for number in range(given.rounds):
        order = servers if number % 2 == 0 else servers[::-1]
        questions = [QUESTION.format(1000 * clients + 100 * number + client) for client in range(clients)]
        for server in order:
            time.sleep(REST)
            rounds[server.name].append(asyncio.run(serve_clients(server, questions, given.tokens, tokenizer)))
    for server in servers:
        its, ours = rounds[server.name], rounds[servers[0].name]
        first = statistics.median(each.first for each in its)
        rate = statistics.median(each.rate for each in its)
        later = statistics.median(one.first / other.first for one, other in zip(its, ours, strict=True))
        share = statistics.median(one.rate / other.rate for one, other in zip(its, ours, strict=True))
        compared = f"; of {servers[0].name}'s: {later:.2f} of the time to the first token, {share:.2f} of the tokens/s"
        print(
            f"{clients:3} clients  {server.name:18} first token {first * 1e3:6.0f} ms, {rate:6.1f} tokens/s"
            f"{'' if server is servers[0] else compared}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file, which all servers open")
    parser.add_argument("--clients", default="1,4,16", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("--peers", default=LLAMA, help="of those that are started here; empty for none")
    parser.add_argument("--running", action="append", default=[], metavar="NAME=URL", help="one that runs already")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has llama_cpp.server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if not os.path.exists(given.model):
        raise SystemExit(f"{given.model} is no file: give a GGUF file, which all servers can open")
    if shutil.which(given.peer_python) is None:
        raise SystemExit(f"--peer-python {given.peer_python} is not there")
    tokenizer = outrider.load(given.model, threads=given.threads).tokenizer
    assert tokenizer is not None
    with contextlib.ExitStack() as open_servers:
        names = [OURS, *filter(None, given.peers.split(","))]
        servers = [open_servers.enter_context(started(name, given)) for name in names]
        for running in given.running:
            name, _, address = running.partition("=")
            servers.append(answering(name, address, lambda: True))
        for server in servers:
            asyncio.run(serve_clients(server, ["Hello"], 4, tokenizer))  # the first request is slower than others
        for clients in given.clients:
            measure(servers, clients, given, tokenizer)


if __name__ == "__main__":
    main()
