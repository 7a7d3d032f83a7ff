"""Keep the memory of a network between windows."""

import ctypes
import os
import sys

#: What glibc calls its settings, in malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8

#: Larger than any activation; glibc before 2.36 takes no more than 32 MB.
_THRESHOLDS = 2**30, 2**25


def keep_memory() -> bool:
    """Let the C library keep freed memory instead of giving it back.

    On a CPU every activation of a network is mapped and unmapped anew, which is 58,000 page
    faults for a window of 512 pixels and a third of the time; with this, 2,000. It holds
    for the process and cannot be undone, so a program calls it, and never a library; before
    torch is imported. ``EOSEG_KEEP_MEMORY=0`` leaves all as it is.

    Returns:
        Whether anything was done: on Linux with glibc.
    """
    if os.environ.get('EOSEG_KEEP_MEMORY') == '0' or sys.platform != 'linux':
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 2**26)
    # What one thread has freed another can use: a fifth less for one that reads ahead.
    mallopt(_ARENA_MAX, 1)
    return any(mallopt(_MMAP_THRESHOLD, threshold) for threshold in _THRESHOLDS)
