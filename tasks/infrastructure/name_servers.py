"""name_servers: asks DNS for the name servers of a zone, as everybody else in the world sees them."""

from __future__ import annotations

from collections.abc import Iterable
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


def texts(
    name: str, servers: Iterable[str], resolvers: Path = RESOLVERS, port: int = 53, within: float = WITHIN
) -> dict[str, set[str]]:
    """The TXT values that each of a zone's name servers has for a name. Raises OSError where one of them does not answer."""
    import dns.exception  # as above
    import dns.message
    import dns.query
    import dns.rdatatype
    import dns.resolver

    found = dict[str, set[str]]()
    try:
        asked = dns.resolver.Resolver(filename=str(resolvers))
        asked.port, asked.timeout, asked.lifetime = port, within / 4, within
        for each in servers:
            address = next(iter(asked.resolve(f"{each}.", "A"))).to_text()
            question = dns.message.make_query(f"{name}.", dns.rdatatype.TXT)
            answer, _ = dns.query.udp_with_fallback(question, address, timeout=within, port=port)
            found[each] = {
                b"".join(value.strings).decode(errors="replace")
                for records in answer.answer
                if records.rdtype == dns.rdatatype.TXT
                for value in records
            }
    except (dns.exception.DNSException, OSError) as error:
        raise OSError(f"the name servers of {name} do not answer: {error or type(error).__name__}") from None
    return found
