"""The zone: made where it is ours to make."""

from __future__ import annotations

import pytest

from tasks.cloud.aws import Aws
from tasks.infrastructure import zone
from tasks.infrastructure.zone import ZoneMissing


class Route53:
    """Hosted zones of a few names."""

    def __init__(self, *names, private=()):
        self.names, self.private = list(names), list(private)

    def list_hosted_zones_by_name(self, DNSName, MaxItems):  # noqa: N803
        zones = [
            *(
                {"Name": each, "Id": f"/hostedzone/private-{each}", "Config": {"PrivateZone": True}}
                for each in self.private
            ),
            *({"Name": each, "Id": f"/hostedzone/{each}"} for each in self.names),
        ]
        later = sorted((each for each in zones if each["Name"] >= DNSName), key=lambda each: each["Name"])
        return {"HostedZones": later[: int(MaxItems)]}

    def create_hosted_zone(self, Name, CallerReference):  # noqa: N803
        self.names.append(f"{Name}.")


class Zones(Aws):
    """A cloud with these zones."""

    def __init__(self, route53):
        super().__init__("eu-central-1")
        self.route53, self.asked = route53, 0

    def client(self, service):
        assert service == "route53"
        self.asked += 1
        return self.route53


def found(route53, name):
    return zone.zone_id(Zones(route53), name)


@pytest.mark.promise("the-zone-is-asked-once")
def test_a_zone_s_id_is_asked_once_and_a_missing_one_again():
    cloud = Zones(Route53("shop.example.com."))
    assert [zone.zone_id(cloud, "shop.example.com") for _ in range(3)] == ["shop.example.com."] * 3
    assert cloud.asked == 1
    assert zone.zone_id(cloud, "new.example.com") is None
    cloud.route53.names.append("new.example.com.")
    assert zone.zone_id(cloud, "new.example.com")


def test_a_zone_is_found_by_its_whole_name():
    assert found(Route53("shop.localhost."), "shop.localhost") == "shop.localhost."
    assert found(Route53("shop.localhost.x."), "shop.localhost") is None


@pytest.mark.promise("only-a-localhost-zone-is-made")
def test_a_zone_below_localhost_is_made():
    route53 = Route53()
    zone.make(route53, "shop.localhost", "shop")
    assert found(route53, "shop.localhost")


@pytest.mark.parametrize("name", ["shop.example.com", "notlocalhost"])
@pytest.mark.promise("only-a-localhost-zone-is-made")
def test_another_zone_is_not_made(name):
    route53 = Route53()
    with pytest.raises(ZoneMissing, match=f"no public hosted zone {name}"):
        zone.make(route53, name, "shop")
    assert route53.names == []


@pytest.mark.promise("a-private-zone-is-another")
def test_a_private_zone_of_the_same_name_is_not_taken_for_it():
    both = Route53("shop.example.com.", private=["shop.example.com."])
    assert found(both, "shop.example.com") == "shop.example.com."
    assert found(Route53(private=["shop.example.com."]), "shop.example.com") is None
