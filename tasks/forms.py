"""forms: what a setting's value must look like beyond its type: bounds, networks, names, sizes, times."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ZONES = Path("/usr/share/zoneinfo")
"""Where Debian keeps the time zones."""
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
"""A whole number as people write it. YAML 1.1 reads `010` as 8, `1:30` as 90 and `1_0` as 10."""
BOUNDS = re.compile(r"(?:from (?P<low>\d+) to (?P<high>\d+)|at least (?P<least>\d+))")


@dataclass(frozen=True, kw_only=True)
class Form:
    """`words`: what a value should be, for the docs and a refusal. `holds`: whether a value is that."""

    words: str
    holds: Callable[[Any], bool]
    normal: Callable[[Any], Any] | None = None
    """Makes of a value that holds the one that is meant."""
    memory: str = ""
    """Of a size of memory: KEPT or EACH."""


KEPT, EACH = "kept", "each"
"""Whether a service keeps so much of a machine's memory, or each of several programs may have so much."""


def at_least(least: int) -> Form:
    """A whole number with a lower bound."""
    return Form(words=f"a whole number, at least {least}", holds=lambda value: value >= least)


def between(low: int, high: int) -> Form:
    """A whole number with both bounds."""
    return Form(words=f"a whole number from {low} to {high}", holds=lambda value: low <= value <= high)


def text(words: str, pattern: str) -> Form:
    """A text that a regular expression matches as a whole."""
    return Form(words=words, holds=lambda value: bool(re.fullmatch(pattern, value)))


def or_empty(form: Form) -> Form:
    """The form, or an empty text."""
    return dataclasses.replace(
        form, words=f"{form.words}, or empty", holds=lambda value: value == "" or form.holds(value)
    )


def readable(words: str, read: Callable[[str], object]) -> Form:
    """A text that a function reads without an error."""

    def holds(value: str) -> bool:
        try:
            read(value)
        except (ValueError, LookupError, OSError, re.error):
            return False
        return True

    return Form(words=words, holds=holds)


def span(value: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end of FROM/TO; a date without a time means midnight, UTC. Raises ValueError."""
    begin, end = (
        each.replace(tzinfo=each.tzinfo or datetime.UTC)
        for each in map(datetime.datetime.fromisoformat, value.split("/"))
    )
    if not begin < end:
        raise ValueError(value)
    return begin, end


def is_text(value: str) -> bool:
    """Whether a text can be an argument, a tag and a line: no control characters but tab and newline, nothing that is not UTF-8."""
    # most texts are printable, and the expression takes a millisecond to compile
    return value.isprintable() or not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value)


def is_branch(value: str) -> bool:
    """Whether git allows a branch of this name: the rules of git-check-ref-format."""
    wrong = re.search(r"\.\.|@\{|[\x00-\x20\x7f~^:?*\[\\]|^-|^@$|\.$", value)
    parts = value.split("/")
    return not wrong and all(
        part and not part.startswith(".") and not part.endswith(".lock") for part in parts
    )


def _network(value: str) -> None:
    import ipaddress  # 2 ms to import, and most files name no network

    if "/" not in value:
        raise ValueError(value)  # a bare address is mostly a network whose length was forgotten
    ipaddress.ip_network(value, strict=False)


def _normal_network(value: str) -> str:
    """As AWS stores it: `10.1.2.3/16` is `10.1.0.0/16`."""
    import ipaddress  # as above

    return str(ipaddress.ip_network(value, strict=False))


def _requests(value: str) -> None:
    """Raises ValueError for what would end the word in the web server's configuration."""
    if not value.isprintable() or '"' in value or value != value.strip() or not value:
        raise ValueError
    re.compile(value)


def _certificates(value: str) -> None:
    """Raises ValueError for what has no certificate, or anything beside them that is no comment."""
    import ssl  # costs start-up time, and most files have none

    found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", value, re.DOTALL)
    for each in found:
        ssl.create_default_context(cadata=each)
    if not found or "PRIVATE KEY" in value:
        raise ValueError


def _time_zone(value: str) -> None:
    if re.fullmatch(r"\w+(?:[/+-]\w+)*", value) and (ZONES / value).is_file():
        return
    import zoneinfo  # 3 ms to import, and mostly the machine has the zone's file

    zoneinfo.ZoneInfo(value)


SECONDS = Form(words="a number of seconds from 0 to 86400", holds=lambda value: 0 <= value <= 86_400)
FILLED = Form(
    words="a text that is not empty", holds=lambda value: bool(value.strip()) and value.isprintable()
)
TAG = Form(
    words="a text of 1 to 256 printable characters",
    holds=lambda value: FILLED.holds(value) and len(value) <= 256,
)
FOLDER = text("the name of one folder", r"[A-Za-z0-9_][A-Za-z0-9._-]*")
PROJECT = text(
    "a name of 1 to 40 lower-case letters, digits and hyphens that does not begin with aws, ssm, sg- or xn--",
    # AWS keeps them: for parameters, security groups, buckets
    r"(?!aws|ssm|sg-|sg$|xn--)[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?",
)
DNS_NAME = Form(
    words="a DNS name such as shop.example.com",
    holds=lambda value: len(value) <= 253 and bool(re.fullmatch(rf"{LABEL}(?:\.{LABEL})*", value.lower())),
    normal=str.lower,  # DNS does not tell them apart, comparing texts would
)
BUCKET = text(
    "a bucket's name of 3 to 63 lower-case letters, digits, dots and hyphens",
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
)
ACCOUNT = text("an account's id of 12 digits, in quotes", r"[0-9]{12}")
CLOUD_NAME = text("a name of lower-case letters, digits, dots and hyphens", r"[a-z0-9][a-z0-9.-]*")
UNIT_TEMPLATE = or_empty(text("a template of a unit such as app@.service", r"[A-Za-z0-9_.-]+@\.service"))
SUBNET = text("a subnet's id such as subnet-0123456789abcdef0", r"subnet-[0-9a-f]{8,17}")
JUMP_HOST = text(
    "session-manager, or a jump host such as admin@jump.example.com:22",
    r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?",
)
KMS_KEY = text("a KMS key's id, alias or ARN", r"[A-Za-z0-9:/_-]{1,2048}")
INSTANCE_PROFILE = text("an instance profile's name of 1 to 128 characters", r"[A-Za-z0-9_+=,.@-]{1,128}")
ROLE = text(
    "a role's name, or its ARN",
    r"(?:arn:aws[a-z-]*:iam::[0-9]{12}:role/)?(?:[A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}",
)
REPOSITORY = text("a name without spaces, quotes and wildcards", r"[A-Za-z0-9{}][A-Za-z0-9{}./_-]*")
UUID = text("a UUID", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ROLE_NAME = text("a role's name of lower-case letters, digits and underscores", r"[a-z][a-z0-9_]*")
ROLE_VERSION = text("a version such as 1.2.0, in quotes", r"[A-Za-z0-9][A-Za-z0-9._+-]*")
SHA256 = text("a SHA-256 of 64 lower-case hex digits, in quotes", r"[0-9a-f]{64}")
USER = text("the name of a system user", r"[a-z_][a-z0-9_-]{0,31}")
MAIL = text("a mail address", r"[^@\s]+@[^@\s]+")
INSTANCE = text("an instance's id such as i-0123456789abcdef0", r"i-[0-9a-f]{8,17}")
BRANCH = Form(words="a branch's name as git allows it", holds=is_branch)
PUBLIC_KEY = text("a minisign public key of 56 characters", r"RW[A-Za-z0-9+/]{54}")
FINGERPRINT = text(
    "an SSH key's fingerprint such as ssh-keygen -l prints: SHA256: and 43 characters",
    r"SHA256:[A-Za-z0-9+/]{43}",
)
NETWORK = dataclasses.replace(
    readable("a network such as 203.0.113.0/24 or 2001:db8::/32", _network), normal=_normal_network
)
PATTERN = readable("a regular expression", re.compile)
SPAN = readable("FROM/TO, each a date or a time in ISO 8601, FROM before TO", span)
STORE_CODE = text(
    "a store's code of letters, digits and underscores that begins with a letter", r"[A-Za-z][A-Za-z0-9_]*"
)
URL = text("a URL such as https://example.org/api", r"https?://[!-~]+")
SECRET_PLACE = text(
    "the NAME of an environment variable, or /NAME of a parameter", r"[A-Z][A-Z0-9_]*|/[A-Za-z0-9_.-]+"
)
URL_PATH = text("a path that begins with /", r"/[!-~]*")
SIZE = text("a size such as 512M", r"[1-9][0-9]*[kKmMgG]")

ENDPOINT = or_empty(
    Form(
        words="an endpoint such as db.example.com:3306",
        holds=lambda value: (
            bool(re.fullmatch(rf"{LABEL}(?:\.{LABEL})+:[1-9][0-9]{{0,4}}", value))
            and int(value.rpartition(":")[2]) < 65536
        ),
    )
)

OF_ROLES = {
    "size such as 512M": SIZE,
    "memory of each such as 512M": dataclasses.replace(SIZE, memory=EACH),
    "memory such as 512M": dataclasses.replace(SIZE, memory=KEPT),
    "memory such as 512M, or empty": dataclasses.replace(or_empty(SIZE), memory=KEPT),
    "memory such as 128mb": dataclasses.replace(
        text("a size such as 128mb", r"[1-9][0-9]*(?:[kKmMgG][bB])"), memory=KEPT
    ),
    "size such as 512M, 0, or empty": text("a size such as 512M, 0, or empty", r"(?:[1-9][0-9]*[kKmMgG]|0)?"),
    "time zone": readable("a time zone such as Europe/Berlin", _time_zone),
    "version such as 8.2": text("a version such as 8.2", r"[0-9]+\.[0-9]+"),
    "version such as 2.19, or empty": or_empty(text("a version such as 2.19", r"[0-9]+(?:\.[0-9]+)*")),
    "time such as 04:30, or empty": or_empty(
        text("a time such as 04:30", r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
    ),
    "name and public key such as alice ssh-ed25519 AAAA…": text(
        "a name and an SSH public key such as alice ssh-ed25519 AAAA…",
        r"[a-z][a-z0-9_-]{0,30} (?:ssh-ed25519|sk-ssh-ed25519@openssh\.com|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,}={0,3}(?: [ -~]*)?",
    ),
    "name and port such as api.example.com:443": Form(
        words="a name and a port such as api.example.com:443",
        holds=lambda value: (
            bool(re.fullmatch(rf"{LABEL}(?:\.{LABEL})+:[1-9][0-9]{{0,4}}", value))
            and int(value.rpartition(":")[2]) < 65536
        ),
    ),
    "endpoint such as db.example.com:3306, or empty": ENDPOINT,
    "certificates in PEM, or empty": or_empty(readable("certificates in PEM", _certificates)),
    "host such as smtp.example.com, or empty": or_empty(
        text("a host such as smtp.example.com", rf"{LABEL}(?:\.{LABEL})*")
    ),
    "user such as shop or shop@example.com, or empty": or_empty(
        text("a user such as shop or shop@example.com", r"[!-9;-~]+")
    ),
    "network such as 203.0.113.0/24": NETWORK,
    "path such as /health, or empty": or_empty(text("a path such as /health", r"/[A-Za-z0-9._/-]*")),
    "name such as login": text("a name such as login", r"[a-z][a-z0-9_]*"),
    "requests such as POST /login$": readable("a regular expression such as POST /login$", _requests),
    "file such as errors/unavailable.html, or empty": or_empty(
        text("a file such as errors/unavailable.html", r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/-]*")
    ),
    "search engine": text(
        "stand-in, or a host such as search.example.com or https://search.example.com, or empty",
        rf"(?:(?:https?://)?{LABEL}(?:\.{LABEL})*)?",
    ),
}
"""What a role's option may name after `Form:` in its description, beside bounds."""


def named(name: str) -> Form | None:
    """The form that a role's option names: one of OF_ROLES, `at least 1`, `from 1 to 9`. None if there is none."""
    if name in OF_ROLES:
        return OF_ROLES[name]
    if not (found := BOUNDS.fullmatch(name)):
        return None
    if found["least"]:
        return at_least(int(found["least"]))
    return between(int(found["low"]), int(found["high"]))
