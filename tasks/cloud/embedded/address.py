"""address: where the embedded cloud listens, and the id of its account."""

LOOPBACK = "127.0.0.1"
ACCOUNT = "123456789012"
