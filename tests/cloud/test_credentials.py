"""Credentials as people and CI jobs have them: files in a home, and a provider on loopback that answers as AWS's services do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
ASK = """
import sys
from tasks.cloud import errors
from tasks.cloud.aws import Aws
from tasks.refusal import Refusal
try:
    print(Aws("eu-central-1").caller().arn)
except Exception as error:
    print((error if isinstance(error, Refusal) else errors.refusal_of(error) or error))
    sys.exit(1)
"""
LATER = "2035-01-01T00:00:00Z"


class Provider(ThreadingHTTPServer):
    """Identity Center, its OIDC service, sign-in, STS and GitHub's token service on one port. STS names the caller by its key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []
        self.lives = 3600
        """Seconds that a role's credentials live."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/federation/credentials"):
            known = self.headers["x-amz-sso_bearer_token"] == "bearer"
            return self._json(
                {"roleCredentials": _keys("SSO", expiration=4102444800000)} if known else {},
                200 if known else 401,
            )
        self._note("token")
        return self._json({"value": f"github-{self.server.asked.count('token')}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/token":
            self._note("oidc")
            return self._json({"accessToken": "bearer", "expiresIn": 3600, "tokenType": "Bearer"})
        if self.path == "/v1/token":
            self._note("signin")
            return self._json(
                {"accessToken": _keys("LOGIN"), "expiresIn": 900, "refreshToken": "next", "tokenType": "x"}
            )
        query = {name: values[0] for name, values in parse_qs(body).items()}
        action = query["Action"]
        key = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        self._note(f"{action} {key or query.get('WebIdentityToken', '')}")
        if action == "GetCallerIdentity":
            return self._xml(action, f"<Arn>arn:aws:iam::123456789012:user/{key}</Arn>")
        if query.get("WebIdentityToken", "valid") not in ("valid", "github-1", "github-2", "github-3"):
            return self._xml(action, "", 400)
        at = time.strftime("%FT%TZ", time.gmtime(time.time() + self.server.lives))
        inner = f"<AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{at}</Expiration>"
        return self._xml(action, f"<Credentials>{inner}</Credentials>")

    def _note(self, words):
        self.server.asked.append(words)

    def _json(self, value, status=200):
        self._send(json.dumps(value), "application/json", status)

    def _xml(self, action, inner, status=200):
        text = f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>"
        if status != 200:
            text = "<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>Token expired</Message></Error></ErrorResponse>"
        self._send(text, "text/xml", status)

    def _send(self, text, kind, status):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def _keys(name: str, **more) -> dict:
    return {"accessKeyId": name, "secretAccessKey": "s", "sessionToken": "t", **more}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / ".aws").mkdir()
    return tmp_path


def ask(home: Path, provider: Provider, program: str = ASK, **more: str) -> subprocess.CompletedProcess[str]:
    """Who AWS says that we are, in a process with this home."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ACTIONS_"))}
    services = {f"AWS_ENDPOINT_URL_{name}": provider.url for name in ("STS", "SSO", "SSO_OIDC", "SIGNIN")}
    alone = {"HOME": str(home), "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "*"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, **services, **alone, **more},
        text=True,
        capture_output=True,
        timeout=60,
    )


def config(home: Path, text: str) -> None:
    (home / ".aws" / "config").write_text(text)


def cached(home: Path, kind: str, name: str, digest: str, value: dict) -> None:
    folder = home / ".aws" / kind / "cache"
    folder.mkdir(parents=True)
    (folder / f"{hashlib.new(digest, name.encode()).hexdigest()}.json").write_text(json.dumps(value))


def said(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout.strip().rpartition("/")[2]


SESSION = """
[default]
sso_session = work
sso_account_id = 123456789012
sso_role_name = releaser
[sso-session work]
sso_region = us-east-1
sso_start_url = https://work.example/start
"""
LEGACY = """
[default]
sso_region = us-east-1
sso_start_url = https://work.example/start
sso_account_id = 123456789012
sso_role_name = releaser
"""


@pytest.mark.promise("credentials-as-people-have-them")
def test_a_session_of_identity_center(home, provider):
    config(home, SESSION)
    cached(home, "sso", "work", "sha1", {"accessToken": "bearer", "expiresAt": LATER})
    assert said(ask(home, provider)) == "SSO"


def test_a_session_whose_token_is_over_is_renewed(home, provider):
    config(home, SESSION)
    registered = {"clientId": "c", "clientSecret": "s", "refreshToken": "r", "registrationExpiresAt": LATER}
    over = {"accessToken": "old", "expiresAt": "2020-01-01T00:00:00Z"}
    cached(home, "sso", "work", "sha1", {**over, **registered})
    assert said(ask(home, provider)) == "SSO"
    assert provider.asked[0] == "oidc"


@pytest.mark.promise("credentials-as-people-have-them")
def test_an_older_profile_of_identity_center(home, provider):
    config(home, LEGACY)
    cached(home, "sso", "https://work.example/start", "sha1", {"accessToken": "bearer", "expiresAt": LATER})
    assert said(ask(home, provider)) == "SSO"


@pytest.mark.parametrize("text", [SESSION, LEGACY])
def test_who_has_not_logged_in_is_told_how(home, provider, text):
    config(home, text)
    answer = ask(home, provider)
    assert answer.returncode == 1
    assert "cloud: AWS gives this user or job no credentials" in answer.stdout
    assert "aws sso login" in answer.stdout


@pytest.mark.promise("credentials-as-people-have-them")
@pytest.mark.parametrize(("expires", "asked"), [(LATER, 0), ("2020-01-01T00:00:00Z", 1)])
def test_aws_login(home, provider, expires, asked):
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    token = {**_keys("OLD", accountId="123456789012"), "expiresAt": expires}
    config(home, "[default]\nlogin_session = arn:aws:iam::123456789012:user/kim\n")
    kept = {"accessToken": token, "refreshToken": "r", "dpopKey": key.decode(), "clientId": "c"}
    cached(home, "login", "arn:aws:iam::123456789012:user/kim", "sha256", kept)
    assert said(ask(home, provider)) == ("LOGIN" if asked else "OLD")
    assert provider.asked.count("signin") == asked


def test_only_a_profile_of_aws_login_waits_for_the_library_in_c(home, provider):
    keys = "aws_access_key_id = BASE\naws_secret_access_key = s\n"
    asked = f"{ASK}\nprint(bool(sys.modules.get('awscrt')))"
    config(home, f"[default]\n{keys}")
    assert said(ask(home, provider, asked)).splitlines() == ["BASE", "False"]
    config(home, f"[default]\n{keys}[profile person]\nlogin_session = arn:aws:iam::123456789012:user/kim\n")
    assert said(ask(home, provider, asked)).splitlines() == ["BASE", "True"]


@pytest.mark.promise("credentials-as-people-have-them")
def test_source_profile(home, provider):
    config(
        home,
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = s\n",
    )
    assert said(ask(home, provider)) == "ROLE"
    assert provider.asked[0] == "AssumeRole BASE"


def test_source_profile_of_identity_center(home, provider):
    text = SESSION.replace("[default]", "[profile base]")
    config(home, f"[default]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n{text}")
    cached(home, "sso", "work", "sha1", {"accessToken": "bearer", "expiresAt": LATER})
    assert said(ask(home, provider)) == "ROLE"
    assert provider.asked[0] == "AssumeRole SSO"


@pytest.mark.promise("credentials-as-people-have-them")
def test_credential_process(home, provider):
    keys = {
        "Version": 1,
        "AccessKeyId": "PROCESS",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": LATER,
    }
    (home / "keys.json").write_text(json.dumps(keys))
    config(home, f"[default]\ncredential_process = cat {home}/keys.json\n")
    assert said(ask(home, provider)) == "PROCESS"


@pytest.mark.promise("credentials-as-people-have-them")
def test_web_identity_of_a_profile_and_of_the_environment(home, provider):
    (home / "token").write_text("valid")
    role = "arn:aws:iam::123456789012:role/x"
    assert (
        said(ask(home, provider, AWS_ROLE_ARN=role, AWS_WEB_IDENTITY_TOKEN_FILE=str(home / "token")))
        == "ROLE"
    )
    config(home, f"[default]\nrole_arn = {role}\nweb_identity_token_file = {home}/token\n")
    assert said(ask(home, provider)) == "ROLE"
    assert provider.asked[0] == "AssumeRoleWithWebIdentity valid"


def test_a_token_that_is_over_is_a_sentence(home, provider):
    (home / "token").write_text("over")
    answer = ask(
        home, provider, AWS_ROLE_ARN="arn:aws:iam::1:role/x", AWS_WEB_IDENTITY_TOKEN_FILE=str(home / "token")
    )
    assert answer.returncode == 1
    assert "no credentials (An error occurred (ExpiredTokenException)" in answer.stdout


@pytest.mark.promise("a-long-job-gets-new-tokens")
def test_a_job_of_an_hour_asks_github_for_a_new_token(home, provider):
    """The token of the file is over, as after five minutes; the role's credentials are at their end at each call."""
    provider.lives = 60
    (home / "token").write_text("over")
    twice = "\n".join(
        ["from tasks.cloud.aws import Aws", "cloud = Aws('eu-central-1')", *["print(cloud.caller().arn)"] * 2]
    )
    answer = ask(
        home,
        provider,
        twice,
        AWS_ROLE_ARN="arn:aws:iam::1:role/x",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(home / "token"),
        ACTIONS_ID_TOKEN_REQUEST_URL=f"{provider.url}/github?x=1",
        ACTIONS_ID_TOKEN_REQUEST_TOKEN="t",
    )
    assert answer.returncode == 0, answer.stderr
    assumed = [words for words in provider.asked if words.startswith("AssumeRole")]
    assert assumed[:2] == ["AssumeRoleWithWebIdentity github-1", "AssumeRoleWithWebIdentity github-2"]
