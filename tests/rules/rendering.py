"""rendering: templates and expressions of the roles, as Ansible itself renders them. What was rendered before is remembered."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def rendered(path: Path, variables: Mapping[str, Any]) -> str:
    """A template, for these variables."""
    beside = tuple((each.name, each.read_text()) for each in sorted(path.parent.glob("*.j2")))
    return _rendered(path.read_text(), json.dumps(variables, sort_keys=True), str(path.parent), beside)


@functools.cache
def _rendered(text: str, variables: str, folder: str, beside: tuple[tuple[str, str], ...]) -> str:
    """`beside`: the templates that it may import, which are a reason to render it again."""
    del beside
    loader = DataLoader()
    loader.set_basedir(folder)
    templar = Templar(loader=loader, variables=json.loads(variables))
    # a lookup of a template needs all of Ansible's plugins: the variable stands for what it gives
    text = re.sub(r"lookup\('ansible\.builtin\.template', (\w+)\)", r"\1", text)
    return templar.template(trust_as_template(text), escape_backslashes=False)  # as the template module does


def value(expression: str, variables: Mapping[str, Any], made_of: Mapping[str, Any]) -> Any:
    """An expression without braces. `made_of`: what a role's vars say, which may name each other."""
    return _value(expression, json.dumps(variables, sort_keys=True), json.dumps(made_of, sort_keys=True))


@functools.cache
def _value(expression: str, variables: str, made_of: str) -> Any:
    known = {**{name: _trusted(each) for name, each in json.loads(made_of).items()}, **json.loads(variables)}
    return Templar(loader=DataLoader(), variables=known).template(
        trust_as_template("{{ " + expression + " }}")
    )


def _trusted(said: Any) -> Any:
    if isinstance(said, str):
        return trust_as_template(said)
    if isinstance(said, dict):
        return {name: _trusted(each) for name, each in said.items()}
    return [_trusted(each) for each in said] if isinstance(said, list) else said
