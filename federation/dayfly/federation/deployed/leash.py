"""Starts a program that ends when the process that started it does, even by `kill -9`: `python leash.py PARENT PROGRAM ...`.

Linux (prctl(2), PR_SET_PDEATHSIG); elsewhere the program is started all the same, and ends with a regular stop alone.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != int(parent):  # it was gone before
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - what it was told to start, without a shell


if __name__ == "__main__":
    main()
