"""What a step costs, counted without weights: the published architectures, operations, memory."""

from .architectures import ARCHITECTURES, Architecture
from .flops import StepCost, step_cost
from .memory import StepMemory, step_memory
