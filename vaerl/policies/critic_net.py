"""One critic made of parts; the critics of CrossQ, XQC, FlashSAC and SimBa are settings of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from vaerl.densities.options import check_above_zero, check_choice, check_flag
from vaerl.names import check_name
from vaerl.native.library import BF16
from vaerl.policies.critic_heads import CategoricalHead, ScalarHead
from vaerl.policies.critic_layers import EXPANSION, NORMS, Activations, Linears, Residuals, Stack
from vaerl.policies.fourier import action_waves, draw_waves

MOST_BINS = 10_000
ORDERS = ("before", "after")
SHARED = ("batch", "renorm")
"""Normalisations by statistics of the batch, for which (s, a) and (s', a') share a pass."""
FLAGS = ("input_norm", "residual", "unit_weights", "unit_norms", "target")


@dataclass(frozen=True)
class CriticParts:
    """The parts of a critic.

    Args:
        norm: normalisation of each hidden layer: "none", "layer", "batch" or "renorm" (batch
            renormalisation). With one of the last two, here or in `last_norm`, prediction and
            target come from one pass over (s, a) and (s', a').
        order: the normalisation stands "before" its linear layer, that of the head included, or
            "after" it, before the activation.
        input_norm: normalise the input of the first layer, with order "after".
        residual: layers after the first are blocks x + f(x) with a hidden layer of four widths.
        last_norm: normalisation in front of the head: a norm as above or "rms".
        unit_weights: after each step, scale the weights into each unit to length 1.
        unit_norms: the same for scale and shift of the normalisations together, to √features.
        bins: values of a categorical head; 0 for a scalar one.
        support: the head's values lie in [−support, support].
        target: whether there is a slowly moving target network.
    """

    norm: str = "none"
    order: str = "after"
    input_norm: bool = False
    residual: bool = False
    last_norm: str = "none"
    unit_weights: bool = False
    unit_norms: bool = False
    bins: int = 0
    support: float = 5.0
    target: bool = True

    def __post_init__(self) -> None:
        """Check each part."""
        check_choice("norm", self.norm, [name for name in NORMS if name != "rms"])
        check_choice("order", self.order, ORDERS)
        check_choice("last_norm", self.last_norm, tuple(NORMS))
        for name in FLAGS:
            check_flag(name, getattr(self, name))
        if type(self.bins) is not int or not (self.bins == 0 or 2 <= self.bins <= MOST_BINS):
            raise ValueError(
                f"bins: got {self.bins!r}, expected 0 or a whole number from 2 to {MOST_BINS:,}"
            )
        check_above_zero("support", self.support)
        if self.input_norm and (self.norm == "none" or self.order == "before"):
            raise ValueError(
                f"input_norm: got True with norm {self.norm!r} and order {self.order!r}, expected "
                "False, or a norm and order 'after'"
            )

    @property
    def shares_pass(self) -> bool:
        """Whether prediction and target come from one pass."""
        return self.norm in SHARED or self.last_norm in SHARED

    @property
    def biased(self) -> bool:
        """Whether a layer in front of a normalisation has a bias; a batch takes it away again."""
        return self.norm not in SHARED

    @property
    def plain(self) -> bool:
        """Whether this is SB3's critic."""
        return self == CriticParts()


CRITICS: dict[str, CriticParts] = {
    "sac": CriticParts(),
    "crossq": CriticParts(norm="renorm", order="before", target=False),
    "xqc": CriticParts(norm="batch", input_norm=True, unit_weights=True, bins=101),
    "flash": CriticParts(
        norm="batch",
        input_norm=True,
        residual=True,
        last_norm="rms",
        unit_weights=True,
        unit_norms=True,
        bins=101,
    ),
    "simba": CriticParts(norm="layer", order="before", residual=True),
}
"""Critics by name: SB3's; Bhatt et al. 2024; Palenicek et al. 2025; FlashSAC 2026; Lee et al. 2024.

They are the networks and losses alone. What else those papers change are options of the agent.
"""


def critic_parts(critic: str, critic_options: Mapping[str, Any] | None = None) -> CriticParts:
    """A named critic with some parts exchanged.

    Raises:
        ValueError: an unknown name, or parts that are illegal or not given by name.

    >>> critic_parts("sac", {"norm": "layer"}).norm
    'layer'
    """
    parts = CRITICS[check_name("critic", critic, CRITICS)]
    options = {} if critic_options is None else critic_options
    if not isinstance(options, Mapping):
        raise ValueError(
            f"critic_options: got {options!r:.60}, expected a dict, such as {{'norm': 'layer'}}"
        )
    for name in options:
        check_name("critic_options", name, [field.name for field in fields(CriticParts)])
    made = replace(parts, **options)
    bare = made.norm == made.last_norm == "none"
    needs = {"support": ("bins", not made.bins), "order": ("norm", bare)}
    needs["unit_norms"] = needs["order"]
    for name, (needed, missing) in needs.items():
        if missing and options.get(name):
            raise ValueError(
                f"critic_options[{name!r}]: got {options[name]!r}, which has no effect without "
                f"{needed!r}; expected none, or critic_options[{needed!r}] as well"
            )
    return made


class CriticNet(BaseModel):
    """N critics of the same parts, side by side.

    Called, it gives values by the running statistics, in every mode of the module; `pair` alone
    normalises by the batch.

    Args:
        net_arch: widths of the hidden layers; with residual blocks those of the stem and of each
            block, all equal.
        parts: see `CriticParts`.
        frequencies, bandwidth: waves of the action, see `vaerl.policies.fourier`; 0 for none.
        others: as in SB3's `ContinuousCritic`.
    """

    features_extractor: BaseFeaturesExtractor
    waves: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: Sequence[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_critics: int = 2,
        share_features_extractor: bool = True,
        parts: CriticParts = CRITICS["crossq"],
        frequencies: int = 0,
        bandwidth: float = 8.0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self.n_critics, self.parts = n_critics, parts
        self.share_features_extractor = share_features_extractor
        self.head = CategoricalHead(parts.bins, parts.support) if parts.bins else ScalarHead()
        size = get_action_dim(action_space)
        self.register_buffer("waves", draw_waves(size, frequencies, bandwidth))
        self.net = _build(
            n_critics,
            features_dim + size + 2 * frequencies,
            list(net_arch),
            self.head.size,
            activation_fn,
            parts,
        )
        self.project_()

    def outputs(self, obs: PyTorchObs, actions: Tensor, batch: bool = False) -> Tensor:
        """The outputs of the head ``(N, B, K)``; `batch`: by statistics of this batch."""
        learns = torch.is_grad_enabled() and not self.share_features_extractor
        with torch.set_grad_enabled(learns):
            features = self.extract_features(obs, self.features_extractor)
        inputs = torch.cat((features, action_waves(actions, self.waves)), dim=1)
        return self.net(inputs.expand(self.n_critics, *inputs.shape), batch)

    def forward(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """The value of each critic ``(B, 1)``."""
        return tuple(self.head.value(self.outputs(obs, actions)))

    def pair(
        self, target: CriticNet, obs: PyTorchObs, actions: Tensor, after: PyTorchObs, then: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs at (s, a), and without gradient those of the target at (s', a').

        Args:
            target: the target network, or this one if there is none.
            obs, actions: s, a; after, then: s', a'.
        """
        if not self.parts.shares_pass:
            with torch.no_grad():
                later = target.outputs(after, then)
            return self.outputs(obs, actions), later
        both, chosen, rows = _joined(obs, after), torch.cat((actions, then)), len(actions)
        found = self.outputs(both, chosen, batch=True)
        if target is not self:
            with torch.no_grad():
                later = target.outputs(both, chosen, batch=True)[:, rows:]
            return found[:, :rows], later
        return found[:, :rows], found[:, rows:].detach()

    def multiply_in(self, precision: str) -> bool:
        """Let wide layers multiply in "float32" or "bf16"; whether bfloat16 takes effect, which
        needs a processor with AVX512-BF16 and torch 2.11."""
        has: Any = getattr(torch.cpu, "get_capabilities", dict)()
        low = precision == BF16 and bool(has.get("avx512_bf16"))
        layers = [layer for layer in self.net.modules() if isinstance(layer, Linears)]
        for layer in layers:
            layer.in_bfloat16 = low and layer.wide
        return any(layer.in_bfloat16 for layer in layers)

    @torch.no_grad()
    def project_(self) -> None:
        """Scale weights back to their lengths; called after each step of the optimiser."""
        for layer in self.net.modules():
            if getattr(self.parts, getattr(layer, "projected_for", ""), False):
                layer.project_()  # type: ignore[operator]


def _build(
    critics: int,
    inputs: int,
    widths: list[int],
    outputs: int,
    activation: type[nn.Module],
    parts: CriticParts,
) -> Stack:
    """The layers from features and action to the head."""
    kind, before = NORMS[parts.norm], parts.order == "before"
    last = NORMS[parts.last_norm]

    def linear(size: int, out: int, bias: bool) -> Linears:
        return Linears(critics, size, out, bias, orthogonal=parts.unit_weights)

    def normed(size: int) -> list[nn.Module]:
        return [] if kind is None else [kind(critics, size)]

    def layer(size: int, out: int) -> list[nn.Module]:
        """A linear layer with its normalisation and activation."""
        act: nn.Module = Activations(activation)
        if before:
            return [*normed(size), linear(size, out, True), act]
        return [linear(size, out, parts.biased), *normed(out), act]

    def block(size: int) -> nn.Module:
        hidden = EXPANSION * size
        if before:
            return Residuals(*layer(size, hidden), linear(hidden, size, True))
        return Residuals(*layer(size, hidden), *layer(hidden, size))

    layers = normed(inputs) if parts.input_norm else []
    if parts.residual:
        if len(set(widths)) != 1:
            raise ValueError(
                f"net_arch: got {widths}, expected equal widths of one or more residual blocks"
            )
        layers.append(linear(inputs, widths[0], parts.biased))
        layers += [block(width) for width in widths]
    else:
        for size, out in zip([inputs, *widths], widths, strict=False):
            layers += layer(size, out)
    end = widths[-1] if widths else inputs
    if before:
        layers += normed(end)
    if last is not None:
        layers.append(last(critics, end))
    return Stack(*layers, linear(end, outputs, True))


def _joined(obs: Any, after: Any) -> Any:
    """Two batches of observations as one."""
    if isinstance(obs, dict):
        return {key: torch.cat((value, after[key])) for key, value in obs.items()}
    return torch.cat((obs, after))
