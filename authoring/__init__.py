# SPDX-License-Identifier: GPL-3.0-or-later
"""What writes the files that are shipped ready: workflows, blueprint, locales, pictures of the nodes, icon and banner."""
