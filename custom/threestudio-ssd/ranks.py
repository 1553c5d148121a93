"""Several processes that make each step together: which views are whose, and what they have to agree on.

A step that shows b views on one process shows b / count of them on each of several. Every process draws the random
numbers of all b views and uses its own, gradients are averaged, and so each process makes the step that one alone
would have made, up to the order of sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Rank:
    """One of the processes of a run.

    Attributes:
        index: Which one, from 0 on.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    def part(self, values: Tensor) -> Tensor:
        """Its share of what all processes have: of ``count`` equal parts one, in order."""
        size = len(values) // self.count
        return values[self.index * size : (self.index + 1) * size]

    def randn(self, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
        """Its rows of standard normal numbers that all processes draw alike.

        Args:
            shape: Of its own rows.
            draws: The same for all processes.
        """
        return self.part(torch.randn((shape[0] * self.count, *shape[1:]), generator=draws))

    @torch.no_grad()
    def average(self, parameters: Iterable[Tensor]) -> None:
        """Put the mean over processes in place of each gradient; where one sees nothing of the scene, it adds zeros."""
        for parameter in parameters if self.count > 1 else ():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.total(gradient).div_(self.count)

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    @torch.no_grad()
    def agree(self, parameters: Iterable[Tensor]) -> None:
        """Take the first process's values: on a GPU, sums in another order would lead the others away from them."""
        for parameter in parameters if self.count > 1 else ():
            distributed.broadcast(parameter, src=0)


ALONE = Rank()
"""A run of one process."""
