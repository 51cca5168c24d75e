"""The command line, as the package installs it."""

from __future__ import annotations

import sys

from . import _headlight

__all__ = ["main"]


def main() -> None:
    """Runs ``headlight`` with this process's arguments."""
    # what Python has buffered comes first
    sys.stdout.flush()
    sys.exit(_headlight.command(["headlight", *sys.argv[1:]]))
