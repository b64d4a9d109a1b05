"""The tarball's bytes: the same for the same content, and nothing in them that a server must not unpack."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile

import pytest
import zstandard

from tasks.process.children import CommandFailed
from tasks.tarball.build import archive
from tasks.tarball.build.tar import FILE, FOLDER, LINK, Damaged, TarEntry, UnsafeFile, of_folder
from tests.conftest import ROOT


def tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def empty(folder):
    folder.mkdir()
    return folder


def pack(folder, **choice):
    target = folder.parent / f"{folder.name}.zst"
    return archive.pack(of_folder(folder, **choice), target), target


def plain(packed):
    """The tar that is in an archive, whatever its frames."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True).read()


def entries(path):
    with tarfile.open(fileobj=io.BytesIO(plain(path.read_bytes()))) as packed:
        return {each.name: each for each in packed}


def content(folder):
    return {
        path.relative_to(folder).as_posix(): (
            str(path.readlink()) if path.is_symlink() else path.is_file() and path.read_text(),
            oct(path.lstat().st_mode),
        )
        for path in sorted(folder.rglob("*"))
    }


def hostile(*wanted):
    """An archive that `pack` would not make: names, kinds and targets as they are given."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, kind, target in wanted:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            made.addfile(info)
    return zstandard.compress(raw.getvalue())


@pytest.mark.promise("members-are-uniform", "setuid-is-dropped")
def test_order_times_modes_owner_and_umask_leave_no_trace(tmp_path):
    one = tree(tmp_path / "one", {"b/x": "1", "a": "2", "c.sh": "3"})
    two = tree(tmp_path / "two", {"c.sh": "3", "a": "2", "b/x": "1"})
    (one / "c.sh").chmod(0o755)
    (two / "c.sh").chmod(0o700)
    (two / "a").chmod(0o600)
    os.utime(two / "a", (1, 1))
    os.chown(two / "a", 12, 13)
    (first, path), (second, _) = (pack(each) for each in (one, two))
    assert first == second
    assert {n: (oct(m.mode), m.uid, m.uname) for n, m in entries(path).items()} == {
        "a": ("0o644", 0, "root"),
        "b": ("0o755", 0, "root"),
        "b/x": ("0o644", 0, "root"),
        "c.sh": ("0o755", 0, "root"),
    }


PACK = """
import os, pathlib, sys
import zstandard  # before the user changes: later the library is not readable
from tasks.tarball.build import archive, tar
os.umask(int(sys.argv[4], 8))
if sys.argv[3] != "0":
    os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[3]))
source, target = map(pathlib.Path, sys.argv[1:3])
os.cpu_count = lambda: int(sys.argv[5])
archive.pack(tar.of_folder(source), target)
"""


@pytest.mark.promise("cores-change-no-byte")
def test_another_path_user_umask_time_zone_locale_and_number_of_cores_give_the_same_bytes(tmp_path):
    files = {f"größe/{each}.txt": str(each) * 9999 for each in range(300)} | {"ÿ": "", "z/\U0001f33f": "x"}
    for folder in (tmp_path, *tmp_path.parents):  # another user must reach the folder
        if folder.stat().st_mode & 0o005 == 0o005:
            break
        folder.chmod(0o755)
    for name, user, umask, cores, environ in (
        ("one", "0", "022", "1", {"LC_ALL": "C.UTF-8", "TZ": "UTC"}),
        (
            "a/b",
            "0" if os.getuid() else "12345",
            "077",
            "7",
            {"LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"},
        ),
    ):
        folder = tree(tmp_path / name, dict(sorted(files.items(), reverse=name == "one")))
        (folder / os.fsdecode(b"not-\xff-text")).write_text("bytes")
        made = tmp_path / f"made-on-{cores}"
        made.mkdir()
        made.chmod(0o777)
        subprocess.run(
            [sys.executable, "-c", PACK, folder, made / "t.zst", user, umask, cores],
            env={"PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0", **environ},
            check=True,
        )
    assert (tmp_path / "made-on-1" / "t.zst").read_bytes() == (tmp_path / "made-on-7" / "t.zst").read_bytes()


@pytest.mark.promise("tarball-is-named-by-its-sha-256")
def test_the_digest_is_that_of_the_file(tmp_path):
    packed, path = pack(tree(tmp_path / "t", {"a": "x"}))
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout
    assert printed.split()[0] == packed.digest
    assert packed.size == path.stat().st_size
    assert (packed.files, packed.content_size) == (1, 1)


def test_what_is_excluded_is_left_out_with_everything_below_it(tmp_path):
    folder = tree(tmp_path / "t", {"var/log/x": "", "variable": "", "app/env.php": "", "app/config.php": ""})
    _, path = pack(folder, exclude=("var", "app/env.php"))
    assert sorted(entries(path)) == ["app", "app/config.php", "variable"]


def test_only_the_wanted_paths_are_packed_with_the_folders_that_lead_to_them(tmp_path):
    folder = tree(tmp_path / "t", {"pub/static/a/x": "", "pub/static/b": "", "pub/index": "", "bin/do": ""})
    _, path = pack(folder, only=("pub/static/a", "bin/do"))
    assert sorted(entries(path)) == ["bin", "bin/do", "pub", "pub/static", "pub/static/a", "pub/static/a/x"]


def test_links_inside_stay_links(tmp_path):
    folder = tree(tmp_path / "t", {"a/b": "x"})
    (folder / "a" / "link").symlink_to("../a/b")
    (folder / "folder").symlink_to("a")
    found = entries(pack(folder)[1])
    assert (found["a/link"].linkname, found["folder"].linkname) == ("../a/b", "a")
    assert "folder/b" not in found


LINKS = [
    ("/etc/passwd", "absolute link"),
    ("../../x", "leaves the application"),
    ("up/../../x", "leaves the application"),  # where `up` is a link to .., this is outside
]


@pytest.mark.parametrize(("target", "problem"), LINKS)
@pytest.mark.promise("unsafe-members-are-refused")
def test_a_link_to_elsewhere_is_refused(tmp_path, target, problem):
    folder = tree(tmp_path / "t", {"a/b": "x"})
    (folder / "a" / "link").symlink_to(target)
    with pytest.raises(UnsafeFile, match=problem):
        pack(folder)


@pytest.mark.promise("unsafe-members-are-refused", "setuid-is-dropped")
def test_a_pipe_is_refused_and_setuid_is_dropped(tmp_path):
    folder = tree(tmp_path / "t", {"a": "x"})
    (folder / "a").chmod(0o6755)
    assert entries(pack(folder)[1])["a"].mode == 0o755
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnsafeFile, match="pipe: is neither"):
        pack(folder)


@pytest.mark.promise("unsafe-members-are-refused")
def test_a_file_that_grows_while_it_is_packed_is_refused(tmp_path):
    files = of_folder(tree(tmp_path / "t", {"a": "x", "b": "y"}))

    def growing():
        for each in files:
            (tmp_path / "t" / each.name).write_text("much more")
            yield each

    with pytest.raises(UnsafeFile, match="a: changed while"):
        archive.pack(growing(), tmp_path / "t.zst")


@pytest.mark.promise("unpacking-writes-through-no-link")
def test_what_is_unpacked_is_what_was_packed_and_nothing_lay_there(tmp_path):
    long = "/".join(["a-long-name-of-a-folder"] * 8)
    folder = tree(tmp_path / "t", {"a/b": "x" * 3_000_000, "run.sh": "do", "leer": "", long: "deep"})
    (folder / "run.sh").chmod(0o755)
    (folder / "a" / "link").symlink_to("b")
    (folder / "folder").symlink_to("a")
    packed, path = pack(folder)
    target = empty(tmp_path / "target")
    umask = os.umask(0o077)
    with path.open("rb") as raw:
        archive.unpack(raw, target, digest=packed.digest)
    os.umask(umask)
    assert content(target) == content(folder)
    with path.open("rb") as raw, pytest.raises(FileExistsError):
        archive.unpack(raw, target, digest=packed.digest)


def test_who_is_to_own_what_is_unpacked_does(tmp_path):
    if os.geteuid():
        pytest.skip("only root can give files away")
    _, path = pack(tree(tmp_path / "t", {"a/b": "x", "u" * 101: "long"}))
    target = empty(tmp_path / "target")
    with path.open("rb") as raw:
        archive.unpack(raw, target, owner=65533)
    assert {(each.stat().st_uid, each.stat().st_gid) for each in target.rglob("*")} == {(65533, 65533)}


def test_what_a_full_disk_says_is_told_as_such(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        archive._refuse(2, "tar: a: Cannot write: No space left on device")
    with pytest.raises(CommandFailed, match="tar: exit code 2"):
        archive._refuse(2, "tar: a: Cannot open: Permission denied")


def test_folders_that_an_archive_does_not_name_are_made_as_all_are(tmp_path):
    target = empty(tmp_path / "target")
    files = [TarEntry(name=name, kind=FILE) for name in ("a/b/x", "a/b/y", "a/c/x")]
    archive.pack(files, tmp_path / "t.zst")
    umask = os.umask(0o077)
    with (tmp_path / "t.zst").open("rb") as raw:
        archive.unpack(raw, target)
    os.umask(umask)
    assert sorted(content(target)) == ["a", "a/b", "a/b/x", "a/b/y", "a/c", "a/c/x"]
    assert {each.stat().st_mode & 0o777 for each in (target / "a", target / "a" / "c")} == {0o755}


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a"), ("a/x", "a"), ("a-b/x", "a/x")])
@pytest.mark.promise("unpacking-writes-through-no-link")
def test_an_archive_whose_entries_are_in_another_order_than_ours_is_damaged(tmp_path, names):
    target = empty(tmp_path / "target")
    with pytest.raises(Damaged, match="is not in its place"):
        archive.unpack(io.BytesIO(hostile(*((name, tarfile.REGTYPE, "") for name in names))), target)


@pytest.mark.promise("damaged-archive-is-not-used")
def test_an_archive_that_is_truncated_or_changed_is_damaged(tmp_path):
    packed, path = pack(tree(tmp_path / "t", {f"{each}": os.urandom(2000).hex() for each in range(50)}))
    good = path.read_bytes()
    raw = plain(good)
    one_file = 512 + 4096
    for name, bad, digest in (
        ("empty", b"", ""),
        ("truncated", good[: len(good) // 2], ""),
        ("truncated at its end", good[:-1], packed.digest),
        ("without its last blocks", zstandard.compress(raw[:-1024]), ""),
        ("without its last file", zstandard.compress(raw[: -1024 - one_file]), ""),
        ("with something behind it", good + zstandard.compress(b"x"), ""),
        ("no archive", b"<html>", ""),
        ("another", zstandard.compress(b"x" * 1024), ""),
        ("a changed byte", good[:9000] + bytes([good[9000] ^ 1]) + good[9001:], packed.digest),
    ):
        target = tmp_path / name
        target.mkdir()
        with pytest.raises(Damaged):
            archive.unpack(io.BytesIO(bad), target, digest=digest)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ([("../x", tarfile.REGTYPE, "")], "path that leaves"),
        ([("/tmp/x", tarfile.REGTYPE, "")], "path that leaves"),
        ([("a/../../x", tarfile.REGTYPE, "")], "path that leaves"),
        ([("a", tarfile.SYMTYPE, "/etc")], "absolute link"),
        ([("a", tarfile.SYMTYPE, "..")], "leaves the application"),
        ([("a", tarfile.SYMTYPE, "b"), ("a/x", tarfile.REGTYPE, "")], "is a link, and there are files below"),
        ([("a", tarfile.LNKTYPE, "/etc/passwd")], "neither a file"),
        ([("a", tarfile.CHRTYPE, "")], "neither a file"),
        ([("a", tarfile.BLKTYPE, "")], "neither a file"),
        ([("a", tarfile.FIFOTYPE, "")], "neither a file"),
    ],
)
@pytest.mark.promise("unsafe-members-are-refused", "unpacking-writes-through-no-link")
def test_a_hostile_archive_is_refused(tmp_path, wanted, problem):
    (tmp_path / "target").mkdir()
    with pytest.raises(UnsafeFile, match=problem):
        archive.unpack(io.BytesIO(hostile(*wanted)), tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


MEASURE = """
import io, pathlib, resource, sys
from tasks.tarball.build import archive, tar
size = int(sys.argv[1])
kind = tar.FILE
files = (
    tar.TarEntry(name=f"{n // 100:05}/{n % 100:02}", kind=kind, size=20_000, content=iter([b"%020d" % n * 1000]))
    for n in range(size)
)
target = pathlib.Path(sys.argv[2])
archive.pack(files, target)
with target.open("rb") as raw:
    for each in tar.of_archive(raw):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.promise("memory-does-not-grow")
def test_ten_times_the_files_take_no_more_memory(tmp_path):
    small, large = (
        int(
            subprocess.run(
                [sys.executable, "-c", MEASURE, size, tmp_path / "t.zst"],
                env={"PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=True,
            ).stdout
        )
        for size in ("2000", "20000")
    )
    assert large < small * 1.1, (small, large)


@pytest.mark.parametrize(
    ("at", "field"),
    [(124, b"-0000000001"), (124, b"\xff" * 12), (124, b"many"), (100, b"none"), (148, b"000000")],
)
@pytest.mark.promise("damaged-archive-is-not-used")
def test_a_header_with_impossible_numbers_is_damage(tmp_path, at, field):
    header = bytearray(archive._header(TarEntry(name="a", kind=FILE), 1))
    header[at : at + len(field)] = field
    if at != 148:
        header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    with pytest.raises(Damaged, match="header"):
        archive.unpack(io.BytesIO(zstandard.compress(bytes(header) + bytes(1024))), tmp_path)


@pytest.mark.parametrize("kind", [FILE, FOLDER, LINK])
@pytest.mark.parametrize("name", ["a", "ü" * 50, "u" * 99, "u" * 100, "u" * 101])
@pytest.mark.parametrize("runs", [True, False])
def test_a_header_is_the_one_of_the_standard_library(name, kind, runs):
    entry = TarEntry(
        name=name, kind=kind, target="b" * (kind == LINK), size=5 * (kind == FILE), executable=runs
    )
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mtime = kind, entry.size, entry.target, 77
    info.mode = {FILE: 0o755 if runs else 0o644, FOLDER: 0o755 if runs else 0o644, LINK: 0o777}[kind]
    info.uname, info.gname = "root", "root"
    assert archive._header(entry, 77) == info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


@pytest.mark.promise("dates-come-from-the-content")
def test_a_file_of_another_content_has_another_date_and_the_same_content_the_same_one(tmp_path):
    large = "large" * 500_000
    one = entries(pack(tree(tmp_path / "one", {"a": "x", "b": "x", "large": large}))[1])
    two = entries(pack(tree(tmp_path / "two", {"a": "y", "c": "x", "large": f"{large[:-1]}r"}))[1])
    assert one["a"].mtime == one["b"].mtime == two["c"].mtime != two["a"].mtime
    assert one["large"].mtime != two["large"].mtime
    assert all(1_000_000_000 <= each.mtime < 1_300_000_000 for each in (*one.values(), *two.values()))
