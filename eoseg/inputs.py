"""What a model expects to see and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from eoseg_datasets.classes import IGNORE_INDEX

#: Key of what a checkpoint says beside its weights, and the version of its layout.
CHECKPOINT_KEY = 'eoseg'
CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Inputs:
    """What a model expects to see and what it answers.

    Stored with the weights, so that a checkpoint is enough to map a scene.
    """

    #: Names of the bands in the order of the channels, as the agency names them.
    bands: tuple[str, ...]
    #: Mean and standard deviation of each band, in the units of the reader.
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: Names of the classes; the index is the value in the map.
    classes: tuple[str, ...]
    #: Colour of each class as '#rrggbb'.
    colors: tuple[str, ...]
    #: Side of a training patch in pixels.
    patch_size: int
    #: Ground sampling distance in metres; None for images that lie nowhere.
    res: float | None = None
    #: Turn stored numbers into values (number x scale + offset), for scenes that do not
    #: say it themselves; empty for 1 and 0.
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    #: What stands for each class in label files; empty for 0, 1, 2, ….
    values: tuple[int, ...] = ()
    #: Value of pixels without a label.
    ignore_index: int = IGNORE_INDEX
    #: Units of radar bands and what else :class:`~eoseg.transforms.StandardizeRadar`
    #: takes; None where no band is said to be radar.
    radar: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        """Number of bands, C."""
        return len(self.bands)

    def channels_of(self, rgb: Sequence[str]) -> list[int]:
        """Channels of three bands.

        Args:
            rgb: Names of the bands that stand for red, green and blue.

        Raises:
            ValueError: If they are not three, or there is no band of such a name.
        """
        if len(rgb) != 3 or not set(rgb) <= set(self.bands):
            raise ValueError(
                'bands must be three, those for red, green and blue, by the names of the '
                f'data ({", ".join(self.bands)}); got {", ".join(map(str, rgb))}'
            )
        return [self.bands.index(name) for name in rgb]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, so that a checkpoint loads without running code."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Args:
            values: One value per field. Unknown keys are ignored, so that a checkpoint
                of a newer version still loads.

        Raises:
            KeyError: If a field without a default is missing.
        """
        known = {one.name for one in fields(cls)}
        arguments: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
            if key in known
        }
        return cls(**arguments)
