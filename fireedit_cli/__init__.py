# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, the client of a ComfyUI server that it is built on, and the demo. Nothing here is loaded by ComfyUI."""
