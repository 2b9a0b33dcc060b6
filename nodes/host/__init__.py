# SPDX-License-Identifier: GPL-3.0-or-later
"""Mechanism that only exists because of the host: model management, patching, its UNet and VAE, folders, versions."""
