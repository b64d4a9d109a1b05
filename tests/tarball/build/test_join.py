"""A tarball of several parts: as they are compressed, and each path once."""

from __future__ import annotations

import subprocess

import pytest

from tasks.tarball.build import archive
from tasks.tarball.build.join import PathTwice, TarballPart, join
from tasks.tarball.build.tar import FILE, Damaged, TarEntry, of_folder
from tests.tarball.build.test_archive import content, empty, tree


def part(tmp_path, name, files, over=(), links=()):
    folder = tree(empty(tmp_path / name), files)
    for link, target in dict(links).items():
        (folder / link).symlink_to(target)
    packed = archive.pack(of_folder(folder), folder.with_suffix(".zst"))
    share = archive.Share(files=packed.files, content_size=packed.content_size)
    return TarballPart(
        name=name,
        path=folder.with_suffix(".zst"),
        digest=packed.digest,
        share=share,
        over=frozenset([*over, "application"]),
    )


def joined(tmp_path, *parts):
    """Digest and counts, and what tar and zstd themselves make of it; with the names that they find in it."""
    path = tmp_path / "joined.tar.zst"
    packed, shares = join(parts, path, "applications/tiny/profile.yml")
    target = empty(tmp_path / "target")
    subprocess.run(["tar", "--zstd", "-xpf", path], cwd=target, check=True)
    listed = subprocess.run(["tar", "--zstd", "-tf", path], capture_output=True, text=True, check=True).stdout
    names = [each for each in listed.splitlines() if not each.endswith("/")]
    assert len(names) == len(set(names)), "a path is in it twice"
    files = {name: told for name, (told, _) in content(target).items() if isinstance(told, str)}
    assert (packed.files, packed.content_size) == (
        sum(each.files for each in shares.values()),
        sum(each.content_size for each in shares.values()),
    )
    return packed, {name: each.files for name, each in shares.items()}, files


@pytest.mark.promise("tarball-is-joined", "tarball-is-named-by-its-sha-256")
def test_a_tarball_has_what_its_parts_have_as_they_are_compressed(tmp_path):
    big = {f"vendor/{each}": f"{each}" * 9999 for each in range(300)}
    vendor = part(tmp_path, "vendor", big | {"vendor/none": "", "bin/do": "do"})
    application = part(tmp_path, "application", {"index": "i", "vendor.md": "", "bin/other": "o"})
    packed, files, found = joined(tmp_path, vendor, application)
    assert found == big | {"vendor/none": "", "bin/do": "do", "index": "i", "vendor.md": "", "bin/other": "o"}
    assert files == {"vendor": 302, "application": 3}
    path = tmp_path / "joined.tar.zst"
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout
    assert (printed.split()[0], path.stat().st_size) == (packed.digest, packed.size)
    frame = vendor.path.read_bytes().partition(archive.end_frame())[0]
    assert path.read_bytes().startswith(frame)


@pytest.mark.promise("the-upper-layer-counts")
def test_what_is_over_another_part_replaces_its_files(tmp_path):
    static = part(tmp_path, "static", {"pub/s": "s", "lib/a": "new", "lib/b": ""}, over=["vendor"])
    vendor = part(tmp_path, "vendor", {"lib/a": "old", "lib/b": "b", "bin/x": "vendor's"})
    application = part(tmp_path, "application", {"bin/x": "ours", "lib/a": "oldest", "README": "r"})
    _, files, found = joined(tmp_path, static, vendor, application)
    assert found == {"pub/s": "s", "lib/a": "new", "lib/b": "", "bin/x": "vendor's", "README": "r"}
    assert files == {"static": 3, "vendor": 1, "application": 1}


@pytest.mark.promise("the-upper-layer-counts")
@pytest.mark.parametrize("upper", ["a link", "a file", "a folder"])
def test_nothing_of_one_part_lands_behind_the_link_or_file_of_another(tmp_path, upper):
    files = {"a link": {}, "a file": {"a": "file"}, "a folder": {"a/z": "z"}}[upper]
    one = part(tmp_path, "one", files, over=["two"], links={"a": "b"} if upper == "a link" else {})
    below = {"a": "file"} if upper == "a folder" else {"a/x": "x", "a/y/z": "z"}
    two = part(tmp_path, "two", below | {"b/y": "y", "a-b": "-"})
    _, counted, found = joined(tmp_path, one, two)
    kept = {"a link": {"a": "b"}, "a file": {"a": "file"}, "a folder": {"a/z": "z"}}[upper]
    assert found == kept | {"b/y": "y", "a-b": "-"}
    assert counted["two"] == 2


@pytest.mark.promise("a-path-of-two-layers-is-refused")
def test_the_same_path_of_two_layers_side_by_side_is_refused_unless_it_is_the_same(tmp_path):
    one = part(tmp_path, "one", {"out/same": "same", "out/one": "1"}, over=["below"])
    two = part(tmp_path, "two", {"out/same": "same", "out/two": "2"}, over=["below"])
    _, files, found = joined(tmp_path, one, two)
    assert (files, found) == ({"one": 2, "two": 1}, {"out/same": "same", "out/one": "1", "out/two": "2"})
    for name, other in {"content": {"out/same": "other"}, "below a file": {"out/same/x": ""}}.items():
        another = part(tmp_path, name, other)
        told = rf"tarball: out/same is made by one and, with other content, by {name}\n    \$EDITOR appl"
        with pytest.raises(PathTwice, match=told):
            join([one, another], tmp_path / "refused", "applications/tiny/profile.yml")
    mode = part(tmp_path, "mode", {"out/same": "same"})
    (tmp_path / "mode" / "out" / "same").chmod(0o755)
    packed = archive.pack(of_folder(tmp_path / "mode"), mode.path)
    with pytest.raises(PathTwice):
        join([one, TarballPart(**{**vars(mode), "digest": packed.digest})], tmp_path / "refused", "")


@pytest.mark.promise("a-path-of-two-layers-is-refused")
def test_a_stamp_behind_the_link_of_a_layer_is_refused(tmp_path):
    stamps = part(tmp_path, "stamps", {}, over=["vendor"])
    stamp = TarEntry(name="a/version", kind=FILE, size=1, content=iter([b"1"]))
    packed = archive.pack([stamp], stamps.path)
    stamps = TarballPart(**{**vars(stamps), "digest": packed.digest})
    vendor = part(tmp_path, "vendor", {"b/x": ""}, links={"a": "b"})
    with pytest.raises(PathTwice, match="a/version is made by vendor"):
        join([stamps, vendor], tmp_path / "refused", "")


@pytest.mark.promise("damaged-archive-is-not-used")
def test_a_part_that_is_damaged_is_not_joined(tmp_path):
    good = part(tmp_path, "good", {f"{each}": f"{each}" * 999 for each in range(99)})
    whole = good.path.read_bytes()
    for bad in (
        b"",
        b"xx",
        whole[:-1],
        whole[:9] + b"x" + whole[10:],
        whole[:-4] + b"\xff\xff\xff\xff",
        whole + whole,
    ):
        good.path.write_bytes(bad)
        with pytest.raises(Damaged):
            join([good], tmp_path / "t", "")


def test_an_entry_of_any_name_is_found_again(tmp_path):
    names = ["a\nb", "a\udcff", "größe", "x" * 300]
    archive.pack([TarEntry(name=each, kind=b"0") for each in names], tmp_path / "t")
    assert archive.named(tmp_path / "t") == names
