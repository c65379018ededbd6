"""Errors of the user side, each a `ValueError` whose message names the cure."""


class LogError(ValueError):
    """An interaction log is missing, damaged or breaks a rule."""


class UserModelError(ValueError):
    """A user model directory is missing, damaged or of another version."""


class TextEncoderError(ValueError):
    """A text encoder is missing or unusable."""
