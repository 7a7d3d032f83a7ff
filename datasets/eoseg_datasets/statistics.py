"""Mean and standard deviation of bands."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .scene import Scene, ScenePatch


def band_statistics(
    scenes: Sequence[Scene], regions: Sequence[ScenePatch], size: int, most: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each band over valid pixels.

    Args:
        scenes: Scenes that the regions belong to.
        regions: Where to look; only training regions, or the test set leaks in.
        size: Side of the windows that are read.
        most: Windows to read; if there are more, they are taken at even steps.

    Returns:
        Mean and standard deviation, each of shape (C,), in units of the reader. What is
        NaN in a valid pixel (bands of another sensor that has not seen it) is left out.

    Raises:
        ValueError: If no pixel is valid, or a band has no value.
    """
    windows = [
        (scene, Window(col, row, min(size, right - col), min(size, bottom - row)))
        for scene, (left, top, width, height) in (
            (region.scene, map(int, region.window.flatten())) for region in regions
        )
        for right, bottom in [(left + width, top + height)]
        for row in range(top, bottom, size)
        for col in range(left, right, size)
    ]
    step = max(-(-len(windows) // most), 1)
    count, total, squares = np.zeros(()), np.zeros(()), np.zeros(())
    for i, window in windows[::step]:
        image, valid = scenes[i].read(window)
        values = image[:, valid].astype(np.float64)
        count = count + np.isfinite(values).sum(axis=1)
        total = total + np.nansum(values, axis=1)
        squares = squares + np.nansum(values**2, axis=1)
    if not count.all():
        raise ValueError(
            f'{len(windows)} windows of the training scenes have no valid pixel; '
            'check their nodata value (rio info)'
        )
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    # A constant band says nothing; 1 keeps it at zero instead of dividing by zero.
    return mean, np.where(std > 0, std, 1.0)
