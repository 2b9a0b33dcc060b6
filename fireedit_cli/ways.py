# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way an edit takes: the bundle's own models, the photo way (find the thing by words, edit without a generative model), or the way
of an edit model that the user has (`--way model --workflow fireedit_photo_kontext`).

A bundle that knows its world says of a picture that it lies outside (design D16); then, with `--way auto`, the photo way does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fireedit_cli.comfy_client import ComfyClient, ExecutionFailed
from fireedit_cli.workflow import Workflow
from host_setup.host_lookup import REPO

WAYS = ("auto", "photo", "bundle", "model")
MODEL_WORKFLOWS = ("fireedit_photo_ip2p", "fireedit_photo_kontext", "fireedit_photo_qwen", "fireedit_photo_klein")
PHOTO_WORKFLOW = REPO / "workflows" / "api" / "fireedit_photo_remove.json"  # its graph serves every kind of edit
READS = "FireEditVLMConditioning"
FOREIGN = "fireedit_foreign"  # what that node tells beside its text: per picture, whether it is not of the bundle's world


@dataclass(frozen=True)
class Ways:
    """The workflows that may do a job.

    Attributes:
        main: the one that does it where nothing speaks against it. photo: what takes its place for pictures that are not of the bundle's
            world; None where there is no choice.
    """

    main: Workflow
    photo: Workflow | None = None

    def choose(self, client: ComfyClient, picture: str, instruction: str, timeout: float = 600.0) -> tuple[Workflow, str]:
        """The workflow for one picture that lies on the server as `picture`, and why in words, "" where there was no choice."""
        if self.photo is None or not self.main.ids(READS):
            return self.main, ""
        probe = reading(self.main, picture, instruction)
        key = probe.only(READS)
        try:
            told = client.run(probe.nodes, timeout).outputs.get(key, {}).get(FOREIGN) or [False]
        except ExecutionFailed:
            return self.main, ""  # the edit itself fails in the same place, and says why
        if any(told):
            return self.photo, "not a picture of the bundle's kind: done the photo way (--way bundle does it with the bundle)"
        return self.main, ""


def reading(flow: Workflow, picture: str, instruction: str) -> Workflow:
    """What of a workflow reads picture and instruction, without the sampling; the whole edit finds it in the host's cache."""
    probe = flow.copy()
    key = probe.only(READS)
    needed, open_ends = set(), [key]
    while open_ends:
        node = open_ends.pop()
        if node not in needed:
            needed.add(node)
            open_ends += [str(v[0]) for v in probe.nodes[node]["inputs"].values() if isinstance(v, list) and str(v[0]) in probe.nodes]
    probe.nodes = {node: value for node, value in probe.nodes.items() if node in needed}
    for node in probe.sources("LoadImage", "image") or probe.ids("LoadImage"):
        probe.nodes[node]["inputs"]["image"] = picture
    probe.set(READS, "instruction", instruction)
    grey = probe.add("MaskToImage", mask=[key, 4])
    probe.add("PreviewImage", images=[grey, 0])
    return probe
