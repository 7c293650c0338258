"""The modules of the built-in tasks as what `study.parts` promises of them. Read by the type checker, never run."""

from rootstock.study.parts import Baselines, Checker, Exporter, Preparer, Reporter, Trainer
from rootstock.tasks.activity import baselines as activity_baselines
from rootstock.tasks.activity import check as activity_check
from rootstock.tasks.activity import prepare as activity_prepare
from rootstock.tasks.activity import report as activity_report
from rootstock.tasks.activity import train as activity_train
from rootstock.tasks.distillation import baselines as distillation_baselines
from rootstock.tasks.distillation import check as distillation_check
from rootstock.tasks.distillation import export as distillation_export
from rootstock.tasks.distillation import prepare as distillation_prepare
from rootstock.tasks.distillation import report as distillation_report
from rootstock.tasks.distillation import train as distillation_train
from rootstock.tasks.language_model import check as language_model_check
from rootstock.tasks.language_model import export as language_model_export
from rootstock.tasks.language_model import prepare as language_model_prepare
from rootstock.tasks.language_model import report as language_model_report
from rootstock.tasks.language_model import train as language_model_train

TRAINERS: list[Trainer] = [activity_train, distillation_train, language_model_train]
PREPARERS: list[Preparer] = [activity_prepare, distillation_prepare, language_model_prepare]
REPORTERS: list[Reporter] = [activity_report, distillation_report, language_model_report]
EXPORTERS: list[Exporter] = [distillation_export, language_model_export]
BASELINES: list[Baselines] = [activity_baselines, distillation_baselines]
CHECKERS: list[Checker] = [activity_check, distillation_check, language_model_check]
