"""The command line, as the package installs it."""

from __future__ import annotations

import os
import signal
import sys
import threading

from . import _headlight

__all__ = ["LEASH", "main"]

# whose child this is holds its standard input open for as long as it wants it to run
LEASH = "HEADLIGHT_LEASH"


def main() -> None:
    """Runs ``headlight`` with this process's arguments."""
    if os.environ.pop(LEASH, None):
        if hasattr(signal, "SIGUSR2"):
            # submitit's, which Slurm sends to every process of a job
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        threading.Thread(target=_heel, daemon=True).start()
    # what Python has buffered comes first
    sys.stdout.flush()
    sys.exit(_headlight.command(["headlight", *sys.argv[1:]]))


def _heel() -> None:
    """Ends this process as a batch system would, when its caller is gone."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
