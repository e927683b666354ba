"""What ``dnicomm eval`` shows of a world: lines of text, or a moving picture in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.errors import UserError, nearest
from dnicomm.runs.atomic import replacing
from dnicomm.sim.onlooking import Sight

FPS = 4  # world time a second
KEYS = ("render", "video", "world")


@dataclass(frozen=True)
class Render:
    """What is to be shown.

    Args:
        video: a file for a moving picture; None: text is printed.
        world: which one.
    """

    video: Path | None = None
    world: int = 0


def wanted(words: Sequence[str]) -> Render | None:
    """What ``KEY=VALUE`` words ask for; None: nothing.

    Raises:
        UserError: there is no such key, or its value is wrong.
    """
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"{word}: there is no such key.{nearest(key, KEYS)}")
        if key in values:
            raise UserError(f"{word}: {key} is there twice")
        values[key] = value
    render = values.get("render", "true" if "video" in values else "false")
    if render not in ("true", "false"):
        raise UserError(f"render={render}: must be true or false")
    if render == "false":
        for key in ("video", "world"):
            if key in values:
                raise UserError(f"{key}={values[key]}: there is nothing to show; add render=true")
        return None
    number = values.get("world", "0")
    if not number.isdecimal():
        raise UserError(f"world={number}: must be a whole number of at least 0")
    video = Path(values["video"]) if "video" in values else None
    if video is not None and video.suffix.lower() != ".gif":
        raise UserError(f"video={video}: must end in .gif")
    if video is not None and not video.absolute().parent.is_dir():
        raise UserError(f"video={video}: there is no folder {video.absolute().parent}")
    if video is not None and video.is_dir():
        raise UserError(f"video={video}: is a folder")
    return Render(video, int(number))


class Film:
    """An onlooker who keeps a picture of each time.

    Raises:
        UserError: when it is shown an environment without pictures.
    """

    def __init__(self) -> None:
        self.frames: list[NDArray[np.uint8]] = []

    def __call__(self, sight: Sight) -> None:
        picture = sight.picture()
        if picture is None:
            raise UserError(
                f"video: a {type(sight.world).__name__} has no picture (World.draw); "
                "render=true alone prints what there is"
            )
        self.frames.append(picture)

    def write(self, path: Path) -> None:
        """Write a GIF of a frame for each time, which begins anew a second after its end."""
        from PIL import Image

        # the few pixels of a small dot keep their colour
        images = [
            Image.fromarray(frame).quantize(
                256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            )
            for frame in self.frames
        ]
        pauses = [round(1000 / FPS)] * (len(images) - 1) + [1000 + round(1000 / FPS)]
        with replacing(path) as temporary:
            images[0].save(
                temporary, "GIF", save_all=True, append_images=images[1:], duration=pauses, loop=0
            )


def told(film: Film, path: Path) -> str:
    """What has been written."""
    height, width, _ = film.frames[0].shape
    size = path.stat().st_size / 1e6
    return f"{path}: {len(film.frames)} frames of {width} x {height}, {size:.1f} MB"


def prints(sight: Sight) -> None:
    """An onlooker for whom each time is printed."""
    print(sight.text(), flush=True)


def onlooker(render: Render | None) -> tuple[Any, Film | None]:
    """Who looks on, and the film if there is to be one."""
    if render is None:
        return None, None
    film = Film() if render.video is not None else None
    return film or prints, film
