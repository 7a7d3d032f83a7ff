"""What differs between the versions of TorchGeo, for tasks and data modules."""

from torchgeo.datamodules import GeoDataModule

try:
    # since 0.10; `trainers` is deprecated there
    from torchgeo.tasks.base import BaseTask
except ModuleNotFoundError:
    from torchgeo.trainers.base import BaseTask

__all__ = ['BaseTask', 'GeoDataModule']
