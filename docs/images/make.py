"""Make the pictures of the documentation from the folder of ``eoseg demo``.

eoseg demo
python docs/images/make.py eoseg-demo
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from rasterio.warp import transform

from eoseg.inference.windows import WindowGrid
from eoseg.io.cog import read_legend
from eoseg_datasets import RandomSceneSampler, SceneFolder
from eoseg_datasets.census import take_census
from eoseg_datasets.classes import Legend
from eoseg_datasets.splits import split_scenes

HERE = Path(__file__).parent

#: Stored numbers shown as black and as white; clouds are brighter than that.
BLACK, WHITE = 200, 2300
GAMMA = 1.4

#: Colour of pixels without data: none of those of the classes.
NOTHING = 0.82, 0.84, 0.86

#: Colours of training, validation and test regions.
PARTS = '#2563eb', '#f59e0b', '#dc2626'

#: Bands of the generated scenes that are red, green and blue, counted from 1.
RGB = (3, 2, 1)

plt.rcParams.update(
    {
        'font.family': 'DejaVu Sans',
        'font.size': 12,
        'axes.titlesize': 12,
        'axes.titlepad': 5,
        'axes.edgecolor': '#9ca3af',
        'axes.linewidth': 0.8,
        'text.color': '#1f2937',
        'axes.titlecolor': '#1f2937',
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('demo', type=Path, help='folder of eoseg demo')
    demo = parser.parse_args().demo
    save(scenes_and_mosaic(demo), 'demo.jpg')
    save(scene_map_confidence(demo, 'east_2023-08-14'), 'scene.jpg')
    save(seam(demo), 'sources.jpg')
    save(scene_and_labels(demo, 'train_2023-06-18'), 'labels.jpg')
    save(split_and_patches(demo, 'train_2023-06-18'), 'split.jpg')
    save(windows_and_weights(demo, 'east_2023-08-14'), 'windows.jpg')


def scenes_and_mosaic(demo: Path) -> Figure:
    """The three scenes to map beside their mosaic."""
    figure = plt.figure(figsize=(16, 7.1), layout='constrained')
    grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 0.04, 2.25))
    scenes = sorted((demo / 'scenes').glob('*.tif'), reverse=True)
    for path, cell in zip(scenes, (grid[0, 0], grid[0, 1], grid[1, 0]), strict=True):
        show(figure.add_subplot(cell), read_rgb(path), scene_title(path))
    mosaic = demo / 'maps' / 'mosaic.tif'
    legend = legend_of(mosaic)
    key(figure.add_subplot(grid[1, 1]), legend)
    with rasterio.open(mosaic) as source:
        title = f'one map: {source.crs}, {source.res[0]:g} m'
    axis = figure.add_subplot(grid[:, 3])
    show(axis, read_classes(mosaic, legend), title)
    for path in scenes:
        axis.plot(*outline(path, mosaic), color='black', linewidth=0.9, linestyle=':')
    return figure


def scene_map_confidence(demo: Path, name: str) -> Figure:
    """A scene, its map, and the probability of the class that was chosen."""
    figure, axes = plt.subplots(1, 3, figsize=(16, 5.6), layout='constrained')
    classes = demo / 'maps' / f'{name}_classes.tif'
    legend = legend_of(classes)
    show(axes[0], read_rgb(demo / 'scenes' / f'{name}.tif'), 'scene')
    show(axes[1], read_classes(classes, legend), 'classes')
    with rasterio.open(demo / 'maps' / f'{name}_confidence.tif') as source:
        stored = source.read(1, masked=True) * source.scales[0]
    axes[2].set_facecolor(NOTHING)
    shown = axes[2].imshow(stored, vmin=0, vmax=1, cmap='viridis')
    bare(axes[2], 'confidence')
    figure.colorbar(shown, ax=axes[2], shrink=0.85, pad=0.02)
    legend_below(figure, legend)
    return figure


def seam(demo: Path) -> Figure:
    """Which scene has the largest share of each pixel of the mosaic."""
    figure, axes = plt.subplots(1, 2, figsize=(16, 7), layout='constrained')
    mosaic = demo / 'maps' / 'mosaic.tif'
    show(axes[0], read_classes(mosaic, legend_of(mosaic)), 'mosaic.tif')
    with rasterio.open(demo / 'maps' / 'mosaic_sources.tif') as source:
        sources = source.read(1, masked=True)
        names = [source.tags()[str(i)] for i in range(int(sources.max()) + 1)]
    colors = plt.get_cmap('Set2').colors[: len(names)]
    picture = np.full((*sources.shape, 3), NOTHING)
    for i, color in enumerate(colors):
        picture[sources.filled(len(names)) == i] = color
    show(axes[1], picture, 'mosaic_sources.tif')
    handles = [
        Patch(color=color, label=f'{i}  {name}')
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    figure.legend(handles=handles, loc='outside lower right', ncols=3, frameon=False)
    return figure


def scene_and_labels(demo: Path, name: str) -> Figure:
    """A training scene and its labels."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.9), layout='constrained')
    legend = legend_of(demo / 'maps' / 'mosaic.tif')
    train = demo / 'train'
    show(axes[0], read_rgb(train / 'images' / f'{name}.tif'), f'images/{name}.tif')
    labels = read_classes(train / 'labels' / f'{name}.tif', legend)
    show(axes[1], labels, f'labels/{name}.tif')
    legend_below(figure, legend, columns=4)
    return figure


def split_and_patches(demo: Path, name: str) -> Figure:
    """A scene in blocks, and where training patches are drawn in two ways."""
    figure, axes = plt.subplots(1, 3, figsize=(16, 5.6), layout='constrained')
    dataset = SceneFolder(demo / 'train')
    scene = [scene.name for scene in dataset.scenes].index(name)
    split = split_scenes(dataset.scenes, [scene], patch_size=64)
    picture = read_rgb(demo / 'train' / 'images' / f'{name}.tif')
    show(axes[0], picture, 'split.gpkg')
    parts = {'train': split.train, 'val': split.val, 'test': split.test}
    for color, (use, regions) in zip(PARTS, parts.items(), strict=True):
        for region in regions:
            left, top, width, height = region.window.flatten()
            box = Rectangle(
                (left, top), width, height, facecolor=color, alpha=0.45, edgecolor=color
            )
            axes[0].add_patch(box)
        axes[0].add_patch(Rectangle((0, 0), 0, 0, color=color, label=use))
    axes[0].legend(loc='lower right')
    assert dataset.classes is not None
    legend = dataset.classes.legend
    census = take_census(
        dataset.scenes, split.train, dataset.labels_of, len(legend.classes), side=16
    )
    drawn = {
        sampling: list(RandomSceneSampler(split.train, 16, 500, density=density))
        for sampling, density in [('area', None), ('balanced', census.balanced())]
    }
    labels = read_classes(demo / 'train' / 'labels' / f'{name}.tif', legend)
    show(axes[1], labels, 'sampling balanced: middles of the patches')
    middles = [(p.window.col_off + 8, p.window.row_off + 8) for p in drawn['balanced']]
    axes[1].scatter(*zip(*middles, strict=True), s=6, color='black', linewidths=0)
    places = np.arange(len(legend.classes))
    for offset, (sampling, patches_drawn) in zip(
        (-0.2, 0.2), drawn.items(), strict=True
    ):
        masks = [dataset[patch]['mask'].numpy() for patch in patches_drawn]
        shown = [np.mean([(mask == c).any() for mask in masks]) for c in places]
        fill = (
            {'color': legend.colors} if sampling == 'balanced' else {'color': 'white'}
        )
        axes[2].barh(
            places + offset, shown, 0.38, edgecolor='#4b5563', label=sampling, **fill
        )
    axes[2].set(yticks=places, yticklabels=legend.classes, xlim=(0, 1))
    axes[2].invert_yaxis()
    axes[2].set_title('share of patches that show a class (white: by area)', loc='left')
    return figure


def windows_and_weights(demo: Path, name: str) -> Figure:
    """The windows of a scene, one row of them filled, and the weight of one."""
    figure, axes = plt.subplots(
        1, 2, figsize=(14, 6.4), layout='constrained', width_ratios=(1.1, 1)
    )
    picture = read_rgb(demo / 'scenes' / f'{name}.tif')
    height, width = picture.shape[:2]
    grid = WindowGrid(height, width, size=256, overlap=64)
    show(
        axes[0],
        picture,
        f'{len(grid)} windows of {grid.size} pixels that share {grid.overlap}',
    )
    band = grid.rows.offsets[1]
    for window in grid:
        left, top, across, down = window.flatten()
        if top == band:
            filled = Rectangle((left, top), across, down, color=PARTS[1], alpha=0.3)
            axes[0].add_patch(filled)
        frame = Rectangle((left + 2, top + 2), across - 4, down - 4, fill=False)
        frame.set(edgecolor='white', linewidth=1)
        axes[0].add_patch(frame)
    for row, offset in enumerate(grid.rows.offsets):
        axes[1].plot(
            np.arange(offset, offset + grid.size), grid.rows.weights[row], linewidth=2
        )
    axes[1].set(xlabel='row of the scene', xlim=(0, height), ylim=(0, 1.1))
    axes[1].axhline(1, color='#9ca3af', linestyle=':')
    axes[1].set_title('weights of the windows in a column add up to 1', loc='left')
    return figure


def read_rgb(path: Path) -> NDArray[np.float64]:
    """A scene as one sees it, grey where there are no data."""
    with rasterio.open(path) as source:
        numbers = source.read(RGB).astype(float)
        nothing = (source.read() == source.nodata).all(axis=0)
    picture = np.clip((numbers - BLACK) / (WHITE - BLACK), 0, 1) ** (1 / GAMMA)
    picture = np.moveaxis(picture, 0, -1)
    picture[nothing] = NOTHING
    return picture


def read_classes(path: Path, legend: Legend) -> NDArray[np.float64]:
    """A map in its colours, grey where there is no class."""
    with rasterio.open(path) as source:
        values = source.read(1)
    # By value; what has no name is nodata.
    colors = np.tile(NOTHING, (256, 1))
    for index in range(len(legend.classes)):
        colors[index] = np.array(legend.rgb(index)) / 255
    return colors[values]


def legend_of(path: Path) -> Legend:
    legend = read_legend(path)
    assert legend is not None, path
    return legend


def outline(path: Path, target: Path) -> tuple[list[float], list[float]]:
    """Columns and rows of the corners of a raster on the grid of another."""
    with rasterio.open(path) as source, rasterio.open(target) as onto:
        left, bottom, right, top = source.bounds
        xs, ys = [left, right, right, left, left], [top, top, bottom, bottom, top]
        xs, ys = transform(source.crs, onto.crs, xs, ys)
        # Between the first and the last pixel, so that the lines stay in the picture.
        columns, rows = ~onto.transform @ (np.array(xs), np.array(ys))
        height, width = onto.shape
    columns, rows = np.clip(columns, 1, width - 2), np.clip(rows, 1, height - 2)
    return columns.tolist(), rows.tolist()


def scene_title(path: Path) -> str:
    with rasterio.open(path) as source:
        name, _, date = path.stem.rpartition('_')
        return f'{name}, {date}: {source.crs}, {source.res[0]:g} m'


def show(axis: Axes, picture: NDArray[np.float64], title: str) -> None:
    axis.imshow(picture, interpolation='antialiased')
    bare(axis, title)


def bare(axis: Axes, title: str) -> None:
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, loc='left')


def key(axis: Axes, legend: Legend) -> None:
    """The legend in a field of its own."""
    axis.axis('off')
    axis.legend(handles=patches(legend), loc='center', frameon=False, fontsize=14)


def legend_below(figure: Figure, legend: Legend, columns: int = 7) -> None:
    figure.legend(
        handles=patches(legend), loc='outside lower center', ncols=columns,
        frameon=False,
    )  # fmt: skip


def patches(legend: Legend) -> list[Patch]:
    return [
        Patch(facecolor=color, edgecolor='#9ca3af', linewidth=0.6, label=name)
        for name, color in zip(legend.classes, legend.colors, strict=True)
    ]


def save(figure: Figure, name: str) -> None:
    figure.savefig(HERE / name, dpi=100, pil_kwargs={'quality': 82, 'optimize': True})
    plt.close(figure)


if __name__ == '__main__':
    main()
