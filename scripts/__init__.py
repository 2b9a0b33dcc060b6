# SPDX-License-Identifier: GPL-3.0-or-later
"""Developer commands of the pack: set-up of a host, a client for it, the demo. Nothing here is loaded by ComfyUI."""
