"""The stack on which this thread handles signals, which OpenVINO swaps for one too small for Python's handlers.

Its CPU plugin makes that stack a few kilobytes long (openvinotoolkit/openvino pull request 11894), so that Ctrl-C,
which Python handles on it, ends the process by a segmentation fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

DISABLED = 2  # SS_DISABLE: signals are handled on the ordinary stack


class SignalStack(ctypes.Structure):
    """`stack_t` of the C library."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """The stack of this thread's signals (Linux)."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """A block after which this thread handles signals on the stack that it had before.

    >>> with signal_stack_kept():
    ...     pass
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        c = ctypes.CDLL(None)
        if c.sigaltstack(ctypes.byref(before), None):  # too small for what the processor has been switched to
            c.sigaltstack(ctypes.byref(SignalStack(None, DISABLED, 0)), None)
