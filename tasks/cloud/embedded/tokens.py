"""tokens: reads and verifies the tokens (JWT, RS256) with which an identity provider signs what a job is. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

LEEWAY = 60
"""Seconds that the provider's clock may be ahead."""


class TokenInvalid(Exception):
    """A token that no provider of this cloud has signed, or signed for somebody else."""


class TokenExpired(TokenInvalid):
    """A token whose time is over."""


def claims(token: str, keys: Mapping[str, Sequence[Mapping[str, str]]], now: float) -> dict[str, Any]:
    """What a token says, once its signature is verified with a key (JWK) of its issuer. Raises TokenInvalid or TokenExpired.

    `keys`: those of each issuer, by its URL.
    """
    try:
        head, body, signature = token.split(".")
        header, said = _json(head), _json(body)
        issuer = str(said["iss"])
        key = next(each for each in keys[issuer] if each["kid"] == header["kid"])
        if header["alg"] != "RS256":
            raise TokenInvalid(f"algorithm {header['alg']}")
        _verify(key, f"{head}.{body}".encode(), _bytes(signature))
        begins, ends = float(said.get("nbf", said["iat"])), float(said["exp"])
    except (LookupError, ValueError, StopIteration, TypeError):
        raise TokenInvalid("no key of an identity provider fits the token") from None
    if now > ends:
        raise TokenExpired("Token expired")
    if now < begins - LEEWAY:
        raise TokenInvalid("the token is not valid yet")
    return said


def _verify(key: Mapping[str, str], signed: bytes, signature: bytes) -> None:
    # 30 ms to import, and only a job's token needs it
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    numbers = (int.from_bytes(_bytes(key[name]), "big") for name in ("e", "n"))
    public = rsa.RSAPublicNumbers(*numbers).public_key()
    try:
        public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise TokenInvalid("the signature is not the provider's") from None


def _json(part: str) -> dict[str, Any]:
    found = json.loads(_bytes(part))
    if not isinstance(found, dict):
        raise TypeError(part)
    return found


def _bytes(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
