"""Make a tiny SAM whose image encoder has learned something, as no weights are at hand.

    python -m benchmarks.tiny_sam DATA [--out FILE]

The encoder learns to predict the leading components of feature maps of DINOv2 on pictures
without labels, those of FOLDERS in DATA; none of them shows a landslide. Weights of the
teacher are in DATA/weights_dinov2_vits14. The mask decoder stays random.
"""

import argparse
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from eoseg.models import AdaptedSAM, Teacher

from .pictures import jittered, normal, read_picture, stretched

#: Folders of pictures without labels.
FOLDERS = (
    'pairs_cloud_l8biome_rgb',
    'pairs_vegetation_amazon_forest',
    'pairs_buildings_oam_ramp',
    'pairs_glacier_everest',
    'scenes_zurich_25tiles',
    'scenes_drone_aerial',
    'scenes_naip_northdakota',
)

#: Side of the images that the SAM sees.
SIDE = 128

#: Windows of one picture, at most.
WINDOWS = 12

TEACHER = 'vit_small_patch14_dinov2'

#: Blocks whose maps are predicted; the weights are resampled to patches of 16.
BLOCKS = (4, 8)

#: Components of the maps that are predicted.
COMPONENTS = 24

STEPS, BATCH_SIZE, WEIGHT_DECAY = 400, 16, 0.05

#: Learning rate at its peak, and steps in which it rises.
LR, RISING = 1e-3, 40


def main() -> None:
    """Teach the encoder and write the SAM."""
    parser = argparse.ArgumentParser(
        'python -m benchmarks.tiny_sam',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', type=Path, metavar='DATA')
    parser.add_argument('--out', type=Path, default=Path('tiny-sam.pth'))
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = torch.stack([*windows(options.data)])
    print(f'{len(images)} windows without labels', flush=True)
    torch.save(taught(images, lessons(options.data, images)).to_sam(), options.out)
    print(options.out)


def windows(data: Path) -> Iterator[Tensor]:
    """Windows of the pictures without labels.

    Args:
        data: Folder of data sets.

    Yields:
        Red, green and blue from 0 to 1, of shape (3, SIDE, SIDE).
    """
    for folder in FOLDERS:
        for path in sorted((data / folder).rglob('*')):
            if path.suffix not in ('.png', '.tif') or 'mask' in str(path.parent):
                continue
            picture = read_picture(path)
            if len(picture) < 3 or min(picture.shape[1:]) < SIDE:
                continue
            tops, lefts = (range(0, s - SIDE + 1, SIDE) for s in picture.shape[1:])
            places = [*product(tops, lefts)]
            for top, left in places[:: max(len(places) // WINDOWS, 1)][:WINDOWS]:
                window = picture[:3, top : top + SIDE, left : left + SIDE]
                if (window > 0).mean() > 0.9:
                    yield stretched(window)


@torch.no_grad()
def lessons(data: Path, images: Tensor) -> Tensor:
    """What the encoder is to predict: leading components of the teacher's maps.

    Args:
        data: Folder of data sets.
        images: Values from 0 to 1, of shape (B, 3, H, W).

    Returns:
        Maps of shape (B, COMPONENTS, H / 16, W / 16), of variance 1. Channels of the
        teacher count alike: a few of DINOv2 are many times as large as the others.
    """
    weights = next((data / 'weights_dinov2_vits14').glob('*.safetensors'))
    teacher = Teacher(TEACHER, weights, BLOCKS, patch_size=16)
    maps = torch.cat(
        [torch.cat(teacher(normal(image)[None]), dim=1).half() for image in images]
    )
    cells = maps.float().movedim(1, -1)
    flat = cells.reshape(-1, maps.shape[1])
    flat = (flat - flat.mean(0)) / flat.std(0)
    torch.manual_seed(0)
    directions = torch.pca_lowrank(flat, COMPONENTS, niter=3)[2]
    found = (flat @ directions).reshape(*cells.shape[:3], COMPONENTS).movedim(-1, 1)
    return found / found.std()


def taught(images: Tensor, maps: Tensor) -> AdaptedSAM:
    """A tiny SAM whose encoder has learned maps.

    Args:
        images: Values from 0 to 1, of shape (B, 3, SIDE, SIDE).
        maps: What to predict, of shape (B, COMPONENTS, SIDE / 16, SIDE / 16).
    """
    torch.manual_seed(0)
    model = AdaptedSAM(
        3, 2, size='tiny', img_size=SIDE, adapter='none', freeze=False
    ).train()
    head = nn.Conv2d(32, maps.shape[1], 1)
    learned = [*model.image_encoder.parameters(), *head.parameters()]
    optimizer = AdamW(learned, lr=LR, weight_decay=WEIGHT_DECAY)
    rate = LambdaLR(optimizer, lambda n: min((n + 1) / RISING, 1 - n / STEPS))
    random = np.random.default_rng(0)
    explained: list[float] = []
    for number in range(1, STEPS + 1):
        chosen = torch.from_numpy(random.choice(len(images), BATCH_SIZE, replace=False))
        flip = [d for d in (-2, -1) if random.integers(2)]
        image = normal(jittered(images[chosen], random)).flip(flip)
        loss = F.mse_loss(head(model.image_encoder(image)), maps[chosen].flip(flip))
        explained.append(1 - loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        rate.step()
        if number % 100 == 0:
            share = statistics.mean(explained[-50:])
            print(f'step {number}: {share:.2f} of the variance', flush=True)
    return model


if __name__ == '__main__':
    main()
