"""Files are found, or downloaded once; what is damaged or absent is said in one line."""

import gzip
import io
import tarfile
import types

import pytest

from dnicomm.data import files
from dnicomm.errors import UserError

CONTENTS = {"first.bin": b"one file", "second.bin": bytes(range(200))}


@pytest.fixture
def tiny(standin):
    module = types.SimpleNamespace(
        ANY=files.Collection("Any set", "any", "", {}, other_folders=("from-archive",))
    )
    return standin(module, "ANY", CONTENTS)


def _check(tiny):
    assert {name: tiny.collection.read(name).content for name in CONTENTS} == CONTENTS


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data/any", "data", "data/from-archive", "cache/any"])
def test_files_are_found(tiny, tmp_path, monkeypatch, place, suffix):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "data"))
    tiny.write(tmp_path / place, suffix)
    _check(tiny)


def test_the_users_folder_comes_before_the_cache(tiny, tmp_path, monkeypatch):
    places = ["data/any", "data", "data/from-archive", "cache/any"]
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "data"))
    for place in places:
        tiny.write(tmp_path / place)
    for place in places:
        path = tmp_path / place / "first.bin"
        assert tiny.collection.find("first.bin") == path
        path.unlink()
    assert tiny.collection.find("first.bin") is None


def test_a_file_compressed_by_somebody_else_is_the_same_file(tiny, cache):
    tiny.write(cache / "any", ".gz")
    path = cache / "any" / "second.bin.gz"
    path.write_bytes(gzip.compress(CONTENTS["second.bin"], 1, mtime=7))
    _check(tiny)


def test_setting_that_is_no_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "typo"))
    with pytest.raises(UserError, match=r"DNICOMM_DATA is set to .*typo, which is not a folder"):
        tiny.collection.read("first.bin")


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        ("", lambda data: data[:-1]),
        ("", lambda data: data[:-1] + b"\x07"),
        ("", lambda data: b""),
        (".gz", lambda data: data[:-9]),
        (".gz", lambda data: data[:15] + b"\xff\xff\xff" + data[18:]),
        (".gz", lambda data: data[:2]),
        (".gz", lambda data: b"<html>not found</html>"),
        (".gz", lambda data: gzip.compress(b"another file")),
    ],
    ids=["short", "changed", "empty", "gz short", "gz changed", "gz mark", "html", "another"],
)
def test_a_damaged_file_is_named(tiny, cache, suffix, spoil):
    tiny.write(cache / "any", suffix)
    path = cache / "any" / f"second.bin{suffix}"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"truncated.*Replace or delete it") as caught:
        tiny.collection.read("second.bin")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "printed", "starts"),  # what md5sum and its like say of the first file
    [
        ("md5", "MD5", "45df2a09e924431b"),
        ("sha1", "SHA-1", "b0e1a631d6805c7f"),
        ("sha256", "SHA-256", "5a62d4db4ce377b0"),
    ],
)
def test_wrong_hash_says_which(tiny, cache, algorithm, printed, starts):
    tiny.write(cache / "any")
    wrong = files.File((f"{algorithm}:00",), files.Download("", ""))
    tiny.change(files={"first.bin": wrong})
    says = f"not Any set's first.bin: the {printed} of its .* is {starts}[0-9a-f]*, expected 00"
    with pytest.raises(UserError, match=says):
        tiny.collection.read("first.bin")


def test_any_of_several_contents_will_do_and_is_told(tiny, cache):
    tiny.write(cache / "any")
    right = tiny.collection.files["first.bin"].contents[0]
    accepted = ("sha1:00", right)
    tiny.change(files={"first.bin": files.File(accepted, files.Download("", ""))})
    assert tiny.collection.read("first.bin").hash == right


def test_absent_without_a_network(tiny, cache):
    with pytest.raises(UserError, match=r"could not be downloaded.*set DNICOMM_DATA") as caught:
        tiny.collection.read("first.bin")
    assert "\n" not in str(caught.value)
    assert "first.bin, second.bin (gzipped or not)" in str(caught.value)
    assert list((cache / "any").iterdir()) == []


def test_download_once(tiny, site, cache):
    folder, url = site
    tiny.change(url=url)
    tiny.write(folder, ".gz")
    _check(tiny)
    for path in folder.iterdir():
        path.unlink()
    _check(tiny)  # from the cache
    assert {path.name for path in (cache / "any").iterdir()} == {f"{f}.gz" for f in CONTENTS}


def test_wrong_download_leaves_nothing(tiny, site, cache):
    folder, url = site
    tiny.change(url=url)
    (folder / "first.bin.gz").write_bytes(b"another file")
    with pytest.raises(UserError, match="could not be downloaded"):
        tiny.collection.read("first.bin")
    assert list((cache / "any").iterdir()) == []


class TestArchive:
    @staticmethod
    def _serve(tiny, site, members, spoil=lambda data: data):
        """Serves an archive of these members (name: content, or the target of a link)."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                if isinstance(content, str):
                    member.type, member.linkname = tarfile.SYMTYPE, content
                    tar.addfile(member)
                else:
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        (site[0] / "all.tar.gz").write_bytes(archive := spoil(data.getvalue()))
        download = files.Download("all.tar.gz", f"md5:{files._hash_like('md5:', archive)[4:]}")
        described = {
            name: file._replace(download=download) for name, file in tiny.collection.files.items()
        }
        tiny.change(files=described, url=site[1])

    @staticmethod
    def _names(folder):
        return {path.name for path in folder.rglob("*")}

    def test_one_download_brings_all_files(self, tiny, site, cache):
        self._serve(tiny, site, {f"from-archive/{n}": c for n, c in CONTENTS.items()})
        tiny.collection.read("first.bin")
        (site[0] / "all.tar.gz").unlink()
        _check(tiny)
        assert self._names(cache / "any") == set(CONTENTS)  # and no archive

    def test_nothing_else_is_unpacked_and_nothing_elsewhere(self, tiny, site, cache, tmp_path):
        members = {
            "../../escaped.bin": b"!",
            "readme.html": b"!",
            "links/first.bin": "/etc/hostname",
            "../../../first.bin": CONTENTS["first.bin"],
            "/second.bin": CONTENTS["second.bin"],
        }
        self._serve(tiny, site, members)
        _check(tiny)
        assert self._names(tmp_path) == {"site", "all.tar.gz", "cache", "any", *CONTENTS}
        assert not (cache / "any" / "first.bin").is_symlink()

    def test_without_a_network(self, tiny, site, cache):
        self._serve(tiny, site, CONTENTS)
        tiny.change(url="http://127.0.0.1:1/")
        with pytest.raises(UserError, match=r"could not be downloaded.*set DNICOMM_DATA"):
            tiny.collection.read("first.bin")
        assert self._names(cache / "any") == set()

    def test_another_archive_than_expected(self, tiny, site, cache):
        self._serve(tiny, site, CONTENTS)
        (site[0] / "all.tar.gz").write_bytes(b"another archive")
        with pytest.raises(UserError, match="could not be downloaded"):
            tiny.collection.read("first.bin")
        assert self._names(cache / "any") == set()

    @pytest.mark.parametrize(
        ("members", "spoil", "says"),
        [
            ({"first.bin": CONTENTS["first.bin"]}, lambda data: data, "lacks second.bin"),
            (CONTENTS, lambda data: data[: len(data) // 2], "could not be downloaded"),
            (CONTENTS, lambda data: b"<html>not found</html>", "could not be downloaded"),
        ],
        ids=["lacks a file", "short", "html"],
    )
    def test_an_archive_that_cannot_be_unpacked(self, tiny, site, cache, members, spoil, says):
        self._serve(tiny, site, members, spoil)  # with the hash of what is served
        with pytest.raises(UserError, match=says) as caught:
            tiny.collection.read("first.bin")
        assert "\n" not in str(caught.value)
        assert self._names(cache / "any") == set()
