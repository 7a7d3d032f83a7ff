"""SceneFolder in a project of TorchGeo's own parts: task, sampler, collate function."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchgeo.datasets
import torchgeo.samplers
from affine import Affine
from lightning.pytorch import Trainer, seed_everything
from shapely import box
from tiny import WriteRaster, ramp
from torch.utils.data import DataLoader
from torchgeo.datasets import random_bbox_assignment, roi_split

from eoseg_datasets import SceneFolder

# Under the names that they have in this version; the new ones since 0.10.
NEW = find_spec('torchgeo.tasks') is not None
tasks: Any = import_module('torchgeo.tasks' if NEW else 'torchgeo.trainers')
Segmentation = tasks.SemanticSegmentation if NEW else tasks.SemanticSegmentationTask


@pytest.fixture
def root(tmp_path: Path, write_raster: WriteRaster) -> Path:
    """Three scenes in two zones, labelled."""
    for i, (zone, west) in enumerate(
        [(32632, 600_000), (32632, 604_000), (32633, 3e5)]
    ):
        place = Affine(10, 0, west, 0, -10, 5_300_000)
        image, crs = ramp(2, 80, 90), f'EPSG:{zone}'
        write_raster(f'images/{i}.tif', image, crs, place, nodata=0)
        write_raster(f'labels/{i}.tif', (image[0] % 3).astype(np.uint8), crs, place)
    return tmp_path


def random_sampler(dataset: Any, size: int, length: int) -> Any:
    """Random patches as queries."""
    samplers: Any = torchgeo.samplers
    if NEW:
        return samplers.RandomPatchSampler(dataset, size=size, length=length)
    return samplers.RandomGeoSampler(dataset, size, length=length)


@pytest.mark.filterwarnings('ignore:The .* does not have many workers')
@pytest.mark.filterwarnings('ignore:.*logging interval')
@pytest.mark.filterwarnings('ignore:.*LeafSpec')
@pytest.mark.filterwarnings('ignore:The ``compute`` method of metric')
@pytest.mark.filterwarnings('ignore:You defined a `validation_step`')
def test_torchgeos_task_trains_on_scenes_of_two_zones(root: Path) -> None:
    seed_everything(0)
    dataset = SceneFolder(root)
    # TorchGeo 0.10 keeps half the diagonal of a patch away from the edges of a scene.
    sampler = random_sampler(dataset, 32, 8)
    assert len(list(sampler)) == 8
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        collate_fn=torchgeo.datasets.stack_samples,
    )
    task = Segmentation(
        model='unet', backbone='resnet18', in_channels=2, num_classes=3,
        task='multiclass', loss='ce', ignore_index=255,
    )  # fmt: skip
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    trainer = Trainer(
        accelerator='cpu', max_steps=2, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, loader)
    assert trainer.global_step == 2
    after = task.model.state_dict()
    assert not torch.equal(
        before['segmentation_head.0.weight'], after['segmentation_head.0.weight']
    )


def test_torchgeos_splits_leave_scenes_that_can_be_read(root: Path) -> None:
    dataset = SceneFolder(root)
    train, val = random_bbox_assignment(dataset, [2, 1])
    assert (len(train), len(val)) == (2, 1)
    for part in (train, val):
        for query in random_sampler(part, 16, 3):
            assert part[query]['image'].shape == (2, 16, 16)


def test_a_region_of_interest_splits_scenes(root: Path) -> None:
    dataset = SceneFolder(root)
    x, y, _ = dataset.bounds
    middle = (x.start + x.stop) / 2
    west, east = roi_split(
        dataset,
        [box(x.start, y.start, middle, y.stop), box(middle, y.start, x.stop, y.stop)],
    )
    assert west.bounds[0].stop <= middle <= east.bounds[0].start + 1e-6
    query = next(iter(random_sampler(east, 16, 1)))
    assert east[query]['image'].shape == (2, 16, 16)
