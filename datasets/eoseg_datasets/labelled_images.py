"""Images and labels of the same names, as many published data sets have them."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rasterio.errors import NotGeoreferencedWarning

from .archives import Archive, obtain
from .inventory import explain
from .scene import Scene, open_scene

#: Headers that are read at once: a disk across the network answers late, not slowly.
_AT_ONCE = 16

_Item = TypeVar('_Item')


def find_pairs(images: Path, labels: Path, suffix: str) -> list[tuple[Path, Path]]:
    """Images of a folder and their labels, which are PNG files, by name.

    Two listings, no look at a single file: there may be tens of thousands.

    Args:
        images: Folder of images.
        labels: Folder of labels.
        suffix: What images end in, such as ``.tif``.

    Raises:
        FileNotFoundError: If a folder is not there, if there is no image, or if one has
            no label.
    """
    lacking = [folder for folder in (images, labels) if not folder.is_dir()]
    if lacking:
        raise FileNotFoundError(
            f'{lacking[0]} does not exist; extract the whole archive again'
        )
    stems = _stems(images, suffix)
    if not stems:
        raise FileNotFoundError(
            f'{images} has no image *{suffix}; extract the whole archive again'
        )
    labelled = set(_stems(labels, '.png'))
    if unlabelled := [stem for stem in stems if stem not in labelled]:
        raise FileNotFoundError(
            f'{images / unlabelled[0]}{suffix} has no label '
            f'{labels / unlabelled[0]}.png (and {len(unlabelled) - 1} more have none); '
            'extract the archive again, or take the images out'
        )
    return [(images / f'{stem}{suffix}', labels / f'{stem}.png') for stem in stems]


def open_parallel(
    open_one: Callable[[_Item], Scene], items: Iterable[_Item]
) -> list[Scene]:
    """Open scenes at the same time; their order is kept.

    Args:
        open_one: Reads the header of one.
        items: What it is called with.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(_AT_ONCE) as pool:
        # Each opening silences it, too, but threads restore each other's filters.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        return list(pool.map(open_one, items))


def open_or_explain(path: Path, root: Path | None = None) -> Scene:
    """A raster file as a scene; one that cannot be opened is named with the reason.

    Args:
        path: GeoTIFF, COG, JPEG 2000, PNG or JPEG.
        root: Folder that the name of the scene is relative to.

    Raises:
        ValueError: If the file cannot be opened, is empty, lacks its end, or is a
            git-lfs pointer or a web page.
    """
    with explained(path):
        return open_scene(path, root)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of whatever goes wrong which file it is about, and why.

    Args:
        path: What is being opened.

    Raises:
        ValueError: If something goes wrong.
    """
    try:
        yield
    # GDAL meets broken files with many exceptions.
    except Exception as error:
        raise ValueError(f'{path}: {explain(path, error)}') from error


def alike(first: Scene, path: Path) -> Scene:
    """A file that has the size and the bands of another one, without opening it.

    Args:
        first: The one that was opened; it must not have a CRS, or all would lie there.
        path: A file of the same form.
    """
    bands = tuple(replace(band, path=path) for band in first.bands)
    return replace(first, name=path.stem, path=path, bands=bands)


def with_names(scene: Scene, names: Sequence[str]) -> Scene:
    """A scene whose bands have the names that the data set gives them.

    Args:
        scene: As it was opened.
        names: Of all its bands, in order.

    Raises:
        ValueError: If the file has another number of bands.
    """
    if len(scene.bands) != len(names):
        raise ValueError(
            f'{scene.path} has {len(scene.bands)} bands, expected are {len(names)} '
            f'({", ".join(names)}); it is not a file of this data set'
        )
    named = zip(scene.bands, names, strict=True)
    bands = tuple(replace(band, name=name) for band, name in named)
    return replace(scene, bands=bands)


def obtain_pairs(
    archive: Archive,
    root: Path,
    names: Sequence[str],
    *,
    download: bool = False,
    checksum: bool = False,
) -> Path:
    """The folder that holds ``img_dir`` and ``ann_dir``, extracted if need be.

    Args:
        archive: What is extracted if there is no such folder.
        root: That folder, or one that has it.
        names: What it may be called in *root*.
        download: Whether the archive is downloaded if it is not in *root*.
        checksum: Whether an archive found in *root* is compared with its checksum.

    Raises:
        DatasetNotFoundError: If there is neither folder nor archive, and *download* is
            false.
        FileNotFoundError: If the archive does not have such a folder.
    """
    if (folder := _folder_of_pairs(root, names)) is not None:
        return folder
    obtain(archive, root, download=download, checksum=checksum)
    if (folder := _folder_of_pairs(root, names)) is None:
        raise FileNotFoundError(
            f'{root / archive.creates} has no img_dir and ann_dir; delete it and get '
            f'{archive.name} again from {archive.source}'
        )
    return folder


def _stems(folder: Path, suffix: str) -> list[str]:
    """Sorted; hidden files are notes of a Mac, or not complete yet."""
    return sorted(
        path.stem
        for path in folder.iterdir()
        if path.suffix == suffix and not path.name.startswith('.')
    )


def _folder_of_pairs(root: Path, names: Sequence[str]) -> Path | None:
    named = [root / name for name in names if (root / name).is_dir()]
    # Archives repeat their name at times: data/cloud/cloud/img_dir.
    deeper = [inner for folder in named for inner in sorted(folder.iterdir())]
    return next(
        (
            folder
            for folder in (root, *named, *deeper)
            if (folder / 'img_dir').is_dir() and (folder / 'ann_dir').is_dir()
        ),
        None,
    )
