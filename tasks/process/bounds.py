"""bounds: how many seconds each child process has. One that takes longer has fallen silent: it is ended, and named.

A build's commands have their own, the setting `application.build_minutes`. What a person waits for has none: `doit ssh`,
`doit logs --follow`, and a browser.
"""

from __future__ import annotations

ANSWER = 60.0
"""A program of this machine that is asked something, such as its version."""
COPY = 1800.0
"""A copy of the application's files, where no overlay can be mounted."""
GIT = 600.0
"""git on this clone; a large tree on a slow disk is the most that it reads."""
REMOTE = 60.0
"""The remote, which lists its branches."""
OBJECTS = 3600.0
"""git, while it hands out all files of the application; a partial clone fetches them first."""
LOGIN = 60.0
"""A login to a host, and the question for its keys."""
HOST = 1800.0
"""A program on a host: the ledger, which may remove packages, and the end of a former run's sessions."""
BACKUP = 14400.0
"""A backup or a restore on a host, and the removal of old backups. A large shop's media may take hours."""
PLAY = 14400.0
"""A whole playbook. A migration of a large database may take hours."""
HOOK = 600.0
"""A script of `hooks/`; on a host it has as long."""
PODMAN = 600.0
"""podman: to start, stop, commit or remove hosts and images."""
IMAGE = 1800.0
"""The first image of the embedded cloud: packages are downloaded and unpacked."""
