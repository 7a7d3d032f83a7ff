"""From a folder of scenes to a map, as a user types it."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window
from shapely import box

from eoseg.checkpoint import Checkpoint
from eoseg.io.lock import locked
from eoseg.main import main
from eoseg.recipes import find_recipe, list_recipes
from eoseg.tasks import Segmentation
from eoseg_datasets import SceneFolder, ScenePatch, stack_samples

#: A network and a training that take seconds.
SMALL = [
    '--recipe', 'demo-ktda', '--model.network.backbone', 'resnet10t',
    '--model.network.backbone_weights', 'null',
    '--model.network.decoder_channels', '16', '--model.network.head_channels', '16',
    '--model.teacher.depth', '4', '--model.teacher.embed_dim', '48',
    '--model.teacher.num_heads', '3', '--model.teacher.rgb', '[0,1,0]',
    '--data.patch_size', '32', '--data.batch_size', '2', '--data.length', '4',
    '--trainer.max_epochs', '1', '--trainer.log_every_n_steps', '1',
]  # fmt: skip


def scene(path: Path, seed: int, size: int = 70, zone: int = 32) -> NDArray[np.uint8]:
    """Write a scene of two bands with a bright half and a nodata corner."""
    rng = np.random.default_rng(seed)
    bright = np.arange(size)[None, :] * np.ones((size, 1)) > size * rng.uniform(
        0.3, 0.7
    )
    image = rng.normal(1000, 100, (2, size, size)) + 1500 * bright
    image[:, :9, :7] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, 'w', driver='GTiff', width=size, height=size, count=2, dtype='uint16',
        nodata=0, crs=f'EPSG:326{zone}',
        transform=Affine(10, 0, 600_000 + 900 * seed, 0, -10, 5_300_000),
    ) as target:  # fmt: skip
        target.write(image.clip(0).astype(np.uint16))
        target.descriptions = ('B3', 'B8')
    return bright.astype(np.uint8)


def label(path: Path, mask: NDArray[np.uint8], like: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(like) as source:
        profile = source.profile | {'count': 1, 'dtype': 'uint8', 'nodata': 255}
    with rasterio.open(path, 'w', **profile) as target:
        target.write(mask, 1)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six labelled scenes."""
    folder = tmp_path_factory.mktemp('scenes')
    for i in range(6):
        image = folder / 'images' / f's{i}.tif'
        label(folder / 'labels' / f's{i}.tif', scene(image, i), image)
    (folder / 'classes.csv').write_text('value,name,color\n0,dark,#203040\n1,bright,\n')
    return folder


@pytest.fixture(scope='module')
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `eoseg fit`."""
    out = tmp_path_factory.mktemp('runs') / 'run'
    assert main(['fit', str(root), *SMALL, '--out', str(out)]) == 0
    return out


@pytest.fixture(scope='module')
def checkpoint(run: Path) -> Path:
    return run / 'checkpoints' / 'best.ckpt'


@pytest.fixture(scope='module')
def maps(
    root: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Maps of all scenes."""
    out = tmp_path_factory.mktemp('maps') / 'maps'
    words = ['predict', str(root / 'images'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--probabilities', '--polygons', '--overlap', '8']) == 0
    return out


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)['state_dict']
    return state


def for_folders() -> list[str]:
    """Recipes for one folder of scenes; others have tests of their own."""
    configs = {
        name: yaml.safe_load((find_recipe(name) / 'fit.yaml').read_text())
        for name in list_recipes()
    }
    return [
        name
        for name, config in configs.items()
        if config['data']['class_path'] == 'eoseg.datamodules.SceneFolderDataModule'
        # Without pretrained weights it is refused, which test_recipes.py has.
        and name != 'clouds-ktda-small'
    ]


@pytest.mark.parametrize('name', for_folders())
def test_every_recipe_for_a_folder_takes_a_step(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))  # none of the user's own
    words = ['fit', str(root), '--recipe', name, '--out', str(tmp_path / 'run')]
    if name == 'demo-ktda':
        words += ['--model.teacher.rgb', '[0,1,0]']  # these scenes have two bands
    small = ['--data.patch_size', '32', '--data.batch_size', '2', '--data.length', '2']
    assert main([*words, *small, '--trainer.fast_dev_run', 'true']) == 0


def test_a_run_leaves_config_scores_and_checkpoints(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob('*')}
    wanted = {
        'config.yaml',
        'metrics.csv',
        'confusion_val.csv',
        'checkpoints/last.ckpt',
    }
    assert wanted <= names
    assert any(name.startswith('events.out.tfevents') for name in names)
    with (run / 'metrics.csv').open() as file:
        columns = set(csv.DictReader(file).fieldnames or ())
    assert {
        'val/miou',
        'val/oa',
        'val/f1',
        'val/f1_nanmean',
        'val/iou_bright',
    } <= columns
    assert {'train/loss', 'train/distillation', 'train/similarity'} <= columns


def test_a_checkpoint_says_what_it_expects_and_has_no_teacher(checkpoint: Path) -> None:
    inputs = Checkpoint.load(checkpoint).inputs
    assert inputs.bands == ('B3', 'B8')
    assert inputs.classes == ('dark', 'bright')
    assert inputs.colors[0] == '#203040'
    assert inputs.res == 10
    assert inputs.patch_size == 32
    assert 900 < inputs.mean[0] < 2600
    keys = weights(checkpoint).keys()
    assert all(key.startswith('model.') for key in keys)
    assert not any(word in key for key in keys for word in ('teacher', 'auxiliary'))
    assert any('auxiliary' in key for key in weights(checkpoint.with_name('last.ckpt')))


def test_config_and_seed_make_the_same_weights_again(run: Path, tmp_path: Path) -> None:
    config = tmp_path / 'config.yaml'
    shutil.copy(run / 'config.yaml', config)
    assert main(['fit', '--config', str(config), '--out', str(tmp_path / 'again')]) == 0
    again = weights(tmp_path / 'again' / 'checkpoints' / 'last.ckpt')
    first = weights(run / 'checkpoints' / 'last.ckpt')
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_finished_run_is_not_overwritten_but_can_go_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'run'
    words = ['fit', str(root), *SMALL, '--out', str(out)]
    assert main(words) == 0
    assert main(words) == 1
    message = capsys.readouterr().err
    assert '--ckpt_path last' in message
    assert '--overwrite' in message
    assert main([*words, '--ckpt_path', 'last', '--trainer.max_epochs', '2']) == 0
    last = torch.load(out / 'checkpoints' / 'last.ckpt', weights_only=True)
    assert (out / 'metrics_0.csv').is_file()
    assert last['epoch'] == 1
    assert last['global_step'] == 4


def test_test_scores_a_checkpoint(root: Path, run: Path, checkpoint: Path) -> None:
    words = ['test', str(root), *SMALL, '--out', str(run)]
    assert main([*words, '--ckpt_path', str(checkpoint)]) == 0
    with (run / 'test' / 'confusion_test.csv').open() as file:
        table = list(csv.reader(file))
    assert table[0][1:] == ['dark', 'bright']
    counted = sum(int(cell) for row in table[1:] for cell in row[1:])
    assert counted == 70 * 70 - 9 * 7  # one test scene, every valid pixel once


def test_a_map_has_the_grid_of_its_scene_and_nodata_where_it_has(
    root: Path, maps: Path
) -> None:
    with (
        rasterio.open(root / 'images' / 's2.tif') as image,
        rasterio.open(maps / 's2_classes.tif') as classes,
        rasterio.open(maps / 's2_probabilities.tif') as probabilities,
        rasterio.open(maps / 's2_confidence.tif') as confidence,
    ):
        assert (classes.crs, classes.transform) == (image.crs, image.transform)
        assert classes.shape == image.shape
        labels, nodata = classes.read(1), image.read(1) == 0
        np.testing.assert_array_equal(labels == 255, nodata)
        stored = probabilities.read()
        assert probabilities.descriptions == ('dark', 'bright')
        np.testing.assert_array_equal(stored[:, nodata], 255)
        total = stored[:, ~nodata].sum(axis=0)
        assert ((total >= 253) & (total <= 255)).all()  # each band is rounded
        np.testing.assert_array_equal(
            confidence.read(1)[~nodata], stored.max(0)[~nodata]
        )
        assert classes.colormap(1)[0] == (32, 48, 64, 255)


def test_a_map_is_what_validation_saw(root: Path, run: Path, maps: Path) -> None:
    """The last window of s0, read and predicted as a validation step does it."""
    loaded = Checkpoint.load(run / 'checkpoints' / 'best.ckpt')
    said = torch.load(run / 'checkpoints' / 'best.ckpt', weights_only=True)['eoseg']
    task = Segmentation(loaded.inputs, said['architecture'], said['network']).eval()
    task.model.load_state_dict(loaded.network.state_dict())
    dataset = SceneFolder(root)
    first = [scene.name for scene in dataset.scenes].index('s0')
    sample = dataset[ScenePatch(first, Window(70 - 32, 70 - 32, 32, 32))]
    with torch.no_grad():
        seen = task.model(task.network_input(stack_samples([sample]))).argmax(1)[0]
    with rasterio.open(maps / 's0_classes.tif') as source:
        shown = source.read(1)[-8:, -8:]  # no other window reaches there
    np.testing.assert_array_equal(shown, seen[-8:, -8:])


def test_mosaic_report_catalogue_and_polygons_are_there(maps: Path) -> None:
    report = json.loads((maps / 'report.json').read_text())
    assert [item['status'] for item in report['scenes']] == ['done'] * 6
    assert report['mosaic']['status'] == 'done'
    assert '<table' in (maps / 'report.html').read_text()
    with rasterio.open(maps / 'mosaic.tif') as mosaic:
        assert set(np.unique(mosaic.read(1))) <= {0, 1, 255}
    item = json.loads((maps / 's1_classes.json').read_text())
    assert item['type'] == 'Feature'
    polygons = gpd.read_file(maps / 's1_polygons.gpkg')
    assert set(polygons['class']) <= {'dark', 'bright'}


def test_a_second_run_keeps_what_is_done_and_maps_what_is_new(
    root: Path, maps: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out, scenes = tmp_path / 'maps', tmp_path / 'scenes'
    shutil.copytree(root / 'images', scenes)
    words = ['predict', str(scenes), str(checkpoint), '--out', str(out)]
    assert main(words) == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.glob('*.tif')}
    assert main(words) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in out.glob('*.tif')}
    scene(scenes / 'new.tif', 9)
    assert main(words) == 0
    report = json.loads((out / 'report.json').read_text())
    assert {item['status'] for item in report['scenes']} <= {'done', 'kept'}
    with rasterio.open(out / 'mosaic_sources.tif') as source:
        assert 'new' in source.tags().values()


def test_maps_of_another_model_are_not_mixed(
    root: Path, run: Path, maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run / 'checkpoints' / 'last.ckpt'
    words = ['predict', str(root / 'images'), str(other), '--out', str(maps)]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert 'maps of another run' in message
    assert '(other checkpoint' in message
    assert '--overwrite' in message


def test_a_bad_scene_is_reported_and_stops_no_other(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'in'
    scene(folder / 'good.tif', 1)
    whole = folder / 'cut.tif'
    scene(whole, 2)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with rasterio.open(folder / 'good.tif') as source:
        profile, image = source.profile, source.read()
    with rasterio.open(folder / 'one.tif', 'w', **(profile | {'count': 1})) as target:
        target.write(image[:1])
    with rasterio.open(folder / 'lost.tif', 'w', **(profile | {'crs': None})) as target:
        target.write(image)
    (folder / 'empty.tif').touch()
    out = tmp_path / 'out'
    assert main(['predict', str(folder), str(checkpoint), '--out', str(out)]) == 1
    message = capsys.readouterr().err
    assert 'Traceback' not in message
    report = json.loads((out / 'report.json').read_text())
    reasons = {Path(item['path']).name: item for item in report['scenes']}
    assert reasons['good.tif']['status'] == 'done'
    expected = {
        'cut.tif': 'cut.tif',
        'one.tif': 'the model expects 2 bands',
        'lost.tif': 'no CRS',
        'empty.tif': 'empty',
    }
    for name, words in expected.items():
        assert reasons[name]['status'] == 'failed'
        assert words in reasons[name]['reason']
        assert name in message
    assert not [path for path in out.rglob('*') if 'part' in path.suffixes]
    assert sorted(path.name for path in out.glob('*_classes.tif')) == [
        'good_classes.tif'
    ]


@pytest.mark.parametrize(
    'name, content',
    [('text.ckpt', b'hello'), ('empty.ckpt', b''), ('pickle.ckpt', b'\x80\x04cos\n')],
)
def test_what_is_no_checkpoint_is_named(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    out = tmp_path / 'out'
    assert main(['predict', str(root), str(path), '--out', str(out)]) == 1
    message = capsys.readouterr().err
    assert f'{name} is no checkpoint' in message
    assert 'best.ckpt' in message
    assert not out.exists()


@pytest.mark.parametrize(
    'words, status, message',
    [
        (['predict', '{empty}', 'x.ckpt'], 1, 'has no scene'),
        (['predict', '{nowhere}', 'x.ckpt'], 1, 'does not exist'),
        (['predict', '{root}', '{nowhere}'], 1, 'best.ckpt'),
        (['predict', '{root}', 'x.ckpt', '--out', '{root}/maps'], 2, 'elsewhere'),
        (['predict', '{root}', 'x.ckpt', '--crs', 'EPSG:1'], 2, 'EPSG:32633'),
        (['fit', '{nowhere}'], 1, 'is no folder'),
        (['fit', '{root}', '--recipe', 'nothing'], 2, 'Recipes are'),
        (['fit', '{root}', '--ckpt_path', 'last', '--out', '{empty}'], 1, 'last.ckpt'),
        (['fit', '{root}', '--model.network.dimm', '3'], 1, 'KTDA has no dimm'),
        (['test', '{root}'], 2, 'needs --ckpt_path'),
        (['fit'], 2, 'usage'),
        (['mosaic', '{empty}'], 1, 'no *_classes.tif'),
        (['evaluate', '{empty}', '{root}'], 1, 'no *_classes.tif'),
    ],
)
def test_a_wrong_call_is_explained_on_one_screen(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    message: str,
) -> None:
    empty = tmp_path / 'empty'
    empty.mkdir()
    places = {'empty': empty, 'nowhere': tmp_path / 'nowhere', 'root': root}
    assert main([word.format(**places) for word in words]) == status
    shown = capsys.readouterr()
    assert message in shown.out + shown.err
    assert len((shown.out + shown.err).splitlines()) < 25
    assert 'Traceback' not in shown.err
    assert 'Namespace' not in shown.err


def test_a_folder_without_labels_is_explained(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / 'images', tmp_path / 'in' / 'images')
    out = tmp_path / 'out'
    assert main(['fit', str(tmp_path / 'in'), *SMALL, '--out', str(out)]) == 1
    message = capsys.readouterr().err
    assert 'has 6 scenes but no labels' in message
    assert 's0.tif' in message
    assert not out.exists()


def test_a_config_cannot_name_a_module_of_its_own(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / 'evil.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\n')
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / 'config.yaml'
    config.write_text(yaml.safe_dump({'model': {'class_path': 'evil.Model'}}))
    words = ['fit', '--config', str(config), '--data.root', str(root)]
    assert main([*words, '--out', str(tmp_path / 'out')]) == 2
    assert not (tmp_path / 'ran').exists()
    assert 'evil' in capsys.readouterr().err


def test_polygons_in_another_crs_train_and_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'in'
    for i in range(5):
        scene(folder / 'images' / f's{i}.tif', i)
        left = 600_000 + 900 * i + 350
        shapes = gpd.GeoDataFrame(
            {'class': ['east']}, geometry=[box(left, 5_299_300, left + 350, 5_300_000)],
            crs='EPSG:32632',
        )  # fmt: skip
        path = folder / 'labels' / f's{i}.gpkg'
        path.parent.mkdir(exist_ok=True)
        shapes.to_crs('EPSG:4326').to_file(path)
    out, maps = tmp_path / 'run', tmp_path / 'maps'
    assert main(['fit', str(folder), *SMALL, '--out', str(out)]) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    assert Checkpoint.load(best).inputs.classes == ('background', 'east')
    words = ['predict', str(folder / 'images'), str(best), '--out', str(maps)]
    assert main([*words, '--no-mosaic']) == 0
    assert not (maps / 'mosaic.tif').exists()
    capsys.readouterr()
    scores = tmp_path / 'scores.json'
    words = ['evaluate', str(maps), str(folder / 'labels'), '--out', str(scores)]
    assert main(words) == 0
    assert 'IoU east' in capsys.readouterr().out
    assert 0 <= json.loads(scores.read_text())['miou'] <= 1


def sources_of(out: Path) -> set[str]:
    with rasterio.open(out / 'mosaic_sources.tif') as source:
        tags = source.tags()
        return {tags[str(i)] for i in np.unique(source.read(1)) if i != source.nodata}


def test_a_repaired_scene_gets_into_the_mosaic(
    checkpoint: Path, tmp_path: Path
) -> None:
    scenes, out = tmp_path / 'in', tmp_path / 'out'
    scene(scenes / 'a.tif', 1)
    scene(scenes / 'b.tif', 3)
    with rasterio.open(scenes / 'b.tif') as source:
        profile, image = source.profile, source.read()
    with rasterio.open(scenes / 'b.tif', 'w', **(profile | {'crs': None})) as target:
        target.write(image)
    words = ['predict', str(scenes), str(checkpoint), '--out', str(out)]
    assert main(words) == 1
    assert sources_of(out) == {'a'}
    with rasterio.open(scenes / 'b.tif', 'w', **profile) as target:
        target.write(image)
    assert main(words) == 0
    assert sources_of(out) == {'a', 'b'}


def test_a_map_of_another_scene_of_that_name_is_not_kept(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene(tmp_path / 'one' / 'a.tif', 1)
    scene(tmp_path / 'two' / 'a.tif', 2, size=40)
    words = [str(checkpoint), '--out', str(tmp_path / 'out')]
    assert main(['predict', str(tmp_path / 'one'), *words]) == 0
    assert main(['predict', str(tmp_path / 'two'), *words]) == 1
    assert '(other scene files)' in capsys.readouterr().err
    assert main(['predict', str(tmp_path / 'two'), *words, '--overwrite']) == 0
    with rasterio.open(tmp_path / 'out' / 'a_classes.tif') as source:
        assert source.shape == (40, 40)


def test_what_is_asked_for_later_is_made_later(
    checkpoint: Path, tmp_path: Path
) -> None:
    scene(tmp_path / 'in' / 'a.tif', 1)
    out = tmp_path / 'out'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--no-mosaic']) == 0
    assert not (out / 'a_probabilities.tif').exists()
    assert main([*words, '--crs', 'EPSG:3035', '--res', '20']) == 0
    with rasterio.open(out / 'mosaic.tif') as source:
        assert source.crs.to_epsg() == 3035
        assert source.res == (20, 20)
    assert main([*words, '--probabilities']) == 0
    assert (out / 'a_probabilities.tif').is_file()
    with rasterio.open(out / 'mosaic.tif') as source:
        assert source.crs.to_epsg() == 32632


def test_two_runs_do_not_write_into_one_folder(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene(tmp_path / 'in' / 'a.tif', 1)
    out = tmp_path / 'out'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    with locked(out):
        assert main(words) == 1
    assert 'another run' in capsys.readouterr().err
    assert main(words) == 0


def test_a_scene_without_a_valid_pixel_is_a_map_without_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'in' / 'void.tif'
    scene(path, 1)
    with rasterio.open(path, 'r+') as target:
        target.write(np.zeros((2, 70, 70), np.uint16))
    out = tmp_path / 'out'
    assert main(['predict', str(path.parent), str(checkpoint), '--out', str(out)]) == 0
    with rasterio.open(out / 'void_classes.tif') as source:
        assert (source.read(1) == 255).all()


def test_truth_in_other_values_is_read_by_name_or_refused(
    root: Path, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / 'truth'
    for i in range(6):
        with rasterio.open(root / 'labels' / f's{i}.tif') as source:
            swapped = np.array([7, 3], np.uint8)[source.read(1)]
        label(truth / f's{i}.tif', swapped, root / 'images' / f's{i}.tif')
    assert main(['evaluate', str(maps), str(truth)]) == 1
    assert 'has the values 3, 7, which stand for no class' in capsys.readouterr().err
    (truth / 'classes.csv').write_text('value,name\n3,bright\n7,dark\n')
    scores = tmp_path / 'a.json', tmp_path / 'b.json'
    assert main(['evaluate', str(maps), str(truth), '--out', str(scores[0])]) == 0
    words = ['evaluate', str(maps), str(root / 'labels'), '--out', str(scores[1])]
    assert main(words) == 0
    assert scores[0].read_text() == scores[1].read_text()


def test_a_checkpoint_is_not_scored_on_other_classes(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / 'other'
    shutil.copytree(root, other)
    (other / 'classes.csv').write_text('value,name\n0,bright\n1,dark\n')
    words = ['test', str(other), *SMALL, '--out', str(tmp_path / 'run')]
    best = run / 'checkpoints' / 'best.ckpt'
    assert main([*words, '--ckpt_path', str(best)]) == 1
    assert 'trained on the classes dark, bright' in capsys.readouterr().err


def test_killed_and_started_again_the_pixels_are_the_same(
    root: Path, maps: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    words = ['predict', str(root / 'images'), str(checkpoint), '--out', str(out)]
    words += ['--probabilities', '--overlap', '8']
    process = subprocess.Popen([sys.executable, '-m', 'eoseg', *words])
    while process.poll() is None and not any(out.glob('.*.part*')):
        time.sleep(0.0005)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # in the middle of a map, not after it
    assert len(list(out.glob('*_classes.tif'))) < 6
    assert main(words) == 0
    assert not any(out.glob('.*.part*'))
    for path in maps.glob('*.tif'):
        with rasterio.open(path) as whole, rasterio.open(out / path.name) as again:
            np.testing.assert_array_equal(again.read(), whole.read())
