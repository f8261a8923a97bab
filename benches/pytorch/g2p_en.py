"""What g2p-en says of our test words, and how fast:

    pip install g2p-en==2.1.0
    python benches/pytorch/g2p_en.py

writes `models/comparison/g2p_en.tsv`: a word, a tab, its phonemes, one line for each word of the test split. Chapter 9
scores that file with the same functions as our own model.

g2p-en (Kyubyong Park & Jongseok Kim, https://github.com/Kyubyong/g2p) looks a word up in CMUdict first and asks its
network, a GRU that reads and a GRU that writes, 128 numbers wide, only for words that are not there. Here every word
goes to the network, for all our test words are in the dictionary. It writes stress digits; they are dropped, as in our
data.

What the network saw in training. The package does not say how its weights, `checkpoint20.npz`, were made. What its
authors published is this:

- The same network, with the same symbols in the same order and the same sizes, is trained in the first author's notebook
  "PyTorch seq2seq template based on the g2p task" (https://github.com/Kyubyong/nlp_made_easy): a random 80 % of CMUdict
  for training, 10 % and 10 % held out, shuffled without a seed.
- The repository's own script for an earlier network, `train.py` of May 2018, trains on all of CMUdict but 128 words.

So in all likelihood it learned from about four in five of our test words, if not from more, and which ones cannot be
known. Our model saw none of them.
"""

import importlib.metadata
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT / "tests" / "fixtures")  # in place of this folder, where this file has the name of the package
from ch03_data import LETTERS, PHONEMES, split

WRITTEN = ROOT / "models" / "comparison" / "g2p_en.tsv"


def dictionary():
    """The words of `Dictionary::embedded`, in its order: made of the letters a-z and the apostrophe."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    package = next(package for package in metadata["packages"] if package["name"] == "cmudict-fast")
    file = Path(package["manifest_path"]).with_name("resources") / "cmudict.dict"
    keys = (line.split(" ", 1)[0] for line in file.read_text(encoding="utf-8").splitlines() if line)
    words = dict.fromkeys(key.split("(", 1)[0] for key in keys)  # either(2) is either again
    return [word for word in words if word and set(word) <= set(LETTERS)]


def load():
    """g2p-en as it is, but without the dictionary and the tagger that it would download: its network uses neither.

    Modules of the names that it imports from nltk stand in for them.
    """
    nothing = types.SimpleNamespace(find=lambda name: None, tokenize=None, dict=dict)
    for name, content in {
        "nltk": {"pos_tag": None, "data": nothing},
        "nltk.corpus": {"cmudict": nothing},
        "nltk.tokenize": {"TweetTokenizer": lambda: nothing},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    from g2p_en import G2p

    return G2p()


def main():
    version = importlib.metadata.version("g2p-en")
    assert version == "2.1.0", f"the scores in the book are those of g2p-en 2.1.0, and this is {version}"
    words = [word for word in dictionary() if split(word) == "test"]
    assert len(words) == 6229, f"{len(words)} test words, and the crate counts 6229"
    predict = load().predict

    start = time.perf_counter()
    pronunciations = [predict(word) for word in words]
    seconds = time.perf_counter() - start

    unstressed = [[phoneme.rstrip("012") for phoneme in phonemes] for phonemes in pronunciations]
    assert set(sum(unstressed, [])) <= set(PHONEMES), "its <unk> would be no phoneme; it has not written any"
    lines = (f"{word}\t{' '.join(phonemes)}\n" for word, phonemes in zip(words, unstressed, strict=True))
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text("".join(lines), encoding="utf-8", newline="\n")
    print(f"g2p-en {version}, NumPy {np.__version__}: {len(words):,} words in {seconds:.1f} s, {len(words) / seconds:.0f} a second")


if __name__ == "__main__":
    main()
