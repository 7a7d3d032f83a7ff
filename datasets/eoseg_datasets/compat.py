"""What differs between the versions of TorchGeo, for the datasets."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyproj
import torch
from rasterio.transform import from_origin
from torch import Tensor
from torchgeo.datasets import GeoDataset, L8Biome


def place_of(
    dataset: GeoDataset, query: tuple[slice, slice, slice], crs: pyproj.CRS
) -> dict[str, Any]:
    """What a sample says about its place in this version of TorchGeo.

    Args:
        dataset: The data set it was read from.
        query: Bounds and resolution of its pixels.
        crs: CRS of its pixels.
    """
    # Since 0.9 tensors, before that the query itself and the CRS.
    to_tensor: Any = getattr(dataset, '_slice_to_tensor', None)
    if to_tensor is None:
        return {'bounds': query, 'crs': crs}
    x, y, _ = query
    transform = from_origin(x.start, y.stop, x.step, y.step)
    return {'bounds': to_tensor(query), 'transform': torch.tensor(transform)}


def stack_samples(samples: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of samples: tensors are stacked, everything else becomes a list.

    TorchGeo's function of this name refuses since 0.9 what is no tensor, though its
    own samples of earlier versions have a CRS.

    Args:
        samples: Samples with the same keys.
    """
    samples = list(samples)
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    return {
        key: torch.stack(column) if isinstance(column[0], Tensor) else column
        for key, column in columns.items()
    }


def l8_biome_sources() -> dict[str, dict[str, str]]:
    """Address and checksum of each archive of TorchGeo's L8 Biome, by biome."""
    dataset: Any = L8Biome
    # Version 0.8 has MD5 sums, 0.10 has SHA-256.
    kind = 'sha256' if hasattr(dataset, 'sha256s') else 'md5'
    return {
        biome: {'url': dataset.url.format(biome), kind: digest}
        for biome, digest in getattr(dataset, f'{kind}s').items()
    }
