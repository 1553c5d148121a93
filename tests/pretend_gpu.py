"""A pretended GPU: tensors that say they are elsewhere and are computed on the CPU, by torch's own Python backend.

What would fail on a GPU fails here: tensors of two devices in one operation, NumPy of a tensor that is not on the CPU.
What would make a GPU wait is counted: values that Python reads, and sizes that only the values tell.

It is of the whole process, for torch keeps it: use it in one of its own.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

NAME = "pretended"
REPOSITORY = Path(__file__).resolve().parents[1]
OURS = [REPOSITORY / "custom", REPOSITORY / "threestudio"]
aten = torch.ops.aten
READS = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_consecutive, aten.equal,
    aten.bincount, aten.unique_dim, aten.is_nonzero, aten.repeat_interleave,
}  # fmt: skip
"""Operations whose value, or the size of whose value, Python has to know."""
TAKES_CPU_INDICES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_, aten._copy_from, aten._copy_from_and_resize}


class Elsewhere(torch.Tensor):
    """A tensor on the pretended GPU; ``inner`` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        """The values; torch itself has no way to them."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """What a GPU says to it."""
        if not force:
            raise TypeError("can't convert a tensor of the pretended GPU to numpy; use Tensor.cpu() first")
        return self.detach().cpu().numpy()

    def __array__(self, *unused: Any) -> Any:
        """The same."""
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _active.run(func, args, kwargs or {})


class PretendedGpu(TorchDispatchMode):
    """The device, inside ``with``.

    Attributes:
        reads: Where Python read a value or waited for a size: ``file:line function operation`` -> how often.
        calls: Operations on the device, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.device = torch.device(NAME, 0)
        self.is_watching = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One operation: on the values of its tensors, and back to where its results belong."""
        packet, flat = func.overloadpacket, tree_flatten((args, kwargs))[0]
        ours = [each for each in flat if isinstance(each, Elsewhere)]
        target = kwargs.get("device")
        is_here = bool(ours) if target is None else torch.device(target).type == NAME
        if ours:
            self.calls[packet.__name__] += 1
            self._check(func, packet, args, flat)
            if packet in READS or (ours and not is_here) or _copies_out(packet, args) or _is_masked(packet, args):
                self._note(packet.__name__)
        inside = dict(kwargs)
        if target is not None and is_here:
            inside["device"] = torch.device("cpu")
        if target is not None and not is_here and not ours:
            return func(*args, **kwargs)
        out = func(*tree_map(_inner, args), **tree_map(_inner, inside))
        if not is_here or packet is aten.copy_ and not isinstance(args[0], Elsewhere):
            return args[0] if packet is aten.copy_ else out
        wrapped = tree_map(lambda value: Elsewhere(value) if type(value) is torch.Tensor else value, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours else wrapped

    def _check(self, func: Any, packet: Any, args: Any, flat: list[Any]) -> None:
        """Refuse what a GPU refuses."""
        if packet in COPIES:
            return
        if packet in TAKES_CPU_INDICES and isinstance(args[0], Elsewhere):
            flat = [args[0], *tree_flatten(args[2:])[0]]
        strangers = [each for each in flat if _is_stranger(each)]
        if strangers:
            shapes = [(type(each).__name__, tuple(each.shape)) for each in flat if isinstance(each, torch.Tensor)]
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found two: {shapes}")

    def _note(self, name: str) -> None:
        if not self.is_watching:
            return
        frame = sys._getframe(2)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if any(path.is_relative_to(folder) for folder in OURS):
                self.reads[f"{path.relative_to(REPOSITORY)}:{frame.f_lineno} {frame.f_code.co_name} {name}"] += 1
                return
            frame = frame.f_back  # none of ours in the backward pass: there it is our stand-in for a rasteriser

    def rasterization(self, *args: Any, **kwargs: Any) -> Any:
        """Stands in for gsplat's: refuses what is not on the device, and renders on the CPU."""
        from threestudio_ssd.rasterizers import rasterization

        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere):
                raise RuntimeError(f"gsplat was given a tensor {tuple(value.shape)} of the CPU")
        self.is_watching = False
        images, alphas, info = rasterization(
            *(_down(each) for each in args), **{k: _down(v) for k, v in kwargs.items()}
        )
        self.is_watching = True
        self.calls["rasterization"] += 1
        return images.to(NAME), alphas.to(NAME), info


def _down(value: Any) -> Any:
    return value.to("cpu") if isinstance(value, Elsewhere) else value


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


def _is_stranger(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere) and value.dim() > 0


def _copies_out(packet: Any, args: Any) -> bool:
    return packet is aten.copy_ and not isinstance(args[0], Elsewhere) and isinstance(args[1], Elsewhere)


def _is_masked(packet: Any, args: Any) -> bool:
    if packet not in TAKES_CPU_INDICES:
        return False
    return any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in args[1])


_active: PretendedGpu
_library = torch.library.Library("aten", "IMPL")
"""What torch calls below Python where it puts a list of indices on the device."""


def _empty_strided(size: Any, stride: Any, **options: Any) -> Elsewhere:
    return Elsewhere(torch.empty_strided(size, stride, dtype=options.get("dtype")))


def _empty(size: Any, **options: Any) -> Elsewhere:
    return Elsewhere(torch.empty(size, dtype=options.get("dtype")))


def _copy_from(values: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _inner(target).copy_(_inner(values))
    return target


def install() -> PretendedGpu:
    """Register the device with torch, for the rest of the process, before its first backward pass."""
    global _active
    from threestudio_ssd.rasterizers import backends, interface

    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module: Any = torch.get_device_module(NAME)
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    _library.impl("empty_strided", _empty_strided, "PrivateUse1")
    _library.impl("empty.memory_format", _empty, "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
    _active = PretendedGpu()
    for place in (backends, interface):
        place.backend_of = lambda device_type: "gsplat" if device_type == NAME else "cpu"
        place.gpu_rasterization = lambda package: _active.rasterization
    return _active
