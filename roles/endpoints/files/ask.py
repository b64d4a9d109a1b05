"""ask: on a host: asks each service that is elsewhere, as the user that will, by TLS. It prints what is wrong with each, without a password."""

import contextlib
import errno
import hashlib
import json
import os
import pwd
import smtplib
import socket
import ssl
import struct

SECONDS = 5
FIREWALL = "/etc/nftables.conf"
told = json.loads(TOLD)  # noqa: F821  a line before this program
context = ssl.create_default_context()
if told["authorities"]:
    context.load_verify_locations(cadata=told["authorities"])


def exactly(connection, number):
    """So many bytes, and none of those that come after them, which may be TLS."""
    found = b""
    while len(found) < number:
        if not (more := connection.recv(number - len(found))):
            raise ValueError("it hangs up")
        found += more
    return found


def mysql(connection, each):
    """Logs in by the password's digest; another way of logging in is the client's to try."""

    def packet():
        head = exactly(connection, 4)
        return exactly(connection, int.from_bytes(head[:3], "little"))

    def send(number, content):
        connection.sendall(len(content).to_bytes(3, "little") + bytes([number]) + content)

    def digest(salt):
        first = hashlib.sha1(told["passwords"][each["secret"]].encode()).digest()
        mask = hashlib.sha1(salt + hashlib.sha1(first).digest()).digest()
        return bytes(one ^ other for one, other in zip(first, mask, strict=True))

    greeting = packet()
    if greeting[0] == 0xFF:
        raise ValueError(f"it answers: {greeting[3:].decode(errors='replace')}")
    rest = greeting[greeting.index(b"\0") + 1 :]
    if not int.from_bytes(rest[13:15], "little") & 0x800:
        raise ValueError("it has no TLS")
    salt = rest[4:12] + rest[31:43]
    # as MySQL 4.1 and newer: TLS, a database, a name of the way to log in
    head = struct.pack("<IIB23x", 0x1 | 0x8 | 0x200 | 0x800 | 0x8000 | 0x80000, 1 << 24, 45)
    send(1, head)
    connection = context.wrap_socket(connection, server_hostname=each["host"])
    user, way = each["user"].encode(), b"mysql_native_password\0"
    send(2, head + user + b"\0" + bytes([20]) + digest(salt) + user + b"\0" + way)
    answer = packet()
    if answer[:1] == b"\xfe" and answer[1:].startswith(way):
        send(4, digest(answer[1 + len(way) :][:20]))
        answer = packet()
    if answer[0] == 0xFF:
        raise ValueError(f"it answers: {answer[9:].decode(errors='replace')}")


def redis(connection, each):
    """Logs in, and asks for a sign of life."""
    connection = context.wrap_socket(connection, server_hostname=each["host"])
    for words, wanted in ((("AUTH", told["passwords"][each["secret"]]), b"+OK"), (("PING",), b"+PONG")):
        texts = [word.encode() for word in words]
        lines = [b"*%d\r\n" % len(texts), *(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)]
        connection.sendall(b"".join(lines))
        if not (answer := connection.recv(200)).startswith(wanted):
            raise ValueError(f"it answers: {answer.decode(errors='replace').strip('-').strip()}")


def http(connection, each):
    """Any answer is one: it may not tell everybody what it is."""
    scheme, _, host = each["host"].rpartition("://")
    if scheme == "https":
        connection = context.wrap_socket(connection, server_hostname=host)
    connection.sendall(f"HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    if not connection.recv(200).startswith(b"HTTP/"):
        raise ValueError("it does not speak HTTP")


def smtp(connection, each):
    """It greets, and takes mail by TLS."""
    at_once = each["port"] == 465
    if at_once:
        connection = context.wrap_socket(connection, server_hostname=each["host"])
    client = smtplib.SMTP(local_hostname="localhost")
    client.sock, client._host = connection, each["host"]
    client.getreply()
    if not at_once:
        client.starttls(context=context)
    client.close()


SPEAKS = {"mysql": mysql, "redis": redis, "http": http, "smtp": smtp}


@contextlib.contextmanager
def user(name):
    """The host's firewall knows connections by who has opened them. A host that was not provisioned yet has neither."""
    with contextlib.suppress(KeyError, PermissionError):
        os.seteuid(pwd.getpwnam(name).pw_uid)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.seteuid(os.getuid())


def wrong(each):
    """What is wrong with a service; empty if nothing is, or if only the firewall of earlier settings is in between."""
    host = each["host"].rpartition("://")[2]
    try:
        with user(each["as"]):
            connection = socket.create_connection((host, each["port"]), timeout=SECONDS)
        with connection:
            SPEAKS[each["speaks"]](connection, each)
    except ssl.SSLCertVerificationError as problem:
        return f"its certificate is not trusted: {problem.verify_message}"
    except OSError as problem:
        # what nftables rejects, by IPv4 and by IPv6
        held = problem.errno in (errno.EHOSTUNREACH, errno.EACCES) and os.path.exists(FIREWALL)
        if held and not told["provisioned"]:
            return ""  # the role asks again behind the firewall of these settings
        return problem.strerror or str(problem)
    except (ValueError, IndexError, smtplib.SMTPException) as problem:
        return str(problem)
    return ""


problems = []
for each in told["asked"]:
    if problem := wrong(each):
        port = f":{each['port']}"
        problems.append(f"{each['service']} at {each['host']}{port} cannot be used: {problem}")
print(json.dumps(problems))
