"""What is known of a model, and what it says of a prompt."""

from __future__ import annotations

import html
from dataclasses import dataclass

__all__ = ["Config", "LensConfig", "Plan", "PromptTest"]


@dataclass(frozen=True)
class Config:
    """Sizes and switches of a GPT-2.

    Examples:
        >>> model.config.layers, model.config.width
        (5, 128)
    """

    layers: int
    heads: int
    width: int
    head_width: int
    mlp_width: int
    vocabulary: int
    context: int
    epsilon: float
    activation: str
    tied: bool
    bos: int | None


@dataclass(frozen=True)
class LensConfig:
    """The same under TransformerLens's names, so that helper code keeps working.

    Examples:
        >>> model.cfg.n_layers, model.cfg.d_model
        (5, 128)
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    eps: float
    act_fn: str
    model_name: str
    device: str


@dataclass(frozen=True)
class Plan:
    """What a sweep would cost at most; nothing was computed.

    Attributes:
        runs: Patched runs.
        live: Those that are computed: of the others, prompts say already that they change nothing.
        operations: Floating-point operations, two each multiply-add.

    Examples:
        >>> model.plan(components="mlp_output").runs
        25
    """

    runs: int
    live: int
    operations: int


@dataclass(frozen=True)
class PromptTest:
    """How a model takes an answer to a prompt, token by token, as TransformerLens's ``test_prompt`` prints it.

    Attributes:
        prompt: The prompt.
        tokens: The prompt's tokens.
        answer: Each of the answer's tokens: text, rank among all tokens (0 is the most probable), probability, and
            the most probable tokens at its place with their probabilities.

    Examples:
        >>> text, rank, probability, top = model.test_prompt(BASE, " Madrid").answer[0]
        >>> text, rank, round(probability, 2)
        (' Madrid', 0, 0.98)
    """

    prompt: str
    tokens: list[str]
    answer: list[tuple[str, int, float, list[tuple[str, float]]]]

    def _repr_html_(self) -> str:
        tokens = " ".join(f"<code>{_shown(token)}</code>" for token in self.tokens)
        head = "".join(f"<th>{name}</th>" for name in ("answer", "rank", "probability", "most probable instead"))
        body = ""
        for text, rank, probability, top in self.answer:
            others = ", ".join(f"<code>{_shown(t)}</code> {p:.4g}" for t, p in top)
            body += f"<tr><td><code>{_shown(text)}</code></td><td>{rank}</td><td>{probability:.4g}</td><td>{others}</td></tr>"
        return f"<div>{tokens}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        lines = [f"prompt tokens: {self.tokens}", f"answer tokens: {[text for text, *_ in self.answer]}"]
        for text, rank, probability, top in self.answer:
            lines.append(f"{text!r}: rank {rank}, probability {probability:.4g}")
            lines += [f"  top {at}: {t!r} {p:.4g}" for at, (t, p) in enumerate(top)]
        return "\n".join(lines)


def _shown(token: str) -> str:
    """A token in HTML, its spaces as in tables."""
    return html.escape(token.replace(" ", "_").replace("\n", "\\n"))
