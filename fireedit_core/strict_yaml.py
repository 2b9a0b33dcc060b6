# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML that people write by hand, read without what YAML readers let through: a key twice, of which the last one counts."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands there twice", key.start_mark)
            seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        return super().construct_mapping(node, deep)


def parsed(text: str) -> Any:
    """The values of a YAML text. Raises yaml.YAMLError, with the line, for what is none or names a key twice."""
    return yaml.load(text, _Loader)  # a SafeLoader
