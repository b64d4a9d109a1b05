"""challenges: the records by which an ACME authority sees that names are ours: put into Route 53, seen by everybody, removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import zone
from tasks.infrastructure.waiting import PATIENCE, POLL, patience
from tasks.infrastructure.zone import ZoneMissing
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

STAGE = "certificates"
Values = Mapping[str, Iterable[str]]
"""What an authority wants to see, by host name. A wildcard's is that of its zone."""
Look = Callable[[str, Iterable[str]], Mapping[str, Iterable[str]]]
"""Asks name servers for the TXT values of a name; the values by server. Raises OSError where one does not answer."""
LABEL = "_acme-challenge"
TTL = 60
"""Seconds; at most as long somebody sees what a former order has left."""
VALUE = re.compile(r'"[\w-]{43}"', re.ASCII)
"""What an order shows: a digest of 32 bytes in base64url."""
ELSEWHERE = ("CNAME", "NS", "TXT")
"""The kinds of record at a challenge's name by which an authority sees, or looks for, something else."""
SILENT = 5
"""Looks in a row that the name servers leave unanswered: from here nobody asks them, and Route 53's word counts."""


class ChallengeUnseen(Refusal):
    """A record that proves the zone ours is in Route 53, and its name servers did not show it in time."""

    sentence = "certificates: {name} is in Route 53, and after {seconds} s {lacking} not have it"
    remedy = "doit doctor  # whether the zone is delegated to these name servers"


class ChallengeTaken(Refusal):
    """Somebody has a record of his own at the name where an authority would look. It is left alone, and nothing is ordered."""

    sentence = (
        "certificates: {name} is somebody's {kind} record already, and there the authority looks ({values})"
    )
    remedy = "doit certificates  # once it is removed from the zone {zone}"


def name_of(host_name: str) -> str:
    """The name at which an authority looks."""
    return f"{LABEL}.{host_name.removeprefix('*.')}"


@contextlib.contextmanager
def shown(run: Run, values: Values, look: Look) -> Iterator[None]:
    """A block in which every name server of the zone shows the values, which are removed after it, whatever becomes of it.

    Raises ChallengeUnseen or ZoneMissing.
    """
    id, wanted = _zone(run), {name_of(host_name): sorted(each) for host_name, each in values.items()}
    records = [_record(name, each) for name, each in wanted.items()]
    try:
        if records:
            accepted = _change(run, id, "UPSERT", records)
            _wait(run, accepted["Id"], wanted, look)
        yield
    finally:
        for each in records:
            _forget(run, id, each)


def clear(run: Run, names: Iterable[str]) -> list[str]:
    """Remove what orders have left at these names that were killed; the names that had something. Raises ChallengeTaken."""
    id, removed = _zone(run), list[str]()
    for name in names:
        for _ in patience(run, f"{name} not removed"):
            if not (found := _left(run, id, name)):
                break
            # a list may be late: it is gone, or has other values
            with contextlib.suppress(run.cloud.client("route53").exceptions.InvalidChangeBatch):
                _change(run, id, "DELETE", [found])
                removed.append(name)
                break
    return removed


def _left(run: Run, id: str, name: str) -> Mapping[str, Any] | None:
    """The record that an order has left at a name. Raises ChallengeTaken for another one."""
    asked = {"HostedZoneId": id, "StartRecordName": name, "MaxItems": "10"}
    listed = run.cloud.client("route53").list_resource_record_sets(**asked)["ResourceRecordSets"]
    left: Mapping[str, Any] | None = None
    for each in listed:
        if each["Name"].rstrip(".") == name and each["Type"] in ELSEWHERE:
            values = [value["Value"] for value in each.get("ResourceRecords", ())]
            own = (each["Type"], each.get("TTL"), each.get("SetIdentifier")) == ("TXT", TTL, None)
            if not own or not all(map(VALUE.fullmatch, values)):
                zone_name, said = run.pipeline.dns_zone, ", ".join(values)
                raise ChallengeTaken(name=name, kind=each["Type"], values=said, zone=zone_name)
            left = each
    return left


def _forget(run: Run, id: str, record: Mapping[str, Any]) -> None:
    """Remove what was shown. A failure must not hide what became of the order; the next one removes it."""
    try:
        _change(run, id, "DELETE", [record])
    except Exception as error:
        if "it was not found" not in str(error):
            run.console.event(STAGE, f"{record['Name']} stays, and the next order removes it:")
            run.console.line(" ".join(str(error).split()))


def _change(run: Run, id: str, action: str, records: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": each} for each in records]}
    made = run.cloud.client("route53").change_resource_record_sets(HostedZoneId=id, ChangeBatch=batch)
    accepted: Mapping[str, Any] = made["ChangeInfo"]
    return accepted


def _zone(run: Run) -> str:
    if not (id := zone.zone_id(run.cloud, run.pipeline.dns_zone)):
        raise ZoneMissing(zone=run.pipeline.dns_zone)
    return id


def _record(name: str, values: Iterable[str]) -> dict[str, Any]:
    quoted = [{"Value": f'"{each}"'} for each in values]
    return {"Name": name, "Type": "TXT", "TTL": TTL, "ResourceRecords": quoted}


def _wait(run: Run, change: str, wanted: Mapping[str, list[str]], look: Look) -> None:
    """Until Route 53 has them on all of its servers, and these say so themselves. Raises ChallengeUnseen."""
    route53, servers = run.cloud.client("route53"), zone.name_servers(run.cloud, run.pipeline.dns_zone)
    end, silent, lacking = run.clock.monotonic() + PATIENCE, 0, "its change does"
    left, in_sync = dict(wanted), False
    while left and run.clock.monotonic() < end:
        in_sync = in_sync or route53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC"
        if not in_sync:
            run.threads.wait(run.cloud.dns_poll(), STAGE)
            continue
        name, values = next(iter(left.items()))
        try:
            behind = [server for server, found in look(name, servers).items() if not {*values} <= {*found}]
        except OSError as error:
            silent += 1
            if silent == SILENT:
                run.console.event(STAGE, "nobody here can ask the name servers: Route 53's word counts")
                run.console.line(str(error))
                return
            run.threads.wait(POLL, STAGE)
            continue
        silent = 0
        if not behind:
            del left[name]
            continue
        lacking = f"{', '.join(behind)} {'does' if len(behind) == 1 else 'do'}"
        run.threads.wait(POLL, STAGE)
    if left:
        raise ChallengeUnseen(name=next(iter(left)), seconds=round(PATIENCE), lacking=lacking)
