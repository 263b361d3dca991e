"""What replies say besides the text: usage, log probabilities, timings, speculation, origins and rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outrider.engine.events import TokenEvent
from outrider.engine.record import JudgedDraft
from outrider.server.answers import Answer, Step
from outrider.server.asked import Extras
from outrider.server.predictions import appeared
from outrider.server.rounds import TextRound
from outrider.text import Tokenizer, piece_of

LEAST_LOGPROB = -9999.0  # JSON has no infinity
MILLISECONDS = 1000


def text_of(token: int, tokenizer: Tokenizer) -> str:
    """A token by itself; half characters are shown as replacement characters."""
    return piece_of(token, tokenizer).decode("utf-8", "replace")


def chat_logprobs(events: Sequence[TokenEvent], tokenizer: Tokenizer) -> dict[str, Any]:
    """In the shape of chat completions."""
    content = []
    for event in events:
        top = [_logprob(token, logprob, tokenizer) for token, logprob in (event.top_logprobs or {}).items()]
        content.append({**_logprob(event.token, event.logprob, tokenizer), "top_logprobs": top})
    return {"content": content, "refusal": None}


def legacy_logprobs(events: Sequence[TokenEvent], tokenizer: Tokenizer, offset: int) -> dict[str, Any]:
    """In the shape of the older completions.

    Args:
        offset: how many characters the text has before these tokens.
    """
    offsets = []
    for event in events:
        offsets.append(offset)
        offset += len(event.text)
    return {
        "tokens": [text_of(event.token, tokenizer) for event in events],
        "token_logprobs": [_finite(event.logprob) for event in events],
        "top_logprobs": [
            {text_of(token, tokenizer): _finite(logprob) for token, logprob in (event.top_logprobs or {}).items()}
            for event in events
        ],
        "text_offset": offsets,
    }


def usage_of(answers: Sequence[Answer], reasoning_tokens: int) -> dict[str, Any]:
    """Tokens, of all texts together; a prompt counts once, however many texts continue it.

    `accepted_prediction_tokens` and `rejected_prediction_tokens` count the tokens of `prediction` that appeared in the
    text, and those that did not, as OpenAI defines them. What else was drafted is no part of them.

    Args:
        reasoning_tokens: how many of the tokens the model spent on thinking.
    """
    prompts = {id(answer.prepared.prompt): len(answer.prepared.prompt) for answer in answers}
    prompt, completion = sum(prompts.values()), sum(len(answer.tokens) for answer in answers)
    accepted = rejected = 0
    for answer in answers:
        if answer.prepared.predicted:
            found = appeared(answer.prepared.predicted, answer.tokens)
            accepted += found
            rejected += len(answer.prepared.predicted) - found
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(answer.stats.cached_tokens for answer in answers)},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": rejected,
        },
    }


def timings_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """llama.cpp's `timings`, of the first text."""
    answer = answers[0]
    stats = answer.stats
    prompt = len(answer.prepared.prompt) - stats.cached_tokens
    reading, decoding = stats.seconds_prefill * MILLISECONDS, stats.seconds_decoding * MILLISECONDS
    found = {
        "cache_n": stats.cached_tokens,
        "prompt_n": prompt,
        "prompt_ms": reading,
        "prompt_per_token_ms": reading / max(prompt, 1),
        "prompt_per_second": prompt / stats.seconds_prefill if stats.seconds_prefill else 0.0,
        "predicted_n": stats.emitted,
        "predicted_ms": decoding,
        "predicted_per_token_ms": decoding / stats.emitted if stats.emitted else 0.0,
        "predicted_per_second": stats.tokens_per_second,
    }
    if stats.drafted:  # llama.cpp says it where it drafted
        found |= {"draft_n": stats.drafted, "draft_n_accepted": stats.accepted}
    return found


def metrics_of(answer: Answer) -> dict[str, Any]:
    """vLLM's `metrics` of one text."""
    tokens, between = len(answer.tokens), answer.last - answer.first
    return {
        "time_to_first_token_ms": (answer.first - answer.arrived) * MILLISECONDS,
        "generation_time_ms": between * MILLISECONDS,
        "mean_itl_ms": between * MILLISECONDS / (tokens - 1) if tokens > 1 else None,
        "tokens_per_second": answer.stats.tokens_per_second,
        "speculative_decoding": _speculative_decoding(answer),
    }


def _speculative_decoding(answer: Answer) -> dict[str, Any] | None:
    """The numbers of rounds with a draft; None where there was none.

    `acceptance_histogram` is a dense list: in how many rounds 0, 1, 2 ... draft tokens were accepted.
    """
    stats = answer.stats
    if not stats.drafted:
        return None
    at_least = [stats.drafted_at[0], *stats.accepted_at]
    histogram = [more - most for more, most in zip(at_least, [*stats.accepted_at, 0], strict=True)]
    steps = stats.drafted_at[0]
    return {
        "mean_acceptance_length": 1 + stats.accepted / steps,
        "draft_acceptance_rate": stats.acceptance_rate,
        "acceptance_histogram": histogram,
        "num_spec_steps": steps,
        "num_accepted_draft_tokens": stats.accepted,
        "num_draft_tokens": stats.drafted,
        "num_spec_tokens": len(stats.drafted_at),
    }


def origins_of(step: Step, extras: Extras, tokenizer: Tokenizer) -> dict[str, Any]:
    """The field `outrider` of a chunk: tokens and rounds, as far as they are asked for."""
    found: dict[str, Any] = {}
    number = None if step.round is None else step.round.record.number
    if extras.tokens:
        found["tokens"] = [
            {
                "index": event.index,
                "id": event.token,
                "text": event.text,
                "origin": event.origin,
                "source": event.source,
                "logprob": _finite(event.logprob),
                "round": number,
            }
            for event in step.events
        ]
    if extras.rounds and step.round is not None:
        found["rounds"] = [_round(step.round, tokenizer)]
    return found


def _round(seen: TextRound, tokenizer: Tokenizer) -> dict[str, Any]:
    record, part = seen.record, seen.part
    return {
        "round": record.number,
        "started": record.started,
        "rows": len(record.sequences),
        "planned": part.planned,
        "read": part.read,
        "source": part.source,
        "drafted": [] if part.draft is None else _nodes(part.draft, tokenizer),
        "accepted": part.accepted,
        "emitted": list(part.tokens),
        "plain_seconds": seen.plain_seconds,
        "seconds": {
            "drafting": record.seconds_drafting,
            "verification": record.seconds_verification,
            "elsewhere": record.seconds_elsewhere,
        },
    }


def _nodes(draft: JudgedDraft, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    accepted = frozenset(draft.path)
    return [
        {
            "id": token,
            "text": text_of(token, tokenizer),
            "parent": draft.parents[node],
            "source": draft.sources[node],
            "chance": None if draft.chances is None else draft.chances[node],
            "accepted": node in accepted,
        }
        for node, token in enumerate(draft.tokens)
    ]


def closing_fields(answers: Sequence[Answer], extras: Extras) -> Mapping[str, Any]:
    """What stands beside `usage` at the end."""
    found: dict[str, Any] = {"timings": timings_of(answers)}
    if extras.metrics and len(answers) == 1:
        found["metrics"] = metrics_of(answers[0])
    return found


def _logprob(token: int, logprob: float | None, tokenizer: Tokenizer) -> dict[str, Any]:
    piece = piece_of(token, tokenizer)
    return {"token": piece.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(piece)}


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST_LOGPROB)
