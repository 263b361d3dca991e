"""Mistakes in drafts, in whole texts, in noise, and in the lookahead."""

from __future__ import annotations

from outrider.check.learner.mistakes.base import Mistake

DECODING = {
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
}
