# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding or fetching a ComfyUI and a Python environment for it; and the host inside a process of ours, for tests and benchmarks."""
