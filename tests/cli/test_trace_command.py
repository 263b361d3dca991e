"""`outrider trace`: a run is written, read back, summed up and drawn."""

import json
import re

import pytest
from calls import PROMPT, generated


def test_a_trace_is_written_summed_up_and_drawn(outrider, folder, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "run.jsonl"
    stats = generated(outrider, folder, "--trace", file, "--compare", "-md", folder)["stats"]
    status, out, err = outrider("trace", file, "--json")
    assert status == 0, err
    summed = json.loads(out)
    assert summed["statistics"] == stats  # of the text itself, not of those decoded to compare
    assert (summed["target"], summed["drafter"], summed["rule"]) == (str(folder), str(folder), "token")
    status, out, err = outrider("trace", file)
    assert (status, err) == (0, "")
    assert "24 tokens in " in out
    for origin, tokens in stats["origins"].items():
        assert re.search(rf"{origin}.* {tokens} ", out)
    for suffix, begin in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        picture = tmp_path / f"picture{suffix}"
        status, out, err = outrider("trace", file, "--output", picture)
        assert (status, out) == (0, "")
        assert str(picture) in err.replace("\n", "")
        assert picture.read_bytes().startswith(begin)


def test_many_prompts_are_traced_together(outrider, folder, tmp_path):
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "run.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": PROMPT, "max_tokens": 5 + each}) for each in range(3)))
    arguments = ("--input", prompts, "--output", tmp_path / "results.jsonl", "--trace", file)
    status, _, err = outrider("generate", "-m", folder, "--logit-bias", "2=-100", *arguments)
    assert status == 0, err
    summed = json.loads(outrider("trace", file, "--json")[1])
    assert (summed["texts"], summed["statistics"]["emitted"]) == (3, 18)


def test_an_interrupted_run_leaves_its_trace(outrider, folder, tmp_path, monkeypatch):
    def write(self, event):
        if event.index == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", write)
    file = tmp_path / "run.jsonl"
    assert outrider("generate", PROMPT, "-m", folder, "-n", 40, "--drafter", "none", "--trace", file)[0] == 130
    assert json.loads(outrider("trace", file, "--json")[1])["statistics"]["emitted"] == 5


def test_a_trace_that_never_began_is_refused(outrider, tmp_path):
    file = tmp_path / "run.jsonl"
    assert outrider("generate", PROMPT, "-m", "/no/such/model", "--trace", file)[0] == 2
    status, out, err = outrider("trace", file)
    assert (status, out) == (2, "")
    assert "holds no rounds" in err
