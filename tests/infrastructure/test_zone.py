"""The zone: made where it is ours to make."""

from __future__ import annotations

import pytest

from tasks.infrastructure import zone
from tasks.infrastructure.zone import ZoneMissing


class Route53:
    """Hosted zones of a few names."""

    def __init__(self, *names):
        self.names = list(names)

    def list_hosted_zones_by_name(self, DNSName, MaxItems):  # noqa: N803
        later = sorted(each for each in self.names if each >= DNSName)
        return {"HostedZones": [{"Name": each, "Id": f"/hostedzone/{each}"} for each in later[:1]]}

    def create_hosted_zone(self, Name, CallerReference):  # noqa: N803
        self.names.append(f"{Name}.")


def test_a_zone_is_found_by_its_whole_name():
    assert zone.zone_id(Route53("shop.localhost."), "shop.localhost") == "shop.localhost."
    assert zone.zone_id(Route53("shop.localhost.x."), "shop.localhost") is None


@pytest.mark.promise("only-a-localhost-zone-is-made")
def test_a_zone_below_localhost_is_made():
    route53 = Route53()
    zone.make(route53, "shop.localhost", "shop")
    assert zone.zone_id(route53, "shop.localhost")


@pytest.mark.parametrize("name", ["shop.example.com", "notlocalhost"])
@pytest.mark.promise("only-a-localhost-zone-is-made")
def test_another_zone_is_not_made(name):
    route53 = Route53()
    with pytest.raises(ZoneMissing, match=f"no hosted zone {name}"):
        zone.make(route53, name, "shop")
    assert route53.names == []
