"""Random fields, and their values between the nodes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from eoseg_datasets.grid import Grid


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    spacing: float,
    sizes: tuple[float, float],
    smoothness: float = 2.0,
) -> NDArray[np.float32]:
    """A random field with features of many sizes.

    Args:
        rng: Source of randomness.
        shape: Height and width in nodes.
        spacing: Metres between nodes.
        sizes: Size of the largest and of the smallest features in metres.
        smoothness: Power of the frequency with which the amplitude falls: 1 is rugged,
            3 is smooth.

    Returns:
        Values of mean 0 and standard deviation 1, of shape (H, W).
    """
    coarsest, finest = sizes
    rows = fft.fftfreq(shape[0], spacing).astype(np.float32)
    columns = fft.rfftfreq(shape[1], spacing).astype(np.float32)
    squared = rows[:, None] ** 2 + columns**2
    amplitude = (1 + squared * coarsest**2) ** (-smoothness / 2)
    amplitude *= np.exp(-squared * (finest / 2) ** 2)
    amplitude[0, 0] = 0
    spectrum = fft.rfft2(rng.standard_normal(shape, np.float32))
    field = fft.irfft2(spectrum * amplitude, s=shape)
    return np.asarray(field / field.std(), np.float32)


def smoothstep(
    values: NDArray[np.float32], start: float, stop: float
) -> NDArray[np.float32]:
    """Rise from 0 at *start* to 1 at *stop*, level at both; *stop* may be the lower."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def per_band(values: Sequence[float]) -> NDArray[np.float32]:
    """One number for each band, of shape (C, 1, 1)."""
    return np.array(values, np.float32)[:, None, None]


def sample(
    field: NDArray[np.float32], grid: Grid, xy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values of a field at any position.

    Cubic B-splines weigh the nodes instead of being fitted to them. That blurs all
    positions alike, by 0.6 nodes, about as much as an optical sensor does. Fitted, they
    would be sharp on the nodes and soft between: a moiré in every rotated scene.

    Args:
        field: Values at the nodes of *grid*, of shape (..., H, W).
        grid: A grid without rotation.
        xy: Positions in units of the grid's CRS, of shape (2, h, w).

    Returns:
        Values of shape (..., h, w); beyond the grid those of its edge.
    """
    t = grid.transform
    nodes = np.stack([(xy[1] - t.f) / t.e - 0.5, (xy[0] - t.c) / t.a - 0.5])
    layers = field.reshape(-1, *field.shape[-2:])
    values = np.empty((len(layers), *xy.shape[1:]), np.float32)
    for layer, out in zip(layers, values, strict=True):
        ndimage.map_coordinates(
            layer, nodes, output=out, order=3, prefilter=False, mode='nearest'
        )
    return values.reshape(*field.shape[:-2], *xy.shape[1:])
