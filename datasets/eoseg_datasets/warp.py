"""Bring pixels from one grid to another."""

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform, transform_bounds
from rasterio.windows import Window

from .grid import Grid

#: Source pixels read around a target, for the kernel and for the curvature of its edges.
MARGIN = 4


def source_window(source: Grid, target: Grid) -> Window:
    """Whole pixels of a source that a target may need, clipped to the source.

    Args:
        source: Grid to read from.
        target: Grid to fill.

    Returns:
        A window of *source*; its width or height is 0 if the two do not meet.
    """
    left, bottom, right, top = transform_bounds(
        target.crs, source.crs, *target.bounds, densify_pts=21
    )
    corners = [
        ~source.transform @ corner
        for corner in [(left, top), (right, top), (right, bottom), (left, bottom)]
    ]
    cols, rows = zip(*corners, strict=True)
    # The kernel of a coarser target is as wide as one of its pixels.
    rows_per_pixel = (max(rows) - min(rows)) / target.height
    cols_per_pixel = (max(cols) - min(cols)) / target.width
    margin = MARGIN + int(np.ceil(max(rows_per_pixel, cols_per_pixel)))
    first = (
        max(int(np.floor(min(rows))) - margin, 0),
        max(int(np.floor(min(cols))) - margin, 0),
    )
    last = (
        min(int(np.ceil(max(rows))) + margin, source.height),
        min(int(np.ceil(max(cols))) + margin, source.width),
    )
    height, width = max(last[0] - first[0], 0), max(last[1] - first[1], 0)
    return Window(first[1], first[0], width, height)


def aligned_window(source: Grid, target: Grid) -> Window | None:
    """The window of *source* that is *target*, if their pixels coincide."""
    if source.crs != target.crs:
        return None
    col, row = ~source.transform @ (target.transform.c, target.transform.f)
    window = Window(round(col), round(row), target.width, target.height)
    # A hundredth of a pixel is below what a registration can promise.
    shifted = max(abs(col - round(col)), abs(row - round(row))) > 0.01
    far_corner = source.crop(window).transform @ (target.width, target.height)
    wanted = target.transform @ (target.width, target.height)
    drift = max(
        abs(a - b) / res
        for a, b, res in zip(far_corner, wanted, source.res, strict=True)
    )
    return None if shifted or drift > 0.01 else window


def warp_values(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    source: Grid,
    target: Grid,
    resampling: Resampling = Resampling.bilinear,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Warp values times their weights, so that pixels without weight do not bleed.

    Args:
        values: Of shape (C, H, W), on *source*.
        weights: Of shape (H, W), not negative; 0 where there is no value.
        source: Grid of *values*.
        target: Grid of the result.
        resampling: Kernel of the interpolation.

    Returns:
        Sum of weight x value, of shape (C, h, w), and sum of weights, of shape (h, w).
        Divide the one by the other for the weighted mean.
    """
    stack = np.concatenate([values * weights, weights[None]])
    result = np.zeros((len(stack), *target.shape), np.float32)
    reproject(
        stack,
        result,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        resampling=resampling,
        init_dest_nodata=False,
        **_kernel_scale(source, target),
    )
    return result[:-1], result[-1]


def _kernel_scale(source: Grid, target: Grid) -> dict[str, float]:
    """Target pixels per source pixel, as GDAL wants them to choose its kernel.

    By itself GDAL takes the ratio of the windows that it is given. That of a rotated
    window is too large, which blurs, and neighbouring windows are blurred differently.
    """
    col, row = target.width / 2, target.height / 2
    points = [
        target.transform @ (col + i, row + j) for i, j in [(0, 0), (1, 0), (0, 1)]
    ]
    xs, ys = transform(target.crs, source.crs, *zip(*points, strict=True))
    centre, right, below = (
        np.array(~source.transform @ point) for point in zip(xs, ys, strict=True)
    )
    across = float(np.linalg.norm(right - centre))
    down = float(np.linalg.norm(below - centre))
    return {'XSCALE': 1 / max(across, 1), 'YSCALE': 1 / max(down, 1)}


def warp_image(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    source: Grid,
    target: Grid,
    resampling: Resampling = Resampling.bilinear,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Warp an image, so that pixels that are not valid do not bleed.

    Args:
        image: Of shape (C, H, W), on *source*.
        valid: Of shape (H, W); what is not valid has no weight.
        source: Grid of *image*.
        target: Grid of the result.
        resampling: Bilinear or cubic. Cubic is used where all pixels that it needs are
            valid, bilinear around the others.

    Returns:
        The image, of shape (C, h, w), 0 where it is not valid, and whether most of what
        a pixel is made of is valid, of shape (h, w).
    """
    total, weight = warp_values(image, valid.astype(np.float32), source, target)
    there = weight >= 0.5
    result = np.where(there, total / np.maximum(weight, 1e-6), 0).astype(np.float32)
    if resampling != Resampling.bilinear:
        total, weight = warp_values(
            image, valid.astype(np.float32), source, target, resampling
        )
        # Weights of a cubic kernel sum to 1 only where none of them is missing.
        whole = there & (np.abs(weight - 1) < 1e-3)
        result[:, whole] = total[:, whole] / weight[whole]
    return result, there


def warp_labels(
    labels: NDArray[np.uint8], fill: int, source: Grid, target: Grid
) -> NDArray[np.uint8]:
    """Warp labels to the nearest pixel; they are never averaged.

    Args:
        labels: Of shape (H, W), on *source*.
        fill: Value where *source* does not reach.
        source: Grid of *labels*.
        target: Grid of the result.
    """
    result = np.full(target.shape, fill, np.uint8)
    reproject(
        labels,
        result,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        resampling=Resampling.nearest,
        init_dest_nodata=False,
    )
    return result
