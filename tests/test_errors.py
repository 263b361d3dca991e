"""Messages quote what others wrote, and stay one line that cannot steer a terminal."""

import copy
import pickle

import numpy as np
import pytest

import outrider
from outrider.errors import shown

HOSTILE = "\x1b]0;title\x07 two\nlines\u2028three\x9b2J"


@pytest.mark.parametrize("kind", [outrider.SettingError, outrider.InputError, outrider.ModelError])
def test_a_message_is_one_line_without_control_characters(kind):
    error = kind(f"the model {HOSTILE} cannot be opened")
    assert str(error) == "the model ␛]0;title␇ two lines three␛[2J cannot be opened"
    assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)


def test_a_message_is_not_endless():
    assert len(str(outrider.ModelError("x" * 10**6))) == 1000


class Unshowable:
    def __repr__(self):
        raise RuntimeError


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("a\nb", r"'a\nb'"),
        (np.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..."),
        (Unshowable(), "a Unshowable that cannot be shown"),
        (10**5000, "a int that cannot be shown"),
        (nested(10**5), "a list that cannot be shown"),
    ],
    ids=["lines", "array", "long", "unshowable", "huge", "deep"],
)
def test_a_value_is_quoted_in_one_line(value, quoted):
    assert shown(value) == quoted
