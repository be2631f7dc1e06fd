"""Writes what PyTorch computes, in f64, for two things that Mixtral does not
have: `bias`, the model of `tiny` with a bias on each of attention's four maps
(Llama's `attention_bias`); and `l1.json`, rows divided by the sum of their
absolute values.

    pip install torch==2.9.1 transformers==5.0.0 safetensors numpy
    python make_layers.py

The model is written out below in plain PyTorch, whose autograd makes the
gradients. In f32 it is compared with `MixtralForCausalLM` of transformers, whose
four maps were given the same biases.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import MixtralForCausalLM

from make_reference import aux_per_layer, rope_inv_freq, write_safetensors

HERE = Path(__file__).parent
MAPS = "qkvo"
BATCH, SEQ, SEED = 2, 9, 13


def forward(w, c, ids):
    """Logits and all that lies before them, by their names in a reference."""
    b, s = ids.shape
    d, hq, hkv = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    angle = torch.arange(s, dtype=torch.float64)[:, None] * rope_inv_freq(d, c["rope_theta"])
    future = torch.ones(s, s, dtype=torch.bool).triu(1)

    def norm(x, name):
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + c["rms_norm_eps"])
        return x * w[name + ".weight"]

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def rope(x):  # [b, heads, s, d], i with i + d/2
        x0, x1 = x[..., : d // 2], x[..., d // 2 :]
        cos, sin = angle.cos().to(x), angle.sin().to(x)
        return torch.cat((x0 * cos - x1 * sin, x0 * sin + x1 * cos), -1)

    t = {"hidden.0": w["model.embed_tokens.weight"][ids]}
    x = t["hidden.0"]
    for l in range(c["num_hidden_layers"]):
        at = f"model.layers.{l}."
        h = norm(x, at + "input_layernorm")
        q, k, v = (
            linear(h, f"{at}self_attn.{m}_proj").view(b, s, n, d).transpose(1, 2)
            for m, n in (("q", hq), ("k", hkv), ("v", hkv))
        )
        q, k = rope(q), rope(k)
        k, v = (y.repeat_interleave(hq // hkv, 1) for y in (k, v))
        prob = (q @ k.transpose(-1, -2) / math.sqrt(d)).masked_fill(future, -math.inf).softmax(-1)
        mix = (prob @ v).transpose(1, 2).reshape(b, s, hq * d)
        x = t[f"mid.{l}"] = x + linear(mix, at + "self_attn.o_proj")
        h = norm(x, at + "post_attention_layernorm")
        at += "block_sparse_moe."
        probs = linear(h, at + "gate").softmax(-1)
        top, choice = probs.topk(c["num_experts_per_tok"], -1)
        weight = top / top.sum(-1, keepdim=True)
        share = torch.zeros_like(probs).scatter(-1, choice, weight)
        t |= {f"router_probs.{l}": probs, f"selected.{l}": choice, f"topk_weights.{l}": weight}
        for e in range(c["num_local_experts"]):
            w1, w3, w2 = (f"{at}experts.{e}.w{i}" for i in (1, 3, 2))
            y = linear(F.silu(linear(h, w1)) * linear(h, w3), w2)
            x = x + share[..., e : e + 1] * y
        t[f"hidden.{l + 1}"] = x
    t["final_norm"] = norm(x, "model.norm")
    t["logits"] = linear(t["final_norm"], "lm_head")
    return t


def bias():
    c = json.loads((HERE / "tiny/config.json").read_text())
    c["attention_bias"] = True
    weights = load_file(HERE / "tiny/model.safetensors")
    rng = np.random.default_rng(SEED)
    for l in range(c["num_hidden_layers"]):
        for m in MAPS:
            name = f"model.layers.{l}.self_attn.{m}_proj"
            z = 0.5 * rng.standard_normal(weights[name + ".weight"].shape[0])
            weights[name + ".bias"] = torch.from_numpy(z.astype(np.float32))
    tokens = torch.from_numpy(rng.integers(0, c["vocab_size"], (BATCH, SEQ + 1)))
    ids, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    w = {n: x.double().requires_grad_() for n, x in weights.items()}
    t = forward(w, c, ids)
    layers = range(c["num_hidden_layers"])
    each = F.cross_entropy(t["logits"].flatten(0, 1), labels.flatten(), reduction="none")
    t["loss_per_token"], t["loss_ce"] = each.view(BATCH, SEQ), each.mean()
    t["loss_aux"] = sum(aux_per_layer(t[f"router_probs.{l}"], t[f"selected.{l}"]) for l in layers)
    t["aux_coef"] = torch.tensor(c["router_aux_loss_coef"], dtype=torch.float64)
    t["loss_total"] = t["loss_ce"] + t["aux_coef"] * t["loss_aux"]
    grads = torch.autograd.grad(t["loss_total"], list(w.values()))
    t |= {f"grad.{n}": g for n, g in zip(w, grads)}
    # a choice that rounding could turn would be no reference
    gap = min(p.sort(-1).values.diff(dim=-1).min() for n, p in t.items() if n.startswith("router_probs"))
    assert gap > 1e-4, gap

    # transformers, in f32, with the same biases
    model = MixtralForCausalLM.from_pretrained(HERE / "tiny", experts_implementation="eager", attn_implementation="eager")
    for l, layer in enumerate(model.model.layers):
        for m in MAPS:
            name = f"{m}_proj"
            at = getattr(layer.self_attn, name)
            at.bias = torch.nn.Parameter(weights[f"model.layers.{l}.self_attn.{name}.bias"])
    with torch.no_grad():
        off = (model(ids).logits.double() - t["logits"]).abs().max().item()
    assert off < 1e-5, off
    for layer in model.model.layers:
        layer.self_attn.k_proj.bias = layer.self_attn.o_proj.bias = None
    with torch.no_grad():
        without = (model(ids).logits.double() - t["logits"]).abs().max().item()
    assert without > 1e-2, without
    print(f"transformers in f32 is off by {off:.1e}, without two biases by {without:.1e}; gap {gap:.1e}")

    t |= {"input_ids": ids, "labels": labels}
    t |= {"rope_inv_freq": rope_inv_freq(c["head_dim"], c["rope_theta"])}
    out = HERE / "bias"
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps(c, indent=2) + "\n")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    made = f"make_layers.py, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}"
    t = {n: x.detach().contiguous() for n, x in t.items()}
    write_safetensors(out / "reference.safetensors", t, {"generator": made, "seed": str(SEED)})


def l1():
    rng = np.random.default_rng(SEED)
    rows = []
    for n, zeros in ((1, []), (3, []), (5, [2]), (8, [0, 7]), (17, [])):
        x = torch.from_numpy(rng.standard_normal(n))
        x[zeros] = 0.0
        x.requires_grad_()
        dy = torch.from_numpy(rng.standard_normal(n))
        y = F.normalize(x, p=1, dim=-1)
        (dx,) = torch.autograd.grad(y, x, dy)
        rows.append({k: v.tolist() for k, v in dict(x=x, dy=dy, y=y, dx=dx).items()})
    (HERE / "l1.json").write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    bias()
    l1()
