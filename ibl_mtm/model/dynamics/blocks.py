"""Block-tridiagonal matrices and quadratic forms, many small ones at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factors", "inverse_of", "quadratic", "weighted_squares"]


@dataclass(frozen=True)
class Factors:
    """Block-tridiagonal matrices, eliminated from the first bin on.

    Attributes
    ----------
    inverses : Tensor (T, B, K, K)
        Of the pivots.
    right : Tensor (K, K)
        The block right of the diagonal, the same everywhere.
    """

    inverses: Tensor
    right: Tensor

    @classmethod
    def empty(cls, z: Tensor, right: Tensor) -> "Factors":
        """Of as many matrices as there are trials in (B, T, K)."""
        B, T, K = z.shape
        return cls(z.new_empty(T, B, K, K), right)

    def solve(self, side: Tensor, rows: Tensor) -> Tensor:
        """Solve some rows for a right-hand side (B, T, K)."""
        every = len(rows) == self.inverses.shape[1]
        inverses = self.inverses if every else self.inverses[:, rows]
        alone: list[Tensor] = []  # what each bin would be without the later ones
        for t, inverse in enumerate(inverses):
            given = side[:, t] - alone[-1] @ self.right if t else side[:, t]
            alone.append(_apply(inverse, given))
        solution = [alone[-1]]
        for inverse, own in zip(inverses[:-1].flip(0), alone[-2::-1], strict=True):
            solution.append(own - _apply(inverse, solution[-1] @ self.right.T))
        return torch.stack(solution[::-1], 1)

    def covariances(self) -> tuple[Tensor, Tensor]:
        """Blocks of the inverse: on the diagonal (B, T, K, K), and right of it (B, T - 1, K, K)."""
        diagonal, beside = [self.inverses[-1]], []
        for inverse in self.inverses[:-1].flip(0):
            gain = inverse @ self.right
            beside.append(-gain @ diagonal[-1])
            diagonal.append(inverse - beside[-1] @ gain.mT)
        between = torch.stack(beside[::-1], 1) if beside else self.inverses[:0].transpose(0, 1)
        return torch.stack(diagonal[::-1], 1), between


def weighted_squares(weights: Tensor, vectors: Tensor) -> Tensor:
    """Sum of w_n v_n v_n^T over n: (..., N), (N, K) -> (..., K, K)."""
    K = vectors.shape[1]
    row, column = torch.tril_indices(K, K, device=vectors.device)
    place = torch.zeros(K, K, dtype=torch.long, device=vectors.device)
    place[row, column] = place[column, row] = torch.arange(len(row), device=vectors.device)
    half = weights @ (vectors[:, row] * vectors[:, column])
    return half.index_select(-1, place.flatten()).unflatten(-1, (K, K))


def quadratic(matrices: Tensor, vectors: Tensor) -> Tensor:
    """v^T M v: (B, T, K, K), and (M, K) or (B, M, K) -> (B, T, M)."""
    if vectors.ndim == 2:
        squares = (vectors[:, :, None] * vectors[:, None, :]).flatten(1)
        return matrices.flatten(2) @ squares.T
    squares = (vectors[..., :, None] * vectors[..., None, :]).flatten(2)
    return matrices.flatten(2) @ squares.mT


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix * vector[..., None, :]).sum(-1)  # for small matrices faster than their product


def inverse_of(matrix: Tensor) -> Tensor:
    """Of positive definite matrices; any other becomes NaN."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.is_cuda or failed.any():  # a GPU would wait to be asked
        factor = factor.masked_fill((failed > 0)[..., None, None], torch.nan)
    return torch.cholesky_inverse(factor)
