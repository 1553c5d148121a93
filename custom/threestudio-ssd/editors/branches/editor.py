"""Editors with two branches: the inverted picture comes back down beside the edit, and holds it to itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ...diffusion import PromptEmbeds
from ...diffusion.attention import Layer, attention_control
from ...diffusion.sampling import ddim_step, noise_in, timesteps_down
from ...errors import ConfigError, check_values
from ...named import build_named
from ..editor import EditorPrompts, ImageEditor, Views
from ..prompted import load_prompted
from .control import Control, Controlling
from .ddim import DDIM
from .direct import Direct
from .masa_ctrl import MasaCtrl
from .network import BranchedBackbone
from .null_text import NullText
from .picture_inversion import PictureInversion
from .plug_and_play import PlugAndPlay
from .prompt_to_prompt import PromptToPrompt
from .setting import Inverted, Rows, Setting
from .style_diffusion import StyleDiffusion

INVERSIONS: dict[str, type[PictureInversion]] = {
    "ddim": DDIM, "null-text": NullText, "style-diffusion": StyleDiffusion, "direct": Direct,
}  # fmt: skip
"""Inversions by the name configs use."""
CONTROLS: dict[str, type[Control]] = {"p2p": PromptToPrompt, "pnp": PlugAndPlay, "masactrl": MasaCtrl}
"""Controls by the name configs use."""


@dataclass(frozen=True)
class TwoBranches(ImageEditor):
    """An inversion of the picture, and a control of the edit by the picture's own way down.

    Both branches start from the noise that the picture was inverted to. At every step they go through the network in
    one call: the source branch under the source prompt, the target branch under the target prompt with guidance. What
    is inverted is the view before any edit; where the view as it is now differs, the target branch starts from that.

    Outside the masks the inverted latents of each step are put back in the target branch, or where something else is
    kept, that at its noise level. A strength of s inverts up to that share of the timesteps, in its share of the steps.
    """

    usual_inversion: ClassVar[dict[str, Any]] = {"name": "ddim"}
    """What ``inversion`` is where nothing is given."""
    usual_control: ClassVar[dict[str, Any]] = {"name": "p2p"}
    """What ``control`` is where nothing is given."""

    num_steps: int = 50
    """Steps down from pure noise, >= 1; an edit of strength s takes its share of them."""
    guidance_scale: float = 7.5
    """s of classifier-free guidance."""
    inversion: dict = field(default_factory=dict)
    """name of an inversion, and any of its own fields."""
    control: dict = field(default_factory=dict)
    """name of a control, and any of its own fields."""

    def check(self, key: str) -> None:
        """See ``ImageEditor``."""
        check_values(key, self, TwoBranches(), {"num_steps": (self.num_steps >= 1, "at least 1")})
        self.inversion_of(key).check(f"{key}.inversion")
        self.control_of(key).check(f"{key}.control")

    def inversion_of(self, key: str = "system.editing.editor") -> PictureInversion:
        """The inversion; ``key`` is where the editor's fields stand, for messages.

        Raises:
            ConfigError: For an unknown name or field.
        """
        options = _with_usual(self.inversion, self.usual_inversion)
        return build_named(options, INVERSIONS, key=f"{key}.inversion", kind="inversion", default="ddim")

    def control_of(self, key: str = "system.editing.editor") -> Control:
        """The same of the control."""
        options = _with_usual(self.control, self.usual_control)
        return build_named(options, CONTROLS, key=f"{key}.control", kind="control", default="p2p")

    def load(
        self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()
    ) -> BranchedBackbone:
        """See ``ImageEditor``."""
        if keys.compile:
            what, expected = "system.editing.compile is true", "false: this editor changes the network's layers"
            raise ConfigError(what=what, expected=expected, fix="set system.editing.compile=false")
        network = load_prompted(keys, device, prompts, words, reads_image=False, kind=BranchedBackbone)
        self.control_of().check_prompts(network)
        return network

    def edit(self, network: BranchedBackbone, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``."""
        source, target = self.branches(network, views)
        return network.backbone.decode(target)

    def branches(
        self, network: BranchedBackbone, views: Views
    ) -> tuple[Float[Tensor, "b c zh zw"], Float[Tensor, "b c zh zw"]]:
        """Where both branches end, latents without noise: the source's, and the edit.

        Args:
            network: That of ``load``.
            views: What to edit.
        """
        inversion, control = self.inversion_of(), self.control_of()
        num_steps = max(1, round(self.num_steps * views.strength))
        setting = Setting(
            network, views, timesteps_down(network.backbone, num_steps, views.strength), self.guidance_scale,
            source=network.empty.expand(len(views)) if control.has_empty_source else network.source(views),
            target=network.target(views), is_source_guided=control.guides_source or inversion.guides_source,
        )  # fmt: skip
        inverted = inversion.invert(setting, network.backbone.encode(views.sources))
        rows = Rows.of(setting.is_source_guided and not inverted.is_followed)
        return _Descent(setting, inverted, rows, control.begin(setting, rows)).run()


def _with_usual(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Fields that are given, over those that are usual, unless another name is given."""
    return {**usual, **given} if given.get("name", usual["name"]) == usual["name"] else given


@dataclass(frozen=True)
class _Descent:
    """Both branches on their way down."""

    setting: Setting
    inverted: Inverted
    rows: Rows
    controlling: Controlling

    def run(self) -> tuple[Tensor, Tensor]:
        """Source and target at the end of the path."""
        setting, path, inverted = self.setting, self.setting.path, self.inverted
        views, is_free = setting.views, setting.network.is_free(setting.views)
        source, target = inverted.latents[0], self._noised(views.images)(0)
        kept = self._noised(views.surroundings)
        with attention_control(setting.backbone.network, self._attend), self.controlling.hooked():
            for step, (now, then) in enumerate(zip(path[:-1], path[1:], strict=True)):
                self.controlling.step = step
                eps_source, eps_target = self._predict(source, target, step)
                source = ddim_step(setting.backbone, source, eps_source, now, then)
                source = inverted.latents[step + 1] if inverted.is_followed else source
                target = self.controlling.blended(source, ddim_step(setting.backbone, target, eps_target, now, then))
                if is_free is not None:
                    target = torch.where(is_free, target, kept(step + 1))
        return source, target

    def _predict(self, source: Tensor, target: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The noise in both branches, with guidance; all states in one call."""
        setting, rows = self.setting, self.rows
        null = setting.null if self.inverted.nulls is None else self.inverted.nulls[step]
        has_null = rows.source_null != rows.source
        latents = [source, *([source] if has_null else []), target, target]
        prompts = [setting.source, *([null] if has_null else []), null, setting.target]
        eps = setting.backbone.predict_noise(torch.cat(latents), setting.path[step], PromptEmbeds.cat(prompts))
        eps = eps.unflatten(0, (rows.count, -1))

        def guided(with_prompt: int, with_null: int) -> Tensor:
            return eps[with_null] + setting.guidance_scale * (eps[with_prompt] - eps[with_null])

        eps_source = guided(rows.source, rows.source_null) if has_null else eps[rows.source]
        return eps_source, guided(rows.target, rows.target_null)

    def _attend(self, layer: Layer, hidden: Tensor, seen: Tensor) -> Tensor:
        """What a layer gives for all states: the inversion says what values are made of, the control the rest."""
        valued = self._valued(seen) if layer.is_cross else seen
        states = (each.unflatten(0, (self.rows.count, -1)) for each in layer.project(hidden, seen, valued))
        return layer.output(self.controlling.mix(layer, *states).flatten(0, 1))

    def _valued(self, seen: Tensor) -> Tensor:
        if self.inverted.values is None:
            return seen
        step, states = self.controlling.step, list(seen.unflatten(0, (self.rows.count, -1)))
        changed = [self.rows.source, *([self.rows.target] if step < self.inverted.value_steps else [])]
        for place in changed:
            states[place] = self.inverted.values[step](states[place])
        return torch.cat(states)

    def _noised(self, images: Tensor) -> Callable[[int], Tensor]:
        """Images at the noise level of any place of the path, with the noise that the inversion led to.

        What was inverted is at the inverted latents themselves.
        """
        backbone, latents, path = self.setting.backbone, self.inverted.latents, self.setting.path
        if torch.equal(images, self.setting.views.sources):
            return latents.__getitem__
        clean, noise = backbone.encode(images), noise_in(backbone, latents[0], latents[-1], path[0])
        return lambda place: backbone.add_noise(clean, noise, path[place]) if path[place] > 0 else clean
