#!/usr/bin/env python3
"""The scenarios of `cargo bench` in NumPy, to the same JSON.

    python3 benches/peers/numpy_moe.py --out numpy.json
    python3 benches/peers/numpy_moe.py --check tests/oracle/tiny
    moe bench-report target/scenarios.json numpy.json

The same model, sizes and inputs, with a backward by hand; one thread unless the
scenario says more. Nothing loops over tokens, and nothing large is allocated in
a step: products are BLAS's, an expert takes the rows that chose it, all queries
of a key/value head are one product, a pair of a rotary position is one complex
number, and the optimizer goes over all parameters in blocks that fit into a
cache. Medians of as many runs as fit into --seconds, after warm-up. Two models
at once are two processes.

--check compares the logits, the losses, every gradient and three steps of the
optimizer with a reference directory in float64, and the gradient with central
differences.
"""

import json
import math
import os
import sys

import common
import numpy as np
from numpy import add, divide, dot, exp, matmul, multiply, subtract

np.seterr(over="ignore")  # σ(−100) is 1/(1 + ∞)
ROWS = 64  # queries that are attended, and logits that are made, at a time
BLOCK = 32768  # parameters of a step at a time
FEW = 65536  # numbers that are not worth a loop over experts


class Buffers:
    """Memory that is asked for once and by name; a name has one shape."""

    def __init__(self, dtype):
        self.dtype, self.all = dtype, {}

    def __call__(self, name, *shape, dtype=None):
        b = self.all.get(name)
        if b is None:
            b = self.all[name] = np.empty(shape, dtype or self.dtype)
        return b


def layout(c):
    """Name and shape of each parameter; first those that decay. The weights of
    a layer that share an input are one matrix, those of all experts too."""
    d, f, e = c["hidden"], c["inter"], c["experts"]
    wide = c["heads"] * c["head"]
    for i in range(c["layers"]):
        yield f"{i}.qkv", (d, wide + 2 * c["kv"] * c["head"])
        yield f"{i}.o", (wide, d)
        yield f"{i}.gate", (e, d)
        yield f"{i}.w13", (e, 2, d, f)
        yield f"{i}.w2", (e, f, d)
    yield "head", (d, c["vocab"])
    yield "embed", (c["vocab"], d)
    for i in range(c["layers"]):
        yield f"{i}.norm1", (d,)
        yield f"{i}.norm2", (d,)
    yield "norm", (d,)


def views(c, flat):
    at, found = 0, {}
    for name, shape in layout(c):
        n = int(np.prod(shape))
        found[name] = flat[at:at + n].reshape(shape)
        at += n
    return found


class Model:
    def __init__(self, c, b, t, dtype=np.float32):
        self.c, self.b, self.t, self.n = c, b, t, b * t
        self.eps = c.get("eps", 1e-5)
        self.buffers = Buffers(dtype)
        sizes = {name: int(np.prod(s)) for name, s in layout(c)}
        self.size = sum(sizes.values())
        flat_first = list(sizes).index("embed")
        self.decays = sum(list(sizes.values())[:flat_first])
        self.flat = np.random.default_rng(common.SEED).standard_normal(
            self.size, dtype=dtype)
        self.flat *= 0.02
        self.p = views(c, self.flat)
        for name, p in self.p.items():
            if p.ndim == 1:
                p[:] = 1

        # Queries and keys are turned pair by pair; the scale of the scores
        # is part of the queries' factors. [T, heads·d/2]
        g, half = c["heads"] // c["kv"], c["head"] // 2
        rate = c.get("theta", 1e4) ** (-np.arange(half) / half)
        turn = np.exp(1j * np.outer(np.arange(t), rate))
        turn = turn.astype(np.result_type(dtype, np.complex64))
        self.turn_q = np.tile(turn, g) * dtype(c["head"] ** -0.5)
        self.turn_k = turn
        self.back_q, self.back_k = self.turn_q.conj(), self.turn_k.conj()
        # -inf where a key is later than the query: [keys, queries·g]
        self.rows = min(t, ROWS)
        late = np.arange(self.rows)
        late = np.where(late[:, None] > late, -np.inf, 0).astype(dtype)
        self.late = late.repeat(g, 1)
        self.every = np.arange(self.n)
        self.ones = np.ones(max(self.n, c["vocab"]), dtype)

    # Norm

    def norm(self, x, gain, key):
        """y = gain·x·r, r = 1/√(mean x² + ε)."""
        buf, (n, d) = self.buffers, x.shape
        r = np.vecdot(x, x, out=buf(key + "r", n))
        r *= 1 / d
        r += self.eps
        np.sqrt(r, out=r)
        divide(1, r, out=r)
        x_hat = multiply(x, r[:, None], out=buf(key + "x", n, d))
        return multiply(x_hat, gain, out=buf(key + "y", n, d))

    def norm_backward(self, dy, gain, dgain, key, dx):
        """Adds to dx; overwrites dy."""
        buf, (n, d) = self.buffers, dy.shape
        x_hat, r = buf(key + "x", n, d), buf(key + "r", n)
        t = multiply(dy, x_hat, out=buf("norm", n, d))
        dot(self.ones[:n], t, out=dgain)
        dy *= gain
        along = np.vecdot(dy, x_hat, out=buf("along", n))
        along *= 1 / d
        multiply(x_hat, along[:, None], out=t)
        dy -= t
        dy *= r[:, None]
        dx += dy

    # Attention. k key/value heads, each for g queries of a position.

    def heads(self, name):
        """A buffer, and its queries, keys and values: [b, k, t, width]."""
        found = self.buffers.all.get(name + "heads")
        if found is None:
            c, (b, t) = self.c, (self.b, self.t)
            k, wide = c["kv"], c["heads"] * c["head"]
            ends = wide, wide + k * c["head"]
            x = self.buffers(name, self.n, ends[1] + k * c["head"])
            parts = np.split(x.reshape(b, t, -1), ends, axis=-1)
            found = x, *(y.reshape(b, t, k, -1).swapaxes(1, 2) for y in parts)
            self.buffers.all[name + "heads"] = found
        return found

    def scores(self, name, end, m):
        """As much of a buffer as m columns of `end` keys take."""
        c, b, t = self.c, self.b, self.t
        most = b * c["heads"] * t * self.rows
        shape = b, c["kv"], end, m
        return self.buffers(name, most)[:math.prod(shape)].reshape(shape)

    def attention(self, h, i, key):
        c, buf, (b, t) = self.c, self.buffers, (self.b, self.t)
        k, dh, g = c["kv"], c["head"], c["heads"] // c["kv"]
        qkv, q0, k0, v = self.heads(key + "qkv")
        dot(h, self.p[f"{i}.qkv"], out=qkv)
        q = buf(key + "q", b, k, t, g * dh)
        kk = buf(key + "k", b, k, t, dh)
        pairs = self.turn_q.dtype
        multiply(q0.view(pairs), self.turn_q, out=q.view(pairs))
        multiply(k0.view(pairs), self.turn_k, out=kk.view(pairs))
        o = buf(key + "o", b, k, t, g * dh)
        for at in range(0, t, self.rows):
            # scores: [b, k, keys, queries·g]
            end = min(at + self.rows, t)
            m = (end - at) * g
            s = self.scores(f"{key}s{at if key else ''}", end, m)
            matmul(kk[:, :, :end],
                   q[:, :, at:end].reshape(b, k, m, dh).swapaxes(-1, -2),
                   out=s)
            s[:, :, at:] += self.late[:end - at, :m]
            some = np.maximum.reduce(s, axis=2, keepdims=True)
            subtract(s, some, out=s)
            exp(s, out=s)
            add.reduce(s, axis=2, keepdims=True, out=some)
            divide(1, some, out=some)
            s *= some
            matmul(s.swapaxes(-1, -2), v[:, :, :end],
                   out=o[:, :, at:end].reshape(b, k, m, dh))
        mix = o.swapaxes(1, 2).reshape(self.n, -1)
        if k > 1:
            buf.all[key + "mix"] = mix
        w = self.p[f"{i}.o"]
        return dot(mix, w, out=buf("attended", self.n, w.shape[1]))

    def attention_backward(self, dy, h, i, key, g_):
        c, buf, (b, t) = self.c, self.buffers, (self.b, self.t)
        k, dh, g = c["kv"], c["head"], c["heads"] // c["kv"]
        q = buf(key + "q", b, k, t, g * dh)
        kk = buf(key + "k", b, k, t, dh)
        o = buf(key + "o", b, k, t, g * dh)
        v = self.heads(key + "qkv")[3]
        mix = o.reshape(self.n, -1) if k == 1 else buf.all[key + "mix"]
        dot(mix.T, dy, out=g_[f"{i}.o"])
        do = dot(dy, self.p[f"{i}.o"].T, out=buf("dmix", self.n, k * g * dh))
        do = do.reshape(b, t, k, g * dh).swapaxes(1, 2)
        if k > 1:
            do = np.ascontiguousarray(do)
        along = np.vecdot(do.reshape(b, k, t * g, dh),
                          o.reshape(b, k, t * g, dh),
                          out=buf("do_o", b, k, t * g))
        dqkv, dq0, dk0, dv = self.heads("dqkv")
        dq = buf("dq", b, k, t, g * dh)
        dk = buf("dk", b, k, t, dh)
        for at in range(0, t, self.rows):
            end = min(at + self.rows, t)
            m = (end - at) * g
            p = self.scores(f"{key}s{at}", end, m)
            do_ = do[:, :, at:end].reshape(b, k, m, dh)
            q_ = q[:, :, at:end].reshape(b, k, m, dh)
            ds = matmul(v[:, :, :end], do_.swapaxes(-1, -2),
                        out=self.scores("ds", end, m))
            ds -= along[:, :, None, at * g:end * g]
            ds *= p
            matmul(ds.swapaxes(-1, -2), kk[:, :, :end],
                   out=dq[:, :, at:end].reshape(b, k, m, dh))
            if end == self.rows:  # the first
                matmul(p, do_, out=dv[:, :, :end])
                matmul(ds, q_, out=dk[:, :, :end])
            else:
                dv[:, :, at:end], dk[:, :, at:end] = 0, 0
                dv[:, :, :end] += matmul(p, do_)
                dk[:, :, :end] += matmul(ds, q_)
        pairs = self.turn_q.dtype
        multiply(dq.view(pairs), self.back_q, out=dq0.view(pairs))
        multiply(dk.view(pairs), self.back_k, out=dk0.view(pairs))
        dot(h.T, dqkv, out=g_[f"{i}.qkv"])
        return dot(dqkv, self.p[f"{i}.qkv"].T, out=buf("dh", *h.shape))

    # Experts. Pairs of a row and an expert are in the experts' order; place
    # [top_k, n] is where those of a row stand.

    def route(self, h, i, key):
        c, buf, n = self.c, self.buffers, self.n
        e, k = c["experts"], c["top_k"]
        p = dot(self.p[f"{i}.gate"], h.T, out=buf(key + "p", e, n))
        some = np.maximum.reduce(p, axis=0)
        p -= some
        exp(p, out=p)
        add.reduce(p, axis=0, out=some)
        p /= some
        rest = buf("rest", e, n)
        rest[:] = p
        flat = rest.reshape(-1)
        chosen = buf(key + "chosen", k, n, dtype=np.intp)
        for j in range(k):
            at = rest.argmax(axis=0, out=chosen[j])
            at *= n
            at += self.every
            flat[at] = -1  # no probability
        mask = rest < 0
        order = mask.reshape(-1).cumsum(dtype=np.intp)
        order -= 1
        place = order.take(chosen, out=buf(key + "place", k, n, dtype=np.intp),
                           mode="clip")
        ends = (order[n - 1::n] + 1).tolist()
        row = buf(key + "row", k * n, dtype=np.intp)
        row[place] = self.every
        w = p.take(chosen, out=buf(key + "w", k, n), mode="clip")
        some = add.reduce(w, axis=0, out=buf(key + "sum", n))
        w /= some
        parts = [slice(a, b) for a, b in zip([0] + ends, ends)]
        return parts, row, place, w

    def swiglu(self, s, u, act, key, train):
        """act = silu(u₁)·u₃ of the rows s."""
        u1, u3, a = u[0, s], u[1, s], act[s]
        if not train:
            np.negative(u1, out=a)
            exp(a, out=a)
            a += 1
            divide(u1, a, out=a)
            a *= u3
            return
        sig = self.buffers(key + "sig", *act.shape)[s]
        silu = self.buffers(key + "silu", *act.shape)[s]
        np.negative(u1, out=sig)
        exp(sig, out=sig)
        sig += 1
        divide(1, sig, out=sig)
        multiply(u1, sig, out=silu)
        multiply(silu, u3, out=a)

    def experts(self, h, i, key, train):
        c, buf, (n, d) = self.c, self.buffers, h.shape
        routed = parts, row, place, w = self.route(h, i, key)
        buf.all[key + "routed"] = routed
        many, f = len(row), c["inter"]
        x = h.take(row, axis=0, out=buf(key + "rows", many, d), mode="clip")
        u, act = buf(key + "u", 2, many, f), buf(key + "act", many, f)
        y = buf("expert", many, d)
        w13, w2 = self.p[f"{i}.w13"], self.p[f"{i}.w2"]
        few = many * f < FEW
        for e, s in enumerate(parts):
            matmul(x[s], w13[e], out=u[:, s])
            if not few:
                self.swiglu(s, u, act, key, train)
                dot(act[s], w2[e], out=y[s])
        if few:
            self.swiglu(slice(None), u, act, key, train)
            for e, s in enumerate(parts):
                dot(act[s], w2[e], out=y[s])
        y = y.take(place, axis=0, out=buf(key + "placed", c["top_k"], n, d),
                   mode="clip")
        out = multiply(y[0], w[0, :, None], out=buf("mixed", n, d))
        for j in range(1, c["top_k"]):
            out += multiply(y[j], w[j, :, None], out=buf("weighted", n, d))
        return out

    def experts_backward(self, dy, h, i, key, g, aux):
        c, buf, (n, d) = self.c, self.buffers, h.shape
        e, k, f = c["experts"], c["top_k"], c["inter"]
        parts, row, place, w = buf.all[key + "routed"]
        many = len(row)
        x = buf(key + "rows", many, d)
        u, act = buf(key + "u", 2, many, f), buf(key + "act", many, f)
        sig, silu = buf(key + "sig", many, f), buf(key + "silu", many, f)
        y = buf(key + "placed", k, n, d)
        w_row = buf("w_row", many)
        w_row[place] = w
        dw = np.vecdot(y, dy, out=buf("dw", k, n))
        dout = dy.take(row, axis=0, out=buf("dout", many, d), mode="clip")
        dout *= w_row[:, None]
        da, du = buf("da", many, f), buf("du", 2, many, f)
        dx, dx3 = buf("dx", many, d), buf("dx3", many, d)
        w13, w2 = self.p[f"{i}.w13"], self.p[f"{i}.w2"]
        dw13, dw2 = g[f"{i}.w13"], g[f"{i}.w2"]

        def swiglu(s):
            # silu' = σ + silu·(1 − σ)
            multiply(da[s], silu[s], out=du[1, s])
            da[s] *= u[1, s]
            t = subtract(1, sig[s], out=du[0, s])
            t *= silu[s]
            t += sig[s]
            t *= da[s]

        def weights(e, s):
            dot(act[s].T, dout[s], out=dw2[e])
            matmul(x[s].T, du[:, s], out=dw13[e])
            dot(du[0, s], w13[e, 0].T, out=dx[s])
            dot(du[1, s], w13[e, 1].T, out=dx3[s])

        few = many * f < FEW
        for e_, s in enumerate(parts):
            dot(dout[s], w2[e_].T, out=da[s])
            if not few:
                swiglu(s)
                weights(e_, s)
        if few:
            swiglu(slice(None))
            for e_, s in enumerate(parts):
                weights(e_, s)
        dx += dx3
        # the router: weights, balance, softmax
        along = add.reduce(dw * w, axis=0, out=buf("along", n))
        dw -= along
        dw /= buf(key + "sum", n)
        p, dp = buf(key + "p", e, n), buf("dp", e, n)
        share = np.array([s.stop - s.start for s in parts]) / many
        self.balance += e / n * float(dot(share, dot(p, self.ones[:n])))
        dp[:] = (aux * e / n * share)[:, None]
        dp.reshape(-1)[buf(key + "chosen", k, n, dtype=np.intp)] += dw
        add.reduce(p * dp, axis=0, out=along)
        dp -= along
        dp *= p
        dot(dp, h, out=g[f"{i}.gate"])
        dh = dot(dp.T, self.p[f"{i}.gate"], out=buf("dh", n, d))
        placed = dx.take(place, axis=0, out=buf("placed", k, n, d),
                         mode="clip")
        for j in range(k):
            dh += placed[j]
        return dh

    # The whole

    def hidden(self, ids, train):
        """Up to the last norm. Without training all layers share memory."""
        buf, p = self.buffers, self.p
        x = p["embed"].take(ids, axis=0, mode="clip",
                            out=buf("x", self.n, self.c["hidden"]))
        for i in range(self.c["layers"]):
            key = f"{i}." if train else ""
            h = self.norm(x, p[f"{i}.norm1"], key + "1")
            x += self.attention(h, i, key)
            h = self.norm(x, p[f"{i}.norm2"], key + "2")
            x += self.experts(h, i, key, train)
        return self.norm(x, p["norm"], "")

    def logits(self, ids):
        h = self.hidden(ids, False)
        return dot(h, self.p["head"],
                   out=self.buffers("z", self.n, self.c["vocab"]))

    def gradient(self, ids, targets, g, aux=common.AUX):
        """The mean loss; all gradients into g."""
        buf, p, c, n = self.buffers, self.p, self.c, self.n
        d, v = c["hidden"], c["vocab"]
        h = self.hidden(ids, True)
        z, dx = buf("z", n, v), buf("dstream", n, d)
        loss = 0.0
        for at in range(0, n, ROWS):
            # ∂loss/∂z = (softmax − the target)/n
            s = z[at:at + ROWS]
            dot(h[at:at + ROWS], p["head"], out=s)
            some = np.maximum.reduce(s, axis=1)
            s -= some[:, None]
            here = self.every[:len(s)], targets[at:at + ROWS]
            loss -= float(add.reduce(s[here]))
            exp(s, out=s)
            dot(s, self.ones[:v], out=some)
            loss += float(add.reduce(np.log(some)))
            some *= n
            divide(1, some, out=some)
            s *= some[:, None]
            s[here] -= 1 / n
        dot(h.T, z, out=g["head"])
        dh = dot(z, p["head"].T, out=buf("dh", n, d))
        dx[:] = 0
        self.norm_backward(dh, p["norm"], g["norm"], "", dx)
        self.balance = 0.0
        for i in reversed(range(c["layers"])):
            key = f"{i}."
            h = buf(key + "2y", n, d)
            dh = self.experts_backward(dx, h, i, key, g, aux)
            self.norm_backward(
                dh, p[f"{i}.norm2"], g[f"{i}.norm2"], key + "2", dx)
            h = buf(key + "1y", n, d)
            dh = self.attention_backward(dx, h, i, key, g)
            self.norm_backward(
                dh, p[f"{i}.norm1"], g[f"{i}.norm1"], key + "1", dx)
        # a row of the embedding for each token that occurs
        order = ids.argsort(kind="stable")
        ids = ids[order]
        first = buf("first", n, dtype=bool)
        first[0] = True
        np.not_equal(ids[1:], ids[:-1], out=first[1:])
        first = np.flatnonzero(first)
        g["embed"][:] = 0
        g["embed"][ids[first]] = add.reduceat(dx[order], first, axis=0)
        return loss / n


class Decoder:
    """One token after another, with the keys and values of those before."""

    def __init__(self, model):
        c, t = model.c, model.t
        self.model, self.at = model, 0
        shape = c["layers"], c["kv"], t, c["head"]
        self.keys = np.empty(shape, model.flat.dtype)
        self.values = np.empty(shape, model.flat.dtype)

    def norm(self, x, gain):
        h = x * (1 / math.sqrt(float(dot(x, x)) / len(x) + self.model.eps))
        h *= gain
        return h

    def step(self, token):
        c, p, at = self.model.c, self.model.p, self.at
        k, dh, wide = c["kv"], c["head"], c["heads"] * c["head"]
        q_turn, k_turn = self.model.turn_q[at], self.model.turn_k[at]
        pairs = q_turn.dtype
        self.at = end = at + 1
        x = p["embed"][token].copy()
        for i in range(c["layers"]):
            z = dot(self.norm(x, p[f"{i}.norm1"]), p[f"{i}.qkv"])
            q, kk, v = z[:wide], z[wide:wide + k * dh], z[wide + k * dh:]
            q = q.view(pairs).reshape(k, -1) * q_turn
            keys, values = self.keys[i], self.values[i]
            multiply(kk.view(pairs).reshape(k, -1), k_turn,
                     out=keys[:, at].view(pairs))
            values[:, at] = v.reshape(k, dh)
            s = matmul(q.view(x.dtype).reshape(k, -1, dh),
                       keys[:, :end].swapaxes(1, 2))
            s -= np.maximum.reduce(s, axis=-1, keepdims=True)
            exp(s, out=s)
            s /= add.reduce(s, axis=-1, keepdims=True)
            x += dot(matmul(s, values[:, :end]).ravel(), p[f"{i}.o"])
            h = self.norm(x, p[f"{i}.norm2"])
            s = dot(p[f"{i}.gate"], h)
            s -= np.maximum.reduce(s)
            exp(s, out=s)
            best = s.argpartition(-c["top_k"])[-c["top_k"]:]
            s = s[best]
            s /= add.reduce(s)
            for e, w in zip(best.tolist(), s.tolist()):
                u, u3 = matmul(h, p[f"{i}.w13"][e])
                t = np.negative(u)
                exp(t, out=t)
                t += 1
                u /= t
                u *= u3
                u *= w
                x += dot(u, p[f"{i}.w2"][e])
        return dot(self.norm(x, p["norm"]), p["head"])


class AdamW:
    """Holds m/(1 − β₁) and v/(1 − β₂), which saves a pass over each."""

    def __init__(self, model, decays):
        """The first so many parameters decay."""
        dtype, size = model.flat.dtype, model.size
        self.g = np.zeros(size, dtype)
        self.m, self.v = np.zeros(size, dtype), np.zeros(size, dtype)
        self.done, self.blocks = 0, []
        at = 0
        while at < size:
            end = min(at + BLOCK, decays if at < decays else size)
            self.blocks.append((at < decays, [a[at:end] for a in (
                model.flat, self.g, self.m, self.v)]))
            at = end
        self.some = np.empty(min(BLOCK, size), dtype)

    def step(self, rate=common.RATE):
        (b1, b2), self.done = common.BETAS, self.done + 1
        norm = float(np.sqrt(dot(self.g, self.g)))
        scale = min(1.0, common.CLIP / (norm + 1e-6))
        c1 = (1 - b1) / (1 - b1 ** self.done)
        c2 = ((1 - b2) / (1 - b2 ** self.done)) ** 0.5
        keep, eps = 1 - rate * common.DECAY, common.EPS / c2
        rate *= c1 / c2
        for decays, (p, g, m, v) in self.blocks:
            t = self.some[:len(p)]
            multiply(g, scale, out=t)
            m *= b1
            m += t
            t *= t
            v *= b2
            v += t
            np.sqrt(v, out=t)
            t += eps
            divide(m, t, out=t)
            t *= rate
            if decays:
                p *= keep
            p -= t
        return norm


def inputs(c, b, t):
    i = np.arange(b * t)
    return i % c["vocab"], (i + 1) % c["vocab"]


def forward(c, b, t):
    model, (ids, _) = Model(c, b, t), inputs(c, b, t)
    return lambda: model.logits(ids)


def cold(c, b, t):
    return lambda: forward(c, b, t)()


def train(c, b, t):
    model, (ids, targets) = Model(c, b, t), inputs(c, b, t)
    adam = AdamW(model, model.decays)
    g = views(c, adam.g)

    def run():
        loss = model.gradient(ids, targets, g)
        adam.step()
        return loss

    return run


def decode(c, b, t):
    decoder = Decoder(Model(c, b, t))

    def run():
        decoder.at, token = 0, 0
        for _ in range(t):
            z = decoder.step(token)
            token = int(z.argmax())
        return z

    return run


def normal(*shape):
    return np.random.default_rng(common.SEED).standard_normal(
        shape, dtype=np.float32)


def product():
    a, b, c = normal(64, 64), normal(64, 64), normal(64, 64)
    return lambda: dot(a, b, out=c)


def softmax():
    x, y = normal(1000), normal(1000)

    def run():
        subtract(x, np.maximum.reduce(x), out=y)
        exp(y, out=y)
        return multiply(y, 1 / add.reduce(y), out=y)

    return run


def rmsnorm():
    x, y, gain = normal(64, 64), normal(64, 64), np.ones(64, np.float32)
    r = np.empty(64, np.float32)

    def run():
        np.vecdot(x, x, out=r)
        np.multiply(r, 1 / 64, out=r)
        np.add(r, 1e-5, out=r)
        np.sqrt(r, out=r)
        divide(x, r[:, None], out=y)
        return multiply(y, gain, out=y)

    return run


def from_hf(c, tensors, prefix=""):
    """The parameters of Hugging Face's Mixtral in this layout; also its
    gradients, for they go the same way. A pair of a rotary position is i with
    i + d/2 there, and 2i with 2i + 1 here."""
    at = prefix + "model."

    def turned(w):
        heads = w.reshape(-1, 2, c["head"] // 2, w.shape[1])
        return heads.swapaxes(1, 2).reshape(w.shape)

    def get(name):
        return np.asarray(tensors[name], np.float64)

    found = dict(embed=get(at + "embed_tokens.weight"),
                 norm=get(at + "norm.weight"),
                 head=get(prefix + "lm_head.weight").T)
    for i in range(c["layers"]):
        l = f"{at}layers.{i}."
        q, k, v, o = (get(f"{l}self_attn.{x}_proj.weight") for x in "qkvo")
        found[f"{i}.qkv"] = np.concatenate((turned(q), turned(k), v)).T
        found[f"{i}.o"] = o.T
        found[f"{i}.norm1"] = get(l + "input_layernorm.weight")
        found[f"{i}.norm2"] = get(l + "post_attention_layernorm.weight")
        l += "block_sparse_moe."
        found[f"{i}.gate"] = get(l + "gate.weight")
        w1, w2, w3 = (np.stack([get(f"{l}experts.{e}.w{x}.weight").T
                                for e in range(c["experts"])]) for x in "123")
        found[f"{i}.w13"] = np.stack((w1, w3), axis=1)
        found[f"{i}.w2"] = w2
    return np.concatenate([found[name].ravel() for name, _ in layout(c)])


def check(directory):
    from safetensors.numpy import load_file
    with open(os.path.join(directory, "config.json")) as f:
        c = common.shape_of(json.load(f))
    want = load_file(os.path.join(directory, "reference.safetensors"))
    weights = load_file(os.path.join(directory, "model.safetensors"))
    shape = want["input_ids"].shape
    ids, targets = (want[x].ravel() for x in ("input_ids", "labels"))
    model = Model(c, *shape, dtype=np.float64)
    model.flat[:] = from_hf(c, weights)
    adam = AdamW(model, model.size)  # there, all decay
    g, aux, worst = views(c, adam.g), float(want["aux_coef"]), 0.0

    def compare(what, got, wanted):
        nonlocal worst
        off = np.abs(np.ravel(got) - np.ravel(wanted)).max()
        off /= max(1.0, np.abs(wanted).max())
        worst = max(worst, off)
        print(f"{directory}: {what:34} {off:.1e}")

    compare("logits", model.logits(ids), want["logits"])
    decoder = Decoder(model)
    compare("logits, with a cache",
            [decoder.step(token) for token in want["input_ids"][0]],
            want["logits"][0])
    loss = model.gradient(ids, targets, g, aux)
    compare("loss", loss, want["loss_ce"])
    compare("balance", model.balance, want["loss_aux"])
    wanted = views(c, from_hf(c, want, "grad."))
    for name, _ in layout(c):
        compare(f"gradient of {name}", g[name], wanted[name])
    for n in range(3 if "train.lr" in want else 0):
        model.gradient(ids, targets, g, aux)
        compare(f"step {n + 1}: norm of the gradient",
                adam.step(want["train.lr"][n]), want["train.grad_norm"][n])
        compare(f"step {n + 1}: parameters", model.flat,
                from_hf(c, want, f"step{n + 1}."))
    compare("gradient, against differences", *differences(c))
    return 0 if worst < 1e-10 else 1


def differences(c):
    """Of the loss along random directions, and the gradient along them, where a
    sequence is longer than a block of queries."""
    rng = np.random.default_rng(common.SEED)
    model = Model(c, 2, ROWS + 7, dtype=np.float64)
    for p in model.p.values():
        p *= 10 if p.ndim > 1 else 1
    ids, targets = rng.integers(0, c["vocab"], (2, model.n))
    flat, g = model.flat.copy(), np.empty(model.size)

    def loss(moved):
        model.flat[:] = moved
        return (model.gradient(ids, targets, views(c, g))
                + common.AUX * model.balance)

    loss(flat)
    along = rng.standard_normal((8, model.size))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    wanted, step = dot(along, g), 1e-4
    return [(loss(flat + step * u) - loss(flat - step * u)) / (2 * step)
            for u in along], wanted


if __name__ == "__main__":
    sys.exit(common.main(
        __doc__, "numpy.json", f"NumPy {np.__version__}",
        "backward by hand, one thread unless said",
        dict(forward=forward, cold=cold, train=train, matmul=product,
             softmax=softmax, rmsnorm=rmsnorm, decode=decode), check))
