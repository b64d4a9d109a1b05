"""Signatures: Debian's minisign accepts ours, and nothing else passes."""

from __future__ import annotations

import io
import subprocess

import pytest

from tasks import source
from tasks.bucket import layout
from tasks.commands import command_line
from tasks.digest import Digest
from tasks.release import stage as release
from tasks.tarball import signature, stored
from tasks.tarball import stage as tarball
from tasks.tarball.build import sandbox
from tasks.tarball.build.layers import Build
from tasks.tarball.build.tar import Damaged
from tasks.tarball.signature import (
    NoPublicKey,
    SigningBesideBuild,
    SigningKeyExists,
    SigningKeyMissing,
    SigningKeyUnknown,
    Unsigned,
)
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud
from tests.conftest import commit, copy_project, doit
from tests.tarball.test_reproducible import cloud  # noqa: F401  (a fixture)
from tests.tarball.test_stage import project, start  # noqa: F401  (fixtures)

SOMEBODY_S = f"RW{'Q' * 54}"
"""A public key of nobody here."""
CONTENT = b"tarball" * 100_000
DIGEST = Digest.of_bytes(CONTENT)


def name_keys(root, *keys, environment="testing", signatures="optional"):
    with (root / "pipeline.yml").open("a") as file:
        file.write(f"\npublic_keys: [{', '.join(keys)}]\n")
    with (root / "environments" / f"{environment}.yml").open("a") as file:
        file.write(f"\nsignatures: {signatures}\n")
    commit(root)


def verified(tmp_path, key, made, content=CONTENT):
    (tmp_path / "t").write_bytes(content)
    (tmp_path / "t.minisig").write_text(made)
    return subprocess.run(["minisign", "-V", "-q", "-H", "-P", key, "-m", tmp_path / "t"]).returncode == 0


@pytest.fixture(autouse=True)
def _no_key(server):  # noqa: F811
    """The module's cloud is one for all tests."""
    yield
    ssm = QuietCloud(REGION, server.home.load()).client("ssm")
    ssm.delete_parameters(Names=["/shop-signing/key"])


@pytest.fixture
def key(project, start):  # noqa: F811
    """A key of the project's, which its settings name."""
    made = signature.make_key(start(project))
    name_keys(project, made)
    return made


@pytest.mark.promise("hosts-check-signatures")
def test_debian_s_minisign_accepts_the_signature_and_no_other_bytes_or_key(project, start, key, tmp_path):  # noqa: F811
    run = start(project)
    made = signature.sign(run, DIGEST, io.BytesIO(CONTENT))
    assert verified(tmp_path, key, made)
    assert not verified(tmp_path, key, made, CONTENT[:-1] + b"?")
    other = signature.make_key(run, replace=True)
    assert not verified(tmp_path, other, made)


def test_the_same_tarball_gets_the_same_signature(project, start, key):  # noqa: F811
    run = start(project)
    first, second = (signature.sign(run, DIGEST, io.BytesIO(CONTENT)) for _ in range(2))
    assert first == second
    assert DIGEST in first


def test_another_tarball_than_the_named_one_is_not_signed(project, start, key):  # noqa: F811
    with pytest.raises(Damaged, match="its digest is"):
        signature.sign(start(project), DIGEST, io.BytesIO(CONTENT[1:]))


def test_a_key_is_replaced_only_with_replace(project, start, key):  # noqa: F811
    run = start(project)
    with pytest.raises(SigningKeyExists, match=r"public: RW"):
        signature.make_key(run)
    assert signature.make_key(run, replace=True) != key


@pytest.mark.promise("unnamed-key-counts-as-none")
def test_a_key_that_the_settings_do_not_name_signs_nothing(project, start, key):  # noqa: F811
    run = start(project)
    signature.make_key(run, replace=True)
    with pytest.raises(SigningKeyUnknown, match="which pipeline"):
        signature.sign(run, DIGEST, io.BytesIO(CONTENT))


def test_without_a_private_key_nothing_is_signed_and_what_requires_it_is_refused(project, start):  # noqa: F811
    name_keys(project, SOMEBODY_S)
    run = start(project)
    assert signature.sign(run, DIGEST, io.BytesIO(CONTENT)) is None
    assert not signature.due(run, ())
    name = project / "environments" / "testing.yml"
    name.write_text(name.read_text().replace("signatures: optional", "signatures: required"))
    commit(project)
    with pytest.raises(SigningKeyMissing, match="no key to sign with at /shop-signing/key"):
        signature.sign(start(project), DIGEST, io.BytesIO(CONTENT))


@pytest.mark.promise("who-has-the-key-signs")
def test_a_tarball_is_signed_when_it_is_built_and_one_from_before_when_it_is_asked_for_again(
    project,  # noqa: F811
    start,  # noqa: F811
    tmp_path,
):
    digest = Digest(tarball.pack(Build(start(project))).facts["digest"])
    assert stored.signature_of(start(project), digest) == ""
    key = signature.make_key(start(project))
    name_keys(project, key)
    run = start(project)
    again = tarball.pack(Build(run))
    assert (again.facts["digest"], again.changed) == (digest, False)
    kept = run.store.open(stored.stored_key(run, digest)).read()
    assert verified(tmp_path, key, stored.signature_of(run, digest), kept)
    assert tarball.differences(Build(run)) == []
    run.store.delete(layout.beside(stored.stored_key(run, digest), f"{signature.key_id(key)}.minisig"))
    assert tarball.differences(Build(run)) == [f"the tarball {digest[:12]} is not signed"]


def rotated(project, run):  # noqa: F811
    """A new private key; the settings name it alone."""
    key = signature.make_key(run, replace=True)
    settings = project / "pipeline.yml"
    settings.write_text(settings.read_text().partition("\npublic_keys")[0] + f"\npublic_keys: [{key}]\n")
    commit(project)
    return key


def old_signature(run, digest, text=None):
    """The signature as a former version stored it: one beside each tarball, whoever made it."""
    key = stored.stored_key(run, digest)
    made = text or signature.sign(run, digest, run.store.open(key))
    run.store.put(layout.beside(key, "minisig"), made.encode())
    return made


@pytest.mark.promise("a-new-key-signs-the-old")
def test_a_new_key_signs_what_an_old_one_has_signed(project, start, key, tmp_path):  # noqa: F811
    digest = Digest(tarball.pack(Build(start(project))).facts["digest"])
    first = stored.signature_of(start(project), digest)
    new = rotated(project, start(project))
    build = Build(start(project))
    assert "it gets a signature" in tarball.foresee(build).words[0]
    tarball.pack(build)
    second = stored.signature_of(build.run, digest)
    kept = build.run.store.open(stored.stored_key(build.run, digest)).read()
    assert verified(tmp_path, new, second, kept)
    assert first != second
    assert tarball.differences(build) == []


@pytest.mark.promise("unnamed-key-counts-as-none")
def test_a_signature_that_a_former_version_stored_counts_for_its_key_only(project, start, key):  # noqa: F811
    digest = Digest(tarball.pack(Build(start(project))).facts["digest"])
    run = start(project)
    made = stored.signature_of(run, digest)
    run.store.delete(layout.beside(stored.stored_key(run, digest), f"{signature.key_id(key)}.minisig"))
    assert stored.signature_of(run, digest) == ""
    assert old_signature(run, digest) == made
    assert stored.signature_of(run, digest) == made
    assert tarball.differences(Build(run)) == []
    rotated(project, run)
    run = start(project)
    assert stored.signature_of(run, digest) == ""
    tarball.pack(Build(run))
    assert stored.signature_of(run, digest) not in ("", made)


@pytest.mark.parametrize("text", ["", "s", "a\nb", "a\n\xff", "\n" * 9])
def test_a_stored_file_that_is_no_signature_counts_as_none(project, start, key, text):  # noqa: F811
    run = start(project)
    digest = Digest(tarball.pack(Build(run)).facts["digest"])
    run.store.delete(layout.beside(stored.stored_key(run, digest), f"{signature.key_id(key)}.minisig"))
    old_signature(run, digest, text or " ")
    assert stored.signature_of(run, digest) == ""


def test_what_a_named_key_has_signed_needs_no_signature_by_a_key_that_is_not_named(project, start, key):  # noqa: F811
    """A colleague has replaced the key, and not yet pushed the new settings."""
    build = Build(start(project))
    tarball.pack(build)
    signature.make_key(build.run, replace=True)
    assert tarball.differences(build) == []
    tarball.pack(build)


@pytest.mark.parametrize(
    ("keys", "signature_text", "problem"),
    [
        ((), "", "pipeline.yml names no public key"),
        ((SOMEBODY_S,), "", "has no signature by a key of pipeline.yml"),
        ((SOMEBODY_S,), "s", ""),
    ],
)
@pytest.mark.promise("production-takes-signed-only")
def test_where_signatures_are_required_nothing_else_goes_live(project, start, keys, signature_text, problem):  # noqa: F811
    name_keys(project, *keys, signatures="required")
    run = start(project)
    if problem:
        with pytest.raises((NoPublicKey, Unsigned), match=problem):
            signature.accept(run, DIGEST, signature_text)
    else:
        signature.accept(run, DIGEST, signature_text)


@pytest.mark.promise("production-takes-signed-only")
def test_production_requires_a_signature(project, start):  # noqa: F811
    source._snapshot.cache_clear()
    run = start(project, environment="production")
    with pytest.raises(NoPublicKey, match="production takes signed tarballs only"):
        release.variables(run, DIGEST)


@pytest.mark.promise("replaced-key-is-behind-the-old")
def test_the_last_line_of_doit_key_is_a_setting_that_names_a_new_key_behind_the_old(tmp_path, cloud):  # noqa: F811
    root, state = copy_project(tmp_path / "shop"), str(cloud()[0])
    for typed in (["key"], ["key", "--replace"]):
        answered = doit(root, *typed, XDG_STATE_HOME=state)
        assert answered.returncode == 0, answered.stderr
        settings = (root / "pipeline.yml").read_text().partition("public_keys")[0]
        (root / "pipeline.yml").write_text(settings + answered.stdout.splitlines()[-1] + "\n")
    assert len(command_line.read(root, {}).pipeline.public_keys) == 2
    again = doit(root, "key", XDG_STATE_HOME=state)
    assert (again.returncode, again.stdout) == (1, "")
    assert "\n    $EDITOR pipeline.yml" in again.stderr


@pytest.mark.promise("no-build-beside-the-key")
def test_where_there_is_no_sandbox_a_run_that_could_sign_builds_nothing_and_one_that_could_not_does(
    project,  # noqa: F811
    start,  # noqa: F811
    key,
    monkeypatch,
):
    monkeypatch.setattr(sandbox, "of", lambda folder: None)
    with pytest.raises(SigningBesideBuild):
        tarball.pack(Build(start(project), signature.accept_build))
    run = start(project)
    ssm = run.cloud.client("ssm")
    kept = ssm.get_parameter(Name="/shop-signing/key", WithDecryption=True)["Parameter"]["Value"]
    ssm.delete_parameter(Name="/shop-signing/key")  # stands for a role that may not read it
    digest = Digest(tarball.pack(Build(run, signature.accept_build)).facts["digest"])
    assert stored.signature_of(run, digest) == ""
    ssm.put_parameter(Name="/shop-signing/key", Value=kept, Type="SecureString")
    tarball.pack(Build(start(project), signature.accept_build))  # the other job: nothing is left to build
    assert stored.signature_of(start(project), digest)
