"""passwords: on a host: runs SQL as root, logs in with each password, and waits for the jobs that run. It answers by what is wrong."""

import json
import os
import re
import subprocess

DENIED = "ERROR 1045"
told = json.loads(TOLD)  # noqa: F821  a line before this program
environ = {**os.environ, "HOME": "/nonexistent"}


def mariadb(words, said):
    """What is wrong with a call of the client; empty if nothing is."""
    done = subprocess.run(["mariadb", *words], input=said, capture_output=True, text=True, env=environ)
    if done.returncode == 0:
        return ""
    code = "".join(re.findall(r"ERROR \d+", done.stderr))  # no more of it, as it may quote what it was given
    return "refused" if code == DENIED else code or f"exit code {done.returncode}"


said = {"sql": mariadb(["--batch"], told["sql"]) if told["sql"] else ""}
for name, password in told["passwords"].items():
    login = f'[client]\nuser="{told["user"]}"\npassword="{password}"\nhost="{told["host"]}"\n'
    said[name] = mariadb(["--defaults-file=/dev/stdin", "--execute=SELECT 1", told["name"]], login)
lock = told["jobs"]
if lock and os.path.isdir(lock):
    waited = subprocess.run(["flock", "--exclusive", "--timeout", str(told["seconds"]), lock, "true"])
    said["jobs"] = "" if waited.returncode == 0 else "still run"
print(json.dumps(said))
