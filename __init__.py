# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit for ComfyUI: the host's entry point. The nodes live in nodes/, the method in fireedit_core/."""

import logging

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called once by ComfyUI when it loads the pack; returns the extension that lists the nodes."""
    # Imported here and not above, so that whoever merely imports this file (pytest, a packager) needs no ComfyUI.
    try:
        _load_core()
        from .nodes import FireEditExtension
    except Exception:
        logging.getLogger("fireedit").exception("FireEdit cannot be loaded")  # the host prints the last line only
        raise
    return FireEditExtension()


def _load_core() -> None:
    """Make this folder's ``fireedit_core`` importable under that name, and under no other.

    ComfyUI loads a pack under a made-up module name, so ``from ..fireedit_core import X`` in a node would create a
    second copy of every class beside the one that a bundle's ``model_index.json`` names (diffusers imports
    ``fireedit_core....`` by its plain name): isinstance checks would fail between the two. So the core has one name
    everywhere. Only that package is made known; putting this folder on sys.path would also expose ``nodes``,
    ``tests`` and ``benchmarks``, which are other people's names.
    """
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    from pathlib import Path

    name, here = "fireedit_core", Path(__file__).resolve().parent
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = Path(loaded.__file__ or "").resolve().parent.parent
        # the same folder under a second name (a link beside it) is a second copy too: its nodes and routes are there already
        first = getattr(loaded, "loaded_by", __name__)
        if origin != here or first != __name__:
            raise ImportError(
                f"two copies of FireEdit: {name} is already loaded from {origin} (as {first}), this one lies in {here} (as {__name__}). "
                "The first one works; keep one of them (remove the other from custom_nodes, or `pip uninstall fireedit`) and restart "
                "ComfyUI."
            )
        return
    spec = PathFinder.find_spec(name, [str(here)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{here / name} is missing: the pack is incomplete. Clone or install it again.")
    module = module_from_spec(spec)
    module.loaded_by = __name__
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
