"""name_servers: asks DNS for the name servers of a zone, as everybody else in the world sees them."""

from __future__ import annotations

from pathlib import Path

RESOLVERS = Path("/etc/resolv.conf")
WITHIN = 5.0
"""Seconds for an answer, from whichever resolver."""


def of(zone: str, resolvers: Path = RESOLVERS, port: int = 53, within: float = WITHIN) -> set[str]:
    """The name servers of a zone, in lower case; none where it does not exist. Raises OSError where no resolver answers."""
    # 150 ms to import, and only who makes a name on AWS asks, and the doctor
    import dns.exception
    import dns.resolver

    try:
        asked = dns.resolver.Resolver(filename=str(resolvers))
        asked.port, asked.timeout, asked.lifetime = port, within / 4, within
        answer = asked.resolve(f"{zone}.", "NS", raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return set()
    except dns.exception.DNSException as error:
        raise OSError(f"DNS has no answer for {zone}: {error}") from None
    return {each.target.to_text(omit_final_dot=True).lower() for each in answer}
