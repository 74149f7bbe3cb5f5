"""Train the network that tells whether an emoji fits its text, on phrasings that no generator is trained on.

python benchmarks/train_text_image.py --out src/unistep/zoo/features/emoji-text-v1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unistep.data import data_config, prepare
from unistep.data.sources import emoji
from unistep.evaluation.hardware import hardware
from unistep.evaluation.text_image import TextImageNetwork, found_among, save_text_image
from unistep.text.encoder import load_text_encoder

CARD = """# emoji-text v1

Tells whether a 64-pixel emoji in colour fits a text: convolutions for the image, the sentence vector of minilm for the
text, a common space of {dim} features (Radford et al. 2021, arXiv 2103.00020, section 2.3).

Trained on the {count:,} pictures of `emoji:train`, with the phrasings {phrasings}, none of which generators of this
project are trained on. {steps} steps of {batch} pictures, {seconds:.0f} s on {hardware}; seed {seed}.

Own text found among 20 (19 others at random from the same split), by the phrasings of training / by those that
generators are trained on:

| pictures | other phrasings | generators' phrasings |
| --- | --- | --- |
| `emoji:train`, which it was trained on | {train:.3f} | {train_theirs:.3f} |
| `emoji:test`, held-out combinations | {test:.3f} | {test_theirs:.3f} |

Chance is 0.05. Licence: Apache-2.0, as the pictures.
"""


def vectors(pictures: list[emoji.Picture], phrasings: tuple[str, ...]) -> Tensor:
    """Sentence vectors of all phrasings, ``[phrasings, n, dim]``."""
    encoder = load_text_encoder("minilm")
    found = []
    for phrasing in phrasings:
        texts = [picture.captions((phrasing,))[0] for picture in pictures]
        found.append(torch.stack([encoded.vectors[0] for encoded in encoder.encode(texts, 2)]))
    return torch.stack(found)


def augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures moved by up to 4 pixels, enlarged or shrunk by a tenth, with other colours and a little noise."""
    b = len(x)
    scale = 1 + 0.1 * (2 * torch.rand(b, generator=generator) - 1)
    shift = (2 * torch.rand(b, 2, generator=generator) - 1) * 8 / x.shape[-1]
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border")
    gain = 1 + 0.15 * torch.randn(b, 3, 1, 1, generator=generator)
    noise = 0.1 * torch.rand(b, 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
    return ((x - 1) * gain + 1 + noise).clamp(-1, 1)


@torch.no_grad()
def accuracy(network: TextImageNetwork, x: Tensor, texts: Tensor) -> float:
    """Share of pictures whose own text is found among 20."""
    network.eval()
    images = torch.cat([network.embed_images(part) for part in x.split(256)])
    generator = torch.Generator().manual_seed(0)
    shares = [found_among(images, torch.arange(len(x)), network.embed_texts(t), generator).mean() for t in texts]
    return float(torch.stack(shares).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    splits = {name: emoji.Emoji(split=name).chosen() for name in ("train", "test")}
    data = {name: prepare(data_config(f"emoji:{name}")) for name in splits}
    x = {name: d.modality.to_signal(torch.from_numpy(d.values[:].copy())) for name, d in data.items()}
    other = {name: vectors(pictures, emoji.OTHER_PHRASINGS) for name, pictures in splits.items()}
    theirs = {name: vectors(pictures, emoji.PHRASINGS) for name, pictures in splits.items()}
    torch.manual_seed(given.seed)
    generator = torch.Generator().manual_seed(given.seed)
    network = TextImageNetwork(in_channels=3, size=64, channels=(24, 48, 96, 96), text_dim=384, dim=128)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=given.steps + 1)
    start = time.perf_counter()
    for step in range(given.steps):
        index = torch.randperm(len(x["train"]), generator=generator)[: given.batch]
        phrasing = torch.randint(len(emoji.OTHER_PHRASINGS), (given.batch,), generator=generator)
        loss = network.train().loss(augmented(x["train"][index], generator), other["train"][phrasing, index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}  loss {loss.item():.3f}  {time.perf_counter() - start:.0f} s", flush=True)
    found = {
        "train": accuracy(network, x["train"], other["train"]),
        "train_theirs": accuracy(network, x["train"], theirs["train"]),
        "test": accuracy(network, x["test"], other["test"]),
        "test_theirs": accuracy(network, x["test"], theirs["test"]),
    }
    card = CARD.format(
        dim=128,
        count=len(x["train"]),
        phrasings=", ".join(f'"{p}"' for p in emoji.OTHER_PHRASINGS),
        steps=given.steps,
        batch=given.batch,
        seconds=time.perf_counter() - start,
        hardware=hardware("cpu"),
        seed=given.seed,
        **found,
    )
    save_text_image(network, given.out, card)
    print(card)


if __name__ == "__main__":
    main()
