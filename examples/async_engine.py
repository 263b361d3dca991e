"""Several clients at once, each awaiting a stream; one of them loses interest.

python examples/async_engine.py
"""

import asyncio

import outrider

QUESTIONS = ["Name three rivers.", "Count from one to twenty in words.", "What is a haiku?", "Why is the sky blue?"]


async def ask(running: outrider.AsyncEngine, question: str, patience: int) -> None:
    messages = [{"role": "user", "content": question}]
    request = outrider.Request(messages, max_tokens=60, sampling=outrider.SamplingParams(temperature=0))
    text = ""
    async for event in running.stream(request):
        text += event.text
        if event.index + 1 == patience:
            text += " ... (left)"
            break  # the row is free for the next client
    print(f"--- {question}\n{text}\n")


async def main() -> None:
    engine = outrider.Engine("smollm2", outrider.SuffixDrafter(), max_rows=3, capacity=512)
    async with outrider.AsyncEngine(engine) as running:
        patience = [10 if "haiku" in question else 1000 for question in QUESTIONS]
        await asyncio.gather(*(ask(running, *client) for client in zip(QUESTIONS, patience, strict=True)))


asyncio.run(main())
