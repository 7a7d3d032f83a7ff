"""What differs between the versions of TorchGeo, for tasks and data modules."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from torchgeo.datamodules import GeoDataModule

# `tasks` since 0.10, where `trainers` is deprecated.
if TYPE_CHECKING or find_spec('torchgeo.tasks') is None:
    from torchgeo.trainers.base import BaseTask
else:
    from torchgeo.tasks.base import BaseTask

__all__ = ['BaseTask', 'GeoDataModule']
