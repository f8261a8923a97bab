"""The Python side of `cargo xtask compare`: does the work it is told to, as often as it is told, and says how long it took.

It reads a line of JSON from standard input and answers with one; `xtask/src/compare/worker.rs` describes the lines.
`src/bin/compare/` does the same work in Rust. The models are those of `tests/fixtures/`, which the book shows and the
crate is held to.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "fixtures"))
import torch.nn.functional as F
from ch03_data import EOS, IDS, PHONEMES, SEP, SYMBOLS, collate, letters
from ch04_attention import fused_attention, padding_mask, prefix_mask, scaled_dot_product_attention
from ch07_block import Transformer, closed, make_block
from ch08_training import cross_entropy, make_optimizer

KINDS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Cannot(Exception):
    """This work cannot be done here, and the message says why."""


class Ready:
    """Work that can be done as often as wanted: `run` does it once, and all sides must get what is in `checked`."""

    def __init__(self, run, checked, units=1, version=None):
        self.run, self.checked, self.units = run, checked, units
        self.version = version or torch.__version__.split("+")[0]


def summary(tensor):
    """A tensor in few numbers: its norm, and eight of its numbers, evenly spread."""
    flat = tensor.detach().double().flatten().cpu()
    last = len(flat) - 1
    return [flat.norm().item()] + [flat[place * last // 7].item() for place in range(8)]


def compiled(function):
    """The function as torch.compile makes it. What goes wrong there is the compiler's, and is said so when it is first called."""
    fast = torch.compile(function)
    is_tried = False

    def call(*arguments):
        nonlocal is_tried
        if is_tried:
            return fast(*arguments)
        try:
            result = fast(*arguments)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise Cannot(f"torch.compile: {reason[0]}") from error
        is_tried = True
        return result

    return call


def unknown_way(task):
    return ValueError(f"`{task['work']}` has no way `{task['way']}` here")


def inputs(task, kind=torch.float32):
    tensors = load_file(task["file"], device=task["device"])
    return {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def there_and_back(forward, leaves, upstream, backward):
    """A function of some tensors, with its result and, backward, their gradients to check."""
    for leaf in leaves.values():
        leaf.requires_grad_(backward)

    def run():
        if not backward:
            with torch.no_grad():
                return forward(), []
        result = forward()
        return result, torch.autograd.grad((result * upstream).sum(), list(leaves.values()))

    result, gradients = run()
    checked = {"result": summary(result)}
    checked |= {f"gradient of {name}": summary(gradient) for name, gradient in zip(leaves, gradients)}
    return Ready(run, checked)


def attention(task):
    """Scaled dot-product attention without a mask, explicit or fused."""
    tensors = inputs(task, KINDS[task["precision"]])
    leaves = {name: tensors[name] for name in ("query", "key", "value")}

    def explicit(query, key, value):
        return scaled_dot_product_attention(query, key, value)[0]

    ways = {
        "explicit": explicit,
        "explicit compiled": compiled(explicit),
        "fused": fused_attention,
    }
    if task["way"] not in ways:
        raise unknown_way(task)
    way = ways[task["way"]]
    return there_and_back(lambda: way(*leaves.values()), leaves, tensors["upstream"], task["settings"]["backward"])


def layer(task):
    """A multi-head layer or a whole block, with the mask of the model."""
    model, kind = task["settings"]["model"], KINDS[task["precision"]]
    tensors = inputs(task, kind)
    block = make_block(model["width"], model["heads"], model["hidden"], norm_first=True)
    block.load_state_dict({name: tensors[name] for name in block.state_dict()})
    block.to(kind)
    for module in block.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    block.self_attn.dropout = 0.0
    x, positions = tensors["x"], tensors["x"].shape[1]
    mask = prefix_mask(tensors["prefixes"], positions) & padding_mask(tensors["lengths"], positions)
    mask = closed(mask, model["heads"])

    if task["work"] == "multi_head":
        weight = block.self_attn.in_proj_weight

        def forward(x):
            return block.self_attn(x, x, x, attn_mask=mask, need_weights=False)[0]
    else:
        weight = block.linear1.weight

        def forward(x):
            return block(x, src_mask=mask)

    if task["way"] not in ("eager", "compiled"):
        raise unknown_way(task)
    way = compiled(forward) if task["way"] == "compiled" else forward
    return there_and_back(lambda: way(x), {"x": x, "weight": weight}, tensors["upstream"], task["settings"]["backward"])


class Trainee:
    """The model of chapter 7 and what trains it, as in chapter 8."""

    def __init__(self, task, is_compiled=False, inner_dropout=False):
        settings = task["settings"]
        sizes = settings["model"]
        self.training, self.device = settings["training"], task["device"]
        order = ("vocabulary", "max_positions", "width", "heads", "hidden", "blocks")
        self.model = Transformer(*(sizes[name] for name in order), norm_first=True)
        names = {"embedding": "embedding.weight", "positions": "positions.weight"}
        tensors = load_file(task["file"])
        known = set(self.model.state_dict())
        parameters = {names.get(name, f"stack.{name}"): tensor for name, tensor in tensors.items()}
        self.model.load_state_dict({name: parameters[name] for name in known})
        self.model.to(self.device)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings["dropout"]
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = settings["dropout"]
        for block in self.model.stack.layers:
            # PyTorch's block has one dropout more than ours, inside the feed-forward network.
            block.dropout.p = settings["dropout"] if inner_dropout else 0.0
        self.optimizer = make_optimizer(self.model.named_parameters(), self.training["weight_decay"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.training["learning_rate"]
            assert group["betas"] == (self.training["beta1"], self.training["beta2"]), group
            assert group["eps"] == self.training["epsilon"], group
        kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        self.kind = kinds.get(task["precision"])
        self.scaler = torch.amp.GradScaler(self.device) if self.kind == torch.float16 else None
        self.loss = compiled(self.loss_of) if is_compiled else self.loss_of

    def loss_of(self, tokens, targets, lengths, prefixes):
        positions = tokens.shape[1]
        mask = prefix_mask(prefixes, positions) & padding_mask(lengths, positions)  # [B, 1, T, T]
        with torch.autocast(self.device, self.kind) if self.kind else nullcontext():
            logits = self.model(tokens, mask)
            return cross_entropy(logits, targets, self.training["label_smoothing"])

    def look(self, batch):
        """The loss of a batch and the norm of its gradient, without a step."""
        self.model.eval()
        loss = self.loss(*batch)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.item(), clip_grad_norm_(self.model.parameters(), math.inf).item()

    def step(self, batch):
        """The loss before the step and the norm of the gradient."""
        loss = self.loss(*batch)
        self.optimizer.zero_grad()
        if self.scaler is None:
            loss.backward()
            norm = clip_grad_norm_(self.model.parameters(), self.training["clip"])
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            norm = clip_grad_norm_(self.model.parameters(), self.training["clip"])
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return loss.item(), norm.item()


def step(task):
    """A training step. Three of them without dropout are checked; in these every side must go the same way."""
    ways = {
        "eager": {},
        "compiled": {"is_compiled": True},
        "as it comes": {"inner_dropout": True},
    }
    if task["way"] not in ways:
        raise unknown_way(task)
    trainee = Trainee(task, **ways[task["way"]])
    tensors = load_file(task["file"], device=task["device"])
    batch = [tensors[name] for name in ("tokens", "targets", "lengths", "prefixes")]
    trainee.model.eval()  # no dropout, and gradients all the same
    losses, norms = zip(*(trainee.step(batch) for _ in range(3)))
    trainee.model.train()
    return Ready(lambda: trainee.step(batch), {"losses": losses, "norms of the gradient": norms})


def read_examples(path):
    """The examples of the dictionary as `collate` takes them, and which of them share a batch of ours."""
    tensors = {name: tensor.tolist() for name, tensor in load_file(path).items()}
    examples, plan, start = [], [], 0
    for size, prefix in zip(tensors["sizes"], tensors["prefixes"], strict=True):
        examples.append((tensors["tokens"][start : start + size], prefix))
        start += size
    start = 0
    for size in tensors["batch_sizes"]:
        plan.append(tensors["plan"][start : start + size])
        start += size
    return examples, plan


def epoch(task):
    """One epoch on the dictionary: as tutorials do it, or with our batches, laid ready by a process of their own."""
    examples, plan = read_examples(task["examples"])
    if task["way"] == "buckets":
        loader = DataLoader(examples, batch_sampler=plan, collate_fn=collate, num_workers=1, prefetch_factor=2)
    elif task["way"] == "tutorial":
        # As many steps as with our batches, and so as many words in one.
        loader = DataLoader(examples, batch_size=math.ceil(len(examples) / len(plan)), shuffle=True, collate_fn=collate)
    else:
        raise unknown_way(task)
    trainee, device = Trainee(task), task["device"]
    batches, positions, real = 0, 0, 0
    for tokens, _, lengths, _ in loader:
        batches += 1
        positions += tokens.numel()
        real += lengths.sum().item()
    first = collate([examples[place] for place in plan[0]])
    with torch.device(device):
        loss, norm = trainee.look([tensor.to(device) for tensor in first])
    trainee.model.train()

    def run():
        for batch in loader:
            batch = [tensor.to(device) for tensor in batch]
            with torch.device(device):
                trainee.step(batch)

    return Ready(
        run,
        {
            "batches": [batches],
            "positions": [positions],
            "positions that are no padding": [real],
            "first loss": [loss],
            "first norm of the gradient": [norm],
        },
    )


class Cached:
    """The trained model with a cache: a new token costs one position, not a new reading of all that stands before it."""

    def __init__(self, model):
        self.model, self.layers = model, model.stack.layers

    def read(self, tokens, cache, first):
        """Passes new tokens, `[B, T]`, through the stack, and predicts the one after the last, `[B, V]`."""
        if first == 0:
            places = self.model.places(tokens)
            self.next = int(places.max()) + 1  # where the next token will stand
        else:
            places = torch.arange(self.next, self.next + tokens.shape[1])
            self.next += tokens.shape[1]
        x = self.model.embedding(tokens) + self.model.positions(places)  # [B, T, E]
        for layer, kept in zip(self.layers, cache):
            attention = layer.self_attn
            projected = F.linear(layer.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
            heads = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = heads  # [B, H, T, D]
            if kept:
                key, value = torch.cat([kept[0], key], 2), torch.cat([kept[1], value], 2)
            kept[:] = key, value
            context = F.scaled_dot_product_attention(query, key, value)
            x = x + attention.out_proj(context.transpose(1, 2).flatten(2))
            x = x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))
        return F.linear(self.model.stack.norm(x[:, -1]), self.model.embedding.weight)

    @torch.inference_mode()
    def greedy(self, prompts, max_positions):
        """Continues prompts of one length, `[B, T]`, always with the likeliest token."""
        forbidden = torch.full([len(SYMBOLS)], -torch.inf)
        forbidden[torch.tensor([IDS[phoneme] for phoneme in PHONEMES] + [EOS])] = 0.0
        cache = [[] for _ in self.layers]
        tokens, prefix = prompts, prompts.shape[1]
        written, ended = [], torch.zeros(len(prompts), dtype=torch.bool)
        for position in range(prefix, max_positions):
            logits = self.read(tokens, cache, position - tokens.shape[1]) + forbidden
            if position == prefix:
                logits[:, EOS] = -torch.inf  # at least one phoneme
            tokens = logits.argmax(-1, keepdim=True)  # [B, 1]
            written.append(tokens)
            ended |= tokens[:, 0] == EOS
            if ended.all():
                break
        return torch.cat(written, 1)


def decoding(task):
    """Pronouncing words with the shipped model, many side by side or one at a time."""
    import decoding as plain

    settings = task["settings"]
    words, batch = settings["words"], settings["side_by_side"]
    model, max_positions = plain.load(ROOT / settings["weights"])
    model.to(task["device"])
    if task["way"] == "cache":
        cached = Cached(model)
        plain.greedy = lambda _, prompts, max_positions: cached.greedy(prompts, max_positions)
    elif task["way"] != "no cache":
        raise unknown_way(task)

    def run():
        said = plain.pronounce(model, words, max_positions, batch)
        return [said[word] for word in words]

    return Ready(run, {"pronunciations": run()}, units=len(words))


def g2p_en(task):
    """g2p-en, a word at a time as it works; what it says must be what it said when chapter 9 scored it."""
    path = Path(__file__).parent / "g2p_en.py"
    spec = importlib.util.spec_from_file_location("ask_g2p_en", path)
    ask = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ask)  # it also takes this folder from the path, where it has the name of the package
    try:
        predict = ask.load().predict
    except ImportError as error:
        raise Cannot(f"g2p-en is not installed: {error}") from error
    lines = ask.WRITTEN.read_text(encoding="utf-8").splitlines()
    expected = dict(line.split("\t") for line in lines)
    words = task["settings"]["words"]

    def run():
        return [" ".join(phoneme.rstrip("012") for phoneme in predict(word)) for word in words]

    for word, said in zip(words, run(), strict=True):
        if said != expected[word]:
            raise ValueError(f"g2p-en says {said} for {word}, and {ask.WRITTEN.name} has {expected[word]}")
    return Ready(run, {}, units=len(words), version=importlib.metadata.version("g2p-en"))


WORKS = {
    "attention": attention,
    "multi_head": layer,
    "block": layer,
    "step": step,
    "epoch": epoch,
    "decoding": decoding,
}


def prepare(task):
    """Does the work once and keeps what is needed to do it again."""
    torch.set_num_threads(task["threads"])
    torch.manual_seed(6)
    if task["device"] == "cuda" and not torch.cuda.is_available():
        raise Cannot("this PyTorch finds no CUDA card")
    if task["way"] == "g2p-en":
        return g2p_en(task)
    if task["work"] not in WORKS:
        raise ValueError(f"`{task['work']}` is not known here")
    if task["work"] != "epoch":  # a DataLoader works on the processor
        torch.set_default_device(task["device"])
    return WORKS[task["work"]](task)


def memory(entry):
    """An entry of what Linux tells of this process, in bytes; other systems are not asked."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split() for line in lines if line.startswith(entry)]
    return int(sizes[0][1]) * 1024 if sizes else None


def seconds(run, device):
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()  # the call returns before the work is done
    return time.perf_counter() - start


def serve():
    start = memory("VmRSS:")
    # What a library prints shall not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work, device = None, "cpu"
    for line in sys.stdin:
        try:
            [(request, content)] = json.loads(line).items()
            if request == "prepare":
                device = content["device"]
                work = prepare(content)
                answer = {"ready": {"version": work.version, "units": work.units, "checked": work.checked}}
            elif request == "run":
                if work is None:
                    raise ValueError("run: there is no work yet; `prepare` some")
                answer = {"seconds": [seconds(work.run, device) for _ in range(content["times"])]}
            elif request == "memory":
                answer = {"memory": {"start": start, "peak": memory("VmHWM:")}}
            else:
                raise ValueError(f"request: `{request}` is not known here")
        except Cannot as reason:
            answer = {"cannot": str(reason)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
