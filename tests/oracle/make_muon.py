"""Three steps of Muon, by NumPy alone, in f64.

    python tests/oracle/make_muon.py > tests/oracle/muon.json

As its authors write it (https://kellerjordan.github.io/posts/muon/), for
weights [out, in]: momentum, Nesterov's look ahead, five Newton-Schulz steps on
the matrix or, if it is tall, on its transpose, the scale
sqrt(max(1, out / in)), decoupled decay. A matrix is transposed on the way in
and out, because the library's are [in, out]. The library sums a norm in another
order and multiplies (aI + bA + cA^2)X in one product, so its last digits differ.
"""

import json

import numpy as np

STEPS, LR, DECAY, MOMENTUM = 3, 0.02, 0.1, 0.95
# A map to more numbers, one to fewer, one to as many.
SHAPES = {"wide": (3, 8), "tall": (7, 4), "square": (5, 5)}


def orthogonalize(g):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(w, buffer, g):
    """w, g: [out, in]"""
    buffer = MOMENTUM * buffer + g
    update = orthogonalize(g + MOMENTUM * buffer)
    update = update * max(1.0, w.shape[0] / w.shape[1]) ** 0.5
    return w * (1.0 - LR * DECAY) - LR * update, buffer


def main():
    rng = np.random.default_rng(14)
    out = {"lr": LR, "decay": DECAY, "matrices": []}
    for name, shape in SHAPES.items():
        w = rng.standard_normal(shape)
        grads = rng.standard_normal((STEPS, *shape))
        matrix = {"name": name, "shape": shape, "theta": [w.ravel().tolist()]}
        matrix["grads"] = [g.ravel().tolist() for g in grads]
        theta, buffer = w.T, np.zeros(shape).T
        for g in grads:
            theta, buffer = muon(theta, buffer, g.T)
            matrix["theta"].append(theta.T.ravel().tolist())
        matrix["momentum"] = buffer.T.ravel().tolist()
        out["matrices"].append(matrix)
    print(json.dumps(out))


main()
