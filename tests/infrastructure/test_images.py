"""Which image a name stands for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.clock import SYSTEM
from tasks.infrastructure import images
from tasks.infrastructure.images import ImageMissing, ImageUnfit
from tasks.process.threads import Threads

RUN = SimpleNamespace(
    pipeline=SimpleNamespace(image="debian-12", region="eu-central-1"), clock=SYSTEM, threads=Threads()
)


class Ec2:
    """Answers one listing of images after another."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def describe_images(self, Owners, Filters):  # noqa: N803
        return {"Images": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        known = ["arm64"] if "g." in InstanceTypes[0] else ["i386", "x86_64"]
        return {"InstanceTypes": [{"ProcessorInfo": {"SupportedArchitectures": known}}]}


def an(id, state="available", made="2026-01-01", architecture="x86_64"):
    return {"ImageId": id, "State": state, "CreationDate": made, "Architecture": architecture}


def named(*answers, said=None, type="t3.medium"):
    heard = [] if said is None else said
    return images.named(RUN, Ec2(*answers), type, heard.append)


@pytest.mark.promise("image-fits-the-type")
def test_the_image_is_one_for_the_processor_of_the_type():
    both = [an("intel", made="2026-03-01"), an("graviton", architecture="arm64")]
    assert named(both) == "intel"
    assert named(both, type="t4g.medium") == "graviton"


@pytest.mark.promise("image-fits-the-type")
def test_an_image_for_another_processor_is_refused():
    with pytest.raises(ImageUnfit, match=r"debian-12 is an image for x86_64, and t4g\.medium has arm64"):
        named([an("intel")], type="t4g.medium")


def test_of_several_images_of_a_name_the_newest_is_taken():
    assert named([an("old"), an("new", made="2026-02-01"), an("half", "pending", "2026-03-01")]) == "new"


def test_an_image_that_is_being_made_is_waited_for():
    said = []
    assert named([an("one", "pending")], [an("one")], said=said) == "one"
    assert said == ["waits for the image debian-12"]


@pytest.mark.parametrize("answer", [[], [an("one", "failed")]])
def test_an_image_that_does_not_exist_is_missing(answer):
    with pytest.raises(ImageMissing, match="no image named debian-12 in eu-central-1"):
        named(answer)
