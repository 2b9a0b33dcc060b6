# SPDX-License-Identifier: GPL-3.0-or-later
"""The ComfyUI side: thin V3 nodes over fireedit_core."""

from comfy_api.v0_0_2 import ComfyExtension, io

from .regions import FireEditRegionDetect, FireEditRegionsPreview


class FireEditExtension(ComfyExtension):
    """Lists the nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [FireEditRegionDetect, FireEditRegionsPreview]
