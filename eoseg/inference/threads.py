"""Work that goes on in the background, a few steps ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')


def ahead(
    function: Callable[[T], R], items: Iterable[T], steps: int = 2, threads: int = 1
) -> Iterator[R]:
    """Apply a function to items in threads of their own; results come in order.

    An item is taken when there is room for it, so that no more than *steps* results wait,
    and an error of the function is raised where its result would have come.

    Args:
        function: Called in a thread.
        items: Taken in the thread of the caller.
        steps: Most calls under way or waiting to be taken.
        threads: How many calls are under way at a time.

    Yields:
        A result for each item.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= steps:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Whoever stops early does not wait for what is not begun.
            for future in waiting:
                future.cancel()
