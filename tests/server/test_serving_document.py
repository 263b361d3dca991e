"""The Python and the curl of docs/serving.md run as they stand, but for the address."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

for name in ("openai", "anthropic", "llguidance"):
    pytest.importorskip(name)

from server.conftest import running, service  # noqa: E402

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def serving():
    with running(service(models=("smollm2",))) as found:
        yield found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_python(serving, capsys, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it looks for prices in the network otherwise
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    try:
        import litellm  # noqa: F401
    except ImportError:
        blocks = [block for block in blocks if "litellm" not in block]
    exec(compile("\n\n".join(blocks).replace(ADDRESS, serving), "serving.md", "exec"), {})
    assert "stars=" in capsys.readouterr().out


def test_curl(serving):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = re.search(r"^\$ (curl .*?)\n```$", TEXT, re.MULTILINE | re.DOTALL)
    assert command is not None
    found = subprocess.run(command[1].replace(ADDRESS, serving), shell=True, capture_output=True, text=True, check=True)
    assert '"finish_reason":"length"' in found.stdout
