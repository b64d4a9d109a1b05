"""forget: `doit forget` and `doit ignore`: change the records by hand."""

from __future__ import annotations

import doit.cmd_forget
import doit.cmd_ignore

from tasks.commands.base import CommandMixin


class ForgetCommand(CommandMixin, doit.cmd_forget.Forget):
    """`doit forget STAGE`: the stage runs again next time."""

    name = "forget"
    doc_purpose = "forget what stages have done: they run again next time"
    doc_usage = "[STAGE ...]"


class IgnoreCommand(CommandMixin, doit.cmd_ignore.Ignore):
    """`doit ignore STAGE`: the stage is skipped until it is forgotten."""

    name = "ignore"
    doc_purpose = "skip stages until they are forgotten"
    doc_usage = "STAGE ..."
