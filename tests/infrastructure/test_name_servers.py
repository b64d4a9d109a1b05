"""DNS is asked as everybody else asks it: a server on loopback answers."""

from __future__ import annotations

import contextlib
import socket
import threading

import dns.message
import dns.rcode
import dns.rrset
import pytest

from tasks.infrastructure import name_servers
from tests.zones import ZoneServer

ZONE = "shop.example.com"


def answer(question, *names, rcode=dns.rcode.NOERROR):
    made = dns.message.make_response(question)
    made.set_rcode(rcode)
    if names:
        made.answer.append(dns.rrset.from_text(f"{ZONE}.", 60, "IN", "NS", *names))
    return made.to_wire()


@pytest.fixture
def ask(tmp_path):
    """Asks for the zone, of a server that answers what the function makes of the question; a resolver before it is deaf."""
    served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    served.bind(("127.0.0.2", 0))  # nobody listens on 127.0.0.1 there

    def of(make):
        def serve():
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    text, client = served.recvfrom(4096)
                    question = dns.message.from_wire(text)
                    assert question.question[0].to_text() == f"{ZONE}. IN NS"
                    served.sendto(make(question), client)

        threading.Thread(target=serve, daemon=True).start()
        resolvers = tmp_path / "resolv.conf"
        resolvers.write_text("# a comment\nsearch example.com\nnameserver 127.0.0.1\nnameserver 127.0.0.2\n")
        return name_servers.of(ZONE, resolvers, served.getsockname()[1], within=1.5)

    yield of
    served.close()


def test_the_name_servers_of_a_zone(ask):
    assert ask(lambda question: answer(question, "NS1.shop.example.com.", "ns2.aws.com.")) == {
        "ns1.shop.example.com",
        "ns2.aws.com",
    }


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_a_zone_that_nobody_delegates_has_none(ask, rcode):
    assert ask(lambda question: answer(question, rcode=rcode)) == set()


@pytest.mark.parametrize(
    "make",
    [
        lambda question: b"no DNS",
        lambda question: answer(question, rcode=dns.rcode.SERVFAIL),
        lambda question: b"xx" + answer(question, "ns.elsewhere.com.")[2:],
    ],
    ids=["no DNS", "a failure", "to another question"],
)
def test_where_no_resolver_answers_nobody_guesses(ask, make):
    with pytest.raises(OSError, match=r"^DNS has no answer for shop.example.com: "):
        ask(make)


class OneZone:
    """A Route 53 with one zone, whose name has a TXT of these values."""

    def __init__(self, *values):
        self.values = [{"Value": each} for each in values]

    def list_hosted_zones(self):
        return {"HostedZones": [{"Name": f"{ZONE}.", "Id": "Z1"}]}

    def list_resource_record_sets(self, HostedZoneId):  # noqa: N803
        return {"ResourceRecordSets": [{"Name": f"a.{ZONE}.", "Type": "TXT", "ResourceRecords": self.values}]}


@pytest.mark.parametrize("values", [(), ('"one"',), ('"one"', '"two" "halves"')])
def test_what_each_name_server_of_a_zone_has_as_text(tmp_path, values):
    zones = ZoneServer(OneZone(*values), tmp_path)
    try:
        said = name_servers.texts(f"a.{ZONE}", ["ns1.aws.com", "ns2.aws.com"], zones.resolvers, zones.port)
    finally:
        zones.close()
    plain = {each.replace('" "', "").strip('"') for each in values}
    assert said == {"ns1.aws.com": plain, "ns2.aws.com": plain}
    assert zones.asked == [
        (f"{each}.aws.com", "A") if kind == "A" else (f"a.{ZONE}", "TXT")
        for each in ("ns1", "ns2")
        for kind in ("A", "TXT")
    ]


def test_a_name_server_that_does_not_answer_is_said(tmp_path):
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text("nameserver 127.0.0.1\n")
    with pytest.raises(OSError, match=r"^the name servers of a\.shop\.example\.com do not answer: "):
        name_servers.texts(f"a.{ZONE}", ["ns1.aws.com"], resolvers, 9, within=0.4)
