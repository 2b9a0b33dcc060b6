# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounding: which regions of a picture an instruction means, what kind of edit it asks for, what shall appear and what must stay."""

from .answer import ADJUSTMENTS, CHOSEN, KINDS, Answer, Target, answers_from_json, answers_to_json
from .ground import Grounding, from_answer, ground
from .resolve import NotFound
from .words import noun_phrase, read_words

__all__ = [
    "ADJUSTMENTS",
    "CHOSEN",
    "KINDS",
    "Answer",
    "Grounding",
    "NotFound",
    "Target",
    "answers_from_json",
    "answers_to_json",
    "from_answer",
    "ground",
    "noun_phrase",
    "read_words",
]
