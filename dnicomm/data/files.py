"""The files of a data set: found on disk, else downloaded once; their hashes are always checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pooch

from dnicomm.errors import UserError

VARIABLE = "DNICOMM_DATA"
GZIP = b"\x1f\x8b"  # what a gzipped file starts with, and no file of our data sets
PRINTED = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256"}


class Download(NamedTuple):
    """What is downloaded for a file: the file itself, gzipped or not, or a ``.tar.gz`` of files."""

    name: str  # the last part of its address
    hash: str  # of the bytes that travel: "md5:…"


class File(NamedTuple):
    """One file of a data set."""

    # of its uncompressed content, "md5:…", "sha1:…" or "sha256:…"; any of them will do. A copy that
    # somebody else compressed is other bytes than the download, but has this content
    contents: tuple[str, ...]
    download: Download


class Found(NamedTuple):
    """What a file holds."""

    content: bytes  # uncompressed
    hash: str  # the one of File.contents that it has


@dataclass(frozen=True)
class Collection:
    """The files of one data set, by name, and where they may be.

    Args:
        title: its name in messages.
        folder: its folder in ``$DNICOMM_DATA`` and in the cache.
        url: the address of its downloads, with the last slash.
        files: each file by its name when it is not compressed.
        other_folders: further folders in ``$DNICOMM_DATA``, looked into last: the name that an
            archive gives to its folder, say.
    """

    title: str
    folder: str
    url: str
    files: Mapping[str, File]
    other_folders: tuple[str, ...] = ()

    def cache(self) -> Path:
        """Where this data set's downloads are kept."""
        return cache_root() / self.folder

    def find(self, name: str) -> Path | None:
        """The first copy on this machine of the file ``name``, gzipped or not.

        Raises:
            UserError: ``DNICOMM_DATA`` is set, but is no folder.
        """
        folders = [self.cache()]
        if setting := os.environ.get(VARIABLE):
            root = Path(setting).expanduser()
            if not root.is_dir():
                raise UserError(f"{VARIABLE} is set to {setting}, which is not a folder.")
            others = (root / other for other in self.other_folders)
            folders = [root / self.folder, root, *others, *folders]
        candidates = (folder / (name + suffix) for folder in folders for suffix in (".gz", ""))
        return next((path for path in candidates if path.is_file()), None)

    def read(self, name: str) -> Found:
        """The content of the file ``name``, which is downloaded where it is not on this machine.

        Raises:
            UserError: ``DNICOMM_DATA`` is no folder; the file is truncated or is another file; it
                is neither here nor can be downloaded.
        """
        path = self.find(name) or self._download(name)
        try:
            content = path.read_bytes()
            if content.startswith(GZIP):
                content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(
                f"{path} cannot be read ({error}): it is truncated or damaged. "
                "Replace or delete it."
            ) from error
        accepted = self.files[name].contents
        for expected in accepted:
            if _hash_like(expected, content) == expected:
                return Found(content, expected)
        algorithm, _, expected = accepted[0].partition(":")
        found = _hash_like(accepted[0], content).partition(":")[2]
        raise UserError(
            f"{path} is truncated, damaged or not {self.title}'s {name}: the {PRINTED[algorithm]} "
            f"of its uncompressed content is {found}, expected {expected}. Replace or delete it."
        )

    def _download(self, name: str) -> Path:
        download = self.files[name].download
        try:
            if download.name.endswith(".tar.gz"):
                self._download_archive(download)
                return self.cache() / name
            # pooch downloads to a temporary name and renames it once the hash is right
            return self._retrieve(download, self.cache())
        except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
            raise UserError(
                f"{self.title}'s {name} is not on this machine, and {self.url}{download.name} "
                f"could not be downloaded to {self.cache()} ({' '.join(str(error).split())}). "
                f"Put the files {', '.join(self.files)} (gzipped or not) into a folder and set "
                f"{VARIABLE} to it."
            ) from error

    def _retrieve(self, download: Download, folder: Path) -> Path:
        url = self.url + download.name
        return Path(pooch.retrieve(url, download.hash, fname=download.name, path=folder))

    def _download_archive(self, download: Download) -> None:
        """Unpacks all files of this data set that come in this archive into the cache."""
        wanted = {name for name, file in self.files.items() if file.download == download}
        self.cache().mkdir(parents=True, exist_ok=True)
        # beside the files' own place, so that a finished one is only renamed: none is ever seen
        # half-written, and whatever goes wrong, the archive and what came of it are gone
        with tempfile.TemporaryDirectory(dir=self.cache(), prefix="unpacking-") as temporary:
            archive = self._retrieve(download, Path(temporary))
            unpacked = Path(temporary) / "files"
            unpacked.mkdir()
            _unpack(archive, wanted, unpacked)
            for name in wanted:
                (unpacked / name).replace(self.cache() / name)


def cache_root() -> Path:
    """Where downloads are kept: the platform's own folder for caches."""
    return Path(pooch.os_cache("dnicomm"))


def _unpack(archive: Path, wanted: set[str], folder: Path) -> None:
    """Copies the files ``wanted`` from anywhere in a tar archive to ``folder``, and nothing else.

    Raises:
        ValueError: the archive lacks one of them.
    """
    missing = set(wanted)
    with tarfile.open(archive) as tar:
        for member in tar:
            # the name of the copy is one that we asked for: no path of the archive's own is used
            name = PurePosixPath(member.name).name
            content = tar.extractfile(member) if name in missing and member.isreg() else None
            if content is None:
                continue
            with content, (folder / name).open("wb") as copy:
                shutil.copyfileobj(content, copy)
            missing.discard(name)
    if missing:
        raise ValueError(f"the archive lacks {', '.join(sorted(missing))}")


def _hash_like(example: str, content: bytes) -> str:
    """The hash of ``content`` in the form and by the algorithm of ``example``."""
    algorithm = example.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"
