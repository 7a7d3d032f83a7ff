"""Maps of a teacher on disk, for images that come again."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..io.atomic import complete
from .frozen import FrozenNetwork

#: The largest number of half precision.
_LARGEST = torch.finfo(torch.float16).max


class CachedTeacher(nn.Module):
    """A teacher that keeps its maps in a folder.

    What is kept is found by the pixels that the teacher is given, so it is never that of
    another image, whatever the data and their augmentation are; and by the weights and
    settings of the teacher, so that many can share a folder. It pays where the very same
    pixels come again: a fixed set of patches, each as it is or flipped in one of few
    ways. Patches at random places do not come again. Maps of a flipped patch are not the
    flipped maps of the patch, as the embedding of positions is not symmetric; each is
    computed and kept.

    Maps are kept in half precision, and given in it also when they have just been
    computed: a training does not depend on what was in the folder. A patch of 256 x 256
    pixels takes 1.1 MB with ``vit_small_patch14_dinov2`` and 2.2 MB with the teacher of
    the paper, times the number of flips. Nothing is ever removed; delete the folder.
    Any number of processes may use it at a time.

    Attributes:
        dim: Channels of every map.
        patch_size: Pixels of the image per cell of every map.
        folder: Where the maps of this teacher are.
    """

    def __init__(self, teacher: FrozenNetwork, folder: Path) -> None:
        """Initialize a new CachedTeacher instance.

        Args:
            teacher: Computes what the folder does not have.
            folder: Holds the maps of any number of teachers.
        """
        super().__init__()
        self.teacher = teacher
        self.dim, self.patch_size = teacher.dim, teacher.patch_size
        self.folder = folder / teacher.fingerprint()

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Look up or compute the feature maps.

        Args:
            image: Images of shape (B, C, H, W), normalised.

        Returns:
            Maps as :meth:`Teacher.forward` says, rounded to half precision.
        """
        paths = [self._path(pixels) for pixels in image[:, self.teacher.rgb].cpu()]
        missing = [i for i, path in enumerate(paths) if not path.exists()]
        computed: dict[int, list[Tensor]] = {}
        if missing:
            maps = [_half(feature).cpu() for feature in self.teacher(image[missing])]
            computed = {
                i: list(levels)
                for i, levels in zip(missing, zip(*maps, strict=True), strict=True)
            }
        for i, levels in computed.items():
            _write(paths[i], levels)
        every = [computed.get(i) or _read(path) for i, path in enumerate(paths)]
        return [
            torch.stack(level).to(image.device).float()
            for level in zip(*every, strict=True)
        ]

    def _path(self, pixels: Tensor) -> Path:
        """Where the maps of an image (3, H, W) are."""
        # A GPU computes in another precision.
        device = next(self.teacher.parameters()).device.type
        content = hashlib.sha256(f'{device} {tuple(pixels.shape)}'.encode())
        content.update(pixels.float().contiguous().numpy().data)
        name = content.hexdigest()
        return self.folder / name[:2] / f'{name}.safetensors'


def _half(feature: Tensor) -> Tensor:
    return feature.clamp(-_LARGEST, _LARGEST).half()


def _write(path: Path, levels: list[Tensor]) -> None:
    with complete(path) as part:
        save_file({str(i): level.contiguous() for i, level in enumerate(levels)}, part)


def _read(path: Path) -> list[Tensor]:
    levels = load_file(path)
    return [levels[str(i)] for i in range(len(levels))]
