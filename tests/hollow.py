"""A copy of the project that releases to machines which are only names: the whole pipeline, and no playbook."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.conftest import commit, copy_project

INSTEAD = {
    "tasks/hosts/ansible.py": """
def play(playbook, **_):
    import os

    from tasks.refusal import PlaybookFailed

    if os.environ.get("FAILS") == playbook:
        raise PlaybookFailed(stage=playbook, host="i-1", role=playbook, task="do it", message="no")
    return Recap(changed=1, ok=1, seconds=0.0, recorded={})
""",
    "tasks/server/ledger.py": """
def keep(*_, **__):
    pass
""",
    "tasks/server/drift.py": """
AsRecorded.begin = lambda self, run: None
AsRecorded.__call__ = lambda self, run: []
""",
    "tasks/cloud/embedded/client.py": """
Embedded.host_keys = lambda self, id, say: [f"ssh-ed25519 {id}"]
""",
    "tasks/cloud/caller.py": """
def caller(run):
    import os

    return Caller(arn=f"arn:aws:iam::123456789012:user/{os.environ.get('PERSON', 'kim')}")
""",
}


def copy_hollow(root: Path) -> Path:
    """A copy of this repository on branch main. FAILS names a playbook that fails, PERSON who acts."""
    copy_project(root)
    for path, text in INSTEAD.items():
        with (root / path).open("a") as file:
            file.write(text)
    profile = root / "applications" / "magento2" / "profile.yml"
    without = {"build": [], "layers": [], "stamps": {}}
    profile.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text()), **without}))
    commit(root, "machines are names")
    return root
