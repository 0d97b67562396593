"""Starting from larger patches: what an enlarged picture shows the old network, the picture shows the new one."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate, pixel_unshuffle

from jepa_app.models.ti_jepa import TIJepa
from tests.models.test_ti_jepa import TINY
from training.objectives.resizing import resized_state

OLD = replace(TINY, patch_size=8)


def test_a_patch_is_read_as_the_old_network_reads_it_enlarged() -> None:
    old, new = TIJepa(OLD), TIJepa(TINY)
    new.load_state_dict(resized_state(old.state_dict(), OLD, new.state_dict()))
    patch = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    enlarged = interpolate(patch, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        new.image_encoder.patch_in(pixel_unshuffle(patch, 4).flatten(1)),
        old.image_encoder.patch_in(pixel_unshuffle(enlarged, 8).flatten(1)),
        atol=1e-5,
        rtol=1e-4,
    )
    corners = new.image_encoder.position[[0, 3, 12, 15]]
    torch.testing.assert_close(corners, old.image_encoder.position)  # two a side: the outermost places keep theirs


def test_the_same_sizes_take_everything_and_a_new_layer_passes_its_input_on() -> None:
    torch.manual_seed(0)
    old, deeper = TIJepa(TINY), TIJepa(replace(TINY, text_depth=2))
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    same = resized_state(old.state_dict(), TINY, TIJepa(TINY).state_dict())
    assert all(torch.equal(value, same[name]) for name, value in old.state_dict().items())
    deeper.load_state_dict(resized_state(old.state_dict(), TINY, deeper.state_dict()))
    text = old.null_features(2)
    torch.testing.assert_close(old.text_head(text), deeper.text_head(text))


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the initial weights have .* the network has"):
        resized_state(TIJepa(TINY).state_dict(), TINY, TIJepa(replace(TINY, width=16)).state_dict())
    with pytest.raises(ValueError, match=r"text_head\.blocks\.1.*no such tensor"):
        resized_state(TIJepa(replace(TINY, text_depth=2)).state_dict(), TINY, TIJepa(TINY).state_dict())
