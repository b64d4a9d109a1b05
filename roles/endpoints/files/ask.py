"""ask: on a host: asks each service that is elsewhere, as the user that will, by TLS. It prints what is wrong with them, without a password: problems, and notes of what is not asked for its password."""

import contextlib
import hashlib
import json
import os
import pwd
import re
import smtplib
import socket
import ssl
import struct
import subprocess
import time

SECONDS = 5
TRIES, PAUSE = 3, 1
CLIENT = "/etc/database_copy.cnf"  # of roles/database, where the database is not on this host
OUTPUT = ("inet", "filter", "output")  # of roles/firewall
MEANWHILE = "asked"
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
    if answer[0] == 0 and moves(each):
        send(0, b"\3SELECT 1 FROM information_schema.tables WHERE table_schema = '%b' LIMIT 1" % user)
        sequence = [packet() for _ in range(4)]  # one column, what it is, an end, a row or the end of all
        if sequence[3][0] == 0xFE:
            raise ValueError(
                f"it has no tables, and the live release {told['live']} has its data in another database:"
                " close the site and copy them to it (docs/server.md, Data are not moved)"
            )


def moves(each):
    """Whether a release is live whose database is another one than this."""
    if not os.path.lexists(told["live"]):
        return False
    try:
        with open(CLIENT) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return True
    return not {f"host = {each['host']}", f"port = {each['port']}"} <= set(lines)


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


def uid(name):
    """That of a user, or root's where the host does not have him yet."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return 0


def nft(*words):
    """What nftables prints; nothing on a host that has no such table, or no nftables."""
    with contextlib.suppress(OSError):
        return subprocess.run(["nft", *words], capture_output=True, text=True).stdout
    return ""


@contextlib.contextmanager
def let_out(each):
    """Before a provisioning, the firewall of earlier settings may hold back who asks: it lets this one user out to this one port meanwhile."""

    def no_more():
        listed = nft("--handle", "list", "chain", *OUTPUT)
        for handle in re.findall(rf'comment "{MEANWHILE}" # handle ([0-9]+)', listed):
            nft("delete", "rule", *OUTPUT, "handle", handle)

    if told["provisioned"]:
        yield
        return
    no_more()  # of one that was killed
    way = ("tcp", "dport", str(each["port"]), "meta", "skuid", str(uid(each["as"])))
    nft("insert", "rule", *OUTPUT, *way, "accept", "comment", f'"{MEANWHILE}"')
    try:
        yield
    finally:
        no_more()


@contextlib.contextmanager
def user(name):
    """The host's firewall knows connections by who has opened them. A host that was not provisioned yet has neither."""
    with contextlib.suppress(PermissionError):
        os.seteuid(uid(name))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.seteuid(os.getuid())


def wrong(each):
    """What is wrong with a service; empty if nothing is. Raises OSError where it may answer a moment later."""
    host = each["host"].rpartition("://")[2]
    try:
        with user(each["as"]):
            connection = socket.create_connection((host, each["port"]), timeout=SECONDS)
        with connection:
            SPEAKS[each["speaks"]](connection, each)
    except ssl.SSLCertVerificationError as problem:
        return f"its certificate is not trusted: {problem.verify_message}"
    except (ValueError, IndexError) as problem:
        return str(problem)
    return ""


def patiently(each):
    """The same, of a service that is asked several times."""
    left = TRIES
    while True:
        try:
            with let_out(each):
                return wrong(each)
        except OSError as problem:
            left -= 1
            if not left:
                return problem.strerror or str(problem)
            time.sleep(PAUSE)


found = {"problems": [], "notes": []}
for each in told["asked"]:
    if problem := patiently(each):
        # hosts live without a relay or a search engine for a while, and are not kept from a provisioning
        kind = "problems" if each["secret"] else "notes"
        found[kind].append(f"{each['service']} at {each['host']}:{each['port']} cannot be used: {problem}")
print(json.dumps(found))
