"""Views, ensembles and batches that fit are wrappers of one function."""

import pytest
import torch
from torch import Tensor

from eoseg.inference.callables import TURNS, Halving, Turn, averaged, turned


def lopsided(image: Tensor) -> Tensor:
    """Says where it is in the window, so that a view that is not turned back shows."""
    rows, cols = torch.meshgrid(*[torch.arange(image.shape[-1])] * 2, indexing='ij')
    return image + rows * 10 + cols


@pytest.mark.parametrize('turn', TURNS['all'])
def test_a_turn_back_undoes_a_turn(turn: Turn) -> None:
    image = torch.arange(18.0).view(1, 2, 3, 3)
    assert torch.equal(turn.back(turn(image)), image)
    assert torch.equal(turned(lambda x: x, turn)(image), image)


def test_all_turns_differ_and_flips_are_among_them() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    seen = {tuple(turn(image).ravel().tolist()) for turn in TURNS['all']}
    assert len(seen) == 8
    flips = [image, image.flip(-1), image.flip(-2), image.flip((-2, -1))]
    assert {tuple(turn(image).ravel().tolist()) for turn in TURNS['flips']} == {
        tuple(flip.ravel().tolist()) for flip in flips
    }


def test_the_mean_of_all_views_has_no_preferred_direction() -> None:
    predict = averaged([turned(lopsided, turn) for turn in TURNS['all']])
    shown = predict(torch.zeros(1, 1, 4, 4))
    for turn in TURNS['all']:
        torch.testing.assert_close(turn(shown), shown)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    one, two = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.6, 0.4]])
    predict = averaged([lambda _: one, lambda _: two])
    torch.testing.assert_close(predict(one), torch.tensor([[0.4, 0.6]]))
    assert one.tolist() == torch.tensor([[0.2, 0.8]]).tolist()


def test_a_batch_that_does_not_fit_is_halved_once_and_for_all() -> None:
    shown: list[int] = []

    def predict(image: Tensor) -> Tensor:
        shown.append(len(image))
        if len(image) > 2:
            raise torch.OutOfMemoryError('too large')
        return image * 2

    halving = Halving(predict)
    image = torch.arange(8.0).view(8, 1, 1, 1)
    assert torch.equal(halving(image), image * 2)
    assert torch.equal(halving(image[:3]), image[:3] * 2)
    assert shown == [8, 4, 2, 2, 2, 2, 2, 1]


def test_for_a_compiled_network_all_batches_have_the_size_that_fits() -> None:
    shown: list[int] = []

    def predict(image: Tensor) -> Tensor:
        shown.append(len(image))
        if len(image) > 4:
            raise torch.OutOfMemoryError('too large')
        return image * 2

    halving = Halving(predict, filled=8)
    image = torch.arange(1.0, 8).view(7, 1, 1, 1)
    assert torch.equal(halving(image), image * 2)
    assert torch.equal(halving(image[:1]), image[:1] * 2)
    assert shown == [8, 4, 4, 4]


def test_a_single_image_that_does_not_fit_is_an_error() -> None:
    def predict(image: Tensor) -> Tensor:
        raise torch.OutOfMemoryError('too large')

    with pytest.raises(torch.OutOfMemoryError):
        Halving(predict)(torch.zeros(3, 1, 1, 1))
