# SPDX-License-Identifier: GPL-3.0-or-later
"""Every language has every text of every node, and speaks of other nodes by the names that it gives them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

LANGUAGES = ("zh", "ja", "ko", "fr", "de", "es")
FILES = ("nodeDefs.json", "main.json")


def texts(value: dict, path: str = "") -> dict[str, str]:
    """Path -> text of every leaf, in order."""
    found: dict[str, str] = {}
    for key, item in value.items():
        found |= texts(item, f"{path}/{key}") if isinstance(item, dict) else {f"{path}/{key}": item}
    return found


def read(repo: Path, language: str, file: str) -> dict:
    return json.loads((repo / "locales" / language / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("file", FILES)
def test_every_text_is_there_and_translated(repo: Path, language: str, file: str):
    english, other = texts(read(repo, "en", file)), texts(read(repo, language, file))
    assert list(english) == list(other)
    assert all(isinstance(text, str) and text.strip() for text in other.values())
    same = [path for path, text in other.items() if text == english[path] and len(text.split()) > 3]
    assert not same


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_that_are_typed_stay_what_they_are(repo: Path, language: str):
    """Folders, files and choices that a node takes are the same in every language."""
    english, other = (texts(read(repo, name, "nodeDefs.json")) for name in ("en", language))
    kept = (r"models/[\w/]+", r"config\.json", r"\.safetensors", r"\bxywh\b", r"\bSEGS\b", r"\bBBOX\b", r"\bTATI\b", "'remove the [a-z ]+'")
    fixed = re.compile("|".join(kept))
    for path, text in english.items():
        missing = {word for word in fixed.findall(text) if word not in other[path]}
        assert not missing, f"{language}{path}: {missing}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_nodes_are_called_by_their_name(repo: Path, language: str):
    english, other = read(repo, "en", "nodeDefs.json"), read(repo, language, "nodeDefs.json")
    names = sorted(((node["display_name"], other[key]["display_name"]) for key, node in english.items()), key=lambda pair: -len(pair[0]))
    flat = texts(other)
    for path, text in texts(english).items():
        for name, translated in names:
            if name in text:
                assert translated in flat[path], f"{language}{path} does not speak of {translated}"
                text = text.replace(name, "")
