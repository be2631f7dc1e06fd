#!/usr/bin/env python3
"""The library, PyTorch and NumPy by turns, in the same minutes, on one machine.

    python3 benches/peers/interleaved.py
    python3 benches/peers/interleaved.py --filter train --rounds 7
    MOE_SIMD=avx2 python3 benches/peers/interleaved.py

For each scenario, --rounds times: the library (the program of `cargo bench`,
by criterion), then each peer (torch_moe.py, numpy_moe.py), each in a process of
its own, on as many threads as the scenario says. Prints the medians of all
samples, and how many times as long the better peer takes: over all, and in the
rounds where this was least and most. A round is short, so that a busy minute
meets all alike. What is not installed is left out, and said.

Writes library.json, torch.json and numpy.json into --out, for `moe
bench-report`.

MOE_SIMD=avx2 holds the peers to AVX2 as well, by what each reads: PyTorch
ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2 and
MKL_ENABLE_INSTRUCTIONS=AVX2; NumPy OPENBLAS_CORETYPE=Haswell and
NPY_DISABLE_CPU_FEATURES. The first lines of the table say which were set.
"""

import argparse
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys

import common

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = dict(
    torch=("PyTorch", "torch_moe.py", "eager", dict(
        ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2",
        MKL_ENABLE_INSTRUCTIONS="AVX2")),
    numpy=("NumPy", "numpy_moe.py", "backward by hand", dict(
        OPENBLAS_CORETYPE="Haswell")))


def log(line):
    print(line, file=sys.stderr, flush=True)


def avx512_features():
    """What NumPy may use of AVX-512 here; it refuses other names."""
    ask = ("import numpy._core._multiarray_umath as m; print(*(f for f in "
           "m.__cpu_dispatch__ if m.__cpu_features__.get(f) and "
           "(f.startswith('AVX512') or f == 'X86_V4')))")
    done = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip()


def peers(isa):
    """Those that are installed: name, label, program, note, environment."""
    for package, (name, program, note, avx2) in PEERS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            log(f"{name} is not installed for {sys.executable}: left out "
                f"(pip install {package})")
            continue
        environment = {}
        if isa == "avx2":
            environment = dict(avx2)
            off = avx512_features() if package == "numpy" else ""
            if off:
                environment["NPY_DISABLE_CPU_FEATURES"] = off
        yield (package, f"{name} {version}", os.path.join(HERE, program),
               note, environment)


def build():
    """The program of `cargo bench`."""
    log("cargo bench --no-run")
    if not shutil.which("cargo"):
        sys.exit("cargo is not found: install Rust, or give --library PROGRAM")
    done = subprocess.run(
        ["cargo", "bench", "--bench", "scenarios", "--no-run",
         "--message-format", "json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("cargo bench --no-run has failed: see above")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and \
                message["target"]["name"] == "scenarios":
            return message["executable"]
    sys.exit("cargo bench --no-run names no program")


def library(program, row, seconds):
    """The file that the program writes, of one scenario."""
    id, axis, *_ = row
    done = subprocess.run(
        [program, "--bench", "--noplot", "--exact", f"{axis}/{id}",
         "--warm-up-time", str(seconds / 2), "--measurement-time",
         str(seconds), "--sample-size", "20"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        sys.exit(f"{program}: {id}: {last}")
    target = os.path.dirname(os.path.dirname(os.path.dirname(program)))
    with open(os.path.join(target, "scenarios.json")) as f:
        return json.load(f)


def joined(rounds):
    """One record of several: the samples of all."""
    samples = [t for s in rounds for t in s["timings_ns"]]
    whole = dict(rounds[-1], **common.statistics_of(samples))
    if whole["throughput_tokens_per_sec"]:
        whole["throughput_tokens_per_sec"] *= (
            rounds[-1]["median_ns"] / whole["median_ns"])
    if "gflops" in whole.get("derived", {}):
        flops = common.FLOPS[whole["id"]]
        whole["derived"] = dict(whole["derived"],
                                gflops=flops / whole["median_ns"])
    return whole


def time(ns):
    for unit, size in ("s", 1e9), ("ms", 1e6), ("us", 1e3):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def main():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--filter", default="", metavar="REGEX",
                   help="only the scenarios whose AXIS/ID it matches, as for "
                        "cargo bench")
    p.add_argument("--rounds", type=int, default=5,
                   help="turns of each [default: 5]")
    p.add_argument("--seconds", type=float, default=0.5,
                   help="of one in a turn, after warm-up [default: 0.5]")
    p.add_argument("--library", metavar="PROGRAM",
                   help="the program that `cargo bench --no-run` names, "
                        "instead of building it")
    p.add_argument("--out", default=os.path.join(ROOT, "target/interleaved"),
                   metavar="DIR", help="[default: target/interleaved]")
    args = p.parse_args()
    if args.rounds < 1 or not args.seconds > 0:
        p.error("--rounds must be at least 1, and --seconds above 0")
    try:
        rows = [s for s in common.scenarios()
                if re.search(args.filter, f"{s[1]}/{s[0]}")]
    except re.error as e:
        p.error(f"--filter {args.filter}: no regular expression: {e}")
    if not rows:
        p.error(f"--filter {args.filter}: matches no scenario; "
                "benches/peers/common.py lists them")
    isa = os.environ.get("MOE_SIMD", "")
    if isa not in ("", "avx2", "avx512"):
        log(f"MOE_SIMD={isa} holds the library alone; the peers take all")
    program = os.path.abspath(args.library) if args.library else build()
    if not os.path.exists(program):
        sys.exit(f"{program}: there is no such file")
    os.makedirs(args.out, exist_ok=True)
    for key in ["library", *PEERS]:  # of an earlier run
        if os.path.exists(os.path.join(args.out, f"{key}.json")):
            os.remove(os.path.join(args.out, f"{key}.json"))
    columns = list(peers(isa))
    found, out, ratios = list(columns), {}, []
    for n, row in enumerate(rows):
        turns = {key: [] for key in ["library"] + [p[0] for p in found]}
        for turn in range(args.rounds):
            log(f"{n + 1}/{len(rows)} {row[0]}, turn {turn + 1}/{args.rounds}")
            said = library(program, row, args.seconds)
            turns["library"] += said["scenarios"]
            for peer in list(found):
                try:
                    turns[peer[0]].append(common.alone(
                        peer[2], row, args.seconds, **peer[4]))
                except RuntimeError as e:
                    log(f"{e}: goes on without {peer[1]}")
                    found.remove(peer)
                    turns.pop(peer[0])
        if n == 0:
            head(said["metadata"], columns, args)
        whole = {key: joined(rounds) for key, rounds in turns.items()}
        line(row[0], turns, whole, columns, ratios)
        # after each scenario, so that nothing is lost if this is stopped
        for key, s in whole.items():
            out.setdefault(key, []).append(s)
        for key, label, _, note, environment in found:
            note = " ".join([note + ";" * bool(environment)]
                            + [f"{k}={v}" for k, v in environment.items()])
            common.write(os.path.join(args.out, f"{key}.json"), label, note,
                         out[key])
        with open(os.path.join(args.out, "library.json"), "w") as f:
            json.dump(dict(said, scenarios=out["library"]), f, indent=2)
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"\ngeometric mean {mean:.2f}, least {min(ratios):.2f}")
    return 0


def head(metadata, found, args):
    print(f"{metadata['cpu_model']}; library: {metadata['instruction_set']}; "
          f"medians of {args.rounds} turns of {args.seconds} s each")
    for _, label, _, _, environment in found:
        said = ", ".join(f"{k}={v}" for k, v in environment.items())
        print(f"{label}{': ' if said else ''}{said}")
    names = "".join(f"{n:>14}" for n in ["library"] + [p[1] for p in found])
    more = f"{'better/library':>16}{'least':>8}{'most':>8}" if found else ""
    print(f"\n{'':20}{names}{more}", flush=True)


def line(id, turns, whole, columns, ratios):
    medians = {key: s["median_ns"] for key, s in whole.items()}
    keys = ["library"] + [p[0] for p in columns]
    text = "".join(f"{time(medians[k]) if k in medians else '–':>14}"
                   for k in keys)
    own, *others = medians.values()
    if others:
        by_turn = [min(s["median_ns"] for s in others) / own["median_ns"]
                   for own, *others in zip(*turns.values())]
        ratios.append(min(others) / own)
        text += (f"{ratios[-1]:16.2f}{min(by_turn):8.2f}"
                 f"{max(by_turn):8.2f}")
    print(f"{id:20}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
