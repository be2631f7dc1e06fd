"""What the peers share: the scenarios of `cargo bench`, how each is timed, and
the file for `moe bench-report`.

A peer gives `main` a function for each kind of scenario; called with the
scenario's arguments, it returns what is run again and again. Import this
before NumPy or PyTorch: how many threads they take is settled then.
"""

import argparse
import ctypes
import datetime
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time

LIMITS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
for limit in LIMITS:
    os.environ.setdefault(limit, "1")

TINY = dict(vocab=1000, hidden=64, layers=2, heads=4, kv=1, head=16,
            experts=4, top_k=2, inter=128)
SMALL = dict(TINY, hidden=256, head=64, inter=512)
BYTES = dict(vocab=256, hidden=128, layers=4, heads=4, kv=1, head=32,
             experts=8, top_k=2, inter=256)
RATE, BETAS, EPS, DECAY, CLIP, AUX = 1e-4, (0.9, 0.95), 1e-8, 0.1, 1.0, 0.01
SEED, WARM = 42, 3
FLOPS = dict(kernel_matmul=524288, kernel_softmax=4000, kernel_rmsnorm=12288)


def scenarios():
    """id, axis, threads, kind, arguments: benches/scenarios/list.rs."""
    def tiny(b, t):
        return TINY, b, t

    yield "mem_train_step", "memory", 1, "train", tiny(2, 8)
    for b in 1, 2, 4, 8:
        yield f"mem_scale_batch_{b}", "memory", 1, "forward", tiny(b, 32)
    for t in 8, 16, 32, 64:
        yield f"mem_scale_seq_{t}", "memory", 1, "forward", tiny(2, t)
    yield "kernel_matmul", "compiler", 1, "matmul", ()
    yield "kernel_softmax", "compiler", 1, "softmax", ()
    yield "kernel_rmsnorm", "compiler", 1, "rmsnorm", ()
    yield "dispatch_warm", "type_system", 1, "forward", tiny(2, 32)
    yield "dispatch_cold", "type_system", 1, "cold", tiny(1, 8)
    for n in 1, 2, 4:
        yield f"parallel_T{n}", "parallel", n, "forward", tiny(2, 32)
    for n in 1, 2, 4:
        yield f"parallel_train_T{n}", "parallel", n, "train", tiny(2, 8)
    yield "scale_forward_256", "scale", 1, "forward", (SMALL, 2, 32)
    yield "scale_train_256", "scale", 1, "train", (SMALL, 2, 8)
    yield "train64", "extra", 1, "train", tiny(8, 64)
    yield "bytes_train", "extra", 1, "train", (BYTES, 12, 64)
    yield "decode", "extra", 1, "decode", (BYTES, 1, 128)
    for e in 4, 8, 16, 32, 64:
        c = dict(TINY, experts=e)
        yield f"experts_{e}", "extra", 1, "forward", (c, 8, 64)
    for t in 64, 128, 256, 512, 1024, 2048:
        yield f"seq_{t}", "extra", 1, "forward", tiny(1, t)
    for n in 1, 2, 3, 4:
        yield f"train64_T{n}", "extra", n, "train", tiny(8, 64)
        yield f"bytes_T{n}", "extra", n, "train", (BYTES, 12, 64)


def timed(run, seconds):
    """ns and CPU ns of a run, for up to 100 samples. What is short is run
    several times between two looks at the clock, as criterion does."""
    for _ in range(WARM):
        start = time.perf_counter_ns()
        run()
        last = time.perf_counter_ns() - start
    each = range(max(1, int(seconds * 1e7 / last)))
    wall, cpu, end = [], [], time.perf_counter() + seconds
    while len(wall) < 10 or time.perf_counter() < end:
        c, w = time.process_time_ns(), time.perf_counter_ns()
        for _ in each:
            run()
        wall.append((time.perf_counter_ns() - w) / len(each))
        cpu.append((time.process_time_ns() - c) / len(each))
    return wall, cpu


if hasattr(os, "sched_yield"):
    pause = os.sched_yield
else:
    def pause():
        time.sleep(0)


def companion(make, args, i, parent, asked, done):
    """One of several processes, each with a model of its own. All wait for
    each other awake, for to wake a process takes as long as a run."""
    run = make(*args)
    for _ in range(WARM):
        run()
    done[i] = 0
    while os.getppid() == parent:
        if done[i] == asked.value:
            pause()
        elif asked.value < 0:
            return
        else:
            run()
            done[i] += 1


def together(n, make, args, seconds):
    """ns until n processes have each done one run; this is one of them."""
    mp = multiprocessing.get_context("spawn")
    asked = mp.RawValue(ctypes.c_int64, 0)
    done = mp.RawArray(ctypes.c_int64, [-1] * (n - 1))
    team = [mp.Process(target=companion, daemon=True,
                       args=(make, args, i, os.getpid(), asked, done))
            for i in range(n - 1)]
    for p in team:
        p.start()

    def wait():
        while any(d != asked.value for d in done):
            if not all(p.is_alive() for p in team):
                sys.exit("one of the processes that run together has ended")
            pause()

    own = make(*args)
    wait()

    def run():
        asked.value += 1
        own()
        wait()

    wall, _ = timed(run, seconds)
    asked.value = -1
    for p in team:
        p.join()
    return wall, None


def percentile(ordered, p):
    at = p * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def statistics_of(wall):
    ordered = sorted(wall)
    return dict(
        trial_runs=len(wall), timings_ns=wall,
        median_ns=percentile(ordered, 0.5), p95_ns=percentile(ordered, 0.95),
        min_ns=ordered[0], max_ns=ordered[-1],
        iqr_ns=percentile(ordered, 0.75) - percentile(ordered, 0.25))


def numbers(out):
    """NaN and infinite ones are counted over what a run returns."""
    import numpy as np
    out = np.abs(np.asarray(out)).ravel()
    finite = out[np.isfinite(out)]
    return dict(nan_count=int(np.isnan(out).sum()),
                inf_count=int(np.isinf(out).sum()),
                max_abs=float(finite.max()) if finite.size else None)


def measure(id, axis, threads, make, args, seconds):
    parallel = axis == "parallel"
    if parallel:
        wall, cpu = together(threads, make, args, seconds)
    else:
        run = make(*args)
        wall, cpu = timed(run, seconds)
    s = dict(id=id, axis=axis, params={}, warmup_runs=WARM,
             **statistics_of(wall), cpu_times_ns=cpu,
             cpu_median_ns=statistics.median(cpu) if cpu else None,
             throughput_tokens_per_sec=None,
             memory=dict(peak_rss_bytes=None, alloc_bytes=None))
    if args:
        c, b, t = args
        s["params"] = dict(batch=b, seq_len=t, hidden_dim=c["hidden"],
                           intermediate_dim=c["inter"], experts=c["experts"])
        if parallel or threads > 1:
            s["params"]["thread_count"] = threads
        many = threads if parallel else 1
        s["throughput_tokens_per_sec"] = many * b * t / s["median_ns"] * 1e9
    if not parallel:
        s["numerical"] = numbers(run())
        s["memory"]["peak_rss_bytes"] = peak()
    if id in FLOPS:
        s["derived"] = dict(gflops=FLOPS[id] / s["median_ns"])
    return s


def peak():
    try:
        import resource
    except ImportError: # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def alone(program, row, seconds, **environment):
    """One scenario in a process of its own: a peak of memory is the peak of
    all that a process ever did."""
    id, axis, threads, *_ = row
    own = str(1 if axis == "parallel" else threads)
    env = dict(os.environ, **{v: own for v in LIMITS}, **environment)
    cmd = [sys.executable, program, "--one", id, "--seconds", str(seconds)]
    done = subprocess.run(cmd, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"{os.path.basename(program)}: {id}: {last}")
    return json.loads(done.stdout)


def cpu_model():
    try:
        with open("/proc/cpuinfo") as f:
            return re.search(r"model name\s*: (.*)", f.read())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def write(path, label, note, found):
    now = datetime.datetime.now(datetime.timezone.utc)
    metadata = dict(
        label=label, machine=cpu_model(), note=note,
        language="python", language_version=platform.python_version(),
        os=f"{platform.system()} {platform.machine()}",
        cpu_model=cpu_model(), timestamp=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        n_trials=max((s["trial_runs"] for s in found), default=0),
        n_warmup=WARM, seed=SEED)
    with open(path, "w") as f:
        json.dump(dict(metadata=metadata, scenarios=found), f, indent=2)
        f.write("\n")


def shape_of(h):
    """The sizes in a config.json of Hugging Face's Mixtral."""
    c = dict(vocab=h["vocab_size"], hidden=h["hidden_size"],
             layers=h["num_hidden_layers"], heads=h["num_attention_heads"],
             kv=h["num_key_value_heads"], experts=h["num_local_experts"],
             top_k=h["num_experts_per_tok"], inter=h["intermediate_size"],
             eps=h["rms_norm_eps"],
             theta=(h.get("rope_parameters") or h)["rope_theta"])
    c["head"] = h.get("head_dim") or c["hidden"] // c["heads"]
    return c


def main(doc, out, label, note, make, check):
    p = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=out, metavar="FILE")
    p.add_argument("--filter", default="", metavar="TEXT",
                   help="only the scenarios whose id contains it")
    p.add_argument("--seconds", type=float, default=2.0,
                   help="for each scenario [default: 2]")
    p.add_argument("--check", metavar="DIR", action="append")
    p.add_argument("--one", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.check:
        return max(check(d) for d in args.check)
    if args.one:
        id, axis, threads, kind, sizes = next(
            s for s in scenarios() if s[0] == args.one)
        s = measure(id, axis, threads, make[kind], sizes, args.seconds)
        print(json.dumps(s))
        return 0
    rows = [s for s in scenarios() if args.filter in s[0]]
    if not rows:
        sys.exit(f"--filter {args.filter}: no scenario has this in its name; "
                 "benches/peers/common.py lists them")
    found = []
    for row in rows:
        try:
            found.append(alone(os.path.abspath(sys.argv[0]), row, args.seconds))
        except RuntimeError as e:
            sys.exit(str(e))
        print(f"{row[0]:22} {found[-1]['median_ns'] / 1e3:12.1f} us",
              file=sys.stderr)
    write(args.out, label, note, found)
    return 0
