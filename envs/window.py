"""The window in which ``render_mode="human"`` shows an environment."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Window:
    """A picture on the screen, through Tk.

    Raises:
        OSError: there is no Tk, or no display for it.
    """

    def __init__(self, title: str, fps: int) -> None:
        try:
            import tkinter

            from PIL import ImageTk

            self._root = tkinter.Tk()
        except ImportError as error:
            raise OSError(f"Tk is not installed ({error})") from error
        except tkinter.TclError as error:
            raise OSError(str(error)) from error
        self._closed = tkinter.TclError
        self._photo: Any = ImageTk.PhotoImage
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._pause, self._due = 1 / fps, 0.0

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show ``[H, W, 3]``, as many a second as it was told at most."""
        time.sleep(max(self._due - time.monotonic(), 0))
        self._due = time.monotonic() + self._pause
        with contextlib.suppress(self._closed):  # whoever looked on may have closed it
            photo = self._photo(Image.fromarray(picture), master=self._root)
            self._label.configure(image=photo)
            self._label.image = photo  # type: ignore[attr-defined]  # Tk keeps none itself
            self._root.update()

    def close(self) -> None:
        with contextlib.suppress(self._closed):
            self._root.destroy()


def open_window(title: str, fps: int) -> Window | None:
    """A window; None, and a line that says why, where there can be none."""
    try:
        return Window(title, fps)
    except OSError as error:
        print(f"{title}: no window ({error}); printing text instead", file=sys.stderr)
        return None
