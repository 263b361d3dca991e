"""Mistakes in what verify_speculation returns."""

from __future__ import annotations

from outrider.check.learner.mistakes.base import Mistake

VERIFICATION = {
    "no_bonus": Mistake(
        "no bonus token",
        "When every draft token is accepted, nothing follows them. The text stays right, but the target's last row of "
        "logits is wasted.",
        "Draw one more token from softmax(target_logits[k]) and append it.",
    ),
    "not_normalised": Mistake(
        "residual not normalised",
        "The correction is drawn from max(p - q, 0), whose sum is below 1.",
        "Divide it by its sum before you draw.",
    ),
    "softmax_residual": Mistake(
        "softmax over the residual",
        "max(p - q, 0) goes through a softmax, or is given as logits. Tokens with a residual of 0 come as well.",
        "Divide the residual by its sum; a function that wants logits gets its logarithm.",
    ),
    "softmax_target": Mistake(
        "probabilities taken for logits",
        "Tokens of the target are drawn from softmax(p): p goes through the softmax twice.",
        "Draw from p; a function that wants logits gets the logits.",
    ),
    "softmax_draft": Mistake(
        "probabilities taken for logits",
        "Draft tokens are drawn from softmax(q): q goes through the softmax twice.",
        "Draw from q; a function that wants logits gets the logits.",
    ),
    "q_temperature": Mistake(
        "q of another temperature",
        "The q that judges is not the q from which the draft tokens were drawn.",
        "Compute q exactly as for drafting: softmax(draft_logits), at the same temperature.",
    ),
    "p_temperature": Mistake(
        "p of another temperature",
        "The p that judges is not softmax(target_logits).",
        "Compute p at the temperature at which the text is wanted, here 1.",
    ),
    "both_temperatures": Mistake(
        "p and q of another temperature",
        "Both distributions are at another temperature than that at which the draft tokens were drawn.",
        "Use one temperature for drafting, p and q, here 1.",
    ),
    "swapped": Mistake(
        "p and q swapped",
        "Target and draft model have changed places.",
        "Accept with chance min(1, p/q); correct from max(p - q, 0); p is the target's.",
    ),
    "no_min": Mistake(
        "acceptance without min",
        "The ratio p/q is used as a chance without min(1, ...): it may be above 1.",
        "Take min(1, p/q) at each position, before it meets anything else.",
    ),
    "reversed": Mistake(
        "acceptance the wrong way round",
        "Tokens are accepted with chance 1 - min(1, p/q).",
        "Accept where a uniform draw is below p/q, reject where it is above.",
    ),
    "always": Mistake(
        "everything is accepted",
        "Draft tokens are never rejected.",
        "Accept with chance min(1, p/q).",
    ),
    "never": Mistake("nothing is accepted", "Draft tokens are always rejected.", "Accept with chance min(1, p/q)."),
    "no_chance": Mistake(
        "acceptance without chance",
        "Whether p is at least q decides alone.",
        "Draw a uniform number u for each position and accept where u < p/q.",
    ),
    "greedy": Mistake(
        "greedy verification",
        "Only the target's most probable token is accepted. That is right at temperature 0 alone.",
        "Accept with chance min(1, p/q), whatever token is the most probable one.",
    ),
    "target_alone": Mistake(
        "acceptance without q",
        "Tokens are accepted with chance p: the division by q is missing.",
        "Accept with chance min(1, p/q).",
    ),
    "draft_alone": Mistake(
        "acceptance without p", "What the target says plays no part.", "Accept with chance min(1, p/q)."
    ),
    "half": Mistake("acceptance by a fixed chance", "p and q play no part.", "Accept with chance min(1, p/q)."),
    "share": Mistake("acceptance by p / (p + q)", "That is another rule.", "Accept with chance min(1, p/q)."),
    "difference": Mistake("acceptance by a difference", "That is another rule.", "Accept with chance min(1, p/q)."),
    "raw_logits": Mistake(
        "logits taken for probabilities",
        "The ratio is that of the logits: the softmax is missing.",
        "Take the softmax of both rows first.",
    ),
    "one_uniform": Mistake(
        "one uniform draw for all positions",
        "A token that follows a narrowly accepted one is rejected too rarely or too often.",
        "Draw a new uniform number at each position.",
    ),
    "row_shift": Mistake(
        "rows off by one",
        "A draft token is judged by the target's row before or after its own.",
        "Row i predicts draft token i: in logits over the whole text, that is the row of the token before it.",
    ),
    "draft_row_shift": Mistake(
        "rows of the draft model off by one",
        "A draft token is judged by the draft model's row before or after its own.",
        "Row i predicts draft token i.",
    ),
    "from_target": Mistake(
        "correction drawn from the target",
        "After a rejection the token comes from p. Tokens that the draft likes come too often: they had their chance.",
        "Draw it from max(p - q, 0), divided by its sum.",
    ),
    "from_draft": Mistake(
        "correction taken from the draft",
        "After a rejection the token comes from q, the draft model's own distribution.",
        "Draw it from max(p - q, 0), divided by its sum.",
    ),
    "rejected_kept": Mistake(
        "correction taken from the draft",
        "The rejected draft token itself is returned as the correction.",
        "Draw the correction from max(p - q, 0), divided by its sum.",
    ),
    "next_kept": Mistake(
        "correction taken from the draft",
        "After a rejection the next draft token is returned.",
        "Draw the correction from max(p - q, 0), divided by its sum.",
    ),
    "absolute": Mistake(
        "residual with absolute values",
        "The correction is drawn from |p - q|.",
        "Where q is above p the residual is 0: max(p - q, 0), divided by its sum.",
    ),
    "banned": Mistake(
        "only the rejected token is banned",
        "The correction is drawn from p without the rejected token.",
        "Draw it from max(p - q, 0), divided by its sum.",
    ),
    "greedy_correction": Mistake(
        "correction without chance",
        "The correction is always the same token.",
        "Draw it from max(p - q, 0), divided by its sum.",
    ),
    "equal_noise": Mistake(
        "equal noise for acceptance and residual",
        "The random number that rejected the draft token also draws the correction, so it is never a small one.",
        "Draw a new random number for the correction.",
    ),
    "uniform": Mistake("drawn evenly", "Tokens come with equal chances.", "Draw from the distribution of the model."),
    "correction_row": Mistake(
        "residual of another row",
        "The correction is drawn from another position's p and q.",
        "Use the rows of the position at which the draft token was rejected.",
    ),
    "bonus_row": Mistake(
        "bonus token from the wrong row",
        "After full acceptance the token is drawn from another row of the target than its last.",
        "Draw it from softmax(target_logits[k]), the row after the last draft token.",
    ),
    "bonus_from_draft": Mistake(
        "bonus token from the draft model",
        "After full acceptance the token is drawn from q.",
        "Draw it from softmax(target_logits[k]).",
    ),
    "bonus_residual": Mistake(
        "bonus token from a residual",
        "After full acceptance nothing was rejected, and the token still comes from max(p - q, 0).",
        "Draw it from softmax(target_logits[k]).",
    ),
    "bonus_greedy": Mistake(
        "bonus token without chance",
        "The bonus token is always the target's most probable one.",
        "Draw it from softmax(target_logits[k]).",
    ),
    "count": Mistake(
        "off by one in the returned count",
        "num_accepted is not the number of accepted draft tokens.",
        "Count draft tokens that stay; the correction and the bonus are none.",
    ),
    "goes_on": Mistake(
        "goes on after the first rejection",
        "Draft tokens after a rejected one are judged and kept, though they followed another text.",
        "Stop at the first rejection: break.",
    ),
    "no_correction": Mistake(
        "no correction",
        "After a rejection no token follows the accepted ones.",
        "Draw a token from max(p - q, 0), divided by its sum, and append it.",
    ),
    "swapped_results": Mistake(
        "results in the wrong order",
        "The tokens come first and the number second.",
        "Return (num_accepted, corrected_tokens).",
    ),
    "malformed": Mistake(
        "tokens that fit no rule",
        "The tokens are neither the accepted draft tokens and one more, nor that one alone.",
        "Return the accepted draft tokens and the token that follows them.",
    ),
    "temperature_0": Mistake(
        "division by zero at temperature 0",
        "Where p and q are one-hot (greedy decoding), something is divided by 0.",
        "Compare u * q with p in place of u with p / q, and divide the residual only where its sum is above 0.",
    ),
    "greedy_wrong": Mistake(
        "wrong at temperature 0",
        "Where p and q are one-hot (greedy decoding), chance should play no part, and the result is wrong.",
        "One-hot p and q need no special case: min(1, p/q) is 0 or 1, the residual is one-hot.",
    ),
    "no_max": Mistake(
        "residual without max",
        "p - q is used where it is negative: those are no chances.",
        "Take max(p - q, 0), and divide it by its sum.",
    ),
    "product": Mistake(
        "ratios multiplied over positions",
        "The chance of a token is multiplied with that of the tokens before it, which were accepted already.",
        "Judge each position by its own min(1, p/q).",
    ),
}
