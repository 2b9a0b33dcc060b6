# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from fireedit_core.evaluation.benchmarks.measures import KINDS
from fireedit_core.evaluation.benchmarks.profiles import MAGICBRUSH, PROFILES, profile_of
from fireedit_core.evaluation.benchmarks.published import JUDGED, JUDGED_HEAD, ROWS
from fireedit_core.evaluation.similarity import SOURCES, TRUNKS

# Frozen. A profile whose numbers come about otherwise gets a new version, and its line here with it.
FROZEN = {
    "magicbrush": (1, "64eebb79e99e"),
    "fireedit_emu": (1, "3532b4a7ba04"),
    "emu_l14_clean": (1, "bf0256c0a57d"),
    "anyedit_pseudo_gt": (1, "838512d4c56f"),
    "pie_bench": (2, "8d5ca0b6f871"),
    "pie_bench_antialias": (1, "0a84e6797417"),
    "refedit_bench": (1, "9223d03f77fb"),
    "reasonedit_bench": (1, "2573f3708b28"),
}


def test_profiles_are_frozen():
    assert {name: (p.version, p.fingerprint) for name, p in PROFILES.items()} == FROZEN


def test_the_hash_covers_what_numbers_depend_on():
    other = [
        replace(MAGICBRUSH, version=2), replace(MAGICBRUSH, reference="source"), replace(MAGICBRUSH, metrics=MAGICBRUSH.metrics[:-1]),
        replace(MAGICBRUSH, preparation=()), replace(MAGICBRUSH, reader=("drop_identical_captions",)),
    ]  # fmt: skip
    assert len({p.fingerprint for p in (MAGICBRUSH, *other)}) == 6
    assert replace(MAGICBRUSH, note="said otherwise").fingerprint == MAGICBRUSH.fingerprint


def test_profiles_can_be_computed():
    for profile in PROFILES.values():
        names = [m.name for m in profile.metrics]
        assert len(set(names)) == len(names) and profile.reference in ("source", "target", "edited_image")
        for metric in profile.metrics:
            assert metric.kind in KINDS and (not metric.weights or metric.weights in {**SOURCES, **TRUNKS})


def test_profile_of():
    assert profile_of("emu").name == "fireedit_emu" and profile_of("emu", "emu_l14_clean").reader
    with pytest.raises(ValueError, match="fireedit_emu, emu_l14_clean, anyedit_pseudo_gt, not 'magicbrush'"):
        profile_of("emu", "magicbrush")


def test_published_numbers_belong_to_a_table():
    judged = {"sc", "pq", "o"}
    for row in ROWS:
        known = {metric.name: metric for metric in PROFILES[row.profile].metrics}
        assert row.values and set(row.values) <= {*known, *judged} and row.source and row.how in ("paper", "re-run", "second hand")
        shares = [v for name, v in row.values.items() if name in known and known[name].kind not in ("psnr_background", "clip_score")]
        assert all(0 < value < 1 for value in shares), row  # plain scale, not as papers print them
    assert all(len(row) == len(JUDGED_HEAD) for row in JUDGED)
