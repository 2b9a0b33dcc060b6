# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the steps of a sampling run lie in the noise schedule: GET /fireedit/schedule, for the curve on FireEdit Apply (web/apply.js)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.samplers
from aiohttp import web
from comfy.model_sampling import ModelSamplingDiscrete

from fireedit_core.checkpoints.index import BundleError
from fireedit_core.diffusion.timesteps import active_timesteps

from . import bundles, compat, unet

ROUTE = "/fireedit/schedule"
MOST_STEPS, LEAST_DENOISE = 1000, 0.01  # the host takes steps / denoise sigmas: nobody shall ask for billions
_SHARES = {"denoise": 1.0, "start_percent": 0.0, "end_percent": 1.0}  # all 0..1, with what counts where they are not asked for


def steps_of(
    folder: Path, sampler_name: str, scheduler: str, steps: int, denoise: float, start: float, end: float
) -> list[dict[str, Any]]:  # fmt: skip
    """[{"timestep", "active"}] for every step that the host's KSampler would take with this bundle.

    Args:
        start, end: shares 0..1 of the schedule between which TATI and HVCA act.
    """
    sampling = _sampling(folder)
    model = SimpleNamespace(get_model_object=lambda _: sampling, model_options={})
    run = comfy.samplers.KSampler(model, steps=steps, device="cpu", sampler=sampler_name, scheduler=scheduler, denoise=denoise)
    latest, earliest = active_timesteps(start, end)
    times = [float(sampling.timestep(sigma)) for sigma in run.sigmas[:-1]]
    return [{"timestep": t, "active": earliest <= t <= latest} for t in times]


def _sampling(folder: Path) -> ModelSamplingDiscrete:
    # the file and not the scheduler: whoever opens a workflow should not wait for diffusers to be imported
    file = folder / "scheduler" / "scheduler_config.json"
    try:
        settings = unet.sampling_settings(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise BundleError(f"{file} cannot be used ({error!r}).") from error
    return ModelSamplingDiscrete(SimpleNamespace(sampling_settings=settings))


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
        shares[0] = max(shares[0], LEAST_DENOISE)
        return web.json_response(steps_of(folder, sampler, scheduler, steps, *shares))
    except (BundleError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


def register_route() -> None:
    """Add the route once, where there is a server."""
    compat.add_route(ROUTE, answer)
