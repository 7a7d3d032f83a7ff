"""A labelled domain and another one, whose labels no training may see."""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from tiny import write_fake
from torch import Tensor, nn

from eoseg.compat import GeoDataModule
from eoseg.datamodules import (
    DomainPairDataModule,
    LoveDADataModule,
    PotsdamDataModule,
    SceneFolderDataModule,
    VaihingenDataModule,
)
from eoseg.datamodules.scenes import SceneDataModule
from eoseg.main import main

# Of Lightning 2.6 about torch 2.15, as in eoseg.commands.training.
pytestmark = pytest.mark.filterwarnings('ignore:.*LeafSpec')

ROOT = Path(__file__).parents[2]
SIZES: dict[str, Any] = {'batch_size': 2, 'patch_size': 16, 'length': 6}
IRRG = ('IR', 'R', 'G')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('pairs')
    for name in ('potsdam', 'vaihingen', 'loveda'):
        write_fake(name, folder / name)
    for domain, base in {'source': 100, 'target': 900}.items():
        for i in range(6):
            write_scene(folder / domain, f's{i}', base, seed=i)
    return folder


def write_scene(root: Path, name: str, base: int, seed: int) -> None:
    """A scene of three bands around a value, with a label of two classes."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (1, 40, 40), np.uint8)
    image = (base + 50 * mask.astype(int) + rng.integers(0, 9, (3, 40, 40))).astype(
        np.uint16
    )
    place = Affine(10, 0, 600_000 + 1000 * seed, 0, -10, 5_300_000)
    for kind, array in {'images': image, 'labels': mask}.items():
        path = root / kind / f'{name}.tif'
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path, 'w', driver='GTiff', crs='EPSG:32632', transform=place, width=40,
            height=40, count=len(array), dtype=array.dtype,
        ) as target:  # fmt: skip
            target.write(array)
    (root / 'classes.csv').write_text('value,name\n0,dark\n1,bright\n')


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def potsdam_vaihingen(
    root: Path, bands: Sequence[str] = IRRG, **target: Any
) -> DomainPairDataModule:
    return DomainPairDataModule(
        PotsdamDataModule(root / 'potsdam', bands=bands, **SIZES),
        VaihingenDataModule(root / 'vaihingen', **SIZES | target),
    )


def folders(root: Path, **target: Any) -> DomainPairDataModule:
    return DomainPairDataModule(
        SceneFolderDataModule(root / 'source', **SIZES),
        SceneFolderDataModule(root / 'target', **SIZES | target),
    )


def batches(data: DomainPairDataModule) -> list[dict[str, dict[str, Any]]]:
    """Training batches of an epoch."""
    data.setup('fit')
    return [batch for batch, _, _ in data.train_dataloader()]


def pixels(batch: dict[str, dict[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """A batch as a task gets it."""
    data = DomainPairDataModule(
        SceneFolderDataModule('.', **SIZES), SceneFolderDataModule('.', **SIZES)
    )
    moved = data.transfer_batch_to_device(batch, torch.device('cpu'), 0)
    return data.on_after_batch_transfer(moved, 0)


def test_a_batch_has_both_domains_and_no_mask_of_the_target(root: Path) -> None:
    batch = pixels(batches(potsdam_vaihingen(root))[0])
    assert {name: sorted(part) for name, part in batch.items()} == {
        'source': ['image', 'mask', 'valid'],
        'target': ['image', 'valid'],
    }
    for part in batch.values():
        assert part['image'].shape == (2, 3, 16, 16)
        assert part['valid'].all()


def test_each_domain_has_its_own_inputs(root: Path) -> None:
    data = folders(root)
    assert data.source_inputs.mean[0] == pytest.approx(129, abs=2)
    assert data.inputs.mean[0] == pytest.approx(929, abs=2)
    assert data.inputs.classes == data.source_inputs.classes == ('dark', 'bright')


def test_bands_may_differ_but_not_their_number(root: Path) -> None:
    data = potsdam_vaihingen(root, bands=('R', 'G', 'B'))
    assert data.source_inputs.bands == ('R', 'G', 'B')
    assert data.inputs.bands == ('IR', 'R', 'G')
    data = potsdam_vaihingen(root, bands=('R', 'G', 'B', 'IR'))
    with pytest.raises(ValueError, match=r'4 bands \(R, G, B, IR\).* 3 \(IR, R, G\)'):
        data.setup('fit')


def test_domains_of_other_classes_are_refused_by_name(root: Path) -> None:
    data = DomainPairDataModule(
        PotsdamDataModule(root / 'potsdam', bands=('R', 'G', 'B'), **SIZES),
        LoveDADataModule(root / 'loveda', **SIZES),
    )
    with pytest.raises(ValueError, match=r'source are impervious.*target background'):
        _ = data.inputs


def test_patches_of_the_target_cannot_be_drawn_by_its_labels(root: Path) -> None:
    target = SceneFolderDataModule(root / 'target', **SIZES, sampling='balanced')
    with pytest.raises(ValueError, match='area or valid, got balanced'):
        DomainPairDataModule(SceneFolderDataModule(root / 'source', **SIZES), target)


@pytest.mark.parametrize('sampling', ['valid', 'balanced'])
def test_patches_of_the_source_can_be_drawn_by_its_labels(
    root: Path, sampling: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path))
    source = SceneFolderDataModule(root / 'source', **SIZES, sampling=sampling)
    target = SceneFolderDataModule(root / 'target', **SIZES, sampling='valid')
    batch = batches(DomainPairDataModule(source, target))[0]
    assert batch['source']['valid'].all() and batch['target']['valid'].all()


def label_files(module: SceneDataModule) -> list[Path]:
    """Files of the labels of the training regions."""
    part = module.parts['train']
    labels = (part.dataset.labels_of(region.scene) for region in part.regions)
    return [label.path for label in labels]  # type: ignore[union-attr]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same(first[key], second[key]) for key in first
        )
    return bool(
        torch.equal(first, second) if isinstance(first, Tensor) else first == second
    )


@pytest.mark.parametrize('make', [potsdam_vaihingen, folders])
def test_unreadable_training_labels_of_the_target_change_nothing(
    copy: Path, make: Any
) -> None:
    clean = make(copy)
    expected, inputs = batches(clean), clean.inputs
    validated = list(clean.val_dataloader())
    for path in label_files(clean.target):
        path.write_bytes(b'no raster at all')
    poisoned = make(copy)
    assert all(map(same, batches(poisoned), expected))
    assert poisoned.inputs == inputs
    assert all(map(same, poisoned.val_dataloader(), validated))
    with pytest.raises(rasterio.RasterioIOError):
        # They were read if one could.
        poisoned.target.setup('fit')
        list(poisoned.target.train_dataloader())


def test_training_patches_of_the_target_know_of_no_labels(root: Path) -> None:
    data = potsdam_vaihingen(root)
    data.setup('fit')
    dataset: Any = data.target.train_dataset
    assert dataset.classes is None and dataset.labelled == []
    assert all(dataset.labels_of(i) is None for i in range(len(dataset.scenes)))


def shown(data: DomainPairDataModule) -> dict[str, set[str]]:
    """Scenes that each domain is trained on."""
    data.setup('fit')
    result = {}
    for name, module in {'source': data.source, 'target': data.target}.items():
        dataset: Any = module.train_dataset
        regions = module.train_sampler.regions
        result[name] = {dataset.scenes[region.scene].name for region in regions}
    return result


def test_scenes_of_the_target_without_labels_are_learned_from(copy: Path) -> None:
    for name in ('new', 'newer'):
        write_scene(copy / 'target', name, 900, seed=8)
        (copy / 'target' / 'labels' / f'{name}.tif').unlink()
    data = folders(copy)
    target = shown(data)['target']
    assert target >= {'new', 'newer'}
    test = data.target.parts['test']
    assert not target & {test.dataset.scenes[r.scene].name for r in test.regions}


def test_the_source_learns_from_what_no_validation_needs(root: Path) -> None:
    data = potsdam_vaihingen(root)
    assert len(data.source.parts['val'].regions) == 5
    assert len(shown(data)['source']) == 24
    # A validation split that is published is kept.
    data = DomainPairDataModule(
        LoveDADataModule(root / 'loveda', scene=['rural'], **SIZES),
        LoveDADataModule(root / 'loveda', scene=['urban'], **SIZES),
    )
    assert {name: len(scenes) for name, scenes in shown(data).items()} == {
        'source': 6,
        'target': 6,
    }


def test_validation_and_test_are_those_of_the_target(root: Path) -> None:
    data = potsdam_vaihingen(root)
    for stage in ('validate', 'test'):
        data.setup(stage)
    assert data.val_domain == 'target'
    val, test = (len(list(d)) for d in (data.val_dataloader(), data.test_dataloader()))
    alone = VaihingenDataModule(root / 'vaihingen', **SIZES)
    for stage in ('validate', 'test'):
        alone.setup(stage)
    assert val == len(alone.val_dataloader()) and test == len(alone.test_dataloader())
    assert 'mask' in next(iter(data.val_dataloader()))


def test_a_target_without_any_label_is_learned_from_but_not_scored(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copy / 'target' / 'labels')
    data = folders(copy)
    assert data.inputs.classes == ('dark', 'bright')
    assert data.inputs.mean[0] == pytest.approx(929, abs=2)
    with caplog.at_level(logging.WARNING):
        names = shown(data)
    assert 'validation is on the source' in caplog.text
    assert data.val_domain == 'source'
    assert len(names['target']) == 6 and len(names['source']) == 4
    assert next(iter(data.val_dataloader()))['image'].max() < 900
    with pytest.raises(ValueError, match='no labels to test on'):
        data.setup('test')


def test_a_source_without_labels_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / 'source' / 'labels')
    with pytest.raises(ValueError, match=r'source has 6 scenes but no labels'):
        folders(copy).setup('fit')


def test_an_epoch_is_that_of_the_longer_domain(root: Path) -> None:
    data = potsdam_vaihingen(root, length=20, batch_size=4)
    data.setup('fit')
    # None begins anew within the epoch.
    assert [len(each) for each in data.train_dataloader().flattened] == [5, 5]
    epoch = batches(data)
    assert len(epoch) == 5
    assert {len(batch['source']['image']) for batch in epoch} == {2}
    assert {len(batch['target']['image']) for batch in epoch} == {4}


def patches(part: dict[str, Any]) -> Iterator[Tensor]:
    """Where the patches of a batch lie."""
    yield from torch.cat([part['scene'], part['scene_transform']], dim=1)


def test_domains_of_one_layout_are_not_drawn_alike(root: Path) -> None:
    source, target = (
        LoveDADataModule(root / 'loveda', scene=[name], **SIZES)
        for name in ('rural', 'urban')
    )
    assert source.parts['train'].regions == target.parts['train'].regions
    alike = [
        bool((one == other).all())
        for batch in batches(DomainPairDataModule(source, target))
        for one, other in zip(
            patches(batch['source']), patches(batch['target']), strict=True
        )
    ]
    assert not all(alike)


class Brighter(nn.Module):
    """An augmentation that can be seen."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch | {'image': batch['image'] + self.by}


class Toy(LightningModule):
    """Learns from the source and looks at the target."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)
        self.seen: list[tuple[float, float]] = []
        self.validated: list[float] = []

    def training_step(self, batch: dict[str, dict[str, Tensor]], index: int) -> Tensor:
        source, target = batch['source'], batch['target']
        assert 'mask' not in target and 'scene' not in target
        mean = source['image'].mean().item(), target['image'].mean().item()
        self.seen.append(mean)
        logits = self.layer(source['image'] / 1000)
        loss = nn.functional.cross_entropy(logits, source['mask'], ignore_index=255)
        answer: Tensor = self.layer(target['image'] / 1000).softmax(dim=1)
        return loss + answer.var()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.validated.append(batch['image'][:, :, batch['valid'][0]].mean().item())
        assert batch['mask'].shape == batch['valid'].shape

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(data: DomainPairDataModule) -> Toy:
    task = Toy()
    trainer = Trainer(
        max_epochs=2, accelerator='cpu', logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return task


@pytest.mark.filterwarnings('ignore:The .* does not have many workers')
@pytest.mark.filterwarnings('ignore:.*logging interval')
@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
@pytest.mark.filterwarnings('ignore:.*fork.*:RuntimeWarning')
@pytest.mark.parametrize('workers', [0, 2])
def test_a_task_is_trained_on_both_domains(root: Path, workers: int) -> None:
    data = folders(root, num_workers=workers)
    data.source.num_workers = workers
    # Each domain is augmented by its own data module, in training alone.
    data.source.train_aug, data.target.train_aug = Brighter(10_000), Brighter(20_000)
    task = trained(data)
    assert len(task.seen) == 6
    source, target = zip(*task.seen, strict=True)
    assert min(source) > 10_100 and max(source) < 10_170
    assert min(target) > 20_900 and max(target) < 20_970
    assert all(900 <= mean < 970 for mean in task.validated)
    assert len(set(task.seen)) == 6


class Spawning(DomainPairDataModule):
    """Whose workers begin with nothing, as on a Mac and on Windows."""

    def train_dataloader(self) -> Any:
        loader: CombinedLoader = super().train_dataloader()
        for each in loader.flattened:
            each.multiprocessing_context = 'spawn'
        return loader


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_workers_may_begin_with_nothing(root: Path) -> None:
    pair = folders(root)
    expected = batches(pair)[:3]
    data = Spawning(pair.source, pair.target)
    data.source.num_workers = data.target.num_workers = 1
    data.setup('fit')
    found = [batch for batch, _, _ in islice(data.train_dataloader(), 3)]
    assert all(map(same, found, expected))


def snippets() -> list[Any]:
    """Configs of the page, with roots that exist nowhere."""
    page = (ROOT / 'docs' / 'how-to' / 'domain-pairs.md').read_text('utf-8')
    return [
        yaml.safe_load(text)
        for text in re.findall(r'```yaml\n(.*?)```', page, re.DOTALL)
    ]


@pytest.mark.parametrize('config', snippets())
def test_a_config_of_the_page_makes_a_pair(config: dict[str, Any]) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(GeoDataModule, 'data')
    made = parser.instantiate_classes(parser.parse_object(config))
    asked = config['data']['init_args']
    for name in ('source', 'target'):
        module, said = getattr(made.data, name), asked[name]
        assert type(module).__name__ == said['class_path'].rpartition('.')[2]
        assert module.root == Path(said['init_args']['root'])


def test_the_command_line_takes_a_config_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = snippets()[0] | {'model': {'class_path': 'eoseg.tasks.Segmentation'}}
    path = tmp_path / 'fit.yaml'
    path.write_text(yaml.safe_dump(config))
    options = ['--out', str(tmp_path / 'run'), '--print_config']
    status = main(
        ['fit', '--config', str(path), '--data.source.batch_size', '3', *options]
    )
    assert status == 0
    printed = yaml.safe_load(capsys.readouterr().out)['data']['init_args']
    assert printed['source']['init_args']['batch_size'] == 3
    assert printed['target']['init_args']['division'] == 'adaptation'
