"""A bar on anything that takes more than two seconds, where somebody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Progress", "ProgressWish"]

_PATIENCE = 2.0

# seconds from one time that somebody is told to the next
_PACE = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a question is.

    Attributes:
        done: Runs that were read out.
        total: Of how many; 0 until that is known.
        seconds: Since it was asked.
        unit: What is counted: ``"runs"``, of ``acdc`` ``"edges"``, of logits ``"prompts"``.

    Examples:
        >>> import headlight as hl
        >>> told = []
        >>> r = hl.Model("demo").sweep(targets=" Rome", progress=told.append)
        >>> all(p.done <= p.total for p in told)
        True
    """

    done: int
    total: int
    seconds: float
    unit: str = "runs"

    @property
    def eta(self) -> float:
        """Seconds that it will take yet, if it goes on like this.

        Examples:
            >>> hl.Progress(done=25, total=100, seconds=2.0).eta
            6.0
        """
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

    def __init__(self, unit: str) -> None:
        self._bar: Any = None
        self._drawn = False
        self._unit = unit

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if seconds < _PATIENCE or total == 0:
            return
        if self._bar is None and not self._drawn:
            try:
                from tqdm.auto import tqdm

                self._bar = tqdm(total=total, unit=self._unit.removesuffix("s"))
            except ImportError:
                pass
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        else:
            self._drawn = True
            rate = done / seconds
            print(f"\r{done}/{total} {self._unit}, {rate:.0f}/s", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears it."""
        if self._bar is not None:
            self._bar.close()
        elif self._drawn:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def callback(
    wish: ProgressWish, unit: str = "runs"
) -> tuple[Callable[[int, int, float], None] | None, Callable[[], None]]:
    """What the engine calls, and what is called when it is done."""
    if wish is not None and not callable(wish) and not isinstance(wish, bool):
        raise TypeError(f"progress is None, True, False or a function, not {wish!r}")
    if callable(wish):
        tell = wish
        return (lambda done, total, seconds: tell(Progress(done, total, seconds, unit))), (lambda: None)
    if wish or (wish is None and _is_watched()):
        bar = Bar(unit)
        return bar, bar.close
    return None, (lambda: None)


@contextmanager
def told(wish: ProgressWish, unit: str = "runs") -> Iterator[Callable[[int, int, float], None] | None]:
    """What the engine calls, for as long as something is asked."""
    tell, close = callback(wish, unit)
    try:
        yield tell
    finally:
        close()


@contextmanager
def counted(wish: ProgressWish, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """What is called with how much is done of what goes on here, of which it tells ten times a second at most, and at
    the end."""
    start = said = time.monotonic()
    with told(wish, unit) as tell:

        def count(done: int) -> None:
            nonlocal said
            now = time.monotonic()
            if tell is not None and (done >= total or now - said >= _PACE):
                said = now
                tell(done, total, now - start)

        yield count
