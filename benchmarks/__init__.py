# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: `python -m benchmarks` times the whole edit in a real ComfyUI beside the diffusers pipeline."""
