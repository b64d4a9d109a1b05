"""The base image of the machine: what its build leaves on this machine."""

from __future__ import annotations

import stat

from tasks.cloud.embedded import debian_root


def test_roots_lock_file_lies_where_nobody_else_can_write():
    folder = debian_root.LOCK.parent.stat()
    assert folder.st_uid == 0
    assert not folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    with debian_root.locked():
        assert debian_root.LOCK.lstat().st_uid == 0
