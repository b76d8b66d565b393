"""A network and data of one's own, compressed: `python docs/examples/own_model.py` takes about a minute."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import pqd_core as pqd

pixels, labels = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
labels = torch.tensor(labels)

model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
model += nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))

found = pqd.compress(
    model,
    (images[:1400], labels[:1400]),
    (images[1400:], labels[1400:]),
    stages=["magnitude", "int8-qat", "logit-kd"],
    baseline={"epochs": 5, "lr": 0.05},
    budget={"epochs": 6},
    runtimes=["onnxruntime"],
    goal={"metric": "latency", "max_accuracy_drop": 0.02},
)
print(found.report.table())
print(found.best.label if found.best else "no pipeline keeps the accuracy", found.files)
