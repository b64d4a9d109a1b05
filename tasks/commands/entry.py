"""entry: doit, with the streams made usable, and no way out but a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from doit.cmd_base import DodoTaskLoader
from doit.cmdparse import CmdParseError
from doit.doit_cmd import DoitMain, reset_vars, set_var
from doit.plugin import PluginDict, PluginEntry

from tasks.console import streams

COMMANDS = {
    "run": "run:RunCommand",
    "list": "list:ListCommand",
    "info": "info:InfoCommand",
    "help": "help:HelpCommand",
    "clean": "own:CleanCommand",
    "dumpdb": "own:DumpCommand",
    "reset-dep": "forget:ResetCommand",
    "strace": "own:TraceCommand",
    "tabcompletion": "own:CompletionCommand",
    "forget": "forget:ForgetCommand",
    "ignore": "forget:IgnoreCommand",
    "graph": "graph:GraphCommand",
    "cloud": "cloud:CloudCommand",
    "bootstrap": "bootstrap:BootstrapCommand",
    "docs": "docs:DocsCommand",
    "doctor": "doctor:DoctorCommand",
    "plan": "plan:PlanCommand",
    "verify": "verify:VerifyCommand",
    "unlock": "unlock:UnlockCommand",
    "why": "plan:WhyCommand",
    "compare": "compare:CompareCommand",
    "diff": "diff:DiffCommand",
    "key": "key:KeyCommand",
    "trust": "trust:TrustCommand",
    "start": "controls:StartCommand",
    "continue": "controls:ContinueCommand",
    "stop": "controls:StopCommand",
    "status": "status:StatusCommand",
    "history": "status:HistoryCommand",
    "open": "open:OpenCommand",
    "secrets": "secrets:SecretsCommand",
    "backup": "backup:BackupCommand",
    "restore": "backup:RestoreCommand",
    "drill": "drill:DrillCommand",
    "ssh": "open:SshCommand",
    "logs": "open:LogsCommand",
    "certificates": "certificates:CertificatesCommand",
    "sweep": "sweep:SweepCommand",
    "keep": "keep:KeepCommand",
    "pin": "pin:PinCommand",
    "releases": "releases:ReleasesCommand",
    "allow": "allow:AllowCommand",
    "sleep": "sleep:SleepCommand",
    "wake": "sleep:WakeCommand",
}
"""Every command, with its module here and its class, which is loaded when the command is typed.

As entry points of the package they would be looked for in every package that is installed, three times at each start.
"""
INTERRUPTED = 130
PIPE_CLOSED = 141
"""Exit code when the reader of a pipe is gone, as a shell reports SIGPIPE."""


class DodoLoader(DodoTaskLoader):
    """Loads dodo.py of the working directory, whatever DOIT_FILE and the like say."""

    cmd_options = tuple(
        {**each, "short": "", "long": "", "env_var": None} for each in DodoTaskLoader.cmd_options
    )


class Main(DoitMain):
    """doit. It reads no doit.cfg, and no pyproject.toml: what it does is decided in dodo.py."""

    def __init__(self) -> None:
        super().__init__(task_loader=DodoLoader(), config_filenames=())

    def get_cmds(self) -> PluginDict:
        """The commands; all of doit's own among them are replaced."""
        places = {name: f"tasks.commands.{place}" for name, place in COMMANDS.items()}
        return PluginDict({name: PluginEntry("COMMAND", name, place) for name, place in places.items()})

    def process_args(self, cmd_args: Sequence[str]) -> list[str]:
        """Keep the `name=value` words apart. Those of a command for a host are its own. doit's own fails at an empty word."""
        reset_vars()
        words: list[str] = []
        for at, each in enumerate(cmd_args):
            name, is_variable, value = each.partition("=")
            if words[:1] == ["ssh"] and not (
                (name.isidentifier() and is_variable) or each.startswith(("-", "i-"))
            ):
                return [*words, *cmd_args[at:]]
            if is_variable and not each.startswith("-"):
                set_var(name, value)
            else:
                words.append(each)
        return words


def main() -> int:
    """Run doit on the words of the command line."""
    try:
        streams.prepare()
        code: int = Main().run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        streams.complain("interrupted")
        code = INTERRUPTED
    except CmdParseError as error:
        streams.complain(f"command line: {error}")
        code = 3
    except Exception as error:
        code = answered(error)
    streams.give_up()
    return code or 0


def answered(error: Exception, variables: Sequence[str] = ()) -> int:
    """Say what an exception is, in a sentence; its exit code."""
    from tasks import boundary  # 2 ms to import, and mostly nothing fails

    if isinstance(error, BrokenPipeError):  # as by `| head`
        return PIPE_CLOSED
    said = boundary.told(error)
    streams.complain(said.told(variables))
    return said.exit_code
