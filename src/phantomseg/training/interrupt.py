"""Ctrl-C, and SIGTERM of a batch system, that wait for the step to end, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop."""

    requested = False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Within the block the first signal to stop sets `requested`; a second one acts at once, as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may listen
        return
    usual = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(number, usual[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            signal.signal(number, usual[number])
