"""The benchmark of the proposer in vLLM, with stand-ins for the systems: vLLM itself is not here."""

import json

from benchmarks import vllm_host

LINES = [
    {"category": category, "turns": [f"{category} {number}"]} for number in range(3) for category in ("free", "copying")
]


class System:
    """Answers with the question's length in tokens; `slow` times as slow as the first."""

    def __init__(self, slow):
        self.asked = []
        self._slow = slow

    def ask(self, prompts, stop):
        self.asked.append(list(prompts))
        tokens = [[7] * len(prompt) for prompt in prompts]
        return {"seconds": self._slow * len(prompts), "decoding": [self._slow] * len(prompts), "tokens": tokens}


def test_so_many_questions_of_each_category_are_chosen():
    chosen = vllm_host.chosen_questions(LINES, 2, 26)
    assert [line["turns"][0] for line in chosen] == ["free 0", "free 1", "copying 0", "copying 1"]
    assert len(vllm_host.chosen_questions(LINES, None, 4)) == 4


def test_a_portion_has_questions_of_one_category_and_all_systems_answer_it(tmp_path):
    systems = {"plain": System(1.0), "outrider": System(0.5)}
    answers = vllm_host.measure(systems, LINES, 2, tmp_path / "results.jsonl")
    portions = [["free 0", "free 1"], ["free 2"], ["copying 0", "copying 1"], ["copying 2"]]
    assert systems["plain"].asked == systems["outrider"].asked == portions
    for found in answers.values():  # in the order of the questions, not of the portions
        assert [len(answer["tokens"]) for answer in found] == [len(line["turns"][0]) for line in LINES]
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["system"] for line in written[:4]] == ["plain", "outrider", "outrider", "plain"]  # they take turns


def test_speeds_are_told_by_category(capsys):
    systems = {"plain": System(1.0), "outrider": System(0.5)}
    vllm_host.report(list(systems), LINES, vllm_host.measure(systems, LINES, 1, None), decoding=False)
    said = capsys.readouterr().out
    assert "6 of 6 texts as plain" in said
    assert said.count("2.00") == 3  # free, copying, all
