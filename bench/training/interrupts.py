"""Defer Ctrl-C and SIGTERM to the end of a training step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupts:
    """arrived: the signal that asks the process to stop, or None."""

    arrived: int | None = None


@contextmanager
def deferred() -> Iterator[Interrupts]:
    """Defer the first SIGINT or SIGTERM; the second takes effect at once.

    Code inside looks at `arrived` and raises KeyboardInterrupt. If it does not, the signal is
    raised again at the end. An ignored signal, as SIGINT in the background of a shell, stays
    ignored. Does nothing outside of the main thread, which alone handles signals.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    handlers = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.arrived = number
        restore()

    for number in handlers:
        signal.signal(number, note)
    try:
        yield interrupts
    finally:
        restore()
    if interrupts.arrived:
        signal.raise_signal(interrupts.arrived)
