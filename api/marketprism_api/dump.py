"""Writes YAML to be read by people: keys in their own order, no anchors, a text of several lines as lines."""

from __future__ import annotations

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dumped(*documents: object, explicit_start: bool = False) -> str:
    """The documents as one text; `explicit_start` puts `---` before each."""
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, explicit_start=explicit_start
    )
