# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /fireedit/schedule answers every question with steps or with what is wrong, and never takes the server down."""

from __future__ import annotations

import pytest

from fireedit_cli.comfy_host import ComfyServer


def ask(server: ComfyServer, **query: object):
    return server.http.get(f"{server.url}/fireedit/schedule", params=query, timeout=20)


def test_steps_of_a_plain_run(server: ComfyServer):
    steps = ask(server, steps=4, bundle="fireedit-tiny").json()
    assert [step["timestep"] for step in steps] == [999, 749, 499, 249] and all(step["active"] for step in steps)
    half = ask(server, steps=4, end_percent=0.6).json()
    assert [step["active"] for step in half] == [True, True, True, False]
    assert len(ask(server, steps=4, denoise=0.5).json()) == 4


@pytest.mark.parametrize(
    "query",
    [{"bundle": "../../etc"}, {"bundle": "none"}, {"scheduler": "x"}, {"sampler_name": "x"}, {"steps": "many"}, {"denoise": "x"}],
)
def test_questions_without_an_answer(server: ComfyServer, query: dict):
    answer = ask(server, **query)
    assert answer.status_code == 400 and answer.json()["error"]


def test_absurd_numbers_are_cut(server: ComfyServer):
    assert len(ask(server, steps=10**9, denoise=1e-9).json()) == 1000
    assert len(ask(server, steps=-5).json()) == 1
    assert ask(server, denoise="nan").status_code in (200, 400) and server.alive
