"""mariadb: a server takes its configuration, and what can be set while it runs is set without a restart."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.app.conftest import need
from tests.conftest import ROOT, until
from tests.rules import configuration, rendering

ROLE = ROOT / "roles" / "mariadb"
(HANDLER,) = (
    each["ansible.builtin.command"] | {"lines": each["vars"]["__mariadb_lines"]}
    for each in yaml.safe_load((ROLE / "handlers" / "main.yml").read_text())
    if "ansible.builtin.command" in each
)


def written(folder, **settings):
    """The role's two files for these settings, which log into the folder."""
    for name in ("server.cnf", "tuning.cnf"):
        text = configuration.template(ROOT, f"roles/mariadb/templates/{name}.j2", **settings)
        (folder / name).write_text(text.replace("/var/log/mysql", str(folder)))
    return (folder / "tuning.cnf").read_text()


def statements(text):
    """What the handler types where the file says this."""
    lookup = "lookup('ansible.builtin.template', 'tuning.cnf.j2')"
    assert lookup in HANDLER["lines"]
    bare = {name: HANDLER[name].strip().removeprefix("{{").removesuffix("}}") for name in ("stdin", "lines")}
    lines = rendering.value(bare["lines"].replace(lookup, "text"), {"text": text}, {})
    return rendering.value(bare["stdin"], {"__mariadb_lines": list(lines)}, {})


@pytest.fixture
def server():
    """A function that asks a server of the role's configuration."""
    need("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="db-"))  # the path of a socket may have 107 characters
    written(folder)
    (folder / "my.cnf").write_text(f"!include {folder}/server.cnf\n!include {folder}/tuning.cnf\n")
    data, user = folder / "data", f"--user={os.environ.get('USER') or 'root'}"
    made = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        user,
        "--auth-root-authentication-method=normal",
    ]
    subprocess.run(made, check=True, capture_output=True)
    own = [f"--datadir={data}", user, f"--socket={folder}/s", "--skip-networking", f"--pid-file={folder}/pid"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["mariadbd", f"--defaults-file={folder}/my.cnf", *own], stdout=log, stderr=log
        )

    def sql(text, user="root"):
        asked = [
            "mariadb",
            "--no-defaults",
            f"--socket={folder}/s",
            f"--user={user}",
            "--batch",
            "--skip-column-names",
        ]
        return subprocess.run(asked, input=text, capture_output=True, text=True)

    sql.folder, sql.process = folder, process
    try:
        until(lambda: sql("SELECT 1").returncode == 0 or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield sql
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.mark.promise("the-database-is-tuned-without-a-restart", "changes-are-logged-row-by-row")
def test_a_server_takes_its_settings_and_new_ones_while_it_runs(server):
    told = "SELECT @@innodb_buffer_pool_size, @@long_query_time, @@binlog_expire_logs_seconds, @@binlog_format, @@log_bin, @@slow_query_log"
    assert server(told).stdout.split() == [str(512 << 20), "2.000000", "259200", "ROW", "1", "1"]
    text = written(server.folder, mariadb_buffer_pool="1G", mariadb_slow_seconds=1, mariadb_binlog_days=5)
    done = server(statements(text))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(statements(text).splitlines()) == text.count(" = ")
    until(lambda: server("SELECT @@innodb_buffer_pool_size").stdout.strip() == str(1 << 30))
    assert server(told).stdout.split()[1:3] == ["1.000000", "432000"]
    assert server.process.poll() is None
    server("SELECT SLEEP(1.2)")
    assert "SLEEP(1.2)" in (server.folder / "slow.log").read_text()
    # who has rights on one database only makes triggers, as migrations do, though every change is logged
    server("CREATE DATABASE shop; CREATE USER shop@localhost; GRANT ALL ON shop.* TO shop@localhost")
    made = server(
        "USE shop; CREATE TABLE t (n INT); CREATE TRIGGER r AFTER INSERT ON t FOR EACH ROW SET @a = 1; INSERT INTO t VALUES (1)",
        user="shop",
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "CREATE TRIGGER" in server("SHOW BINLOG EVENTS").stdout.replace("DEFINER=`shop`@`localhost` ", "")


def test_a_configuration_that_the_server_would_not_start_with_is_found_before(server):
    check = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__mariadb_validate"]
    for name, right in (("server.cnf", True), ("tuning.cnf", True), ("wrong.cnf", False)):
        if not right:
            (server.folder / name).write_text("[mariadbd]\nno_such_variable = 1\n")
        asked = subprocess.run(
            check.replace("%s", str(server.folder / name)), shell=True, capture_output=True
        )
        assert (asked.returncode == 0) is right, asked


LARGE = """CREATE DATABASE shop; USE shop; CREATE TABLE large (id INT PRIMARY KEY, raw LONGBLOB);
INSERT INTO large VALUES (1, REPEAT('x', 12 << 20)), (2, REPEAT(CHAR(0xff), 30 << 20));
CREATE PROCEDURE shop.p() SELECT 1;"""


@pytest.mark.promise("a-copy-has-rows-of-any-length")
def test_a_copy_with_large_rows_is_loaded_or_refused_before_anything_is_dropped(server, tmp_path):
    """Twice as long as their bytes, and longer than what clients and servers take that nobody has told."""
    told = {
        "__database_server": f" --no-defaults --user=root --socket={server.folder}/s",
        "__database_definer": "",
    }
    program = configuration.template(
        ROOT, "roles/database/templates/database_copy.j2", database_name="shop", **told
    )
    (tmp_path / "database_copy").write_text(program)

    def copy(*words):
        command = ["bash", tmp_path / "database_copy", *words]
        done = subprocess.run(command, capture_output=True)
        return done.returncode, done.stdout, done.stderr.decode()

    def rows():
        return server("SELECT SUM(CRC32(raw)), COUNT(*) FROM shop.large").stdout

    assert server(LARGE).stderr == ""
    before = rows()
    for how, name in (("take", "copy.sql.zst"), ("dump", "copy.sql")):
        code, taken, said = copy(how)
        assert (code, said) == (0, "")
        (tmp_path / name).write_bytes(taken)
        server("DROP DATABASE shop")
        server("CREATE DATABASE shop")
        assert copy("restore", tmp_path / name, tmp_path / "aside")[0] == 0
        assert rows() == before
    row, limit = (60 << 20) + len("(2,0x),"), 16 << 20
    server(f"SET GLOBAL max_allowed_packet = {limit}")
    for name in ("copy.sql.zst", "copy.sql"):
        words = f"has a row of {row} bytes, and the database server takes {limit}: set its max_allowed_packet to {row + 65536} first\n"
        code, _, said = copy("restore", tmp_path / name, tmp_path / "none")
        assert (code, said) == (1, f"{tmp_path / name} {words}")
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes((tmp_path / name).read_bytes()[:-9])
        code, _, said = copy("restore", cut, tmp_path / "none")
        assert (code, said != "") == (1, True)
    assert (rows(), (tmp_path / "none").exists()) == (before, False)
