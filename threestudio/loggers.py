"""Lightning's loggers, without power over a run: a log that cannot be written any more is given up, with a warning."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from threestudio.errors import is_storage_error, storage_cause
from threestudio.log import warn


class _Lasting:
    """Comes before a logger of Lightning: what cannot be written is not, and the run goes on."""

    _is_lost = False

    @contextmanager
    def _while_it_lasts(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_storage_error(error):
                raise
            if not self._is_lost:
                cause = storage_cause(error)
                why = cause.strerror if cause else str(error)
                warn(f"{getattr(self, 'name', 'a log')} cannot be written any more ({why}); the run goes on")
            self._is_lost = True

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Lightning hook."""
        if not self._is_lost:
            with self._while_it_lasts():
                super().log_metrics(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]  # of the logger behind

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Lightning hook."""
        if not self._is_lost:
            with self._while_it_lasts():
                super().log_hyperparams(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]  # the same

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Lightning hook."""
        if not self._is_lost:
            with self._while_it_lasts():
                super().save(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]  # the same

    def finalize(self, *args: Any, **kwargs: Any) -> None:
        """Lightning hook."""
        if not self._is_lost:
            with self._while_it_lasts():
                super().finalize(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]  # the same


class LastingCSV(_Lasting, CSVLogger):
    """The figures of the steps, as a table."""


class LastingTensorBoard(_Lasting, TensorBoardLogger):
    """The figures of the steps, for TensorBoard."""
