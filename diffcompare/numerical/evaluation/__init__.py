"""How the values of a function at many perturbed points are found.

`plans` chooses for every leaf between evaluating the whole function (dense) and computing only
what a changed entry changes (`incremental`, with `changed`, `rules` and `contraction`), by what
`cost` estimates; `blocks` batches the entries and spreads them over devices.
"""
