"""A task as a user would write it, in a folder beside the Snakefile: learn the curves of all places but one, then that one's."""

from typing import Literal

from pydantic import Field

from rootstock.study import spec, task
from rootstock.study.fields import Count, Fraction, Name, Natural, Section, inherited, optional
from rootstock.study.identity import canonical, short_digest
from rootstock.study.request import Artefact, Unit
from rootstock.study.spec import Course
from rootstock.study.task import Budget

PLACES = ("north", "south", "west")


class Scope(Section):
    targets: tuple[Name, ...] = Field(PLACES, description="whose curves are learned last")


class Data(Section):
    points: Count = Field(32, description="of a place's curve")


class Training(spec.Optimisation):
    max_epochs: Count = Field(5, description="passes over the points")


class Base(Training):
    width: Count = Field(8, description="of the hidden layer")


class Personal(Section):
    mode: Literal["all_layers", "base_only"] = Field("all_layers", description="what is trained")
    share: Fraction = Field(1.0, description="of the place's points")
    seed_finetune: Natural | None = Field(None, description="null: the base's seed")


class Finetune(optional(Training, "null: as the base has it", ("seed",)), Personal):
    pass


class Points(Section):
    points: int
    places: tuple[str, ...]


class BaseSpec(Training, spec.BaseSpec):
    data: Points
    others: tuple[str, ...]
    width: int

    def course(self):
        return Course(epochs=self.max_epochs, keeps_end=True)


class FinetuneSpec(optional(Training, "null: not used by the mode"), spec.FinetuneSpec):
    data: Points
    place: str
    share: float | None = None

    def course(self):
        return Course(epochs=self.max_epochs)


class Curves(task.Task[Scope, Data, Base, Finetune, BaseSpec, FinetuneSpec]):
    unit_word = "place"

    scope_section, data_section, base_section, finetune_section = Scope, Data, Base, Finetune
    base_spec_type, finetune_spec_type, prepared_spec_type = BaseSpec, FinetuneSpec, Points
    own_finetune_fields = tuple(Personal.model_fields)
    flat = {"place": ("unit", "place"), "targets": ("scope", "targets")}
    unit_help = {"place": "whose curve is learned last"}

    def complete_data(self, data, key, problems):
        return data

    def units(self, scope, problems):
        return [Unit(place, {"place": place}) for place in scope.targets]

    def unit_of_job(self, scope, values, key, problems):
        if values.get("place") in PLACES:
            return Unit(values["place"], {"place": values["place"]})
        return problems.unknown(key, values.get("place"), PLACES)

    def base_spec(self, request, parent, fingerprints, problems):
        wish = request.base
        return BaseSpec(
            **{name: getattr(wish, name) for name in (*Training.model_fields, "width")},
            task=self.name,
            recipe=self.recipe,
            data=Points(points=request.data.points, places=PLACES),
            others=tuple(sorted(place for place in PLACES if place != request.unit.name)),
        )

    def finetune_spec(self, request, base, base_hash, fingerprints):
        own = {"task": self.name, "recipe": self.recipe, "data": base.data, "base": base_hash}
        own |= {"mode": request.wish.mode, "place": request.unit.name}
        if request.wish.mode == "base_only":
            return FinetuneSpec(**own)
        return FinetuneSpec(
            **inherited(Training, base, request.wish, seed="seed_finetune"), **own, share=request.wish.share
        )

    def budget(self, spec):
        return Budget(canonical(spec.model_copy(update={"max_epochs": 0})), spec.max_epochs, "max_epochs", True)

    def location(self, data):
        points = Points(points=data.points, places=PLACES)
        return Artefact(f"curves_{short_digest(points)}", points)

    def settings(self, request, base, finetune):
        own = {name: getattr(finetune, name) for name in ("mode", "place", "share", *Training.model_fields)}
        return own | {"base_width": base.width, "base_max_epochs": base.max_epochs}

    def folder_identity(self, request, base, finetune, fingerprints):
        return [base.model_copy(update={"others": ()}), finetune.model_copy(update={"place": "", "base": None})]

    def identity_at(self, folder, spec):
        return Points.model_validate_json((self.manifest(folder)).read_text())

    @staticmethod
    def manifest(folder):
        from pathlib import Path

        return Path(folder) / "points.json"
