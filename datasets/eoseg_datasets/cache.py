"""Where is kept what can be computed anew."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Folder of the cache: what ``EOSEG_CACHE`` says, else that of the user.

    It may be deleted at any time. It is not made here.
    """
    chosen = os.environ.get('EOSEG_CACHE')
    return Path(chosen) if chosen else platformdirs.user_cache_path('eoseg')
