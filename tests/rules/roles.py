"""roles: rules that hold for every task of every role and playbook. A rule takes the project's folder and returns what breaks it.

A finding begins with the file's path. A rule knows kinds of tasks, not single ones, so that a new task is held to it too.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import nodes

Finding = str
CORE = "ansible.builtin."
WRITERS = {
    "copy",
    "template",
    "file",
    "get_url",
    "lineinfile",
    "blockinfile",
    "replace",
    "unarchive",
    "assemble",
}
"""Modules that leave a file on the host."""
COMMANDS = {"command", "shell"}
PARSER = jinja2.Environment(autoescape=True, extensions=["jinja2.ext.do"])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task or handler, with what the blocks around it say."""

    path: str
    role: str
    name: str
    module: str
    arguments: Mapping[str, Any]
    said: Mapping[str, Any]
    section: str

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.path}: {self.name}"

    @property
    def conditions(self) -> list[Any]:
        """When it runs: by itself, and by the blocks around."""
        return [*self.said.get("under", ()), *([self.said["when"]] if "when" in self.said else ())]

    @property
    def text(self) -> str:
        """Everything that it says."""
        return str({**self.said})

    @property
    def target(self) -> str:
        """The path of the file that it writes."""
        return str(self.arguments.get("dest", self.arguments.get("path", "")))


# --- reading --------------------------------------------------------------------------------------------


@functools.cache
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


def load(path: Path) -> Any:
    """A YAML file; None if there is none."""
    return _parsed(path.read_text()) if path.exists() else None


def role_names(root: Path) -> list[str]:
    """Every role."""
    return sorted(path.name for path in (root / "roles").iterdir())


def playbooks(root: Path) -> dict[str, Mapping[str, Any]]:
    """Every play, by its playbook's name."""
    return {path.stem: load(path)[0] for path in sorted((root / "playbooks").glob("*.yml"))}


def tasks(root: Path) -> list[Task]:
    """Every task and handler of every role and playbook."""
    files = sorted(root.glob("roles/*/tasks/*.yml")) + sorted(root.glob("roles/*/handlers/*.yml"))
    found = [task for path in files for task in _of_file(root, path)]
    for path in sorted((root / "playbooks").glob("*.yml")):
        shown = str(path.relative_to(root))
        found += [each for play in load(path) for each in _of(play.get("tasks", ()), shown, "", "tasks", {})]
    return found


def _of_file(root: Path, path: Path) -> Iterator[Task]:
    shown = path.relative_to(root)
    yield from _of(load(path) or (), str(shown), shown.parts[1], shown.parts[2], {})


def _of(said: Any, path: str, role: str, section: str, around: Mapping[str, Any]) -> Iterator[Task]:
    inherited = ("become", "become_user", "no_log", "diff")
    for each in said:
        whole = {**around, **each}
        if "block" in each:
            outer = {name: whole[name] for name in inherited if name in whole}
            outer["under"] = [*around.get("under", ()), *([each["when"]] if "when" in each else ())]
            for part in ("block", "rescue", "always"):
                yield from _of(each.get(part, ()), path, role, section if part == "block" else part, outer)
            continue
        module = next(name for name in each if name.startswith(CORE))
        arguments = each[module] if isinstance(each[module], dict) else {"_free": each[module]}
        yield Task(
            path=path,
            role=role,
            name=each.get("name", module),
            module=module.removeprefix(CORE),
            arguments=arguments,
            said=whole,
            section=section,
        )


def variables(root: Path, role: str) -> Mapping[str, Any]:
    """What a role's vars say."""
    return load(root / "roles" / role / "vars" / "main.yml") or {}


def profiles(root: Path) -> dict[str, Mapping[str, Any]]:
    """Every profile, by its folder's name."""
    return {path.parent.name: load(path) for path in sorted(root.glob("applications/*/profile.yml"))}


# --- what an expression names ---------------------------------------------------------------------------


@functools.cache
def _names(text: str) -> frozenset[str]:
    """Variables whose values an expression or a template gives away: not those of which it tells the length."""
    parsed = PARSER.parse(text)
    counted = {
        id(name)
        for each in parsed.find_all(nodes.Filter)
        if each.name in ("length", "count")
        for name in each.find_all(nodes.Name)
    }
    return frozenset(each.name for each in parsed.find_all(nodes.Name) if id(each) not in counted)


def named(root: Path, role: str, value: Any, more: Mapping[str, Any] | None = None) -> set[str]:
    """Variables that a value gives away, with those that they are made of, and those of the templates that it looks up."""
    known = {**variables(root, role), **(more or {})}
    found: set[str] = set()
    waiting = [str(value)]
    while waiting:
        text = waiting.pop()
        here = _names(text)
        for template in re.findall(r"template',\s*'([\w.]+\.j2)'", text):
            here |= _names((root / "roles" / role / "templates" / template).read_text())
        for section, name in re.findall(r"lookup\('[\w.]*template', release_profile\.(\w+)\.(\w+)", text):
            here |= _of_profiles(root, section, name)
        waiting += [str(known[name]) for name in here - found if name in known]
        found |= here
    return found


def _of_profiles(root: Path, section: str, name: str) -> frozenset[str]:
    """Variables of the scripts that a key of the profiles' section `release` names."""
    found: frozenset[str] = frozenset()
    for profile, said in profiles(root).items():
        named = said.get("release", {}).get(section, {}).get(name, [])
        for template in [named] if isinstance(named, str) else named:
            found |= _names((root / "applications" / profile / template).read_text())
    return found


def secrets(root: Path) -> set[str]:
    """The options that their role's specs call secret."""
    specs = (load(path) for path in root.glob("roles/*/meta/argument_specs.yml"))
    return {
        name
        for each in specs
        for name, option in each["argument_specs"]["main"].get("options", {}).items()
        if option.get("no_log")
    }


def _contents(root: Path, task: Task) -> set[str]:
    """Variables of the file that a template task writes: of the role's template, or of any that a profile names for it."""
    source = str(task.arguments.get("src", ""))
    if task.module != "template":
        return set()
    if "{" not in source:
        return set(_names((root / "roles" / task.role / "templates" / source).read_text()))
    told = {name: each["server"]["roles"].get(task.role) for name, each in profiles(root).items()}
    return {
        variable
        for name, value in told.items()
        for template in re.findall(r"[\w.]+\.j2", str(value))
        for variable in _names((root / "applications" / name / template).read_text())
    }


SECRET = {
    *("database_password", "database_password_before", "shared_crypt_key", "shared_variables", "release_url"),
    *("search_password", "release_administrator_password", "release_administrator_secret"),
    *("backup_password", "backup_key_secret"),
    *("certificates_site", "nginx_visitor"),
    *("mail_password", "mail_relay_password"),
    *("redis_sessions_password", "redis_cache_password", "endpoints_passwords"),
}
"""Options that carry a password, a key, or an address with a signature."""


# --- the rules ------------------------------------------------------------------------------------------


def secret_values_are_not_shown(root: Path) -> list[Finding]:
    """Not in a log, a difference, a process list or a file that others may read."""
    known, found = secrets(root), []
    found += [f"roles: the option {name} is not called secret (no_log)" for name in sorted(SECRET - known)]
    for path in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        options = load(path)["argument_specs"]["main"].get("options", {})
        found += [
            f"{path.relative_to(root)}: {name} is a secret without no_log"
            for name, option in options.items()
            if re.search(r"password|_key$|secret_|token|(?<!base)_url$", name) and name not in known
        ]
    for task in tasks(root):
        found += [f"{task}: {each}" for each in _shown(root, task, known)]
    return found


def _shown(root: Path, task: Task, known: set[str]) -> Iterator[str]:
    own = dict(task.said.get("vars", {}))
    if task.said.get("loop_control", {}).get("loop_var") == "__release_script":  # a loop over scripts
        own["__release_script"] = "{{ lookup('template', release_profile.install.then) }}"
    hidden = task.said.get("no_log") is True

    def gives(value: Any) -> set[str]:
        return named(root, task.role, value, own) & known

    quiet = task.module in ("assert", "fail")
    told = {name: value for name, value in task.arguments.items() if not (quiet and name == "that")}
    for name, value in told.items():
        if secret := gives(value):
            if name in ("argv", "cmd", "_free"):
                yield f"{secret} is in a process list"
            if not hidden:
                yield f"{secret} is shown without no_log"
    for name in ("loop", "environment", "loop_control"):
        if (secret := gives(task.said.get(name, ""))) and not hidden:
            yield f"{secret} is shown by `{name}`"
    inside = _contents(root, task) & known
    if task.module == "copy":
        inside |= gives(task.arguments.get("content", ""))
    if inside and task.said.get("diff") is not False and not hidden:
        yield f"{inside} is in the difference that is shown"
    if inside and str(task.arguments.get("mode", ""))[-1:] != "0":
        yield f"{inside} is in a file that others may read"
    if inside and not {"owner", "group"} <= set(task.arguments):
        yield f"{inside} is in a file that does not say whose it is"


KEPT = re.compile(
    r"/s?bin/|^/etc/(squid|unbound)/|^/etc/systemd/system/(backup|outdated|self_shutdown)\.service$"
)
"""What nobody reads or runs whose service is stopped, or whose timer is removed."""


def what_is_wanted_no_more_goes(root: Path) -> list[Finding]:
    """What is written under a condition is removed or emptied under another: a task that is skipped keeps what it has written."""
    everything = [task for task in tasks(root) if task.conditions]
    return [
        f"{task}: nothing removes {task.target} where it is not wanted any more"
        for task in everything
        if task.module in ("copy", "template") and not KEPT.search(task.target)
        if not any(
            each.role == task.role
            and each.conditions != task.conditions
            and task.target in (each.target, *_listed(each))
            for each in everything
        )
    ]


def _listed(task: Task) -> list[str]:
    loop = task.said.get("loop")
    return loop if isinstance(loop, list) else []


LASTS_OF_A_UNIT = re.compile(r"systemctl\b.*\b(enable|disable|mask|unmask)\b")
"""A command that says whether a unit starts with the machine."""


def what_is_written_is_in_the_ledger(root: Path) -> list[Finding]:
    """The events of a task with `no_log` name no file: `diff: false` hides what a template holds. Those of a command name no unit."""
    return [
        f"{task}: no ledger knows what it writes"
        for task in tasks(root)
        if (task.module not in COMMANDS | READS and task.said.get("no_log"))
        or (task.module in COMMANDS and LASTS_OF_A_UNIT.search(str(task.arguments)))
    ]


OWNERS = {
    "/etc/nginx/visitors": "www-data",  # which reads it with each request
    # the application reads its configuration, and writes no word into it
    "{{ application_path }}/shared/{{ __shared_file": {
        "owner": "root",
        "group": "{{ application_web_user }}",
    },
    "{{ application_path }}/shared/{{ __shared_place": "root",
    # what commands and pages write
    "{{ application_path }}/shared/{{ __shared_directory": {
        "owner": "{{ application_user }}",
        "group": "{{ application_web_user }}",
    },
    # commands lock them, and pages cannot
    "{{ application_path }}{{ __application_folder": {"owner": "root", "group": "{{ application_user }}"},
    "{{ application_path }}/shared/": "{{ application_user }}",
    "/etc/redis/": "redis",
    "/etc/squid/": {"owner": "root", "group": "proxy"},
    "/var/log/mysql": "mysql",
    # who shows what was caught reads the page's password, and writes nothing but mail
    "/etc/caught_mail.json": {"owner": "root", "group": "{{ __mail_user }}"},
    "{{ __mail_folder }}": "{{ __mail_user }}",
}
"""Whose files are not root's, by the beginning of their paths."""


def files_state_owner_and_mode(root: Path) -> list[Finding]:
    """Each file has an owner, a group and a quoted mode; nobody else writes it; programs alone are executable."""
    return [f"{task}: {each}" for task in tasks(root) for each in _stated(root, task)]


def _stated(root: Path, task: Task) -> Iterator[str]:
    state = task.arguments.get("state")
    if task.module not in WRITERS or (task.module == "file" and state in ("absent", "link")):
        return
    mode = task.arguments.get("mode")
    # where its group writes, what is made in it has the group too
    for_two = state == "directory" and task.arguments.get("group") == "{{ application_web_user }}"
    if not isinstance(mode, str) or not re.fullmatch(f"{2 if for_two else 0}[0-7]{{3}}", mode):
        yield f"the mode {mode!r} is not four digits in quotes, with the group's bit where two users write"
        return
    if bool(int(mode, 8) & 0o020) != for_two or int(mode, 8) & 0o002:
        yield f"others may write it ({mode})"
    if task.target.endswith(".pem") and mode != "0600":
        yield f"others than its owner may read a private key ({mode})"
    may_run = state == "directory" or "bin/" in task.target
    if may_run != bool(int(mode, 8) & 0o111):
        yield f"it {'cannot' if may_run else 'can'} be executed ({mode})"
    if state == "directory" and mode[1] != "7":
        yield f"its owner cannot use the folder ({mode})"
    wanted = next((owner for path, owner in OWNERS.items() if task.target.startswith(path)), "root")
    for name in ("owner", "group"):
        for playbook, play in playbooks(root).items():
            if task.role not in _played(root, play):
                continue
            default = play.get("module_defaults", {}).get(f"{CORE}{task.module}", {})
            said = task.arguments.get(name, default.get(name))
            right = wanted[name] if isinstance(wanted, dict) else wanted
            if said != right:
                yield f"its {name} in playbooks/{playbook}.yml is {said}, not {right}"


def _played(root: Path, play: Mapping[str, Any]) -> set[str]:
    """The roles of a play; those of the profiles where it includes them."""
    text = str(play.get("tasks", ""))
    listed = {each["role"] for each in play.get("roles", ())} | set(re.findall(r"'name': '(\w+)'", text))
    if "server_role" in text:
        listed |= {role for each in profiles(root).values() for role in each["server"]["roles"]}
    return listed


def commands_take_values_as_they_are(root: Path) -> list[Finding]:
    """A command is a list; a shell gets quoted values, and ends at the first failure."""
    return [f"{task}: {each}" for task in tasks(root) for each in _typed(task)]


def _typed(task: Task) -> Iterator[str]:
    if task.module in ("raw", "script", "expect"):
        yield f"{task.module} passes text through a shell"
    if task.module not in COMMANDS:
        return
    if task.module == "command":
        if "argv" not in task.arguments:
            yield "the command is a text, not a list"
        return
    text = str(task.arguments.get("cmd", task.arguments.get("_free", "")))
    for output in PARSER.parse(text).find_all(nodes.Output):
        for value in output.nodes:
            if not isinstance(value, nodes.TemplateData) and not _quoted(value):
                yield "a value reaches the shell without `quote`"
    script = [
        line for line in text.strip().splitlines() if line.strip() and not line.strip().startswith("{%")
    ]
    if len(script) > 1 and not re.match(r"set -o errexit", script[0]):
        yield "the script goes on after a failure"
    if re.search(r"(?<!\|)\|(?!\|)", re.sub(r"\{\{.*?\}\}", "", text)) and "pipefail" not in text:
        yield "a failure within a pipe is not seen"


def _quoted(value: nodes.Node) -> bool:
    """Whether an expression's last filter is `quote`, or the words are quoted before they are joined with blanks."""
    if not isinstance(value, nodes.Filter):
        return False
    if value.name == "quote":
        return True
    inner = value.node
    return (
        value.name == "join"
        and [each.value for each in value.args if isinstance(each, nodes.Const)] == [" "]
        and isinstance(inner, nodes.Filter)
        and inner.name == "map"
        and [each.value for each in inner.args if isinstance(each, nodes.Const)] == ["quote"]
    )


OF_THE_APPLICATION = (
    "release_profile.install",
    "release_profile.written",
    "release_profile.migration",
    "release_profile.configuration",
    "release_profile.maintenance",
)


def the_application_s_commands_run_as_its_user(root: Path) -> list[Finding]:
    """What a profile types, and what works in a release's folder, is never root's."""
    found = []
    for task in tasks(root):
        if task.module not in COMMANDS:
            continue
        typed = str(task.arguments.get("argv", ""))
        theirs = (
            typed.startswith(tuple(f"{{{{ {each}" for each in OF_THE_APPLICATION))
            or "__release_command" in typed
        )
        inside = re.match(r"\{\{ (application_path|__release_path)", str(task.arguments.get("chdir", "")))
        if (theirs or inside) and (task.said.get("become"), task.said.get("become_user")) != (
            True,
            "{{ application_user }}",
        ):
            found.append(f"{task}: does not run as the application's user")
        if task.said.get("become_user", "{{ application_user }}") != "{{ application_user }}":
            found.append(f"{task}: runs as somebody else")
    found += [
        f"{task}: does not change a release as the application's user"
        for task in tasks(root)
        if task.module == "file" and task.target.startswith("{{ __release_path }}/")
        if (task.said.get("become"), task.said.get("become_user")) != (True, "{{ application_user }}")
    ]
    for task in tasks(root):
        if task.module != "user" or task.role == "base":  # people, who log in
            continue
        wanted = {"system": True, "create_home": False, "shell": "/usr/sbin/nologin"}
        told = {name: task.arguments.get(name) for name in wanted}
        found += [f"{task}: {name} is {told[name]}" for name in wanted if told[name] != wanted[name]]
        commands = task.arguments.get("name") == "{{ application_user }}"
        groups = {"groups": ["{{ application_web_user }}"]} if commands else {}
        if {
            each: task.arguments[each] for each in ("groups", "password") if each in task.arguments
        } != groups:
            found.append(f"{task}: is in other groups than {groups}, or has a password")
    return found


CHECKED = {
    r"^/etc/nginx/.*\.conf$": r"nginx -t\b",
    r"^/etc/nftables\.conf$": r"^nft --check --file %s$",
    r"^/etc/php/.*/php-fpm\.conf$": r"--test --fpm-config %s$",
    r"\.vcl$": r"^varnishd .*-C -f %s$",
    r"^/etc/sudoers": r"^visudo -cf %s$",
    r"^/etc/ssh/sshd_config": r"^sshd -t -f %s$",
    r"^/etc/squid/": r"^squid -k parse -f %s$",
    r"^/etc/unbound/unbound\.conf$": r"^unbound-checkconf %s$",
    r"^/etc/chrony/": r"^sh -c '.*chronyd -p -f /etc/chrony/new;",
    r"^/etc/needrestart/": r"^perl -c %s$",
    r"^/etc/redis/": r"redis-server %s --taken yes .*\| grep --quiet taken\"$",
    r"^/etc/postfix/.*\.cf$": r"^\{\{ __mail_validate \}\} sh %s (main|master)\.cf$",
    r"^/etc/mysql/": r"! mariadbd --defaults-file=%s --verbose --help .*\| grep ERROR\"$",
    r"^/etc/ssl/.*\.pem$": r'key=\$\(openssl pkey [^)]*\) && test "\$key" = "\$\(openssl x509 [^)]*\)"',
}
"""Programs that check a file before it is put in place, by the file's path."""


def a_configuration_is_checked_before_it_is_in_place(root: Path) -> list[Finding]:
    """Where the service has a program for it."""
    found = []
    for task in tasks(root):
        validate = str(task.arguments.get("validate", ""))
        if named := re.fullmatch(r"\{\{ (\w+) \}\}", validate):
            validate = str(variables(root, task.role)[named[1]])
        for path, program in CHECKED.items():
            if task.module in WRITERS and re.search(path, task.target):
                if not re.search(program, validate):
                    found.append(f"{task}: is put in place unchecked")
                elif " sh -c " in f" {validate}" and not re.search(
                    r"result=\$\?;.*exit \$result|\| grep [^|]*$", validate, re.DOTALL
                ):
                    found.append(f"{task}: the check's exit code is lost")
    return found


READ_WHEN_USED = re.compile(
    r"^/etc/(cron\.d|logrotate\.d|ssh/keys|sudoers\.d|apt/apt\.conf\.d|timezone|localtime|tmpfiles\.d|security/limits\.d|modprobe\.d|profile\.d|default/debsums|systemd/coredump\.conf\.d|needrestart/|environment$|cloud/cloud\.cfg\.d|backup\.json$|database_copy\.cnf$|nginx/visitors$)|/s?bin/|^\{\{ "
)
"""Files that no running service keeps in memory."""
HOW = {
    "redis": "restarted",
    "mariadb": "restarted",
    "chrony": "restarted",
    "systemd-journald": "restarted",
    "ssh": "reloaded",
    "nginx": "reloaded",
    "nftables": "reloaded",
    "postfix": "restarted",
    "squid": "reloaded",
    "unbound": "restarted",
}
"""What makes a service read its configuration again; a reload of the first ones reads nothing."""
AGAIN = {"restarted", "reloaded"}


def a_changed_file_is_read_again(root: Path) -> list[Finding]:
    """A task that writes a service's file notifies a handler which restarts or reloads it."""
    found, everything = [], tasks(root)
    for role in role_names(root):
        own = [task for task in everything if task.role == role]
        handlers = {task.name: task for task in own if task.section == "handlers"}
        read = [
            name
            for each in handlers.values()
            if _again(each, handlers)
            for name in (each.name, *_topics(each))
        ]
        reloads = [task for task in own if task.arguments.get("daemon_reload")]
        daemon = {each.name for each in reloads}
        always = any(each.section != "handlers" for each in reloads)
        for task in own:
            told = task.said.get("notify", [])
            told = [told] if isinstance(told, str) else told
            units = re.search(r"^/etc/systemd/system/", task.target)
            if task.module not in ("copy", "template") or task.section == "handlers":
                continue
            if units and not always and not daemon & set(told):
                found.append(f"{task}: systemd does not read the unit again")
            oneshot = task.target.endswith("self_shutdown.service")  # the next start reads it
            shared = task.target.startswith("{{ application_path }}/shared/")
            if not told and not oneshot and (shared or not READ_WHEN_USED.search(task.target)):
                found.append(f"{task}: no service is told")
            found += [f"{task}: {name} does not make it be read again" for name in told if name not in read]
        for handler in handlers.values():
            unit = str(handler.arguments.get("name", ""))
            if unit in HOW and handler.arguments.get("state") != HOW[unit]:
                found.append(f"{handler}: {unit} must be {HOW[unit]}, not {handler.arguments.get('state')}")
    if playbooks(root)["server"].get("force_handlers") is not True:
        found.append(
            "playbooks/server.yml: a failure leaves services on their old configuration (force_handlers)"
        )
    return found


INTERRUPTED = "The last provisioning was interrupted"
"""The topic to which handlers listen that run after one."""
BEFORE = "server_interrupted"
"""Whether one was, as the playbook says."""


def an_interruption_is_made_up_for(root: Path) -> list[Finding]:
    """What an interrupted provisioning has lost is notified before handlers run, and runs on hosts that have the role alone."""
    found, everything = [], [each for each in tasks(root) if each.role not in ("", "provisioning_finished")]
    for before, task in itertools.pairwise(everything):
        said = (before.path, *(before.said.get(key) for key in ("notify", "when", "changed_when")))
        wanted = (task.path, INTERRUPTED, f"{BEFORE} | default(false)", True)
        if "flush_handlers" in task.text and said != wanted:
            found.append(f"{task}: what an interrupted provisioning has lost is not notified before")
    # a topic reaches the handlers of all roles that any host of the play has
    found += [
        f"{each}: runs on hosts without the role"
        for each in everything
        if each.section == "handlers" and INTERRUPTED in _topics(each)
        if f"'{each.role}' in server_roles" not in str(each.said.get("when"))
    ]
    # a unit whose file is gone runs on; one that was only not started again is started by its task
    found += [
        f"{each}: is not made up for"
        for each in everything
        if each.section == "handlers" and "'stop'" in str(each.arguments.get("argv"))
        if INTERRUPTED not in _topics(each)
    ]
    return found


def _topics(handler: Task) -> list[str]:
    said = handler.said.get("listen", [])
    return [said] if isinstance(said, str) else list(said)


def _again(handler: Task, handlers: Mapping[str, Task]) -> bool:
    if handler.module in COMMANDS:
        # a file that only says what can be set without a restart
        if "SET GLOBAL" in str(handler.arguments.get("stdin")):
            return "'mariadb'" in str(handler.arguments.get("argv"))
        return bool(
            re.search(
                r"'(reload|try-reload-or-restart|restart|stop|--load|update-ca-certificates)'",
                str(handler.arguments.get("argv")),
            )
        )
    if handler.arguments.get("state") == "stopped":  # what is no longer listed must not start again
        following = handlers.get(str(handler.said.get("notify")))
        return following is not None and following.arguments.get("state") == "started"
    return handler.module == "systemd_service" and handler.arguments.get("state") in AGAIN


def a_service_starts_at_boot(root: Path) -> list[Finding]:
    """Whatever a handler restarts or reloads is enabled and started by its role, and a unit that says when it starts is enabled."""
    found, everything = [], tasks(root)
    for role in role_names(root):
        own = [task for task in everything if task.role == role and task.module == "systemd_service"]
        enabled = {
            task.arguments["name"]
            for task in own
            if task.arguments.get("enabled") is True and task.arguments.get("state") == "started"
        }
        handled = {
            task.arguments["name"]: task
            for task in own
            if task.section == "handlers"
            and "name" in task.arguments
            and task.arguments["name"] not in ("systemd-journald", "ssh")
        }
        found += [
            f"{handled[name]}: {name} is not enabled and started" for name in handled if name not in enabled
        ]
        on = {
            task.arguments["name"].removesuffix(".service")
            for task in own
            if task.arguments.get("enabled") is True
        }
        found += [
            f"{path.relative_to(root)}: is not enabled"
            for path in (root / "roles" / role).glob("[ft]*s/*")
            if path.is_file() and "\n[Install]\n" in path.read_text()
            if path.name.removesuffix(".j2").removesuffix(".service") not in on
        ]
    return found


def what_is_fetched_comes_from_where_it_should(root: Path) -> list[Finding]:
    """No switch that turns a check of origin off."""
    off = r"allow_unauthenticated|allow-unauthenticated|trusted=yes|--insecure|\bcurl -k|no-check-certificate|force-yes|--trusted-host"
    found = []
    for task in tasks(root):
        if re.search(off, task.text):
            found.append(f"{task}: turns a check of where it comes from off")
        if task.arguments.get("validate_certs", True) is not True:
            found.append(f"{task}: takes any certificate")
        if task.module == "apt" and task.arguments.get("install_recommends") is not False:
            found.append(f"{task}: installs what nobody has listed")
        if task.module == "uri":
            wanted = {"follow_redirects": "none"}
            found += [
                f"{task}: {name} is not {each}"
                for name, each in wanted.items()
                if task.arguments.get(name) != each
            ]
            if "timeout" not in task.arguments:
                found.append(f"{task}: waits for ever")
    return found


READS = {"stat", "slurp", "find", "uri", "debug"}


def a_failure_is_not_passed_over(root: Path) -> list[Finding]:
    """A task may fail unnoticed only where it changes nothing; whoever rescues says what went wrong."""
    found = []
    for task in tasks(root):
        if task.said.get("ignore_errors") or task.said.get("ignore_unreachable"):
            found.append(f"{task}: ignores errors")
        reads = task.module in READS or task.said.get("changed_when") is False
        if task.said.get("failed_when") is False and not reads:
            found.append(f"{task}: changes something, and its failure is not seen")
        if task.module in COMMANDS and "set +o errexit" in task.text:
            found.append(f"{task}: goes on after a failure")
    for path in sorted(root.glob("roles/*/tasks/*.yml")):
        found += [
            f"{path.relative_to(root)}: {block.get('name')}: its rescue hides the failure"
            for block in _blocks(load(path))
            if "rescue" in block and not _ends_in_failure(root, path, block["rescue"])
        ]
    for name, play in playbooks(root).items():
        if (
            play.get("become") is not True
            or play.get("ignore_errors")
            or play.get("any_errors_fatal") is False
        ):
            found.append(f"playbooks/{name}.yml: the play does not work as root, or passes over errors")
    return found


def _blocks(said: Any) -> Iterator[Mapping[str, Any]]:
    for each in said or ():
        if "block" in each:
            yield each
            for part in ("block", "rescue", "always"):
                yield from _blocks(each.get(part))


def _ends_in_failure(root: Path, path: Path, rescue: Any) -> bool:
    last = rescue[-1]
    if imported := last.get(f"{CORE}import_tasks"):
        return _ends_in_failure(root, path, load(path.parent / imported))
    return f"{CORE}fail" in last and "when" not in last


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    secret_values_are_not_shown,
    what_is_written_is_in_the_ledger,
    what_is_wanted_no_more_goes,
    files_state_owner_and_mode,
    commands_take_values_as_they_are,
    the_application_s_commands_run_as_its_user,
    a_configuration_is_checked_before_it_is_in_place,
    a_changed_file_is_read_again,
    a_service_starts_at_boot,
    an_interruption_is_made_up_for,
    what_is_fetched_comes_from_where_it_should,
    a_failure_is_not_passed_over,
)
