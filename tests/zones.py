"""zones: a DNS server on loopback that answers what the zones of a Route 53 have, for names and as each of their name servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

ADDRESS = "127.0.0.1"


class ZoneServer:
    """Serves until `close`. `blind`: it knows no TXT; `asked`: the names and types that it was asked for."""

    def __init__(self, route53: Any, folder: Path) -> None:
        self.route53, self.blind = route53, False
        self.asked: list[tuple[str, str]] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ADDRESS, 0))
        self.port: int = self.socket.getsockname()[1]
        self.resolvers = folder / "resolv.conf"
        self.resolvers.write_text(f"nameserver {ADDRESS}\n")
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self.socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                text, client = self.socket.recvfrom(4096)
                with contextlib.suppress(dns.exception.DNSException):
                    self.socket.sendto(self._answer(dns.message.from_wire(text)).to_wire(), client)

    def _answer(self, question: dns.message.Message) -> dns.message.Message:
        made, (asked,) = dns.message.make_response(question), question.question
        made.flags |= dns.flags.AA
        name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name.rstrip("."), kind))
        values = self._values(name, kind)
        if values:
            made.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", kind, values))
        elif kind == "A":  # a name server's own name: all of them are here
            made.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", ADDRESS))
        return made

    def _values(self, name: str, kind: str) -> list[str]:
        if kind == "TXT" and self.blind:
            return []
        return [
            value["Value"]
            for zone in self.route53.list_hosted_zones()["HostedZones"]
            if name.endswith(f".{zone['Name']}") or name == zone["Name"]
            for each in self.route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
            if (each["Name"].lower(), each["Type"]) == (name, kind)
            for value in each.get("ResourceRecords", ())
        ]
