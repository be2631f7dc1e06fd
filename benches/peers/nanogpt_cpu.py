#!/usr/bin/env python3
"""nanoGPT's CPU setting on a text, to measure seconds to a loss.

    python3 benches/peers/nanogpt_cpu.py --text tinyshakespeare.txt
    python3 benches/peers/nanogpt_cpu.py --text tinyshakespeare.txt --time 100

A GPT-2 of 4 layers, 4 heads and width 128 without biases and dropout, 0.80
million parameters, context 64, over the characters of the text; 2000
iterations on batches of 12; AdamW with betas 0.9 and 0.99 and a decay of 0.1
on matrices; a rate of 1e-3 after a warm-up of 100, which falls by a cosine to
1e-4; the gradient clipped to 1; eager, f32. The setting is that of
https://github.com/karpathy/nanoGPT ("I only have a macbook"); this program is
written from its description.

Prints the seconds of training steps alone, drawing the batch included, and the
loss over the whole validation part, the last tenth, in windows of 64: as `moe
train` measures. --windows 256 does it in windows of 256 as well: its learned
positions end at 64, so that each character is then predicted from at most the
64 before it; this takes a minute or two. --time N times N iterations and
trains no further: the time of a step does not depend on how far the model is.
"""

import argparse
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
ITERATIONS, WARMUP, MOST, LEAST = 2000, 100, 1e-3, 1e-4


def linear(a, b):
    return nn.Linear(a, b, bias=False)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = linear(WIDTH, 3 * WIDTH), linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.up, self.down = linear(WIDTH, 4 * WIDTH), linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, d // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.tokens = nn.Embedding(vocab, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                p.data.normal_(0.0, 0.02 / math.sqrt(2 * LAYERS if residual else 1))

    def forward(self, x):
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.tokens.weight)  # the head is tied


def rate(n):
    if n < WARMUP:
        return MOST * (n + 1) / (WARMUP + 1)
    part = (n - WARMUP) / (ITERATIONS - WARMUP)
    return LEAST + (MOST - LEAST) * (1 + math.cos(math.pi * part)) / 2


@torch.no_grad()
def validate(model, text, window):
    """Mean loss over windows one after the other; at most CONTEXT is seen."""
    count, total = (len(text) - 1) // window, 0.0
    first = min(window, CONTEXT)
    for w in range(count):
        at = w * window
        x = text[at : at + first][None]
        y = text[at + 1 : at + 1 + first]
        total += F.cross_entropy(model(x)[0], y, reduction="sum").item()
        if window > CONTEXT:  # the others: one sequence for each, its last row
            part = text[at + 1 : at + window].unfold(0, CONTEXT, 1)
            y = text[at + CONTEXT + 1 : at + window + 1]
            logits = model(part)[:, -1]
            total += F.cross_entropy(logits, y, reduction="sum").item()
    return total / (count * window)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--text", required=True)
    args.add_argument("--seed", type=int, default=1337)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--time", type=int, metavar="N")
    args.add_argument("--windows", type=int, action="append", default=[CONTEXT])
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    try:
        with open(args.text, encoding="utf-8") as file:
            text = file.read()
    except OSError as e:
        sys.exit(f"--text {args.text}: {e.strerror}; name a file of text")
    letters = {c: i for i, c in enumerate(sorted(set(text)))}
    text = torch.tensor([letters[c] for c in text])
    cut = int(0.9 * len(text))
    train, val = text[:cut], text[cut:]

    model = GPT(len(letters))
    groups = [
        dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=0.1),
        dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0),
    ]
    adam = torch.optim.AdamW(groups, lr=MOST, betas=(0.9, 0.99))
    count = sum(p.numel() for p in model.parameters()) - CONTEXT * WIDTH
    print(f"{count} parameters without positions, {len(letters)} characters")

    times, window = [], torch.arange(CONTEXT)
    for n in range(args.time or ITERATIONS):
        begin = time.perf_counter()
        for group in adam.param_groups:
            group["lr"] = rate(n)
        at = torch.randint(len(train) - CONTEXT, (BATCH, 1)) + window
        x, y = train[at], train[at + 1]
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        times.append(time.perf_counter() - begin)
        if (n + 1) % 200 == 0:
            print(f"step {n + 1}: loss {loss.item():.4f}", flush=True)
    median = statistics.median(times[len(times) // 10 :])
    print(
        f"{sum(times):.1f} s of training steps; median {1e3 * median:.2f} ms, "
        f"by which {ITERATIONS} take {ITERATIONS * median:.1f} s"
    )
    if args.time is None:
        for window in args.windows:
            print(f"validation in windows of {window}: {validate(model, val, window):.4f}", flush=True)


if __name__ == "__main__":
    main()
