"""How well the spikes of a simulated session can be predicted at all, from the spikes around them.

    python benchmarks/attainable.py SESSION.npz [--components 30] [--every 5]

An observer that is told what no model can know, and does the best with it: the true log rates'
mean at each time in the trial, their principal components over units, and how those move on from
bin to bin (a linear-Gaussian model fitted to the true log rates of the training trials). From a
test trial's spikes it infers the components (Laplace's approximation, by Newton's method with a
block-tridiagonal solver: Paninski et al., 2010, doi 10.1007/s10827-009-0179-x) and predicts what
was held out. A model that has to learn all this from the same training trials stays below, but for
what a linear-Gaussian model cannot say (on forward prediction that may be much).

The file, as `numpy.savez` writes it, has arrays `spikes` and `rates` (trial, time, unit; counts per
bin), `regions` (unit,), and `train` and `test`, positions of trials. Of all units, every fifth is
predicted.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from ibl_mtm.evaluation.metrics import bits_per_spike

LAST_BINS = 10  # of forward prediction
NEWTON_STEPS = 14
LONGEST_STEP = 1.5  # of any log rate, in one Newton step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("session")
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--every", type=int, default=5, help="predict every so many-th unit")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    data = np.load(arguments.session)
    test, regions = data["test"], data["regions"].astype(str)
    counts = torch.from_numpy(data["spikes"][test].astype(float))
    observer = Observer(torch.from_numpy(data["rates"][data["train"]].astype(float)).log(),
                        arguments.components)  # fmt: skip
    chosen = range(0, len(regions), arguments.every)
    everything = torch.ones_like(counts)
    begin, _ = observer.infer(counts, everything)

    def score_units(seen_by: np.ndarray) -> float:
        """Mean bits/spike; row of `seen_by`: the units from which each chosen one is predicted."""
        scores = []
        for unit, others in zip(chosen, seen_by, strict=True):
            seen = torch.from_numpy(others).expand_as(counts).double()
            rates = observer.rates(*observer.infer(counts, seen, begin), [unit])
            scores.append(bits_per_spike(rates.numpy(), counts[..., [unit]].numpy()))
        return float(np.nanmean(scores))

    same = regions[list(chosen), None] == regions
    itself = np.eye(len(regions), dtype=bool)[list(chosen)]
    print(f"co-smoothing   {score_units(~itself):.3f}", flush=True)
    seen = everything.clone()
    seen[:, -LAST_BINS:] = 0
    rates = observer.rates(*observer.infer(counts, seen), list(range(len(regions))))
    late = (rates[:, -LAST_BINS:].numpy(), counts[:, -LAST_BINS:].numpy())
    print(f"forward        {np.nanmean(bits_per_spike(*late)):.3f}", flush=True)
    print(f"intra-region   {score_units(same & ~itself):.3f}", flush=True)
    print(f"inter-region   {score_units(~same):.3f}")
    true = bits_per_spike(data["rates"][test][..., chosen], counts[..., chosen].numpy())
    print(f"the true rates {np.nanmean(true):.3f}")


class Observer:
    """Components of true log rates, and how they move.

    Parameters
    ----------
    log_rates : Tensor (trial, time, unit)
        Of the training trials.
    n_components
        Number K of principal components.
    """

    def __init__(self, log_rates: Tensor, n_components: int) -> None:
        self.mean = log_rates.mean(0)  # (T, N)
        residual = (log_rates - self.mean).flatten(0, 1)
        _, axes = torch.linalg.eigh(residual.T @ residual)
        self.loading = axes[:, -n_components:]  # (N, K)
        x = (log_rates - self.mean) @ self.loading
        before, after = x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1)
        move = torch.linalg.lstsq(before, after).solution.T
        small = 1e-6 * torch.eye(n_components)
        noise = torch.linalg.inv(torch.cov((after - before @ move.T).T) + small)
        first = torch.linalg.inv(x[:, 0].T @ x[:, 0] / len(x) + small)
        # The prior's precision is block-tridiagonal: these are its blocks.
        n_time = x.shape[1]
        self.next = -move.T @ noise
        self.diagonal = torch.stack([first, *[noise] * (n_time - 1)])
        self.diagonal[:-1] += move.T @ noise @ move
        self.squares = torch.einsum("nk,nl->nkl", self.loading, self.loading).flatten(1)

    def infer(
        self, counts: Tensor, seen: Tensor, begin: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean (trial, time, K) and covariance (trial, time, K, K) given the entries seen."""
        shape = (*counts.shape[:2], self.loading.shape[1])
        x = torch.zeros(shape) if begin is None else begin
        for _ in range(NEWTON_STEPS):
            rates = (self.mean + x @ self.loading.T).exp() * seen
            slope = (counts * seen - rates) @ self.loading - self._prior_times(x)
            step, covariance = self._solve(
                (rates @ self.squares).unflatten(-1, shape[-1:] * 2), slope
            )
            largest = (step @ self.loading.T).abs().amax((1, 2), keepdim=True)
            x = x + step * (LONGEST_STEP / largest.clamp(min=LONGEST_STEP))
        assert largest.max() < 0.01, f"not converged: log rates still move by {largest.max():.2g}"
        return x, covariance

    def rates(self, x: Tensor, covariance: Tensor, units: list[int]) -> Tensor:
        """Expected counts per bin of some units, (trial, time, unit)."""
        c = self.loading[units]
        spread = torch.einsum("nk,btkl,nl->btn", c, covariance, c)
        return (self.mean[:, units] + x @ c.T + spread / 2).exp()

    def _prior_times(self, x: Tensor) -> Tensor:
        product = torch.einsum("tkl,btl->btk", self.diagonal, x)
        product[:, :-1] += x[:, 1:] @ self.next.T
        product[:, 1:] += x[:, :-1] @ self.next
        return product

    def _solve(self, likelihood: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step, and the diagonal blocks of the inverse of the precision."""
        inverse: list[Tensor] = []
        given: list[Tensor] = []
        for t in range(slope.shape[1]):
            block, side = self.diagonal[t] + likelihood[:, t], slope[:, t]
            if t:
                back = self.next.T @ inverse[-1]
                block, side = block - back @ self.next, side - _apply(back, given[-1])
            inverse.append(torch.linalg.inv(block))
            given.append(side)
        step, covariance = [_apply(inverse[-1], given[-1])], [inverse[-1]]
        for block, side in zip(inverse[-2::-1], given[-2::-1], strict=True):
            gain = block @ self.next
            step.append(_apply(block, side - step[-1] @ self.next.T))
            covariance.append(block + gain @ covariance[-1] @ gain.mT)
        return torch.stack(step[::-1], 1), torch.stack(covariance[::-1], 1)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


if __name__ == "__main__":
    main()
