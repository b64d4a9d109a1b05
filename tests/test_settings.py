"""Settings: what is declared is read, what is not is refused by file, line, path and what is known."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from tasks import forms, profile, settings
from tasks.refusal import Refusal
from tasks.settings import SettingMissing, SettingsBroken, SettingUnknown, SettingWrong
from tests.conftest import ROOT

ROLES = settings.of_roles(ROOT)


def load(tmp_path, text, kind=settings.Environment):
    if not (tmp_path / "roles").exists():
        (tmp_path / "roles").symlink_to(ROOT / "roles")
    path = tmp_path / "testing.yml"
    path.write_text(text)
    return settings.load(kind, path, tmp_path)


@pytest.mark.parametrize(
    ("text", "refusal", "sentence"),
    [
        (
            "server:\n  nginx:\n    siez: 1",
            SettingUnknown,
            "testing.yml:3: server.nginx.siez: unknown key (known: client_max_body_size, page_cache, limits, noindex, protected, unavailable, files, tls, hsts, proxies, proxies_header, probe)",
        ),
        (
            "server: {php: {version: '8.3', memory_limit: 512}}",
            SettingWrong,
            "testing.yml:1: server.php.memory_limit: should be a text, not '512'",
        ),
        (
            "server:\n  varnis: {}",
            SettingUnknown,
            "testing.yml:2: server.varnis: unknown key (did you mean varnish? known: leftovers, backup, base, ",
        ),
        ("server: {roles: {}}", SettingUnknown, "testing.yml:1: server.roles: unknown key"),
        ("server: {php: 8.2}", SettingWrong, "testing.yml:1: server.php: should be a mapping of names"),
        (
            "sevrer: {}",
            SettingUnknown,
            "testing.yml:1: sevrer: unknown key (did you mean server? known: per_branch, account, role, region, dns_zone, bucket, host_name",
        ),
        (
            "release: {keep: three}",
            SettingWrong,
            "testing.yml:1: release.keep: should be a whole number, not 'three'",
        ),
        ("release: {keep: true}", SettingWrong, "release.keep: should be a whole number, not 'true'"),
        ("release: {keep: [1]}", SettingWrong, "release.keep: should be a whole number, not a list"),
        ("per_branch: maybe", SettingWrong, "per_branch: should be true or false, not 'maybe'"),
        ("uncommitted: some", SettingWrong, "uncommitted: should be one of allowed, refused, not 'some'"),
        ("stages: release", SettingWrong, "stages: should be a list"),
        ("server: [1]", SettingWrong, "testing.yml:1: server: should be a mapping"),
        (
            "stages:\n- server\n- 7",
            SettingWrong,
            "testing.yml:3: stages[1]: should be a text, not '7'",
        ),
        ("stages: [[server]]", SettingWrong, "stages[0]: should be a text, not a list or a mapping"),
        ("{[per_branch]: true}", SettingWrong, "testing.yml:1: the file: should be a mapping of names"),
        ("stores:\n  de: {}", SettingMissing, "testing.yml:2: stores.de.code: is missing"),
        (
            "stores: {de: {code: a, host: b}}",
            SettingUnknown,
            "stores.de.host: unknown key (known: code, type)",
        ),
        ("host_name: !any thing", SettingWrong, "host_name: should be a text, not 'thing'"),
        ("host_name: 2026-13-45", SettingWrong, "host_name: should be a text, not '2026-13-45'"),
        ("a: b: c", SettingsBroken, "testing.yml:1: mapping values are not allowed"),
        ("release: {}\nrelease: {}", SettingsBroken, "testing.yml:2: release: is given twice"),
    ],
)
@pytest.mark.promise("wrong-settings-are-refused")
def test_a_wrong_environment_is_refused_where_it_is_wrong(tmp_path, text, refusal, sentence):
    with pytest.raises(refusal) as caught:
        load(tmp_path, text)
    assert sentence in caught.value.text
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("infrastructure: {instances: -1}", "infrastructure.instances: should be a whole number, at least 1, not '-1'"),
        ("infrastructure: {instances: 0}", "infrastructure.instances: should be a whole number, at least 1, not '0'"),
        ("release: {keep: -1}", "release.keep: should be a whole number, at least 1, not '-1'"),
        ("release: {keep: 010}", "release.keep: should be a whole number, at least 1, not '010'"),
        ("release: {keep: 1:30}", "release.keep: should be a whole number, at least 1, not '1:30'"),
        ("release: {keep: 1_0}", "release.keep: should be a whole number"),
        ("release: {expires_after_days: 0x1f}", "release.expires_after_days: should be a whole number, at least 0, not '0x1f'"),
        ("infrastructure: {ssh_from: [10.0.0.0]}", "infrastructure.ssh_from[0]: should be a network such as 203.0.113.0/24 or 2001:db8::/32, not '10.0.0.0'"),
        ("infrastructure: {http_from: [10.0.0.1/33]}", "infrastructure.http_from[0]: should be a network"),
        ("infrastructure: {http_from: [10.0.0.0/33]}", "infrastructure.http_from[0]: should be a network"),
        ("infrastructure: {owner: ''}", "infrastructure.owner: should be a text of 1 to 256 printable characters, not ''"),
        ("infrastructure: {idle_hours: -2}", "infrastructure.idle_hours: should be a whole number, at least 0"),
        ("host_name: Shop_1", "host_name: should be a DNS name such as shop.example.com, or empty, not 'Shop_1'"),
        ("infrastructure: {subnets: [vpc-1]}", "infrastructure.subnets[0]: should be a subnet's id such as subnet-0123456789abcdef0, not 'vpc-1'"),
        ("infrastructure: {disk_gb: 8}", "infrastructure.disk_gb: should be a whole number from 10 to 16384, not '8'"),
        ("infrastructure: {disk_type: io2}", "infrastructure.disk_type: should be one of gp3, gp2, not 'io2'"),
        ("infrastructure: {ssh_through: '-oProxyCommand=x'}", "infrastructure.ssh_through: should be session-manager, or a jump host such as admin@jump.example.com:22, or empty"),
        ("infrastructure: {instance_profile: a/b}", "infrastructure.instance_profile: should be an instance profile's name"),
        ("host_name: -a", "host_name: should be a DNS name"),
        ("stores: {de: {code: 1a}}", "stores.de.code: should be a store's code of letters, digits and underscores that begins with a letter, not '1a'"),
        ("stores: {de: {code: a, type: view}}", "stores.de.type: should be one of store, website, not 'view'"),
        ('host_name: "a\\0b"', "host_name: should be a DNS name"),
        ("takes_from: ../x", "takes_from: should be the name of one folder, or empty"),
        ("builders: ['']", "builders[0]: should be a text that is not empty"),
        *(
            (f"freezes: ['{text}']", f"freezes[0]: should be FROM/TO, each a date or a time in ISO 8601, FROM before TO, not '{text}'")
            for text in ("tomorrow", "2026-11-24", "2026-11-24/soon", "a/b/c", "2026-02-30/2026-03-01", "2026-12-01/2026-11-01")
        ),
        ("server: {php: {memory_limit: 512MB}}", "server.php.memory_limit: should be a size such as 512M, not '512MB'"),
        ("server: {php: {memory_limit: '-1'}}", "server.php.memory_limit: should be a size"),
        ("server: {php: {max_children: 0}}", "server.php.max_children: should be a whole number, at least 1, not '0'"),
        ("server: {php: {version: '8'}}", "server.php.version: should be a version such as 8.2"),
        ("server: {workers: {stop_seconds: 0}}", "server.workers.stop_seconds: should be a whole number, at least 1, not '0'"),
        ("server: {redis: {maxmemory: lots}}", "server.redis.maxmemory: should be a size such as 128mb"),
        ("server: {base: {timezone: Mars/Olympus}}", "server.base.timezone: should be a time zone such as Europe/Berlin"),
        ("server: {base: {timezone: ../../etc/passwd}}", "server.base.timezone: should be a time zone"),
        ("server: {base: {reboot_at: '24:00'}}", "server.base.reboot_at: should be a time such as 04:30, or empty"),
        *(
            (f"server: {{proxy: {{allowed: ['{text}']}}}}", f"server.proxy.allowed[0]: should be a name and a port such as api.example.com:443, not '{text}'")
            for text in ("api.example.com", "api.example.com:0", "api.example.com:65536", ".example.com:443", "*.example.com:443", "http://example.com:80", "a b.example.com:443")
        ),
        ("server: {base: {administrators: [alice]}}", "server.base.administrators[0]: should be a name and an SSH public key such as alice ssh-ed25519"),
        (f"server: {{base: {{administrators: [../x ssh-ed25519 {'A' * 68}]}}}}", "server.base.administrators[0]: should be a name and an SSH public key"),
    ],
)  # fmt: skip
@pytest.mark.promise("wrong-settings-are-refused")
def test_a_value_out_of_its_bounds_or_form_is_refused_where_it_is(tmp_path, text, sentence):
    with pytest.raises(SettingWrong) as caught:
        load(tmp_path, text)
    assert f"testing.yml:1: {sentence}" in caught.value.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: ''", "name: should be a name of 1 to 40 lower-case letters, digits and hyphens that does not begin with aws, ssm, sg- or xn--, not ''"),
        *((f"name: {name}", "name: should be a name") for name in ("awshop", "ssm", "sg", "sg-shop", "xn--shop")),
        ("name: Shop!", "name: should be a name"),
        ("sweep: {share: 500}", "sweep.share: should be a whole number from 0 to 100, not '500'"),
        ("sweep: {share: -1}", "sweep.share: should be"),
        ("sweep: {tarballs: 0}", "sweep.tarballs: should be a whole number, at least 1"),
        ("sweep: {layer_days: -3}", "sweep.layer_days: should be"),
        ("budget: 0", "budget: should be"),
        ("dns_zone: shop..localhost", "dns_zone: should be a DNS name"),
        ("default_branch: ''", "default_branch: should be a branch's name as git allows it, not ''"),
        ("default_branch: a..b", "default_branch: should be"),
        ("default_branch: -x", "default_branch: should be"),
        ("default_branch: a/.b", "default_branch: should be"),
        ("default_branch: 'a b'", "default_branch: should be"),
        ("default_branch: x.lock", "default_branch: should be"),
        ("bucket: A", "bucket: should be a bucket's name"),
        ("region: ''", "region: should be"),
        ("public_keys: [RWabc]", "public_keys[0]: should be a minisign public key of 56 characters"),
        ("application: {profile: ../x}", "application.profile: should be the name of one folder"),
        ("application: {profile: x, path: ''}", "application.path: should be a text that is not empty"),
    ],
)  # fmt: skip
def test_the_project_s_own_settings_have_bounds_and_forms(tmp_path, text, sentence):
    with pytest.raises(SettingWrong) as caught:
        load(tmp_path, text, settings.Pipeline)
    assert f"testing.yml:1: {sentence}" in caught.value.text


@pytest.mark.parametrize("name", ["main", "a", "feature/x-1", "@x", "release-1.2", "caf\u00e9"])
def test_branches_that_git_allows_are_taken(name):
    assert forms.is_branch(name)
    assert subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", [settings.Pipeline, settings.Environment, profile.ProfileFile])
def test_every_default_has_the_form_that_its_setting_asks_for(kind):
    def check(kind):
        for each in settings._settings(kind).values():
            if dataclasses.is_dataclass(each.type):
                check(each.type)
            elif each.form and each.default is not dataclasses.MISSING:
                values = each.default if isinstance(each.default, tuple) else (each.default,)
                assert all(each.form.holds(value) for value in values), each

    check(kind)


def numbers(known, path=""):
    """Every whole number that is declared, with its form, by its dotted path."""
    for name, each in known.items():
        if each.type is int:
            yield f"{path}{name}", each.form
        for of in (each.type, settings._item(each.type)):
            if dataclasses.is_dataclass(of) or isinstance(of, settings.Section):
                yield from numbers(settings._settings(of), f"{path}{name}.")


@pytest.mark.parametrize(
    "kind", [settings.Pipeline, settings.Environment, profile.ProfileFile, settings.every_role(ROOT)]
)
def test_every_number_has_bounds(kind):
    found = dict(numbers(settings._settings(kind)))
    assert found
    assert [path for path, form in found.items() if not form or form.holds(-1)] == []


@pytest.mark.promise("wrong-settings-are-refused")
def test_a_missing_value_is_named_with_its_help(tmp_path):
    with pytest.raises(SettingMissing, match=r"testing\.yml:2: application\.profile: is missing"):
        load(tmp_path, "name: shop\napplication: {path: app}", settings.Pipeline)
    with pytest.raises(SettingMissing, match=r"testing\.yml:1: name: is missing"):
        load(tmp_path, "application: {profile: x}", settings.Pipeline)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "testing.yml").write_bytes(b"host_name: \xff")
    with pytest.raises(SettingsBroken, match=r"testing\.yml:1: is not UTF-8"):
        settings.load(settings.Environment, tmp_path / "testing.yml", tmp_path)


def test_an_empty_environment_has_the_declared_defaults(tmp_path):
    read = load(tmp_path, "")
    told = {role: {name: each.default for name, each in names.items()} for role, names in ROLES.items()}
    assert read == settings.Environment(server=settings.Server(roles=told))
    assert read == load(tmp_path, "server: {php: }")
    assert read == load(tmp_path, "server: {php: null}") == load(tmp_path, "server: ~")


def test_values_reach_their_setting(tmp_path):
    read = load(tmp_path, "stages: [release]\nserver: {php: {memory_limit: 1G}}\nrelease: {keep: 7}")
    assert (read.stages, read.server.roles["php"]["memory_limit"], read.release.keep) == (
        ("release",),
        "1G",
        7,
    )


def test_flat_names_every_setting_by_its_path(tmp_path):
    flat = settings.flat(load(tmp_path, "stores: {NAME: {code: x}}"))
    declared = {path for path, *_ in settings.declared(settings.Environment, ROLES)}
    limits = {f"server.nginx.limits[].{each}" for each in ("name", "requests", "per_minute", "burst")}
    assert {"stores", "infrastructure.placement", *limits, *flat} == declared  # all are empty by default
    assert flat["server.php.version"] == "8.2"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "environments").glob("*.yml")))
def test_the_project_s_own_environments_are_right(name):
    settings.load(settings.Environment, ROOT / "environments" / name, ROOT)


def test_a_missing_file_is_a_refusal(tmp_path):
    with pytest.raises(Refusal, match=r"pipeline\.yml: is missing"):
        settings.load(settings.Pipeline, tmp_path / "pipeline.yml", tmp_path)


SEARCH = """
argument_specs:
  main:
    options:
      search_heap:
        type: str
        choices: [1g, 2g]
        default: 1g
        description: Memory of the heap.
      search_nodes:
        type: list
        elements: str
        default: [a]
        description: Its neighbours.
      search_secret:
        type: str
        required: true
        description: What the stage tells.
"""


def with_search(root, specs=SEARCH):
    folder = root / "roles" / "search" / "meta"
    folder.mkdir(parents=True)
    (folder / "argument_specs.yml").write_text(specs)


@pytest.mark.promise("a-default-is-a-setting")
def test_a_new_role_brings_its_settings_without_a_line_of_python(tmp_path):
    with_search(tmp_path)
    assert load(tmp_path, "").server.roles == {"search": {"heap": "1g", "nodes": ("a",)}}
    read = load(tmp_path, "server: {search: {heap: 2g, nodes: [b, c]}}")
    assert settings.flat(read.server) == {
        "leftovers": "remove",
        "search.heap": "2g",
        "search.nodes": ["b", "c"],
    }
    rows = [
        row
        for row in settings.declared(settings.Environment, settings.of_roles(tmp_path))
        if "search" in row[0]
    ]
    assert rows[0] == ("server.search.heap", "one of 1g, 2g", "`1g`", "Memory of the heap")
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("text", "refusal", "sentence"),
    [
        ("{heep: 2g}", SettingUnknown, ":3: server.search.heep: unknown key (did you mean heap? known: heap, nodes)"),
        ("{heap: 3g}", SettingWrong, ":3: server.search.heap: should be one of 1g, 2g, not '3g'"),
        ("{nodes: [1]}", SettingWrong, ":3: server.search.nodes[0]: should be a text, not '1'"),
        ("{secret: x}", SettingUnknown, ":3: server.search.secret: unknown key"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_a_new_role_is_refused_where_it_is(tmp_path, text, refusal, sentence):
    with_search(tmp_path)
    with pytest.raises(refusal) as caught:
        load(tmp_path, f"server:\n  search:\n    {text}")
    assert f"testing.yml{sentence}" in caught.value.text


@pytest.mark.parametrize(("right", "wrong"), [("default: 1g", "default: 3g"), ("default: [a]", "default: a"), ("elements: str", "elements: dict")])  # fmt: skip
def test_a_default_that_is_no_setting_is_refused_in_the_role(tmp_path, right, wrong):
    with_search(tmp_path, SEARCH.replace(right, wrong))
    with pytest.raises(
        SettingsBroken, match=r"roles/search/meta/argument_specs\.yml:(5|10): search_\w+: the default"
    ):
        load(tmp_path, "")


SIZED = SEARCH.replace("choices: [1g, 2g]", "required: false").replace(
    "Memory of the heap.", '"Memory of the heap. Form: size such as 512M."'
)


@pytest.mark.promise("forms-in-descriptions")
def test_a_role_declares_the_form_of_its_setting_in_its_description(tmp_path):
    with_search(tmp_path, SIZED)
    rows = {row[0]: row for row in settings.declared(settings.Environment, settings.of_roles(tmp_path))}
    assert rows["server.search.heap"][1:] == ("a size such as 512M", "`1g`", "Memory of the heap")
    with pytest.raises(
        SettingWrong, match=r"server\.search\.heap: should be a size such as 512M, not 'much'"
    ):
        load(tmp_path, "server: {search: {heap: much}}")


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("size such as 512M", "sise", r":5: search_heap: Form: sise: is unknown \(known: size such as 512M"),
        (
            "default: 1g",
            "default: 1x",
            r":5: search_heap: the default '1x' is no setting that is a size such as 512M",
        ),
    ],
)
@pytest.mark.promise("forms-in-descriptions")
def test_a_form_that_is_unknown_or_does_not_fit_is_refused_in_the_role(tmp_path, right, wrong, sentence):
    with_search(tmp_path, SIZED.replace(right, wrong))
    with pytest.raises(SettingsBroken, match=rf"roles/search/meta/argument_specs\.yml{sentence}"):
        load(tmp_path, "")


@pytest.mark.parametrize("zone", ["", "dns_zone: qa.shop.localhost\n"])
@pytest.mark.promise("aws-needs-a-public-zone")
def test_a_zone_that_only_this_machine_resolves_is_refused_on_aws(tmp_path, zone):
    text = f"name: shop\ncloud: aws\napplication: {{profile: static}}\n{zone}"
    (tmp_path / "pipeline.yml").write_text(text)
    with pytest.raises(
        SettingWrong,
        match=rf"^pipeline.yml:{4 if zone else 2}: dns_zone: should be a zone that others resolve",
    ):
        settings.of_pipeline(tmp_path)
    (tmp_path / "pipeline.yml").write_text(text.replace("cloud: aws", "cloud: embedded"))
    assert settings.of_pipeline(tmp_path).cloud == "embedded"


@pytest.mark.promise("two-databases-are-refused")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("release:\n  keep: 24", "testing.yml:2: infrastructure.disk_gb: should be at least 32, for 24 releases (release.keep) and a new one, not 30"),
        ("infrastructure:\n  disk_gb: 10\nrelease: {keep: 3}", "testing.yml:2: infrastructure.disk_gb: should be at least 11"),
        ("infrastructure:\n  public_address: false", "testing.yml:2: infrastructure.public_address: should be true, or `subnets` those of a network"),
        ("infrastructure:\n  instances: 2", "testing.yml:2: infrastructure.instances: should be 1: each machine of this profile has its own media, jobs and database"),
        ("infrastructure:\n  spot: true", "testing.yml:2: infrastructure.spot: should be false: a spot instance may end at any time"),
        ("mail: caught", "testing.yml:1: mail: should be relayed: mail is caught in environments of branches (per_branch)"),
        ("egress: listed\ninfrastructure: {ssh_through: session-manager}", "testing.yml:2: infrastructure.ssh_through: should be a jump host or empty: its agent"),
        ("per_branch: true\ninfrastructure: {spot: true, termination_protection: true}", "testing.yml:2: infrastructure.spot: should be false"),
        ("stores: {-a: {code: german}}", "testing.yml:1: stores.-a: should be a DNS name"),
        ("host_name: WWW\nstores:\n  www: {code: german}", "testing.yml:3: stores.www: should be a host name that nothing else here has"),
        ("stores:\n  testing: {code: german}", "testing.yml:2: stores.testing: should be a host name that nothing else here has"),
        ("stores:\n  de: {code: german}\n  DE: {code: other}", "testing.yml:3: stores.DE: should be a host name that nothing else here has"),
        ("stores:\n  de: {code: german}\n  at: {code: german}", "testing.yml:3: stores.at.code: should be a store without another host name"),
    ],
)  # fmt: skip
@pytest.mark.promise("settings-fit-together", "stores-have-names")
def test_settings_that_do_not_fit_together_are_refused(tmp_path, text, sentence):
    (tmp_path / "testing.yml").write_text(text)
    file = settings.read(settings.Environment, tmp_path / "testing.yml", tmp_path, {})
    with pytest.raises(SettingWrong) as caught:
        settings.accept_environment(file, {"base": {}, "database": {}})
    assert sentence in caught.value.text


TLS = {"nginx": {"tls": settings.Setting(type=bool, help="", default=True)}}
"""The setting of a role, as the profiles have it."""


@pytest.mark.parametrize(
    ("text", "zone", "sentence"),
    [
        ("certificates: acme", "shop.localhost", "testing.yml:1: certificates: should be own: nobody else resolves shop.localhost (dns_zone), not acme"),
        ("certificates: acme\nserver: {nginx: {tls: false}}", "shop.example", "testing.yml:1: certificates: should be own where no host speaks TLS (server.nginx.tls)"),
        ("per_branch: true\ncertificates: acme", "shop.example", "testing.yml:2: dns_zone: should be a zone of the branches' own, such as branches.shop.example"),
        ("per_branch: true\ncertificates: acme\ndns_zone: shop.example", "shop.example", "testing.yml:3: dns_zone: should be a zone of the branches' own"),
        ("per_branch: true\ncertificates: acme\ndns_zone: b.shop.example\nstores: {de: {code: x}}", "shop.example", "testing.yml:4: stores: should be none where certificates is acme: a wildcard"),
        ("per_branch: true\ncertificates: acme\ndns_zone: b.shop.example", "shop.example", ""),
        ("per_branch: true\ncertificates: acme\ndns_zone: c.shop.example", "shop.example", "testing.yml:3: dns_zone: should be another one than that of other.yml: both would put their challenge at one name"),
        ("certificates: acme\nstores: {de: {code: x}}", "shop.example", ""),
        ("per_branch: true\nserver: {nginx: {tls: false}}", "shop.localhost", ""),
    ],
)  # fmt: skip
@pytest.mark.promise("a-wildcard-is-the-branches-own")
def test_an_authority_is_asked_only_for_what_it_can_vouch_and_branches_may_have(
    tmp_path, text, zone, sentence
):
    (tmp_path / "testing.yml").write_text(text)
    others = [tmp_path / "broken.yml", tmp_path / "other.yml"]
    others[0].write_text("per_branch: [")
    others[1].write_text("per_branch: true\ncertificates: acme\ndns_zone: c.shop.example\n")
    file = settings.read(settings.Environment, tmp_path / "testing.yml", tmp_path, TLS)
    pipeline = settings.Pipeline(name="shop", application=settings.Application(profile="php"), dns_zone=zone)
    if not sentence:
        settings.accept_certificates(file, pipeline, others)
        return
    with pytest.raises(SettingWrong) as caught:
        settings.accept_certificates(file, pipeline, others)
    assert sentence in caught.value.text


@pytest.mark.parametrize(
    "text", ["", "stores: {de: {code: x}, at: {code: x, type: website}}", "per_branch: true\nstores: {testing: {code: x}}", "per_branch: true\ninfrastructure: {spot: true}", "infrastructure: {public_address: false, subnets: [subnet-0123abcd]}"]
)  # fmt: skip
def test_settings_that_fit_together_are_taken(tmp_path, text):
    (tmp_path / "testing.yml").write_text(text)
    settings.accept_environment(settings.read(settings.Environment, tmp_path / "testing.yml", tmp_path, {}))


@pytest.mark.promise("names-in-any-case")
def test_upper_case_in_a_name_of_dns_means_lower_case(tmp_path):
    assert load(tmp_path, "host_name: Shop.QA").host_name == "shop.qa"
    project = load(tmp_path, "name: x\napplication: {profile: x}\ndns_zone: Example.COM", settings.Pipeline)
    assert project.dns_zone == "example.com"
