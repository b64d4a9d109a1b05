"""DNS is asked as everybody else asks it: a server on loopback answers."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from tasks.infrastructure import name_servers

ZONE = b"\4shop\7example\3com\0"
NAMED = [b"\3NS1\xc0\x0c", b"\3ns2\3aws\3com\0"]


def answer(question, names=NAMED, kind=2):
    records = b"".join(b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, 60, len(name)) + name for name in names)
    return question[:2] + struct.pack(">5H", 0x8180, 1, len(names), 0, 0) + question[12:] + records


@pytest.fixture
def ask(tmp_path):
    """Asks for the zone, of a server that answers what the function makes of the question."""
    served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    served.bind(("127.0.0.1", 0))
    asked = []

    def of(make):
        def serve():
            question, client = served.recvfrom(4096)
            asked.append(question)
            if reply := make(question):
                served.sendto(reply, client)

        threading.Thread(target=serve, daemon=True).start()
        resolvers = tmp_path / "resolv.conf"
        resolvers.write_text("# a comment\nsearch example.com\nnameserver 127.0.0.1\n")
        found = name_servers.of("shop.example.com", resolvers, served.getsockname()[1])
        assert asked[0][12:] == ZONE + b"\0\2\0\1", "it asks for NS records of the zone"
        return found

    yield of
    served.close()


def test_the_name_servers_of_a_zone(ask):
    assert ask(answer) == {"ns1.shop.example.com", "ns2.aws.com"}


def test_a_zone_that_nobody_delegates_has_none(ask):
    assert ask(lambda question: answer(question, names=[])) == set()


def test_records_of_another_kind_are_passed_over(ask):
    assert ask(lambda question: answer(question, kind=5)) == set()


@pytest.mark.parametrize(
    "broken",
    [
        lambda question: question[:2] + b"\0" * 4 + b"\xff\xff\xff\xff" + question[10:],
        lambda question: answer(question, names=[b"\xc0\xff"])[:-1],
        lambda question: answer(question, names=[b"\xc0\xff"]),
        lambda question: question[:5],
    ],
)
def test_an_answer_that_is_no_dns_is_an_error_and_ends(ask, broken):
    with pytest.raises(OSError, match="answers with what is not DNS"):
        ask(broken)


def test_an_answer_to_another_question_counts_as_none(ask):
    assert ask(lambda question: b"xx" + answer(question)[2:]) == set()


def test_the_next_resolver_is_asked_where_one_does_not_answer(tmp_path):
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served:
        served.bind(("127.0.0.2", 0))  # nobody listens on 127.0.0.1 there

        def serve():
            question, client = served.recvfrom(4096)
            served.sendto(answer(question), client)

        threading.Thread(target=serve, daemon=True).start()
        found = name_servers.of("shop.example.com", resolvers, served.getsockname()[1])
    assert found == {"ns1.shop.example.com", "ns2.aws.com"}
