"""Credentials of a build: they reach a private repository, and nobody else; a file of them in git is refused."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import threading
import zipfile

import pytest

from tasks.tarball import stage as tarball
from tasks.tarball.build import layers, tar
from tasks.tarball.build.layers import Build
from tasks.tarball.build.overlay import BuildFailed
from tasks.tarball.stage import CredentialsCommitted
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.conftest import EXAMPLE, commit
from tests.tarball.test_stage import start  # noqa: F401  (a fixture)

TOKEN = "geheim-4711"


def package():
    """An archive of a package, as a registry has it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("one-1.0.0/composer.json", json.dumps({"name": "private/one", "version": "1.0.0"}))
        archive.writestr("one-1.0.0/one.php", "<?php\n")
    return packed.getvalue()


@pytest.fixture
def registry():
    """A private registry on this machine: it gives its package to who has the token. What it was asked, and by whom."""
    content, asked = package(), []
    wanted = "Basic " + base64.b64encode(f"token:{TOKEN}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers.get("Authorization") == wanted
            asked.append((self.path, allowed))
            self.send_response(200 if allowed else 401)
            self.end_headers()
            if allowed:
                self.wfile.write(content)

        def log_message(self, *words):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{serving.server_port}", hashlib.sha1(content).hexdigest(), asked
    serving.shutdown()
    serving.server_close()


@pytest.fixture(params=["magento2", "php"])
def shop(request, checkout, registry):
    """An application of one private package, by a profile that uses composer."""
    address, digest, _ = registry
    settings = checkout / "pipeline.yml"
    settings.write_text(settings.read_text().replace(EXAMPLE, f"profile: {request.param}"))
    about = {
        "config": {"secure-http": False},
        "require": {"private/one": "1.0.0"},
        "repositories": [{"packagist.org": False}],
        "scripts": {"post-install-cmd": "printenv COMPOSER_AUTH"},  # into the build's log
    }
    dist = {"type": "zip", "url": f"http://{address}/one.zip", "shasum": digest}
    one = {"name": "private/one", "version": "1.0.0", "type": "library", "dist": dist}
    lock = {"packages": [one], "packages-dev": [], "aliases": [], "minimum-stability": "stable"}
    lock |= {"stability-flags": [], "platform": {}, "platform-dev": [], "content-hash": "0"}
    (checkout / "app" / "composer.json").write_text(json.dumps(about))
    (checkout / "app" / "composer.lock").write_text(json.dumps(lock))
    (checkout / "app" / "bin").mkdir()
    (checkout / "app" / "bin" / "magento").write_text("<?php\n")
    commit(checkout)
    return checkout


@pytest.mark.promise("private-packages-by-composer-auth")
def test_a_private_package_is_fetched_with_composer_auth_and_nothing_keeps_the_token(
    shop,
    registry,
    start,  # noqa: F811
    monkeypatch,
    tmp_path,
):
    address, _, asked = registry
    monkeypatch.setenv(
        "COMPOSER_AUTH", json.dumps({"http-basic": {address: {"username": "token", "password": TOKEN}}})
    )
    run = start(shop)
    layers.make(Build(run), "vendor", tmp_path / "vendor")
    with (tmp_path / "vendor").open("rb") as file:
        found = {each.name: b"".join(each.content) for each in tar.of_archive(file) if each.kind == tar.FILE}
    assert found["vendor/private/one/one.php"] == b"<?php\n"
    assert asked[-1] == ("/one.zip", True)
    written = [each.read_bytes() for each in (shop / ".run").rglob("*") if each.is_file()]
    scripts = run.profile.name == "magento2"  # of a package, the profile php runs none
    assert any(b"***\n" in each for each in written) == scripts
    kept = [*found.values(), *written]
    assert not [each for each in kept if TOKEN.encode() in each]


def test_without_it_the_build_fails_and_says_who_refused(shop, registry, start, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.delenv("COMPOSER_AUTH", raising=False)
    with pytest.raises(BuildFailed, match=f"{registry[0]}/one.zip"):
        layers.make(Build(start(shop)), "vendor", tmp_path / "vendor")
    assert ("/one.zip", True) not in registry[2]


@pytest.mark.promise("committed-credentials-are-refused")
def test_a_file_of_credentials_in_git_is_refused_before_anything_is_built(shop, start):  # noqa: F811
    (shop / "app" / "auth.json").write_text("{}")
    with pytest.raises(CredentialsCommitted, match=r"app/auth\.json is not ignored by git"):
        tarball.pack(Build(start(shop)))
    (shop / ".gitignore").write_text("/app/auth.json\n")
    tarball.accept_source(start(shop))
    commit(shop)
    (shop / ".gitignore").unlink()
    commit(shop)
    with pytest.raises(CredentialsCommitted):
        tarball.accept_source(start(shop))
