"""signature: sign tarballs with minisign; the private key is in the cloud, the public keys are in the settings."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tasks.cloud.errors import denied
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.tarball.build.tar import Damaged, HashingReader, Readable

if TYPE_CHECKING:
    import minisign

    from tasks.run import Run


class Unsigned(Refusal):
    """The environment's file says `signatures: required`, and no key that `public_keys` names has signed the tarball."""

    sentence = "release: {environment} takes signed tarballs only, and {digest} has no signature by a key of pipeline.yml"
    remedy = "doit tarball"
    any_environment = True


class NoPublicKey(Refusal):
    """The environment's file says `signatures: required`, and `public_keys` is empty."""

    sentence = "release: {environment} takes signed tarballs only, and pipeline.yml names no public key"
    remedy = "doit key | tail -n 1 >> pipeline.yml"


class SigningKeyMissing(Refusal):
    """The environment's file says `signatures: required`, and the private key does not exist or this role may not read it."""

    sentence = "tarball: there is no key to sign with at {parameter}, or you may not read it"
    remedy = "doit key | tail -n 1 >> pipeline.yml"


class SigningKeyExists(Refusal):
    """`doit key` would replace the private key, which cannot be restored."""

    sentence = "key: there is a key at {parameter} (public: {public})"
    remedy = "$EDITOR pipeline.yml"


class SigningKeyUnknown(Refusal):
    """The private key's public key is not among `public_keys`, so that every host would refuse the signature."""

    sentence = "tarball: the key at {parameter} is {public}, which pipeline.yml does not name (public_keys)"
    remedy = "$EDITOR pipeline.yml"


class SigningBesideBuild(Refusal):
    """This machine lets us make no namespaces, so that a build's commands could read the private key, which this role may read."""

    sentence = "tarball: no layer is built where the signing key can be read and this machine lets us make no namespaces (docs/tarball.md)"
    remedy = "man 1 unshare"


def accept_build(run: Run) -> None:
    """Raises SigningBesideBuild if this run may read the private key: it is for another job, with another role, to build."""
    if run.pipeline.public_keys and _key(run):
        raise SigningBesideBuild


def make_key(run: Run, *, replace: bool = False) -> str:
    """Store a new private key in the cloud and return its public key, for pipeline.yml. Raises SigningKeyExists."""
    import minisign

    pair = minisign.KeyPair.generate()
    ssm = run.cloud.client("ssm")
    try:
        ssm.put_parameter(
            Name=parameter(run),
            Value=bytes(pair.secret_key).decode(),
            Type="SecureString",
            Overwrite=replace,
        )
    except ssm.exceptions.ParameterAlreadyExists:
        raise SigningKeyExists(parameter=parameter(run), public=public(_key(run))) from None
    return public(pair.secret_key)


def sign(run: Run, digest: Digest, tarball: Readable) -> str | None:
    """The signature of a tarball, the same for the same content and key; None if there are no public keys, or no private key.

    Raises SigningKeyMissing if the environment requires signatures, SigningKeyUnknown, or Damaged if the digest differs.
    """
    keys = run.pipeline.public_keys
    if not keys:
        return None
    key = _key(run)
    if key is None:
        if run.environment.signatures == "required":
            raise SigningKeyMissing(parameter=parameter(run))
        return None
    if public(key) not in keys:
        raise SigningKeyUnknown(parameter=parameter(run), public=public(key))
    read = HashingReader(tarball)
    made = key.sign(read, untrusted_comment=f"{run.pipeline.name}: {digest}", trusted_comment=digest)
    if read.digest != digest:
        raise Damaged(f"its digest is {read.digest.short}, not {digest.short}")
    return bytes(made).decode() + "\n"


def due(run: Run, signed: Collection[str]) -> bool:
    """Whether to try to sign. `signed`: the named public keys whose signatures are stored.

    A named private key signs once, whoever else has signed. Where nobody has, any private key tries, and so does an environment
    that requires it, for the refusal.
    """
    absent = set(run.pipeline.public_keys).difference(signed)
    if not absent:
        return False
    if not signed and run.environment.signatures == "required":
        return True
    made = public(_key(run))
    return made in absent or bool(made and not signed)


def key_id(public_key: str) -> str:
    """The id of a public key, which is in all its signatures: 16 hex digits; empty for a text that is no key."""
    return _id(public_key)


def signer(signature: str) -> str:
    """The id of the key that made a signature; empty for a text that is no signature."""
    return _id("".join(signature.splitlines()[1:2]))


def _id(text: str) -> str:
    """Both formats begin with two bytes for the algorithm and eight for the key."""
    try:
        return base64.b64decode(text, validate=True)[2:10].hex()
    except ValueError:
        return ""


def accept(run: Run, digest: Digest, signature: str) -> None:
    """Raises NoPublicKey or Unsigned if a signature is required and missing. The hosts check that it is valid."""
    if run.environment.signatures != "required":
        return
    if not run.pipeline.public_keys:
        raise NoPublicKey(environment=run.environment_name)
    if not signature:
        raise Unsigned(digest=digest.short, environment=run.environment_name)


def public(key: minisign.SecretKey | None) -> str:
    """The public key as settings have it; empty if there is no key."""
    return key.get_public_key().to_base64().decode() if key else ""


def public_of(ssm: Any, name: str) -> str:
    """The public key of the private key in the parameter store; empty if there is none. May be denied."""
    return public(_stored(ssm, name))


def parameter(run: Run) -> str:
    """The private key's name in the parameter store."""
    # not among the environments' secrets: more roles may read and write that folder
    return f"/{run.pipeline.name}-signing/key"


def _key(run: Run) -> minisign.SecretKey | None:
    """The private key; None if it does not exist or this role may not read it."""
    ssm = run.cloud.client("ssm")
    try:
        return _stored(ssm, parameter(run))
    except ssm.exceptions.ClientError as error:
        if not denied(error):
            raise
        return None


def _stored(ssm: Any, name: str) -> minisign.SecretKey | None:
    import minisign

    try:
        kept = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return None
    return minisign.SecretKey.from_bytes(kept.encode())
