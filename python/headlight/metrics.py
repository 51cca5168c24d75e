"""Metrics that are functions of logits, for notebooks, and that headlight knows by their names.

``model.sweep(metrics=[LogitDiff, KL])`` names columns. Of a logit difference one object serves both: called with logits it computes what a TransformerLens notebook does, and
``headlight.patching`` sees that the engine can compute the same in its readout, so that no logits are handed out.
"""

from __future__ import annotations

from typing import Any

from ._arrays import as_list, is_torch, to_numpy

__all__ = [
    "KL",
    "Entropy",
    "LogProb",
    "Logit",
    "LogitDiff",
    "Loss",
    "Prob",
    "ProbDiff",
    "Rank",
    "Top1",
    "logit_diff",
    "recovery",
]

Prob = "prob"
LogProb = "logprob"
Logit = "logit"
Rank = "rank"
ProbDiff = "prob_diff"
KL = "kl"
Top1 = "top1"
Entropy = "entropy"
Loss = "loss"


def recovery(metric: Any) -> str:
    """A metric as a share of what the source is away from the base: 0 where a patch does nothing, 1 where it brings all
    of the source's.

    Examples:
        >>> recovery(LogitDiff), recovery(KL)
        ('recovery_logit_diff', 'recovery_kl')
    """
    return f"recovery_{getattr(metric, 'metric', metric)}"


class LogitDiff:
    """The mean over prompts of the right answer's logit less the wrong one's (the mean of several), after the last
    position.

    Args:
        answer_tokens: ``[batch, 2]``, each prompt's right and wrong answer; rows may have several wrong ones.
        clean: What the clean prompts give ...
        corrupted: ... and the corrupted ones: with both, 1 is clean and 0 corrupted.

    Examples:
        >>> import numpy as np
        >>> LogitDiff([[0, 1]])(np.array([[[3.0, 1.0]]]))
        np.float64(2.0)
        >>> import headlight as hl
        >>> asked = {"targets": " Rome", "wrong_targets": " Madrid"}
        >>> r = hl.Model("demo").sweep(metrics=[LogitDiff, recovery(LogitDiff)], **asked)
        >>> r.columns[-2:]
        ['logit_diff', 'recovery_logit_diff']
    """

    # what a question takes it for: metrics=[LogitDiff, KL]
    metric = "logit_diff"

    def __init__(self, answer_tokens: Any, clean: float | None = None, corrupted: float | None = None) -> None:
        found = as_list(answer_tokens)
        if not isinstance(found, list) or not all(isinstance(row, list) and len(row) >= 2 for row in found):
            raise ValueError("answer_tokens are [batch, 2]: each prompt's right and wrong answer")
        for token in (token for row in found for token in row):
            if isinstance(token, bool) or not isinstance(token, int):
                raise TypeError(f"answer_tokens are token ids, which are whole numbers, and not {token!r}")
        self.answer_tokens: list[list[int]] = found
        if (clean is None) != (corrupted is None):
            raise ValueError("clean and corrupted go together: give both or neither")
        self.clean, self.corrupted = clean, corrupted

    def __call__(self, logits: Any) -> Any:
        """Of logits ``[batch, position, vocabulary]``, or ``[batch, vocabulary]``: a number (of torch's, where
        torch goes in).

        Examples:
            >>> import numpy as np
            >>> LogitDiff([[0, 1]])(np.array([[2.0, 0.5]]))
            np.float64(1.5)
        """
        found = logits if is_torch(logits) else to_numpy(logits)
        last = found[:, -1] if found.ndim == 3 else found
        rows = zip(last, self.answer_tokens, strict=True)
        each = [row[right] - row[wrong].mean() for row, (right, *wrong) in rows]
        return self.scaled(sum(each) / len(each))

    def scaled(self, value: Any) -> Any:
        """A logit difference between corrupted, 0, and clean, 1, where these are known.

        Examples:
            >>> LogitDiff([[0, 1]], clean=3.0, corrupted=1.0).scaled(2.0)
            0.5
        """
        if self.clean is None or self.corrupted is None:
            return value
        return (value - self.corrupted) / (self.clean - self.corrupted)


def logit_diff(answer_tokens: Any, clean: float | None = None, corrupted: float | None = None) -> LogitDiff:
    """``LogitDiff``, as a function makes it.

    Examples:
        >>> logit_diff([[0, 1]]).answer_tokens
        [[0, 1]]
    """
    return LogitDiff(answer_tokens, clean, corrupted)
