"""Ctrl-C that waits until a training step is over."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether somebody wants to stop."""

    def __init__(self) -> None:
        self.arrived = False


@contextmanager
def noted() -> Iterator[Interrupts]:
    """Inside, a first Ctrl-C is noted, for whoever looks to raise KeyboardInterrupt; a second one
    has its own way. One that nobody looked at is Ctrl-C again at the end.

    Does nothing outside of the main thread, to which signals come, or where Ctrl-C is ignored, as
    a shell has it for what it runs in the background.
    """
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before in (signal.SIG_IGN, None):
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.arrived = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    except BaseException:
        signal.signal(signal.SIGINT, before)
        raise
    signal.signal(signal.SIGINT, before)
    if interrupts.arrived:
        signal.raise_signal(signal.SIGINT)
