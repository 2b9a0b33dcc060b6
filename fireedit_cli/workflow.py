# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a workflow in API format by what its nodes are, never by their numbers, which change with every export."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from host_setup.host_lookup import REPO
from host_setup.setup_host import link_folder

TEXTS = ("PrimitiveString", "PrimitiveStringMultiline")  # nodes that hold a text for others
# inputs through which a picture goes on to be another picture
PICTURE_INPUTS = ("image", "images", "image1", "pixels", "source", "original")
SHIPPED = REPO / "workflows" / "api"
EDIT_WORKFLOW = SHIPPED / "fireedit_edit.json"


def named_workflow(name: str) -> Path:
    """The file of a workflow given by its path, or by the name of one that comes with the pack."""
    path = Path(name)
    ours = SHIPPED / f"{name}.json"
    return ours if not path.is_file() and path.name == name and ours.is_file() else path


class WorkflowError(ValueError):
    """A workflow that lacks what the caller wants to change; the message names the file, node and input."""


class Workflow:
    """A workflow in API format: {id: {"class_type", "inputs"}}; ``nodes`` is what goes to ``ComfyClient.run``."""

    def __init__(self, nodes: dict[str, Any], origin: str = "workflow"):
        self.nodes, self.origin = nodes, origin

    @classmethod
    def load(cls, path: Path = EDIT_WORKFLOW) -> Workflow:
        """Raises WorkflowError when the file is missing or no workflow in API format."""
        if not path.is_file():
            raise WorkflowError(f"there is no workflow {path}; get the repository's workflows/api folder back")
        try:
            nodes = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise WorkflowError(f"{path} is no JSON ({error})") from error
        if not isinstance(nodes, dict) or not all(isinstance(n, dict) and "class_type" in n for n in nodes.values()):
            raise WorkflowError(f"{path} is not in API format (in ComfyUI: Workflow, Export (API))")
        return cls(nodes, path.name)

    def copy(self) -> Workflow:
        """An independent copy."""
        return Workflow(copy.deepcopy(self.nodes), self.origin)

    def ids(self, class_type: str) -> list[str]:
        """Ids of all nodes of a class, in the file's order."""
        return [i for i, node in self.nodes.items() if node["class_type"] == class_type]

    def only(self, class_type: str) -> str:
        """The id of the one node of a class; WorkflowError where there is none or several."""
        found = self.ids(class_type)
        if len(found) != 1:
            raise WorkflowError(f"{self.origin} must have exactly one {class_type}, it has {len(found)}")
        return found[0]

    def set(self, class_type: str, name: str, value: Any) -> None:
        """Set an input of the nodes of a class that have it; WorkflowError where none has."""
        found = [i for i in self.ids(class_type) if name in self.nodes[i]["inputs"]]
        if not found:
            raise WorkflowError(f"{self.origin} has no {class_type} with an input {name!r}")
        for i in found:
            self.nodes[i]["inputs"][name] = value

    def get(self, class_type: str, name: str) -> Any:
        """The value of an input of the one node of a class."""
        inputs = self.nodes[self.only(class_type)]["inputs"]
        if name not in inputs:
            raise WorkflowError(f"{self.origin}: {class_type} has no input {name!r}")
        return inputs[name]

    def text_of(self, node: str, name: str) -> tuple[str, str]:
        """(node, input) where the text of an input is written: there itself, or on the String node that is linked to it."""
        value = self.nodes[node]["inputs"].get(name)
        if not isinstance(value, list):
            return node, name
        origin = str(value[0])
        kind = self.nodes[origin]["class_type"] if origin in self.nodes else "a node that is not there"
        if kind not in TEXTS or not isinstance(self.nodes[origin]["inputs"].get("value"), str):
            raise WorkflowError(f"{self.origin}: {name} of {self.nodes[node]['class_type']} comes from {kind}; link a String node to it")
        return origin, "value"

    def add(self, class_type: str, **inputs: Any) -> str:
        """Add a node; a link is [id, slot]. Returns its id."""
        new = f"added-{len(self.nodes)}"
        self.nodes[new] = {"class_type": class_type, "inputs": inputs}
        return new

    def sources(self, class_type: str, *inputs: str) -> list[str]:
        """Ids of the ``class_type`` nodes whose first output reaches one of these inputs of any FireEdit node through pictures alone."""
        found: list[str] = []
        for node in self.nodes.values():
            if not node["class_type"].startswith("FireEdit"):
                continue
            for name in inputs:
                found += [i for i in self._upstream(node["inputs"].get(name), class_type) if i not in found]
        return found

    def _upstream(self, link: Any, class_type: str, seen: frozenset[str] = frozenset()) -> list[str]:
        if not (isinstance(link, list) and len(link) == 2 and str(link[0]) in self.nodes) or str(link[0]) in seen:
            return []
        origin = str(link[0])
        node = self.nodes[origin]
        if node["class_type"] == class_type:
            return [origin] if link[1] == 0 else []
        ways = [value for name, value in node["inputs"].items() if name in PICTURE_INPUTS]
        return [i for way in ways for i in self._upstream(way, class_type, seen | {origin})]

    def fed_by(self, class_type: str, source: str) -> list[str]:
        """Ids of nodes of a class with an input linked straight to a node of class ``source``."""
        origins = set(self.ids(source))
        linked = lambda v: isinstance(v, list) and len(v) == 2 and str(v[0]) in origins  # noqa: E731
        return [i for i in self.ids(class_type) if any(map(linked, self.nodes[i]["inputs"].values()))]


def slot_of(info: dict[str, Any], type_name: str) -> int:
    """The first output slot of a type in a node's definition (`ComfyClient.object_info`)."""
    if type_name not in info["output"]:
        raise WorkflowError(f"{info['name']} has no output of type {type_name}, only {info['output']}")
    return info["output"].index(type_name)


def use_bundle(server: Any, bundle: str) -> str:
    """The name under which the loader of a started ``ComfyServer`` finds a bundle, given by name or as a folder.

    A folder is linked into the server's own models; WorkflowError when it is no bundle.
    """
    folder = Path(bundle)
    if not folder.is_dir():
        return bundle  # a name: the loader itself says what there is
    folder = folder.resolve()
    if not (folder / "model_index.json").is_file():
        raise WorkflowError(f"{folder} is no FireEdit bundle: it has no model_index.json")
    if folder.parent == REPO / "models":
        return folder.name  # the loader sees the pack's own bundles already
    _link(server.models_dir / "fireedit", folder)
    return folder.name


def use_detector(server: Any, detector: str) -> str:
    """The name under which FireEdit Detector Loader of a started ``ComfyServer`` finds a detector, given by name or as a folder.

    A folder is linked into the server's own models; WorkflowError when it is no detector of transformers.
    """
    folder = Path(detector)
    if not folder.is_dir():
        return detector  # a name: the loader itself says what there is
    folder = folder.resolve()
    if not (folder / "config.json").is_file():
        raise WorkflowError(f"{folder} is no detector of transformers: it has no config.json")
    _link(server.models_dir / "detectors", folder)
    return f"detectors/{folder.name}"


def _link(place: Path, folder: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    link = place / folder.name
    if not link.exists():
        link_folder(link, folder)
