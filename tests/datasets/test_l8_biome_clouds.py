"""L8 Biome clouds: whole scenes, their masks, and what is made of fill."""

import shutil
import tarfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from matplotlib import pyplot as plt
from rasterio.windows import Window
from tiny import write_fake
from torchgeo import samplers
from torchgeo.datasets import DatasetNotFoundError, L8Biome
from torchgeo.datasets.l8biome import L8BiomeMask

from eoseg_datasets import L8BiomeClouds, MinMaxStretch, SceneDataset
from eoseg_datasets.compat import l8_biome_sources
from eoseg_datasets.l8_biome_clouds import acquired
from eoseg_datasets.scene import ScenePatch
from eoseg_datasets.scene_dataset import whole_scene
from eoseg_datasets.splits import split_scenes

BARREN = 'barren/LC80420082013220LGN00'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('l8_biome_clouds', tmp_path_factory.mktemp('l8_biome_clouds'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def patch(dataset: SceneDataset, name: str, window: Window) -> ScenePatch:
    return ScenePatch([scene.name for scene in dataset.scenes].index(name), window)


def test_stored_values_become_the_classes_of_the_paper(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    sample = dataset[patch(dataset, BARREN, Window(15, 5, 34, 1))]
    # Shadow, clear, thin cloud and cloud are 64, 128, 192 and 255 in the file.
    assert sample['mask'][0].tolist() == [1, *[0] * 16, *[2] * 16, 3]
    assert dataset.CLASSES.names == ('Clear', 'Cloud Shadow', 'Thin Cloud', 'Cloud')
    assert dataset.CLASSES.legend.rgb(1) == (221, 53, 223)


def test_cloud_is_a_class_even_where_the_file_calls_255_nodata(copy: Path) -> None:
    with rasterio.open(copy / BARREN / f'{BARREN[7:]}_fixedmask.TIF', 'r+') as mask:
        mask.nodata = 255
    dataset = L8BiomeClouds(copy)
    sample = dataset[patch(dataset, BARREN, Window(60, 5, 4, 1))]
    assert sample['mask'].tolist() == [[3] * 4]


def test_a_scene_keeps_its_zone_and_has_its_day(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    assert len(dataset) == 5
    scene = next(scene for scene in dataset.scenes if scene.name == BARREN)
    assert scene.crs is not None and scene.crs.to_epsg() == 32610
    assert scene.acquired == datetime(2013, 8, 8)
    assert scene.band_names == tuple(f'B{i}' for i in range(1, 12))


def test_bands_come_by_name_in_the_order_asked_for(root: Path) -> None:
    dataset = L8BiomeClouds(root, bands=('B4', 'B3', 'B2'))
    sample = dataset[patch(dataset, BARREN, Window(0, 7, 1, 1))]
    assert sample['image'].ravel().tolist() == [9007, 8007, 7007]


def test_fill_is_neither_valid_nor_labelled(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    sample = dataset[patch(dataset, BARREN, Window(0, 2, 2, 4))]
    assert sample['valid'][:, 0].tolist() == [False, False, True, True]
    assert sample['mask'][:, 0].tolist() == [255, 255, 1, 1]


def test_fill_can_be_clear_as_in_the_paper(root: Path) -> None:
    dataset = L8BiomeClouds(root, fill='clear')
    sample = dataset[patch(dataset, BARREN, Window(0, 2, 2, 4))]
    assert sample['valid'].all()
    assert sample['mask'][:, 0].tolist() == [0, 0, 1, 1]
    assert (sample['image'][:, :2] == 0).all()


def test_a_stretch_of_the_paper_begins_at_the_fill(root: Path) -> None:
    dataset = L8BiomeClouds(
        root, ('B4', 'B3', 'B2'), fill='clear', transforms=MinMaxStretch()
    )
    sample = dataset[patch(dataset, BARREN, Window(0, 2, 2, 4))]
    expected = np.trunc((7005 - 0) / (9005 - 0 + 1e-6) * 255)
    assert sample['image'][2, 3, 0] == expected
    assert sample['image'].max() == 254


def test_biomes_can_be_chosen(root: Path) -> None:
    dataset = L8BiomeClouds(root, biomes='water')
    assert {scene.name.split('/')[0] for scene in dataset.scenes} == {'water'}
    assert len(L8BiomeClouds(root / 'water').scenes) == 2
    assert L8BiomeClouds(root / 'forest').scenes[0].name.startswith('forest/')


def test_scenes_are_divided_as_a_whole(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    split = split_scenes(dataset.scenes, dataset.labelled, patch_size=16)
    assert split.rule == 'by scene (5 scenes)'


def test_torchgeos_classes_are_ours_under_other_numbers(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    # Fill, shadow, clear, thin cloud and cloud are 0 to 4 there.
    ours_of_theirs = torch.tensor([255, 1, 0, 2, 3])
    ours = dataset[patch(dataset, BARREN, Window(0, 0, 64, 16))]['mask']
    with rasterio.open(root / BARREN / f'{BARREN[7:]}_fixedmask.TIF') as mask:
        raw = torch.from_numpy(mask.read(1, window=Window(0, 0, 64, 16)).astype(int))
    assert set(raw.ravel().tolist()) == {0, 64, 128, 192, 255}
    torch.testing.assert_close(ours_of_theirs[L8BiomeMask.ordinal_map[raw]], ours)


def test_torchgeos_own_sampler_works(root: Path) -> None:
    dataset = L8BiomeClouds(root, biomes=['forest'])
    if hasattr(samplers, 'RandomPatchSampler'):  # since 0.10
        sampler = samplers.RandomPatchSampler(dataset, size=16, length=2)
    else:
        sampler = samplers.RandomGeoSampler(dataset, 16, length=2)
    for query in sampler:
        assert dataset[query]['image'].shape == (11, 16, 16)


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'barren\.tar\.gz.*download=True'):
        L8BiomeClouds(tmp_path)


def test_a_biome_that_is_asked_for_must_be_there(root: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'urban\.tar\.gz'):
        L8BiomeClouds(root, biomes=['water', 'urban'])


@pytest.mark.parametrize('top', ['', 'l8biome/'])
def test_an_archive_is_extracted_whatever_its_top_folder_is(
    root: Path, tmp_path: Path, top: str
) -> None:
    with tarfile.open(tmp_path / 'water.tar.gz', 'w:gz') as archive:
        archive.add(root / 'water', f'{top}water')
    assert len(L8BiomeClouds(tmp_path)) == 2
    assert len(L8BiomeClouds(tmp_path, biomes=['water'])) == 2


def test_download_fetches_what_is_not_there(
    root: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        'eoseg_datasets.l8_biome_clouds.obtain',
        lambda archive, root, **options: asked.append((archive.name, options)),
    )
    L8BiomeClouds(copy, download=True, checksum=True)
    there = {'barren', 'forest', 'water'}
    assert [name for name, _ in asked] == [
        f'{biome}.tar.gz' for biome in L8BiomeClouds.biomes if biome not in there
    ]
    assert asked[0][1] == {'download': True, 'checksum': True}


def test_sources_are_those_of_torchgeo() -> None:
    sources = l8_biome_sources()
    assert sorted(sources) == sorted(L8BiomeClouds.biomes)
    assert sources['water']['url'] == L8Biome.url.format('water')
    (digest,) = (v for k, v in sources['water'].items() if k in ('md5', 'sha256'))
    assert len(digest) in (32, 64)


def test_an_unknown_band_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match=r'has no band B12; its bands are B1, B2'):
        L8BiomeClouds(root, bands=('B4', 'B12'))


def test_an_unknown_biome_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match='has no biome desert; its biomes are barren'):
        L8BiomeClouds(root, biomes=['desert'])


def test_an_unknown_use_of_fill_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="'ignore' or 'clear', got 'drop'"):
        L8BiomeClouds(root, fill='drop')  # type: ignore[arg-type]


def test_a_scene_without_its_mask_is_named(copy: Path) -> None:
    (copy / BARREN / f'{BARREN[7:]}_fixedmask.TIF').unlink()
    with pytest.raises(FileNotFoundError, match=r'has no label .*_fixedmask\.TIF'):
        L8BiomeClouds(copy)


def test_a_mask_without_its_scene_is_named(copy: Path) -> None:
    (copy / BARREN / f'{BARREN[7:]}.TIF').unlink()
    with pytest.raises(FileNotFoundError, match='not its bands'):
        L8BiomeClouds(copy)


def test_a_scene_with_another_number_of_bands_is_named(copy: Path) -> None:
    folder = copy / BARREN
    shutil.copy(folder / f'{BARREN[7:]}_BQA.TIF', folder / f'{BARREN[7:]}.TIF')
    with pytest.raises(ValueError, match='has 1 bands, expected are 11'):
        L8BiomeClouds(copy)


def test_a_scene_that_is_there_twice_is_refused(copy: Path) -> None:
    shutil.copytree(copy / 'barren', copy / 'l8biome' / 'barren')
    with pytest.raises(ValueError, match='is there 2 times'):
        L8BiomeClouds(copy)


def test_a_value_of_no_class_is_named_when_it_is_read(copy: Path) -> None:
    with rasterio.open(copy / BARREN / f'{BARREN[7:]}_fixedmask.TIF', 'r+') as mask:
        mask.write(np.full((1, 1), 7, np.uint8), 1, window=Window(0, 10, 1, 1))
    dataset = L8BiomeClouds(copy)
    with pytest.raises(ValueError, match=r'_fixedmask\.TIF has the value 7'):
        dataset[patch(dataset, BARREN, Window(0, 8, 4, 4))]


def usgs_form(folder: Path, source: Path) -> Path:
    """One file a band, the mask in ENVI format; B8 has half the pixel size."""
    name = source.name
    folder.mkdir()
    with rasterio.open(source / f'{name}.TIF') as image:
        for i in range(1, 12):
            scale = 2 if i == 8 else 1
            profile = image.profile | {
                'count': 1, 'width': image.width * scale, 'height': image.height * scale,
                'transform': image.transform @ rasterio.Affine.scale(1 / scale),
            }  # fmt: skip
            with rasterio.open(folder / f'{name}_B{i}.TIF', 'w', **profile) as band:
                band.write(image.read(i).repeat(scale, 0).repeat(scale, 1), 1)
    shutil.copy(source / f'{name}_MTL.txt', folder)
    with rasterio.open(source / f'{name}_fixedmask.TIF') as mask:
        profile = mask.profile | {'driver': 'ENVI'}
        for key in ('compress', 'tiled', 'blockxsize', 'blockysize', 'interleave'):
            profile.pop(key, None)
        with rasterio.open(folder / f'{name}_fixedmask.img', 'w', **profile) as target:
            target.write(mask.read())
    return folder


def test_the_form_of_the_usgs_needs_its_mask_converted(
    root: Path, tmp_path: Path
) -> None:
    folder = usgs_form(tmp_path / 'BC', root / BARREN)
    with pytest.raises(FileNotFoundError, match=r'ENVI format.*rio convert'):
        L8BiomeClouds(tmp_path)
    mask = f'{BARREN[7:]}_fixedmask.TIF'
    shutil.copy(root / BARREN / mask, folder / mask)
    with pytest.raises(ValueError, match='has no band B8'):
        L8BiomeClouds(tmp_path)
    bands = [f'B{i}' for i in range(1, 12) if i != 8]
    dataset = L8BiomeClouds(tmp_path, bands=bands)
    whole = L8BiomeClouds(root, bands=bands)
    torch.testing.assert_close(
        dataset[patch(dataset, BARREN[7:], Window(0, 0, 64, 48))]['image'],
        whole[patch(whole, BARREN, Window(0, 0, 64, 48))]['image'],
    )


def test_the_day_is_in_the_name_or_unknown() -> None:
    assert acquired('water_LC81010142014365LGN01_patch_0_0') == datetime(2014, 12, 31)
    assert acquired('LC08_L1TP_042008_20130808') is None


def test_a_plot_shows_picture_and_mask(root: Path) -> None:
    dataset = L8BiomeClouds(root)
    figure = dataset.plot(dataset[whole_scene(dataset.scenes, 0)])
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask']
    plt.close(figure)
