"""How often the host reads where it judges for a device that has no judge of its own: MLX, here on a CPU."""

from unittest.mock import patch

import numpy as np
import pytest

from outrider import Draft, SamplingParams
from outrider.engine import judgement
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import RULES

mx = pytest.importorskip("mlx.core")
torch = pytest.importorskip("torch")

from outrider.maths.arrays import mlx  # noqa: E402
from runtimes.cuda.verdict_cases import Row, chain_of, judge_on_host, random_rows, tree_of  # noqa: E402

VOCAB = 7
ASKING = ("gather", "sums", "token_at", "race", "race_order", "largest", "top")


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("kind", ["chosen", "drawn"])
def test_all_probabilities_of_a_round_are_read_at_once(rule, kind):
    random = np.random.default_rng(3)
    drafts = [chain_of(random, count, kind) for count in (3, 0, 4)]
    drafts += [] if rule == "block" else [tree_of(random, 5, kind)]
    rows = random_rows(random, RULES[rule], [SamplingParams(temperature=0.8)] * len(drafts))
    logits = random.normal(size=(sum(1 + len(draft) for draft in drafts), VOCAB)).astype(np.float32)
    expected = judge_on_host(RULES[rule], drafts, torch.from_numpy(logits), rows)
    read = []
    to_numpy = mlx.to_numpy

    def counted(x):
        read.append(x.shape)
        return to_numpy(x)

    def refused(*_):
        raise AssertionError("the host asks the device once more")

    with patch.multiple(mlx, to_numpy=counted, **dict.fromkeys(ASKING, refused)):
        found = judgement.begin(drafts, mx.array(logits), rows, [RULES[rule]] * len(drafts))()
    assert found == expected
    assert read == [(len(logits),), logits.shape]  # whether one is NaN, and all


def test_very_many_probabilities_stay_where_they_are():
    rows = [Row(RoundNoise(1, 4), SamplingParams())]
    logits = np.zeros((3, VOCAB), dtype=np.float32)
    with patch.object(judgement, "MOST_READ", 8), patch.object(judgement, "float32_on_host") as brought:
        judgement.begin([Draft((1, 2))], mx.array(logits), rows, [RULES["token"]])()
    brought.assert_not_called()
