"""Between two splats: every attribute goes from one to the other, and what only one of them has fades."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from .model import FIELD_NAMES, Gaussians


def blended(before: Gaussians, after: Gaussians, rows: Int[Tensor, "m"], amount: float) -> Gaussians:
    """The Gaussians of ``before`` on their way to ``after``, continuous in every attribute.

    Positions, colours and the logs of scales go straight, rotations along the shortest arc, opacities straight in
    [0, 1]. Gaussians that ``after`` lacks fade out where they are; those that it alone has come last and fade in.
    What is the same in both keeps its bytes, and so its row of the file.

    Args:
        before: (n) at amount 0.
        after: (m) at amount 1, of the same SH degree.
        rows: For each of ``after``, its row in ``before``; -1 for those that are only in ``after``.
        amount: In [0, 1].

    Raises:
        ValueError: If the amount is out of range, the SH degrees differ, or the rows do not fit.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount is {amount}, expected 0 to 1")
    is_shared = rows >= 0
    places = rows[is_shared]
    if len(rows) != len(after) or (places >= len(before)).any() or len(places.unique()) != len(places):
        raise ValueError(f"{len(rows)} rows do not pair {len(after)} Gaussians with {len(before)}, each at most once")
    fields = {name: tensor.clone() for name, tensor in before.parameters().items()}
    is_gone = torch.ones(len(before), dtype=torch.bool)
    is_gone[places] = False
    fields["logit_opacities"][is_gone] = faded(before.logit_opacities[is_gone], 1 - amount)
    start, end = before.select(places).parameters(), after.select(is_shared).parameters()
    for name in FIELD_NAMES:
        fields[name][places] = _between(name, start[name], end[name], amount)
    new = after.select(~is_shared)
    return before.replace(**fields).append(new.replace(logit_opacities=faded(new.logit_opacities, amount)))


def faded(logits: Float[Tensor, "n"], share: float) -> Float[Tensor, "n"]:
    """Opacities multiplied with a share in [0, 1], as logits: minus infinity at 0."""
    opacities = logits.double().sigmoid() * share
    return (opacities.log() - torch.log1p(-opacities)).to(logits) if share != 1 else logits.clone()


def _between(name: str, start: Tensor, end: Tensor, amount: float) -> Tensor:
    """What is the same in both stays to the last bit."""
    if name == "raw_quats":
        return torch.where((start == end).all(dim=-1, keepdim=True), start, _turned(start, end, amount))
    between = _mixed_opacities if name == "logit_opacities" else torch.lerp
    return torch.where(start == end, start, between(start, end, amount))


def _mixed_opacities(start: Float[Tensor, "n"], end: Float[Tensor, "n"], amount: float) -> Float[Tensor, "n"]:
    """Logits of opacities that go straight; what is left to 1 is mixed by itself, so that 1 - 1e-9 is no 1."""
    start, end = start.double(), end.double()
    opaque, clear = (torch.lerp((sign * start).sigmoid(), (sign * end).sigmoid(), amount) for sign in (1, -1))
    return (opaque.log() - clear.log()).float()


def _turned(start: Float[Tensor, "n 4"], end: Float[Tensor, "n 4"], amount: float) -> Float[Tensor, "n 4"]:
    """Rotations between two along the shortest arc (slerp); lengths, which mean nothing, go straight."""
    one, other = normalize(start.double(), dim=-1), normalize(end.double(), dim=-1)
    cosine = (one * other).sum(dim=-1, keepdim=True)
    other = torch.where(cosine < 0, -other, other)
    angle = torch.atan2((one - other).norm(dim=-1, keepdim=True), (one + other).norm(dim=-1, keepdim=True)) * 2
    sine = angle.sin()
    shares = [torch.where(sine > 1e-9, (part * angle).sin() / sine, part) for part in (1 - amount, amount)]
    lengths = torch.lerp(start.double().norm(dim=-1, keepdim=True), end.double().norm(dim=-1, keepdim=True), amount)
    return (lengths * normalize(shares[0] * one + shares[1] * other, dim=-1)).float()
