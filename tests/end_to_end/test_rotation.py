"""All secrets of an environment are rotated while visitors come: none of them notices, and what was valid is refused."""

from __future__ import annotations

import dataclasses
import json
import ssl

import pytest

from tasks.hosts import ssh
from tasks.hosts.ssh import HostKeyChanged, LoginRefused
from tasks.infrastructure import secrets
from tests import leaks
from tests.clouds import authority_of, secrets_of

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.long(
        short="tests/rotation/test_rotate.py::test_the_application_is_let_in_after_every_step_and_the_former_password_is_refused_at_the_end"
    ),
]

ENTERS = """
import json, subprocess
told = json.loads({told!r})
for each in told:
    login = f'[client]\\nuser="shop"\\npassword="{{each}}"\\n'
    ask = ["mariadb", "--defaults-file=/dev/stdin", "--execute=SELECT 1", "shop"]
    print(subprocess.run(ask, input=login, text=True, capture_output=True).returncode)
"""


@pytest.mark.promise(
    "a-rotation-fails-no-request",
    "the-former-deploy-key-ends",
    "the-former-host-keys-end",
    "secrets-are-nowhere-else",
)
def test_visitors_notice_nothing_and_what_was_valid_is_refused(site):
    before, former, vouched = secrets_of(site.run), site.host, authority_of(site.run)
    crowd = site.crowd()
    # another authority vouches meanwhile: who trusts the former one alone is warned (docs/handover.md)
    crowd.tls.check_hostname, crowd.tls.verify_mode = False, ssl.CERT_NONE
    with leaks.ProcessLists().watching() as lists, crowd.visiting(page=4, cart=2, search=1) as seen:
        answered = site.doit("secrets", "rotate", "--all")
    assert answered.returncode == 0, answered.stdout + answered.stderr
    assert len(seen) > 50
    assert crowd.failures() == []
    after, host = secrets_of(site.run), site.host

    said = ssh.python(
        host, "server", ENTERS.format(told=json.dumps([before.database_password, after.database_password]))
    )
    assert said.split() == ["1", "0"]
    with pytest.raises(LoginRefused):
        ssh.python(dataclasses.replace(host, key=before.deploy_key), "server", "print(1)")
    with pytest.raises(HostKeyChanged):
        ssh.python(dataclasses.replace(host, host_keys=former.host_keys), "server", "print(1)")
    admitted = ssh.python(host, "server", "print(open('/root/.ssh/authorized_keys').read())")
    assert before.deploy_key_public.split()[1] not in admitted

    hidden = [*leaks.words(before, vouched), *leaks.words(after, authority_of(site.run))]
    listed = site.doit("secrets")
    assert listed.returncode == 0, listed.stderr
    ssm, folder = site.run.cloud.client("ssm"), site.run.secrets_folder
    secrets.settle(ssm, folder, {"database_password_before": "former", "database_password": "another"})
    planned = site.doit("plan", "--diff")
    secrets.settle(
        ssm, folder, {"database_password_before": None, "database_password": after.database_password}
    )
    for told in (answered, listed, planned):
        assert not leaks.leaked(hidden, (told.stdout + told.stderr).encode())
    assert not leaks.leaked(hidden, b"\n".join(lists.seen))
    for path in (site.root / ".run").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not leaks.leaked(hidden, path.read_bytes()), path
    assert site.doit("release").returncode == 0
    assert set(site.stages("release").values()) == {"unchanged"}
