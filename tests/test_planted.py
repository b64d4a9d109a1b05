"""Faults planted in roles, templates, policies, CI files and plain values: each is reported by the rule that is there for it.

A rule is a function in `tests/rules/`: from the project's folder to what breaks it there, in milliseconds. A row of `FAULTS` whose
text is no longer in its file fails: the table is kept true. What only a host shows is in `tests/end_to_end/`: that a key is not in
an image (`test_image.py`), who listens on a port (`test_php.py`, `test_static.py`), who may log in (`test_logins.py`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.rules import configuration, jobs, policies, programs, release, roles

RULES = [rule for each in (roles, release, configuration, policies, jobs, programs) for rule in each.RULES]
COPIED = (
    *("roles", "playbooks", "applications", "build", "tasks", ".github"),
    *(".gitlab-ci.yml", "bitbucket-pipelines.yml", *programs.LOCKS),
)

SHOWN, OWNED, TYPED = (
    roles.secret_values_are_not_shown,
    roles.files_state_owner_and_mode,
    roles.commands_take_values_as_they_are,
)
USER, CHECKED = (
    roles.the_application_s_commands_run_as_its_user,
    roles.a_configuration_is_checked_before_it_is_in_place,
)
READ, BOOT = roles.a_changed_file_is_read_again, roles.a_service_starts_at_boot
GOES = roles.what_is_wanted_no_more_goes
LEDGER = roles.what_is_written_is_in_the_ledger
MADE_UP = roles.an_interruption_is_made_up_for
ORIGIN, FAILED = roles.what_is_fetched_comes_from_where_it_should, roles.a_failure_is_not_passed_over
ORDER, WHEN = release.phases_come_in_their_order, release.conditions_hold_when_they_should
IMAGE = release.an_image_has_no_identity
UNWANTED = release.an_image_starts_nothing_that_a_host_stops
FIREWALL, SETTING = configuration.the_firewall_admits_what_is_declared, configuration.settings_are_as_wanted
LISTS = configuration.what_is_listed_is_all_that_is_reached
WEB, CACHE = (
    configuration.the_web_server_shows_what_is_meant_for_visitors,
    configuration.the_page_cache_is_local_and_keeps_no_visitor_s_page,
)
VALUE, CAREFUL = configuration.values_stay_values, configuration.the_application_is_told_to_be_careful
MAIL = configuration.mail_goes_where_it_should
UNIT = configuration.units_do_what_they_are_for
BUCKET, MACHINE = (
    policies.the_bucket_is_written_by_whom_it_should,
    policies.machines_are_changed_and_ended_by_whom_they_should,
)
NAME, ACTION = (
    policies.names_and_secrets_are_read_and_written_by_whom_they_should,
    policies.no_role_has_an_action_that_no_table_knows,
)
ROLE, LIMIT = jobs.a_job_has_the_role_of_its_place, jobs.a_job_has_an_end_and_waits_for_its_like
WHOSE = jobs.a_token_says_whose_job_it_is
BESIDE = jobs.nothing_is_pruned_beside_a_drill
GATE, TOKEN = jobs.a_person_stands_before_production, jobs.a_job_is_given_a_token_and_nothing_more
PIP, PRIVATE = programs.packages_are_installed_by_their_digests, programs.secret_files_are_the_user_s_alone
SSH, CLOUD = programs.ssh_trusts_the_known_keys_alone, programs.the_cloud_is_asked_carefully

GITHUB, GITLAB, BITBUCKET = ".github/workflows/pipeline.yml", ".gitlab-ci.yml", "bitbucket-pipelines.yml"
TASKS, RELEASE = "roles/{}/tasks/main.yml", "roles/release/tasks/{}.yml"
SHOP, PHP, STATIC = (f"applications/{name}/nginx.conf.j2" for name in ("magento2", "php", "static"))
FILES = "applications/magento2/files.conf.j2"
ENV_PHP, ENV, VCL = (
    "applications/magento2/env.php.j2",
    "applications/php/env.j2",
    "applications/magento2/varnish.vcl.j2",
)
SCRIPTS = "applications/magento2/{}.j2"
META = "roles/{}/meta/network.yml"
NFT, NGINX = "roles/firewall/templates/nftables.conf.j2", "roles/nginx/templates/nginx.conf.j2"
SESSIONS, CACHES = "roles/redis/templates/sessions.conf.j2", "roles/redis/templates/cache.conf.j2"
POOL = "roles/php/templates/php-fpm.conf.j2"
SQL, QUOTE = "roles/database/templates/database.sql.j2", "roles/database/templates/quote.j2"
SQUID, UNBOUND = "roles/proxy/templates/squid.conf.j2", "roles/resolver/templates/{}.j2"
POSTFIX, MASTER = (f"roles/mail/templates/{name}.cf.j2" for name in ("main", "master"))
SSHD = "roles/base/templates/sshd.conf.j2"
JOB = "roles/cron/templates/cron_job.j2"
WORKER, CRON = "roles/workers/templates/worker.service.j2", "roles/cron/templates/cron.j2"
RELEASED = "roles/php/templates/php@.service.j2"
VARNISH = "roles/varnish/templates/override.conf.j2"
IAM = "build/ci/iam/{}.json"
S3 = "arn:aws:s3:::shop-releases"
SPECS = "roles/{}/meta/argument_specs.yml"

FAULTS: list[tuple[Callable[[Path], list[str]], str, str, str]] = [
    # the rule that reports it; a file; what it says; what it says then
    # secrets: logs, differences, process lists, files
    (SHOWN, TASKS.format("database"), "check_mode: false\n      no_log: true\n", "check_mode: false\n"),
    (SHOWN, TASKS.format("database"), "changed_when: true\n      no_log: true\n", "changed_when: true\n"),
    (SHOWN, TASKS.format("database"), "  no_log: true", "  no_log: false"),
    (SHOWN, TASKS.format("database"), "argv: [mariadb, --batch]", 'argv: [mariadb, "-p{{ database_password }}"]'),
    (SHOWN, TASKS.format("shared"), "  diff: false # it holds passwords\n", ""),
    (SHOWN, TASKS.format("shared"), 'mode: "0640"', 'mode: "0644"'),
    (SHOWN, TASKS.format("shared"), 'loop: "{{ range(1, shared_variables | length + 1) | list }}"', 'loop: "{{ shared_variables }}"'),
    (SHOWN, TASKS.format("shared"), "fail_msg: \"", "fail_msg: \"{{ shared_variables[0] }}"),
    (SHOWN, SPECS.format("database"), "        no_log: true\n", ""),
    (SHOWN, SPECS.format("shared"), "        required: true\n        no_log: true\n", "        required: true\n"),
    (SHOWN, SPECS.format("release"), "        no_log: true\n", ""),
    # what hides a file from the log hides it from the ledger
    (LEDGER, TASKS.format("php"), "argv: [systemctl, start, php_live.service]", "argv: [systemctl, enable, --now, php_live.service]"),
    (LEDGER, TASKS.format("database"), "  when: not server_services.mariadb.sql.here\n", "  when: not server_services.mariadb.sql.here\n  no_log: true\n"),
    # what is wanted no more
    (GOES, TASKS.format("proxy"), "loop: [/etc/apt/apt.conf.d/95proxy, ", "loop: ["),
    (GOES, TASKS.format("proxy"), 'content: ""\n        dest: /etc/environment\n', 'content: ""\n        dest: /etc/other\n'),
    (GOES, TASKS.format("firewall"), "path: /etc/cloud/cloud.cfg.d/95_egress.cfg", "path: /etc/cloud/cloud.cfg.d/other.cfg"),
    (GOES, TASKS.format("mail"), "    - /etc/caught_mail.json\n", ""),
    (GOES, TASKS.format("backup"), "backup_repository | length == 0", "backup_repository | length > 0"),
    # files: owner, group, mode
    (OWNED, TASKS.format("cron"), 'mode: "0644"', 'mode: "0666"'),
    (OWNED, TASKS.format("base"), 'mode: "0644"', "mode: 0644"),
    (OWNED, TASKS.format("base"), 'mode: "0644"', 'mode: "644"'),
    (OWNED, TASKS.format("application"), 'mode: "0751"', 'mode: "0777"'),
    (OWNED, TASKS.format("application"), '    group: "{{ application_user }}"\n', ""),
    (OWNED, TASKS.format("shared"), 'mode: "2775"', 'mode: "0775"'),
    (OWNED, TASKS.format("shared"), 'mode: "2775"', 'mode: "2755"'),
    (OWNED, TASKS.format("shared"), 'group: "{{ application_web_user }}"', 'group: "{{ application_user }}"'),
    (OWNED, TASKS.format("workers"), '    mode: "0644"\n', ""),
    (OWNED, TASKS.format("self_shutdown"), 'mode: "0755"', 'mode: "0644"'),
    (OWNED, TASKS.format("self_shutdown"), 'mode: "0644"', 'mode: "0755"'),
    (OWNED, TASKS.format("redis"), "owner: redis", "owner: root"),
    (OWNED, TASKS.format("shared"), 'owner: "{{ application_user }}"', "owner: root"),
    (OWNED, TASKS.format("shared"), "/{{ __shared_place }}\"\n", "/{{ __shared_place }}\"\n        owner: \"{{ application_user }}\"\n"),
    (OWNED, TASKS.format("shared"), "owner: root #", 'owner: "{{ application_user }}" #'),
    (OWNED, TASKS.format("image"), "    owner: root\n", ""),
    (OWNED, "playbooks/server.yml", "    ansible.builtin.template: *root\n", ""),
    (OWNED, "playbooks/server.yml", "&root {owner: root,", "&root {owner: www-data,"),
    # commands: a list, or quoted
    (TYPED, TASKS.format("image"), "image_secrets | map('quote') | join(' ')", "image_secrets | join(' ')"),
    (TYPED, TASKS.format("database"), "argv: [mariadb, --batch]", "cmd: mariadb --batch {{ database_name }}"),
    # whose commands
    (SHOWN, SPECS.format("search"), "        no_log: true\n", ""),
    (USER, TASKS.format("application"), "shell: /usr/sbin/nologin", "shell: /bin/bash"),
    (USER, TASKS.format("application"), "system: true", "system: false"),
    (USER, TASKS.format("application"), "    system: true\n", "    system: true\n    groups: sudo\n"),
    (USER, TASKS.format("application"), '"{{ application_web_user }}"] #', "sudo] #"),
    (USER, TASKS.format("shared"), 'become_user: "{{ application_user }}"', "become_user: root"),
    (CHECKED, TASKS.format("application"), "visudo -cf %s", "true %s"),
    (VALUE, SCRIPTS.format("install.php"), "{{ php(release_administrator_password) }}", "'{{ release_administrator_password }}'"),
    (VALUE, SCRIPTS.format("second_factor.php"), "{{ php(release_administrator_secret) }}", "'{{ release_administrator_secret }}'"),
    # a check before a file is in place
    (CHECKED, TASKS.format("firewall"), "    validate: nft --check --file %s\n", ""),
    (CHECKED, TASKS.format("firewall"), "validate: nft --check --file %s", "validate: test -s %s"),
    (CHECKED, TASKS.format("nginx"), "rm /etc/nginx/candidate.conf; exit $result'", "rm /etc/nginx/candidate.conf'"),
    (CHECKED, TASKS.format("nginx"), "nginx -t -c", "nginx -c"),
    (CHECKED, TASKS.format("php"), '    validate: "env RELEASE=none GENERATION=0 php-fpm{{ php_version }} --test --fpm-config %s"\n', ""),
    (CHECKED, TASKS.format("proxy"), "      validate: squid -k parse -f %s\n", ""),
    (CHECKED, TASKS.format("resolver"), "unbound-checkconf %s", "test -s %s"),
    (CHECKED, TASKS.format("redis"), '    validate: "{{ __redis_validate }}"\n', ""),
    (CHECKED, "roles/mariadb/vars/main.yml", " | grep ERROR", ""),
    (CHECKED, TASKS.format("varnish"), "varnishd -j none -C -f %s", "test -s %s"),
    # handlers
    (READ, TASKS.format("redis"), "  notify: Restart Redis for caches\n", ""),
    (READ, TASKS.format("proxy"), "      notify: Reload the proxy\n", ""),
    (READ, TASKS.format("resolver"), "      notify: Restart the resolver\n", ""),
    (READ, "roles/resolver/handlers/main.yml", "state: restarted", "state: reloaded"),
    (BOOT, TASKS.format("proxy"), "        enabled: true\n", ""),
    (BOOT, TASKS.format("resolver"), "        enabled: true\n", ""),
    (READ, TASKS.format("firewall"), "  notify: Reload the firewall\n", ""),
    (READ, TASKS.format("php"), "  notify: Reload PHP-FPM\n", ""),
    (READ, TASKS.format("shared"), "  notify: The shared configuration has changed\n", ""),
    (READ, "roles/mariadb/handlers/main.yml", "state: restarted", "state: reloaded"),
    (READ, "roles/mariadb/handlers/main.yml", "SET GLOBAL", "SELECT"),
    (READ, TASKS.format("mariadb"), "  notify: Set it while MariaDB runs\n", ""),
    (READ, TASKS.format("base"), "  notify: Restart chrony\n", ""),
    (BOOT, TASKS.format("base"), "        enabled: true\n", ""),
    (READ, "roles/redis/handlers/main.yml", "state: restarted", "state: started"),
    (READ, "roles/nginx/handlers/main.yml", "state: reloaded", "state: started"),
    (READ, "roles/workers/handlers/main.yml", "  notify: Start the workers\n", ""),
    (READ, "roles/search/handlers/main.yml", "    daemon_reload: true\n", ""),
    (READ, "roles/varnish/handlers/main.yml", "    daemon_reload: true\n", ""),
    (READ, TASKS.format("php"), "    daemon_reload: true\n", ""),
    (READ, "roles/shared/handlers/main.yml", "'try-reload-or-restart'", "'status'"),
    (READ, "playbooks/server.yml", "  force_handlers: true # a later failure must not leave a service on its old configuration\n", ""),
    (BOOT, TASKS.format("nginx"), "enabled: true", "enabled: false"),
    (BOOT, TASKS.format("redis"), "    state: started\n", ""),
    (BOOT, TASKS.format("firewall"), "    enabled: true\n", ""),
    (BOOT, TASKS.format("self_shutdown"), "        enabled: true\n", ""),
    # where things come from, and what passes for an answer
    (ORIGIN, TASKS.format("packages"), "install_recommends: false", "install_recommends: true"),
    (ORIGIN, TASKS.format("packages"), "install_recommends: false", "install_recommends: false\n    allow_unauthenticated: true"),
    (ORIGIN, TASKS.format("search"), "        follow_redirects: none\n", ""),
    (ORIGIN, TASKS.format("search"), "        timeout: 10\n", ""),
    (ORIGIN, TASKS.format("packages"), "apt-get install --yes", "apt-get install --yes --allow-unauthenticated"),
    # failures
    (SHOWN, RELEASE.format("ask"), "  no_log: true # the plan has the tarball's signed address, and passwords\n", ""),
    (ORDER, RELEASE.format("main"), "__release_phase: bring", "__release_phase: live"),
    (ORDER, RELEASE.format("main"), "__release_phase: settle", "__release_phase: open"),
    (ORDER, RELEASE.format("main"), "      ansible.builtin.import_tasks: together.yml\n      vars:\n        __release_step: served", "      ansible.builtin.import_tasks: phase.yml\n      vars:\n        __release_phase: open"),
    (FAILED, RELEASE.format("main"), "      ansible.builtin.fail:", "      ansible.builtin.debug:"),
    (ORDER, RELEASE.format("main"), "__release_phase: undo", "__release_phase: settle"),
    (WHEN, RELEASE.format("phase"), "__release_answer.failed != none", "__release_answer.failed == none"),
    (WHEN, RELEASE.format("together"), "default='')", "default='open')"),
    (WHEN, RELEASE.format("ask"), "__release_answer.changed", "__release_answer.failed != none"),
    (FAILED, "playbooks/release.yml", "  become: true\n", "  become: true\n  ignore_errors: true\n"),
    # a release: order, digest, signature, conditions
    (IMAGE, TASKS.format("image"), "/etc/ssh/ssh_host_* ", ""),
    (IMAGE, TASKS.format("image"), "/etc/ssl/private/* ", ""),
    (IMAGE, TASKS.format("image"), "/home/*/.ssh ", ""),
    (IMAGE, TASKS.format("image"), "      : > /etc/machine-id\n", ""),
    (IMAGE, TASKS.format("image"), "{{ path }} 0600 root", "{{ path }} 0644 root"),
    (IMAGE, "roles/varnish/vars/main.yml", "__varnish_secrets: [/etc/varnish/secret]\n", ""),
    (UNWANTED, "roles/php/vars/main.yml", '__php_unwanted: ["{{ __php_of_debian }}"]\n', ""),
    (UNWANTED, TASKS.format("varnish"), "    name: varnishncsa\n    enabled: false\n", "    name: varnishncsa\n"),
    (UNWANTED, "playbooks/image.yml", "')_unwanted$'", "')_secrets$'"),
    # ways out where egress is listed
    (FIREWALL, NFT, "{% if firewall_egress == 'listed' %}", "{% if firewall_egress == 'shut' %}"),
    (FIREWALL, NFT, "ip daddr 169.254.169.254 reject", "ip daddr 169.254.169.254 tcp dport 443 reject"),
    (FIREWALL, NFT, "oif lo {{ each.protocol }} dport", "oif lo tcp dport"),
    (FIREWALL, META.format("proxy"), "users: [proxy], egress: listed} # and", "egress: listed} # and"),
    (FIREWALL, META.format("proxy"), "{to: bucket, users: [proxy],", "{to: bucket,"),
    (FIREWALL, META.format("proxy"), "{to: resolver.dns, users: [proxy],", "{to: resolver.dns,"),
    (FIREWALL, META.format("resolver"), "ports: [53], users: [unbound], egress: listed}\n", "ports: [53], egress: listed}\n"),
    (FIREWALL, META.format("resolver"), "protocol: udp, ports: [53]", "protocol: udp, ports: [53, 443]"),
    (FIREWALL, META.format("packages"), "networks: [255.255.255.255/32], ", ""),
    (FIREWALL, META.format("packages"), "ports: [53], egress: open", "ports: [53], egress: listed"),
    (FIREWALL, META.format("base"), ", networks: [169.254.169.123/32]", ""),
    (LISTS, SQUID, "http_access deny all", "http_access allow all"),
    (LISTS, SQUID, "http_access deny tunnel plain\n", ""),
    (LISTS, SQUID, " port{{ loop.index }} !inside", " !inside"),
    (LISTS, SQUID, " !inside\n", "\n"),
    (LISTS, SQUID, "dstdomain -n {{", "dstdomain -n .{{"),
    (LISTS, SQUID, "dns_nameservers {{ server_services.resolver.dns.address }}\n", ""),
    (LISTS, SQUID, "http_port {{ server_services.proxy.http.bind }}:", "http_port "),
    (LISTS, UNBOUND.format("listed.zone"), "*.{{ each }} CNAME .\n", ""),
    (LISTS, UNBOUND.format("unbound.conf"), '    local-zone: "." refuse\n', ""),
    (LISTS, UNBOUND.format("unbound.conf"), '"{{ each }}." transparent', '"." transparent'),
    (LISTS, UNBOUND.format("unbound.conf"), '"respip iterator"', '"iterator"'),
    # the firewall
    (FIREWALL, NFT, "hook input priority filter; policy drop;", "hook input priority filter; policy accept;"),
    (FIREWALL, NFT, "hook forward priority filter; policy drop;", "hook forward priority filter; policy accept;"),
    (FIREWALL, NFT, "        iif lo accept\n", "        iif lo accept\n        tcp dport 3306 accept\n"),
    (FIREWALL, NFT, "hook output priority filter; policy drop;", "hook output priority filter; policy accept;"),
    (FIREWALL, NFT, "tcp dport {{ each.port }} accept", "tcp dport { {{ each.port }}, 6379 } accept"),
    (FIREWALL, NFT, "address('saddr', network)", "address('saddr', '0.0.0.0/0')"),
    (FIREWALL, NFT, "address('daddr', network) if network", "''"),
    (FIREWALL, NFT, "'meta skuid ' ~ among(each.users) ~ ' ' if each.users", "''"),
    (FIREWALL, NFT, "meta skuid != {{ among(each.users) }} reject", "accept"),
    (FIREWALL, NFT, "        ip daddr 169.254.169.254 tcp dport 80 meta skuid != 0 reject\n", ""),
    (FIREWALL, META.format("redis"), "port: 6380\n", "port: 6380\n    open_to: [http_from]\n"),
    (FIREWALL, META.format("provisioning_started"), "open_to: [ssh_from]", "open_to: [http_from]"),
    (FIREWALL, META.format("packages"), "ports: [80, 443], users: [root, _apt]", "ports: [80, 443]"),
    (FIREWALL, META.format("base"), "ports: [123]", "ports: [123, 4000]"),
    (FIREWALL, META.format("varnish"), "users: [vcache]", "users: []"),
    (FIREWALL, "applications/magento2/profile.yml", "{to: varnish.http, each: true}", "to: varnish.http"),
    (FIREWALL, "applications/php/profile.yml", "443, 465, 587]", "443, 465, 587, 25]"),
    (FIREWALL, NFT, "        ct state invalid drop\n", ""),
    (FIREWALL, NFT, "flush ruleset\n", ""),
    (FIREWALL, NFT, "'ip6' if ':' in network else 'ip'", "'ip'"),
    # services
    (SETTING, SESSIONS, "{{ server_services.redis.sessions.bind }}", "0.0.0.0"),
    (SETTING, CACHES, "bind {{ server_services.redis.cache.bind }}\n", ""),
    (SETTING, SESSIONS, "stop-writes-on-bgsave-error no\n", ""),
    (SETTING, SESSIONS, "databases 16\n", "databases 16\nprotected-mode no\n"),
    (SETTING, SESSIONS, "volatile-ttl", "noeviction"),
    (SETTING, SESSIONS, 'CONFIG ""', 'CONFIG "configure"'),
    (SETTING, CACHES, 'SLAVEOF ""', 'SLAVEOF "follow"'),
    (SETTING, CACHES, "volatile-lru", "allkeys-lru"),
    (SETTING, SESSIONS, "save 60 1", 'save ""'),
    (SETTING, CACHES, 'save ""', "save 60 1"),
    (SETTING, "roles/mariadb/templates/server.cnf.j2", "{{ server_services.mariadb.sql.bind }}", "*"),
    (SETTING, "roles/mariadb/templates/server.cnf.j2", "[mariadbd]\n", "[mariadbd]\nskip-grant-tables\n"),
    (SETTING, POOL, "user = {{ application_web_user }}", "user = root"),
    (SETTING, POOL, "user = {{ application_web_user }}", "user = {{ application_user }}"),
    (SETTING, POOL, "group = {{ application_web_user }}", "group = {{ application_user }}"),
    (SETTING, POOL, "listen.mode = 0660", "listen.mode = 0666"),
    (SETTING, POOL, "listen = /run/php/{{ application_name }}-${RELEASE}.${GENERATION}.sock", "listen = /run/php/{{ application_name }}.${GENERATION}.sock"),
    (SETTING, POOL, "process_control_timeout = 600s", "process_control_timeout = 30s"),
    (SETTING, "roles/php/templates/fpm.ini.j2", "expose_php = Off", "expose_php = On"),
    (SETTING, "roles/php/templates/fpm.ini.j2", "expose_php = Off", "expose_php = Off\ndisplay_errors = On"),
    (SETTING, "roles/php/templates/fpm.ini.j2", "opcache.validate_timestamps = 0", "opcache.validate_timestamps = 1"),
    (SETTING, "roles/php/templates/cli.ini.j2", "{{ php_command_memory_limit }}", "{{ php_memory_limit }}"),
    (SETTING, "roles/base/templates/upgrades.conf.j2", 'Unattended-Upgrade "1"', 'Unattended-Upgrade "0"'),
    (SETTING, ENV, "APP_DEBUG=0", "APP_DEBUG=1"),
    (SETTING, ENV, "1 if application_test_data else 0", "1"),
    (CACHE, VARNISH, "-T {{ server_services.varnish.admin.bind }}", "-T 0.0.0.0"),
    (CACHE, VARNISH, " -S /etc/varnish/secret", ""),
    (CACHE, VCL, "        set req.hash_ignore_busy = true;\n", ""),
    (CACHE, VCL, "set req.grace = 2s", "set req.grace = 1h"),
    (CACHE, VCL, "set beresp.do_esi = true", "set beresp.do_esi = false"),
    (CACHE, VCL, " && !req.http.X-Magento-Cache-Id) {\n        return (pass)", ") {\n        return (hash)"),
    (CACHE, VCL, "X-Magento-Cache-Id != beresp.http.X-Magento-Cache-Id", "X-Magento-Cache-Id == beresp.http.X-Magento-Cache-Id"),
    (CACHE, VCL, '        if (req.http.Authorization ~ "^Bearer") {\n            hash_data("customer");\n        }\n', ""),
    (CACHE, VARNISH, "-s Transient=malloc,{{ varnish_transient_memory }}", ""),
    (CACHE, VARNISH, "http_resp_hdr_len=64k", "http_resp_hdr_len=8k"),
    (CACHE, VCL, "beresp.http.X-PHP-Busy || ", ""),
    (CACHE, VCL, '    "127.0.0.1";\n', '    "127.0.0.1";\n    "10.0.0.0";\n'),
    (CACHE, VCL, '|| req.http.X-Forwarded-For ~ ","', ""),
    (CACHE, VCL, '    "{{ each.address }}";\n', ""),
    (CACHE, VCL, 'bereq.http.Cookie !~ "X-Magento-Vary=" && beresp', "beresp"),
    (CACHE, VARNISH, "-a {{ server_services.varnish.http.bind }}", "-a 127.0.0.1"),
    (CACHE, VARNISH, "-a {{ server_services.varnish.http.bind }}", "-a 0.0.0.0"),
    (CAREFUL, ENV_PHP, "varnish.http.addresses %}", "varnish.http.addresses[:1] %}"),
    (CACHE, VCL, "client.ip !~ purge || ", ""),
    (CACHE, VCL, "one visitor's session\n    unset beresp.http.Set-Cookie;\n", ""),
    (CACHE, VCL, "private|no-store|no-cache", "no-store|no-cache"),
    (CACHE, VCL, "    hash_data(req.http.X-Forwarded-Proto);\n", ""),
    (CACHE, VCL, "|/(customer|checkout)(/|$|\\?)", ""),
    (CACHE, VCL, "    unset resp.http.X-Magento-Tags;\n", ""),
    (CACHE, VCL, "\n        set beresp.ttl = 120s;\n        if (beresp.status >= 500)", "\n        if (beresp.status >= 500)"),
    (CACHE, VCL, "set beresp.ttl = 1s;", "set beresp.ttl = 120s;"),
    (CACHE, VCL, "req.esi_level > 0 && resp.status >= 400", "req.esi_level > 1 && resp.status >= 400"),
    # the web server
    (WEB, NGINX, "X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for"),
    (WEB, NGINX, "server_tokens off", "server_tokens on"),
    (WEB, NGINX, "ssl_protocols TLSv1.2", "ssl_protocols TLSv1.1 TLSv1.2"),
    (WEB, NGINX, "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256", "ssl_ciphers AES128-SHA"),
    (WEB, NGINX, "ssl_session_tickets off", "ssl_session_tickets on"),
    (WEB, NGINX, "{{ own.https.port }} ssl http2 default_server", "{{ own.https.port }} ssl default_server"),
    (WEB, NGINX, "        listen {{ own.https.port }} ssl http2;\n", ""),
    (WEB, PHP, "https.port }} ssl http2", "https.port }} ssl"),
    (WEB, NGINX, "        if ($to_https) { return 308 $site_url$request_uri; }\n", ""),
    (WEB, NGINX, "        if ($elsewhere) { return 404; }\n", ""),
    (WEB, PHP, "    if ($elsewhere) { return 404; }\n", ""),
    (WEB, STATIC, "    if ($elsewhere) { return 404; }\n", ""),
    (WEB, NGINX, "\\1\\.?(:\\d+)?$\"", "\\1\""),
    (WEB, NGINX, "return 308 $site_url$request_uri", "return 308 $site_url$uri"),
    (WEB, PHP, "    if ($to_https) { return 308 $site_url$request_uri; }\n", ""),
    (WEB, STATIC, "    if ($to_https) { return 308 $site_url$request_uri; }\n", ""),
    (WEB, NGINX, "        {{ each.host_name }} {{ each.base_url.rstrip(\"/\") }};\n", ""),
    (WEB, NGINX, "map $server_port:$visitor_scheme:$uri $to_https", "map $server_port:$scheme:$uri $to_https"),
    (WEB, NGINX, ":http:{{ nginx_probe }}\" \"\";", ":http:{{ nginx_probe }}\" 1;"),
    (WEB, NGINX, "add_header Strict-Transport-Security $own_strict_transport_security always;", ""),
    (WEB, STATIC, "    add_header Strict-Transport-Security $own_strict_transport_security always;\n", ""),
    (WEB, PHP, "    add_header X-Robots-Tag $own_x_robots_tag always;\n", ""),
    (WEB, PHP, "    location = /.unavailable {\n", "    location = /.elsewhere {\n"),
    (WEB, NGINX, "        \"~:127\\.0\\.0\\.1$\" 0;\n", ""),
    (WEB, NGINX, "        100 \"{{ application_name }}\";", "        101 \"{{ application_name }}\";"),
    (WEB, NGINX, "        \"~*^Bearer .\" 1;", "        \"~*Bearer\" 1;"),
    (WEB, NGINX, "    auth_basic $realm;\n", ""),
    (WEB, NGINX, "\"~*^1 {{ each.requests }}\"", "\"~*{{ each.requests }}\""),
    (WEB, NGINX, "    limit_req_status 429;\n", ""),
    (SHOWN, TASKS.format("nginx"), "  diff: false # nginx reads it with each request\n", ""),
    (SHOWN, TASKS.format("nginx"), 'mode: "0400"', 'mode: "0444"'),
    (WEB, STATIC, "    listen {{ server_services.nginx.https.port }} ssl http2;\n", ""),
    (WEB, NGINX, "    set_real_ip_from {{ network }};\n", "    set_real_ip_from 0.0.0.0/0;\n"),
    (WEB, NGINX, "geo $realip_remote_addr", "geo $remote_addr"),
    (WEB, NGINX, "        default      0;", "        default      1;"),
    (WEB, NGINX, "1:https https;\n        1:http", "0:https https;\n        1:http"),
    (WEB, NGINX, "X-Forwarded-Proto $visitor_scheme;\n        proxy_set_header X-Forwarded-Port", "X-Forwarded-Proto $http_x_forwarded_proto;\n        proxy_set_header X-Forwarded-Port"),
    (WEB, PHP, "        fastcgi_param HTTP_X_FORWARDED_FOR $remote_addr;\n", ""),
    (WEB, PHP, "        fastcgi_param HTTP_X_FORWARDED_HOST $http_host;\n", ""),
    (WEB, PHP, "        fastcgi_param HTTP_FORWARDED \"\";\n", ""),
    (WEB, PHP, "        limit_conn_status 502; # 503 is the maintenance page\n", ""),
    (WEB, PHP, "        fastcgi_param HTTP_X_FORWARDED_PROTO $visitor_scheme;\n", ""),
    (WEB, NGINX, "            proxy_set_header Host {{ application_host_name }};\n", ""),
    # mail
    (MAIL, MASTER, "if mail_relay_host and not mail_catch else", "if mail_relay_host or mail_catch else"),
    (MAIL, MASTER, "if mail_relay_host and not mail_catch else", "if true else"),
    (MAIL, MASTER, "virtual   unix  - n n -     - {{ caught }}", "virtual   unix  - n n -     - pipe"),
    (MAIL, MASTER, "{{ server_services.mail.smtp.bind }}:{{ server_services.mail.smtp.port }}", "smtp"),
    (MAIL, MASTER, "anvil     unix  - - n -     1 anvil", "2525 inet n - n - - smtpd\nanvil     unix  - - n -     1 anvil"),
    (MAIL, POSTFIX, "{% if mail_catch %}", "{% if mail_catch and not mail_relay_host %}"),
    *((MAIL, POSTFIX, f"{each}_transport = virtual\n", "") for each in ("relay", "local", "virtual")),
    (MAIL, POSTFIX, "default_transport = virtual\n", "default_transport = smtp\n"),
    (MAIL, POSTFIX, "static:{{ __mail_folder | basename }}/", "hash:/etc/postfix/mailboxes"),
    (MAIL, POSTFIX, "smtp_tls_security_level = secure", "smtp_tls_security_level = encrypt"),
    (MAIL, POSTFIX, "smtp_tls_security_level = secure", "smtp_tls_security_level = may"),
    (MAIL, POSTFIX, "'yes' if mail_relay_port == 465", "'yes' if false"),
    (MAIL, POSTFIX, "smtp_sasl_security_options = noanonymous\n", ""),
    (MAIL, POSTFIX, "default_transport = error:{{ __mail_off }}", "default_transport = smtp"),
    (MAIL, POSTFIX, "authorized_submit_users =\n", ""),
    (MAIL, POSTFIX, "static:{554 5.3.2", "static:{250 5.3.2"),
    (MAIL, POSTFIX, "mynetworks = 127.0.0.0/8", "mynetworks = 0.0.0.0/0"),
    (MAIL, POSTFIX, "permit_mynetworks, reject", "permit"),
    (MAIL, POSTFIX, "mydestination =\n", "mydestination = $myhostname\n"),
    (SHOWN, TASKS.format("mail"), "  diff: false\n", ""),
    (SHOWN, TASKS.format("mail"), 'mode: "0640"', 'mode: "0644"'),
    (OWNED, TASKS.format("mail"), '    owner: root # Postfix', '    owner: postfix # Postfix'),
    (OWNED, TASKS.format("mail"), '        owner: "{{ __mail_user }}"\n', ""),
    (CHECKED, TASKS.format("mail"), '    validate: "{{ __mail_validate }} sh %s main.cf"\n', ""),
    (READ, TASKS.format("mail"), "sh %s master.cf\"\n  notify: Restart Postfix\n", "sh %s master.cf\"\n"),
    (FIREWALL, META.format("mail"), "users: [www-data], when: catch", "when: catch"),
    (FIREWALL, META.format("mail"), "port: 25, ", "port: 25, open_to: [http_from], "),
    (UNIT, "roles/mail/templates/caught_mail.service.j2", "User={{ __mail_user }}\n", ""),
    (OWNED, TASKS.format("certificates"), '"0600"', '"0640"'),
    (SHOWN, TASKS.format("certificates"), "  diff: false\n", ""),
    (CHECKED, TASKS.format("certificates"), '= "$(openssl x509 -in "$1" -noout -pubkey)"', '= x'),
    (CHECKED, TASKS.format("certificates"), ' && test "$key" =', '; test "$key" ='),
    (READ, TASKS.format("certificates"), "  notify: Give nginx the certificate\n", ""),
    (MADE_UP, TASKS.format("mariadb"), "| default(false)", "| default(true)"),
    (WEB, NGINX, "        return 404;\n", "        root /var/www;\n"),
    (WEB, NGINX, "user www-data;", "user root;"),
    (WEB, NGINX, "{{ nginx_client_max_body_size }}", "0"),
    (WEB, SHOP, "listen {{ server_services.nginx.site.bind }}:", "listen "),
    (WEB, SHOP, "autoindex off", "autoindex on"),
    (WEB, SHOP, "set_real_ip_from {{ each }}", "set_real_ip_from 0.0.0.0/0"),
    (WEB, SHOP, "~ ^/(index|health_check|get|static|errors/(report|404|503))\\.php$", "~ \\.php$"),
    (WEB, SHOP, 'fastcgi_param HTTP_PROXY "";', ""),
    (WEB, SHOP, "SCRIPT_FILENAME {{ application_path }}/releases/$release_id/{{ application_web_root }}$fastcgi", "SCRIPT_FILENAME $document_root$fastcgi"),
    (WEB, PHP, "DOCUMENT_ROOT {{ application_path }}/releases/$release_id", "DOCUMENT_ROOT {{ application_path }}/current"),
    (WEB, PHP, "{{ application_name }}-$release_id.sock", "{{ application_name }}.sock"),
    (WEB, SHOP, '"~.*/releases/(?<found>', '"~/releases/(?<found>'),
    (WEB, FILES, "    add_header X-Content-Type-Options nosniff;\n    add_header X-Frame-Options SAMEORIGIN;\n    try_files $uri @page_cache;\n}\n\nlocation /media/",
     "    try_files $uri @page_cache;\n}\n\nlocation /media/"),
    (WEB, FILES, "location ~* ^/(static|media)/", "location ~* ^/(static)/"),
    (WEB, FILES, "(\\.|[^/]+\\.(php|phtml|", "([^/]+\\.(phar|"),
    (WEB, FILES, "try_files $uri @page_cache", "try_files $uri =404"),
    (WEB, FILES, "try_files /$static_file =404", "try_files /$static_file @page_cache"),
    (WEB, FILES, "version(?<static_version>[\\w-][\\w.-]*)/", "version(?<static_version>[^/]+)/"),
    (WEB, NGINX, "worker_rlimit_nofile 16384", "worker_rlimit_nofile 1024"),
    (SETTING, POOL, "request_terminate_timeout = 600s\n", ""),
    (WEB, NGINX, "$upstream_http_x_frame_options $own_x_frame_options", "$upstream_http_x_frame_options $own"),
    (WEB, SHOP, "X-Frame-Options $own_x_frame_options", "X-Frame-Options SAMEORIGIN"),
    (WEB, SHOP, "        limit_conn php {{ php_max_children + php_queue }};\n", ""),
    (WEB, SHOP, "        allow {{ each }};\n", ""),
    (WEB, PHP, "        limit_conn php {{ php_max_children + php_queue }};\n", ""),
    (WEB, SHOP, "(php|phtml|phar|htaccess", "(phar|htaccess"),
    (WEB, PHP, "location ~ /\\.(?!well-known/)", "location ~ /\\.git/"),
    (WEB, PHP, "/$release/{{ application_web_root }}", "/$release"),
    (WEB, PHP, "    add_header X-Frame-Options $own_x_frame_options;\n", ""),
    (WEB, PHP, "try_files /.none /index.php$is_args$args", "rewrite ^ /index.php last"),
    (WEB, STATIC, "        deny all;\n", "        allow all;\n"),
    (WEB, STATIC, 'server_name {{ application_host_names | join(" ") }}', "server_name _"),
    (WEB, SHOP, "{{ each.host_name }} {{ each.code }};", ""),
    (WEB, SHOP, "{{ each.host_name }} {{ each.type }};", "{{ each.host_name }} store;"),
    (WEB, SHOP, "map $host $run_code", "map $http_host $run_code"),
    (WEB, SHOP, "        fastcgi_param MAGE_RUN_CODE $run_code if_not_empty;\n", ""),
    (WEB, SHOP, "        fastcgi_param MAGE_RUN_TYPE $run_type if_not_empty;\n", ""),
    (WEB, SHOP, 'server_name {{ application_host_names | join(" ") }}', "server_name {{ application_host_name }}"),
    (WEB, NGINX, 'server_name {{ application_host_names | join(" ") }}', "server_name {{ application_host_name }}"),
    # values: quoted for what reads them
    (VALUE, QUOTE, ''' | replace("'", "''")''', ""),
    (VALUE, QUOTE, r''' | replace("\\", "\\\\")''', ""),
    (VALUE, QUOTE, ''' | replace("`", "``")''', ""),
    (VALUE, QUOTE, "PASSWORD({{ text(one) }})", "PASSWORD('{{ one }}')"),
    (VALUE, SQL, "{{ quote.name(database_name) }};", "{{ database_name }};"),
    (VALUE, "roles/database/templates/database_ready.sql.j2", "{{ quote.text(database_name) }}", "'{{ database_name }}'"),
    (VALUE, ENV_PHP, "{{ php(database_password) }}", "'{{ database_password }}'"),
    (VALUE, SCRIPTS.format("php"), r''' | replace("'", "\\'")''', ""),
    (VALUE, ENV, "{{ text(database_password) }}", "{{ database_password }}"),
    (VALUE, ENV, '(["$\\\\\\\\])', '(["\\\\\\\\])'),
    (VALUE, ENV, "{{ name }}={{ text(value) }}", "{{ name }}={{ value }}"),
    (VALUE, WORKER, ''' | replace("%", "%%")''', ""),
    (VALUE, WORKER, ''' | replace("$", "$$")''', ""),
    (CAREFUL, ENV_PHP, "'MAGE_MODE' => 'production'", "'MAGE_MODE' => 'developer'"),
    (CAREFUL, ENV_PHP, "LOCAL_INFILE => false", "LOCAL_INFILE => true"),
    (CAREFUL, ENV_PHP, "'host' => {{ at(redis.sessions) }}", "'host' => '10.0.0.5'"),
    (CAREFUL, ENV_PHP, "                'id_prefix' => $prefix,\n", ""),
    (CAREFUL, ENV_PHP, "'database' => '1'", "'database' => '0'"),
    (CAREFUL, ENV_PHP, "'port' => '{{ redis.sessions.port }}'", "'port' => '{{ redis.cache.port }}'"),
    (CAREFUL, ENV_PHP, '"true" if application_test_data else "false"', '"true"'),
    # units, cron, logs
    (UNIT, WORKER, "User={{ application_user }}\n", ""),
    (UNIT, WORKER, "Group={{ application_user }}\n", "Group=root\n"),
    (UNIT, WORKER, "UMask=0002\n", ""),
    (UNIT, RELEASED, "UMask=0002\n", ""),
    (UNIT, JOB, "umask 0002", "umask 0022"),
    (UNIT, WORKER, "ConditionPathExists=!{{", "ConditionPathExists={{"),
    (UNIT, WORKER, "Restart=always", "Restart=on-failure"),
    (UNIT, WORKER, "PartOf=workers.target\n", ""),
    (UNIT, WORKER, '"workers.target", ', ""),
    (UNIT, "roles/workers/files/workers_again.service", "--job-mode=fail ", ""),
    (UNIT, RELEASED, "KillSignal=SIGQUIT\n", ""),
    (UNIT, RELEASED, "KillMode=mixed\n", ""),
    (UNIT, RELEASED, "NotifyAccess=exec\n", ""),
    (UNIT, RELEASED, "TimeoutStopSec=630", "TimeoutStopSec=90"),
    (UNIT, RELEASED, "WorkingDirectory={{ application_path }}/releases/%i\n", ""),
    (UNIT, RELEASED, "Type=notify", "Type=exec"),
    (UNIT, "roles/php/templates/php_live.service.j2", "Before=nginx.service\n", ""),
    (BOOT, TASKS.format("php"), "enabled: true", "enabled: false"),
    (UNIT, "roles/workers/templates/workers.target.j2", "(unit.processes | default(1)) + 1", "(unit.processes | default(1))"),
    (UNIT, "roles/self_shutdown/templates/self_shutdown.service.j2", "{{ self_shutdown_days }} {{ self_shutdown_idle_hours }}",
     "{{ self_shutdown_idle_hours }} {{ self_shutdown_days }}"),
    (UNIT, "roles/self_shutdown/files/self_shutdown.timer", "OnBootSec=15min", "OnBootSec=0"),
    (UNIT, "roles/workers/files/workers_again.timer", "minutely", "yearly"),
    (UNIT, "roles/backup/templates/backup.timer.j2", "*-*-* {{ backup_at }}", "*-*-01 {{ backup_at }}"),
    (UNIT, "roles/backup/templates/backup.timer.j2", ":00 UTC", ":00"),
    (UNIT, "roles/backup/files/backup.service", "backup now", "backup list"),
    (UNIT, "roles/backup/files/backup.service", "Restart=on-failure\n", ""),
    (BOOT, TASKS.format("backup"), "        enabled: true\n", ""),
    (OWNED, TASKS.format("backup"), 'mode: "0755"', 'mode: "0644"'),
    (SHOWN, TASKS.format("backup"), "      diff: false # it holds passwords\n", ""),
    (SHOWN, SPECS.format("backup"), "        no_log: true\n", ""),
    (UNIT, JOB, "flock --shared", "flock --exclusive"),
    (SETTING, SSHD, "@openssh.com\n", "@openssh.com,curve25519-sha256\n"),
    (SETTING, "roles/base/templates/needrestart.conf.j2", "'l'", "'a'"),
    (SETTING, "roles/base/templates/chrony.conf.j2", "port 0\n", "port 123\n"),
    (SETTING, "roles/mariadb/templates/tuning.cnf.j2", "max_allowed_packet = 1073741824\n", ""),
    (SETTING, "roles/mariadb/templates/tuning.cnf.j2", "log_bin_trust_function_creators = 1\n", ""),
    (UNIT, "roles/base/templates/swapfile.service.j2", "ConditionVirtualization=!container\n", ""),
    (UNIT, "roles/base/files/outdated.service", "-r a", "-r l"),
    (UNIT, "roles/base/files/outdated.service", "reload-or-restart", "restart"),
    (SETTING, "roles/base/templates/needrestart.conf.j2", "qr(^php@)} = 0;", "qr(^php@)} = 1;"),
    (CHECKED, TASKS.format("base"), "chronyd -p -f /etc/chrony/new;", "true;"),
    (CHECKED, TASKS.format("base"), "perl -c %s", "true %s"),
    (SETTING, SSHD, "PermitRootLogin no", "PermitRootLogin prohibit-password"),
    (SETTING, SSHD, "PasswordAuthentication no\n", ""),
    (SETTING, SSHD, "/etc/ssh/keys/%u", "/home/%u/keys"),
    (SETTING, SSHD, "AllowUsers {{ [ansible_user] | union(", "AllowUsers {{ [ansible_user, 'daemon'] | union("),
    (SETTING, "roles/base/templates/upgrades.conf.j2", "'true' if base_reboot_at else 'false'", "'true'"),
    (CHECKED, TASKS.format("base"), "sshd -t -f %s", "true %s"),
    (CHECKED, "roles/base/tasks/administrators.yml", "visudo -cf %s", "true %s"),
    (UNIT, JOB, "flock --shared", "flock --close --shared"),
    (UNIT, JOB, "--timeout 30 ", ""),
    (UNIT, JOB, ' || echo "exit code $?: $*" >&2', ""),
    (UNIT, JOB, 'test ! -e "{{ cron_unless }}" || exit 0\n', ""),
    (UNIT, CRON, "{{ application_user }} /usr", "root /usr"),
    (UNIT, CRON, "map('quote') | ", ""),
    (UNIT, CRON, " | replace('%', '\\\\%')", ""),
    (UNIT, "roles/shared/templates/logrotate.j2", "    su {{ application_user }} {{ application_web_user }}\n", ""),
    # policies
    (BUCKET, IAM.format("branch"), f"{S3}/history/testing-*", f"{S3}/history/*"),
    (BUCKET, IAM.format("branch"), f"{S3}/machines/testing-*", f"{S3}/machines/*"),
    (BUCKET, IAM.format("branch"), f"{S3}/leases/testing-*", f"{S3}/leases/*"),
    (BUCKET, IAM.format("branch"), f"{S3}/state/testing-*", f"{S3}/*"),
    (BUCKET, IAM.format("branch"), f"{S3}/branches/*", f"{S3}/trusted/*"),
    (BUCKET, IAM.format("pull-request"), '"s3:GetObject"', '"s3:GetObject",\n        "s3:PutObject"'),
    (BUCKET, IAM.format("pull-request"), f"{S3}/trusted/*", f"{S3}/*"),
    (BUCKET, IAM.format("releaser"), f"{S3}/runs/*", f"{S3}/trusted/*"),
    (BUCKET, IAM.format("sweeper"), f"{S3}/history/testing-*", f"{S3}/history/*"),
    (BUCKET, IAM.format("sweeper"), f"{S3}/sweep/*", f"{S3}/state/*"),
    (BUCKET, IAM.format("builder"), f"{S3}/trusted/*", "arn:aws:s3:::shop-*/trusted/*"),
    (MACHINE, IAM.format("releaser"), '"staging"\n', '"staging",\n            "production"\n'),
    (MACHINE, IAM.format("releaser"), '"ec2:Attribute/DisableApiTermination": "true"', '"aws:ResourceTag/environment": "production"'),
    (MACHINE, IAM.format("releaser"), '          "aws:RequestTag/project": "true",\n          "aws:RequestTag/environment": "true"\n',
     '          "aws:RequestTag/project": "true"\n'),
    (MACHINE, IAM.format("branch"), '"aws:RequestTag/environment": "testing-*"', '"aws:RequestTag/environment": "*"'),
    (MACHINE, IAM.format("branch"), '        "ec2:StartInstances"\n', '        "ec2:StartInstances",\n        "ec2:StopInstances"\n'),
    (MACHINE, IAM.format("sweeper"), '            "testing-*",\n            "image"\n', '            "testing-*",\n            "staging"\n'),
    (MACHINE, IAM.format("sweeper"), '"aws:ResourceTag/environment": "true"', '"aws:ResourceTag/owner": "true"'),
    (MACHINE, IAM.format("builder"), '"aws:ResourceTag/environment": "image"', '"aws:ResourceTag/project": "shop"'),
    (MACHINE, IAM.format("builder"), '"ec2:CreateAction": "CreateImage"', '"ec2:CreateAction": ["CreateImage", "CreateVolume"]'),
    (MACHINE, IAM.format("branch"), '"ec2:InstanceType"', '"ec2:AvailabilityZone"'),
    (MACHINE, IAM.format("releaser"), '          "ec2:Owner": [\n', '          "ec2:Owner": [\n            "2",\n'),
    (BUCKET, IAM.format("branch"), '"arn:aws:s3:::shop-releases/state/testing-*"', '"arn:aws:s3:::shop-releases/state/*"'),
    (NAME, IAM.format("branch"), '"testing-*.shop.localhost"', '"*.shop.localhost"'),
    (NAME, IAM.format("releaser"), '"*.shop.localhost"', '"*"'),
    (NAME, IAM.format("branch"), "parameter/shop/testing-*", "parameter/shop/*"),
    (NAME, IAM.format("builder"), "parameter/shop-signing/key", "parameter/shop*"),
    (NAME, IAM.format("releaser"), "parameter/shop-acme/*", "parameter/shop-acme*"),
    (NAME, IAM.format("sweeper"), '"ssm:GetParametersByPath"\n', '"ssm:GetParametersByPath",\n        "ssm:PutParameter"\n'),
    (MACHINE, IAM.format("branch"), "role/shop-machine-testing*", "role/shop-machine-*"),
    (BUCKET, IAM.format("driller"), f"{S3}/restored/*", f"{S3}/*"),
    (BUCKET, IAM.format("pruner"), f"{S3}/backups/*", f"{S3}/*"),
    (BUCKET, IAM.format("driller"), f"{S3}/machines/drill-*", f"{S3}/machines/*"),
    (NAME, IAM.format("driller"), "parameter/shop/*/backup_password", "parameter/shop/*"),
    (MACHINE, IAM.format("driller"), '"aws:ResourceTag/environment": "drill-*"', '"aws:ResourceTag/environment": "*"'),
    (MACHINE, IAM.format("driller"), "role/shop-backup-reader", "role/shop-*"),
    (MACHINE, IAM.format("releaser"), "role/shop-machine-*", "role/*"),
    (ACTION, IAM.format("branch"), "ForAllValues:StringLike", "StringLike"),
    (ACTION, IAM.format("branch"), '"s3:GetObject"', '"s3:Get*"'),
    (ACTION, IAM.format("releaser"), '"ec2:StartInstances"', '"ec2:StartInstances",\n        "iam:CreateUser"'),
    (ACTION, IAM.format("sweeper"), '"arn:aws:route53:::change/*"', '"*"'),
    # CI
    (ROLE, GITHUB, "vars.COMPILER_ROLE", "vars.BUILDER_ROLE"),
    (ROLE, GITLAB, "$COMPILER_ROLE", "$BUILDER_ROLE"),
    (WHOSE, BITBUCKET, "          deployment: build\n", "          concurrency-group: build\n"),
    (BUCKET, IAM.format("compiler"), f'{S3}/state/staging/*"', f'{S3}/*"'),
    (BUCKET, IAM.format("compiler"), "state/staging/tarball*", "state/*"),
    (ROLE, GITHUB, "vars.RELEASER_ROLE || vars.BRANCH_ROLE", "vars.BRANCH_ROLE || vars.RELEASER_ROLE"),
    (ROLE, GITHUB, "if: github.ref == 'refs/heads/main' && (github.event_name == 'push'", "if: (github.event_name == 'push'"),
    (ROLE, GITHUB, "vars.PULL_REQUEST_ROLE", "vars.BRANCH_ROLE"),
    (ROLE, GITLAB, "$PULL_REQUEST_ROLE", "$BRANCH_ROLE"),
    (ROLE, BITBUCKET, 'AWS_ROLE_ARN="$PULL_REQUEST_ROLE" build/ci/run verify', "build/ci/run verify"),
    (WHOSE, GITHUB, "    env:\n      AWS_ROLE_ARN: ${{ vars.BUILDER_ROLE }}\n", "    environment:\n      name: staging\n    env:\n      AWS_ROLE_ARN: ${{ vars.BUILDER_ROLE }}\n"),
    (WHOSE, BITBUCKET, "          deployment: image\n", "          concurrency-group: image\n"),
    (WHOSE, BITBUCKET, "          deployment: sweep\n", "          concurrency-group: sweep\n"),
    (ROLE, GITHUB, "inputs.control == 'image' && github.ref == 'refs/heads/main'", "inputs.control == 'image'"),
    (ROLE, GITHUB, "AWS_ROLE_ARN: ${{ vars.SWEEPER_ROLE }}", "AWS_ROLE_ARN: ${{ vars.BUILDER_ROLE }}"),
    (ROLE, GITLAB, "AWS_ROLE_ARN: $BRANCH_ROLE", "AWS_ROLE_ARN: $BUILDER_ROLE"),
    (ROLE, GITLAB, '$CI_PIPELINE_SOURCE == "web" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH', '$CI_PIPELINE_SOURCE == "web"'),
    (ROLE, BITBUCKET, 'AWS_ROLE_ARN="$BRANCH_ROLE" build/ci/run start', 'AWS_ROLE_ARN="$BUILDER_ROLE" build/ci/run start'),
    (ROLE, BITBUCKET, 'AWS_ROLE_ARN="$RELEASER_ROLE" build/ci/run branch=main stop', "build/ci/run branch=main stop"),
    (LIMIT, GITHUB, "    timeout-minutes: 60\n", ""),
    (LIMIT, GITHUB, "    concurrency: production\n", ""),
    (LIMIT, GITHUB, "fetch-depth: 0", "fetch-depth: 1"),
    (LIMIT, GITHUB, "      - id: run\n", "      - id: run\n        continue-on-error: true\n"),
    (LIMIT, GITLAB, "  resource_group: sweep\n", ""),
    (LIMIT, GITLAB, 'GIT_DEPTH: "0"', 'GIT_DEPTH: "20"'),
    (LIMIT, GITLAB, "  timeout: 1 hour\n", ""),
    (LIMIT, BITBUCKET, "          deployment: image\n", ""),
    (LIMIT, BITBUCKET, "depth: full", "depth: 1"),
    (BESIDE, GITHUB, "    needs: drill\n", ""),
    (BESIDE, GITHUB, "    if: always() && ", "    if: "),
    (BESIDE, GITLAB, "bucket keeps them for 30 days more\n# never beside a drill: what it repacks a restore would miss\nprune:\n  stage: stop\n  rules:\n    - if: $CI_PIPELINE_SOURCE == \"schedule\"\n  resource_group: backups", "bucket\nprune:\n  stage: stop\n  rules:\n    - if: $CI_PIPELINE_SOURCE == \"schedule\"\n  resource_group: prune"),
    (GATE, GITHUB, "    needs: start\n", ""),
    (GATE, GITHUB, "    if: github.ref == 'refs/heads/main'\n", "    if: always()\n"),
    (GATE, GITHUB, "      name: production\n", "      name: staging\n"),
    (GATE, GITLAB, "      when: manual\n  resource_group: production", "  resource_group: production"),
    (GATE, BITBUCKET, "          trigger: manual\n", ""),
    (TOKEN, GITHUB, "contents: read", "contents: write"),
    (TOKEN, GITHUB, "  delete:\n", "  delete:\n  pull_request_target:\n"),
    (TOKEN, GITHUB, "          path: .run/logs\n", "          path: .run\n"),
    (TOKEN, GITHUB, '"branch=$BRANCH" stop', '"branch=${{ github.event.ref }}" stop'),
    (TOKEN, GITLAB, "paths: [.run/logs/, .run/report.md]", "paths: [.run/]"),
    (TOKEN, GITLAB, "aud: sts.amazonaws.com", "aud: https://gitlab.com"),
    (TOKEN, BITBUCKET, "oidc: true", "oidc: false"),
    (TOKEN, BITBUCKET, "paths: [.run/logs/**, .run/report.md]", "paths: [.run/**]"),
    # plain values of the pipeline's own code
    (PIP, "build/ci/run", ' "--require-hashes",', ""),
    (PIP, "build/ci/run", '"--no-build-isolation", ', ""),
    (PIP, "build/ci/run", 'not name.startswith("PIP_") or name in PIP', "True"),
    (PIP, "build/ci/lock", " --generate-hashes", ""),
    (PIP, "requirements.lock", "\nboto3==", "\nboto==1.0\nboto3=="),
    (PRIVATE, "tasks/hosts/ssh.py", "key.touch(mode=0o600)", "key.touch(mode=0o644)"),
    (PRIVATE, "tasks/hosts/ssh.py", "        key.touch(mode=0o600)\n", ""),
    (PRIVATE, "tasks/hosts/ansible.py", "    path.touch(mode=0o600)\n", ""),
    (PRIVATE, "tasks/cloud/embedded/home.py", "            temporary.touch(mode=0o600)\n", ""),
    (PRIVATE, "tasks/process/private.py", "mode=0o700", "mode=0o755"),
    (PRIVATE, "tasks/server/ledger_host.py", "os.O_TRUNC, 0o600", "os.O_TRUNC, 0o644"),
    (SSH, "tasks/hosts/ssh.py", "StrictHostKeyChecking=yes", "StrictHostKeyChecking=no"),
    (SSH, "tasks/hosts/ssh.py", '        *("-o", "StrictHostKeyChecking=yes"),\n', ""),
    (SSH, "tasks/hosts/ssh.py", "IdentitiesOnly=yes", "IdentitiesOnly=no"),
    (SSH, "tasks/hosts/ssh.py", '        *("-o", "IdentityAgent=none"),\n', ""),
    (SSH, "tasks/hosts/ssh.py", '        *("-o", "GlobalKnownHostsFile=/dev/null"),\n', ""),
    (SSH, "tasks/hosts/ssh.py", '        "-F",\n        "/dev/null",\n', ""),
    (SSH, "tasks/hosts/ansible.py", '"ANSIBLE_HOST_KEY_CHECKING": "True"', '"ANSIBLE_HOST_KEY_CHECKING": "False"'),
    (SSH, "tasks/hosts/ansible.py", "-o ControlPersist=30s", "-o ControlPersist=30s -o StrictHostKeyChecking=no"),
    (CLOUD, "tasks/infrastructure/secrets.py", 'Type="SecureString"', 'Type="String"'),
    (CLOUD, "tasks/infrastructure/images.py", 'Owners=["self", DEBIAN], ', ""),
    (SSH, "tasks/hosts/ssh.py", '"PreferredAuthentications=none"', '"PreferredAuthentications=publickey"'),
    (CLOUD, "tasks/infrastructure/machine.py", '"HttpTokens": "required"', '"HttpTokens": "optional"'),
    (CLOUD, "tasks/cloud/embedded/address.py", "127.0.0.1", "0.0.0.0"),
]  # fmt: skip

EVERYWHERE: list[tuple[list[Callable[[Path], list[str]]], str, str, str]] = [
    # rules; files; a pattern, and what is in its place: at each place of its own
    ([SHOWN], "roles/*/tasks/*.yml", r" *no_log: true.*\n", ""),
    ([SHOWN], "roles/*/meta/argument_specs.yml", r" *no_log: true\n", ""),
    ([LEDGER], "roles/*/tasks/*.yml", r"(?m)^( *)diff: false", r"\1no_log: true"),
    ([OWNED], "roles/*/tasks/*.yml", r"(?m)^( *)mode: .*\n", ""),
    ([OWNED], "roles/*/tasks/*.yml", r'mode: "0[0-7]{3}"', 'mode: "0666"'),
    ([OWNED], "roles/*/tasks/*.yml", r'mode: "(0[0-7]{3})"', r"mode: \1"),
    ([OWNED, SHOWN], "roles/*/tasks/*.yml", r"(?m)^ *(owner|group): .*\n", ""),
    ([TYPED], "roles/*/tasks/*.yml", r" \| map\('quote'\)", ""),
    ([CHECKED], "roles/*/tasks/*.yml", r"(?m)^ *validate: [^>].*\n", ""),
    ([READ], "roles/[bfmnprsvw]*/tasks/main.yml", r"(?m)^  notify: (Re.*|Apply.*|Stop the workers)\n", ""),
    ([BOOT], "roles/*/tasks/*.yml", r" *enabled: true\n", ""),
    ([MADE_UP], "roles/*/tasks/*.yml", r"  when: server_interrupted.*\n", ""),
    ([MADE_UP], "roles/*/tasks/*.yml", r"(?<=default\(false\)\n)  notify: .*\n", ""),
    ([MADE_UP], "roles/[bms]*/handlers/main.yml", r"(?<=- name: Stop the )(?!workers)(.*\n)  listen: .*\n", r"\1"),
    ([MADE_UP], "roles/*/handlers/main.yml", r"'\w+' in server_roles", "true"),
    ([WHEN, FAILED], "roles/release/tasks/*.yml", r"(?m)^ *when: .*\n", ""),
    ([BUCKET, MACHINE, NAME], "build/ci/iam/*.json", r"testing-\*", "*"),
    ([BUCKET, MACHINE, NAME], "build/ci/iam/*.json", r"testing-\*", "staging"),
    ([ROLE], GITHUB, r"vars\.\w+_ROLE", "vars.ADMINISTRATOR"),
    ([ROLE], GITLAB, r"\$\w+_ROLE", "$ADMINISTRATOR"),
    ([ROLE], BITBUCKET, r"\$\w+_ROLE", "$ADMINISTRATOR"),
    ([LIMIT], GITHUB, r" *(timeout-minutes|concurrency|fetch-depth): .*\n", ""),
    ([LIMIT], GITLAB, r" *resource_group: .*\n", ""),
    ([PRIVATE], "tasks/**/*.py", r"mode=0o[67]00", "mode=0o755"),
    ([SSH], "tasks/hosts/ssh.py", r'        \*\("-o", "\w+=[\w/]+"\),\n', ""),
    ([SETTING], "roles/*/templates/*.j2", r"(?m)^bind.*\n", ""),
    ([WEB], "applications/*/nginx.conf.j2", r" *add_header X-Content-Type-Options nosniff;\n", ""),
    ([WEB], "applications/*/nginx.conf.j2", r"server_name \{\{[^}]*\}\}", "server_name _"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the files that the rules read, for faults."""
    root = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    return root


def findings(root: Path, path: str, text: str, rules: list[Callable[[Path], list[str]]]) -> list[str]:
    """What the rules report while a file says something else."""
    before = (root / path).read_text()
    try:
        (root / path).write_text(text)
        return next(filter(None, (rule(root) for rule in rules)), [])
    finally:
        (root / path).write_text(before)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.promise(
    "only-declared-ports-are-open",
    "a-wrong-configuration-is-not-put-in-place",
    "handlers-run-after-a-failure",
    "passwords-are-no-arguments",
    "secret-tasks-log-nothing",
    "secret-files-are-in-the-ledger",
    "what-is-wanted-no-more-goes",
    "a-signed-address-is-not-shown",
    "every-file-has-an-owner",
)
def test_the_project_keeps_a_rule(rule):
    assert rule(ROOT) == []


@pytest.mark.parametrize(("rule", "path", "old", "new"), FAULTS)
def test_a_planted_fault_is_reported(tree, rule, path, old, new):
    text = (tree / path).read_text()
    assert old in text, "the row is out of date"
    assert findings(tree, path, text.replace(old, new, 1), [rule]) != []


def test_there_are_many_faults_and_every_rule_has_one():
    assert len(FAULTS) >= 80
    assert {rule for rule, *_ in FAULTS} == set(RULES)


@pytest.mark.parametrize(("rules", "files", "pattern", "new"), EVERYWHERE)
def test_a_fault_is_reported_wherever_it_is_planted(tree, rules, files, pattern, new):
    passed, places = [], 0
    for path in sorted(tree.glob(files)):
        text, shown = path.read_text(), str(path.relative_to(tree))
        for found in re.finditer(pattern, text):
            places += 1
            planted = text[: found.start()] + found.expand(new) + text[found.end() :]
            if not findings(tree, shown, planted, rules):
                passed.append(f"{shown}:{text[: found.start()].count(chr(10)) + 1}: {found[0]!r}")
    assert places
    assert passed == []


def weaker(document):
    """A policy without one of its conditions, each in turn, and without one of its statements."""
    for number, statement in enumerate(document["Statement"]):
        rest = document["Statement"][:number], document["Statement"][number + 1 :]
        yield f"without {statement['Sid']}", [*rest[0], *rest[1]]
        for operator, keys in statement.get("Condition", {}).items():
            for key in keys:
                left = {
                    name: {k: v for k, v in each.items() if (name, k) != (operator, key)}
                    for name, each in statement["Condition"].items()
                }
                yield (
                    f"{statement['Sid']} without {key}",
                    [*rest[0], {**statement, "Condition": left}, *rest[1]],
                )


@pytest.mark.parametrize("name", policies.POLICIES)
def test_every_condition_and_statement_of_a_policy_counts(tree, name):
    path = IAM.format(name)
    document = json.loads((tree / path).read_text())
    unseen = {"SeeNames", "SeeChanges"}  # which names and changes there are is no secret
    passed = [
        what
        for what, statements in weaker(document)
        if what.removeprefix("without ") not in unseen
        and not findings(
            tree, path, json.dumps({**document, "Statement": statements}), [BUCKET, MACHINE, NAME]
        )
    ]
    assert passed == []
