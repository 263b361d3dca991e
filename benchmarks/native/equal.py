"""Whether greedy text with each drafter is, token for token, the text without one."""

from __future__ import annotations

from pathlib import Path

from outrider import ModelDrafter, SpeculativeDecoder, SuffixDrafter, load, lookup_drafter
from outrider.bench.comparison import question_tokens
from outrider.prompts.files import read_prompts
from outrider.runtimes.base import Model


def systems_of(target: Model, draft_model: str, threads: int) -> dict[str, SpeculativeDecoder]:
    """A model as large as the target never pays, so that it drafts a fixed number of tokens."""
    return {
        "suffix": SpeculativeDecoder(SuffixDrafter(), target, None),
        "lookup": SpeculativeDecoder(lookup_drafter(target), target, None),
        "model": SpeculativeDecoder(ModelDrafter(load(draft_model, backend="native", threads=threads)), target, 4),
    }


def compare_texts(questions: Path, model: str, draft_model: str, max_tokens: int, threads: int, every: int) -> None:
    """Decode each question plainly and with every drafter, and print how many texts are equal.

    Args:
        questions: Spec-Bench questions, JSON lines.
        model: the target.
        draft_model: the target in other numbers, for example a file in 4 bits.
        every: take every N-th question.
    """
    target = load(model, backend="native", threads=threads)
    plain = SpeculativeDecoder(None, target, 0)
    systems = systems_of(target, draft_model, threads)
    asked = read_prompts(questions)[::every]
    equal = dict.fromkeys(systems, 0)
    drafted, accepted = dict.fromkeys(systems, 0), dict.fromkeys(systems, 0)
    for number, question in enumerate(asked, start=1):
        tokens = list(question_tokens(question, target, max_tokens))
        text = plain.generate(tokens, max_tokens=max_tokens, temperature=0).tokens
        for name, system in systems.items():
            found = system.generate(tokens, max_tokens=max_tokens, temperature=0)
            equal[name] += found.tokens == text
            drafted[name] += found.stats.drafted
            accepted[name] += found.stats.accepted
        print(number, ", ".join(f"{name} {count}" for name, count in equal.items()), flush=True)
    for name, count in equal.items():
        print(f"{name}: {count} of {len(asked)} texts equal; {accepted[name]} of {drafted[name]} draft tokens accepted")
