"""Whether a scene is what a model expects, and how to make it so."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg_datasets.scene import Scene

from ..errors import SceneMismatchError
from ..inputs import Inputs

#: Distance of a scene's values from those of the training, in their standard deviations,
#: from which on they are hardly in the same unit.
_FOREIGN = 4


def match_bands(
    scene: Scene, inputs: Inputs, asked: Sequence[str] | None = None
) -> Scene:
    """The scene with the bands of a model, in its order.

    Args:
        scene: Any scene.
        inputs: What the model expects.
        asked: Names or numbers of the bands; by default those with the model's names,
            or all of them in their order where there are no names.

    Raises:
        SceneMismatchError: If the scene does not have them.
        ValueError: If it has no band that was asked for.
    """
    if asked is not None:
        if len(asked) != inputs.in_channels:
            raise SceneMismatchError(
                f'{len(asked)} bands were asked for, the model expects '
                f'{inputs.in_channels}: {", ".join(inputs.bands)}'
            )
        return _scaled(scene.select(asked), inputs)
    named = set(inputs.bands) <= set(scene.band_names)
    if named and not (_unnamed(scene) and len(scene.bands) > inputs.in_channels):
        return _scaled(scene.select(inputs.bands), inputs)
    # Without names on one side, the order is all there is to go by.
    unnamed = _unnamed(scene) or _are_numbers(inputs.bands)
    if unnamed and len(scene.bands) == inputs.in_channels:
        return _scaled(scene, inputs)
    numbers = ','.join(str(i + 1) for i in range(inputs.in_channels))
    raise SceneMismatchError(
        f'the model expects {inputs.in_channels} bands ({", ".join(inputs.bands)}), '
        f'{scene.name} has {len(scene.bands)} ({", ".join(scene.band_names)}). Say which '
        f'to use, in the order of the model, with --bands, such as --bands {numbers}; '
        'or use a model trained on these bands'
    )


def glance(scene: Scene, side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A scene at a glance: every n-th pixel.

    Args:
        scene: Any scene; it is read row by row.
        side: Most pixels along the longer side.

    Returns:
        Values of shape (C, h, w) and validity of shape (h, w).
    """
    step = max(-(-max(scene.grid.shape) // side), 1)
    rows = [
        scene.read(Window(0, row, scene.grid.width, 1))
        for row in range(0, scene.grid.height, step)
    ]
    image = np.concatenate([values[:, :, ::step] for values, _ in rows], axis=1)
    return image, np.concatenate([valid[:, ::step] for _, valid in rows])


def statistics(
    image: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band over valid pixels.

    Raises:
        ValueError: If no pixel is valid.
    """
    values = image[:, valid].astype(np.float64)
    if values.shape[1] == 0:
        raise ValueError('it has no valid pixel; check its nodata value with rio info')
    # A constant band stays finite.
    std = np.maximum(values.std(axis=1), 1e-6)
    return tuple(values.mean(axis=1).tolist()), tuple(std.tolist())


def foreign_bands(inputs: Inputs, mean: Sequence[float]) -> list[str]:
    """Bands whose values are so far from the training's that the unit must be another.

    Args:
        inputs: What the model was trained on.
        mean: Mean of each band of a scene.

    Returns:
        What is wrong with each such band, in words.
    """
    rows = zip(inputs.bands, mean, inputs.mean, inputs.std, strict=True)
    return [
        f'{band} is {value:.4g} on average, in training {center:.4g} ± {spread:.4g}'
        for band, value, center, spread in rows
        if abs(value - center) > _FOREIGN * spread
    ]


def _scaled(scene: Scene, inputs: Inputs) -> Scene:
    """The scene with the scale and offset of the training, where it names none."""
    count = len(scene.bands)
    scales = inputs.scale or (None,) * count
    offsets = inputs.offset or (None,) * count
    bands = (
        band
        if band.scale is not None or band.offset is not None
        else replace(band, scale=scale, offset=offset)
        for band, scale, offset in zip(scene.bands, scales, offsets, strict=True)
    )
    return replace(scene, bands=tuple(bands))


def _unnamed(scene: Scene) -> bool:
    """Whether the file does not name its bands: they are B1, B2, … by position."""
    return len({band.path for band in scene.bands}) == 1 and _are_numbers(
        scene.band_names
    )


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [f'B{i + 1}' for i in range(len(names))]
