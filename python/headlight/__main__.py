"""``python -m headlight``: the command line."""

from ._cli import main

main()
