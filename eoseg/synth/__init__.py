"""Generated Earth-observation scenes with known truth, for demonstrations and tests."""

from .render import CLASSES, COLORS
from .scenes import SyntheticScenes, write_scenes

__all__ = ['CLASSES', 'COLORS', 'SyntheticScenes', 'write_scenes']
