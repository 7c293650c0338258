"""The keys of a study that are the same for every task, and what each means."""

GENERAL: dict[str, tuple[str, str]] = {  # key: what it is, its default
    "study": ("a name; results go to `results/<study>/`", "the file's name"),
    "task": ("what is trained: a task's name, or a class of your own as `package.module:Class`", "`activity`"),
    "description": ("one line for `make studies`", ""),
    "data": ("what is trained on, below", "all defaults"),
    "base": ("settings of base training, below; or a list of such sections, whose union is meant", "all defaults"),
    "finetune": (
        "settings of fine-tuning, below; or a list of such sections. Without this key only base models are trained and reported",
        "",
    ),
    "jobs": (
        "a flat job list instead of a grid: the path of a `.json`, several paths, or the jobs themselves; see below",
        "",
    ),
    "prefix": (
        "template of the readable part of an experiment's folder, such as `x_{mode}`; any setting that is a column of "
        "`summary.csv` can stand in it",
        "mode and shares",
    ),
    "run": ("how it is run, below; never part of a hash", "all defaults"),
    "store": (
        "folder of trained models, not the project itself; projects and people may share one. Whoever can write into it can "
        "replace a model *and* its checksum: share it for writing only with people you trust, for reading with the group "
        "([SECURITY.md](../SECURITY.md))",
        "`.rootstock/store`",
    ),
    "train_bases": (
        "`false`: stop at plan time where a base model is missing (`--config train_bases=false`)",
        "`true`",
    ),
    "retrain": (
        "`true`: what was trained by other model code than is here now is trained anew, and nothing else "
        "(`--config retrain=true`)",
        "`false`",
    ),
}
