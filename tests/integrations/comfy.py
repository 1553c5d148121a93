"""What of ComfyUI the nodes touch, written from its public interface: types, schemas, progress, interruption, a run."""

import sys
import types
from dataclasses import dataclass, field
from typing import Any

import torch


class InterruptProcessingException(Exception):
    """The user pressed the button."""


@dataclass
class GAUSSIAN:
    """A batch of splats."""

    positions: torch.Tensor
    scales: torch.Tensor
    rotations: torch.Tensor
    opacities: torch.Tensor
    sh: torch.Tensor
    counts: torch.Tensor | None = None

    def __post_init__(self):
        b, n = self.positions.shape[:2]
        assert self.scales.shape == (b, n, 3), self.scales.shape
        assert self.rotations.shape == (b, n, 4), self.rotations.shape
        assert self.opacities.shape == (b, n, 1), self.opacities.shape
        assert self.sh.shape == (b, n, self.sh.shape[2], 3), self.sh.shape


class Socket:
    """An input or an output."""

    def __init__(self, io_type, id=None, *, optional=False, display_name=None, tooltip=None, **widget):
        self.io_type, self.id, self.optional, self.display_name, self.widget = (
            io_type,
            id,
            optional,
            display_name,
            widget,
        )


def io_type(name):
    def make(*args, **more):
        return Socket(name, *args, **more)

    return types.SimpleNamespace(Input=make, Output=make, io_type=name)


@dataclass
class Schema:
    """A node as the user sees it."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Socket]
    outputs: list[Socket]
    is_output_node: bool = False


class NodeOutput:
    """What a node gives."""

    def __init__(self, *values, ui=None):
        self.values, self.ui = values, ui


class ComfyNode:
    """Base of nodes."""


class ComfyExtension:
    """Base of extensions."""

    async def on_load(self):
        """Called once."""


@dataclass
class ProgressBar:
    """Counts, and shows previews."""

    total: int
    node_id: Any = None
    values: list[int] = field(default_factory=list)
    previews: list[Any] = field(default_factory=list)

    def __post_init__(self):
        STATE.bars.append(self)

    def update_absolute(self, value, total=None, preview=None):
        """Say how far a node is."""
        self.values.append(value)
        if preview is not None:
            self.previews.append(preview)


@dataclass
class State:
    """What happened, and whether to stop."""

    bars: list[ProgressBar] = field(default_factory=list)
    stop_after: int | None = None
    checks: int = 0

    def throw_exception_if_processing_interrupted(self):
        """As ComfyUI's model management has it."""
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise InterruptProcessingException


STATE = State()


def install(monkeypatch):
    """Make the modules importable, as they are inside ComfyUI."""
    names = ("Gaussian", "String", "Int", "Float", "Boolean", "Combo", "Image", "Mask")
    known = {name: io_type(name.upper()) for name in names}
    IO = types.SimpleNamespace(
        **known, Custom=io_type, Schema=Schema, NodeOutput=NodeOutput, ComfyNode=ComfyNode,
    )  # fmt: skip
    latest = types.ModuleType("comfy_api.latest")
    latest.IO, latest.Types, latest.ComfyExtension = IO, types.SimpleNamespace(GAUSSIAN=GAUSSIAN), ComfyExtension
    utils, management = types.ModuleType("comfy.utils"), types.ModuleType("comfy.model_management")
    utils.ProgressBar = ProgressBar
    management.throw_exception_if_processing_interrupted = lambda: STATE.throw_exception_if_processing_interrupted()
    comfy, comfy_api = types.ModuleType("comfy"), types.ModuleType("comfy_api")
    comfy.utils, comfy.model_management, comfy_api.latest = utils, management, latest
    modules = {"comfy": comfy, "comfy.utils": utils, "comfy.model_management": management, "comfy_api": comfy_api,
               "comfy_api.latest": latest}  # fmt: skip
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    STATE.bars, STATE.stop_after, STATE.checks = [], None, 0


def nodes_of(package) -> dict[str, type]:
    """Load an extension as ComfyUI does: its nodes by their ids."""
    extension = _awaited(package.comfy_entrypoint())
    assert isinstance(extension, ComfyExtension)
    _awaited(extension.on_load())
    nodes = _awaited(extension.get_node_list())
    return {node.define_schema().node_id: node for node in nodes}


def _awaited(coroutine):
    """What a coroutine that waits for nothing gives; other tests may have left an event loop running."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def run_graph(nodes: dict[str, type], graph: dict[str, dict[str, Any]], given: dict[str, tuple]) -> dict[str, tuple]:
    """Execute a prompt in ComfyUI's format, each node once, after those it is fed by.

    Args:
        nodes: Classes by id.
        graph: Name -> {class_type, inputs}; an input is a value, or [name, number of the output] of another node.
        given: Outputs that stand there already, each (type, value).
    """
    types_of = {name: [kind for kind, _ in outputs] for name, outputs in given.items()}
    values = {name: tuple(value for _, value in outputs) for name, outputs in given.items()}
    for name, node in graph.items():
        schema = nodes[node["class_type"]].define_schema()
        types_of[name] = [output.io_type for output in schema.outputs]
    left = dict(graph)
    while left:
        name = next(name for name, node in left.items() if all(link[0] in values for link in _links(node)))
        node = left.pop(name)
        cls = nodes[node["class_type"]]
        schema = cls.define_schema()
        arguments = {}
        for socket in schema.inputs:
            if socket.id not in node["inputs"]:
                if not socket.optional:
                    assert "default" in socket.widget, f"{name}: {socket.id} is missing"
                    arguments[socket.id] = socket.widget["default"]
                continue
            value = node["inputs"][socket.id]
            if isinstance(value, list):
                kind = types_of[value[0]][value[1]]
                assert kind == socket.io_type, f"{name}: {socket.id} takes {socket.io_type}, gets {kind}"
                value = values[value[0]][value[1]]
            else:
                assert socket.io_type in ("STRING", "INT", "FLOAT", "BOOLEAN", "COMBO")
                if socket.io_type == "COMBO":
                    assert value in socket.widget["options"], f"{name}: {socket.id} has no {value}"
                if "min" in socket.widget:
                    assert socket.widget["min"] <= value <= socket.widget["max"]
            arguments[socket.id] = value
        assert set(node["inputs"]) <= {socket.id for socket in schema.inputs}
        output = cls.execute(**arguments)
        assert isinstance(output, NodeOutput)
        assert len(output.values) == len(schema.outputs)
        values[name] = output.values
    return values


def _links(node):
    return [value for value in node["inputs"].values() if isinstance(value, list)]
