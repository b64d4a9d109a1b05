"""The resolver answers what the proxy leads to, also while a host's proxy leads nowhere yet."""

from __future__ import annotations

from tests.roles.plays import played

TOLD = {
    "server_services": {
        "resolver": {"dns": {"bind": "127.0.0.1", "address": "127.0.0.1", "port": 53}},
        "proxy": {"http": {"bind": "127.0.0.1", "address": "127.0.0.1", "port": 3128}},
    },
    "proxy_allowed": ["api.example.com:8443", "192.0.2.1:80"],
    "proxy_listed": ["bucket.example.com:443", "api.example.com:8443"],
}


def test_a_preview_on_a_host_whose_egress_was_open_shows_the_names_that_will_be_listed(tmp_path):
    for path, text in {
        "etc/resolv.conf": "nameserver 192.0.2.53\n",
        "etc/apt/sources.list": "# deb http://old.example.com/debian x main\ndeb http://mirror.example.com:8080/debian x main\n",
        "etc/squid/squid.conf": "http_port 3128\n",  # Debian's own
        "etc/unbound/unbound.conf": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    said = played("resolver", tmp_path, TOLD, "--check", "--diff")
    assert said.returncode == 0, said.stdout + said.stderr
    listed = {line.split()[0] for line in said.stdout.splitlines() if line.endswith("CNAME rpz-passthru.")}
    assert listed == {"+api.example.com", "+bucket.example.com", "+mirror.example.com"}
    assert '+    local-zone: "mirror.example.com." transparent' in said.stdout
