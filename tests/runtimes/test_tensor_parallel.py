"""A target divided between two processes: the text of one, whatever rank 0 drafts: make test-tensor-parallel."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from tiny import model as tiny_model

pytest.importorskip("torch")
pytest.importorskip("transformers")

PROMPT = [3, 4, 5, 6, 3, 4]
CHILD = """
import json, sys
import torch, torch.distributed as dist
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig
import outrider
from outrider.runtimes.torch.model import TransformersModel
from outrider.runtimes.torch.parallel import spread

folder, prompt, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
model = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, distributed_config=DistributedConfig(tp_plan="auto")
).eval()
part = model.model.layers[0].mlp.gate_proj.weight
local = part.to_local() if hasattr(part, "to_local") else part
found = {"rows": local.shape[0], "world": dist.get_world_size()}
with torch.no_grad():
    found["logits"] = model(torch.tensor([prompt])).logits[0].tolist()
with spread(TransformersModel(model)) as target:
    if target is not None:
        # The lookahead is chosen by this rank's clock; one text after the other, then several rows and trees.
        decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), target)
        found["alone"] = decoder.generate(prompt, max_tokens=40, temperature=0).tokens
        found["fixed"] = outrider.SpeculativeDecoder(outrider.SuffixTreeDrafter(), target, 6).generate(
            prompt, max_tokens=40, temperature=0).tokens
        found["rows_of"] = outrider.batched_speculative_decode(
            [prompt, prompt[:3]], outrider.SuffixDrafter(), target, max_tokens=30, temperature=0)
        try:
            decoder.generate([], max_tokens=1)
        except outrider.InputError:
            found["refused"] = True
        json.dump(found, open(out, "w"))
dist.destroy_process_group()
"""


@pytest.mark.processes
def test_two_processes_write_the_text_of_one(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    folder = tiny_model.save(tmp_path / "model")
    script, out = tmp_path / "child.py", tmp_path / "out.json"
    script.write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    ran = subprocess.run(
        [*command, str(folder), json.dumps(PROMPT), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(out.read_text())
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def plain(prompt, count):
        ids = torch.tensor([prompt])
        return whole.generate(ids, max_new_tokens=count, do_sample=False)[0].tolist()[len(prompt) :]

    assert (found["world"], found["rows"]) == (2, 24)  # of 48
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(found["logits"]), whole(torch.tensor([PROMPT])).logits[0])
    assert found["alone"] == found["fixed"] == plain(PROMPT, 40)
    assert [list(row) for row in found["rows_of"]] == [plain(PROMPT, 30), plain(PROMPT[:3], 30)]
    assert found["refused"]


def started(tmp_path, *arguments):
    """`outrider` on two ranks, whose messages go into files."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--redirects", "2"]
    return subprocess.Popen(
        [*command, "--log-dir", str(tmp_path / "logs"), "-m", "outrider", *arguments, "--tensor-parallel", "2"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def ranks_of(process):
    """The processes of the ranks, by number."""
    psutil = pytest.importorskip("psutil")
    children = psutil.Process(process.pid).children(recursive=True)
    return {int(child.environ()["RANK"]): child for child in children if "outrider" in child.cmdline()}


# What torchao, a tool of the tests, writes when transformers imports it.
OTHERS = re.compile(r"^(Failed to load \S*torchao|W\d{4} ).*\n", re.MULTILINE)


def said_by(tmp_path, rank):
    said = "".join(file.read_text() for file in (tmp_path / "logs").rglob(f"{rank}/stderr.log"))
    return OTHERS.sub("", said)


@pytest.fixture
def endless(tmp_path):
    """A model that never ends its text by itself."""
    folder = tiny_model.save_bytes(tmp_path / "model", context=8192)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": None}))
    return folder


FLAGS = ["--dtype", "float32", "--temp", "0", "--ignore-chat-template"]


@pytest.mark.processes
def test_the_command_prints_the_text_of_one_process(tmp_path, endless):
    asked = ["generate", "-m", str(endless), *FLAGS, "--max-tokens", "60", "the cat sat"]
    divided = started(tmp_path, *asked)
    out, _ = divided.communicate(timeout=240)
    assert divided.returncode == 0, said_by(tmp_path, 0)
    alone = [sys.executable, "-m", "outrider", *asked, "--backend", "torch"]
    assert out == subprocess.run(alone, capture_output=True, timeout=240).stdout
    assert len(out) > 50
    assert said_by(tmp_path, 1) == ""


@pytest.mark.processes
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_command_on_the_other(tmp_path, endless, victim):
    running = started(tmp_path, "generate", "-m", str(endless), *FLAGS, "--max-tokens", "7000", "the cat sat")
    assert os.read(running.stdout.fileno(), 10)  # it has begun to print
    ranks = ranks_of(running)
    ranks[victim].kill()
    ranks[1 - victim].wait(10)
    assert running.wait(30) != 0
    assert said_by(tmp_path, 1 - victim) == f"error: rank {victim} of 2 is gone: the run ends here, start it again\n"


@pytest.mark.processes
def test_a_killed_rank_ends_the_server(tmp_path, endless):
    httpx = pytest.importorskip("httpx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = started(tmp_path, "serve", "-m", str(endless), "--dtype", "float32", "--port", str(port), "-a", "it")
    ends = time.monotonic() + 120
    while "http://" not in said_by(tmp_path, 0):
        assert running.poll() is None, said_by(tmp_path, 0)
        assert time.monotonic() < ends
        time.sleep(0.2)
    asked = {"model": "it", "prompt": "the cat sat", "max_tokens": 7000, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/completions", json=asked, timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        ranks = ranks_of(running)
        ranks[1].kill()
        ranks[0].wait(10)
    assert running.wait(30) != 0
    assert said_by(tmp_path, 0).endswith("\nerror: rank 1 of 2 is gone: the run ends here, start it again\n")


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--tensor-parallel", "2"], "--tensor-parallel is 2 and there are 1 processes: start them with torchrun"),
        (["--tensor-parallel", "0"], "--tensor-parallel is 0: it must be at least 1"),
        (["--tensor-parallel", "2", "--backend", "llama"], "--tensor-parallel is for PyTorch and --backend is llama"),
        (["--tensor-parallel", "2", "--dtype", "q8_0"], "--tensor-parallel is for PyTorch and --dtype is of other"),
        (
            ["--tensor-parallel", "2", "--workers", "2", "--input", "x", "--output", "y"],
            "--tensor-parallel is for one process and --workers is 2",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(flags, said, capsys, monkeypatch):
    from outrider.cli.app import run

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert run(["generate", *flags, *([] if "--input" in flags else ["text"])]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
