"""Potsdam: tiles as ISPRS delivers them, in all layouts that people have."""

import shutil
import zipfile
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from tiny import WriteRaster, write_fake
from torchgeo.datasets import DatasetNotFoundError, Potsdam2D

from eoseg.datamodules import PotsdamDataModule
from eoseg_datasets import NonGeoScenes, Potsdam, ScenePatch, stack_samples
from eoseg_datasets.isprs import ERODED, FULL, IsprsLabels, open_tile
from eoseg_datasets.scene import grid_of
from eoseg_datasets.scene_dataset import whole_scene

Kind = Literal['full', 'eroded']


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('potsdam', tmp_path_factory.mktemp('potsdam'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def sample_of(dataset: Potsdam, tile: str) -> dict[str, Any]:
    names = [scene.name.rpartition('_')[0] for scene in dataset.scenes]
    return dataset[whole_scene(dataset.scenes, names.index(f'top_potsdam_{tile}'))]


def values(sample: dict[str, Any]) -> list[int]:
    """The upper left pixel, which is of class 0."""
    pixel: list[int] = sample['image'][:, 0, 0].int().tolist()
    return pixel


def test_splits_are_those_of_the_contest(root: Path) -> None:
    train, test = Potsdam(root), Potsdam(root, 'test')
    assert (len(train.scenes), len(test.scenes)) == (24, 14)
    assert not {s.name for s in train.scenes} & {s.name for s in test.scenes}
    assert train.bands == ('R', 'G', 'B', 'IR')
    assert train.crs.to_epsg() == 32633


def test_a_tile_is_what_torchgeo_reads_but_for_the_order_of_classes(copy: Path) -> None:
    for path in (copy / '5_Labels_all').iterdir():
        path.rename(copy / path.name)
    ours, theirs = Potsdam(copy), Potsdam2D(str(copy), checksum=False)
    samples = {Path(f['image']).stem: theirs[i] for i, f in enumerate(theirs.files)}
    for i in (0, 5, 20):
        sample = NonGeoScenes(ours)[i]
        other = samples[ours.scenes[i].name]
        assert torch.equal(sample['image'], other['image'])
        assert torch.equal(sample['mask'], (other['mask'] - 1) % 6)
        assert sample['valid'].all()


def test_colours_are_those_that_torchgeo_has_for_the_same_names() -> None:
    legend = Potsdam.CLASSES.legend
    theirs = dict(zip(Potsdam2D.classes, Potsdam2D.colormap, strict=True))
    theirs['clutter'] = theirs.pop('Clutter/background')
    ours = {name: legend.rgb(i) for i, name in enumerate(legend.classes)}
    assert ours == {name.lower(): color for name, color in theirs.items()}


@pytest.mark.parametrize(
    ('bands', 'expected'),
    [
        (('R', 'G', 'B'), [10, 20, 30]),
        (('IR', 'R', 'G'), [40, 10, 20]),
        (('G', 'R'), [20, 10]),
        (('R', 'G', 'B', 'IR'), [10, 20, 30, 40]),
    ],
)
def test_bands_are_read_by_name_from_whatever_folder_has_them(
    root: Path, tmp_path: Path, bands: tuple[str, ...], expected: list[int]
) -> None:
    folders = {
        '2_Ortho_RGB': 'RGB',
        '3_Ortho_IRRG': 'IR R G',
        '4_Ortho_RGBIR': 'RGB IR',
    }
    for folder, has in folders.items():
        if not all(band in has for band in bands):
            continue
        here = tmp_path / folder
        here.mkdir()
        for name in (folder, '5_Labels_all'):
            (here / name).symlink_to(root / name)
        dataset = Potsdam(here, bands=bands)
        assert dataset.bands == bands
        assert values(sample_of(dataset, '2_10')) == expected


def test_without_bands_the_folder_decides(copy: Path) -> None:
    shutil.rmtree(copy / '4_Ortho_RGBIR')
    assert Potsdam(copy).bands == ('IR', 'R', 'G')
    shutil.rmtree(copy / '3_Ortho_IRRG')
    assert Potsdam(copy).bands == ('R', 'G', 'B')


def test_near_infrared_that_is_marked_as_transparency_is_still_a_band(
    write_raster: WriteRaster,
) -> None:
    image = np.full((4, 8, 8), 7, np.uint8)
    image[3, :2] = 0
    path = write_raster('top_potsdam_2_10_RGBIR.tif', image, alpha='YES')
    with rasterio.open(path) as source:
        assert ColorInterp.alpha in source.colorinterp
    scene = open_tile(path, Potsdam.all_bands)
    values, valid = scene.select(['IR', 'R']).read(Window(0, 0, 8, 8))
    assert values[:, 0, 0].tolist() == [0, 7]
    assert values[:, 7, 7].tolist() == [7, 7]
    assert valid.all()


def test_a_tile_with_another_number_of_bands_is_refused(
    write_raster: WriteRaster,
) -> None:
    path = write_raster('tile.tif', np.ones((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r'tile.tif has 3 bands, expected are 4'):
        open_tile(path, Potsdam.all_bands)


@pytest.mark.parametrize('labels', ['full', 'eroded'])
@pytest.mark.parametrize('tile', ['2_10', '4_12', '6_7'])
def test_colours_that_are_not_pure_are_the_class_they_resemble(
    root: Path, tile: str, labels: Kind
) -> None:
    mask = sample_of(Potsdam(root, labels=labels), tile)['mask']
    expected = torch.arange(48) // 8
    if labels == 'eroded':
        expected[::8] = 255
    assert torch.equal(mask, expected.expand(40, 48))


def test_full_labels_are_taken_where_both_are_there(copy: Path) -> None:
    assert 255 not in sample_of(Potsdam(copy), '2_10')['mask']
    shutil.rmtree(copy / '5_Labels_all')
    assert 255 in sample_of(Potsdam(copy), '2_10')['mask']
    with pytest.raises(DatasetNotFoundError, match=r'5_Labels_all.*isprs\.org'):
        Potsdam(copy, labels='full')


def decoded(path: Path, table: NDArray[np.uint8]) -> list[int]:
    with rasterio.open(path) as source:
        grid = grid_of(source)
    labels = IsprsLabels(path, table).read(grid, Window(0, 0, grid.width, grid.height))
    row: list[int] = labels[0].tolist()
    return row


def test_a_colour_of_no_class_is_refused_by_name(write_raster: WriteRaster) -> None:
    magenta = np.array([255, 0, 255], np.uint8)[:, None, None] * np.ones((1, 2, 2))
    path = write_raster('bad_label.tif', magenta.astype(np.uint8))
    for table in (FULL, ERODED):
        with pytest.raises(ValueError, match=r'bad_label.*\(255, 0, 255\).*no class'):
            decoded(path, table)


def test_grey_is_refused_but_beside_the_lines_of_eroded_labels(
    write_raster: WriteRaster,
) -> None:
    grey = np.array([[[255, 128]], [[255, 128]], [[255, 128]]], np.uint8)
    path = write_raster('grey.tif', grey)
    with pytest.raises(ValueError, match=r'\(128, 128, 128\)'):
        decoded(path, FULL)
    assert decoded(path, ERODED) == [0, 255]


def test_labels_converted_to_numbers_are_refused(write_raster: WriteRaster) -> None:
    path = write_raster('numbers.tif', np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r'numbers.tif has 1 bands.*colour per class'):
        decoded(path, FULL)


def test_archives_beside_are_extracted(root: Path, tmp_path: Path) -> None:
    for name, flat in {'2_Ortho_RGB': False, '5_Labels_all': True}.items():
        with zipfile.ZipFile(tmp_path / f'{name}.zip', 'w') as archive:
            for path in sorted((root / name).iterdir()):
                archive.write(path, path.name if flat else f'{name}/{path.name}')
    dataset = Potsdam(tmp_path)
    assert dataset.bands == ('R', 'G', 'B')
    assert len(sample_of(dataset, '7_9')['mask'].unique()) == 6


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'4_Ortho_RGBIR.*isprs\.org'):
        Potsdam(tmp_path / 'nothing')
    (copy / '5_Labels_all' / 'top_potsdam_3_12_label.tif').unlink()
    with pytest.raises(FileNotFoundError, match=r'23 of the 24.*potsdam_3_12_label'):
        Potsdam(copy, labels='full')
    for path in copy.glob('*/top_potsdam_7_13_*'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'13 of the 14.*_7_13_RGBIR'):
        Potsdam(copy, 'test')


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'split': 'val'}, 'train or test'),
        ({'bands': ['R', 'NIR']}, 'NIR.*R, G, B, IR'),
        ({'labels': 'noBoundary'}, "full or eroded, got 'noBoundary'"),
    ],
)
def test_a_wrong_argument_says_what_is_accepted(
    root: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Potsdam(root, **wrong)


def test_a_union_of_both_splits_is_asked_by_place(root: Path) -> None:
    train, test = Potsdam(root), Potsdam(root, 'test')
    union = train | test
    left, _, _, top = test.scenes[0].grid.bounds
    sample = union[left : left + 0.4 : 0.05, top - 0.3 : top : 0.05]
    expected = test[ScenePatch(0, Window(0, 0, 8, 6))]
    assert torch.equal(sample['image'], expected['image'])


def test_a_sample_can_be_shown(root: Path) -> None:
    dataset = Potsdam(root, bands=('IR', 'R', 'G'))
    figure = dataset.plot(sample_of(dataset, '2_10'))
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask']
    plt.close(figure)


def test_the_data_module_keeps_a_fifth_for_validation(root: Path) -> None:
    module = PotsdamDataModule(
        root, batch_size=2, patch_size=16, bands=('IR', 'R', 'G'), labels='eroded'
    )
    module.setup('fit')
    batch = next(iter(module.train_dataloader()))
    assert batch['image'].shape == (2, 3, 16, 16)
    assert 255 in batch['mask']
    assert module.inputs.bands == ('IR', 'R', 'G')
    assert module.inputs.classes == Potsdam.CLASSES.names
    assert module.inputs.res == pytest.approx(0.05)
    parts = {use: len(part.regions) for use, part in module.parts.items()}
    assert parts == {'train': 19, 'val': 5, 'test': 14}


def test_tiles_of_a_split_can_be_stacked(root: Path) -> None:
    dataset = Potsdam(root)
    batch = stack_samples(dataset[whole_scene(dataset.scenes, i)] for i in (0, 1))
    assert batch['image'].shape == (2, 4, 40, 48)
