"""The keys that every system has; apart from the base class, so that checking keys does not import Lightning."""

from dataclasses import dataclass, field


@dataclass
class SystemConfig:
    """Keys every system has."""

    optimizer: dict = field(default_factory=dict)
    """``name`` of a ``torch.optim`` class, ``args``, and ``params: {member: {lr: ...}}``."""
    scheduler: dict | None = None
    """Learning-rate scheduler: ``name``, ``args``, ``interval`` (``epoch`` or ``step``)."""
    weights: str | None = None
    """Checkpoint whose weights are loaded after ``configure``; the run still starts at step 0."""
    weights_ignore_modules: list[str] | None = None
    """Modules whose weights are then left alone."""
    cleanup_after_validation_step: bool = False
    """Free unused GPU memory after each validation step."""
    cleanup_after_test_step: bool = False
    """Free unused GPU memory after each test step."""
