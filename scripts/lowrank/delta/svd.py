"""One matrix factored: all its singular values, and a form from which any of its directions follow.

The Gram matrix G of the shorter side of D, in float64, has the squared singular values of D as
eigenvalues and that side's singular vectors as eigenvectors. Householder reflections bring it to a
tridiagonal T = Q^T G Q; T's eigenvalues cost next to nothing, and so do a few of its eigenvectors,
which Q carries back to eigenvectors of G. Q is kept as its reflectors: the best approximation of
any rank is D projected on its first directions, and no rank needs another factorisation.

Forming the Gram matrix squares the condition number, which float64 affords: a singular value is
good to about 1e-16 (sigma_1 / sigma)^2 relative, 1e-8 at one hundred-thousandth of the largest.
"""

import itertools
from typing import TYPE_CHECKING

from scipy.linalg import eigh_tridiagonal, eigvalsh_tridiagonal, lapack

if TYPE_CHECKING:
    import torch

    Factored = dict[str, torch.Tensor]  # what is kept of a matrix, by name; see `factor`

METHOD = {
    "cpu": "float32 difference, float64 Gram matrix of the shorter side, dsytrd, dsterf, dstemr",
    "cuda": "float32 difference, float64 Gram matrix of the shorter side, eigh",
}


def gram(D: "torch.Tensor", chunk: int = 2240, blocks: int = 4) -> "torch.Tensor":
    """Upper triangle of the float64 Gram matrix of D's shorter side: D^T D, or D D^T if wide.

    D: [m, n] float32. Returns [s, s] float64, s = min(m, n); below the diagonal blocks it is 0.
    `chunk` rows of the longer side are widened to float64 at a time; of the symmetric result only
    the blocks on and above the diagonal are computed, 5/8 of the work with four blocks.
    """
    import torch

    tall = D if D.shape[0] >= D.shape[1] else D.T
    side = tall.shape[1]
    G = torch.zeros(side, side, dtype=torch.float64, device=D.device)
    edges = [side * i // blocks for i in range(blocks + 1)]
    for first in range(0, tall.shape[0], chunk):
        X = tall[first : first + chunk].to(torch.float64)
        for begin, end in itertools.pairwise(edges):
            G[begin:end, begin:].addmm_(X[:, begin:end].T, X[:, begin:])
    return G


def factor(D: "torch.Tensor") -> "Factored":
    """All singular values of D [m, n], and what `directions` needs; s = min(m, n).

    sigma: float64 [s], largest first; values under about 1e-8 of the largest are rounding.
    On a CPU, LAPACK's tridiagonal form (Golub & Van Loan 2013, Matrix computations, 8.3):
    diagonal [s], off_diagonal [s - 1], tau [s - 1], float64, and reflectors, float32 [(s - 1)
    (s - 2) / 2]: one after the other, each without its leading 1. Rounding them turns the
    directions by about 1e-7; tau is made anew from what is kept, so that each remains a
    reflection, and directions stay orthogonal, in float64.
    On a GPU, where a whole eigendecomposition is quick and LAPACK is not at hand: basis, float32
    [s, s], row i the i-th direction.
    """
    import torch

    G = gram(D)
    if D.is_cuda:
        values, vectors = torch.linalg.eigh(G, UPLO="U")
        return {"sigma": singular_values(values).cpu(), "basis": vectors.T.flip(0).float().cpu()}

    side = len(G)
    # LAPACK counts by columns: to it, G's upper triangle is the lower one. It works in G's memory.
    reduced, diagonal, off_diagonal, tau, failed = lapack.dsytrd(
        G.numpy().T, lower=1, lwork=64 * side, overwrite_a=1
    )
    if failed:
        raise ArithmeticError(f"dsytrd: info {failed}")
    values = eigvalsh_tridiagonal(diagonal, off_diagonal, lapack_driver="sterf")
    G = torch.from_numpy(reduced.T).triu_(2).float()  # row i: the i-th reflector
    lengths = G[: side - 1].double().square().sum(1)
    tau = torch.from_numpy(tau)
    return {
        "sigma": singular_values(torch.from_numpy(values)),
        "diagonal": torch.from_numpy(diagonal),
        "off_diagonal": torch.from_numpy(off_diagonal),
        "tau": torch.where(tau == 0, 0, 2 / (1 + lengths)),  # 0: nothing is reflected
        "reflectors": G[_reflector_places(side)],
    }


def singular_values(values: "torch.Tensor") -> "torch.Tensor":
    """Singular values, largest first, of ascending eigenvalues of a Gram matrix."""
    return values.flip(0).clamp_min(0).sqrt()


def _reflector_places(side: int) -> "torch.Tensor":
    import torch

    return torch.ones(side, side, dtype=torch.bool).triu(2)


def directions(kept: "Factored", first: int, stop: int) -> "torch.Tensor":
    """Directions [first, stop) of a factored D [m, n], strongest first: float32 rows of length s.

    Orthonormal; right singular vectors of D, left ones if m < n.
    The eigenvectors of T are found by MRRR, whatever their number (Dhillon, Parlett & Voemel
    2006, The design and implementation of the MRRR algorithm), and multiplied by Q.
    """
    import torch

    if "basis" in kept:
        return kept["basis"][first:stop]
    side = len(kept["diagonal"])
    _, vectors = eigh_tridiagonal(
        kept["diagonal"].numpy(),
        kept["off_diagonal"].numpy(),
        select="i",
        select_range=(side - stop, side - first - 1),
        lapack_driver="stemr",
    )
    vectors = torch.from_numpy(vectors[:, ::-1].copy())
    if side > 1:
        reflectors = torch.zeros(side, side, dtype=torch.float64)
        reflectors[_reflector_places(side)] = kept["reflectors"].double()
        vectors[1:] = torch.ormqr(reflectors.T[1:, :-1], kept["tau"], vectors[1:])
    return vectors.T.float()
