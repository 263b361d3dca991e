"""Two models for the examples: tables of logits, of which the smaller agrees with the larger in part.

Yours go here: any function from tokens [1, length] to logits [1, length, vocab].

    python examples/course/models.py
"""

import numpy as np

tables = np.random.default_rng(0).normal(0, 2, (10, 10))


def target_model(tokens):
    """Logits that depend on the last token."""
    return tables[np.asarray(tokens)]


def draft_model(tokens):
    """The same, blurred."""
    return 0.6 * tables[np.asarray(tokens)]


if __name__ == "__main__":
    print("target", target_model([[1, 5, 9]]).shape, "draft model", draft_model([[1, 5, 9]]).shape)
