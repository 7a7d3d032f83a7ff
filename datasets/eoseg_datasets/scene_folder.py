"""Any folder of scenes with their labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.enums import Resampling
from torchgeo.datasets import DatasetNotFoundError

from .archives import not_found
from .classes import Classes
from .index import indexed_scenes
from .inventory import Inventory, Rejected
from .labels import Labels, find_classes, is_label, is_vector, open_labels
from .scene import Scene
from .scene_dataset import SceneDataset

#: Folders that labels are looked for in, the first that there is.
_LABEL_FOLDERS = ('labels', 'masks')


class SceneFolder(SceneDataset):
    """Any folder of scenes, with raster or polygon labels if there are some.

    Dataset features:

    * every scene keeps its own coordinate reference system and grid: patches are read
      as windows, nothing is warped unless *crs* is given
    * GeoTIFF, COG, JPEG 2000, PNG, JPEG; Landsat folders; Sentinel-2 SAFE folders
    * a validity mask from nodata value, NaN, mask band and alpha band
    * pictures without georeference are laid out side by side in a local plane

    Dataset format:

    .. code-block:: text

       root/
       ├── images/            (or the scenes lie in root itself)
       │   ├── a.tif
       │   └── b.tif
       ├── labels/            (or masks/): same names, rasters or polygons;
       │   ├── a.tif          one file of polygons may cover all scenes
       │   └── b.gpkg
       └── classes.csv        (optional) value,name,color

    A sample is as :class:`SceneDataset` says.
    """

    def __init__(
        self,
        root: str | Path = 'data',
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        bands: Sequence[str] | None = None,
        class_field: str | None = None,
        class_names: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        resampling: Resampling = Resampling.bilinear,
    ) -> None:
        """Initialize a new SceneFolder instance.

        Args:
            root: Folder of scenes.
            crs: Warp everything to this coordinate reference system instead of reading
                each scene in its own. Masks are warped to the nearest pixel.
            res: Pixel size in units of *crs*; that of the first scene by default.
            bands: Names of the bands to read; all of them by default.
            class_field: Column with the class of polygon labels.
            class_names: Names of the classes in the order of their values, where the
                folder has no ``classes.csv``.
            transforms: Function applied to each sample.
            resampling: How images are warped, bilinear or cubic.

        Raises:
            DatasetNotFoundError: If there is no scene in *root*.
            ValueError: If no scene has all *bands*.
        """
        self.paths = self.root = Path(root)
        self.class_field = class_field
        self.class_names = class_names
        inventory = _inventory(self.root)
        if not inventory.scenes:
            raise _no_scenes(self, inventory)
        scenes, refused = _alike(inventory.scenes, bands)
        scenes, lost = _somewhere(scenes)
        label_paths = _label_paths(self.root, scenes)
        #: Every other file, and why it is not used.
        self.rejected = (*inventory.rejected, *refused, *lost)
        #: File of labels of each scene, None for those without.
        self.label_paths = [label_paths.get(scene.name) for scene in scenes]
        super().__init__(scenes, (), None, crs, res, resampling, transforms)

    @property
    def classes(self) -> Classes | None:
        """Classes of the labels: those of ``classes.csv``, else those that occur.

        Raises:
            ValueError: If the labels cannot be read as classes.
        """
        return self._found_classes

    @cached_property
    def _found_classes(self) -> Classes | None:
        # On first use, as all labels have to be read for it.
        files = sorted({path for path in self.label_paths if path})
        table = self.root / 'classes.csv'
        if table.is_file():
            return Classes.from_csv(table)
        if not files:
            return None
        found = find_classes(files, self.class_field)
        return found if self.class_names is None else found.renamed(self.class_names)

    @property
    def labelled(self) -> list[int]:
        """Positions of the scenes that have labels."""
        return [i for i, path in enumerate(self.label_paths) if path]

    def labels_of(self, scene: int) -> Labels | None:
        """Labels of a scene, None if it has none.

        Args:
            scene: Its position in ``scenes``.
        """
        path = self.label_paths[scene]
        if path is None or self.classes is None:
            return None
        if path not in self._open_labels:
            self._open_labels[path] = open_labels(path, self.classes, self.class_field)
        return self._open_labels[path]

    @cached_property
    def _open_labels(self) -> dict[Path, Labels]:
        return {}


def _inventory(root: Path) -> Inventory:
    if (root / 'images').is_dir():
        return indexed_scenes(root / 'images')
    return indexed_scenes(root, ignore=_LABEL_FOLDERS)


def _no_scenes(dataset: SceneFolder, inventory: Inventory) -> Exception:
    if not inventory.rejected:
        return DatasetNotFoundError(dataset)
    # Files that should have been scenes come first.
    found = sorted(inventory.rejected, key=lambda item: item.status != 'failed')
    lines = [f'  {item.path}: {item.reason}' for item in found[:10]]
    if len(found) > len(lines):
        lines.append(f'  and {len(found) - len(lines)} more')
    what = 'can be read' if inventory.failed else 'was found'
    return not_found('\n'.join([f'No scene in {dataset.root} {what}:', *lines]))


def _alike(
    scenes: Sequence[Scene], bands: Sequence[str] | None
) -> tuple[tuple[Scene, ...], list[Rejected]]:
    """Scenes with the same bands, and those that lack some."""
    refused = []
    if bands is None:
        # The bands that most pixels have; of two, the richer.
        votes = Counter[tuple[str, ...]]()
        for scene in scenes:
            votes[scene.band_names] += scene.grid.width * scene.grid.height
        bands = max(votes, key=lambda names: (votes[names] * len(names), names))
    alike = []
    for scene in scenes:
        try:
            alike.append(scene.select(bands))
        except ValueError as error:
            refused.append(Rejected(scene.path, 'skipped', str(error)))
    if not alike:
        raise ValueError(refused[0].reason)
    return tuple(alike), refused


def _somewhere(
    scenes: Sequence[Scene],
) -> tuple[tuple[Scene, ...], list[Rejected]]:
    """Scenes that lie nowhere are left out, unless all of them do."""
    somewhere = tuple(scene for scene in scenes if scene.grid.is_placed)
    if not somewhere:
        return tuple(scenes), []
    reason = 'it has no CRS on Earth but other scenes have; assign one with rio edit-info --crs'
    lost = [scene for scene in scenes if not scene.grid.is_placed]
    return somewhere, [Rejected(scene.path, 'skipped', reason) for scene in lost]


def _label_paths(root: Path, scenes: Sequence[Scene]) -> dict[str, Path]:
    """File of labels of each scene, by the scene's name.

    Raises:
        ValueError: If a scene has two.
    """
    folder = next((root / n for n in _LABEL_FOLDERS if (root / n).is_dir()), root)
    files = sorted(path for path in folder.rglob('*') if is_label(path))
    if folder == root:
        files = [path for path in files if is_vector(path)]
    by_name: dict[str, list[Path]] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix('').as_posix()
        by_name.setdefault(name, []).append(path)
    found = {}
    for scene in scenes:
        # The name has a suffix where two scenes differ in nothing else.
        stem = scene.name.removesuffix(scene.path.suffix)
        paths = by_name.get(scene.name) or by_name.get(stem, [])
        if len(paths) > 1:
            raise ValueError(
                f'scene {scene.name} has {len(paths)} files of labels, '
                f'{" and ".join(map(str, paths))}; keep one of them'
            )
        if paths:
            found[scene.name] = paths[0]
    if not found and len(files) == 1 and is_vector(files[0]):
        return {scene.name: files[0] for scene in scenes}
    return found
