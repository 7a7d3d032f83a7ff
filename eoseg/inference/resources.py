"""What a mosaic may take of a machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition

import torch

#: Workers beyond which the disk and the one thread that writes are what is waited for.
_MOST = 8


def usable_cores() -> int:
    """Cores that this process may use, at most 8: as many workers keep them busy."""
    # Not known on every system; a container often has fewer than the machine.
    affinity = getattr(os, 'sched_getaffinity', None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, _MOST)


@dataclass(frozen=True)
class Resources:
    """What a mosaic may take of a machine. Its pixels do not depend on *workers*."""

    #: Bytes that the probabilities of all blocks at work may take; a block that needs
    #: more is worked out in parts.
    memory: int = 2**29
    #: Blocks at work at a time, each in a thread of its own.
    workers: int = 1
    #: Where to compute.
    device: torch.device | str = 'cpu'


class Budget:
    """Bytes that threads share: who needs more than is left waits."""

    def __init__(self, total: int) -> None:
        """Initialize a new Budget instance.

        Args:
            total: Bytes for all threads together.
        """
        self.total = total
        self._left = total
        self._changed = Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Have so many bytes as long as the block lasts.

        Args:
            amount: Who needs more than there is at all gets it when nobody else has any.
        """
        amount = min(amount, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


@contextmanager
def torch_threads() -> Iterator[int]:
    """Give torch its number of threads back afterwards; yields it.

    What a thread sets holds for itself, and for threads that are begun after it.
    """
    before = torch.get_num_threads()
    try:
        yield before
    finally:
        torch.set_num_threads(before)
