"""A stage of one's own, registered by a decorator and run between the others."""

from pydantic import Field

import pqd_core as pqd


class ClipSettings(pqd.Settings):
    """How far a weight may lie out."""

    deviations: float = Field(3.0, gt=0, description="Largest weight, in standard deviations of its layer.")
    training: pqd.Training = Field(pqd.Training(lr=0.01), description="How to train meanwhile.")


@pqd.register_stage(name="clip-weights", kind="regularize", summary="Trains without outliers.", settings=ClipSettings)
class ClipWeights:
    """Holds every weight within a few standard deviations of its layer."""

    def restructure(self, model, settings, context):
        return model

    def run(self, model, settings, context):
        def clip(step, steps):
            for weight in (p.data for p in model.parameters() if p.dim() > 1):
                weight.clamp_(-settings.deviations * weight.std(), settings.deviations * weight.std())

        return pqd.fit(model, context, settings.training, on_step=[clip])

    def freeze(self, model):
        return model


if __name__ == "__main__":
    stages, baseline, budget = ["clip-weights", "int8-qat"], {"epochs": 2}, {"epochs": 2}
    spec = pqd.Spec(backbone="resnet20", dataset="digits", stages=stages, baseline=baseline, budget=budget)
    print(pqd.run(spec).table())
