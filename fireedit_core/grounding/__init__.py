# SPDX-License-Identifier: GPL-3.0-or-later
"""Grounding: which regions of a picture an instruction means, what kind of edit it asks for, what shall appear and what must stay."""

from .answer import ADJUSTMENTS, CHOSEN, KINDS, Answer, Target, answers_from_json, answers_to_json

__all__ = ["ADJUSTMENTS", "CHOSEN", "KINDS", "Answer", "Target", "answers_from_json", "answers_to_json"]
