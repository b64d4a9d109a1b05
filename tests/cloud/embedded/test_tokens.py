"""A token is what its provider has signed, in its time, and nothing else."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tasks.cloud.embedded import tokens
from tests.cloud.embedded.test_access import Issuer, coded

NOW = 1_800_000_000
OURS, THEIRS, NOBODY = Issuer("https://a.example"), Issuer("https://b.example"), Issuer("https://c.example")
KEYS = {each.url: [each.jwk()] for each in (OURS, THEIRS)}
HEAD = {"alg": "RS256", "kid": "1"}
SAID = {"iss": OURS.url, "sub": "kim", "iat": NOW, "exp": NOW + 300}


def token(signer=OURS, head=HEAD, **said):
    """A token with these claims; None leaves one out."""
    claims = {name: value for name, value in {**SAID, **said}.items() if value is not None}
    return signed(signer, coded(json.dumps(head).encode()), coded(json.dumps(claims).encode()))


def signed(signer, head, body):
    signature = signer.key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{head}.{body}.{coded(signature)}"


def swapped(of, body_of):
    head, _, signature = of.split(".")
    return f"{head}.{body_of.split('.')[1]}.{signature}"


ROWS = {
    "signed": (token(), "kim"),
    "another provider's": (token(THEIRS, iss=THEIRS.url), "kim"),
    "to its last second": (token(exp=NOW), "kim"),
    "a provider's clock that is ahead": (token(iat=NOW + tokens.LEEWAY), "kim"),
    "begins before it was made": (token(iat=NOW + 900, nbf=NOW), "kim"),
    "over": (token(exp=NOW - 1), "TokenExpired"),
    "far ahead": (token(iat=NOW + tokens.LEEWAY + 1), "TokenInvalid"),
    "later": (token(nbf=NOW + tokens.LEEWAY + 1), "TokenInvalid"),
    "without an end": (token(exp=None), "TokenInvalid"),
    "without an issuer": (token(iss=None), "TokenInvalid"),
    "nobody's": (token(NOBODY, iss=NOBODY.url), "TokenInvalid"),
    "in another's name": (token(THEIRS), "TokenInvalid"),
    "with an unknown key": (token(head={**HEAD, "kid": "2"}), "TokenInvalid"),
    "without a key": (token(head={"alg": "RS256"}), "TokenInvalid"),
    "of another algorithm": (token(head={**HEAD, "alg": "HS256"}), "TokenInvalid"),
    "not signed": (token(head={**HEAD, "alg": "none"}).rpartition(".")[0] + ".", "TokenInvalid"),
    "signature left out": (token().rpartition(".")[0] + ".", "TokenInvalid"),
    "says something else": (swapped(token(), token(sub="lee")), "TokenInvalid"),
    "no object": (signed(OURS, coded(json.dumps(HEAD).encode()), coded(b"[]")), "TokenInvalid"),
    "two parts": (token().rpartition(".")[0], "TokenInvalid"),
    "no token": ("", "TokenInvalid"),
}


def outcome(text):
    """Whose token it is, or why it is none."""
    try:
        return tokens.claims(text, KEYS, NOW)["sub"]
    except tokens.TokenInvalid as error:
        return type(error).__name__


@pytest.mark.parametrize(("text", "expected"), ROWS.values(), ids=ROWS)
@pytest.mark.promise("every-token-is-verified")
def test_a_token_is_what_its_provider_has_signed_in_its_time(text, expected):
    assert outcome(text) == expected
