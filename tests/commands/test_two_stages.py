"""Recipes that train a teacher and a student: one command for both, or one for each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import timm
import torch
from affine import Affine
from rasterio.windows import Window
from safetensors.torch import save_file
from tiny import WriteRaster, write_fake

from eoseg.checkpoint import Checkpoint
from eoseg.main import main
from eoseg_datasets.dfc2020 import DFC2020
from eoseg_datasets.labelled_images import with_names
from eoseg_datasets.radar import open_radar, radar_optical, write_decibel
from eoseg_datasets.scene import open_scene
from eoseg_datasets.spacenet6 import SpaceNet6

PLACE = Affine(10, 0, 600_000, 0, -10, 5_300_000)

#: The recipes in small.
SMALL = [
    '--model.network.backbone', 'resnet10t', '--model.network.channels', '8',
    '--data.patch_size', '32', '--data.batch_size', '2', '--data.length', '2',
    '--data.num_workers', '0', '--trainer.log_every_n_steps', '1',
    '--trainer.max_epochs', '1', '--trainer.precision', '32-true',
    '--trainer.enable_progress_bar', 'false',
]  # fmt: skip


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the network in small, where weights are looked for."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    network = timm.create_model('resnet10t')
    save_file(network.state_dict(), folder / 'resnet10t.safetensors')
    monkeypatch.setenv('EOSEG_WEIGHTS', str(folder))


@pytest.fixture
def flood(write_raster: WriteRaster, tmp_path: Path) -> Path:
    """Water that is dark in VV and in the near infrared; five pairs."""
    rng = np.random.default_rng(0)
    for i in range(5):
        place = PLACE @ Affine.translation(200 * i, 0)
        water = (np.indices((40, 40))[1] > 20 + i).astype(np.float32)
        noise = rng.normal(size=(4, 40, 40)).astype(np.float32)
        radar = np.stack([-10 - 9 * water, -17 - 6 * water]) + noise[:2]
        optical = np.stack([500 + 50 * noise[2], 3000 - 2500 * water + 50 * noise[3]])
        write_raster(f'flood/images/{i}.tif', radar.astype(np.float32), transform=place)
        write_raster(
            f'flood/optical/{i}.tif', optical.astype(np.float32), transform=place
        )
        write_raster(f'flood/labels/{i}.tif', water.astype(np.uint8), transform=place)
    return tmp_path / 'flood'


def words(root: Path, out: Path) -> list[str]:
    return [
        str(root), '--recipe', 'flood-hfd-small', *SMALL,
        '--data.optical', '[B3, B8]', '--out', str(out),
    ]  # fmt: skip


def bands(path: Path) -> tuple[str, ...]:
    return Checkpoint.load(path).inputs.bands


def test_one_command_trains_both_and_radar_alone_is_mapped(
    flood: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'run'
    assert main(['fit', *words(flood, out)]) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    assert capsys.readouterr().out.split() == [
        str(out / 'teacher' / 'checkpoints' / 'best.ckpt'),
        str(best),
    ]
    assert bands(out / 'teacher' / 'checkpoints' / 'best.ckpt') == ('B3', 'B8')
    assert bands(best) == ('VV', 'VH')
    assert torch.load(best, weights_only=True)['eoseg']['origin']['teacher']['weights']
    test = words(flood, out)
    assert main(['test', *test, '--ckpt_path', str(best)]) == 0
    teacher = out / 'teacher' / 'checkpoints' / 'best.ckpt'
    assert main(['test', *test, '--stage', 'teacher', '--ckpt_path', str(teacher)]) == 0
    assert all(
        (folder / 'test' / 'confusion_test.csv').is_file()
        for folder in (out, out / 'teacher')
    )
    maps = tmp_path / 'maps'
    predict = ['predict', str(flood / 'images'), str(best), '--out', str(maps)]
    assert main([*predict, '--no-mosaic']) == 0
    assert len(list(maps.rglob('*_classes.tif'))) == 5
    alone = [*words(flood, tmp_path / 'again'), '--data.bands', '[VV, VH]']
    assert main(['test', *alone, '--ckpt_path', str(best)]) == 0


def test_each_stage_has_a_command_of_its_own(
    flood: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'run'
    assert main(['fit', *words(flood, out), '--stage', 'student']) == 1
    message = capsys.readouterr().err
    assert 'there is no teacher yet; leave out --stage' in message
    assert not out.exists()
    assert main(['fit', *words(flood, out), '--stage', 'teacher']) == 0
    assert not (out / 'checkpoints').exists()
    assert main(['fit', *words(flood, out), '--stage', 'student']) == 0
    best = torch.load(out / 'checkpoints' / 'best.ckpt', weights_only=True)
    assert best['eoseg']['origin']['teacher']['name'] == 'HFDNet'
    assert main(['fit', *words(flood, out)]) == 1
    assert 'has a run already' in capsys.readouterr().err


def test_both_go_on_where_they_stopped(flood: Path, tmp_path: Path) -> None:
    out = tmp_path / 'run'
    assert main(['fit', *words(flood, out), '--stage', 'teacher']) == 0
    longer = [*words(flood, out), '--trainer.max_epochs', '2', '--ckpt_path', 'last']
    assert main(['fit', *longer]) == 0
    steps = [
        torch.load(folder / 'checkpoints' / 'last.ckpt', weights_only=True)[
            'global_step'
        ]
        for folder in (out / 'teacher', out)
    ]
    assert steps == [2, 2]


def test_a_config_of_a_run_repeats_that_stage(flood: Path, tmp_path: Path) -> None:
    out, again = tmp_path / 'run', tmp_path / 'again'
    assert main(['fit', *words(flood, out)]) == 0
    config = str(out / 'config.yaml')
    assert main(['fit', '--config', config, '--out', str(again)]) == 0
    assert not (again / 'teacher').exists()
    first, second = (
        torch.load(folder / 'checkpoints' / 'best.ckpt', weights_only=True)[
            'state_dict'
        ]
        for folder in (out, again)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_stages_are_for_recipes_that_have_them(
    flood: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['fit', str(flood), '--stage', 'both']) != 0
    assert '--stage is for recipes that train' in capsys.readouterr().err
    assert main(['fit', *words(flood, tmp_path / 'run'), '--stage', 'pupil']) != 0
    assert 'teacher or student or both, got pupil' in capsys.readouterr().err


@pytest.mark.parametrize(
    'recipe, fake, sar',
    [
        ('dfc2020-hfd', 'dfc2020', DFC2020.sar_bands),
        ('spacenet6-hfd', 'spacenet6', SpaceNet6.sar_bands),
    ],
)
def test_recipes_of_published_data_train_both_in_small(
    tmp_path: Path, recipe: str, fake: str, sar: tuple[str, ...]
) -> None:
    root = write_fake(fake, tmp_path / 'data')
    out = tmp_path / 'run'
    asked = ['--recipe', recipe, '--data.root', str(root), *SMALL, '--out', str(out)]
    assert main(['fit', *asked]) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    assert bands(best) == sar
    assert not set(bands(out / 'teacher' / 'checkpoints' / 'best.ckpt')) & set(sar)
    radar = ['--data.bands', f'[{", ".join(sar)}]', '--ckpt_path', str(best)]
    assert main(['test', *asked, *radar]) == 0


@pytest.mark.real_data
def test_complex_quad_pol_radar_is_paired_taught_and_mapped(
    data: Path, tmp_path: Path
) -> None:
    """There are no labels: bright in the picture stands for a class."""
    source = data / 'sar_optical_spacenet6_rotterdam'
    names = ('HH', 'HV', 'VH', 'VV')
    radar = open_radar({n: source / f'sar_{n.lower()}.tif' for n in names}, 'complex')
    root = tmp_path / 'rotterdam'
    write_decibel(radar, 'complex', root / 'images' / 'quad.tif')
    (root / 'optical').mkdir()
    shutil.copy(source / 'rgb_unmasked.tif', root / 'optical' / 'quad.tif')
    picture = with_names(open_scene(source / 'rgb_unmasked.tif'), ['R', 'G', 'B'])
    optical, _ = radar_optical(radar, picture).read(Window(0, 0, 200, 200))
    bright = (optical[4:].mean(axis=0) > 110).astype(np.uint8)
    (root / 'labels').mkdir()
    with rasterio.open(root / 'images' / 'quad.tif') as file:
        profile = file.profile | {'count': 1, 'dtype': 'uint8', 'nodata': None}
    profile.pop('predictor', None)
    with rasterio.open(root / 'labels' / 'quad.tif', 'w', **profile) as file:
        file.write(bright, 1)
    out = tmp_path / 'run'
    sar = '{HH: dB, HV: dB, VH: dB, VV: dB}'
    asked = [*words(root, out), '--data.sar', sar, '--data.optical', '[R, G, B]']
    assert main(['fit', *asked]) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    assert bands(best) == names
    for scene in (root / 'images', source / 'sar_masked.tif'):
        maps = tmp_path / f'maps-{scene.stem}'
        assert main(['predict', str(scene), str(best), '--out', str(maps)]) == 0
    with rasterio.open(next((tmp_path / 'maps-images').glob('*_classes.tif'))) as file:
        assert file.transform == radar.grid.transform
        assert (file.read(1) < 2).all()
    masked = next((tmp_path / 'maps-sar_masked').glob('sar_masked_classes.tif'))
    with rasterio.open(masked) as file:
        nodata = file.read(1) == 255
    with rasterio.open(source / 'sar_masked.tif') as file:
        assert np.array_equal(nodata, ~np.isfinite(file.read()).all(axis=0))
