"""Defer Ctrl-C and SIGTERM to the end of a training step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """arrived: whether the process is asked to stop."""

    def __init__(self) -> None:
        self.arrived = False


@contextmanager
def deferred() -> Iterator[Interrupts]:
    """Defer the first SIGINT or SIGTERM; the second takes effect at once.

    Code inside looks at `arrived` and raises KeyboardInterrupt. If it does not, the signal is
    raised again at the end. A signal that the process ignores, as SIGINT in the background of a
    shell, stays ignored. Does nothing outside of the main thread, which alone handles signals.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    handlers = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
    received: list[int] = []

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.arrived = True
        received.append(number)
        restore()

    for number in handlers:
        signal.signal(number, note)
    try:
        yield interrupts
    except BaseException:
        restore()
        raise
    restore()
    if received:
        signal.raise_signal(received[0])
