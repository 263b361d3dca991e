"""A target divided between two processes: the text of one, whatever rank 0 drafts: make test-tensor-parallel."""

import json
import os
import subprocess
import sys

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
    assert found["alone"] == found["fixed"] == plain(PROMPT, 40)
    assert [list(row) for row in found["rows_of"]] == [plain(PROMPT, 30), plain(PROMPT[:3], 30)]
    assert found["refused"]
