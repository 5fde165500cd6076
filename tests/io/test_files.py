import os
import stat
from pathlib import Path

import pytest

from triode.io.files import atomic_path, atomic_write, check_target


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_appears_whole(tmp_path):
    target = tmp_path / "a.tri"
    with atomic_write(target) as file:
        file.write(b"half")
        assert not target.exists()
        assert [name.startswith(".a.") and name.endswith(".tri") for name in listing(tmp_path)] == [True]
        file.write(b"done")
    assert target.read_bytes() == b"halfdone"
    assert listing(tmp_path) == ["a.tri"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_nothing_is_left_of_a_failure(tmp_path, error, before):
    target = tmp_path / "a.tri"
    if before is not None:
        target.write_bytes(before)

    def fail():
        with atomic_write(target, overwrite=True) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert listing(tmp_path) == ([] if before is None else ["a.tri"])
    if before is not None:
        assert target.read_bytes() == before


def test_a_writer_that_makes_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.tri"):
        assert listing(tmp_path) == []
    assert listing(tmp_path) == []


def test_overwrite_is_asked_for(tmp_path):
    target = tmp_path / "a.tri"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError) as caught, atomic_write(target):
        pytest.fail("the block must not run")
    assert caught.value.filename == str(target)
    with atomic_write(target, overwrite=True) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"
    assert listing(tmp_path) == ["a.tri"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    if not links:

        def refuse(self, target):
            raise PermissionError("this file system has no hard links")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "a.tri"
    with pytest.raises(FileExistsError), atomic_write(target):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert listing(tmp_path) == ["a.tri"]


def test_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", lambda self, target: (_ for _ in ()).throw(OSError("no links")))
    with atomic_write(tmp_path / "a.tri") as file:
        file.write(b"data")
    assert (tmp_path / "a.tri").read_bytes() == b"data"
    assert listing(tmp_path) == ["a.tri"]


def test_folders(tmp_path):
    with pytest.raises(IsADirectoryError):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "no" / "a.tri"):
        pass
    assert caught.value.filename == str(tmp_path / "no")
    check_target(tmp_path / "a.tri")


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.tri") as file:
            file.write(b"data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.tri").stat().st_mode) == 0o640


def test_links_are_followed(tmp_path):
    (tmp_path / "real.tri").write_bytes(b"old")
    (tmp_path / "link.tri").symlink_to("real.tri")
    with atomic_write(tmp_path / "link.tri", overwrite=True) as file:
        file.write(b"new")
    assert (tmp_path / "link.tri").is_symlink()
    assert (tmp_path / "real.tri").read_bytes() == b"new"


def test_devices_are_written_directly():
    with atomic_write(Path(os.devnull)) as file:
        file.write(b"data")
    assert Path(os.devnull).is_char_device()


def test_long_names(tmp_path):
    target = tmp_path / ("a" * 240 + ".tri")
    with atomic_write(target) as file:
        file.write(b"data")
    assert target.read_bytes() == b"data"
