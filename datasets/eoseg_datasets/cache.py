"""Where is kept what can be computed anew."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Folder of the cache: what ``EOSEG_CACHE`` says, else that of the user.

    It may be deleted at any time. It is not made here.
    """
    chosen = os.environ.get('EOSEG_CACHE')
    return Path(chosen) if chosen else platformdirs.user_cache_path('eoseg')


@lru_cache
def code_version(*modules: str) -> str:
    """Version of code: a number would have to be raised, and be forgotten.

    Args:
        modules: Names of modules beside this one.
    """
    here = Path(__file__).parent
    code = b''.join((here / f'{name}.py').read_bytes() for name in modules)
    return hashlib.sha256(code).hexdigest()
