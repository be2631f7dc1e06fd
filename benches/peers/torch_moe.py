#!/usr/bin/env python3
"""The scenarios of `cargo bench` in PyTorch, to the same JSON.

    python3 benches/peers/torch_moe.py --out torch.json
    python3 benches/peers/torch_moe.py --check tests/oracle/tiny
    moe bench-report target/scenarios.json torch.json

The same model, sizes and inputs; eager, one thread unless the scenario says
more. Experts run one after another, each on the rows that chose it; attention
is torch's own; the optimizer is fused. Medians of as many runs as fit into
--seconds, after warm-up. Two models at once are two processes.

--check compares logits and gradients with a reference directory in float64.
"""

import json
import os
import sys

import common
import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def linear(a, b):
    return nn.Linear(a, b, bias=False)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.h, self.kv, self.dh = c["hidden"], c["heads"], c["kv"], c["head"]
        self.q_proj = linear(d, self.h * self.dh)
        self.k_proj = linear(d, self.kv * self.dh)
        self.v_proj = linear(d, self.kv * self.dh)
        self.o_proj = linear(self.h * self.dh, d)

    def forward(self, x, cos, sin, at=0, cache=None):
        """With a cache, x is the one position `at`."""
        b, t, _ = x.shape

        def split(y, n):
            return y.view(b, t, n, self.dh).transpose(1, 2)

        def rope(y):  # the layout of Hugging Face: i with i + d/2
            half = self.dh // 2
            turned = torch.cat((-y[..., half:], y[..., :half]), -1)
            return y * cos[at:at + t] + turned * sin[at:at + t]

        q = rope(split(self.q_proj(x), self.h))
        k = rope(split(self.k_proj(x), self.kv))
        v = split(self.v_proj(x), self.kv)
        if cache is not None:
            cache[:, :, :, at] = torch.stack((k, v))[:, :, :, 0]
            k, v = cache[..., :at + 1, :]
        k = k.repeat_interleave(self.h // self.kv, 1)
        v = v.repeat_interleave(self.h // self.kv, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, self.h * self.dh))


class Expert(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.w1, self.w3, self.w2 = linear(d, f), linear(d, f), linear(f, d)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Moe(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.k, self.e = c["top_k"], c["experts"]
        self.gate = linear(c["hidden"], self.e)
        self.experts = nn.ModuleList(
            Expert(c["hidden"], c["inter"]) for _ in range(self.e))
        self.balance = 0.0

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        prob = F.softmax(self.gate(rows), -1)
        weight, choice = prob.topk(self.k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        order = choice.flatten().argsort(stable=True)
        counts = torch.bincount(choice.flatten(), minlength=self.e)
        row = order // self.k
        parts = rows[row].split(counts.tolist())
        out = torch.cat([f(p) for f, p in zip(self.experts, parts)
                         if self.training or len(p)])
        out = out * weight.flatten()[order, None]
        if self.training:
            share = counts / choice.numel()
            self.balance = self.e * (share * prob.mean(0)).sum()
        return torch.zeros_like(rows).index_add_(0, row, out).view_as(x)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, eps = c["hidden"], c.get("eps", 1e-5)
        self.input_layernorm = Norm(d, eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = Norm(d, eps)
        self.block_sparse_moe = Moe(c)

    def forward(self, x, *place):
        x = x + self.self_attn(self.input_layernorm(x), *place)
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class Model(nn.Module):
    """Parameters are named as in Hugging Face's Mixtral, without `model.`."""

    def __init__(self, c, time):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab"], c["hidden"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = Norm(c["hidden"], c.get("eps", 1e-5))
        self.lm_head = linear(c["hidden"], c["vocab"])
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        half = torch.arange(0, c["head"], 2, dtype=torch.float64) / c["head"]
        angle = torch.outer(torch.arange(time, dtype=torch.float64),
                            c.get("theta", 1e4) ** -half)
        angle = torch.cat((angle, angle), -1)
        dtype = torch.get_default_dtype()
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)

    def forward(self, ids, at=0, caches=None):
        x = self.embed_tokens(ids)
        for i, block in enumerate(self.layers):
            cache = None if caches is None else caches[i]
            x = block(x, self.cos, self.sin, at, cache)
        return self.lm_head(self.norm(x))


def inputs(c, b, t):
    i = torch.arange(b * t)
    return (i % c["vocab"]).view(b, t), ((i + 1) % c["vocab"]).view(b, t)


def forward(c, b, t):
    torch.manual_seed(common.SEED)
    model, (ids, _) = Model(c, t).eval(), inputs(c, b, t)

    def run():
        with torch.inference_mode():
            return model(ids)

    return run


def cold(c, b, t):
    return lambda: forward(c, b, t)()


def train(c, b, t):
    torch.manual_seed(common.SEED)
    model, (ids, targets) = Model(c, t).train(), inputs(c, b, t)
    decays = [p for n, p in model.named_parameters()
              if p.dim() > 1 and "embed" not in n]
    others = [p for n, p in model.named_parameters()
              if p.dim() == 1 or "embed" in n]
    adam = torch.optim.AdamW(
        [dict(params=decays, weight_decay=common.DECAY),
         dict(params=others, weight_decay=0.0)],
        lr=common.RATE, betas=common.BETAS, eps=common.EPS, fused=True)

    def run():
        logits = model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        aux = sum(block.block_sparse_moe.balance for block in model.layers)
        (loss + common.AUX * aux).backward()
        nn.utils.clip_grad_norm_(model.parameters(), common.CLIP)
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss.detach()

    return run


def caches(c, t):
    """[layer, keys and values, 1, head, position, width]"""
    return torch.empty(c["layers"], 2, 1, c["kv"], t, c["head"])


def decode(c, b, t):
    torch.manual_seed(common.SEED)
    model, cache = Model(c, t).eval(), caches(c, t)

    def run():
        token = torch.zeros(1, 1, dtype=torch.long)
        with torch.inference_mode():
            for at in range(t):
                z = model(token, at, cache)
                token = z.argmax(-1)
        return z

    return run


def matmul():
    a, b, c = torch.randn(64, 64), torch.randn(64, 64), torch.empty(64, 64)
    return lambda: torch.mm(a, b, out=c)


def softmax():
    x, y = torch.randn(1000), torch.empty(1000)
    return lambda: torch.softmax(x, 0, out=y)


def rmsnorm():
    x, norm = torch.randn(2, 32, 64), Norm(64, 1e-5)

    def run():
        with torch.inference_mode():
            return norm(x)

    return run


def check(directory):
    from safetensors.torch import load_file
    torch.set_default_dtype(torch.float64)
    with open(os.path.join(directory, "config.json")) as f:
        c = common.shape_of(json.load(f))
    weights = load_file(os.path.join(directory, "model.safetensors"))
    want = load_file(os.path.join(directory, "reference.safetensors"))
    ids = want["tokens"] if "tokens" in want else want["input_ids"]
    model = Model(c, ids.shape[-1]).eval()
    model.load_state_dict(
        {k.removeprefix("model."): v.double() for k, v in weights.items()})
    model.train()
    got = model(ids.long())
    off = (got - want["logits"].view_as(got)).abs().max().item()
    print(f"{directory}: logits differ by {off:.1e} at most")
    aux = sum(block.block_sparse_moe.balance for block in model.layers)
    loss = F.cross_entropy(got.flatten(0, 1), want["labels"].flatten())
    (loss + want["aux_coef"] * aux).backward()
    for name, p in model.named_parameters():
        name = name if name == "lm_head.weight" else "model." + name
        off = max(off, (p.grad - want["grad." + name]).abs().max().item())
    print(f"{directory}: gradients and these differ by {off:.1e} at most")
    model.eval()
    cache = caches(c, ids.shape[-1])
    with torch.inference_mode():
        for at in range(ids.shape[-1]):
            one = model(ids[:1, at:at + 1].long(), at, cache)
            off = max(off, (one[:, 0] - got[:1, at]).abs().max().item())
    print(f"{directory}: with a cache, all differ by {off:.1e} at most")
    return 0 if off < 1e-10 else 1


if __name__ == "__main__":
    sys.exit(common.main(
        __doc__, "torch.json", f"PyTorch {torch.__version__}",
        "eager, experts one after another, fused AdamW",
        dict(forward=forward, cold=cold, train=train, matmul=matmul,
             softmax=softmax, rmsnorm=rmsnorm, decode=decode), check))
