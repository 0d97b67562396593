"""Recipes of networks that match pictures and captions."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from jepa_app.checkpoint import load_network
from jepa_app.config import TIJepaConfig
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions, caption_pool
from training.objectives.calibration import Anchors
from training.objectives.resizing import resized_state
from training.objectives.text_cache import TextCache
from training.objectives.ti_jepa import TIJepaLoss, TIJepaObjective
from training.optimisation.schedule import Schedule
from training.peers.dual_encoder import DualEncoder, PeerConfig
from training.peers.dual_encoder_objective import PeerObjective
from training.recipe_kinds.base import OnPictures


@dataclass(frozen=True, kw_only=True)
class TIJepaRecipe(OnPictures):
    """Train TI-JEPA; `init` is a weights folder to start from, even with larger patches or fewer layers.

    `fitted_captions` training captions define the space of sentence features, pairs are compared with `references`
    training pictures, and `calibration_pictures` of one half of the held-out pairs fit the weights of the energy's
    terms and the probability.
    """

    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=6000, batch_size=64, matrix_lr=3e-3, weight_decay=0.05, decay=0.45, validate_pictures=96
        )
    )
    captions: CaptionOptions = field(default_factory=lambda: CaptionOptions(drops=0.35, backgrounds=0.04, scenes=0.04))
    network: TIJepaConfig = field(default_factory=lambda: TIJepaConfig(text_positions=True, foils=True))
    loss: TIJepaLoss = field(default_factory=TIJepaLoss)
    init: str = ""
    ema_decay: float = 0.999
    fitted_captions: int = 2048
    calibration_pictures: int = 288
    references: int = 128

    def build(self, data: CaptionedPictures) -> TIJepaObjective:
        """Fit the space of captions and build the objective.

        Raises:
            ValueError: the initial weights are missing or of another shape.
        """
        network = TIJepa(self.network)
        if self.init:
            old = load_network(Path(self.init), TIJepaConfig, TIJepa)
            network.load_state_dict(resized_state(old.state_dict(), old.config, network.state_dict()))
        anchors = Anchors.of(data, self.calibration_pictures, self.references, self.schedule.seed)
        text = TextCache(TextEncoder.load())
        objective = TIJepaObjective(network, text, anchors, ema_decay=self.ema_decay, loss=self.loss)
        if not self.init:  # trained predictors keep the space that they were trained for
            captions = [caption for index in data.split.train for caption in caption_pool(data.rows[index])]
            count = min(self.fitted_captions, len(captions))
            objective.fit_sentences([captions[place * len(captions) // count] for place in range(count)])
        return objective


@dataclass(frozen=True, kw_only=True)
class PeerRecipe(OnPictures):
    """Train a contrastive peer of TI-JEPA on the same pictures, captions and sizes; batches are twice as large.

    `shift` is the largest shift and change of scale of a picture as a share of its side.
    """

    schedule: Schedule = field(
        default_factory=lambda: replace(TIJepaRecipe().schedule, steps=3000, batch_size=128, validate_pictures=96)
    )
    captions: CaptionOptions = field(default_factory=lambda: TIJepaRecipe().captions)
    network: PeerConfig = field(default_factory=lambda: PeerConfig(text_positions=True, foils=True))
    ema_decay: float = 0.999
    shift: float = 0.12
    calibration_pictures: int = 288

    def build(self, data: CaptionedPictures) -> PeerObjective:
        """Build the objective and set pictures aside to calibrate on."""
        anchors = Anchors.of(data, self.calibration_pictures, 0, self.schedule.seed)
        network, text = DualEncoder(self.network), TextCache(TextEncoder.load())
        return PeerObjective(network, text, anchors, ema_decay=self.ema_decay, shift=self.shift)
