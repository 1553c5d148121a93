"""A set of 3D Gaussians as it is optimised, and where each of them came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .placed import FileOrigin, Placed

MAX_SH_DEGREE = 4
ANTIALIASED_MODES = ("mip", "antialiased")
"""What files call it when a splat was trained antialiased."""
FIELD_NAMES = ("means", "log_scales", "raw_quats", "logit_opacities", "sh0", "shN")


@dataclass(eq=False)
class Gaussians(Placed):
    """3D Gaussians in the parametrisation that is optimised (Kerbl et al. 2023, section 5).

    Attributes:
        means: (n 3) centres, world units.
        log_scales: (n 3) natural logs of the standard deviations along the local axes, world units.
        raw_quats: (n 4) rotations wxyz, not normalised, never zero.
        logit_opacities: (n) inverse sigmoid of the opacity.
        sh0: (n 1 3) spherical harmonic of degree 0; colour 0.5 + 0.2820948 * sh0 seen from everywhere.
        shN: (n k-1 3) the higher degrees, k = (sh_degree + 1)^2 with sh_degree 0..4.
        origin: Where they were read from; None for Gaussians made here.
        is_antialiased: Whether opacities fall as the screen's blur spreads them (Mip-Splatting), as they were trained.

    Raises:
        ValueError: If the shapes do not belong together.
    """

    means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 3"]
    raw_quats: Float[Tensor, "n 4"]
    logit_opacities: Float[Tensor, "n"]
    sh0: Float[Tensor, "n 1 3"]
    shN: Float[Tensor, "n rest 3"]
    origin: FileOrigin | None = None
    is_antialiased: bool = False

    def __post_init__(self) -> None:
        n, rest = self.means.shape[0], self.shN.shape[1] if self.shN.ndim == 3 else -1
        wanted = {"means": (n, 3), "log_scales": (n, 3), "raw_quats": (n, 4), "logit_opacities": (n,),
                  "sh0": (n, 1, 3), "shN": (n, rest, 3)}  # fmt: skip
        for name, shape in wanted.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ValueError(f"{name} has shape {actual}, expected {shape} for {n} Gaussians")
        if rest + 1 not in {(degree + 1) ** 2 for degree in range(MAX_SH_DEGREE + 1)}:
            raise ValueError(f"shN holds {rest} coefficients a colour; a whole degree has 0, 3, 8, 15 or 24")
        if self.origin is not None and len(self.origin.rows) != n:
            raise ValueError(f"origin.rows has {len(self.origin.rows)} rows for {n} Gaussians; see Gaussians.replace")

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Highest degree of the spherical harmonics held, 0..4."""
        return math.isqrt(self.shN.shape[1] + 1) - 1

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        """Standard deviations along the local axes, world units."""
        return self.log_scales.exp()

    @property
    def quats(self) -> Float[Tensor, "n 4"]:
        """Unit rotations, wxyz."""
        return torch.nn.functional.normalize(self.raw_quats, dim=-1)

    @property
    def opacities(self) -> Float[Tensor, "n"]:
        """Opacities in [0, 1]."""
        return self.logit_opacities.sigmoid()

    @property
    def sh(self) -> Float[Tensor, "n k 3"]:
        """All spherical harmonics, degree 0 first."""
        return torch.cat([self.sh0, self.shN], dim=1)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.means.device

    @property
    def origin_rows(self) -> Int[Tensor, "n"]:
        """(n) the row of the file each Gaussian stems from; -1 for new ones."""
        return torch.full((len(self),), -1) if self.origin is None else self.origin.rows

    def parameters(self) -> dict[str, Tensor]:
        """The six tensors by name."""
        return {name: getattr(self, name) for name in FIELD_NAMES}

    def to(self, device: torch.device | str) -> "Gaussians":
        """The same Gaussians on another device; the origin stays on the CPU."""
        return self._map(lambda tensor: tensor.to(device))

    def detach(self) -> "Gaussians":
        """The same values, cut from the graph."""
        return self._map(Tensor.detach)

    def clone(self) -> "Gaussians":
        """A copy whose tensors may be written to."""
        return self._map(Tensor.clone)

    def select(self, index: Tensor | Sequence[int] | slice) -> "Gaussians":
        """The Gaussians at an index list, slice or boolean mask; each keeps its row of the file.

        Args:
            index: (m) integers, (n) booleans, or a slice.
        """
        if not isinstance(index, slice):
            index = torch.as_tensor(index, device=self.device)
            if index.dtype == torch.bool and index.shape != (len(self),):
                raise ValueError(f"the mask has shape {tuple(index.shape)} for {len(self)} Gaussians")
        picked = {name: tensor[index] for name, tensor in self.parameters().items()}
        rows = self.origin_rows[index if isinstance(index, slice) else index.cpu()]
        return self._with(picked, self.origin and self.origin.with_rows(rows))

    def replace(self, *, origin_rows: Int[Tensor, "n"] | None = None, **fields: Tensor) -> "Gaussians":
        """Other values for the same Gaussians, or another set that descends from them.

        Args:
            origin_rows: (n) the row of the file each new Gaussian stems from, -1 for none. Needed when the
                count changes; after pruning and growth it is ``gaussians.origin_rows[parent]``.
            **fields: Tensors to put in place of ``means``, ``log_scales``, ...

        Raises:
            ValueError: If the count changes without ``origin_rows``.
        """
        if unknown := set(fields) - set(FIELD_NAMES):
            raise ValueError(f"no such field: {', '.join(sorted(unknown))}; there are {', '.join(FIELD_NAMES)}")
        origin = self.origin
        if origin is not None and origin_rows is not None:
            origin = origin.with_rows(origin_rows)
        return self._with({**self.parameters(), **fields}, origin)

    def append(self, other: "Gaussians") -> "Gaussians":
        """These Gaussians followed by others; those keep their rows if read from the same file, else they are new.

        Raises:
            ValueError: If the SH degrees differ; use ``with_sh_degree`` first.
        """
        if other.sh_degree != self.sh_degree:
            raise ValueError(f"SH degree {other.sh_degree} cannot be appended to SH degree {self.sh_degree}")
        joined: dict[str, Any] = {
            name: torch.cat([tensor, getattr(other, name).to(tensor)]) for name, tensor in self.parameters().items()
        }
        if self.origin is None:
            return self._with(joined, None)
        is_kin = other.origin is not None and other.origin.file is self.origin.file
        rows = other.origin_rows if is_kin else torch.full((len(other),), -1)
        return self._with(joined, self.origin.with_rows(torch.cat([self.origin.rows, rows])))

    def with_sh_degree(self, sh_degree: int) -> "Gaussians":
        """The same Gaussians with higher degrees cut off or filled with zeros.

        Args:
            sh_degree: 0..4.
        """
        rest = (sh_degree + 1) ** 2 - 1
        shN = self.shN.new_zeros(len(self), rest, 3)
        shared = min(rest, self.shN.shape[1])
        shN[:, :shared] = self.shN[:, :shared]
        return self.replace(shN=shN)

    def _map(self, function: Any) -> "Gaussians":
        return self._with({name: function(tensor) for name, tensor in self.parameters().items()}, self.origin)

    def _with(self, fields: Mapping[str, Tensor], origin: FileOrigin | None) -> "Gaussians":
        return Gaussians(**fields, origin=origin, is_antialiased=self.is_antialiased)
