"""`outrider generate --workers` over processes of Ray, which are killed: make test-ray."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from outrider.cli.app import run as command_line

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
pytest.importorskip("torch")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROMPTS, KILLS, TOKENS = 60, 5, 100
WORKER = "ray::_Worker"
DECODING = ("--backend", "torch", "--dtype", "float32", "-n", TOKENS, "--temp", 1, "--rule", "coupled", "--seed", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny import model

    return model.save(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    from tiny.model import WORDS

    words = WORDS[6:]
    texts = [" ".join(words[place * step % len(words)] for step in range(1, 7)) for place in range(PROMPTS)]
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    return file


@pytest.fixture(autouse=True)
def nothing_left_behind():
    yield
    assert not ray.is_initialized()
    assert processes() == []


def processes(of=None):
    """Processes of Ray below this one."""
    found = (of or psutil.Process()).children(recursive=True)
    return [process for process in found if name(process).startswith(("ray", "gcs_server"))]


def name(process):
    try:
        return (process.cmdline() or [""])[0].rpartition("/")[2]
    except psutil.Error:
        return ""


def contents(path):
    """Results by id, without counts and times; refuses one that is there twice."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {line["id"]: {name: line[name] for name in line if name != "stats"} for line in lines}
    assert len(found) == len(lines)
    return found


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_workers_that_are_killed_again_and_again_lose_nothing(folder, prompts, tmp_path):
    """All results are there once, and equal those of one process."""
    one, many = tmp_path / "one", tmp_path / "many"
    common = [str(part) for part in ("generate", "--input", prompts, "-m", folder, *DECODING)]
    assert command_line([*common, "--output", str(one)]) == 0
    command = [
        sys.executable,
        "-m",
        "outrider.cli",
        *common,
        "--output",
        str(many),
        "--workers",
        "2",
        "--max-rows",
        "4",
    ]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        killed = set()
        while run.poll() is None:
            if len(killed) < KILLS and lines_in(many) > 2 + 8 * len(killed):
                workers = [each for each in processes(psutil.Process(run.pid)) if name(each).startswith(WORKER)]
                alive = [each for each in workers if each.pid not in killed]
                if alive:
                    killed.add(alive[0].pid)
                    os.kill(alive[0].pid, signal.SIGKILL)
            time.sleep(0.01)
        assert run.returncode == 0, run.stderr.read()
    finally:
        run.kill()
    assert len(killed) == KILLS
    assert contents(many) == contents(one)
    assert len(contents(many)) == PROMPTS


def test_what_a_worker_refuses_is_one_line(folder, prompts, tmp_path, capsys):
    arguments = ("generate", "--input", prompts, "-m", folder, "--output", tmp_path / "r", "--workers", 1)
    status = command_line([str(part) for part in (*arguments, "--backend", "torch", "--dtype", "q4_0")])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert "q4_0" in error
    assert contents(tmp_path / "r") == {}


def test_an_address_where_nobody_answers_is_refused(folder, prompts, tmp_path, capsys):
    arguments = ("generate", "--input", prompts, "-m", folder, "--output", tmp_path / "r", *DECODING)
    where = ("--workers", 1, "--address", "127.0.0.1:9")
    assert command_line([str(part) for part in (*arguments, *where)]) == 2
    assert "--address is 127.0.0.1:9 and no Ray cluster answers there" in capsys.readouterr().err
