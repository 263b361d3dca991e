"""Known mistakes: what each is called, what it does, and the remedy, in words for who made it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    """A known mistake.

    Attributes:
        name: a few words.
        what: what the file does.
        remedy: what it should do.
    """

    name: str
    what: str
    remedy: str


MISTAKES = {
    # Verification
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
    "sure_acceptance": Mistake(
        "sure tokens are rejected",
        "Where p and q agree that a token is certain, it is not accepted.",
        "Accept with chance min(1, p/q), which is 1 there.",
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
    # Noise
    "constant": Mistake(
        "the same noise in every call",
        "Every call gives the same tokens: the generator starts from the same seed each time.",
        "Make the generator once, outside of the function, and draw on from it.",
    ),
    "draft_noise": Mistake(
        "equal noise for draft and verification",
        "The random number that drew a draft token is used again when it is judged.",
        "Draw new random numbers for acceptance and correction.",
    ),
    "shared_noise": Mistake(
        "rows share their noise",
        "Two equal prompts in one batch get texts that depend on one another.",
        "Draw random numbers for each row by itself.",
    ),
    # Drafting
    "greedy_draft": Mistake(
        "draft tokens without chance",
        "The draft is always the draft model's most probable token. min(1, p/q) is made for tokens drawn from q.",
        "Draw each draft token from softmax of the draft model's logits.",
    ),
    "target_drafts": Mistake(
        "the target drafts", "Draft tokens come from target_model.", "Call draft_model in draft_generation."
    ),
    "stuck_context": Mistake(
        "drafted tokens are not read",
        "Every draft token is drawn as if it followed the prompt.",
        "Append each draft token to the text before you ask for the next.",
    ),
    "forgotten_prompt": Mistake(
        "the prompt is forgotten",
        "The draft model is given the newest token alone, without a cache of the text before it.",
        "Give it the whole text each time.",
    ),
    "first_row": Mistake(
        "logits of the wrong position",
        "The draft is drawn from the first row of logits.",
        "Take the last row: logits[0, -1].",
    ),
    "draft_temperature": Mistake(
        "draft tokens at another temperature",
        "Drafts are drawn at another temperature than that of the q that judges them.",
        "Use one temperature for drafting, p and q, here 1.",
    ),
    "discarded": Mistake(
        "discarded draft tokens",
        "A draft token is drawn, looked at and dropped because of what it is. The others then come too often.",
        "Keep every token that was drawn. To draft less, decide before drawing, or stop after the token.",
    ),
    "draft_prompt": Mistake(
        "the draft includes the prompt",
        "draft_generation returns the prompt before the draft tokens.",
        "Return the new tokens alone.",
    ),
    "draft_count": Mistake(
        "another number of draft tokens",
        "draft_generation returns more or fewer tokens than num_tokens.",
        "Return num_tokens tokens.",
    ),
    # Whole texts
    "draft_unverified": Mistake(
        "the text is the draft model's",
        "Texts have the distribution of the draft model.",
        "Verify each draft with the target.",
    ),
    "correction_lost": Mistake(
        "the correction is lost",
        "Only accepted draft tokens reach the text.",
        "Append the correction as well, and the bonus.",
    ),
    "accepted_twice": Mistake(
        "accepted tokens come twice",
        "The accepted draft tokens are appended, and once more as the beginning of corrected_tokens.",
        "Append them once.",
    ),
    "too_long": Mistake("more than max_tokens", "Texts are longer than max_tokens.", "Cut the last round's tokens."),
    "too_short": Mistake(
        "fewer than max_tokens", "Texts end before max_tokens.", "Go on until there are max_tokens new tokens."
    ),
    "no_end": Mistake(
        "no end at EOS",
        "The text goes on after the stop token.",
        "Look for it among all tokens of a round, accepted ones too, and cut the text behind it.",
    ),
    "ends_early": Mistake(
        "ends at the EOS of another",
        "A text ends before max_tokens without a stop token of its own.",
        "Each row ends by itself: give each its own flag.",
    ),
    "outside": Mistake(
        "tokens outside the vocabulary",
        "A returned token is no index of the logits.",
        "Check the draw: a cumulative sum that ends below 1 gives the index behind the last token.",
    ),
    "rows_leak": Mistake(
        "batch rows that leak into one another",
        "A prompt gets another distribution beside other prompts than alone.",
        "Give each row its own text, length and number of accepted tokens; take no logits of padding.",
    ),
    "row_count": Mistake(
        "another number of texts", "The number of texts is not that of the prompts.", "Return one list for each prompt."
    ),
    # Lookahead
    "never_falls": Mistake(
        "lookahead that never falls",
        "Nothing that is rejected makes the lookahead smaller.",
        "Lower it where the average acceptance rate is low.",
    ),
    "never_rises": Mistake(
        "lookahead that never rises",
        "Nothing that is accepted makes the lookahead larger.",
        "Raise it where the average acceptance rate is high.",
    ),
    "wrong_way": Mistake(
        "lookahead the wrong way round",
        "It rises when draft tokens are rejected, and falls when they are accepted.",
        "Raise it at a high acceptance rate, lower it at a low one.",
    ),
    "bounds": Mistake(
        "lookahead out of bounds",
        "The lookahead leaves every sensible range.",
        "Keep it between 1 and a largest value, with min and max.",
    ),
    "not_rolling": Mistake(
        "average over all rounds",
        "Old rounds never stop counting, so the lookahead hardly moves once there are many.",
        "Average the last rounds only (a window, or an exponential average).",
    ),
    "no_average": Mistake(
        "no rolling average",
        "One round alone moves the lookahead, whatever came before.",
        "Average the acceptance rate over several rounds.",
    ),
    "no_whole_number": Mistake(
        "lookahead that is no whole number", "No half token can be drafted.", "Round it: int(round(...))."
    ),
    "initial": Mistake(
        "initial_lookahead is ignored", "It does not start where it is told to.", "Start at initial_lookahead."
    ),
    "no_lookahead": Mistake(
        "no lookahead to be found",
        "update_lookahead returns none, and no attribute holds one.",
        "Keep it in self.lookahead, or return it.",
    ),
    # Anything
    "not_written": Mistake("not written yet", "It returns None.", "Write it."),
    "wrong_kind": Mistake("of the wrong kind", "The name stands for something else.", "Define it as the chapter does."),
    "floods": Mistake("it prints without end", "It wrote more than 16 MB.", "Print less."),
    "no_max": Mistake(
        "residual without max",
        "p - q is used where it is negative: those are no chances.",
        "Take max(p - q, 0), and divide it by its sum.",
    ),
    "not_a_number": Mistake(
        "a division by zero",
        "Some number is NaN or infinite.",
        "Look at the lines above: which divisor may be 0 there?",
    ),
    "product": Mistake(
        "ratios multiplied over positions",
        "The chance of a token is multiplied with that of the tokens before it, which were accepted already.",
        "Judge each position by its own min(1, p/q).",
    ),
    "nonsense": Mistake("no answer", "Its process told nothing that can be understood.", "Do not write to open files."),
    "fails": Mistake("it fails", "It raises an error.", "The lines above say where."),
    "hangs": Mistake("it does not come to an end", "It ran until its time was over.", "Look for a loop without end."),
    "dies": Mistake("it ends the program", "The process ended in the middle.", "Return, and leave the program alone."),
    "shape": Mistake(
        "a result of another form", "The result is not what the chapter asks for.", "The lines above say where."
    ),
    "unknown": Mistake(
        "another distribution",
        "The counts fit neither the right algorithm nor a known mistake.",
        "Compare the numbers above with what your code should do there.",
    ),
}
