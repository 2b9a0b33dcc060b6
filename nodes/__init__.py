# SPDX-License-Identifier: GPL-3.0-or-later
"""The ComfyUI side: thin nodes over fireedit_core. Imported by the host only, through the pack's `comfy_entrypoint`."""

from .apply import FireEditApply
from .compare import FireEditCompare
from .conditioning import FireEditVLMConditioning
from .confine import FireEditConfine, FireEditConfinedMask
from .detection import FireEditRegionDetect, FireEditRegionTokenize
from .ground import FireEditGround
from .host import bundles, detectors, fingerprints, grounders, schedule, segmenters
from .host.compat import ComfyExtension, replace_nodes
from .loading import FireEditDetectorLoader, FireEditGrounderLoader, FireEditLoader
from .multi_turn import FireEditMultiTurn
from .photo_crop import FireEditPhotoCrop
from .photo_finish import FireEditPhotoFinish
from .preview import FireEditGroundingPreview, FireEditRegionsPreview
from .quick_edit import FireEditQuickEdit
from .region_dialects import (
    FireEditRegionsFromBBox,
    FireEditRegionsFromMask,
    FireEditRegionsFromSEGS,
    FireEditRegionsToBBox,
    FireEditRegionsToMask,
    FireEditRegionsToSEGS,
)
from .region_masks import FireEditRegionMasks, FireEditSegmenterLoader
from .region_select import FireEditRegionSelect
from .region_selection import FireEditRegionsFilter, FireEditRegionsMerge
from .sampling import FireEditGuider, FireEditSample

NODES = [
    FireEditLoader,
    FireEditDetectorLoader,
    FireEditSegmenterLoader,
    FireEditGrounderLoader,
    FireEditRegionDetect,
    FireEditRegionMasks,
    FireEditGround,
    FireEditRegionSelect,
    FireEditRegionsFilter,
    FireEditRegionsMerge,
    FireEditRegionsFromMask,
    FireEditRegionsFromSEGS,
    FireEditRegionsFromBBox,
    FireEditRegionsToMask,
    FireEditRegionsToSEGS,
    FireEditRegionsToBBox,
    FireEditRegionTokenize,
    FireEditVLMConditioning,
    FireEditApply,
    FireEditConfine,
    FireEditConfinedMask,
    FireEditGuider,
    FireEditSample,
    FireEditMultiTurn,
    FireEditQuickEdit,
    FireEditPhotoCrop,
    FireEditPhotoFinish,
    FireEditRegionsPreview,
    FireEditGroundingPreview,
    FireEditCompare,
]

# Nodes that were renamed: arguments of the host's NodeReplace, by which a workflow with the old name opens and runs where the host can.
RENAMED: list[dict] = []

bundles.register_folder()
detectors.register_folders()
segmenters.register_folders()
grounders.register_folders()
schedule.register_route()
fingerprints.register_route()


class FireEditExtension(ComfyExtension):
    """What `comfy_entrypoint` hands to the host."""

    async def on_load(self):
        """Once, before the nodes are asked for."""
        await replace_nodes(RENAMED)

    async def get_node_list(self):
        """The node classes, in the order of the way through a graph."""
        return list(NODES)
