"""A bar on anything that takes more than two seconds, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Progress", "ProgressWish"]

_PATIENCE = 2.0


@dataclass(frozen=True)
class Progress:
    """How far a question is.

    Attributes:
        done: Runs that were read out.
        total: Of how many; 0 until that is known.
        seconds: Since it was asked.
    """

    done: int
    total: int
    seconds: float

    @property
    def eta(self) -> float:
        """Seconds that it will take yet, if it goes on like this."""
        return self.seconds * (self.total - self.done) / self.done if self.done else float("nan")


# None: a bar where somebody watches; a truth value: always or never; a function that is told
ProgressWish: TypeAlias = bool | Callable[[Progress], None] | None


def _is_watched() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if type(shell).__name__ == "ZMQInteractiveShell":
        return True
    return sys.stderr is not None and sys.stderr.isatty()


class Bar:
    """tqdm's bar where tqdm is there, else a line of text."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._drawn = False

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if seconds < _PATIENCE or total == 0:
            return
        if self._bar is None and not self._drawn:
            try:
                from tqdm.auto import tqdm

                self._bar = tqdm(total=total, unit="run")
            except ImportError:
                pass
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        else:
            self._drawn = True
            rate = done / seconds
            print(f"\r{done}/{total} runs, {rate:.0f}/s", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears it."""
        if self._bar is not None:
            self._bar.close()
        elif self._drawn:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def callback(wish: ProgressWish) -> tuple[Callable[[int, int, float], None] | None, Callable[[], None]]:
    """What the engine calls, and what is called when it is done."""
    if wish is not None and not callable(wish) and not isinstance(wish, bool):
        raise TypeError(f"progress is None, True, False or a function, not {wish!r}")
    if callable(wish):
        tell = wish
        return (lambda done, total, seconds: tell(Progress(done, total, seconds))), (lambda: None)
    if wish or (wish is None and _is_watched()):
        bar = Bar()
        return bar, bar.close
    return None, (lambda: None)
