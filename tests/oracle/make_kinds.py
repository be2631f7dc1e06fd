"""Writes the model of `tiny` as the kinds of files that transformers 5 makes:
`sharded`, `fused` and `tied`, beside this script.

    pip install torch==2.9.1 transformers==5.0.0 safetensors numpy
    python make_kinds.py

A tied model is written to `tied-plain`, too, with a head of its own that has the
same numbers: `make_reference.py --from tied-plain`, which wants transformers 4,
makes `tied/reference.safetensors` of it (see README.md).
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralForCausalLM

HERE = Path(__file__).parent
FILES = ["config.json", "model.safetensors.index.json"]


def save(model, name, **options):
    target, new = HERE / name, HERE / f"{name}.new"
    model.save_pretrained(new, **options)
    target.mkdir(exist_ok=True)
    for file in new.iterdir():
        if file.name in FILES or file.suffix == ".safetensors":
            file.replace(target / file.name)
    shutil.rmtree(new)
    return target


def main():
    model = MixtralForCausalLM.from_pretrained(HERE / "tiny")
    save(model, "sharded", max_shard_size="20KB")
    save(model, "fused", save_original_format=False)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    tied = save(model, "tied")

    weights = load_file(tied / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    plain = HERE / "tied-plain"
    plain.mkdir(exist_ok=True)
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(HERE / "tiny/config.json", plain)
    # both are the same model
    ids = torch.arange(16).reshape(1, 16)
    # the quick product of experts wants rows of a multiple of 16 bytes
    load = lambda d: MixtralForCausalLM.from_pretrained(d, experts_implementation="eager")
    both = [load(d) for d in (tied, plain)]
    with torch.no_grad():
        a, b = (m(ids).logits for m in both)
    assert torch.equal(a, b), (a - b).abs().max()
    assert json.loads((tied / "config.json").read_text())["tie_word_embeddings"]


if __name__ == "__main__":
    main()
