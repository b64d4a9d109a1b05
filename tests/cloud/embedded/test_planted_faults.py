"""Faults planted where it is decided who may do what: each is seen by a table of the tests."""

from __future__ import annotations

import pytest

from tasks.cloud.embedded import judge
from tests.cloud.embedded import test_judge, test_signatures, test_tokens
from tests.simulation.planted import Planted

JUDGE, SIGNATURES = "tasks.cloud.embedded.judge", "tasks.cloud.embedded.signatures"
TOKENS = "tasks.cloud.embedded.tokens"


def judged_wrong():
    """Rows of the judge's tables that it decides otherwise."""
    judge_anew = judge.judge  # a fault is planted in the module
    found = [row for row in test_judge.ROWS if _effect(judge_anew, [row[1]], row[2]) != row[0]]
    for effect, policy, bucket in test_judge.BUCKET_ROWS:
        request = test_judge.fetch()
        found += [bucket] * (_effect(judge_anew, [policy], request, resource_policy=bucket) != effect)
    for effect, policy, session in test_judge.SESSION_ROWS:
        request = test_judge.asked()
        found += [session] * (_effect(judge_anew, [policy], request, session_policy=session) != effect)
    for effect, policy, trust in test_judge.TRUST_ROWS:
        more = {"resource_policy": trust, "must_admit": True}
        found += [trust] * (_effect(judge_anew, [policy], test_judge.assume(), **more) != effect)
    return found


def _effect(judge_anew, policies, request, **more):
    try:
        return judge_anew(policies, request, **more).effect
    except Exception as error:
        return type(error).__name__


def verified_wrong():
    """What is changed after signing and yet verified, and what is signed well and not."""
    found = [(kind, each) for kind in test_signatures.SIGNERS for each in test_signatures.admitted(kind)]
    found += test_signatures.chunks_admitted()
    found += [] if test_signatures.joined(b"".join(test_signatures.CHUNKS)) else ["chunks"]
    for kind in test_signatures.SIGNERS:
        for path in test_signatures.PATHS:
            environ = test_signatures.environ_of(kind, path, "b=2&a=1")
            found += [] if test_signatures.is_verified(kind, environ) else [(kind, path)]
    return found


def believed_wrong():
    """Tokens that count, and are none; and others that are, and do not."""
    rows = test_tokens.ROWS.items()
    return [name for name, (text, expected) in rows if _told(text) != expected]


def _told(text):
    try:
        return test_tokens.outcome(text)
    except Exception as error:
        return type(error).__name__


FAULTS = [
    (judged_wrong, Planted("a Deny counts for nothing", f"{JUDGE}:judge", 'if each["Effect"] == "Deny":', "if False:")),
    (judged_wrong, Planted("a session's policy takes nothing away", f"{JUDGE}:judge", "if session_policy and not session:", "if False:")),
    (judged_wrong, Planted("a role admits whoever may assume it", f"{JUDGE}:judge", "must_admit and not resource", "False")),
    (judged_wrong, Planted("a bucket's policy means everybody", f"{JUDGE}:judge", "if _is_named(each, request)", "")),
    (judged_wrong, Planted("an account's name is a right", f"{JUDGE}:judge", ", directly=True", "")),
    (judged_wrong, Planted("resources are not looked at", f"{JUDGE}:_applies", '_is_resource(each, request), default=True', "True, default=True")),
    (judged_wrong, Planted("conditions are not looked at", f"{JUDGE}:_applies", "_holds(operator, key, wanted, request)", "True")),
    (judged_wrong, Planted("one of several conditions is enough", f"{JUDGE}:_applies", "and all(", "and any(")),
    (judged_wrong, Planted("what is not known meets a condition", f"{JUDGE}:_holds", "return name != base or", "return True or")),
    (judged_wrong, Planted("one of all values is enough", f"{JUDGE}:_holds", "else all(met)", "else any(met)")),
    (judged_wrong, Planted("nothing is negated", f"{JUDGE}:_holds", "    if _negates(base):\n", "    if False:\n")),
    (judged_wrong, Planted("Null means its opposite", f"{JUDGE}:_holds", '== "true")', '== "false")')),
    (judged_wrong, Planted("NotAction is Action", f"{JUDGE}:_chosen", "return not any", "return any")),
    (judged_wrong, Planted("a variable's value has wildcards", f"{JUDGE}:_regex", "if pattern else", "if True else")),
    (judged_wrong, Planted("equal is alike", f"{JUDGE}:_holds", "OPERATORS[base]\n", 'OPERATORS[base.replace("gEquals", "gLike")]\n')),
    (judged_wrong, Planted("an ARN's star reaches beyond a colon", f"{JUDGE}:_holds", "OPERATORS[base]\n", 'OPERATORS[base.replace("ArnLike", "StringLike")]\n')),
    (verified_wrong, Planted("the method is not signed", f"{SIGNATURES}:verified", 'str(environ["REQUEST_METHOD"])', '"GET" if signature.lasts else "POST"')),
    (verified_wrong, Planted("headers are not signed", f"{SIGNATURES}:verified", 'hmac.compare_digest(', 'True or hmac.compare_digest(')),
    (verified_wrong, Planted("the body is anybody's", f"{SIGNATURES}:fits", "return said in UNSIGNED or", "return True or")),
    (verified_wrong, Planted("every path is encoded twice", f"{SIGNATURES}:_path", 'if signature.service == "s3" else', "if False else")),
    (verified_wrong, Planted("parameters are not sorted", f"{SIGNATURES}:_query", "own = sorted(", "own = list(")),
    (verified_wrong, Planted("a chunk is anybody's", f"{SIGNATURES}:joined", "or not hmac.compare_digest(former, head[2].decode())", "")),
    (verified_wrong, Planted("chunks have any order", f"{SIGNATURES}:joined", "not hmac.compare_digest(former", "not hmac.compare_digest(head[2].decode()")),
    (verified_wrong, Planted("what comes behind the last chunk is passed over", f"{SIGNATURES}:joined", "if at == len(body) else None", "")),
    (verified_wrong, Planted("the last chunk may be missing", f"{SIGNATURES}:joined", "    return None\n", '    return b"".join(chunks)\n')),
    (believed_wrong, Planted("a token's end is not looked at", f"{TOKENS}:claims", "if now > ends:", "if False:")),
    (believed_wrong, Planted("a token ends a second early", f"{TOKENS}:claims", "now > ends", "now >= ends")),
    (believed_wrong, Planted("a token's begin is not looked at", f"{TOKENS}:claims", "if now < begins - LEEWAY:", "if False:")),
    (believed_wrong, Planted("no clock may be ahead", f"{TOKENS}:claims", "begins - LEEWAY", "begins")),
    (believed_wrong, Planted("a token without an end never ends", f"{TOKENS}:claims", 'said["exp"]', 'said.get("exp", now)')),
    (believed_wrong, Planted("a begin is when it was made", f"{TOKENS}:claims", 'said.get("nbf", said["iat"])', 'said["iat"]')),
    (believed_wrong, Planted("any algorithm will do", f"{TOKENS}:claims", 'if header["alg"] != "RS256":', "if False:")),
    (believed_wrong, Planted("anybody's key will do", f"{TOKENS}:claims", "for each in keys[issuer]", "for some in keys.values() for each in some[::-1]")),
    (believed_wrong, Planted("any key of the provider will do", f"{TOKENS}:claims", 'if each["kid"] == header["kid"]', "if True")),
    (believed_wrong, Planted("the signature is not verified", f"{TOKENS}:claims", '_verify(key, f"{head}.{body}".encode(), _bytes(signature))', "pass")),
    (believed_wrong, Planted("what is said is not signed", f"{TOKENS}:claims", '"{head}.{body}"', '"{head}.{body[:9]}"')),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "fault"), FAULTS, ids=lambda each: getattr(each, "name", ""))
@pytest.mark.promise("every-call-is-judged", "every-signature-is-verified")
def test_a_planted_fault_is_seen(wrong, fault):
    assert wrong() == []
    with fault.there():
        assert wrong() != []
