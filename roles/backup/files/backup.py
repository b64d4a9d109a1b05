#!/usr/bin/python3
"""backup: on a host: `backup now`, `list`, `try WHEN`, `restore WHEN`, `measure`, with restic; what fails is said in a sentence.

Its key for the bucket reads and adds; it removes nothing there but locks.

Beside the data a backup has `noted/`: the rows of each table with their digest, and size and time of each file. The rows are
counted in the copy itself, so that they are those of its moment, and again in a copy of what was restored.
"""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SETTINGS = os.environ.get("BACKUP_SETTINGS", "/etc/backup.json")
PARTLY = 3
"""restic's exit code where it could not read some files; the rest is in the backup."""
CHILD = ("setpriv", "--pdeathsig=KILL")
"""A child ends with this program, also when that is killed."""
DUMP = (
    "mariadb-dump",
    "--no-defaults",
    "--single-transaction",
    "--quick",
    "--hex-blob",
    "--skip-dump-date",
    "--max-allowed-packet=1G",
)
"""The copy of what was restored. It writes rows as `database_copy dump` does, of which roles/database has the options."""
JOBS = 300
"""Seconds that jobs of cron have to end before data is replaced."""
ANSWER = 90
"""Seconds that the repository has to answer a first question; restic itself would try for a quarter of an hour."""
WORDS = (
    (r"wrong password or no key found", "the password does not open {repository}"),
    (r"No space left on device|errno: 28\b|Errno 28", "the disk of this host is full"),
    (r"already locked", "another run works on {repository}"),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|Access Denied|AccessDenied",
        "the bucket refuses this host's key for {repository}",
    ),
    (
        r"connection refused|no such host|i/o timeout|no route to host|dial tcp|did not answer",
        "{repository} does not answer",
    ),
    (r"specified key does not exist|NoSuchKey", "there is no repository at {repository}"),
)
"""What programs print when they fail, and the sentence that it is; restic asks after any failure whether there is a repository."""
MADE, ROWS = (
    re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \("),
    re.compile(rb"INSERT INTO `((?:[^`]|``)+)` (?:\(.+\) )?VALUES\n"),
)
DEFINER = re.compile(
    rb"(?:CREATE (?:OR REPLACE )?|CREATE\*/ |/\*!\d+ )*DEFINER=(`(?:[^`]|``)+`@`(?:[^`]|``)*`)"
)
"""Whose rights a view, a trigger or a routine of a copy has; a row begins otherwise."""
LIMIT, NAMES = re.compile(rb"-- max_allowed_packet (\d+)\n"), 65536
"""The first line of a copy: bytes that its server takes in one statement, which may be one row; and those of the names in it."""
TRIES = 3
"""How often files are backed up of which some went away meanwhile, and how often the bucket is asked for what it has lost."""
LOST = re.compile(
    r"unexpected EOF|InvalidRange|range is not satisfiable|NoSuchKey|specified key does not exist"
)
"""What restic says of it."""
COARSE = 10**9
"""Nanoseconds by which the time of a change may be behind the clock."""
SHOWN = 5
"""Differences that a sentence names."""


class Refused(Exception):
    """A sentence."""


class Settings:
    """What roles/backup has written. `state`: a folder with `repository`, which one this host has seen; `dump`, the copy of the database
    that is backed up; `closed`, when a restore has closed the site that did not open it again; restic's cache; and a lock."""

    def __init__(self, said):
        self.repository, self.region, self.host = said["repository"], said["region"], said["host"]
        self.password, self.key_id, self.key_secret = said["password"], said["key_id"], said["key_secret"]
        self.key_token, self.proxy = said["key_token"], said["proxy"]
        self.copy, self.database, self.paths = said["copy"], said["database"], said["paths"]
        self.shared, self.current = said["shared"], said["current"]
        self.user, self.group = said["user"], said["group"]
        self.state = said["state"]
        self.close, self.pause, self.after = said["close"], said["pause"], said["after"]
        self.trial = said["trial"]
        self.aside, self.aside_days, self.jobs = said["aside"], said["aside_days"], said["jobs"]


def main(words):
    """Do what the words say."""
    settings = Settings(json.loads(read(SETTINGS)))
    try:
        if words == ["now"]:
            with alone(settings):
                now(settings)
        elif words == ["list"]:
            print(json.dumps(snapshots(settings)))
        elif words == ["measure"]:
            print(json.dumps(measured(settings, settings.shared, dump_of(settings))))
        elif len(words) == 2 and words[0] in ("restore", "try"):
            for each in (signal.SIGHUP, signal.SIGTERM):
                signal.signal(each, ended)
            with alone(settings):
                {"restore": restore, "try": trial}[words[0]](settings, words[1])
        else:
            print("backup now | list | try WHEN | restore WHEN | measure", file=sys.stderr)
            return 2
    except Refused as refused:
        print(f"backup: {refused}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"backup: {explained(str(error), settings)}", file=sys.stderr)
        return 1
    return 0


def ended(number, _):
    """Who ends it hears what has become of the site. Raises Refused."""
    signal.signal(number, signal.SIG_IGN)
    raise Refused(f"it was ended by {signal.Signals(number).name}")


@contextlib.contextmanager
def alone(settings):
    """One backup or restore at a time on this host; a killed one holds nothing."""
    with open(f"{settings.state}/lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another backup or restore is under way on this host") from None
        yield


# --- restic ---------------------------------------------------------------------------------------


def explained(output, settings):
    """The sentence of a failure, else its last words."""
    for pattern, sentence in WORDS:
        if re.search(pattern, output):
            return sentence.format(repository=settings.repository)
    return " ".join(output.strip().splitlines()[-2:]) or "it failed without a word"


def called(settings, *words):
    """How restic is called: the command, and its environment variables."""
    environ = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "HOME": settings.state,
        "RESTIC_REPOSITORY": settings.repository,
        "RESTIC_PASSWORD": settings.password,
        "RESTIC_CACHE_DIR": f"{settings.state}/cache",
        "RESTIC_PROGRESS_FPS": "0",
        "AWS_ACCESS_KEY_ID": settings.key_id,
        "AWS_SECRET_ACCESS_KEY": settings.key_secret,
        "AWS_DEFAULT_REGION": settings.region,
        # of a key that ends; and by which way out, where egress is listed
        **({"AWS_SESSION_TOKEN": settings.key_token} if settings.key_token else {}),
        **settings.proxy,
    }
    options = ["-o", f"s3.region={settings.region}", "-o", "s3.layout=default"]
    return [*CHILD, "restic", *options, *words], environ


def restic(settings, *words, fails=True, seconds=None):
    """Run restic. Raises Refused where it fails, unless `fails` is False."""
    command, environ = called(settings, *words)
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Refused(explained("did not answer", settings)) from None
    if fails and done.returncode not in (0, PARTLY):
        raise Refused(explained(done.stderr + done.stdout, settings))
    return done


def ready(settings):
    """Make the repository on first use, and remove the locks of programs that were killed. Raises Refused."""
    note = f"{settings.state}/repository"
    asked = restic(settings, "cat", "config", "--no-lock", fails=False, seconds=ANSWER)
    if asked.returncode:
        why = explained(asked.stderr, settings)
        if not why.startswith("there is no repository"):
            raise Refused(why)
        if os.path.exists(note) and read(note) == settings.repository:
            raise Refused(f"{why} any more, and this host has backed up there: `rm {note}` begins a new one")
        restic(settings, "init")
    write(note, settings.repository)
    restic(settings, "unlock")  # only those whose process is gone, or older than half an hour


def snapshots(settings):
    """The backups, the oldest first: id and time."""
    printed = restic(settings, "snapshots", "--json", "--no-lock", "--host", settings.host).stdout
    found = [{"id": each["id"], "time": utc(each["time"])} for each in json.loads(printed) or ()]
    return sorted(found, key=lambda each: each["time"])


def utc(text):
    """A time as restic writes it, with nanoseconds and a zone, in seconds of UTC."""
    at = datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))
    return f"{at.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S}"


def chosen(found, when):
    """The backup that is meant: `newest`, the beginning of an id, or the last one until a time; a date is its whole day. Raises Refused."""
    if not found:
        raise Refused("there is no backup yet")
    if when == "newest":
        return found[-1]
    if re.fullmatch(r"[0-9a-f]{8,64}", when):
        meant = [each for each in found if each["id"].startswith(when)]
        if len(meant) == 1:
            return meant[0]
    elif re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?", when):
        until = when.replace(" ", "T") + {10: "T23:59:59", 16: ":59", 19: ""}[len(when)]
        earlier = [each for each in found if each["time"] <= until]
        if earlier:
            return earlier[-1]
        raise Refused(f"no backup is from {when} or before: the oldest is from {found[0]['time']}")
    known = ", ".join(f"{each['id'][:8]} of {each['time']}" for each in found[-5:])
    raise Refused(
        f"{when} is neither `newest`, an id nor a time such as 2026-11-28T04:00 (the last ones: {known})"
    )


# --- backing up -----------------------------------------------------------------------------------


def now(settings):
    """Back up the database and the files."""
    begun = time.monotonic()
    if links := linked(settings, settings.shared):
        raise Refused(
            f"{links[0]} is a link, of which a backup has nothing but where it leads: make it a folder, and mount there what it leads to"
        )
    forget_aside(settings)
    ready(settings)
    work = f"{settings.state}/dump"
    shutil.rmtree(work, ignore_errors=True)  # of one that was killed
    os.mkdir(work, mode=0o700)
    try:
        dump = [f"{work}/database.sql"] if settings.copy else []
        os.mkdir(f"{work}/noted")
        for path in dump:
            copied(settings, path)
            with open(path, "rb") as file:
                write(f"{work}/noted/tables.json", json.dumps(counted(file)))
        paths = [f"{settings.shared}/{each}" for each in settings.paths]
        there = [each for each in paths if os.path.lexists(each)]
        if not dump + there:
            raise Refused("nothing that is to be backed up is there yet")
        if missing := [each for each, path in zip(settings.paths, paths, strict=True) if path not in there]:
            print(f"backup: of the paths, not there: {', '.join(missing)}", file=sys.stderr)
        for _ in range(TRIES):
            note_files(settings, f"{work}/noted/files")
            done = restic(
                settings, "backup", "--json", "--host", settings.host, f"{work}/noted", *dump, *there
            )
            if done.returncode != PARTLY:
                break
    finally:
        shutil.rmtree(work, ignore_errors=True)
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    if done.returncode == PARTLY:
        print(f"backup: some files could not be read: {' '.join(done.stderr.split())[:300]}", file=sys.stderr)
    print(
        f"{summary['snapshot_id'][:8]}: {summary['total_files_processed']} files, "
        f"{summary['total_bytes_processed'] / 1e6:.1f} MB, {summary['data_added'] / 1e6:.1f} MB of them new, "
        f"in {time.monotonic() - begun:.1f} s"
    )


def dump_of(settings):
    """The command that copies the database; empty for none."""
    return [*settings.copy, "dump"] if settings.copy else []


def copied(settings, path):
    """Copy the database as it is at this moment into a file. Raises Refused."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        done = subprocess.run(
            [*CHILD, *dump_of(settings)], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE
        )
    if done.returncode:
        raise Refused(
            f"the database was not copied: {explained(done.stderr.decode(errors='replace'), settings)}"
        )


# --- restoring ------------------------------------------------------------------------------------


def restore(settings, when):
    """Bring a backup back. What was there is moved aside; until everything is fetched, nothing is touched."""
    begun = time.monotonic()
    forget_fetched(settings)
    aside = f"{settings.aside}/{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}"
    fetched = f"{aside}/fetched"
    dump = f"{fetched}{settings.state}/dump/database.sql"
    try:
        meant = fetch(settings, when, fetched)
        paths = [each for each in settings.paths if os.path.lexists(f"{fetched}{settings.shared}/{each}")]
        room_elsewhere(settings, fetched, paths, os.path.getsize(dump) if os.path.exists(dump) else 0)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    with closed(settings, aside) as stays:
        if settings.copy and os.path.exists(dump):
            replaced(settings, dump, f"{aside}/database.sql.zst")
        for each in paths:
            exchange(
                settings, f"{fetched}{settings.shared}/{each}", f"{settings.shared}/{each}", f"{aside}/{each}"
            )
        told = measured(settings, settings.shared, dump_of(settings))
        for command in settings.after if os.path.exists(settings.current) else ():
            run(["runuser", "--user", settings.user, "--", *command], cwd=settings.current, umask=0o002)
    shutil.rmtree(fetched)
    print(
        f"restored {meant['id'][:8]} of {meant['time']} UTC; what was there is in {aside} for {settings.aside_days} days{stays}"
    )
    tell(meant, begun, told)


def trial(settings, when):
    """Restore a backup beside what is there: files into a folder, the database into a server of its own. Nothing of the site is touched.

    Raises Refused where it is not what was backed up.
    """
    if settings.database and not shutil.which("mariadbd"):
        raise Refused(
            "this host has no database server to try a backup in, as its database is elsewhere: doit drill"
        )
    begun = time.monotonic()
    shutil.rmtree(settings.trial, ignore_errors=True)  # of one that was killed
    fetched = f"{settings.trial}/fetched"
    try:
        meant = fetch(settings, when, fetched, "--verify")
        work, shared = f"{fetched}{settings.state}/dump", f"{fetched}{settings.shared}"
        with empty_server(settings) if settings.database else contextlib.nullcontext(()) as server:
            if settings.database:
                load(server, f"{work}/database.sql")
            dump = [*DUMP, *server, "--databases", settings.database] if settings.database else []
            told = measured(settings, shared, dump)
        whole = os.path.isdir(f"{work}/noted")
        differ = [f"{each} is a link, and not what it leads to" for each in linked(settings, shared)]
        differ += differences(settings, f"{work}/noted", shared, told["tables"]) if whole else []
    finally:
        shutil.rmtree(settings.trial, ignore_errors=True)
    if differ:
        more = f", and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise Refused(
            f"{meant['id'][:8]} of {meant['time']} UTC is not what was backed up: {', '.join(differ[:SHOWN])}{more}"
        )
    # a new site may have no file yet
    if not (told["tables"] if settings.database else any(told["files"].values())):
        nothing = "no table" if settings.database else f"no file in any of {', '.join(settings.paths)}"
        raise Refused(f"{meant['id'][:8]} of {meant['time']} UTC has {nothing}")
    if not whole:
        print("backup: nothing says what was in it: it is of a former version", file=sys.stderr)
    rows = sum(count for count, _ in told["tables"].values())
    print(
        f"{meant['id'][:8]} of {meant['time']} UTC can be restored: {len(told['tables'])} tables with {rows} rows, "
        f"{sum(told['files'].values())} files, in {time.monotonic() - begun:.1f} s; nothing of the site was touched"
    )
    tell(meant, begun, {**told, "compared": whole})


def differences(settings, noted, shared, tables):
    """How what was restored differs from what was noted when it was backed up, in words."""
    if settings.database and os.path.exists(f"{noted}/tables.json"):
        wanted = json.loads(read(f"{noted}/tables.json"))
        for name in sorted(wanted.keys() | tables.keys()):
            if name not in tables:
                yield f"the table {name} is missing"
            elif name not in wanted:
                yield f"the table {name} was not there"
            elif tables[name][0] != wanted[name][0]:
                yield f"the table {name} has {tables[name][0]} rows of {wanted[name][0]}"
            elif tables[name] != wanted[name]:
                yield f"rows of the table {name} differ"
    with open(f"{noted}/files") as file:
        begun = int(file.readline()) - COARSE
        for line in file:
            name, size, changed = json.loads(line)
            path = f"{shared}/{name}"
            found = os.lstat(path) if os.path.lexists(path) else None
            # what visitors changed or removed while it was backed up is as it was then
            if (not found or (found.st_size, found.st_mtime_ns) != (size, changed)) and not changed_since(
                path, begun
            ):
                yield f"the file {name} {'differs' if found else 'is missing'}"


def changed_since(path, begun):
    """Whether a file, or the folder that has or had it, was changed after that time, in nanoseconds."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return any(os.lstat(each).st_mtime_ns > begun for each in (path, folder) if os.path.lexists(each))


def tell(meant, begun, told):
    """The last line, for who keeps the record."""
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps({"snapshot": meant["id"], "time": meant["time"], "seconds": seconds, **told}))


def fetch(settings, when, folder, *more):
    """Fetch a backup into a new folder, and return which it is. Raises Refused."""
    asked = restic(settings, "cat", "config", "--no-lock", fails=False, seconds=ANSWER)
    if asked.returncode:
        raise Refused(explained(asked.stderr, settings))
    meant = chosen(snapshots(settings), when)
    os.makedirs(os.path.dirname(folder), mode=0o711, exist_ok=True)
    os.mkdir(folder, mode=0o700)
    room(settings, meant, folder)
    unpack(settings, "restore", meant["id"], "--no-lock", "--target", folder, *more)
    return meant


def unpack(settings, *words):
    """Run restic to restore. What the bucket has lost it would ask for a quarter of an hour. Raises Refused."""
    command, environ = called(settings, *words)
    child = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, lost = "", 0
    with child.stdout:
        for line in child.stdout:
            said = f"{said[-4000:]}{line}"
            lost += bool(LOST.search(line))
            if lost == TRIES:
                child.kill()
                break
    if lost == TRIES:
        raise Refused(f"the bucket has not all of the backup: {' '.join(line.split())[:300]}")
    if child.wait():
        raise Refused(explained(said, settings))


@contextlib.contextmanager
def empty_server(settings):
    """A database server without data that nobody else reaches; how to connect to it. It ends with this program."""
    data = f"{settings.trial}/data"
    os.mkdir(data, mode=0o700)
    shutil.chown(data, "mysql", "mysql")
    own = ["--no-defaults", f"--datadir={data}", "--user=mysql"]
    run(["mariadb-install-db", *own, "--auth-root-authentication-method=socket", "--skip-test-db"])
    socket = f"{data}/socket"
    quick = [
        "--skip-networking",
        "--innodb-flush-log-at-trx-commit=0",
        "--max-allowed-packet=1G",
        f"--pid-file={data}/pid",
        f"--socket={socket}",
    ]
    server = subprocess.Popen(
        [*CHILD, "mariadbd", *own, *quick, "--character-set-server=utf8mb4"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(ANSWER * 10):
            if os.path.exists(socket) or server.poll() is not None:
                break
            time.sleep(0.1)
        yield [f"--socket={socket}"]
    finally:
        server.kill()  # its data goes
        server.wait()


def load(server, dump):
    """Load a copy into an empty server. Raises Refused."""
    command = [*CHILD, "mariadb", "--no-defaults", "--max-allowed-packet=1G", *server]
    users, longest = set(), 0
    with open(dump, "rb") as file:
        takes = LIMIT.fullmatch(file.readline())
        for line in file:
            longest = max(longest, len(line))
            if found := DEFINER.match(line):
                users.add(found[1].decode())
    if takes and longest + NAMES > int(takes[1]):
        raise Refused(
            f"the copy of the database cannot be loaded where it is from: it has a row of {longest} bytes, and that server "
            f"takes {int(takes[1])}: set its max_allowed_packet to {longest + NAMES}, then back up again"
        )
    # a view of another view is not made where that one's user is missing
    for each in sorted(users):
        run([*command, "--execute", f"CREATE USER IF NOT EXISTS {each}; GRANT ALL ON *.* TO {each}"])
    with open(dump) as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"the copy of the database cannot be loaded: {done.stderr.strip()[-300:]}")


def room(settings, meant, folder):
    """Raises Refused where the disk has no place for what comes and for what stays: the database is there twice."""
    told = json.loads(restic(settings, "stats", "--json", "--no-lock", meant["id"]).stdout)
    needed, free = 2 * told["total_size"], shutil.disk_usage(folder).free
    if needed > free:
        raise Refused(
            f"the backup needs {needed / 1e6:.0f} MB, and the disk of this host has {free / 1e6:.0f} MB left"
        )


def room_elsewhere(settings, fetched, paths, more):
    """Raises Refused where a path has a disk of its own, and what comes has no place there, or what leaves none here beside `more`."""
    leaves, free = more, shutil.disk_usage(fetched).free
    for each in paths:
        place = f"{settings.shared}/{each}"
        if not os.path.lexists(place) or os.lstat(place).st_dev == os.stat(fetched).st_dev:
            continue
        comes, old = size(f"{fetched}{place}"), size(place)
        leaves += old
        if comes > shutil.disk_usage(place).free + old:
            raise Refused(f"{each} needs {comes / 1e6:.0f} MB, and its disk has no room for that")
        if leaves > free:
            raise Refused(
                f"what is in {each} until now is kept in {settings.aside}, which needs {leaves / 1e6:.0f} MB, "
                f"and that disk has {free / 1e6:.0f} MB left"
            )


def size(path):
    """Bytes that a folder or file takes."""
    return int(run(["du", "--summarize", "--block-size=1", path]).stdout.split()[0])


@contextlib.contextmanager
def closed(settings, aside):
    """Visitors, jobs and workers wait while data is replaced; words about a site that stays closed, as somebody has closed it before.

    After a failure it stays closed too: the data may be half replaced. A restore that succeeds opens what another one has closed.
    """
    flag = (
        f"{settings.current}/{settings.close}" if settings.close and os.path.exists(settings.current) else ""
    )
    note = f"{settings.state}/closed"
    there = bool(flag) and os.path.exists(flag)
    # the time of the file tells one that somebody else has made since
    stays = there and not (os.path.exists(note) and read(note) == str(int(os.path.getmtime(flag))))
    jobs = os.open(settings.jobs, os.O_RDONLY)
    try:
        if flag and not there:
            at = str(int(time.time()))
            write(note, at)
            run(
                ["runuser", "--user", settings.user, "--", "touch", f"--date=@{at}", flag],
                umask=0o002,
            )
        if settings.pause:
            run(["systemctl", "stop", *settings.pause])
        # jobs of cron hold it while they run; one that does not end is not waited for
        run(["flock", "--exclusive", "--timeout", str(JOBS), str(jobs)], check=False, pass_fds=[jobs])
        if flag:  # it keeps new ones out: those that waited for the lock would all begin when the site opens
            fcntl.flock(jobs, fcntl.LOCK_UN)
        yield "; the site stays closed, as it was before" if stays else ""
    except BaseException:
        print(f"backup: the site stays closed; what was there until now is in {aside}", file=sys.stderr)
        raise
    finally:
        os.close(jobs)
    if stays:
        return
    if flag:
        os.unlink(flag)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(note)
    if settings.pause:
        run(["systemctl", "start", *settings.pause])


def run(command, check=True, **how):
    """Run a program of this host. Raises Refused where it fails."""
    done = subprocess.run([*CHILD, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **how)
    if check and done.returncode:
        raise Refused(
            f"{' '.join(command[:6])}: exit code {done.returncode}: {' '.join(done.stderr.split())[-300:]}"
        )
    return done


def replaced(settings, dump, aside):
    """Load a copy of the database; the present one goes aside. Raises Refused."""
    done = run([*settings.copy, "restore", dump, aside], check=False)
    if done.returncode:
        raise Refused(f"the database was not restored: {explained(done.stderr, settings)}")


def exchange(settings, new, place, aside):
    """Put a fetched folder or file in place, for commands and pages to write; what is there goes aside."""
    os.makedirs(os.path.dirname(aside), mode=0o700, exist_ok=True)
    if os.path.lexists(place):
        move(place, aside)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    move(new, place)
    run(["chown", "--recursive", "--no-dereference", f"{settings.user}:{settings.group}", place])
    if not os.path.islink(place):
        run(["chmod", "--recursive", "g+rwX", place])
        run(["find", place, "-type", "d", "-exec", "chmod", "g+s", "{}", "+"])


def move(source, target):
    """Move a folder or file, also to another disk; where a disk is mounted at one of both, what is in it."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        if os.path.islink(source) or not os.path.isdir(source):
            run(["mv", "--no-target-directory", source, target])
            return
        os.makedirs(target, exist_ok=True)
        shutil.copystat(source, target)
        run(
            [
                "find",
                source,
                "-mindepth",
                "1",
                "-maxdepth",
                "1",
                "-exec",
                "mv",
                "--target-directory",
                target,
                "{}",
                "+",
            ]
        )


def forget_aside(settings):
    """Remove what restores have put aside so many days ago."""
    with contextlib.suppress(FileNotFoundError):
        for each in os.scandir(settings.aside):
            if time.time() - each.stat().st_mtime > settings.aside_days * 86400:
                shutil.rmtree(each.path, ignore_errors=True)


def forget_fetched(settings):
    """Remove what a restore that was killed, or has failed, had fetched; what was there until then stays."""
    with contextlib.suppress(FileNotFoundError):
        for each in os.scandir(settings.aside):
            shutil.rmtree(f"{each.path}/fetched", ignore_errors=True)


def note_files(settings, path):
    """Write which files there are below each path, and when that was: name, size and time of the last change."""
    with open(path, "w") as file:
        file.write(f"{time.time_ns()}\n")
        for name in names(settings, settings.shared):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                found = os.lstat(f"{settings.shared}/{name}")
                file.write(json.dumps([name, found.st_size, found.st_mtime_ns]) + "\n")


def linked(settings, shared):
    """The paths that are links there."""
    return [each for each in settings.paths if os.path.islink(f"{shared}/{each}")]


def names(settings, shared):
    """The files below each path that is no link, as `shared` has them."""
    for each in settings.paths:
        if os.path.islink(f"{shared}/{each}"):
            continue
        if os.path.isfile(f"{shared}/{each}"):
            yield each
        for folder, _, files in os.walk(f"{shared}/{each}"):
            yield from (os.path.relpath(os.path.join(folder, name), shared) for name in files)


def measured(settings, shared, dump):
    """The rows of each table with their digest, by a command that copies the database, and the number of files of each path."""
    tables = {}
    if dump:
        with tempfile.TemporaryFile() as said:  # a pipe that nobody reads meanwhile may fill
            child = subprocess.Popen(
                [*CHILD, *dump], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
            )
            with child.stdout:
                tables = counted(child.stdout)
            if child.wait():
                said.seek(0)
                why = explained(said.read().decode(errors="replace"), settings)
                raise Refused(f"the database was not read: {why}")
    files = dict.fromkeys(settings.paths, 0)
    for name in names(settings, shared):
        files[next(each for each in settings.paths if f"{name}/".startswith(f"{each}/"))] += 1
    return {"tables": tables, "files": files}


def counted(lines):
    """The rows of each table of a copy, and the digest of these rows. Each is a line; what is between delimiters of its own is code.

    Raises Refused for another form.
    """
    counts, digests, table, code = {}, {}, None, False
    for line in lines:
        if table is not None:
            counts[table] += 1
            digests[table].update(line[:-2])  # behind it stands a comma, or at the end a semicolon
            table = None if line.endswith(b";\n") else table
        elif line.startswith(b"DELIMITER "):
            code = line != b"DELIMITER ;\n"
        elif code:
            continue
        elif made := MADE.match(line):
            counts[made[1]], digests[made[1]] = 0, hashlib.sha256()
        elif line.startswith(b"INSERT INTO "):
            rows = ROWS.fullmatch(line)
            if not rows or rows[1] not in counts:
                raise Refused(f"the copy of the database has an unknown form: {line[:80]!r}")
            table = rows[1]
    return {
        name.decode().replace("``", "`"): [count, digests[name].hexdigest()] for name, count in counts.items()
    }


def read(path):
    """The content of a small file."""
    with open(path) as file:
        return file.read()


def write(path, content):
    """Write a small file."""
    with open(path, "w") as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
