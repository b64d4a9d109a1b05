"""acme: orders a certificate of an authority that sees by DNS that the names are ours (RFC 8555, its challenge DNS-01)."""

from __future__ import annotations

import contextlib
import datetime
import functools
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.process import children
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from acme.client import ClientV2

Prove = Callable[[Mapping[str, Sequence[str]]], contextlib.AbstractContextManager[None]]
"""Shows the authority these values by host name, for as long as the block lasts."""
WITHIN = 180.0
"""Seconds in which an authority must have looked, and in which it must have issued."""
SLICE = datetime.timedelta(seconds=5)
"""How long the library may wait by itself: it does not notice an interruption."""
NONCES = 5
"""How often a request is made again, each time twice, because its nonce has become too old."""
ERROR = "urn:ietf:params:acme:error:"


class AuthorityRefused(Refusal):
    """The ACME authority refuses an order: a limit, a CAA record, the contact, a name, or what it has seen in DNS."""

    sentence = "certificates: {authority} refuses a certificate for {names}: {problem} ({code})"
    remedy = "{remedy}"


class AuthoritySilent(Refusal):
    """What is at the directory's address does not answer, not in time, or not as an ACME authority."""

    sentence = "certificates: {authority} gives no certificate for {names}: {problem}"
    remedy = "doit certificates  # its address: pipeline.yml: acme.directory"


NEXT = {
    "rateLimited": "doit certificates  # once the limit is over: each try counts; hosts keep the certificate that they have",
    "caa": "dig +short CAA {zone}  # issue and issuewild there, or in a zone above, must name the authority",
    "invalidContact": "$EDITOR pipeline.yml  # acme.contact",
    "unsupportedContact": "$EDITOR pipeline.yml  # acme.contact",
    "externalAccountRequired": "$EDITOR pipeline.yml  # acme.directory: an authority that asks for no account made elsewhere",
    "rejectedIdentifier": "$EDITOR pipeline.yml  # dns_zone, or the environment's: names that the authority vouches for",
    "dns": "doit doctor  # whether the zone is delegated",
    "unauthorized": "doit doctor  # whether the zone is delegated",
}
"""What to type, by the code of RFC 8555."""


def new_account_key() -> str:
    """A key for an account: RSA, which every authority takes."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # costs start-up time, as below

    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def order(*, directory: str, contact: str, account_key: str, names: Sequence[str], prove: Prove) -> str:
    """A new key and the authority's certificate with its chain, as one text of PEM. Raises AuthorityRefused or AuthoritySilent."""
    # 300 ms to import, and an order is made every two months
    from acme import challenges, errors

    with _refusals(directory, names):
        authority = _connected(directory, account_key)
        _sign_up(authority, contact)
        key, request = _request(names)
        ordered = authority.new_order(request)
        asked = [
            (each.body.identifier.value, challenge)
            for each in ordered.authorizations
            if each.body.status.name != "valid"  # it was proved not long ago
            for challenge in each.body.challenges
            if isinstance(challenge.chall, challenges.DNS01)
        ]
        values = dict[str, list[str]]()
        for name, challenge in asked:
            values.setdefault(name, []).append(challenge.chall.validation(authority.net.key))
        with prove(values):
            for _, challenge in asked:
                authority.answer_challenge(challenge, challenge.chall.response(authority.net.key))
            for place in ordered.body.authorizations:
                # one by one: the library asks for all of them again in each slice, and must get through in one
                one = ordered.update(body=ordered.body.update(authorizations=(place,)))
                _patient(errors, functools.partial(authority.poll_authorizations, one))
        done = _patient(errors, functools.partial(authority.finalize_order, ordered))
    return key + str(done.fullchain_pem)


def _connected(directory: str, account_key: str) -> ClientV2:
    """A client with that account's key. Raises the library's errors."""
    import josepy  # as above
    from acme import client, errors, messages
    from cryptography.hazmat.primitives import serialization

    class PatientNetwork(client.ClientNetwork):
        """The library's, which makes a request with an old nonce once again and no more."""

        def post(self, *words: Any, **more: Any) -> Any:
            for _ in range(NONCES):
                try:
                    return super().post(*words, **more)
                except messages.Error as error:
                    if error.code != "badNonce":
                        raise
            return super().post(*words, **more)

        def _send_request(self, *words: Any, **more: Any) -> Any:
            try:
                return super()._send_request(*words, **more)
            except ValueError as error:  # what it makes of a host that does not answer
                raise errors.ClientError(str(error)) from None

    key = josepy.JWKRSA(key=serialization.load_pem_private_key(account_key.encode(), None))
    network = PatientNetwork(key, user_agent="release-pipeline")
    try:
        found = client.ClientV2.get_directory(directory, network)
        _ = found.newNonce, found.newAccount, found.newOrder
    except (josepy.errors.Error, ValueError, AttributeError, TypeError) as error:
        raise errors.ClientError(f"its answer is no directory: {error}") from None
    return client.ClientV2(found, network)


def _sign_up(authority: ClientV2, contact: str) -> None:
    """The account is made at first use, and has this contact."""
    from acme import errors, messages  # as above

    wanted = messages.NewRegistration.from_data(email=contact or None, terms_of_service_agreed=True)
    try:
        authority.new_account(wanted)
    except errors.ConflictError as known:
        place = messages.RegistrationResource(uri=known.location, body=messages.Registration())
        found = authority.query_registration(place)
        if contact and found.body.contact != wanted.contact:
            authority.update_registration(found, messages.Registration(contact=wanted.contact))


def _request(names: Sequence[str]) -> tuple[str, bytes]:
    """A new key, and the request for its certificate. A subject has one name, and it is not looked at."""
    from cryptography import x509  # as above
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
    unsigned = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = unsigned.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    return _pem(key), request.public_bytes(serialization.Encoding.PEM)


def _pem(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization  # as above

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(encoding, form, serialization.NoEncryption()).decode())


def _patient(errors: Any, ask: Callable[[datetime.datetime], Any]) -> Any:
    """What the library waits for, in slices between which an interruption is noticed. Raises its TimeoutError."""
    for _ in range(round(WITHIN / SLICE.total_seconds())):
        with contextlib.suppress(errors.TimeoutError):
            return ask(datetime.datetime.now() + SLICE)
        children.wait(0, "certificates")
    raise errors.TimeoutError


@contextlib.contextmanager
def _refusals(directory: str, names: Sequence[str]) -> Iterator[None]:
    """The errors of the library, in a sentence."""
    import josepy  # as above
    import requests
    from acme import errors, messages

    authority = urllib.parse.urlsplit(directory).hostname or directory
    zone = names[-1].removeprefix("*.")
    said = {"authority": authority, "names": ", ".join(names)}

    def refused(error: messages.Error) -> AuthorityRefused:
        code = error.code or str(error.typ).removeprefix(ERROR)
        problem = "; ".join(_details(error)) or code
        remedy = NEXT.get(code, "doit certificates").format(zone=zone)
        return AuthorityRefused(**said, problem=problem, code=code, remedy=remedy)

    try:
        yield
    except errors.ValidationError as error:
        found = [each.error for one in error.failed_authzrs for each in one.body.challenges if each.error]
        if found:
            raise refused(found[0]) from None
        raise AuthoritySilent(**said, problem="it has not accepted what it was shown") from None
    except errors.IssuanceError as error:
        raise refused(error.error) from None
    except messages.Error as error:
        raise refused(error) from None
    except errors.TimeoutError:
        raise AuthoritySilent(**said, problem=f"it has not decided within {WITHIN:.0f} s") from None
    except requests.RequestException as error:
        raise AuthoritySilent(**said, problem=f"it does not answer: {_one_line(error)}") from None
    except (errors.Error, josepy.errors.Error) as error:
        # of an answer that is no ACME problem, the library raises the answer itself
        status = getattr(next(iter(error.args), None), "status_code", "")
        problem = f"its answer is HTTP {status}" if status else _one_line(error)
        raise AuthoritySilent(**said, problem=problem) from None


def _details(error: Any) -> Iterable[str]:
    """What it says of the order, and of each name."""
    for each in (error, *(error.subproblems or ())):
        if each.detail:
            yield _one_line(each.detail)


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:400]
