import pytest
import torch
from torch import nn

from eoseg.models.heads import (
    BatchNorm,
    FCNHead,
    MultiLevelNeck,
    PyramidPooling,
    UPerHead,
    resize,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('side', 'expected'),
    [(19, [76, 38, 19, 9]), (37, [148, 74, 37, 18]), (1, [4, 2, 1, 1])],
)
def test_neck_makes_a_pyramid_of_maps_of_one_size(
    side: int, expected: list[int]
) -> None:
    neck = MultiLevelNeck(2, 2, scales=(4, 2, 1, 0.5))
    maps = neck([torch.randn(1, 2, side, side + 2)] * 4)
    assert [m.shape[2] for m in maps] == expected


def test_neck_that_keeps_the_size_takes_maps_of_any() -> None:
    neck = MultiLevelNeck(2, 2, scales=(1, 1))
    features = [torch.randn(1, 2, 5, 7), torch.randn(1, 2, 3, 4)]
    assert [m.shape for m in neck(features)] == [f.shape for f in features]


def test_neck_is_linear() -> None:
    neck = MultiLevelNeck(3, 3, scales=(2, 0.5))
    a = [torch.randn(1, 3, 5, 5) for _ in range(2)]
    b = [torch.randn(1, 3, 5, 5) for _ in range(2)]
    both = neck([x + y for x, y in zip(a, b, strict=True)])
    for x, y, sum_ in zip(neck(a), neck(b), both, strict=True):
        torch.testing.assert_close(sum_, x + y, atol=1e-5, rtol=1e-5)


def test_pyramid_pooling_appends_the_context_and_the_mean_is_the_same_everywhere() -> (
    None
):
    pooling = PyramidPooling(3, channels=2, sizes=(1, 2)).eval()
    feature = torch.randn(2, 3, 4, 6)
    result = pooling(feature)
    assert result.shape == (2, pooling.out_channels, 4, 6)
    assert torch.equal(result[:, :3], feature)
    mean = result[:, 3:5]
    torch.testing.assert_close(mean, mean[..., :1, :1].expand_as(mean))


def test_logits_of_the_pyramid_have_the_size_of_the_finest_map() -> None:
    head = UPerHead([3, 4, 5], num_classes=2, channels=4)
    features = [
        torch.randn(2, 3, 13, 20),
        torch.randn(2, 4, 7, 10),
        torch.randn(2, 5, 4, 5),
    ]
    assert head(features).shape == (2, 2, 13, 20)


def test_every_map_of_the_pyramid_has_a_say_in_the_logits() -> None:
    head = UPerHead([3] * 4, num_classes=2, channels=4).eval()
    features = [torch.randn(1, 3, 2**i, 2**i, requires_grad=True) for i in (4, 3, 2, 1)]
    head(features).sum().backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)


@pytest.mark.parametrize(
    ('num_classes', 'expected'), [(5, 32_258_565), (4, 32_258_052)]
)
def test_published_upper_head_has_the_published_size(
    num_classes: int, expected: int
) -> None:
    with torch.device('meta'):
        assert count(UPerHead([768] * 4, num_classes, 512)) == expected


@pytest.mark.parametrize(('num_classes', 'expected'), [(5, 1_771_269), (4, 1_771_012)])
def test_published_auxiliary_head_has_the_published_size(
    num_classes: int, expected: int
) -> None:
    with torch.device('meta'):
        assert count(FCNHead(768, num_classes, 256)) == expected


def test_batch_of_one_image_trains_and_is_predicted_alike() -> None:
    head = UPerHead([3, 3], num_classes=2, channels=4, dropout=0)
    features = [torch.randn(1, 3, 4, 4), torch.randn(1, 3, 1, 1)]
    head(features).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_one_value_per_channel_is_normalised_by_the_running_statistics() -> None:
    norm = BatchNorm(2)
    assert norm.running_mean is not None
    norm.running_mean += 3
    image = torch.tensor([4.0, 5.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(norm(image), image - 3, rtol=1e-4, atol=0)
    assert norm.running_mean.tolist() == [3, 3]


@pytest.mark.parametrize('shape', [(2, 3, 1, 1), (1, 3, 2, 1), (4, 3, 5, 5)])
def test_more_values_per_channel_are_normalised_as_torch_does(
    shape: tuple[int, ...],
) -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    image = torch.randn(shape)
    assert torch.equal(ours(image), theirs(image))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_resize_to_the_same_size_changes_nothing() -> None:
    feature = torch.randn(1, 2, 3, 4)
    assert resize(feature, (3, 4)) is feature
    assert resize(feature, (6, 5)).shape == (1, 2, 6, 5)
