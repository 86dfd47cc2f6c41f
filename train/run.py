#!/usr/bin/env python3
"""Trains the default model: data, the teacher's answers, training, evaluation, export and card.

    python3 train/run.py --out DIR                 everything, going on where an earlier run stopped
    python3 train/run.py --out DIR train           one stage: data, teacher, train, validate, test, export, layers
    python3 train/run.py --out DIR --smoke         all of it on a little of the data, in minutes, to see that it works

Needs what requirements.txt locks (pip install --no-deps -r train/requirements.txt). The same seed gives the same data and order everywhere.
Stop it whenever: training goes on from its last checkpoint. `test` reads the test parts, so run it once, at the end; tune by `validate`.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch  # noqa: E402
from joint import card, convert_teacher, corpora, evaluate, export, labels, layers, opinions, quantised, say, teacher, together, trainer  # noqa: E402

STAGES = ["data", "teacher", "train", "validate", "test", "export"]
SMOKE = {"teacher_texts": 1024, "minutes": 3.0, "limit": 1500, "passes": 1.0}
SMOKE_TESTED = 200


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="?", choices=[*STAGES, "layers"])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="packages, data, answers, checkpoint, model; about 4 GB in full")
    parser.add_argument("--threads", type=int, default=2, help="with other work on the machine, helpers are better")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop training after so long, with the rate decayed by then")
    parser.add_argument("--save-seconds", type=float, default=180.0)
    parser.add_argument("--teacher-texts", type=int, default=98_000, help="texts that the teacher answers")
    parser.add_argument("--passes", type=float, default=trainer.Plan.passes)
    parser.add_argument("--batch-tokens", type=int, default=trainer.Plan.batch_tokens)
    parser.add_argument("--rate", type=float, default=trainer.Plan.rate, help="of the encoder")
    parser.add_argument("--heads-rate", type=float, default=trainer.Plan.heads_rate)
    parser.add_argument("--pairs-weight", type=float, default=trainer.Plan.pairs_weight, help="of the order of similarities, beside the other losses")
    parser.add_argument("--decay-share", type=float, default=trainer.Plan.decay_share, help="of the run, at its end, in which the rates fall")
    parser.add_argument("--frozen-layers", type=int, default=0, help="lowest layers that do not learn: a faster step")
    parser.add_argument("--helpers", type=int, default=0, help="further processes, which train the same weights and share the tests")
    parser.add_argument("--start-from", type=Path, metavar="PATH", help="begin with the weights of a checkpoint, or of a model directory in 8 bits")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    options.limit = None
    if options.smoke:
        vars(options).update(SMOKE)
    return options


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for stage in [options.stage] if options.stage else STAGES:
        say(f"stage {stage}")
        globals()[f"stage_{stage}"](options)


def stage_data(options):
    convert_teacher(options.out / "packages")
    corpora.build(options.out)


def stage_teacher(options):
    teacher.run(options.out, options.teacher_texts)
    opinions.run(options.out)
    evaluate.teach(options.out, tested(options))


def stage_train(options):
    plan = trainer.Plan(**{field.name: getattr(options, field.name) for field in fields(trainer.Plan) if hasattr(options, field.name)})
    trainer.Trainer(options.out, plan, options.start_from).run(options.minutes, options.save_seconds, options.helpers)


def stage_layers(options):
    layers.run(options.out)


def stage_validate(options):
    student, _ = trainer.trained(options.out)
    report = evaluate.validation(student, options.out, tested(options), options.threads + options.helpers)
    evaluate.write(options.out / "validation.json", report)
    say(evaluate.summary(report))


def stage_test(options):
    student, run = trainer.trained(options.out)
    temperature = evaluate.temperature(student, options.out, tested(options))
    report = {"run": run, "layers": len(student.encoder.layers), "slots": labels.SLOTS, "temperature": temperature}
    rounded = {"test": student, "8 bits": quantised.rounded(student)}
    jobs = {
        (name, part): job
        for name, one in rounded.items()
        for part, job in evaluate.tests(one, options.out, temperature, tested(options), one is student).items()
    }
    for (name, part), found in zip(jobs, together.run(jobs.values(), options.threads + options.helpers)):
        report.setdefault(name, {})[part] = found
    for name in rounded:
        say(f"{name}: {evaluate.summary(report[name])}")
    evaluate.write(options.out / "test.json", report)


def stage_export(options):
    report = evaluate.read(options.out / "test.json")
    student, run = trainer.trained(options.out)
    if run != report["run"]:
        raise ValueError("test.json is of another checkpoint; run the stage `test` first")
    export.run(student, report["temperature"], options.out / "model")
    (options.out / "model" / "README.md").write_text(card.card(report), encoding="utf-8")


def tested(options):
    return SMOKE_TESTED if options.smoke else None


if __name__ == "__main__":
    main()
