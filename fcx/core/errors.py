"""The errors of fcx: what was given, what is allowed, what to do."""

from __future__ import annotations


class FcxError(Exception):
    """Every error that fcx raises on purpose."""


class InputError(FcxError, ValueError):
    """Something that was given cannot be used; the text says what is allowed."""


class UnknownNameError(InputError):
    """A name that no registry knows."""


class ImageError(InputError):
    """A file that cannot be read as a picture."""


class FaceError(InputError):
    """A picture in which the wanted face cannot be found."""


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged or of another shape."""


class StoreError(InputError):
    """A store that is missing, unfinished, or holds something else."""


class ContractError(FcxError, ValueError):
    """A Dataset that breaks the contract."""


class MissingWeightsError(FcxError, FileNotFoundError):
    """Weights that a backend needs are not on this machine."""

    def __str__(self) -> str:
        return str(self.args[0])


class WorkerError(FcxError):
    """Processes that helped with the work died again and again."""
