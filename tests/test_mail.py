"""Where mail goes, by the settings: what is refused, what the role is told, and who else may know."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import mail, settings
from tasks.infrastructure.secrets import Secrets
from tasks.mail import MailNotCaught, RelayPasswordMissing
from tasks.settings import SettingWrong, role, with_default
from tests.conftest import ROOT

KNOWN = Secrets(deploy_key="", deploy_key_public="", mail_password="page", relay_password="relay")
NOBODY = Secrets(deploy_key="", deploy_key_public="")


def run(said="relayed", roles=("mail",), **told):
    server = SimpleNamespace(roles={"mail": {"relay_host": "", "relay_user": "", **told}})
    return SimpleNamespace(
        environment=SimpleNamespace(server=server, mail=said),
        environment_name="staging",
        identity="staging",
        url="http://shop.example.com/",
        profile=SimpleNamespace(server=SimpleNamespace(roles={each: {} for each in roles})),
    )


@pytest.mark.promise("mail-is-caught-or-relayed")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mail: caught", "x.yml:1: mail: should be relayed"),
        ("per_branch: true\nserver: {mail: {relay_host: a.example}}", "x.yml:2: server.mail.relay_host: should be empty in an environment of branches"),
        ("per_branch: true\nmail: caught\nserver: {mail: {relay_host: a.example}}", "x.yml:3: server.mail.relay_host: should be empty"),
        ("egress: listed\nserver: {mail: {relay_host: a.example}}", "x.yml:2: server.mail.relay_host: should be empty"),
        ("server: {mail: {relay_user: shop}}", "x.yml:1: server.mail.relay_user: should be empty, as there is no relay"),
        ("server: {mail: {relay_host: 'smtp://a.example'}}", "x.yml:1: server.mail.relay_host: should be a host such as smtp.example.com, or empty"),
        ("server: {mail: {relay_host: a.example, relay_user: 'a:b'}}", "x.yml:1: server.mail.relay_user: should be a user such as shop"),
        ("server: {mail: {relay_host: a.example, relay_port: 0}}", "x.yml:1: server.mail.relay_port: should be a whole number from 1 to 65535"),
        ("mail: dropped", "x.yml:1: mail: should be one of"),
    ],
)  # fmt: skip
def test_a_copy_of_the_shop_relays_no_mail_and_the_shop_itself_catches_none(tmp_path, text, sentence):
    (tmp_path / "x.yml").write_text(text)
    with pytest.raises(SettingWrong) as refused:
        settings.accept_environment(read(tmp_path), {"mail": {}})
    assert sentence in refused.value.text


@pytest.mark.parametrize(
    "text",
    ["", "per_branch: true\nmail: caught\negress: listed", "per_branch: true", "server: {mail: {relay_host: a.example, relay_port: 465, relay_user: shop@a.example}}"],
)  # fmt: skip
def test_mail_is_caught_relayed_or_refused(tmp_path, text):
    (tmp_path / "x.yml").write_text(text)
    settings.accept_environment(read(tmp_path), {"mail": {}})


def read(folder):
    options = with_default(role(ROOT, "mail").type)
    return settings.read(settings.Environment, folder / "x.yml", folder, {"mail": options})


@pytest.mark.promise("mail-is-caught-or-relayed")
def test_this_repository_catches_in_testing_and_nowhere_else():
    texts = {each.stem: each.read_text() for each in (ROOT / "environments").glob("*.yml")}
    assert {name for name, text in texts.items() if "\nmail: caught" in text} == {"testing"}


def test_the_role_is_told_the_passwords_that_it_needs():
    assert mail.variables(run("caught"), KNOWN) == {
        "mail_catch": True,
        "mail_password": "page",
        "mail_relay_password": "",
    }
    relayed = mail.variables(run(relay_host="smtp.example.com", relay_user="shop"), KNOWN)
    assert (relayed["mail_catch"], relayed["mail_password"], relayed["mail_relay_password"]) == (
        False,
        "",
        "relay",
    )
    assert mail.variables(run(roles=()), NOBODY) == {}


def test_a_user_without_a_password_and_a_page_that_is_none_are_refused():
    with pytest.raises(
        RelayPasswordMissing, match=r"staging\.yml: server\.mail\.relay_user: is shop, and there is no"
    ):
        mail.variables(run(relay_host="smtp.example.com", relay_user="shop"), NOBODY)
    for each in (run(), run("caught", roles=())):
        with pytest.raises(MailNotCaught, match="staging catches no mail"):
            mail.page(each)
    assert mail.page(run("caught")) == "http://shop.example.com/caught-mail/"
