"""Becomes another program that ends when its parent does, even if the parent was killed.

`python -m hashroute.demo.tether COMMAND…` is for programs that, unlike the demo's own, do not end
with their standard input.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From linux/prctl.h; it outlives exec.
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent and becomes the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # becoming the command is the point


if __name__ == "__main__":
    main()
