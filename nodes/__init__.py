# SPDX-License-Identifier: GPL-3.0-or-later
"""The ComfyUI side: thin nodes over fireedit_core. Imported by the host only, through the pack's `comfy_entrypoint`."""

from .apply import FireEditApply
from .conditioning import FireEditVLMConditioning
from .detection import FireEditRegionDetect, FireEditRegionTokenize
from .host import bundles
from .host.compat import ComfyExtension
from .loading import FireEditLoader
from .preview import FireEditRegionsPreview
from .sampling import FireEditGuider, FireEditSample

NODES = [
    FireEditLoader,
    FireEditRegionDetect,
    FireEditRegionTokenize,
    FireEditVLMConditioning,
    FireEditApply,
    FireEditGuider,
    FireEditSample,
    FireEditRegionsPreview,
]

bundles.register_folder()


class FireEditExtension(ComfyExtension):
    """What `comfy_entrypoint` hands to the host."""

    async def get_node_list(self):
        """The node classes, in the order of the way through a graph."""
        return list(NODES)
