"""One run at a time, and everybody can see which."""

import os
import socket
from pathlib import Path

import pytest

from eoseg.errors import OutputExistsError
from eoseg.io.lock import locked


def test_who_comes_second_is_told_who_is_there(tmp_path: Path) -> None:
    owner = f'process {os.getpid()} on {socket.gethostname()}, since 2'
    with (
        locked(tmp_path),
        pytest.raises(OutputExistsError) as refused,
        locked(tmp_path),
    ):
        pass
    assert owner in str(refused.value)
    assert '--out ANOTHER' in str(refused.value)


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        assert (tmp_path / '.lock').is_file()
