"""address: where the embedded cloud listens, the id of its account, and the hardware addresses of its hosts."""

LOOPBACK = "127.0.0.1"
ACCOUNT = "123456789012"


def hardware_address(address: str) -> str:
    """The hardware address of the host at an IPv4 address.

    It is fixed: ARP caches keep it for half a minute, and a restarted host must be reachable at once.
    """
    return "02:00:" + ":".join(f"{int(octet):02x}" for octet in address.split("."))
