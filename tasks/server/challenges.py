"""challenges: the records by which an ACME authority sees that names are ours: put into Route 53, seen by everybody, removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import zone
from tasks.infrastructure.waiting import PATIENCE, POLL
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
SILENT = 5
"""Looks in a row that the name servers leave unanswered: from here nobody asks them, and Route 53's word counts."""


class ChallengeUnseen(Refusal):
    """A record that proves the zone ours is in Route 53, and its name servers did not show it in time."""

    sentence = "certificates: {name} is in Route 53, and after {seconds} s {lacking} not have it"
    remedy = "doit doctor  # whether the zone is delegated to these name servers"


def name_of(host_name: str) -> str:
    """The name at which an authority looks."""
    return f"{LABEL}.{host_name.removeprefix('*.')}"


@contextlib.contextmanager
def shown(run: Run, values: Values, look: Look) -> Iterator[None]:
    """A block in which every name server of the zone shows the values, which are removed after it, whatever becomes of it.

    Raises ChallengeUnseen or ZoneMissing.
    """
    wanted = {name_of(host_name): sorted(each) for host_name, each in values.items()}
    try:
        if wanted:
            accepted = _change(run, [("UPSERT", _records(name, each)) for name, each in wanted.items()])
            _wait(run, accepted["Id"], wanted, look)
        yield
    finally:
        clear(run, wanted)


def clear(run: Run, names: Iterable[str]) -> list[str]:
    """Remove what is at these names; their names. Also what a run has left there that was killed."""
    route53, id = run.cloud.client("route53"), _zone(run)
    found = list[dict[str, Any]]()
    for name in names:
        asked = {"StartRecordName": name, "StartRecordType": "TXT", "MaxItems": "1"}
        listed = route53.list_resource_record_sets(HostedZoneId=id, **asked)["ResourceRecordSets"]
        found += [each for each in listed if (each["Name"], each["Type"]) == (f"{name}.", "TXT")]
    if found:
        _change(run, [("DELETE", each) for each in found])
    return [each["Name"].rstrip(".") for each in found]


def _change(run: Run, changes: Iterable[tuple[str, Mapping[str, Any]]]) -> Mapping[str, Any]:
    batch = [{"Action": action, "ResourceRecordSet": each} for action, each in changes]
    route53, id = run.cloud.client("route53"), _zone(run)
    made = route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch={"Changes": batch})
    accepted: Mapping[str, Any] = made["ChangeInfo"]
    return accepted


def _zone(run: Run) -> str:
    if not (id := zone.zone_id(run.cloud, run.pipeline.dns_zone)):
        raise ZoneMissing(zone=run.pipeline.dns_zone)
    return id


def _records(name: str, values: Iterable[str]) -> dict[str, Any]:
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
