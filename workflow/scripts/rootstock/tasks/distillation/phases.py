"""The keys of a two-phase file, and the translation of messages from our keys into them. Light: no torch."""

MODEL = ("teacher", "student", "teacher_dim", "student_dim", "projection_hidden_dim", "use_projection")
RENAMED = {"learning_rate": "lr", "num_epochs": "max_epochs"}
IN_THEIRS = {
    "finetune.in_batch_negatives: false leaves": (
        "phase2.num_negatives: 0 leaves a query nothing to be told from; give it at least 1"
    ),
    "data.teacher_max_length": "phase1.max_length",
    "artifacts_dir": "paths.artifacts_dir",
    "save_to_artifacts": "training.save_to_artifacts",
}
THEIR_NAMES = {ours: theirs for theirs, ours in RENAMED.items()}
SKIPPED = "train_bases: false, but base model "


def in_their_words(line: str) -> str:
    """Translate a fault from our keys into those of the user's file: `base.lr: …` becomes `phase1.learning_rate: …`."""
    for ours, theirs in IN_THEIRS.items():
        if line.startswith(ours):
            return theirs if " " in ours else theirs + line.removeprefix(ours)
    if line.startswith(SKIPPED):
        name = line.removeprefix(SKIPPED).partition(" ")[0]
        fix = "train it first, or set skip_phase1: false"
        return f"training.skip_phase1: true, but the model {name} of phase 1 is not there; {fix}"
    section, dot, rest = line.partition(".")
    name, colon, fault = rest.partition(":")
    if not dot or section not in ("base", "finetune", "data") or (section == "data" and name not in MODEL):
        return line
    phase = "phase2" if section == "finetune" else "phase1"
    return f"{'model' if name in MODEL else phase}.{THEIR_NAMES.get(name, name)}{colon}{fault}"
