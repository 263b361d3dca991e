"""`outrider chat`: messages and commands, from pipes and from an editor, and a key that stops an answer."""

import io
import json
import os
import re
import signal
import stat
import threading

import pytest

import outrider as package
from outrider.cli.chat.chat import Chat
from outrider.cli.chat.command import converse
from outrider.cli.chat.conversation import Conversation
from outrider.cli.chat.reading import LineReader, TerminalReader, command_completer
from outrider.cli.chat.settings import Settings
from outrider.cli.ending import Terminated, ending

ENDLESS = {2: -float("inf")}  # no answer ends by itself
SAMPLED = package.SamplingParams(temperature=1, logit_bias=ENDLESS, seed=1)
LINE = re.compile(r"(\d+) tokens · [\d.]+/s · [\d.]+ tokens per round")


@pytest.fixture(scope="module")
def target(folder):
    return package.load(folder, dtype="float32")


@pytest.fixture
def chat(target):
    """A chat of answers of ten tokens; answers of one question and seed are equal, whatever drafts."""
    engine = package.Engine(target, package.SuffixDrafter(), rule="coupled", max_rows=1)
    return Chat(engine, Conversation(), Settings(SAMPLED, max_tokens=10))


@pytest.fixture
def talk(chat, capsys):
    """Sends lines; returns (everything went well, what was answered, what was said about it)."""

    def send(*lines):
        complete = converse(chat, LineReader(io.StringIO("".join(f"{line}\n" for line in lines))))
        captured = capsys.readouterr()
        return complete, captured.out, captured.err

    return send


@pytest.fixture
def edit(tmp_path):
    """Reads messages from an editor into which keys are typed."""
    create_pipe_input = pytest.importorskip("prompt_toolkit.input").create_pipe_input
    output = pytest.importorskip("prompt_toolkit.output").DummyOutput()

    def read(keys, history=None):
        with create_pipe_input() as pipe:
            pipe.send_text(keys)
            reader = TerminalReader(history, lambda: "status", input=pipe, output=output)
            found = []
            while (message := reader.read()) is not None:
                found.append(message)
            return found

    return read


def test_each_line_of_a_pipe_is_answered(outrider, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n\nsat on\\\nthe mat\n"))
    status, out, err = outrider("chat", "-m", folder, "-n", 5, "--logit-bias", "2=-inf")
    assert status == 0, err
    assert len(out.splitlines()) == 2
    assert [int(found[1]) for found in LINE.finditer(err)] == [5, 5]


def test_a_script_hears_of_what_failed_and_goes_on(outrider, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("/foo\nthe cat\n/exit\nnever read\n"))
    status, out, err = outrider("chat", "-m", folder, "-n", 5, "--logit-bias", "2=-inf")
    assert status == 1
    assert "error: command /foo is unknown" in err
    assert len(out.splitlines()) == 1


def test_a_model_without_a_chat_template_is_refused(outrider, folder, monkeypatch, tmp_path):
    for file in folder.iterdir():
        if "chat_template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
    status, _, err = outrider("chat", "-m", tmp_path)
    assert status == 2
    assert "has no chat template: outrider generate" in err


def test_an_answer_is_that_of_the_conversation_so_far(chat, target, talk):
    talk("the cat", "sat on")
    messages = chat.conversation.messages()
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    decoder = package.SpeculativeDecoder(None, target, rule="coupled")
    for end in (1, 3):
        answer = decoder.chat(messages[:end], sampling=SAMPLED, max_tokens=10)
        assert messages[end]["content"] == answer.text


def test_undo_takes_back_a_turn_and_retry_draws_another_answer(chat, talk):
    _, first, _ = talk("the cat")
    _, again, _ = talk("/retry")
    assert again != first
    assert len(chat.conversation.turns) == 1
    _, out, err = talk("/undo")
    assert (out, chat.conversation.turns) == ("", [])
    assert "the cat" in err
    assert talk("the cat")[1] == first
    assert talk("/clear", "/undo") == (
        False,
        "",
        "the chat is empty\nerror: nothing was said yet: ask something first\n",
    )


def test_settings_hold_from_the_next_answer_on(chat, talk):
    complete, _, err = talk("/set max_tokens 3", "/set top-k=5", "the cat", "/set seed none")
    assert complete
    assert "3 tokens" in err
    assert "cut off by max_tokens" in err
    assert chat.settings.sampling.top_k == 5
    assert chat.settings.sampling.seed is None


@pytest.mark.parametrize(
    "line, words",
    [
        ("/set temperature warm", "temperature is 'warm': it must be a number"),
        ("/set temperature -1", "temperature is -1.0"),
        ("/set top_k 1.5", "top_k is '1.5': it must be a whole number"),
        ("/set max_tokens 0", "max_tokens is 0: it must be at least 1"),
        ("/set warmth 1", "setting 'warmth' is unknown"),
        ("/show maybe", "it must be on or off"),
        ("/save", "/save names no file"),
        ("/load nowhere.json", "does not exist"),
        ("/save nowhere/chat.json", "cannot be written"),
        ("/stats", "there is no answer yet"),
        ("/retry", "nothing was said yet"),
        ("/", "command / is unknown"),
    ],
)
def test_what_cannot_be_done_is_one_line(talk, line, words):
    complete, out, err = talk(line)
    assert not complete
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_a_path_is_a_message(chat, talk):
    talk("/etc/hosts is what?")
    assert chat.conversation.turns[0][0] == "/etc/hosts is what?"


def test_a_chat_that_outgrows_the_context_says_what_to_do(chat, talk):
    complete, _, err = talk("the cat " * 200, "the mat")
    assert not complete
    assert "room for 255: /undo" in err
    assert len(chat.conversation.turns) == 1


def test_show_marks_what_was_drafted(talk):
    _, out, err = talk("/show on", "the cat", "/stats")
    assert re.search(r"\d+ correction|\d+ plain|drafted and accepted", out)
    assert "last answer: 10 tokens" in err


def test_a_saved_chat_goes_on_and_is_a_file_of_prompts(chat, talk, tmp_path, outrider, folder):
    file = tmp_path / "chat.jsonl"
    talk("/system the mat", "the cat", f"/save {file}")
    said = chat.conversation.messages()
    assert said[0] == {"role": "system", "content": "the mat"}
    talk("/system off", "/clear")
    assert chat.conversation.messages() == []
    talk(f"/load {file}")
    assert chat.conversation.messages() == said
    result = tmp_path / "results.jsonl"
    assert outrider("generate", "-m", folder, "--input", file, "--output", result, "-n", 3)[0] == 0
    assert json.loads(result.read_text())["text"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("no json", "is no chat"),
        ('{"messages": [{"role": "user"}]}', "messages[0].content is missing"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "take turns"),
    ],
)
def test_a_file_that_holds_no_chat_leaves_the_chat_as_it_was(chat, talk, tmp_path, content, words):
    talk("the cat")
    before = chat.conversation.messages()
    file = tmp_path / "file"
    file.write_text(content)
    complete, _, err = talk(f"/load {file}")
    assert not complete
    assert words in err
    assert chat.conversation.messages() == before


def test_ctrl_c_stops_the_answer_and_leaves_the_chat(target, capsys):
    class Keys(TerminalReader):
        """Two messages, as of an editor."""

        def __init__(self):
            self._messages = iter(["the cat", "the mat"])

        def read(self):
            return next(self._messages, None)

    def press(record):
        if record.number == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    engine = package.Engine(target, max_rows=1, observer=press)
    chat = Chat(engine, Conversation(), Settings(SAMPLED, max_tokens=10))
    handler = signal.getsignal(signal.SIGINT)
    assert converse(chat, Keys())
    assert signal.getsignal(signal.SIGINT) is handler
    err = capsys.readouterr().err
    assert [int(found[1]) for found in LINE.finditer(err)] == [6, 10]
    assert len(chat.conversation.turns) == 2
    assert err.count("stopped") == 1


def test_a_drafter_that_fails_ends_no_answer(folder, capsys):
    class Failing(package.SuffixDrafter):
        def propose(self, sequences, budgets):
            raise MemoryError

    target = package.load(folder, dtype="float32")
    chat = Chat(package.Engine(target, Failing(), max_rows=1), Conversation(), Settings(SAMPLED, max_tokens=4))
    with pytest.warns(RuntimeWarning, match="drafter"):
        assert converse(chat, LineReader(io.StringIO("the cat\n")))  # a drafter may fail: the answer comes without it
    assert len(chat.conversation.turns) == 1


def test_a_drafter_learns_while_the_user_types(target, capsys):
    rested = threading.Event()

    class Learning(package.SuffixDrafter):
        def rest(self):
            chat.notes.append("the head drafts better")
            rested.set()
            return False

    class Typing:
        """A user who takes time."""

        def __init__(self):
            self._messages = iter(["the cat"])

        def read(self):
            assert rested.wait(10)
            return next(self._messages, None)

    chat = Chat(package.Engine(target, Learning(), max_rows=1), Conversation(), Settings(SAMPLED, max_tokens=4))
    assert converse(chat, Typing())
    assert capsys.readouterr().err.startswith("the head drafts better")


def test_enter_sends_and_other_keys_begin_a_new_line(edit):
    assert edit("one\r\x1b\r\rtwo\x1b\rlines\rthree\\\rlines\rfour\nlines\r\x04") == [
        "one",
        "two\nlines",
        "three\nlines",
        "four\nlines",
    ]


def test_ctrl_c_clears_the_line_and_the_chat_goes_on(edit, capsys):
    assert edit("wrong\x03right\r\x04") == ["right"]
    assert "Ctrl-D" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed, completions",
    [
        ("/und", ["undo"]),
        ("/se", ["set "]),
        ("/set repet", ["repetition_penalty"]),
        ("/show o", ["on", "off"]),
    ],
)
def test_commands_complete(typed, completions):
    document = pytest.importorskip("prompt_toolkit.document").Document(typed)
    found = command_completer().get_completions(document, None)
    assert [completion.text.removeprefix("/") for completion in found] == completions


def test_messages_are_kept_for_the_next_chat_and_for_nobody_else(edit, tmp_path):
    file = tmp_path / "state" / "history"
    edit("one\x1b\rmore\rtwo\r\x04", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert edit("\x1b[A\x1b[A\r\x04", file) == ["one\nmore"]


def test_a_history_that_cannot_be_written_is_refused(edit, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(package.InputError, match="--no-history"):
        edit("\x04", tmp_path / "file" / "history")


def test_sigterm_ends_a_chat_at_its_prompt():
    create_pipe_input = pytest.importorskip("prompt_toolkit.input").create_pipe_input
    output = pytest.importorskip("prompt_toolkit.output").DummyOutput()
    with create_pipe_input() as pipe:
        reader = TerminalReader(None, lambda: "status", input=pipe, output=output)
        signals = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM])
        leaves = threading.Timer(20, pipe.send_text, ["\x04"])  # where the signal is not heeded
        with ending() as found:
            signals.start()
            leaves.start()
            with pytest.raises(Terminated):
                reader.read()
        leaves.cancel()
    assert found.status(130) == 143
