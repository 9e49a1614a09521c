"""Configurations, fully spelled out, that tests of several modules train."""

QUICK_MLP = {
    "model": {"name": "mlp", "_target_": "hypermap.models.MLP", "hidden": [16]},
    "optimizer": {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.01},
    "scheduler": {"name": "constant", "_target_": "hypermap.training.lr_schedules.Constant"},
    "loss": {"name": "cross_entropy", "_target_": "hypermap.tasks.losses.CrossEntropy"},
    "regularizer": {"name": "none", "_target_": "hypermap.training.regularizers.Regularizer"},
    "augment": {"name": "none", "_target_": "hypermap.training.augment.Augment"},
    "trainer": {
        "name": "quick",
        "_target_": "hypermap.training.state.TrainerConfig",
        "epochs": 3,
        "batch_size": 64,
        "device": "cpu",
        "threads": 1,
    },
    "validation": {"name": "holdout", "_target_": "hypermap.data.cross_validation.Holdout"},
    "seed": 4,
}
