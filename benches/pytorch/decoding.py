"""Greedy decoding of the trained model in plain PyTorch, as tutorials write it: without a cache.

    cargo run --release --bin pronounce < words.txt > ours.tsv
    python benches/pytorch/decoding.py ours.tsv

The model is chapter 7's, of `nn.TransformerEncoderLayer`, with the weights of `models/pronouncer.safetensors`. At each
step it reads the letters and all that it has written, from the start. Words of one length share a batch, as with us, so
that nothing is padded. It pronounces the words of `ours.tsv` (a word, a tab, its phonemes, a line each), checks that
every pronunciation is the one there, and prints words a second, in batches and one at a time.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
from ch03_data import EOS, IDS, PHONEMES, SEP, SYMBOLS, letters
from ch04_attention import prefix_mask
from ch07_block import Transformer


def load(weights):
    """The model of chapter 7 with the weights of a file, 16 or 32 bits, and the sizes on its card."""
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["vocabulary"] == SYMBOLS, "the file is of another vocabulary"
    config = card["model"]
    assert (config["activation"], config["positions"]) == ("gelu", "learned"), config
    sizes = (config[name] for name in ("vocabulary", "max_positions", "width", "heads", "hidden", "blocks"))
    model = Transformer(*sizes, norm_first=config["norm"] == "pre", separator=config.get("separator"))
    names = {"embedding": "embedding.weight", "positions": "positions.weight"}
    tensors = load_file(weights).items()
    model.load_state_dict({names.get(name, f"stack.{name}"): tensor.float() for name, tensor in tensors})
    return model.eval(), config["max_positions"]


# ANCHOR: greedy
@torch.inference_mode()
def greedy(model, prompts, max_positions):
    """Continues prompts of one length, `[B, T]`, always with the likeliest token."""
    tokens, prefix = prompts, prompts.shape[1]
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    writable = torch.tensor([IDS[p] for p in PHONEMES] + [EOS])
    forbidden = torch.full([len(SYMBOLS)], -torch.inf)
    forbidden[writable] = 0.0
    while tokens.shape[1] < max_positions and not ended.all():
        positions = tokens.shape[1]
        mask = prefix_mask(torch.tensor([prefix]), positions)
        mask = mask.expand(len(tokens), 1, positions, positions)
        logits = model(tokens, mask)[:, -1] + forbidden  # [B, V]
        if positions == prefix:
            logits[:, EOS] = -torch.inf  # at least one phoneme
        following = logits.argmax(-1)  # [B]
        tokens = torch.cat([tokens, following.unsqueeze(1)], dim=1)
        ended |= following == EOS
    return tokens[:, prefix:]
# ANCHOR_END: greedy


def pronounce(model, words, max_positions, batch):
    """A pronunciation for each word, words of one length together in batches."""
    by_length = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    said = {}
    for same in by_length.values():
        for start in range(0, len(same), batch):
            group = same[start : start + batch]
            prompts = torch.tensor([letters(word) + [SEP] for word in group])
            for word, written in zip(group, greedy(model, prompts, max_positions).tolist(), strict=True):
                ids = written[: written.index(EOS)] if EOS in written else written
                said[word] = " ".join(SYMBOLS[id] for id in ids)
    return said


def words_a_second(model, words, max_positions, batch):
    start = time.perf_counter()
    said = pronounce(model, words, max_positions, batch)
    return said, len(words) / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path, help="what our `pronounce` printed: a word, a tab, its phonemes")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "pronouncer.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--single", type=int, default=200, help="how many words to pronounce one at a time")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    lines = arguments.ours.read_text(encoding="utf-8").splitlines()
    ours = dict(line.split("\t") for line in lines)
    words, few = list(ours), list(ours)[: arguments.single]
    model, max_positions = load(arguments.model)

    pronounce(model, few[:20], max_positions, batch=1)  # to warm up
    together, batched = words_a_second(model, words, max_positions, arguments.batch)
    alone, single = words_a_second(model, few, max_positions, batch=1)

    for said in (together, alone):
        other = [f"{word}: {said[word]} here, {ours[word]} there" for word in said if said[word] != ours[word]]
        assert not other, f"{len(other)} of {len(said)} pronunciations differ: " + "; ".join(other[:5])
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, no cache; all pronunciations as ours")
    print(f"batches of {arguments.batch}: {batched:,.1f} words a second ({len(words):,} words)")
    print(f"one at a time: {single:,.1f} words a second ({len(few):,} words)")


if __name__ == "__main__":
    main()
