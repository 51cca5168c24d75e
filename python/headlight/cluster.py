"""Shards of a command, for whatever runs Python functions on other machines: submitit, Ray, a pool of processes.

``shards`` makes functions without arguments, each of which runs one shard into a folder that all share; ``merge`` makes the
bytes of one run out of it. A shard that is run again, wherever that is, goes on where it stopped, so that a scheduler may
start it as often as it likes; a shard whose caller dies stops within a second, with its part closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import _words
from ._cli import LEASH
from .errors import HeadlightError, Interrupted, PlanError

__all__ = ["Shard", "merge", "shards"]

# seconds that a shard's last process is waited for, which closes its part in one
_PATIENCE = 30.0

# seconds for which a batch system that has told every process of a job to end may wait before it kills them
_DOOMED = 300.0

# the exit code of a run that was stopped with its parts kept
_STOPPED = 75


class Shard:
    """One shard of a command, as a function without arguments that can be pickled.

    Calling it runs ``headlight … --out FOLDER --shard I/N`` in a process of its own, in the folder in which this was made, and
    gives back the folder's name. What the command says goes to standard error; its error is the exception's sentence.

    Args:
        command: A command that patches, with its flags, such as ``["sweep", "--data", "pairs.jsonl"]``.
        out: The run's folder, which all shards share, or one of this shard's own.
        shard: Which, from 0.
        count: Of how many.

    Examples:
        >>> Shard(["sweep", "--data", "pairs.jsonl"], "runs", 0, 4)
        Shard('headlight sweep --data pairs.jsonl --out runs/ --shard 0/4')
    """

    def __init__(self, command: Sequence[str], out: str | os.PathLike[str], shard: int, count: int) -> None:
        self.command = [str(word) for word in command]
        for word in self.command:
            flag = word.partition("=")[0]
            if flag in ("--out", "--shard"):
                raise PlanError(f"{flag} is given by the shard: leave it out of the command")
        if not 0 <= shard < count:
            raise PlanError(
                f"--shard {shard}/{count}: shards are counted from 0, so of {count} the last is {count - 1}"
            )
        # a folder is told by its slash
        self.out = os.path.join(_words.path(out), "")
        self.shard, self.count = shard, count
        self._at = os.getcwd()
        self._child: subprocess.Popen[str] | None = None
        self._stopping = False

    def _line(self) -> list[str]:
        return [*self.command, "--out", self.out, "--shard", f"{self.shard}/{self.count}"]

    def __call__(self) -> str:
        """Runs it, or what is missing of it.

        Raises:
            Interrupted: It was stopped, with what it had kept.
            HeadlightError: It failed, in the command's own sentence.
        """
        _wait_for(os.path.join(self._at, self.out, ".lock" if self.count == 1 else f".lock-{self.shard:05}"))
        self._stopping = False
        with _started(self._line(), self._at) as child:
            self._child = child
            try:
                _finish(child)
            except Interrupted:
                # Slurm signals every process of a job that it preempts or requeues, and submitit's goes on until it is killed: an
                # answer now would be that of a job that is about to begin again
                if "SUBMITIT_EXECUTOR" in os.environ and not self._stopping:
                    time.sleep(_DOOMED)
                raise
            finally:
                self._child = None
        return self.out

    def stop(self) -> None:
        """Has it close its part and end, from a signal handler or another thread."""
        child = self._child
        if child is not None:
            self._stopping = True
            _let_go(child)

    def checkpoint(self) -> Any:
        """Stops it and hands it back to submitit, which calls this before the time is up or on preemption, and requeues."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        return DelayedSubmission(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None, "_stopping": False}

    def __repr__(self) -> str:
        return f"Shard({' '.join(['headlight', *self._line()])!r})"


def shards(command: Sequence[str], out: str | os.PathLike[str], count: int) -> list[Shard]:
    """All shards of a command, in order.

    Args:
        command: A command that patches, with its flags.
        out: The folder that they share.
        count: How many, which balances planned operations.

    Examples:
        >>> len(shards(["edges", "--data", "pairs.jsonl"], "runs", 8))
        8
    """
    if count < 1:
        raise PlanError(f"{count} shards: there is at least one")
    return [Shard(command, out, shard, count) for shard in range(count)]


def merge(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> list[Path]:
    """Merges shards into the bytes of one run, averages included: ``headlight merge``. Which files were written.

    Args:
        folders: The folder of all shards, or several, in any order.
        out: The table, .parquet, .csv or .jsonl by its ending.

    Raises:
        HeadlightError: A part is missing, there twice, damaged or of another run; nothing is written.
    """
    given = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    with _started(["merge", *map(_words.path, given), "--out", _words.path(out)], os.getcwd()) as child:
        _finish(child)
    path = Path(out)
    beside = path.with_suffix(f".summary{path.suffix}")
    return [path, beside] if beside.exists() else [path]


@contextmanager
def _started(line: Sequence[str], at: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the command, on a leash: it ends, with its part closed, when this one does."""
    # with the package that this is, wherever it was found
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-m", "headlight", *line],
        cwd=at,
        env={**os.environ, LEASH: "1", "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    with child:
        try:
            yield child
        finally:
            _let_go(child)
            _pass_on(child)


def _finish(child: subprocess.Popen[str]) -> None:
    """Waits for its end, and passes on what it says."""
    last = _pass_on(child)
    code = child.wait()
    if code == _STOPPED:
        raise Interrupted(last or "stopped with its parts kept: call it again to go on")
    if code != 0:
        raise HeadlightError(last or f"the command ended with {code}")


def _pass_on(child: subprocess.Popen[str]) -> str:
    """Passes on what it says; its last sentence."""
    assert child.stderr is not None
    last = ""
    for line in child.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        if line.startswith("headlight: "):
            last = line.removeprefix("headlight: ").strip()
    return last


def _let_go(child: subprocess.Popen[str]) -> None:
    """Ends it if it runs. A signal handler may be in the middle of waiting for it, and so cannot wait itself."""
    assert child.stdin is not None
    try:
        child.stdin.close()
    except OSError:
        pass
    patient = time.monotonic() + _PATIENCE
    while child.poll() is None and time.monotonic() < patient:
        time.sleep(0.02)


def _wait_for(lock: str) -> None:
    """Waits for a process whose caller died, which has the folder for as long as it takes to close its part."""
    try:
        import fcntl
    except ImportError:
        return
    patient = time.monotonic() + _PATIENCE
    while time.monotonic() < patient:
        try:
            with open(lock, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return
        else:
            return
