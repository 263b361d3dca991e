"""Short ways to call the command line."""

import json

PROMPT = "the cat sat on the mat and the cat"


def generated(outrider, folder, *arguments):
    """The JSON of a short generation."""
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 24, "--json", *arguments)
    assert status == 0, err
    return json.loads(out)


def refusal(outrider, *arguments):
    status, _, err = outrider("generate", *arguments)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    return err


def other_last_token(tokens):
    """The same tokens but for the last one."""
    return [*tokens[:-1], (tokens[-1] + 1) % 15]
