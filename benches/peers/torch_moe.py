#!/usr/bin/env python3
"""The scenarios of `cargo bench` in PyTorch, to the same JSON.

    python3 benches/peers/torch_moe.py --out torch.json
    python3 benches/peers/torch_moe.py --check tests/oracle/tiny
    moe bench-report target/scenarios.json torch.json

The same model, sizes and inputs; eager, one thread unless the scenario says
more. Experts run one after another, each on the rows that chose it; attention
is torch's own; the optimizer is fused. Medians of as many runs as fit into
--seconds, after warm-up. Two models at once are two processes.

--check computes the logits of a reference directory in float64 and compares.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

TINY = dict(vocab=1000, hidden=64, layers=2, heads=4, kv=1, head=16,
            experts=4, top_k=2, inter=128)
SMALL = dict(TINY, hidden=256, head=64, inter=512)
BYTES = dict(vocab=256, hidden=128, layers=4, heads=4, kv=1, head=32,
             experts=8, top_k=2, inter=256)


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

    def forward(self, x, cos, sin):
        b, t, _ = x.shape

        def split(y, n):
            return y.view(b, t, n, self.dh).transpose(1, 2)

        def rope(y):  # the layout of Hugging Face: i with i + d/2
            half = self.dh // 2
            turned = torch.cat((-y[..., half:], y[..., :half]), -1)
            return y * cos[:t] + turned * sin[:t]

        q = rope(split(self.q_proj(x), self.h))
        k = rope(split(self.k_proj(x), self.kv))
        v = split(self.v_proj(x), self.kv)
        k = k.repeat_interleave(self.h // self.kv, 1)
        v = v.repeat_interleave(self.h // self.kv, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
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
        out = torch.cat([f(p) for f, p in zip(self.experts, parts)])
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

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class Model(nn.Module):
    """Parameters are named as in Hugging Face's Mixtral, without `model.`."""

    def __init__(self, c, time=512):
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

    def forward(self, ids):
        x = self.embed_tokens(ids)
        for block in self.layers:
            x = block(x, self.cos, self.sin)
        return self.lm_head(self.norm(x))


def inputs(c, b, t):
    i = torch.arange(b * t)
    return (i % c["vocab"]).view(b, t), ((i + 1) % c["vocab"]).view(b, t)


def forward(c, b, t):
    torch.manual_seed(42)
    model, (ids, _) = Model(c).eval(), inputs(c, b, t)

    def run():
        with torch.inference_mode():
            return model(ids)

    return run


def cold(c, b, t):
    return lambda: forward(c, b, t)()


def train(c, b, t):
    torch.manual_seed(42)
    model, (ids, targets) = Model(c, max(t, 64)).train(), inputs(c, b, t)
    decays = [p for n, p in model.named_parameters()
              if p.dim() > 1 and "embed" not in n]
    others = [p for n, p in model.named_parameters()
              if p.dim() == 1 or "embed" in n]
    adam = torch.optim.AdamW(
        [dict(params=decays, weight_decay=0.1),
         dict(params=others, weight_decay=0.0)],
        lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def run():
        logits = model(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        aux = sum(block.block_sparse_moe.balance for block in model.layers)
        (loss + 0.01 * aux).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss.detach()

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


def scenarios():
    """id, axis, threads, what makes it, its arguments."""
    def tiny(b, t):
        return (TINY, b, t)

    yield "mem_train_step", "memory", 1, train, tiny(2, 8)
    for b in 1, 2, 4, 8:
        yield f"mem_scale_batch_{b}", "memory", 1, forward, tiny(b, 32)
    for t in 8, 16, 32, 64:
        yield f"mem_scale_seq_{t}", "memory", 1, forward, tiny(2, t)
    yield "kernel_matmul", "compiler", 1, matmul, ()
    yield "kernel_softmax", "compiler", 1, softmax, ()
    yield "kernel_rmsnorm", "compiler", 1, rmsnorm, ()
    yield "dispatch_warm", "type_system", 1, forward, tiny(2, 32)
    yield "dispatch_cold", "type_system", 1, cold, tiny(1, 8)
    for n in 1, 2, 4:
        yield f"parallel_T{n}", "parallel", n, forward, tiny(2, 32)
    for n in 1, 2, 4:
        yield f"parallel_train_T{n}", "parallel", n, train, tiny(2, 8)
    yield "scale_forward_256", "scale", 1, forward, (SMALL, 2, 32)
    yield "scale_train_256", "scale", 1, train, (SMALL, 2, 8)
    yield "train64", "extra", 1, train, tiny(8, 64)
    yield "bytes_train", "extra", 1, train, (BYTES, 12, 64)


WARM = 3


def timed(run, seconds):
    """ns and CPU ns of each run."""
    for _ in range(WARM):
        run()
    wall, cpu, end = [], [], time.perf_counter() + seconds
    while len(wall) < 10 or time.perf_counter() < end:
        c, w = time.process_time_ns(), time.perf_counter_ns()
        run()
        wall.append(time.perf_counter_ns() - w)
        cpu.append(time.process_time_ns() - c)
    return wall, cpu


def companion(make, args, go, done, stop):
    """One of several processes, each with a model of its own."""
    torch.set_num_threads(1)
    run = make(*args)
    for _ in range(WARM):
        run()
    while True:
        go.wait()
        if stop.value:
            return
        run()
        done.wait()


def together(n, make, args, seconds):
    """ns until n processes have each done one run."""
    mp = torch.multiprocessing.get_context("spawn")
    go, done, stop = mp.Barrier(n + 1), mp.Barrier(n + 1), mp.Value("b", 0)
    team = [mp.Process(target=companion, args=(make, args, go, done, stop))
            for _ in range(n)]
    for p in team:
        p.start()

    def run():
        go.wait()
        done.wait()

    wall, cpu = timed(run, seconds)
    stop.value = 1
    go.wait()
    for p in team:
        p.join()
    return wall, None


def percentile(ordered, p):
    at = p * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def numbers(out):
    """NaN and infinite ones are counted over what a run returns."""
    out = out.flatten()
    finite = out[out.isfinite()].abs()
    return dict(nan_count=int(out.isnan().sum()),
                inf_count=int(out.isinf().sum()),
                max_abs=float(finite.max()) if finite.numel() else None)


FLOPS = dict(kernel_matmul=524288, kernel_softmax=4000, kernel_rmsnorm=12288)


def measure(id, axis, threads, make, args, seconds):
    parallel = axis == "parallel"
    if parallel:
        wall, cpu = together(threads, make, args, seconds)
    else:
        run = make(*args)
        wall, cpu = timed(run, seconds)
    ordered = sorted(wall)
    median = statistics.median(wall)
    params, tokens = {}, None
    if args:
        c, b, t = args
        params = dict(batch=b, seq_len=t, hidden_dim=c["hidden"],
                      intermediate_dim=c["inter"])
        if parallel:
            params["thread_count"] = threads
        tokens = threads * b * t / median * 1e9
    s = dict(
        id=id, axis=axis, params=params, warmup_runs=WARM,
        trial_runs=len(wall), timings_ns=wall, cpu_times_ns=cpu,
        median_ns=median, p95_ns=percentile(ordered, 0.95),
        min_ns=ordered[0], max_ns=ordered[-1],
        iqr_ns=percentile(ordered, 0.75) - percentile(ordered, 0.25),
        cpu_median_ns=statistics.median(cpu) if cpu else None,
        throughput_tokens_per_sec=tokens,
        memory=dict(peak_rss_bytes=None, alloc_bytes=None))
    if not parallel:
        s["numerical"] = numbers(run())
    if id in FLOPS:
        s["derived"] = dict(gflops=FLOPS[id] / median)
    return s


def alone(only, args):
    """One scenario in a process of its own: a peak of memory is the peak of
    all that a process ever did."""
    import subprocess
    cmd = [sys.executable, os.path.abspath(__file__), "--one", only,
           "--seconds", str(args.seconds)]
    return json.loads(subprocess.run(cmd, check=True, stdout=-1).stdout)


def check(directory):
    from safetensors.torch import load_file
    torch.set_default_dtype(torch.float64)
    with open(os.path.join(directory, "config.json")) as f:
        h = json.load(f)
    rope = h.get("rope_parameters") or h
    c = dict(vocab=h["vocab_size"], hidden=h["hidden_size"],
             layers=h["num_hidden_layers"], heads=h["num_attention_heads"],
             kv=h["num_key_value_heads"], experts=h["num_local_experts"],
             top_k=h["num_experts_per_tok"], inter=h["intermediate_size"],
             eps=h["rms_norm_eps"], theta=rope["rope_theta"])
    c["head"] = h.get("head_dim") or c["hidden"] // c["heads"]
    weights = load_file(os.path.join(directory, "model.safetensors"))
    want = load_file(os.path.join(directory, "reference.safetensors"))
    ids = want["tokens"] if "tokens" in want else want["input_ids"]
    model = Model(c, ids.shape[-1]).eval()
    model.load_state_dict(
        {k.removeprefix("model."): v.double() for k, v in weights.items()})
    with torch.inference_mode():
        got = model(ids.long())
    off = (got - want["logits"].view_as(got)).abs().max().item()
    print(f"{directory}: logits differ by {off:.1e} at most")
    return 0 if off < 1e-10 else 1


def cpu_model():
    try:
        with open("/proc/cpuinfo") as f:
            return re.search(r"model name\s*: (.*)", f.read())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="torch.json", metavar="FILE")
    p.add_argument("--filter", default="", metavar="TEXT",
                   help="only the scenarios whose id contains it")
    p.add_argument("--seconds", type=float, default=2.0,
                   help="for each scenario [default: 2]")
    p.add_argument("--check", metavar="DIR", action="append")
    p.add_argument("--one", help=argparse.SUPPRESS)
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.check:
        return max(check(d) for d in args.check)
    if args.one:
        row = next(s for s in scenarios() if s[0] == args.one)
        s = measure(*row, args.seconds)
        if row[1] != "parallel":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            unit = 1 if sys.platform == "darwin" else 1024
            s["memory"]["peak_rss_bytes"] = peak * unit
        print(json.dumps(s))
        return 0
    found = []
    for id, *_ in scenarios():
        if args.filter in id:
            found.append(alone(id, args))
            print(f"{id:22} {found[-1]['median_ns'] / 1e3:12.1f} us",
                  file=sys.stderr)
    now = datetime.datetime.now(datetime.timezone.utc)
    metadata = dict(
        label=f"PyTorch {torch.__version__}", machine=cpu_model(),
        note="eager, experts one after another, fused AdamW",
        language="python", language_version=platform.python_version(),
        os=f"{platform.system()} {platform.machine()}",
        cpu_model=cpu_model(), timestamp=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        n_trials=max((s["trial_runs"] for s in found), default=0),
        n_warmup=WARM, seed=42)
    with open(args.out, "w") as f:
        json.dump(dict(metadata=metadata, scenarios=found), f, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
