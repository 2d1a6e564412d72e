"""Defer Ctrl-C and SIGTERM to the end of a training step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    with ExitStack() as restored:

        def note(number: int, frame: FrameType | None) -> None:
            interrupts.arrived = number
            restored.close()

        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                restored.callback(signal.signal, number, handler)
                signal.signal(number, note)
        yield interrupts
    if interrupts.arrived:
        signal.raise_signal(interrupts.arrived)
