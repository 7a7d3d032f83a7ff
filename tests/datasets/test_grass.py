"""Grass: pairs by number, five levels, pictures that may lie somewhere."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from rasterio.windows import Window
from tiny import WriteRaster, write_fake
from torch.utils.data import DataLoader
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import Grass, GridSceneSampler, NonGeoScenes, stack_samples
from eoseg_datasets.scene import ScenePatch
from eoseg_datasets.scene_dataset import whole_scene


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('grass', tmp_path_factory.mktemp('grass'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_each_picture_comes_with_the_label_of_its_number(root: Path) -> None:
    dataset = Grass(root)
    assert len(dataset) == 7
    numbers = [scene.name for scene in dataset.scenes]
    sample = dataset[ScenePatch(numbers.index('81'), Window(0, 2, 6, 1))]
    assert sample['image'][:, 0].tolist() == [[81] * 6, [2] * 6, [0, 1, 2, 3, 4, 5]]
    assert sample['mask'].tolist() == [[0, 1, 2, 3, 4, 0]]
    assert sample['image'].dtype == torch.float32
    assert sample['valid'].all()


def test_the_folder_of_the_data_set_may_be_given_itself(root: Path) -> None:
    assert len(Grass(root / 'grass', split='val')) == 2


def test_splits_have_no_picture_in_common(root: Path) -> None:
    splits = [{s.name for s in Grass(root, split).scenes} for split in ('train', 'val')]
    assert splits[0] & splits[1] == set()


def test_bands_come_by_name_in_the_order_asked_for(root: Path) -> None:
    sample = NonGeoScenes(Grass(root, bands=('B', 'R')))[0]
    both = NonGeoScenes(Grass(root))[0]
    torch.testing.assert_close(sample['image'], both['image'][[2, 0]])


def test_classes_have_the_names_and_colours_of_the_authors(root: Path) -> None:
    legend = Grass(root).CLASSES.legend
    assert legend.classes[0] == 'low' and legend.classes[4] == 'high'
    assert [legend.rgb(i) for i in (0, 1, 4)] == [
        (185, 101, 71),
        (248, 202, 155),
        (92, 144, 77),
    ]


def test_pictures_without_a_place_lie_side_by_side(root: Path) -> None:
    dataset = Grass(root)
    assert dataset.crs.is_engineering
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=GridSceneSampler(
            [whole_scene(dataset.scenes, i) for i in range(7)], 32
        ),
        collate_fn=stack_samples,
    )
    assert [len(batch['image']) for batch in loader] == [4, 3]


def test_a_picture_keeps_its_place_if_all_have_one(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    for number in (1, 2):
        write_raster(f'img_dir/train/{number}.tif', np.ones((3, 8, 8), np.uint8))
        label = tmp_path / f'ann_dir/train/{number}.png'
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(label)
    dataset = Grass(tmp_path)
    assert dataset.crs.to_epsg() == 32632
    assert dataset[ScenePatch(1, Window(0, 0, 4, 4))]['mask'].unique().tolist() == [2]


def test_places_for_some_pictures_only_are_refused(
    copy: Path, write_raster: WriteRaster
) -> None:
    placed = write_raster('81.tif', np.ones((3, 32, 32), np.uint8))
    shutil.copy(placed, copy / 'grass/img_dir/train/81.tif')
    with pytest.raises(ValueError, match=r'6 of 7 scenes have no CRS.*rio edit-info'):
        Grass(copy)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'the file is empty'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'a git-lfs pointer'),
    ],
)
def test_a_picture_that_is_none_is_named_with_the_reason(
    copy: Path, content: bytes, reason: str
) -> None:
    file = min((copy / 'grass/img_dir/train').iterdir())
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f'{file.name}: {reason}'):
        Grass(copy)


def test_a_picture_without_its_end_is_named(
    copy: Path, write_raster: WriteRaster
) -> None:
    file = min((copy / 'grass/img_dir/train').iterdir())
    noise = np.random.default_rng(0).integers(0, 255, (3, 256, 256), np.uint8)
    whole = write_raster('whole.tif', noise, crs=None).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f'{file.name}: the end of .* is missing'):
        Grass(copy)


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'grass\.zip.*download=True'):
        Grass(tmp_path)


@pytest.mark.parametrize('top', ['', 'grass/'])
def test_an_archive_is_extracted_whatever_its_top_folder_is(
    root: Path, tmp_path: Path, top: str
) -> None:
    with zipfile.ZipFile(tmp_path / 'grass.zip', 'w') as archive:
        for path in sorted((root / 'grass').rglob('*.*')):
            archive.write(path, top + path.relative_to(root / 'grass').as_posix())
    assert len(Grass(tmp_path)) == 7


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'grass.zip', 'w') as archive:
        archive.writestr('readme.txt', 'no pictures')
    with pytest.raises(FileNotFoundError, match='has no img_dir and ann_dir'):
        Grass(tmp_path)


def test_an_unknown_split_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match="must be train or val, got 'test'"):
        Grass(root, split='test')


def test_an_unknown_band_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match='has no band B8; its bands are R, G, B'):
        Grass(root, bands=('B8',))


def test_a_picture_without_a_label_is_named(copy: Path) -> None:
    (copy / 'grass/ann_dir/train/102.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'102\.tif has no label .*102\.png'):
        Grass(copy)


def test_a_split_without_pictures_is_named(copy: Path) -> None:
    shutil.rmtree(copy / 'grass/img_dir/val')
    with pytest.raises(FileNotFoundError, match='val does not exist'):
        Grass(copy, split='val')
    (copy / 'grass/img_dir/val').mkdir()
    with pytest.raises(FileNotFoundError, match=r'has no image \*\.tif'):
        Grass(copy, split='val')


def test_a_picture_with_another_number_of_bands_is_named(copy: Path) -> None:
    grey = Image.fromarray(np.zeros((32, 32), np.uint8))
    grey.save(copy / 'grass/img_dir/train/446.tif')
    with pytest.raises(ValueError, match=r'446\.tif has 1 bands, expected are 3'):
        Grass(copy)


def test_a_label_of_no_class_is_named_when_it_is_read(copy: Path) -> None:
    wrong = Image.fromarray(np.full((32, 32), 5, np.uint8))
    wrong.save(copy / 'grass/ann_dir/val/7.png')
    dataset = Grass(copy, split='val')
    with pytest.raises(ValueError, match=r'7\.png has the value 5'):
        NonGeoScenes(dataset)[[s.name for s in dataset.scenes].index('7')]


def test_two_data_sets_are_one_by_union(root: Path) -> None:
    dataset = Grass(root)
    both = dataset | Grass(root)
    left, bottom, *_ = dataset.scenes[0].grid.bounds
    assert both[left : left + 8, bottom : bottom + 8]['image'].shape == (3, 8, 8)


def test_a_plot_shows_picture_and_mask(root: Path) -> None:
    dataset = Grass(root)
    figure = dataset.plot(dataset[whole_scene(dataset.scenes, 0)], suptitle='grass')
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask']
    plt.close(figure)


@pytest.mark.real_data
def test_pictures_of_the_paper_are_read_once_they_are_laid_out_like_it(
    data: Path, tmp_path: Path
) -> None:
    source = data / 'pairs_grass_panels_ktda'
    for folder in ('img_dir', 'ann_dir'):
        (tmp_path / folder / 'train').mkdir(parents=True)
    for image in (source / 'images').glob('*.png'):
        Image.open(image).save(tmp_path / 'img_dir/train' / f'{image.stem}.tif')
        shutil.copy(source / 'masks' / image.name, tmp_path / 'ann_dir/train')
    dataset = Grass(tmp_path)
    assert [scene.name for scene in dataset.scenes] == ['102', '446', '81']
    samples = [NonGeoScenes(dataset)[i] for i in range(3)]
    assert {tuple(sample['image'].shape) for sample in samples} == {(3, 256, 256)}
    assert set(torch.cat([s['mask'].unique() for s in samples]).tolist()) == set(
        range(5)
    )
