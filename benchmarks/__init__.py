"""Speed and memory side by side with peers: what was asked, what is measured.

    python -m benchmarks [NAME ...]      every goal, each in a process of its own; a table, and JSON
    python -m benchmarks.dense           one of them; no arguments

Every module whose name does not start with `_` holds `goals() -> list[Goal]`. Contenders take
turns in one process; the first call of each, which compiles, is kept apart; what is compared are
medians, as ratios. Differences and their peers are compared by CPU time, which a second core or a
busy machine does not change; what is spread over cores by the time that passes. The samples of
both are in `benchmarks/results/NAME.json`. A peer that is not installed is named and left out.
"""
