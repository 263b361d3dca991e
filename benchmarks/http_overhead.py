"""What HTTP and JSON add to the engine's own time: `python -m benchmarks.http_overhead`.

One server, one engine. In turn the same texts are decoded by the engine alone, in its own thread, and for streaming
clients in a process of their own. The ratio of the two times, pair by pair, is what serving costs. Where other programs
take their share of the machine, it says little: then look at the processor time of the thread that does HTTP and JSON,
as a share of the processor time of the engine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import uvicorn

import outrider
from outrider.engine.engine import Engine
from outrider.server import Service, ServiceSettings, create_app

QUESTION = "Write a long story about a river, number {}."
CHAT = "/v1/chat/completions"


def conversation(row: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTION.format(row)}]


def by_the_engine(engine: Engine, rows: int, tokens: int, speculative: bool) -> float:
    """Seconds."""
    drafted = None if speculative else 0
    started = time.perf_counter()
    for row in range(rows):
        sampling = outrider.SamplingParams(temperature=0)
        engine.submit(
            outrider.Request(conversation(row), tokens, sampling, stop_token_ids=frozenset(), num_draft_tokens=drafted)
        )
    while not engine.idle:
        engine.step()
    return time.perf_counter() - started


async def by_clients(address: str, rows: int, tokens: int, speculative: bool) -> float:
    """Seconds until all streams have ended."""

    async def stream(row: int) -> None:
        body: dict[str, Any] = {
            "messages": conversation(row),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "speculative": speculative,
        }
        async with http.stream("POST", CHAT, json=body) as reply:
            async for _ in reply.aiter_raw():
                pass

    async with httpx.AsyncClient(base_url=address, timeout=600) as http:
        await http.get("/health")
        started = time.perf_counter()
        await asyncio.gather(*(stream(row) for row in range(rows)))
        return time.perf_counter() - started


def measure(service: Service, server: Serving, given: argparse.Namespace) -> None:
    ratios, rates, shares = [], [], []
    for _ in range(given.pairs):
        before = time.process_time()
        alone = asyncio.run(
            service.call(lambda engine: by_the_engine(engine, given.rows, given.tokens, given.speculative))
        )
        computed = time.process_time() - before
        before = server.thread_seconds()
        served = _clients(server.address, given)
        shares.append((server.thread_seconds() - before) / computed)
        ratios.append(served / alone)
        rates.append(given.rows * given.tokens / alone)
        print(f"alone {alone:.2f} s, served {served:.2f} s: {ratios[-1]:.3f}; HTTP {shares[-1]:.1%}", flush=True)
    middle, share, rate = map(statistics.median, (ratios, shares, rates))
    print(f"median {middle:.3f}; HTTP and JSON {share:.1%} of the engine's processor time; {rate:.0f} tokens/s alone")


def _clients(address: str, given: argparse.Namespace) -> float:
    """Seconds that the clients took, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.http_overhead", "--client", address]
    command += ["--rows", str(given.rows), "--tokens", str(given.tokens)]
    command += ["--speculative"] if given.speculative else []
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Serving:
    """A server in a thread.

    Attributes:
        address: of it.
    """

    def __init__(self, service: Service) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(create_app(service), log_level="warning")
        self._loop = (config.get_loop_factory() or asyncio.new_event_loop)()
        server = uvicorn.Server(config)
        serving = server.serve([listening])
        threading.Thread(target=lambda: self._loop.run_until_complete(serving), daemon=True).start()

    def thread_seconds(self) -> float:
        """The processor time of its thread so far."""

        async def seconds() -> float:
            return time.thread_time()

        return asyncio.run_coroutine_threadsafe(seconds(), self._loop).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speculative", action="store_true")
    parser.add_argument("--client", help="the address of a server: be its clients")
    given = parser.parse_args()
    if given.client:
        print(asyncio.run(by_clients(given.client, given.rows, given.tokens, given.speculative)))
        return
    target = outrider.load(given.model, threads=given.threads)
    service = Service(
        lambda observer: Engine(
            target, outrider.SuffixDrafter(), max_rows=given.rows, capacity=1024, observer=observer
        ),
        ServiceSettings((given.model,)),
    )
    measure(service, Serving(service), given)


if __name__ == "__main__":
    main()
