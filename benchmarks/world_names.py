"""What the worlds are called in results.json."""

SIMULATOR, REPLAY = "simulator", "replay"

TRUTH = "truth"
"""Scripted users, where they wrote the log."""

INNER = "inner_judge"
"""The judge of the simulator's half; it is met by validation users only."""

JUDGE = "judge_"
"""This and a class is the world of a judge of the other half."""
