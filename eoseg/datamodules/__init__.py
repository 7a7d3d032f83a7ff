"""Data modules: what a task is trained, validated and tested on."""

from .scene_folder import SceneFolderDataModule

__all__ = ['SceneFolderDataModule']
