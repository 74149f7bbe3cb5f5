r"""How well denoisers know details: their error at each noise level, beside that of the best linear filter.

    python benchmarks/details.py base-64 runs/teacher --data folder:my_pictures --held-out folder:others

The error is the root mean square of :math:`D(x + \sigma z) - x` over the positions of held-out images that have
something to tell: those whose 5 x 5 neighbourhood is not of one colour. The linear filter (Wiener's) has the covariance
of the 7 x 7 neighbourhoods of such positions in the data: a network that does no better has learned no more than that
of details, and its samples are covered with noise of the data's colours. Conditions are left out.

References:
    Karras et al. 2022, arXiv 2206.00364, equation 2, of which this is the square root without a weight.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

import unistep
from unistep.data import DataConfig, Dataset, data_config, prepare
from unistep.evaluation.hardware import hardware
from unistep.precision import autocast

LEVELS = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 5.0)
SIDE = 7
"""Side of the neighbourhood that the filter sees."""


def signals(data: Dataset, num: int) -> Tensor:
    """Images spread over the data, ``[num, channels, height, width]``."""
    chosen = [i * len(data) // num for i in range(min(num, len(data)))]
    return data.modality.to_signal(data.batch(chosen, None)[0])


def busy(x: Tensor) -> Tensor:
    """Where the neighbourhood is not of one colour, ``[n, 1, height, width]``."""
    spread = F.max_pool2d(x, 5, 1, 2) + F.max_pool2d(-x, 5, 1, 2)
    return (spread.amax(dim=1, keepdim=True) > 0.04).float()


def neighbourhoods(x: Tensor) -> Tensor:
    """The values around each position, ``[n, channels * 49, height * width]``."""
    return F.unfold(F.pad(x, (SIDE // 2,) * 4, mode="replicate"), SIDE)


def wiener(known: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """``noisy`` after the linear filter of ``known`` images."""
    rows = neighbourhoods(known).permute(0, 2, 1)[busy(known).flatten(1) > 0]
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:200_000]]
    mean, covariance = rows.mean(dim=0), torch.cov(rows.T)
    area = SIDE * SIDE
    middle = torch.arange(known.shape[1]) * area + area // 2
    gain = covariance[middle] @ torch.linalg.inv(covariance + sigma**2 * torch.eye(len(covariance)))
    found = gain @ (neighbourhoods(noisy) - mean[:, None]) + mean[middle][:, None]
    return found.view_as(noisy)


@torch.no_grad()
def denoised(generator: unistep.Generator, noisy: Tensor, sigma: float) -> Tensor:
    """``noisy`` after one call of a denoiser, in parts."""
    parts = []
    for part in noisy.split(32):
        t = generator.map.path.time_at(torch.full((len(part),), sigma))
        with autocast(generator.precision, generator.device):
            parts.append(generator.map(part, t).float())
    return torch.cat(parts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--num", type=int, default=96, help="held-out images")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def read(source: str, num: int) -> Tensor:
        config: DataConfig = data_config(source, size=args.size, channels=3)
        return signals(prepare(config, progress=False), num)

    known, x0 = read(args.data, 1_000), read(args.held_out, args.num)
    where = busy(x0)
    models = {name: unistep.load(name) for name in args.models}
    print(
        f"{hardware(torch.device('cpu'))}; {len(x0)} images of {args.held_out}, {where.mean():.0%} of their positions"
    )
    width = max(12, *(len(name) for name in models)) if models else 12
    print(f"{'noise':<8}{'linear':>{width}}" + "".join(f"  {name:>{width}}" for name in models))
    for sigma in LEVELS:
        noisy = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        answers = [wiener(known, noisy, sigma), *(denoised(model, noisy, sigma) for model in models.values())]
        errors = [((answer - x0).square() * where).sum() / where.sum() / x0.shape[1] for answer in answers]
        print(f"{sigma:<8}" + "  ".join(f"{float(error.sqrt()):>{width}.4f}" for error in errors))


if __name__ == "__main__":
    main()
