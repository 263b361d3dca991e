"""The three rules on one target and one drafter, which agree on some tokens only. No weights are needed.

All rules are exact. `block` accepts at least as much as `token`; under `coupled` the text is that of plain decoding.

    python examples/rules.py
"""

import outrider

TARGET = outrider.TableModel.random(32, 1, spread=2.0, seed=0)
DRAFT = outrider.TableModel(TARGET.table + 0.7 * outrider.TableModel.random(32, 1, spread=2.0, seed=1).table)


def decoded(drafter, rule):
    decoder = outrider.SpeculativeDecoder(drafter, TARGET, lookahead=4, rule=rule)
    return decoder.generate([1], max_tokens=600, seed=7)


if __name__ == "__main__":
    for rule in ("token", "block", "coupled"):
        generation = decoded(outrider.ModelDrafter(DRAFT), rule)
        same = generation.tokens == decoded(None, rule).tokens
        print(
            f"{rule:8} {generation.stats.mean_tokens_per_round:.2f} tokens per round, "
            f"{generation.stats.acceptance_rate:.0%} accepted; the text of plain decoding: {same}"
        )
