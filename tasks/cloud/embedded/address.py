"""address: where the embedded cloud listens."""

LOOPBACK = "127.0.0.1"
