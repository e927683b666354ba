"""Pictures of environments, a module for each kind of world."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.sim.world import Moment, World

_GREY_LEVELS = " .:-=+*#%@"


class PicturedWorld(World):
    """A world that is drawn by the module ``dnicomm.envs.pictures.PICTURE``.

    The module has ``draw(world, index, moment)``, a picture ``[H, W, 3]`` uint8, and
    ``grey(world, index)``, a small grey one ``[H, W]`` in [0, 1]. It is imported with what it draws
    by once there is something to draw.
    """

    picture: str

    def draw(self, index: int, moment: Moment) -> NDArray[np.uint8]:
        drawn: NDArray[np.uint8] = self._module().draw(self, index, moment)
        return drawn

    def text(self, index: int) -> str:
        return text_picture(self._module().grey(self, index))

    def _module(self) -> Any:
        return importlib.import_module(f"dnicomm.envs.pictures.{self.picture}")


def square_picture(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A flat picture ``[H * H]`` as ``[H, H]``."""
    side = math.isqrt(pixels.size)
    return pixels.reshape(side, side)


def text_picture(image: NDArray[np.float32]) -> str:
    """A grey picture ``[H, W]`` in [0, 1] as lines of text, two characters a pixel."""
    top = len(_GREY_LEVELS) - 1
    levels = np.rint(np.clip(image, 0, 1) * top).astype(int)
    return "\n".join("".join(2 * _GREY_LEVELS[level] for level in row) for row in levels)
