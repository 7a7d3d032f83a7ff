"""Datasets for any TorchGeo project."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compat import stack_samples
    from .samplers import GridSceneSampler, RandomSceneSampler
    from .scene import ScenePatch
    from .scene_dataset import NonGeoScenes, SceneDataset
    from .scene_folder import SceneFolder

__all__ = [
    'GridSceneSampler',
    'NonGeoScenes',
    'RandomSceneSampler',
    'SceneDataset',
    'SceneFolder',
    'ScenePatch',
    'stack_samples',
]

_MODULES = {
    'GridSceneSampler': 'samplers',
    'NonGeoScenes': 'scene_dataset',
    'RandomSceneSampler': 'samplers',
    'SceneDataset': 'scene_dataset',
    'SceneFolder': 'scene_folder',
    'ScenePatch': 'scene',
    'stack_samples': 'compat',
}


# On first use: TorchGeo takes ten seconds to import, and the readers beside it (scenes,
# grids, labels) serve commands that do without it.
def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)
