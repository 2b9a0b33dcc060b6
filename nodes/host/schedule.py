# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the steps of a sampling run lie in the noise schedule: GET /fireedit/schedule, for the curve on FireEdit Apply (web/apply.js)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.samplers
from aiohttp import web
from comfy.model_sampling import ModelSamplingDiscrete

from fireedit_core.checkpoints.index import BundleError, read_index
from fireedit_core.diffusion.timesteps import active_timesteps

from . import bundles, compat, unet

MOST_STEPS = 1000


def steps_of(
    folder: Path, sampler_name: str, scheduler: str, steps: int, denoise: float, start: float, end: float
) -> list[dict[str, Any]]:  # fmt: skip
    """[{"timestep", "active"}] for every step that the host's KSampler would take with this bundle.

    Args:
        start, end: shares 0..1 of the schedule between which TATI and HVCA act.
    """
    model = SimpleNamespace(get_model_object=lambda _: _sampling(folder), model_options={})
    run = comfy.samplers.KSampler(model, steps=steps, device="cpu", sampler=sampler_name, scheduler=scheduler, denoise=denoise)
    latest, earliest = active_timesteps(start, end)
    times = [float(_sampling(folder).timestep(sigma)) for sigma in run.sigmas[:-1]]
    return [{"timestep": t, "active": earliest <= t <= latest} for t in times]


@lru_cache(maxsize=4)
def _sampling(folder: Path) -> ModelSamplingDiscrete:
    from fireedit_core.checkpoints.bundle import load_component  # slow to import: when it is first asked for

    scheduler = load_component(folder, "scheduler", index=read_index(folder))
    return ModelSamplingDiscrete(SimpleNamespace(sampling_settings=unet.sampling_settings(scheduler)))


async def answer(request: web.Request) -> web.Response:
    """The steps as JSON; 400 with a text for a question that has no answer."""
    query = request.query
    try:
        folder = bundles.find_bundle(query.get("bundle") or next(iter(bundles.list_bundles()), ""))
        sampler, scheduler = query.get("sampler_name", "euler"), query.get("scheduler", "simple")
        if sampler not in comfy.samplers.KSampler.SAMPLERS or scheduler not in comfy.samplers.KSampler.SCHEDULERS:
            raise ValueError("the host knows no such sampler or scheduler")
        steps = min(max(int(query.get("steps", 20)), 1), MOST_STEPS)
        shares = [min(max(float(query.get(name, default)), 0.0), 1.0) for name, default in _SHARES.items()]
        return web.json_response(steps_of(folder, sampler, scheduler, steps, *shares))
    except (BundleError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


_SHARES = {"denoise": 1.0, "start_percent": 0.0, "end_percent": 1.0}


def register_route() -> None:
    """Add the route, where there is a server."""
    server = compat.running_server()
    if server is not None:
        server.routes.get("/fireedit/schedule")(answer)
