import os
from pathlib import Path

import pytest

from triode.cli.common import UsageError
from triode.cli.targets import plan


def targets(*inputs, output=None, output_dir=None, recursive=False):
    jobs = plan(
        inputs,
        output=output,
        output_dir=output_dir,
        recursive=recursive,
        rename=lambda path: path.with_suffix(".tri"),
        wanted=lambda path: path.suffix == ".png",
    )
    return {job.source: job.target for job in jobs}


@pytest.fixture
def tree(folder):
    for name in ("in/b.png", "in/a.png", "in/sub/deep/c.png", "in/note.txt", "other/a.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_names(folder):
    assert targets("a.png", "d/b.tar.png", "noext") == {
        "a.png": "a.tri",
        "d/b.tar.png": "d/b.tar.tri",
        "noext": "noext.tri",
    }
    assert targets("a.png", output="x/y.z") == {"a.png": "x/y.z"}
    assert targets("a.png", output="-") == {"a.png": "-"}
    assert targets("-") == {"-": "-"}
    assert targets("-", output="a.tri") == {"-": "a.tri"}
    assert targets("d/a.png", "-", output_dir=None) == {"d/a.png": "d/a.tri", "-": "-"}


def test_output_dir(folder):
    assert targets("d/a.png", "b.png", output_dir="out") == {"d/a.png": "out/a.tri", "b.png": "out/b.tri"}
    (folder / "file").touch()
    with pytest.raises(UsageError, match="--output-dir file is not a folder"):
        targets("a.png", output_dir="file")


def test_tree_is_mirrored_in_order(tree):
    found = targets("in", recursive=True, output_dir="out")
    assert found == {
        "in/a.png": "out/a.tri",
        "in/b.png": "out/b.tri",
        "in/sub/deep/c.png": "out/sub/deep/c.tri",
    }
    assert list(found) == sorted(found)
    assert targets("in/sub", recursive=True) == {"in/sub/deep/c.png": "in/sub/deep/c.tri"}


def test_links_to_folders_are_not_followed(tree):
    (tree / "in" / "loop").symlink_to("..")
    assert len(targets("in", recursive=True)) == 3


def test_folders_need_r(tree):
    with pytest.raises(UsageError, match="in is a folder; -r"):
        targets("in")
    (tree / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing to work on in the folder empty"):
        targets("empty", recursive=True)


@pytest.mark.parametrize(
    "inputs", [("in", "other"), ("in/a.png", "other/a.png"), ("in/a.png", "in/../in/a.png"), ("in/b.png", "in/b.jpg")]
)
def test_collisions(tree, inputs):
    with pytest.raises(UsageError, match="have the same output out"):
        targets(*inputs, recursive=True, output_dir="out")


def test_an_output_is_never_an_input(tree):
    with pytest.raises(UsageError, match="is an input itself"):
        targets("a.tri")
    with pytest.raises(UsageError, match="is an input itself"):
        targets("in/a.png", output="in/../in/a.png")
    with pytest.raises(UsageError, match="is an input itself"):
        targets("in/a.png", "in/a.tri")
    os.link("in/a.png", "in/a.tri")
    with pytest.raises(UsageError, match="is an input itself"):
        targets("in/a.png")
    (tree / "link.tri").symlink_to("in/b.png")
    with pytest.raises(UsageError, match="is an input itself"):
        targets("in/b.png", output="link.tri")


def test_one_output(tree):
    with pytest.raises(UsageError, match="there are 2 inputs"):
        targets("in/a.png", "in/b.png", output="x.tri")
    with pytest.raises(UsageError, match="other is a folder; use --output-dir"):
        targets("in/a.png", output="other")
    with pytest.raises(UsageError, match="--output-dir"):
        targets("other", output="x.tri", recursive=True)


def test_standard_input(folder):
    with pytest.raises(UsageError, match="given twice"):
        targets("-", "-")
    with pytest.raises(UsageError, match="has no name"):
        targets("-", output_dir="out")


def test_claim_makes_the_folder_of_output_dir_only(folder):
    [job] = plan(["a.png"], output=None, output_dir="x/y", recursive=False, rename=lambda p: p, wanted=lambda p: True)
    job.claim(overwrite=False)
    assert Path("x/y").is_dir()
    [job] = plan(["a.png"], output="z/a", output_dir=None, recursive=False, rename=lambda p: p, wanted=lambda p: True)
    with pytest.raises(FileNotFoundError):
        job.claim(overwrite=False)
    assert not Path("z").exists()
