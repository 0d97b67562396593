"""What all recipes share."""

from jepa_app.config import TIJepaConfig, TokenizerConfig


class AnyRecipe:
    """What all recipes share; each lists its own settings in the order in which messages name them."""

    @property
    def fits_without_steps(self) -> bool:
        """Whether the weights are complete before the first step."""
        return False


class OnPictures(AnyRecipe):
    """What the recipes of networks that see pictures share."""

    network: TokenizerConfig | TIJepaConfig

    def image_size(self) -> int:
        """Return the side in pixels of the pictures to train on."""
        return self.network.image_size
