# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of edits without a host: in one process, or on many through Ray Data (`on_ray`, imported only where it is wanted).

    from fireedit_core.bulk import EditRow, edit_rows
    report = edit_rows([EditRow("cat", "cat.jpg", "remove the cat")], Path("edited"), "models/fireedit-tiny")

Or `python -m fireedit_core.bulk`; docs/bulk.md says more. Importing this loads neither torch nor ray.
"""

from .local import edit_rows
from .rows import BulkReport, EditOptions, EditRow, RowError, read_rows

__all__ = ["BulkReport", "EditOptions", "EditRow", "RowError", "edit_rows", "read_rows"]
