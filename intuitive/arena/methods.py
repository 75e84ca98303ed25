"""The contestants by name, in words that the lesson shows."""

from dataclasses import dataclass

RATIOS = (4, 8, 16)  # budgets: one entry for so many tokens


@dataclass(frozen=True)
class About:
    """What a method is called, and what it does in one sentence."""

    label: str
    does: str
    sees_question: bool = False  # before it decides what the answer may read
    own_size: bool = False  # the same at every budget

    @property
    def asked(self) -> str:
        """Whether the question came before or after the choice of what the answer may read."""
        if self.own_size:
            return "–"  # nothing is chosen
        return "before" if self.sees_question else "after"


METHODS = {
    "dense": About("Dense", "keeps every token and reads every token", own_size=True),
    "window": About("Window + sink", "keeps the newest tokens and the first four"),
    "snapkv_blind": About("SnapKV unasked", "keeps what the text's last tokens attend to"),
    "snapkv": About("SnapKV", "keeps what the question attends to", True),
    "expected": About("Expected Attention", "keeps what later queries are expected to attend to"),
    "kvzip": About("KVzip", "keeps what is attended to while the text is repeated"),
    "lsa": About("LSA", "moves all to the CPU and fetches the chunks its indexer asks for", True),
    "msa": About("MSA", "keeps all and reads the blocks its index picks for each token", True),
    "lclm": About("LCLM", "folds groups of tokens into latents"),
    "lclm_expand": About("LCLM + EXPAND", "folds, then opens the chunk it names", True),
    "nothing": About("Nothing", "has not read the text: how far guessing goes", own_size=True),
}

YOURS = "yours"
_YOURS = About("Yours", "keeps the places that your function returns")


def about(method: str) -> About:
    """A contestant, or the reader's own function."""
    return _YOURS if method == YOURS else METHODS[method]
