"""certificates: the key and the certificate with which the hosts speak TLS: somebody's who brought them, or made here.

All environments of a name, such as those of all branches, have one authority: who trusts it, trusts it once. It can vouch for names in
the project's zone and no others. What is kept, and what the hosts get, is one text of PEM: the private key, the certificate, and those
that vouch for it.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import secrets
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_LASTS = datetime.timedelta(days=3650)
LASTS = datetime.timedelta(days=397)
"""Browsers accept no longer one."""
RENEWED = datetime.timedelta(days=60)
"""What is left of a certificate that a provisioning replaces."""
SKEW = datetime.timedelta(hours=1)
"""How far a visitor's clock may be behind."""
KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
MOST = 4096
"""Characters that the parameter store keeps."""


class CertificateWrong(Refusal):
    """A certificate that was brought and that visitors would be warned of, or a key that is not its own. No machine is touched."""

    sentence = "server: the certificate for {name} {problem}"
    remedy = "doit secrets set certificate < FILE  # key, certificate, chain: one text of PEM"


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the parameter store has an environment's secrets, and the authority that it shares."""

    own: str
    authority: str


def ensure(
    ssm: Any,
    folders: Folders,
    known: secrets.Secrets,
    *,
    names: Sequence[str],
    zone: str,
    now: datetime.datetime,
) -> str:
    """What the hosts get. `names`: the site's host names, its own first. Raises CertificateWrong for what was brought."""
    if known.certificate:
        accept(known.certificate, names, now)
        return f"{known.certificate}\n"
    authority = ensure_authority(ssm, folders.authority, zone, now)
    site = known.own_certificate
    if not site or root_of(authority) not in site or problem(site, names, now + RENEWED):
        site = issue(authority, names, now)
        secrets.keep(ssm, folders.own, {"own_certificate": site})
    return site


def ensure_authority(ssm: Any, folder: str, zone: str, now: datetime.datetime) -> str:
    """The authority, made at first use, and anew where it would not outlast a certificate or is one of another zone."""
    found = secrets.authority(ssm, folder)
    if found and not problem(found, [f".{zone}"], now + LASTS):
        return found
    return another_authority(ssm, folder, zone, now, instead=bool(found))


def another_authority(ssm: Any, folder: str, zone: str, now: datetime.datetime, *, instead: bool) -> str:
    """A new authority, or the one that another branch has made at the same time. `instead`: of one that is there."""
    return secrets.found_authority(ssm, folder, make_authority(folder.strip("/"), zone, now), instead=instead)


def root(ssm: Any, folder: str) -> str:
    """The certificate of the authority in a folder, for those who are to trust it; empty where there is none."""
    found = secrets.authority(ssm, folder)
    return root_of(found) if found else ""


def accept(text: str, names: Sequence[str], now: datetime.datetime) -> None:
    """Raises CertificateWrong for what hosts could not serve the names with, and what the store does not keep."""
    long = f"is {len(text)} characters long, and the parameter store keeps {MOST}: leave out the root"
    if wrong := long if len(text) > MOST else problem(text, names, now):
        raise CertificateWrong(name=names[0], problem=wrong)


def root_of(authority: str) -> str:
    """The certificate of an authority without its key, for those who are to trust it."""
    return KEY.sub("", authority).strip() + "\n"


def problem(text: str, names: Iterable[str], at: datetime.datetime) -> str:
    """Why hosts could not serve these names with it at that time; empty where they could.

    `.ZONE` in place of a name: that it may vouch for names in the zone.
    """
    # costs start-up time, and is needed only where something is provisioned
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    found = KEY.search(text)
    try:
        key = serialization.load_pem_private_key(found[0].encode(), None) if found else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "has a private key that cannot be read, or needs a passphrase"
    if not key:
        return "comes without its private key"
    try:
        chain = x509.load_pem_x509_certificates(root_of(text).encode())
    except (ValueError, UnsupportedAlgorithm):
        return "cannot be read as PEM"
    try:
        for each, above in itertools.pairwise(chain):
            each.verify_directly_issued_by(above)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return "is not followed by the certificate that vouches for it"
    own = chain[0]
    if own.public_key() != key.public_key():
        return "is not that of its private key"
    for each in chain:
        if at < each.not_valid_before_utc:
            return f"is valid only from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        if each.not_valid_after_utc <= at:
            return f"is valid only until {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    named = _named(own)
    lacking = [each for each in names if not any(covers(one, each) for one in named)]
    return f"does not have the name {', '.join(lacking)} (it has: {', '.join(named)})" if lacking else ""


def span(text: str) -> tuple[datetime.datetime, datetime.datetime]:
    """From when to when a certificate is valid that can be read."""
    from cryptography import x509  # as above

    own = x509.load_pem_x509_certificate(root_of(text).encode())
    return own.not_valid_before_utc, own.not_valid_after_utc


def _named(certificate: x509.Certificate) -> list[str]:
    """The names that it is for; of an authority `.ZONE` for each zone."""
    from cryptography import x509  # as above

    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [each.lower() for each in said.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        pass
    try:
        zones = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        return [f".{each.value}" for each in zones.permitted_subtrees or () if isinstance(each, x509.DNSName)]
    except x509.ExtensionNotFound:
        return []


def covers(named: str, name: str) -> bool:
    """Whether a certificate for a name, or for `*.ZONE`, is one for another name: `*` stands for one label."""
    if named.startswith("*."):
        return name.partition(".")[2] == named[2:]
    return name == named


def make_authority(title: str, zone: str, now: datetime.datetime) -> str:
    """An authority that can vouch for the names in a zone alone: who takes its key can pretend to be no other site."""
    from cryptography import x509  # as above
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(title)
    public = key.public_key()
    unsigned = (
        _begun(name, name, now, AUTHORITY_LASTS)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=[x509.DNSName(zone)], excluded_subtrees=None),
            critical=True,
        )
    )
    return _written(key, _signed(unsigned, key))


def issue(authority: str, names: Sequence[str], now: datetime.datetime) -> str:
    """A new key, and the authority's certificate for it."""
    from cryptography import x509  # as above
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    above = x509.load_pem_x509_certificate(root_of(authority).encode())
    found = KEY.search(authority)
    signer = serialization.load_pem_private_key(found[0].encode() if found else b"", None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101  `make_authority` made it
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    vouching = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    unsigned = (
        _begun(_name(names[0]), above.subject, now, LASTS)
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(vouching), critical=False
        )
    )
    return _written(key, _signed(unsigned, signer)) + root_of(authority)


def _begun(
    subject: x509.Name, issuer: x509.Name, now: datetime.datetime, lasts: datetime.timedelta
) -> x509.CertificateBuilder:
    from cryptography import x509  # as above

    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lasts)
    )


def _signed(unsigned: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes  # as above

    return unsigned.sign(key, hashes.SHA256())


def _name(title: str) -> x509.Name:
    """For people: what counts are the alternative names. It has 64 characters at most."""
    from cryptography import x509  # as above
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509  # as above

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _written(key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization  # as above

    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()
