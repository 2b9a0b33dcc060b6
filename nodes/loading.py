# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditLoader, FireEditDetectorLoader and FireEditGrounderLoader."""

from __future__ import annotations

from fireedit_core.checkpoints.index import BundleError

from .errors import FireEditNodeError
from .host import bundles, detectors, grounders, model_folders, models
from .host.compat import CATEGORY, io, schema
from .types import DetectorType, FireEditType, GrounderType

NAME, DETECTOR, GROUNDER = "FireEdit Loader", "FireEdit Detector Loader", "FireEdit Grounder Loader"


class FireEditLoader(io.ComfyNode):
    """Bundle -> FIREEDIT, MODEL, VAE."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditLoader",
            display_name=NAME,
            category=CATEGORY,
            description="Loads a FireEdit bundle: the editing models, the UNet as a MODEL and the autoencoder as a VAE. "
            "Bundles lie in models/fireedit or are embedded in the pack.",
            search_aliases=["instruction edit", "load fireedit", "instructpix2pix"],
            inputs=[
                io.Combo.Input(
                    "bundle",
                    options=bundles.list_bundles(),
                    tooltip="A folder with a model_index.json of a FireEditPipeline, below models/fireedit. fireedit-tiny comes "
                    "with the pack.",
                )
            ],
            outputs=[
                FireEditType.Output(
                    display_name="fireedit",
                    tooltip="Detector, vision towers, language model and the modules that condition the UNet.",
                ),
                io.Model.Output(
                    display_name="model",
                    tooltip="The UNet, InstructPix2Pix-shaped. Pass it through FireEdit Apply before sampling.",
                ),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder that belongs to this UNet."),
            ],
        )

    @classmethod
    def validate_inputs(cls, bundle=None):
        """Refuse an unknown name before anything runs. A name that comes over a wire is only known when it runs."""
        if bundle is None:
            return True
        try:
            bundles.find_bundle(bundle)
        except BundleError as error:
            return f"{NAME}: {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, bundle=None):
        """A bundle that was replaced on disk is loaded again."""
        try:
            return model_folders.state_of(bundles.find_bundle(bundle)) if bundle else bundle
        except BundleError:
            return bundle

    @classmethod
    def execute(cls, bundle) -> io.NodeOutput:
        """Load everything on the host's offload device; each group moves when it is needed."""
        try:
            folder = bundles.find_bundle(bundle)
            return io.NodeOutput(*models.load(folder, bundle))
        except BundleError as error:
            raise FireEditNodeError(NAME, f"the bundle {bundle!r} cannot be loaded: {error}") from error
        except ImportError as error:
            raise FireEditNodeError(NAME, f"the bundle {bundle!r} needs a package that is missing: {error}") from error


class FireEditDetectorLoader(io.ComfyNode):
    """The detector for photographs, or one that the user has -> FIREEDIT_DETECTOR."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditDetectorLoader",
            display_name=DETECTOR,
            category=f"{CATEGORY}/regions",
            description="Loads a detector for FireEdit Region Detect: photo-detector, which comes with the pack and knows 168 kinds of "
            "things, or one of your own: a YOLO file of ultralytics (models/ultralytics/bbox or segm), or a folder of transformers in "
            "models/detectors (RT-DETR, Deformable DETR, Grounding DINO, OWLv2 ...).",
            search_aliases=["nanodet", "photo detector", "coco", "ultralytics", "yolo", "grounding dino", "owlv2", "rt-detr", "adetailer"],
            inputs=[
                io.Combo.Input(
                    "detector",
                    options=detectors.list_detectors(),
                    tooltip="photo-detector comes with the pack. bbox and segm are ultralytics files; only such as are built of known "
                    "layers are loaded. detectors are folders with config.json and .safetensors.",
                )
            ],
            outputs=[DetectorType.Output(display_name="detector", tooltip="For the detector input of FireEdit Region Detect.")],
        )

    @classmethod
    def validate_inputs(cls, detector=None):
        """Refuse an unknown name before anything runs. A name that comes over a wire is only known when it runs."""
        if detector is None:
            return True
        try:
            detectors.find_detector(detector)
        except ValueError as error:
            return f"{DETECTOR}: {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, detector=None):
        """A detector that was replaced on disk is loaded again."""
        try:
            return model_folders.state_of(detectors.find_detector(detector)) if detector else detector
        except ValueError:
            return detector

    @classmethod
    def execute(cls, detector) -> io.NodeOutput:
        """Load on the host's offload device; it moves when it is needed."""
        try:
            return io.NodeOutput(detectors.load(detector))
        except (ValueError, ImportError) as error:
            raise FireEditNodeError(DETECTOR, f"the detector {detector!r} cannot be loaded: {error}") from error


class FireEditGrounderLoader(io.ComfyNode):
    """A language model that sees, which the user has -> FIREEDIT_GROUNDER."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditGrounderLoader",
            display_name=GROUNDER,
            category=f"{CATEGORY}/regions",
            description="Loads a language model that sees, for FireEdit Ground: it reads instructions in any language and names what they "
            "mean. A folder of transformers (Qwen2.5-VL, Qwen3-VL, SmolVLM2, LLaVA, Florence-2 ...), or the text encoder of "
            "Qwen-Image-Edit that is loaded already.",
            search_aliases=["vlm", "qwen-vl", "florence-2", "smolvlm", "llava", "language model", "visual grounding", "set of marks"],
            inputs=[
                io.Combo.Input(
                    "grounder",
                    options=grounders.list_grounders(),
                    tooltip="encoder of clip takes the text encoder that is connected to clip. The others are folders with config.json, "
                    ".safetensors and the processor's files, below models/fireedit/grounders, models/LLM and models/VLM.",
                ),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="For encoder of clip: the CLIP of your edit model, Qwen2.5-VL of Qwen-Image-Edit. It is not loaded twice.",
                ),
            ],
            outputs=[GrounderType.Output(display_name="grounder", tooltip="For the grounder input of FireEdit Ground.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, grounder=None):
        """Refuse an unknown name before anything runs. A name that comes over a wire is only known when it runs."""
        if grounder is None:
            return True
        try:
            grounders.find_grounder(grounder)
        except ValueError as error:
            return f"{GROUNDER}: {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, grounder=None, clip=None):
        """A folder that was replaced on disk is loaded again."""
        try:
            found = grounders.find_grounder(grounder) if grounder else grounder
        except ValueError:
            return grounder
        return found if found is None or isinstance(found, str) else model_folders.state_of(found)

    @classmethod
    def execute(cls, grounder, clip=None) -> io.NodeOutput:
        """Load on the host's offload device; it moves when it is needed."""
        try:
            return io.NodeOutput(grounders.load(grounder, clip))
        except (ValueError, ImportError) as error:
            raise FireEditNodeError(GROUNDER, f"{grounder!r} cannot be loaded: {error}") from error
