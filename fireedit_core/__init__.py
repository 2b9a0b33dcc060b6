# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit (arXiv 2503.19839) in PyTorch, transformers and diffusers. Knows no host: nothing here imports ComfyUI."""
