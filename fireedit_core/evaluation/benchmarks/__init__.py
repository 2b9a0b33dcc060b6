# SPDX-License-Identifier: GPL-3.0-or-later
"""Public benchmarks of instruction-based editing, by their own protocols: making the edits and scoring a folder of edits are two steps.

`profiles` says what is measured and is frozen, a file per benchmark says which pictures are compared, `measures` computes, `generate` and
`score` run, `report` and `sheet` show, `published` has the numbers of others. docs/benchmarks.md is the user's page.
"""
