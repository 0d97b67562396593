"""TI-JEPA as a transformers model: `TIJepaModel`, its configuration and its processor, registered for `AutoModel`.

    model = TIJepaModel.from_pretrained("weights")
    inputs = TIJepaProcessor.from_pretrained("weights")(images=[picture], text=["red apple", "blue car"])
    model(**inputs).probability  # (1, 2)

Letters in shapes: M pictures, L captions, T text tokens, W = 384 text width, S picture side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoProcessor, BatchFeature, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from jepa_app.checkpoint import AUTO_MAP, load_config, load_state, resolve_weights
from jepa_app.config import TIJepaConfig
from jepa_app.matching.combining import combined, match_probability
from jepa_app.matching.energies import pair_energies
from jepa_app.matching.features import FoilText, caption_features, encode_foils, picture_features
from jepa_app.matching.scoring import as_pixels
from jepa_app.models.blocks import GridPositions
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import check_pixels

PART = "ti-jepa"  # subfolder of a weights folder in this project's own layout


class TIJepaFaceConfig(PretrainedConfig):
    """Holds the settings of a `TIJepaConfig` in `settings`, as a dictionary that can be stored as JSON."""

    model_type = "ti_jepa"

    def __init__(self, settings: dict[str, Any] | None = None, **options: Any) -> None:
        self.settings = settings or TIJepaConfig().to_dict()
        super().__init__(**options)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """Make the configuration from what a `config.json` holds, in this project's own layout or transformers'."""
        if config_dict.get("config") == TIJepaConfig.__name__:
            own = {key: value for key, value in config_dict.items() if key not in ("config", AUTO_MAP)}
            config_dict = {"settings": TIJepaConfig.from_dict(own).to_dict()}
        return super().from_dict(config_dict, **options)

    def network_config(self) -> TIJepaConfig:
        """Return the settings of the network.

        Raises:
            ValueError: a setting is unknown or not allowed.
        """
        return TIJepaConfig.from_dict(self.settings)


@dataclass
class TIJepaOutput(ModelOutput):
    """Scores of all pairs.

    Attributes:
        energy: (M, L) lower is better.
        probability: (M, L) in [0, 1] that picture and caption belong together.
        terms: (M, L, 3 to 12) the terms of the energy: those of `energy_weights`, then those of `foil_weights`.
    """

    energy: Tensor | None = None
    probability: Tensor | None = None
    terms: Tensor | None = None


class TIJepaModel(PreTrainedModel):
    """A trained TI-JEPA that scores pictures with captions; not for training."""

    config_class = TIJepaFaceConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"

    def __init__(self, config: TIJepaFaceConfig) -> None:
        super().__init__(config)
        self.network = TIJepa(config.network_config())
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # Tensors come from the file; only the rotary factors, which the file does not contain, are made here.
        if isinstance(module, GridPositions):
            grid = round((len(module.cos) - 1) ** 0.5)
            fresh = GridPositions(grid, module.cos.shape[1])
            module.cos.copy_(fresh.cos)
            module.sin.copy_(fresh.sin)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: Path | str, *arguments: Any, revision: str | None = None, **options: Any
    ) -> "TIJepaModel":
        """Load a folder or hub id in this project's layout (its part `ti-jepa`), or one that `save_pretrained` wrote.

        `revision` is a branch, tag or commit of a hub id. The other arguments go to `PreTrainedModel.from_pretrained`
        and apply only to the second kind.

        Raises:
            ValueError: the weights are missing, broken, incomplete or of another kind.
        """
        folder, is_own = find_layout(source, revision)
        if is_own:
            settings = load_config(folder, TIJepaConfig)
            model = cls(TIJepaFaceConfig(settings.to_dict()))
            load_state(folder, model.network)
            return model.eval()
        model, facts = super().from_pretrained(folder, *arguments, output_loading_info=True, **options)
        wrong = {kind: sorted(map(str, facts[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if any(wrong.values()):
            raise ValueError(f"the weights in {source} do not match their config ({wrong}); restore the folder")
        assert isinstance(model, cls)
        return model

    @torch.no_grad()
    def forward(
        self,
        pixel_values: Tensor,
        text_tokens: Tensor,
        text_mask: Tensor,
        foil_tokens: Tensor | None = None,
        foil_mask: Tensor | None = None,
        foil_owners: Tensor | None = None,
        foil_differences: Tensor | None = None,
        foil_rows: Tensor | None = None,
    ) -> TIJepaOutput:
        """Score every picture with every caption.

        Args:
            pixel_values: (M, 3, S, S) in [-1, 1].
            text_tokens: (L, T, W) token features of the captions from the frozen text encoder.
            text_mask: (L, T) bool, True on real tokens.
            foil_tokens, foil_mask: the same of the texts of the captions' F foils, for weights that use them.
            foil_owners, foil_differences, foil_rows: (F,) long, the caption of each foil, what it differs in, its text.

        Raises:
            ValueError: the pictures have the wrong size or are not finite, or only some of the foils' inputs are given.
        """
        foil_text = _foil_text((foil_tokens, foil_mask, foil_owners, foil_differences, foil_rows))
        settings = self.network.config
        check_pixels(pixel_values, settings.image_size)
        pictures = picture_features(self.network, pixel_values)
        captions = caption_features(self.network, TextFeatures(text_tokens, text_mask), foil_text)
        terms = pair_energies(self.network, pictures, captions).stacked()
        energy = combined(settings, terms)
        return TIJepaOutput(energy=energy, probability=match_probability(settings, energy), terms=terms)


class TIJepaProcessor:
    """Turns pictures and captions into the inputs of `TIJepaModel`; with `foils` also those of the captions' foils."""

    def __init__(self, image_size: int, text_encoder: TextEncoder, *, foils: bool = False) -> None:
        self.image_size = image_size
        self.foils = foils
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(cls, source: Path | str, revision: str | None = None, **options: Any) -> "TIJepaProcessor":  # noqa: ARG003
        """Make the processor for weights in either layout; the text encoder is installed with the requirements.

        `revision` is a branch, tag or commit of a hub id. What else `AutoProcessor` passes on does not apply.

        Raises:
            ValueError: the weights are missing or of another kind.
        """
        folder, is_own = find_layout(source, revision)
        if is_own:
            settings = load_config(folder, TIJepaConfig)
        else:
            config = TIJepaFaceConfig.from_pretrained(folder)
            assert isinstance(config, TIJepaFaceConfig)
            settings = config.network_config()
        return cls(settings.image_size, TextEncoder.load(), foils=settings.foils)

    def __call__(self, images: Sequence[Image.Image] | Tensor, text: Sequence[str]) -> BatchFeature:
        """Return `pixel_values` (M, 3, S, S) in [-1, 1], `text_tokens` (L, T, W) and `text_mask` (L, T).

        Where captions have foils that the weights use, their inputs are there too, as `TIJepaModel.forward` names them.
        If a picture is not square, its central square is used; transparency is composited on white.

        Raises:
            ValueError: there is no picture or no caption, or a caption is too long.
        """
        if not len(images) or not text:
            raise ValueError(f"got {len(images)} pictures and {len(text)} captions; allowed: at least one of each")
        features = self.text_encoder.encode(text)
        pixels = as_pixels(images, self.image_size)
        inputs = {"pixel_values": pixels, "text_tokens": features.tokens, "text_mask": features.mask}
        made = encode_foils(text, partial(self.text_encoder.encode, cuts=True)) if self.foils else None
        if made is not None:
            inputs |= {
                "foil_tokens": made.text.tokens,
                "foil_mask": made.text.mask,
                "foil_owners": made.owners,
                "foil_differences": made.differences,
                "foil_rows": made.rows,
            }
        return BatchFeature(inputs)


def _foil_text(inputs: tuple[Tensor | None, ...]) -> FoilText | None:
    given = [tensor for tensor in inputs if tensor is not None]
    if given and len(given) < len(inputs):
        raise ValueError("only some of the inputs foil_... are given; allowed: all that the processor makes, or none")
    return FoilText(TextFeatures(*given[:2]), *given[2:]) if given else None


def find_layout(source: Path | str, revision: str | None = None) -> tuple[Path, bool]:
    """Return the folder that holds TI-JEPA's weights, and whether it is in this project's layout or transformers'.

    Raises:
        ValueError: the source is no folder, and cannot be downloaded.
    """
    folder = resolve_weights(source, revision, (PART,), ("config.json", "model.safetensors"))
    if (folder / PART).is_dir():
        return folder / PART, True
    path = folder / "config.json"
    return folder, not (path.is_file() and '"model_type"' in path.read_text(encoding="utf-8"))


AutoConfig.register(TIJepaFaceConfig.model_type, TIJepaFaceConfig)
AutoModel.register(TIJepaFaceConfig, TIJepaModel)
AutoProcessor.register(TIJepaFaceConfig, TIJepaProcessor)
