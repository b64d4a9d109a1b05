"""judge: decides whether policies allow a request, as AWS does. Pure.

An explicit Deny wins. Else an Allow of an identity's policy is enough, if the session's own policy allows it too; and so is an
Allow of the resource's policy that names the caller. An element or an operator that is not judged here raises NotJudged.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Policy = Mapping[str, Any]
Statement = Mapping[str, Any]
Context = Mapping[str, str | Sequence[str]]
"""Condition keys and their values. Names are compared without case."""
ELEMENTS = frozenset(
    (
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
        "Principal",
        "NotPrincipal",
    )
)
SETS = ("ForAllValues", "ForAnyValue")
VARIABLE = re.compile(r"\$\{([^}]*)\}")
LITERAL = ("*", "?", "$")
"""`${*}` is a star."""


class NotJudged(ValueError):
    """A policy has something that this evaluator does not know: it is no policy, rather than one that allows."""


@dataclass(frozen=True, kw_only=True)
class AccessRequest:
    """A call, as far as it touches one resource. A call that touches several is allowed if each of its requests is.

    `principal`: the caller, by all the ARNs that name it: a session's, its role's, or an identity provider's.
    """

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)
    principal: tuple[str, ...] = ()

    @functools.cached_property
    def values(self) -> dict[str, list[str]]:
        """The context, by lower-case names."""
        return {name.lower(): _list(value) for name, value in self.context.items()}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided, and by which statement; an implicit denial has none."""

    effect: Literal["allowed", "denied", "implicitly denied"]
    by: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request may be carried out."""
        return self.effect == "allowed"


def judge(
    policies: Iterable[Policy],
    request: AccessRequest,
    *,
    resource_policy: Policy | None = None,
    session_policy: Policy | None = None,
    must_admit: bool = False,
) -> Decision:
    """Decide by an identity's policies, the policy of the resource (of a bucket; a role's trust policy), and the session's own.

    `must_admit`: the resource's policy has to allow it as well, as a role's does.
    """
    identity = [*_matching(policies, request)]
    session = [*_matching([session_policy] if session_policy else [], request)]
    resource = [
        each
        for each in _matching([resource_policy] if resource_policy else [], request)
        if _is_named(each, request)
    ]
    for each in (*identity, *session, *resource):
        if each["Effect"] == "Deny":
            return Decision(effect="denied", by=_name(each))
    direct = [each for each in resource if _is_named(each, request, directly=True)]
    allows = [*identity, *direct]
    if session_policy and not session:
        allows = direct
    if not allows or (must_admit and not resource):
        return Decision(effect="implicitly denied")
    return Decision(effect="allowed", by=_name(allows[0]))


def _name(statement: Statement) -> str:
    return str(statement.get("Sid") or statement["Effect"])


def _matching(policies: Iterable[Policy], request: AccessRequest) -> Iterable[Statement]:
    for policy in policies:
        statements = policy["Statement"]
        for each in [statements] if isinstance(statements, Mapping) else statements:
            if _applies(each, request):
                yield each


def _applies(statement: Statement, request: AccessRequest) -> bool:
    if unknown := statement.keys() - ELEMENTS:
        raise NotJudged(f"elements {sorted(unknown)}")
    return (
        _chosen(statement, "Action", lambda each: _is_action(each, request.action))
        and _chosen(statement, "Resource", lambda each: _is_resource(each, request), default=True)
        and all(
            _holds(operator, key, wanted, request)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _chosen(
    statement: Statement, element: str, matches: Callable[[str], bool], *, default: bool = False
) -> bool:
    """Whether `Action` or `Resource` matches, or its `Not…` does not. A trust policy has no resource."""
    if f"Not{element}" in statement:
        return not any(map(matches, _list(statement[f"Not{element}"])))
    if element not in statement:
        return default
    return any(map(matches, _list(statement[element])))


def _is_action(pattern: str, action: str) -> bool:
    return _like(pattern.lower(), action.lower())


def _is_resource(pattern: str, request: AccessRequest) -> bool:
    """A star within a part of an ARN does not reach beyond its colon; one at the end of a part does."""
    if pattern == "*":
        return True
    told = _regex(pattern, request)
    if told is None:
        return False
    return bool(_of_arn(told).fullmatch(request.resource))


@functools.lru_cache(4096)
def _of_arn(told: str) -> re.Pattern[str]:
    parts = told.split(":", 5)
    inner = [re.sub(r"\.\*(?=.)", "[^:]*", part) for part in parts[:5]]
    return re.compile(":".join([*inner, *parts[5:]]), re.DOTALL)


# --- principals -----------------------------------------------------------------------------------


def _is_named(statement: Statement, request: AccessRequest, *, directly: bool = False) -> bool:
    """Whether the policy of a resource means this caller. `directly`: not only by its account, whose own policies then decide."""
    if "NotPrincipal" in statement:
        return not _is_principal(statement["NotPrincipal"], request, directly=False)
    return _is_principal(statement.get("Principal", {}), request, directly=directly)


def _is_principal(principal: str | Mapping[str, Any], request: AccessRequest, *, directly: bool) -> bool:
    if isinstance(principal, str):
        return principal == "*"
    names = {name for values in principal.values() for name in _list(values)}
    if names & {"*", *request.principal}:
        return "*" in names or bool(request.principal)
    accounts = {arn.split(":")[4] for arn in request.principal if arn.count(":") >= 5}
    roots = {f"arn:aws:iam::{account}:root" for account in accounts}
    return not directly and bool(names & (accounts | roots))


# --- conditions -----------------------------------------------------------------------------------


def _holds(operator: str, key: str, wanted: Any, request: AccessRequest) -> bool:
    """One line of a condition, for a key with no, one or several values."""
    quantifier, _, name = operator.rpartition(":")
    if quantifier and quantifier not in SETS:
        raise NotJudged(f"operator {operator}")
    values = request.values.get(key.lower(), [])
    if name == "Null":
        return (not values) == (str(wanted).lower() == "true")
    base = name.removesuffix("IfExists")
    if base not in OPERATORS:
        raise NotJudged(f"operator {operator}")
    if not values:
        return name != base or quantifier == "ForAllValues" or (_negates(base) and not quantifier)
    if not quantifier and len(values) > 1:
        raise NotJudged(f"{key} has several values: an operator for sets is needed")
    compare = OPERATORS[base]
    met = [any(compare(each, value, request) for each in map(_text, _list(wanted))) for value in values]
    if _negates(base):
        met = [not each for each in met]
    return any(met) if quantifier == "ForAnyValue" else all(met)


def _negates(operator: str) -> bool:
    return "Not" in operator


Compare = Callable[[str, str, AccessRequest], bool]


def _equal(wanted: str, value: str, request: AccessRequest) -> bool:
    told = _replaced(wanted, request)
    return told is not None and told == value


def _equal_without_case(wanted: str, value: str, request: AccessRequest) -> bool:
    told = _replaced(wanted, request)
    return told is not None and told.lower() == value.lower()


def _alike(wanted: str, value: str, request: AccessRequest) -> bool:
    told = _regex(wanted, request)
    return told is not None and bool(re.fullmatch(told, value, re.DOTALL))


def _arn(wanted: str, value: str, request: AccessRequest) -> bool:
    """Part by part: a star in one does not reach into the next."""
    told = _regex(wanted, request)
    if told is None:
        return False
    ours, theirs = told.split(":", 5), value.split(":", 5)
    return len(ours) == len(theirs) and all(
        re.fullmatch(a, b, re.DOTALL) for a, b in zip(ours, theirs, strict=True)
    )


def _bool(wanted: str, value: str, request: AccessRequest) -> bool:
    return wanted.lower() == value.lower()


def _address(wanted: str, value: str, request: AccessRequest) -> bool:
    try:
        network, address = ipaddress.ip_network(wanted, strict=False), ipaddress.ip_address(value)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _ordered(compare: Callable[[Any, Any], bool], read: Callable[[str], Any]) -> Compare:
    def holds(wanted: str, value: str, request: AccessRequest) -> bool:
        try:
            return compare(read(value), read(wanted))
        except ValueError:
            return False

    return holds


def _date(text: str) -> float:
    """Seconds since 1970, of an ISO 8601 date or of such seconds."""
    if re.fullmatch(r"\d{5,}", text):
        return float(text)
    found = datetime.datetime.fromisoformat(text)
    return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()


ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda a, b: a == b,
    "NotEquals": lambda a, b: a == b,  # what negates is turned around by its name
    "LessThan": lambda a, b: a < b,
    "LessThanEquals": lambda a, b: a <= b,
    "GreaterThan": lambda a, b: a > b,
    "GreaterThanEquals": lambda a, b: a >= b,
}
OPERATORS: dict[str, Compare] = {
    "StringEquals": _equal,
    "StringNotEquals": _equal,
    "StringEqualsIgnoreCase": _equal_without_case,
    "StringNotEqualsIgnoreCase": _equal_without_case,
    "StringLike": _alike,
    "StringNotLike": _alike,
    "ArnEquals": _arn,
    "ArnNotEquals": _arn,
    "ArnLike": _arn,
    "ArnNotLike": _arn,
    "Bool": _bool,
    "IpAddress": _address,
    "NotIpAddress": _address,
    **{f"Numeric{name}": _ordered(compare, float) for name, compare in ORDERS.items()},
    **{f"Date{name}": _ordered(compare, _date) for name, compare in ORDERS.items()},
}


# --- patterns and variables -----------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@functools.cache
def _like(pattern: str, text: str) -> bool:
    return bool(re.fullmatch(_wild(pattern), text, re.DOTALL))


@functools.lru_cache(4096)
def _wild(pattern: str) -> str:
    """A pattern with IAM's two wildcards, as a regular expression."""
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _replaced(text: str, request: AccessRequest) -> str | None:
    """A text with the values of its variables; None if one has no value."""
    told = _pieces(text, request)
    return None if told is None else "".join(piece for piece, _ in told)


def _regex(text: str, request: AccessRequest) -> str | None:
    """The same as a regular expression, in which a variable's value has no wildcards."""
    told = _pieces(text, request)
    if told is None:
        return None
    return "".join(_wild(piece) if pattern else re.escape(piece) for piece, pattern in told)


def _pieces(text: str, request: AccessRequest) -> list[tuple[str, bool]] | None:
    """The pieces of a text, and whether each is a pattern. None if a variable has no value."""
    found = list[tuple[str, bool]]()
    for number, piece in enumerate(VARIABLE.split(text)):
        if number % 2 == 0:
            found.append((piece, True))
            continue
        name, _, default = (each.strip() for each in piece.partition(","))
        values = request.values.get(name.lower()) or ([default.strip("'")] if default else [])
        if name in LITERAL:
            values = [name]
        if len(values) != 1:
            return None
        found.append((values[0], False))
    return found
