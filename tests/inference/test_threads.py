"""Work ahead keeps its order and its bounds."""

import threading

import pytest

from eoseg.inference.threads import ahead


@pytest.mark.parametrize('threads', [1, 4])
def test_results_come_in_order(threads: int) -> None:
    assert list(ahead(lambda x: x * 2, range(9), 3, threads)) == list(range(0, 18, 2))


def test_no_more_is_taken_than_there_is_room_for() -> None:
    taken: list[int] = []

    def items() -> object:
        for i in range(9):
            taken.append(i)
            yield i

    results = ahead(str, items(), steps=3)  # type: ignore[arg-type]
    assert next(results) == '0'
    assert taken == [0, 1, 2]


def test_it_is_done_in_another_thread() -> None:
    here = threading.get_ident()
    assert here not in ahead(lambda _: threading.get_ident(), range(3))


def test_an_error_comes_where_its_result_would() -> None:
    results = ahead(lambda x: 1 // x, [1, 0, 1], steps=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
