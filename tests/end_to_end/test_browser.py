"""A real browser: it shows no page before it trusts the authority of the environments, and every one after; an order's mail as well."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from urllib.parse import quote

import pytest

from tests.conftest import until
from tests.end_to_end.test_mail import ask

LACKING = [each for each in ("chromium", "certutil") if not shutil.which(each)]
pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (build/ci/packages-long)"),
]


def shown(url, home):
    """What chromium makes of a page, as HTML. `home`: of a user with whom it does nothing else."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    words += [
        "--no-proxy-server",
        "--timeout=20000",
        f"--user-data-dir={home / 'profile'}",
        "--dump-dom",
        url,
    ]
    environ = {**os.environ, "HOME": str(home)}
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.long(
    short="tests/end_to_end/test_static.py::test_a_site_of_files_is_released_unchanged_and_changed"
)
@pytest.mark.promise("trusted-once", "caught-mail-is-read-by-who-knows-the-password")
def test_a_browser_shows_every_host_name_of_the_shop_without_a_warning_once_it_trusts_the_authority(
    site, tmp_path
):
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    nss = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*nss, "-N", "--empty-password"], check=True)  # before chromium makes one
    assert 'class="product"' not in shown(site.run.url, tmp_path)
    root = tmp_path / "root.pem"
    root.write_text(site.doit("secrets", "show", "authority").stdout)
    subprocess.run([*nss, "-A", "-t", "C,,", "-n", "shop-testing", "-i", root], check=True)
    for name in site.run.host_names:
        assert 'class="product"' in shown(site.run.url_of(name), tmp_path)
    # whoever types the name comes over TLS too
    assert 'class="product"' in shown(site.run.url.replace("https:", "http:"), tmp_path)

    cookie = ask(site, "/checkout/cart/add", {"sku": "mug-spring"}).headers["Set-Cookie"].partition(";")[0]
    ordered = ask(site, "/checkout/order/", {"email": "kim@example.com"}, Cookie=cookie).text
    (number,) = re.findall(r"<h1>Your order (\d{9}) – thank you</h1>", ordered)
    mail = json.loads(site.doit("secrets", "--json", "show", "mail").stdout)
    login = f"https://{quote(mail['user'])}:{quote(mail['password'], safe='')}@"
    assert number not in shown(mail["page"], tmp_path)
    until(lambda: number in shown(mail["page"].replace("https://", login), tmp_path))
